"""The running service's HTTP API, for the commands that use it."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click
import requests
from requests.auth import AuthBase

from receiver import __version__
from receiver.cli.alike import told_apart
from receiver.cli.exits import Exit, Problem, of_answer
from receiver.cli.fields import is_web_address

PATIENCE = (5.0, 75.0)
"""Seconds to connect, and to wait for an answer: longer than the longest wait that the API grants."""

Command = TypeVar("Command", bound=Callable[..., Any])


class ApiProblem(Problem):
    """The service refused, or could not be reached. ``status``: of its answer, None without one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, of_answer(status))
        self.status = status


class _Bearer(AuthBase):
    """Sends the API key; as an auth object, so that a .netrc cannot replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["Authorization"] = f"Bearer {self._key}"
        return prepared


class Api:
    """Calls of one service with one API key. Every method raises ApiProblem with what to do about it."""

    def __init__(self, url: str, key: str) -> None:
        """``url``: of the service, or of its API. ``key``: the API key's text. Raises Problem for one that is none."""
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise Problem("This API key cannot be right: keys have only ASCII letters, digits, - and _.", Exit.DENIED)
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"receiver-cli/{__version__}"

    def close(self) -> None:
        """Give connections back: an open one keeps a service that stops waiting for a moment."""
        self._session.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> requests.Response:
        """Read something. Parameters that are None are left out."""
        return self.call("GET", path, params=params)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        patience: tuple[float, float] = PATIENCE,
    ) -> requests.Response:
        """One call; answers only if the service said 2xx. ``body``: sent as JSON unless None."""
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            answer = self._session.request(
                method,
                self.url + path,
                params={name: value for name, value in (params or {}).items() if value is not None},
                data=None if body is None else json.dumps(body).encode(),
                headers=sent,
                auth=_Bearer(self._key),
                timeout=patience,
                stream=stream,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise ApiProblem(_unreachable(self.url, error)) from None
        if not 200 <= answer.status_code < 300:
            raise ApiProblem("\n".join([*_refusal(answer), *self._resembling(path, answer)]), answer.status_code)
        if not stream and answer.content and "json" not in answer.headers.get("Content-Type", ""):
            raise ApiProblem(f"What answers at {self.url} is not this service. {_ADDRESS}")
        return answer

    def _resembling(self, path: str, answer: requests.Response) -> list[str]:
        """What else may have been meant, when the thing of this path is not there."""
        kind = answer.headers.get("Content-Type", "")
        if answer.status_code != requests.codes.not_found or "problem+json" not in kind:
            return []

        def newest(collection: str) -> list[dict[str, Any]]:
            try:
                return list(self.get(f"/v1/{collection}", {"limit": 100}).json()["data"])
            except (ApiProblem, ValueError, KeyError, TypeError):
                return []

        return told_apart(path, newest)


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


_ADDRESS = "Name the service's address with --url or RECEIVER_URL."


def _unreachable(url: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"The service at {url} did not answer in time."
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return f"{url!r} is not the address of a service, like http://127.0.0.1:8000 (--url or RECEIVER_URL)."
    if isinstance(error, requests.exceptions.SSLError):
        return f"No safe connection to {url}: {error}\nIs it https:// at all, and is its certificate valid?"
    return (
        f"There is no service at {url}.\n"
        "Start it with `receiver run`, or name its address with --url or RECEIVER_URL."
    )  # fmt: skip


def _refusal(answer: requests.Response) -> list[str]:
    """What the service said no with, and the mend where it is known; one line each."""
    lines: list[str] = []
    try:
        problem = answer.json()
        lines.append(str(problem.get("detail") or problem["title"]))
        for field, messages in (problem.get("errors") or {}).items():
            shown = messages if isinstance(messages, str) else " ".join(map(str, messages))
            lines.append(f"  - {field}: {shown}")
    except (ValueError, KeyError, AttributeError, TypeError):
        lines = [f"The service answered {answer.status_code} {answer.reason or ''}".rstrip() + "."]
        if answer.is_redirect:
            lines.append(f"It points to {answer.headers['Location']}. {_ADDRESS}")
        elif answer.status_code == requests.codes.not_found:
            lines.append(f"Perhaps another program answers there. {_ADDRESS}")
    if answer.status_code == requests.codes.unauthorized:
        lines.append("Name an API key with --key or RECEIVER_API_KEY; `receiver keys create` makes one.")
    elif answer.status_code == requests.codes.forbidden:
        lines.append("`receiver keys create --scope …` makes a key that may do more.")
    return lines


def default_url() -> str:
    """The address of the service on this machine: that of RECEIVER_BIND."""
    host, _, port = os.environ.get("RECEIVER_BIND", "").strip().rpartition(":")
    return local_url(host.strip("[]"), int(port)) if port.isdecimal() else "http://127.0.0.1:8000"


def local_url(host: str, port: int) -> str:
    """How a service that is bound to this host and port is called from this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def with_api(command: Command) -> Command:
    """Give a command the options ``--url`` and ``--key``, and as its first argument the Api they name."""

    @click.option(
        "--url",
        envvar="RECEIVER_URL",
        default=default_url,
        metavar="URL",
        help="Address of the service; else RECEIVER_URL, else http://127.0.0.1:8000.",
    )
    @click.option(
        "--key", metavar="KEY", help="API key; better in RECEIVER_API_KEY, where no list of processes shows it."
    )
    @functools.wraps(command)
    def connected(*args: Any, url: str, key: str | None, **options: Any) -> Any:
        url = url.strip()  # as the service reads its settings
        if not is_web_address(url):
            raise click.UsageError(
                f"--url: {url!r} is not the address of a service, like http://127.0.0.1:8000 (or RECEIVER_URL)."
            )
        api = Api(url, key or key_of_environment())
        try:
            return command(api, *args, **options)
        except (LookupError, TypeError, AttributeError, requests.JSONDecodeError) as error:
            said = f"What answers at {url} is not this service, or another version of it. {_ADDRESS}"
            raise ApiProblem(f"{said}\n({type(error).__name__}: {error})") from error

    return connected  # type: ignore[return-value]  # the same parameters as far as click is concerned


def key_of_environment() -> str:
    """The API key of the environment, from a file where RECEIVER_API_KEY_FILE names one. Raises Problem without one."""
    path = os.environ.get("RECEIVER_API_KEY_FILE")
    try:
        key = Path(path).read_text().strip() if path else os.environ.get("RECEIVER_API_KEY", "").strip()
    except OSError as error:
        raise Problem(f"RECEIVER_API_KEY_FILE cannot be read: {error}", Exit.DENIED) from None
    except ValueError:  # no UTF-8, or a path that can be none
        raise Problem(f"RECEIVER_API_KEY_FILE must be the path of a text file; it is {path!r}.", Exit.DENIED) from None
    if path and not key:
        raise Problem(
            f"RECEIVER_API_KEY_FILE names a file with nothing in it: {path}\n"
            "Write the API key there, or unset RECEIVER_API_KEY_FILE.",
            Exit.DENIED,
        )
    if not key:
        raise Problem(
            "An API key is needed: --key or RECEIVER_API_KEY.\n"
            "The first `receiver run` shows one; `receiver keys create` makes more.",
            Exit.DENIED,
        )
    return key
