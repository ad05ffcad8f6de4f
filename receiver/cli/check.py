"""``receiver check``: what is wrong, and what to do about it."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.text import Text

from receiver.cli.checks import check_all
from receiver.cli.exits import Exit
from receiver.cli.findings import Finding, Level, failed
from receiver.cli.screen import clean, console, word


@click.command()
@click.option(
    "--online", is_flag=True, help="Also call the public URL and each provider, with its credentials (buys nothing)."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(online: bool, as_json: bool) -> None:
    """Say what is wrong with the settings, and how to mend it.

    Looks at the public URL, the secrets, each provider's credentials, the database, the disk, the clock, and
    whether a worker lives. Changes nothing. The exit code is 1 when there is a problem; warnings do not count.
    """
    findings = check_all(online=online)
    if as_json:
        click.echo(
            json.dumps({"ok": not failed(findings), "findings": [dataclasses.asdict(each) for each in findings]})
        )
    else:
        for finding, following in zip(findings, [*findings[1:], None], strict=True):
            _show(finding, mended_later=following is not None and following.mend == finding.mend)
        _conclude(findings)
    if failed(findings):
        raise SystemExit(Exit.FAILED)


def _show(finding: Finding, *, mended_later: bool) -> None:
    """``mended_later``: the next one is mended in the same way, so that it need not be said twice."""
    line = word(finding.level)
    line.pad_right(9 - len(line))
    line.append(f"{clean(finding.about)}: ", "bold").append(clean(finding.text), "")
    console().print(line)
    if finding.mend and not mended_later:
        console().print(Text(f"         → {finding.mend}"))


def _conclude(findings: list[Finding]) -> None:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    if problems or warnings:
        console().print(
            f"\n{problems} problem{'' if problems == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}."
        )
    else:
        console().print("\nNothing is wrong.")
