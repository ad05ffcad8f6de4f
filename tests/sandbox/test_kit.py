"""The sandbox's kit: settings, files, whom it calls, what it imports, how a provider is added."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import wave
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import requests

import receiver.sandbox
from receiver.sandbox import SandboxSettings, _app, create_sandbox, serve
from receiver.sandbox._artefacts import Artefacts, Refused, draw_picture, play_tone
from receiver.sandbox._callbacks import Notice, is_loopback, post
from receiver.sandbox._discovery import provider_modules
from receiver.sandbox._faults import TOKENS
from receiver.sandbox._settings import EVERY_PROVIDER, Option, declared, kind_of

from .clients import TopView
from .conftest import Start

FOLDER = Path(receiver.sandbox.__file__).parent
ROOT = FOLDER.parent.parent
DOCS = (ROOT / "docs" / "sandbox.md").read_text()


def test_it_shares_no_code_with_the_handlers() -> None:
    """No file of the sandbox imports a handler or another room of the receiver."""
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, path
                names = [node.module or ""] if node.level == 0 else []
            for name in names:
                assert name.split(".")[0] not in {"handlers", "receiver"}, f"{path} imports {name}"


def test_running_it_loads_no_handler() -> None:
    """A process that made a sandbox has loaded nothing else of the project."""
    code = (
        "import sys; from receiver.sandbox import *; create_sandbox(SandboxSettings());"
        "print([m for m in sys.modules if m.split('.')[0] == 'handlers' or"
        " m.startswith('receiver.') and not m.startswith('receiver.sandbox')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_come_from_the_environment() -> None:
    """General settings, each provider's options by its name or short name, and nothing else's variables."""
    settings = SandboxSettings.from_environment(
        {
            "PATH": "/bin",
            "SANDBOX_TIME_SCALE": "0.5",
            "SANDBOX_SEED": "7",
            "SANDBOX_ALLOW_REMOTE_CALLBACKS": "true",
            "SANDBOX_VOD_CALLBACK_KEY": "Abc123",
            "SANDBOX_APSARAVIDEO_VOD_RATE": "30",
            "SANDBOX_TOPVIEW_UID": "me",
        }
    )
    assert (settings.time_scale, settings.seed, settings.allow_remote_callbacks) == (0.5, 7, True)
    assert settings.option("apsaravideo_vod", "callback_key") == "Abc123"
    assert settings.option("apsaravideo_vod", "rate") == "30"
    assert settings.option("topview", "uid") == "me"
    assert settings.option("topview", "api_key") == "sk-demo"
    with pytest.raises(KeyError):
        settings.option("topview", "nonsense")


def test_every_bad_variable_is_named() -> None:
    """Unknown names and values that cannot be read are reported together."""
    given = {
        "SANDBOX_ALLOW_REMOTE_CALLBACKS": "maybe",
        "SANDBOX_DURATION": "abc",
        "SANDBOX_FAILURE_RATE": "2",
        "SANDBOX_SEED": "x",
        "SANDBOX_SUPERAPP_SIZE_MIN": "5000",
        "SANDBOX_TIME_SCALE": "-1",
        "SANDBOX_TYPO": "1",
        "SANDBOX_VOD_PENDING": "zz",
    }
    with pytest.raises(ValueError, match="cannot work") as caught:
        SandboxSettings.from_environment(given)
    assert str(caught.value).splitlines()[1:] == [
        "  - SANDBOX_TYPO is not a setting of the sandbox",
        "  - SANDBOX_ALLOW_REMOTE_CALLBACKS must be true or false, not 'maybe'",
        "  - SANDBOX_DURATION must be a number from 0 to 31536000, not 'abc'",
        "  - SANDBOX_FAILURE_RATE must be a number from 0 to 1, not '2'",
        "  - SANDBOX_SEED must be a whole number, not 'x'",
        "  - SANDBOX_TIME_SCALE must be a number from 0 to 1000, not '-1'",
        "  - SANDBOX_VOD_PENDING must be one of listed, absent, not 'zz'",
        "  - SANDBOX_SUPERAPP_SIZE_MIN (5000) must not be above SANDBOX_SUPERAPP_SIZE_MAX (4096)",
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TIME_SCALE", "nan"),
        ("TIME_SCALE", ""),
        ("DURATION", "inf"),
        ("DURATION", "1e400"),
        ("CALLBACK_TIMEOUT", "nan"),
        ("CALLBACK_THREADS", "0"),
        ("CALLBACK_THREADS", "1.5"),
        ("MAX_TASKS", "9" * 5000),
        ("PUBLIC_URL", "foo"),
        ("PUBLIC_URL", "ftp://example.test"),
        ("PUBLIC_URL", "http://"),
        ("PUBLIC_URL", "http://["),
        ("PUBLIC_URL", "http://example.test:99999"),
        ("PUBLIC_URL", "http://example.test/a b"),
        ("TOPVIEW_RATE", "abc"),
        ("TOPVIEW_RATE", "-3"),
        ("TOPVIEW_RATE", "nan"),
        ("TOPVIEW_CREDIT", "abc"),
        ("TOPVIEW_CREDIT", "0.5"),
        ("VOD_WINDOW", "abc"),
        ("APSARAVIDEO_VOD_WINDOW", "-1"),
        ("VOD_RETRY_AFTER", "soon"),
        ("VOD_CALLBACK_URL", "foo"),
        ("SUPERAPP_WINDOW", "inf"),
        ("SUPERAPP_SIZE_MIN", "abc"),
        ("SUPERAPP_SIZE_MIN", "4097"),
        ("IMG_OPEN_MONTH_ZONE", "99"),
        ("IMG_OPEN_MONTH_ZONE", "abc"),
        ("IMG_OPEN_TRAINING_CALLBACK_URL", "foo"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_under_its_variable(variable: str, text: str) -> None:
    """Whatever the sandbox could not work with is refused before it starts, by the name that the user gave."""
    with pytest.raises(ValueError, match=rf"SANDBOX_{variable} (must|\()"):
        SandboxSettings.from_environment({f"SANDBOX_{variable}": text})


def test_secrets_are_not_shown_when_they_are_refused() -> None:
    """Neither a key nor an address with a password stands in the message."""
    for variable, text in (("VOD_CALLBACK_KEY", "geheim" * 6), ("PUBLIC_URL", "http://me:geheim@example.test:x")):
        with pytest.raises(ValueError, match=variable) as caught:
            SandboxSettings.from_environment({f"SANDBOX_{variable}": text})
        assert "geheim" not in str(caught.value)


def test_spaces_and_line_ends_around_a_value_do_not_count() -> None:
    """A value read from a file often ends in one."""
    settings = SandboxSettings.from_environment({"SANDBOX_VOD_RETRY_AFTER": "2500\n", "SANDBOX_TOPVIEW_UID": " me "})
    assert settings.options == {"apsaravideo_vod_retry_after": "2500", "topview_uid": "me"}


@pytest.mark.parametrize(
    "given",
    [
        {"time_scale": -1},
        {"time_scale": float("nan")},
        {"duration": -1},
        {"failure_rate": 2},
        {"callback_threads": 0},
        {"options": {"topview_nonsense": "1"}},
        {"options": {"superapp_query_sign": "rot13"}},
        {"options": {"superapp_window": "long"}},
    ],
)
def test_bad_settings_are_refused(given: dict[str, Any]) -> None:
    """Values outside their range or choice never reach a running sandbox."""
    with pytest.raises(ValueError, match="sandbox's settings"):
        SandboxSettings(**given)


def test_a_callback_key_has_at_most_32_characters() -> None:
    """The provider's own limit holds for the setting."""
    with pytest.raises(ValueError, match="32"):
        create_sandbox(SandboxSettings(options={"apsaravideo_vod_callback_key": "x" * 33}))


