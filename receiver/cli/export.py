"""``receiver export``: all that is kept of one task in one JSON document, without any secret."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import click

import handlers
from receiver import __version__
from receiver.accounts import DEFAULT
from receiver.blanking import HIDDEN, blanked, is_secret, secrets_in, shown
from receiver.cli.alike import told_apart
from receiver.cli.keys import present_schema
from receiver.cli.screen import console, show_json
from receiver.config import Settings, masked
from receiver.errors import NotFound
from receiver.events import rfc3339, task_json
from receiver.models import Subscriber, Task
from receiver.runtime import Runtime, secrets_of
from receiver.sealing import SealBroken
from receiver.signing import without_tokens
from receiver.store import accounts as stored_accounts
from receiver.store import deliveries as stored_deliveries
from receiver.store import events as stored_events
from receiver.store import notices as stored_notices
from receiver.store import subscribers as stored_subscribers
from receiver.store import tasks as stored_tasks
from receiver.store.server import server_of
from receiver.store.tasks import Filter
from receiver.tasks import History

_AT_ONCE = 20
"""Deliveries whose answers, of up to 16 KiB for each attempt, are read together."""
_OURS = re.compile(r"\b(?:rk_[\w-]{16,}|whsec_[A-Za-z0-9+/]{16,}=*)")
"""API keys and signing secrets, wherever somebody pasted one."""
_SPELLED = r"\\{1,16}u00"  # JSON, also within JSON, may spell what divides a link: & as \u0026, = as \u003d
_END = rf"(?!{_SPELLED}(?:23|26)|\\{{1,16}}\")"
_PARAMETER = re.compile(
    rf"((?:[?&]|&amp;|{_SPELLED}26)((?:{_END}(?!{_SPELLED}3d)[^?=&#\s\"]){{1,100}})(?:=|{_SPELLED}3d))"
    rf"((?:{_END}[^&#\s\"])+)",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(\w:(?:\\*/){2})[^/@\s\"]+@")


@click.command()
@click.argument("task_id", metavar="TASK")
@click.option("--output", "-o", type=click.Path(dir_okay=False, writable=True), help="A file instead of the screen.")
def export(task_id: str, output: str | None) -> None:
    """Write all that is kept of a task, for a support ticket.

    One JSON document: the task, its timeline, the provider's calls as received, events, deliveries with every
    attempt and answer, the subscribers, the versions and the settings. Secrets are masked: keys, credentials,
    signing secrets, callback tokens, secret headers, signatures in links. What the task is about (inputs, outputs)
    is in it as it is. TASK is our id or the provider's. Works on the database of the settings.
    """
    path = None if output is None else _file(output)
    with present_schema() as runtime:
        pieces = _document(runtime, _find(runtime, task_id))
        if path is None:
            show_json(pieces)
            return
        _write(path, (piece.encode("utf-8", "backslashreplace") for piece in pieces))  # half a character, too
    console(error=True).print(f"Written to {output}. Look through it before you send it: inputs and outputs are in it.")


def _file(output: str) -> Path:
    """The file that is meant, behind links. Raises click.UsageError when it cannot be one."""
    try:
        path = Path(output).resolve()
    except RuntimeError:  # of Python up to 3.12; later ones leave such links as they are
        path = Path(output)
    if path.is_symlink():
        raise click.UsageError(f"--output: {output} is a link that leads back to itself.")
    if not path.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {Path(output).parent}.")
    return path


def _document(runtime: Runtime, task: Task) -> Iterator[str]:
    """The document's text in pieces: bodies and answers are read a few at a time, however many there are."""
    history = runtime.tasks.history(task.account_id, task.id, bodies=False)
    receivers = _subscribers(runtime, history)
    secrets = _known_secrets(runtime, task, receivers)
    members: dict[str, Any] = {
        "made_at": rfc3339(runtime.clock()),
        "versions": _versions(runtime),
        "settings": shown_settings(runtime.settings),
        "task": {
            **json.loads(task_json(task)),
            "due_at": rfc3339(task.due_at),
            "submits": task.submits,
            "polls": task.polls,
            "outcome_unknown": task.outcome_unknown,
            "state": json.loads(task.state_json),
        },
        "timeline": [{"at": rfc3339(step.at), "kind": step.kind, **step.detail} for step in history.lines()],
        "notices": _notices(runtime, task),
        "events": _events(runtime, history),
        "deliveries": _deliveries(runtime, history),
        "subscribers": [_subscriber(runtime, each) for each in receivers],
    }
    between = "{"
    for name, value in members.items():
        yield f"{between}\n  {json.dumps(name)}: "
        between = ","
        if isinstance(value, Iterator):
            yield from _listed(without_secrets(item, secrets) for item in value)
        else:
            yield _text(without_secrets(value, secrets), 2)
    yield "\n}\n"


def _listed(items: Iterator[Any]) -> Iterator[str]:
    """The text of a list that is a member of the document, item for item."""
    begin = "["
    for item in items:
        yield f"{begin}\n    {_text(item, 4)}"
        begin = ","
    yield "[]" if begin == "[" else "\n  ]"


