"""``receiver purge``: the retention, now."""

from __future__ import annotations

import json
import time

import click

from receiver.cli.keys import present_schema
from receiver.cli.progress import progress
from receiver.cli.screen import console

_BREATH = 0.01
"""Seconds between two steps: the service's own writes come in between."""
_RECOUNT = 1.0
"""Seconds between two looks at how much is left; each reads as much of an index as there is."""


@click.command()
@click.option("--count", "only_count", is_flag=True, help="Only say how many tasks are old enough.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def purge(only_count: bool, as_json: bool) -> None:
    """Delete now what retention would delete, with progress.

    Workers do the same little by little; this is for a disk that fills up, or a shorter retention that is to
    take effect at once. Deletes tasks that ended more than RECEIVER_RETENTION_DAYS ago, with all that hangs on them,
    and what belongs to no task. Works on the database of the settings in small steps, while the service runs. Safe to
    break off and to repeat. To use another age this once: RECEIVER_RETENTION_DAYS=7 receiver purge
    """
    with present_schema() as runtime:
        days = f"{runtime.settings.retention_days:g}"
        old = runtime.sweeping.count_old_tasks()
        if only_count:
            _say(as_json, {"tasks": old}, f"{_tasks(old)} ended more than {days} days ago.")
            return
        rows, counted = 0, time.monotonic()
        with progress(f"Deleting what is older than {days} days", old) as done:
            while step := runtime.sweeping.step():
                rows += step
                if time.monotonic() - counted > _RECOUNT:
                    done(old - runtime.sweeping.count_old_tasks())
                    counted = time.monotonic()
                time.sleep(_BREATH)
        left = runtime.sweeping.count_old_tasks()
    gone = max(0, old - left)
    kept = f" {_tasks(left)} stay: a subscriber is still to be told of them." if left else ""
    said = f"Deleted {_tasks(gone)} and what hung on them." if rows else f"Nothing is older than {days} days."
    _say(as_json, {"tasks": gone, "rows": rows, "kept": left}, said + kept)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _say(as_json: bool, value: dict[str, int], text: str) -> None:
    if as_json:
        click.echo(json.dumps(value))
    else:
        console().print(text)