def check_row(variable: str, option: Option) -> None:
    """The page on the sandbox has the variable in its table, with the limits of a number."""
    row = re.search(rf"^\| .*`{variable}`.*$", DOCS, re.MULTILINE)
    assert row, variable
    allowed = kind_of(option).allowed
    _, found, limits = allowed.partition("from ")
    assert found + limits in row[0], variable
    assert "number" in allowed or not re.fullmatch(r"[0-9.]+", option.default), f"{variable} takes any text"


@pytest.mark.parametrize("provider", ["topview", "superapp", "apsaravideo_vod", "img_open"])
def test_every_option_is_documented(provider: str) -> None:
    """The page on the sandbox names each variable, and from where to where a number goes."""
    short = getattr(provider_modules()[provider], "SHORT_NAME", provider)
    for option in declared(provider):
        name = "<PROVIDER>" if option in EVERY_PROVIDER else short.upper()
        check_row(f"SANDBOX_{name}_{option.name.upper()}", option)


def test_every_general_setting_and_token_is_documented() -> None:
    """The page on the sandbox names each of them, and from where to where a number goes."""
    for setting in fields(SandboxSettings):
        if setting.name != "options":
            check_row(f"SANDBOX_{setting.name.upper()}", Option(setting.name, str(setting.default), ""))
    for token in TOKENS:
        assert re.search(rf"`\[sandbox:{token}[\]=]", DOCS), token


