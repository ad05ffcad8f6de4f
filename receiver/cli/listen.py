"""``receiver listen``: events live, for people and for machines that no webhook can reach."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import requests
import urllib3.exceptions  # of requests' own transport
from rich.text import Text

from receiver import __version__
from receiver.cli import completing
from receiver.cli.api import Api, ApiProblem, part, with_api
from receiver.cli.fields import is_web_address, secret_text
from receiver.cli.screen import COLOURS, clean, console, in_line, show_json, when
from receiver.cli.stream import EventReader, ServerEvent
from receiver.events import pattern_matches, valid_pattern
from receiver.models import EventType
from receiver.signing import check_secret, signature_header

_SILENCE = 45.0
"""Seconds without a byte after which a connection is taken for dead; the service sends one every 15."""
_LONGEST_PAUSE = 15.0
_PIECE = 65_536
_FORWARD_TIMEOUT = 30.0


@click.command()
@click.option(
    "--forward",
    "--forward-to",
    "forward",
    metavar="WEBHOOK",
    help="POST each event there, signed, e.g. http://localhost:3000/hook.",
)
@click.option(
    "--events",
    "--event-types",
    "events",
    multiple=True,
    default=("*",),
    metavar="TYPE",
    help="An event type or a group like task.*; may be repeated. All when left out.",
)
@click.option("--after", metavar="EVENT_ID", help="Begin behind this event instead of now.")
@click.option(
    "--secret",
    metavar="WHSEC|@FILE|-",
    help="Sign with this secret (better from a file or standard input, where no list of processes shows it); when left "
    "out, with the subscriber's or the account's (needs a key that may manage).",
)
@click.option(
    "--subscriber",
    metavar="ID",
    shell_complete=completing.subscribers,
    help="Stand in for this subscriber: its event types, its providers, its secret.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON event a line.")
@with_api
def listen(
    api: Api,
    forward: str | None,
    events: tuple[str, ...],
    after: str | None,
    secret: str | None,
    subscriber: str | None,
    as_json: bool,
) -> None:
    """Print events as they happen; forward them to a local port.

    Reconnects by itself and misses nothing in between. What is forwarded has the body and the signed headers of a
    webhook. It is signed with the secret that is named at the start, so the program that gets it verifies it like
    any webhook. Ctrl-C ends it, and says how to go on later from the same place.
    """
    for pattern in events:
        if not valid_pattern(pattern):
            raise click.UsageError(f"{pattern!r} matches no event; types look like task.succeeded or task.*")
    stands_for = None if subscriber is None else api.get(f"/v1/subscribers/{part(subscriber)}").json()
    forwarder = None if forward is None else _forwarder(api, forward, secret, subscriber)
    notes = console(error=True)

    def connected() -> None:
        notes.print(f"Listening at {api.url}. Ctrl-C ends it.", style="bright_black")
        if forwarder is not None:
            whose = "the account's" if subscriber is None else "the subscriber's"
            signer = f"{whose} secret" if secret is None else "the secret given"  # never itself: terminals are logged
            notes.print(f"Forwarding to {clean(forward)}, signed with {signer}.", style="bright_black")

    last = after or newest_event(api)
    with contextlib.suppress(KeyboardInterrupt):
        for event in follow(api, last, _lost, connected):
            if _wanted(event, events, stands_for):
                _show(event, as_json)
                if forwarder is not None:
                    _show_forwarded(forwarder.send(event), as_json)
            last = event.id  # only now: one broken off while it is forwarded comes again
    if last:
        notes.print(f"To go on from here: receiver listen --after {clean(last)}", style="bright_black")


def _wanted(event: ServerEvent, patterns: Sequence[str], subscriber: Mapping[str, Any] | None) -> bool:
    """Whether an event matches the patterns, and would go to the subscriber that is stood in for."""
    if not any(pattern_matches(pattern, event.type) for pattern in patterns):
        return False
    if subscriber is None:
        return True
    data = json.loads(event.data)["data"]
    if event.type == EventType.SUBSCRIBER_PING and data["subscriber"] != subscriber["id"]:
        return False  # a ping goes to the one that is pinged alone
    provider, chosen = data.get("provider"), subscriber["providers"]
    return any(pattern_matches(pattern, event.type) for pattern in subscriber["event_types"]) and (
        chosen is None or provider is None or provider in chosen
    )


def newest_event(api: Api) -> str:
    """The id of the newest event there is, to listen from; empty when there is none yet.

    Known before the first connection, so that nothing is missed if that one breaks at once.
    """
    page = api.get("/v1/events", {"limit": 1}).json()["data"]
    return str(page[0]["id"]) if page else ""


def follow(
    api: Api,
    after: str,
    lost: Callable[[str], None],
    connected: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[ServerEvent]:
    """Events for ever, over as many connections as it takes. Raises ApiProblem when the service refuses.

    ``after``: the id of the event to begin behind, empty for the very first. ``lost`` is told why a connection could
    not be made. ``connected`` is called once, when the first one is there.
    """
    last_id, pause = after, 0.0
    told = False
    while True:
        reader = EventReader(last_id)
        try:
            headers = {"Accept": "text/event-stream"}
            params = {"after": last_id}
            with api.call(
                "GET", "/v1/events", params=params, headers=headers, stream=True, patience=(5.0, _SILENCE)
            ) as answer:
                if not told:
                    told = True
                    connected()
                while piece := answer.raw.read1(_PIECE):  # what is there: iter_content would wait for more
                    pause = 0.0
                    yield from reader.feed(piece)
                    last_id = reader.last_id
        except ApiProblem as problem:
            if problem.status is not None and problem.status not in (429, 500, 502, 503, 504):
                raise
            lost(problem.message)
            pause = min(max(pause * 2, 1.0), _LONGEST_PAUSE)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            pause = max(pause, 0.5)  # the connection was cut: nothing unusual
        sleep(pause or (reader.retry_ms or 0) / 1000)


@dataclass(frozen=True)
class Forwarded:
    """What the local program answered: its status, or why there is none. ``ms``: how long it took."""

    status: int | None
    problem: str
    ms: int


class Forwarder:
    """Sends events to one address, signed as webhooks are."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        """``secrets``: each makes a signature."""
        self._url = url
        self._secrets = secrets
        self._session = requests.Session()
        self._session.trust_env = False  # a local port is reached without the environment's proxies

    def send(self, event: ServerEvent) -> Forwarded:
        """One POST of the event's own bytes; never raises for what happens on the way."""
        stamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"receiver/{__version__}",
            "webhook-id": event.id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signature_header(self._secrets, event.id, stamp, event.data),
        }
        began = time.monotonic()
        status, problem = None, ""
        try:
            with self._session.post(
                self._url,
                data=event.data,
                headers=headers,
                timeout=_FORWARD_TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as answer:
                status = answer.status_code
        except requests.Timeout:
            problem = "no answer in time"
        except requests.ConnectionError:
            problem = "nothing listens there, or it hung up"
        except requests.RequestException as error:
            problem = str(error)
        return Forwarded(status, problem, round((time.monotonic() - began) * 1000))


def _forwarder(api: Api, url: str, secret: str | None, subscriber_id: str | None) -> Forwarder:
    if not is_web_address(url):
        raise click.UsageError(f"--forward: {url!r} must be an address like http://localhost:3000/hook.")
    if secret is not None:
        secret = secret_text(secret, "--secret")
        try:
            check_secret(secret)
        except ValueError as error:
            raise click.UsageError(f"--secret: {error}") from None
        return Forwarder(url, [secret])
    try:
        path = "/v1/signing-secret" if subscriber_id is None else f"/v1/subscribers/{part(subscriber_id)}/secret"
        found = api.get(path).json()
    except ApiProblem as problem:
        if problem.status != requests.codes.forbidden:
            raise
        raise ApiProblem(
            "This API key may not read the signing secret.\n"
            "Use a key with the scope manage, or name the secret to sign with: --secret @FILE",
            problem.status,
        ) from None
    return Forwarder(url, [each["secret"] for each in found.get("secrets", [found])])


def _show(event: ServerEvent, as_json: bool) -> None:
    if as_json:
        members = event.data.decode(errors="replace").lstrip().removeprefix("{")
        show_json(f'{{"id":{json.dumps(event.id)},{members}')
        return
    try:
        body: Mapping[str, Any] = json.loads(event.data)
    except ValueError:
        body = {}
    data = body.get("data") or {}
    at = when(body["timestamp"]) if "timestamp" in body else "–"
    state = event.type.rpartition(".")[2]
    line = Text().append(f"{at}  ", "bright_black").append(f"{in_line(event.type):<19}", COLOURS.get(state, ""))
    for name in ("provider", "operation", "id", "subscriber"):
        if data.get(name):
            line.append(f"  {in_line(data[name])}", "")
    if data.get("progress") is not None and state == "progress":
        line.append(f"  {data['progress']:.0%}", "")
    if data.get("error"):
        line.append(f"  {in_line(data['error']['code'])}: {in_line(data['error']['message'])}", "red")
    console().print(line)


def _show_forwarded(forwarded: Forwarded, as_json: bool) -> None:
    """What the local program said; on standard error when standard output carries JSON."""
    line = Text().append("          → ", "bright_black")
    if forwarded.status is None:
        line.append(forwarded.problem, "red")
    else:
        line.append(str(forwarded.status), "green" if 200 <= forwarded.status < 300 else "red")
    console(error=as_json).print(line.append(f"  {forwarded.ms} ms", "bright_black"))


def _lost(why: str) -> None:
    console(error=True).print(f"{why.splitlines()[0]} Trying again.", style="yellow")