def _text(value: Any, depth: int) -> str:
    """A value's JSON text; its further lines begin so many characters further in."""
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + " " * depth)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """Write a file that is there only once it is whole, for its owner alone; what is no file, like a pipe, as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            stream.writelines(pieces)
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as part:
        try:
            part.writelines(pieces)
            part.flush()
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink()
            raise


def _notices(runtime: Runtime, task: Task) -> Iterator[dict[str, Any]]:
    with runtime.store.read() as connection:
        kept = stored_notices.of_task(connection, task.id)
    for notice in kept:
        yield {
            "id": notice.id,
            "received_at": rfc3339(notice.received_at),
            "verdict": notice.verdict,
            "copies": notice.copies,
            "headers": shown(notice.headers),
            "body": notice.body.decode("utf-8", "replace"),
        }


def _events(runtime: Runtime, history: History) -> Iterator[dict[str, Any]]:
    for known in history.events:
        with runtime.store.read() as connection:
            event = stored_events.get(connection, known.id)
        if event is not None:  # retention may have come by
            yield {"id": event.id, "type": event.type, "created_at": rfc3339(event.created_at), "body": event.body}


def _deliveries(runtime: Runtime, history: History) -> Iterator[dict[str, Any]]:
    """Each with its attempts, and with what came back."""
    for place in range(0, len(history.deliveries), _AT_ONCE):
        some = history.deliveries[place : place + _AT_ONCE]
        with runtime.store.read() as connection:
            attempts = stored_deliveries.attempts_of(connection, [delivery.id for delivery in some])
        tried: dict[str, list[Any]] = {}
        for each in attempts:
            told = {**_times(dataclasses.asdict(each)), "response_headers": shown(each.response_headers)}
            tried.setdefault(each.delivery_id, []).append(told)
        for delivery in some:
            yield {**_times(dataclasses.asdict(delivery)), "attempts": tried.get(delivery.id, [])}


def shown_settings(settings: Settings) -> dict[str, Any]:
    """Every setting of the service and of its configured providers; of secrets only whether they are set."""
    values: dict[str, Any] = dict(masked(settings))
    for name, given in settings.providers.items():
        for option in handlers.options_of(handlers.find(name)):
            if option.name in given:
                values[handlers.variable_of(name, option)] = "(set)" if option.secret else given[option.name]
    return values


def without_secrets(value: Any, secrets: Sequence[str]) -> Any:
    """A JSON value with ``***`` in place of these secrets, and of all that looks like one, in every text of it."""
    if isinstance(value, Mapping):
        return {name: without_secrets(inner, secrets) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner, secrets) for inner in value]
    if not isinstance(value, str):
        return value
    text = without_tokens(_OURS.sub(HIDDEN, blanked(value, secrets)))
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    return _PARAMETER.sub(lambda found: found[1] + HIDDEN if is_secret(found[2]) else found[0], text)


def _find(runtime: Runtime, task_id: str) -> Task:
    """The task of this id, of ours or of a provider. Raises NotFound with the ids that look alike."""
    with runtime.store.read() as connection:
        found = stored_tasks.get(connection, task_id)
        for name in handlers.available():
            found = found or stored_tasks.find_by_provider_id(connection, name, task_id)
    if found is None:
        lines = told_apart(f"/v1/tasks/{task_id}", lambda _: _newest(runtime))
        raise NotFound("\n".join([f"There is no task {task_id} in the database of the settings.", *lines]))
    return found


def _newest(runtime: Runtime) -> list[dict[str, Any]]:
    with runtime.store.read() as connection:
        account = stored_accounts.find(connection, DEFAULT)
        found = () if account is None else stored_tasks.list_page(connection, account.id, Filter(), 100, None).items
    return [{"id": task.id} for task in found]


def _subscribers(runtime: Runtime, history: History) -> list[Subscriber]:
    wanted = {delivery.subscriber_id for delivery in history.deliveries}
    with runtime.store.read() as connection:
        return list(stored_subscribers.some(connection, wanted).values()) if wanted else []


def _subscriber(runtime: Runtime, subscriber: Subscriber) -> dict[str, Any]:
    values = _times(dataclasses.asdict(subscriber))
    del values["headers_sealed"], values["secrets_sealed"]
    return {**values, "headers": shown(runtime.subscribers.headers(subscriber))}


def _known_secrets(runtime: Runtime, task: Task, receivers: Sequence[Subscriber]) -> list[str]:
    """Every secret that can be read: of settings, account and subscribers; with and without their prefix."""
    found: list[str] = []
    with suppress(SealBroken):
        found += [secret.key for secret in runtime.accounts.signing_secrets(task.account_id)]
    for subscriber in receivers:
        if not subscriber.task_only:
            with suppress(SealBroken):
                found += [secret.key for secret in runtime.subscribers.secrets(task.account_id, subscriber.id)]
        found += secrets_in(runtime.subscribers.headers(subscriber))
        found += [text for _, name, text in _PARAMETER.findall(subscriber.url) if is_secret(name)]
    found += [text.removeprefix("whsec_") for text in found]
    return [text for text in (*found, *secrets_of(runtime.settings)) if text]


def _versions(runtime: Runtime) -> dict[str, Any]:
    with runtime.store.read() as connection:
        server = server_of(connection)
    database = "SQLite" if server is None else f"PostgreSQL {server.version}"
    return {
        "receiver": __version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "database": database,
    }


def _times(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every time (``…_at``, ``…_since``: ms since the epoch) as people read it."""
    return {
        name: rfc3339(value) if name.endswith(("_at", "_since")) and isinstance(value, int) else value
        for name, value in values.items()
    }