def test_a_fifth_provider_is_one_file(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module dropped into the folder is served under its name, with its options, rate and records."""
    (tmp_path / "toybox.py").write_text(
        textwrap.dedent(
            """
            from flask import jsonify
            from receiver.sandbox._calls import Face, provider_blueprint
            from receiver.sandbox._settings import Option
            from receiver.sandbox._world import Refusal

            OPTIONS = (Option("colour", "red", "its colour"),)

            def blueprint(world):
                face = Face("toybox", lambda error: jsonify(oops=error.code), Refusal("slow down"))
                routes = provider_blueprint(world, face)

                @routes.get("/colour")
                def colour():
                    return jsonify(colour=world.settings.option("toybox", "colour"))

                return routes
            """
        )
    )
    monkeypatch.setattr(receiver.sandbox, "__path__", [*receiver.sandbox.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "receiver.sandbox.toybox", raising=False)
    assert "toybox" in provider_modules()
    settings = SandboxSettings.from_environment({"SANDBOX_TOYBOX_COLOUR": "blue", "SANDBOX_TOYBOX_RATE": "0.01"})
    sandbox = start(options=settings.options)
    assert requests.get(f"{sandbox.url}/toybox/colour", timeout=10).json() == {"colour": "blue"}
    assert requests.get(f"{sandbox.url}/toybox/colour", timeout=10).json() == {"oops": "slow down"}
    assert [call["operation"] for call in sandbox.world.calls] == ["colour", "colour"]


@pytest.mark.parametrize("sent", [b"", b"POST /topview/", b"POST /topview/x HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"])
def test_a_caller_who_falls_silent_is_hung_up_on(start: Start, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Half a request does not hold a thread for ever."""
    monkeypatch.setattr(_app._QuietHandler, "timeout", _app._QuietHandler.timeout / 300)
    with socket.create_connection(("127.0.0.1", int(start().url.rpartition(":")[2])), 10) as caller:
        caller.sendall(sent)
        while caller.recv(4096):
            pass


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"])
def test_a_dripping_answer_does_not_hold_a_callback(head: bytes) -> None:
    """The time limit of a callback is one for the whole answer, head and body: threads for callbacks are few."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(head)
                try:
                    for _ in range(600):
                        time.sleep(0.05)
                        connection.sendall(b"x")
                except OSError:
                    hung_up.set()

        hung_up, other_side = threading.Event(), threading.Thread(target=drip)
        other_side.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(requests.RequestException):
            post(Notice("toybox", "1", url, b"{}", 0.3, (), lambda _: True), 0.3)
        other_side.join()
        assert hung_up.is_set()


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000/x", True),
        ("http://127.9.9.9/", True),
        ("http://localhost:8000/", True),
        ("http://[::1]:8000/", True),
        ("http://127.0.0.1:8000\\@good.example.test/", True),
        ("http://good.example.test:80\\@127.0.0.1/", False),
        ("http://good.example.test/", False),
        ("http://127.0.0.1.example.test/", False),
        ("http://127.0.0.1@good.example.test/", False),
        ("http://203.0.113.9/", False),
        ("http://0.0.0.0/", False),
        ("http://169.254.169.254/", False),
        ("http://2130706433/", False),
        ("http://", False),
        ("nonsense", False),
    ],
)
def test_only_this_machine_is_called(url: str, own: bool) -> None:
    """The address is read as the client reads it that connects, whatever tricks the link plays."""
    assert is_loopback(url) is own


@pytest.mark.parametrize(
    ("style", "parameter"), [("amz", "X-Amz-Signature"), ("oss", "Signature"), ("key", "auth_key")]
)
def test_links_cannot_be_forged_or_kept(style: str, parameter: str) -> None:
    """A link opens its own file until it expires, and no other; each part of its proof matters."""
    now = 1_800_000_000.0
    artefacts = Artefacts(b"secret", lambda: now)
    link = artefacts.link("http://x", "task", 0, "png", style, lifetime=100)
    name, query = _split(link)
    assert artefacts.open(name, query)[1] == "image/png"
    other = _split(artefacts.link("http://x", "other", 0, "png", style, lifetime=100))[0]
    for bad_name, bad_query in (
        (other, query),
        (name, {}),
        (name, {**query, parameter: "wrong"}),
        (name.replace("png", "wav"), query),
        (name.replace(style, "open"), query),
        ("../" + name, query),
        ("x", query),
    ):
        with pytest.raises(Refused):
            artefacts.open(bad_name, bad_query)
    now += 101
    with pytest.raises(Refused, match="expired"):
        artefacts.open(name, query)


def _split(link: str) -> tuple[str, Mapping[str, str]]:
    from urllib.parse import parse_qsl, urlsplit

    parts = urlsplit(link)
    return parts.path.rpartition("/")[2], dict(parse_qsl(parts.query))


def test_files_are_real() -> None:
    """The picture, the tone and the clip are what their types say, and differ from task to task."""
    picture = draw_picture("a")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    assert picture != draw_picture("b")
    with wave.open(io.BytesIO(play_tone("a"))) as tone:
        assert (tone.getnframes(), tone.getframerate()) == (8000, 8000)
    clip = (FOLDER / "static" / "clip.mp4").read_bytes()
    assert clip[4:8] == b"ftyp"
    assert len(clip) < 20_000


def test_serve_answers_until_it_is_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    """serve() tells its address once it can be called, and writes nothing to the terminal."""
    ready: list[str] = []
    told = threading.Event()

    def tell(url: str) -> None:
        ready.append(url)
        told.set()
        raise KeyboardInterrupt

    serve(SandboxSettings(), port=0, ready=tell)
    assert told.is_set()
    with pytest.raises(requests.ConnectionError):
        requests.get(ready[0], timeout=10)
    assert capfd.readouterr() == ("", "")


def test_a_taken_port_is_an_error_not_an_exit() -> None:
    """A port that is in use raises OSError, so that the caller can say so."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(SandboxSettings(), port=taken.getsockname()[1])


def test_results_point_at_the_public_address(start: Start) -> None:
    """With a public URL set, links of results begin with it."""
    client = TopView(start(time_scale=0, public_url="https://sandbox.example.test/").url)
    link = client.drawn(client.draw()["taskId"])["images"][0]["filePath"]
    assert link.startswith("https://sandbox.example.test/_sandbox/files/")


def test_a_misspelled_token_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A token that means nothing is named in the log."""
    with caplog.at_level(logging.WARNING):
        TopView(start().url).draw("[sandbox:fial]")
    assert "fial" in caplog.text


def test_flasks_test_client_works_too() -> None:
    """The app needs no socket; a cut connection is an error of the client then."""
    app = create_sandbox(SandboxSettings(time_scale=0))
    client = app.test_client()
    headers = {"Topview-Uid": "demo-uid", "Authorization": "Bearer sk-demo"}
    path = "/topview/v1/scraper/task/submit"
    answer = client.post(path, json={"productLink": "x"}, headers=headers)
    assert json.loads(answer.data)["code"] == "200"
    with pytest.raises(ConnectionAbortedError):
        client.post(path, json={"productLink": "[sandbox:drop]"}, headers=headers)
