"""The verification snippets of the documentation, run in the languages that are on this machine."""

from __future__ import annotations

import base64
import hmac
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from receiver.signing import new_secret, sign

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs/snippets"
DRIVERS = Path(__file__).parent / "drivers"

SECRET, STRANGER = new_secret(), new_secret()
EVENT = "evt_01kahx447t3v8b5m2n6p9q0rsd"
BODY = '{"type":"task.succeeded","data":{"word":"é 语 \\u00e9"}}'.encode()


def _python(name: str, _: Path) -> list[str]:
    return [sys.executable, str(DRIVERS / "driver.py"), str(SNIPPETS / name)]


def _java(name: str, folder: Path) -> list[str]:
    subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "-d", str(folder), str(SNIPPETS / name), str(DRIVERS / "Driver.java")],
        check=True,
    )
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", str(folder), "Driver"]


def _go(name: str, folder: Path) -> list[str]:
    for source in (SNIPPETS / name, DRIVERS / "driver.go"):  # which Go builds from one folder only
        shutil.copy(source, folder)
    subprocess.run(
        ["go", "build", "-o", "driver", name, "driver.go"],
        cwd=folder,
        env={**os.environ, "GOCACHE": str(folder / "cache"), "GO111MODULE": "off"},
        check=True,
    )
    return [str(folder / "driver")]


COMMANDS: Mapping[str, tuple[str, Callable[[str, Path], Sequence[str]]]] = {
    "standard_library.py": (sys.executable, _python),
    "library.py": (sys.executable, _python),
    "verify.mjs": ("node", lambda name, _: ["node", str(DRIVERS / "driver.mjs"), str(SNIPPETS / name)]),
    "Webhooks.java": ("javac", _java),
    "verify.go": ("go", _go),
    "verify.php": ("php", lambda name, _: ["php", str(DRIVERS / "driver.php"), str(SNIPPETS / name)]),
    "verify.rb": ("ruby", lambda name, _: ["ruby", "-w", str(DRIVERS / "driver.rb"), str(SNIPPETS / name)]),
    "verify.sh": (
        "openssl",
        lambda name, folder: ["sh", str(DRIVERS / "driver.sh"), str(SNIPPETS / name), str(folder / "body")],
    ),
}
"""Snippet → the program it needs, and the command that asks it about the cases on its standard input."""
PRESENT = [name for name, (program, _) in COMMANDS.items() if shutil.which(program)]


def cases() -> dict[str, tuple[str, str, str, str, bytes, str]]:
    """What is asked: secret, id, timestamp, signature, body, and the answer: yes, no, or refused.

    Refused: by "no", or by an error that tells the developer of an unusable secret.
    """
    now = int(time.time())
    good, old = sign(SECRET, EVENT, now, BODY), now - 900
    wrong = sign(STRANGER, EVENT, now, BODY)
    by_nothing = base64.b64encode(hmac.digest(b"", f"{EVENT}.{now}.".encode() + BODY, "sha256")).decode()

    def signed(body: bytes, stamp: int = now) -> tuple[str, str, str, str, bytes, str]:
        return SECRET, EVENT, str(stamp), sign(SECRET, EVENT, stamp, body), body, "yes"

    return {
        "good": (SECRET, EVENT, str(now), good, BODY, "yes"),
        "a newline that was sent": signed(BODY + b"\n"),
        "line ends that were sent": signed(b'{"a":\r\n1}\r\n'),
        "a changed body": (SECRET, EVENT, str(now), good, BODY.replace(b"succeeded", b"failed"), "no"),
        "a newline that was not sent": (SECRET, EVENT, str(now), good, BODY + b"\n", "no"),
        "an old timestamp": (*signed(BODY, old)[:5], "no"),
        "a timestamp in the future": (*signed(BODY, now + 900)[:5], "no"),
        "another timestamp": (SECRET, EVENT, str(now - 1), good, BODY, "no"),
        "no number": (SECRET, EVENT, "now", good, BODY, "no"),
        "a number without end": (SECRET, EVENT, "9" * 400, good, BODY, "no"),
        "no timestamp": (SECRET, EVENT, "", good, BODY, "no"),
        "another id": (SECRET, EVENT[:-1] + "e", str(now), good, BODY, "no"),
        "a wrong secret": (SECRET, EVENT, str(now), wrong, BODY, "no"),
        "the second of two signatures": (SECRET, EVENT, str(now), f"{wrong} {good}", BODY, "yes"),
        "the first of two signatures": (SECRET, EVENT, str(now), f"{good} {wrong}", BODY, "yes"),
        "an unknown version": (SECRET, EVENT, str(now), good.replace("v1,", "v2,"), BODY, "no"),
        "no signature": (SECRET, EVENT, str(now), "", BODY, "no"),
        "no headers": (SECRET, "", "", "", BODY, "no"),
        "half a signature": (SECRET, EVENT, str(now), good[:20], BODY, "no"),
        "a version alone": (SECRET, EVENT, str(now), "v1,", BODY, "no"),
        "beside one that is not symmetric": (SECRET, EVENT, str(now), f"v1a,{wrong[3:]} {good}", BODY, "yes"),
        "the two with a comma": (SECRET, EVENT, str(now), f"{wrong}, {good[:-1]}", BODY, "no"),
        "a pattern": (SECRET, EVENT, str(now), "v1,*", BODY, "no"),
        "no id": (SECRET, "", str(now), good, BODY, "no"),
        "no body": (SECRET, EVENT, str(now), good, b"", "no"),
        "a body that is no text": (SECRET, EVENT, str(now), good, b"\xff\x00", "no"),
        "an id that is no text": (SECRET, "\udcff", str(now), good, BODY, "no"),
        "a timestamp that is no text": (SECRET, EVENT, "\udcff", good, BODY, "no"),
        "a signature that is no text": (SECRET, EVENT, str(now), "v1,\udcff", BODY, "no"),
        "a timestamp with zeros": (SECRET, EVENT, f"0{now - 1}", good, BODY, "no"),
        "a timestamp that looks octal": (SECRET, EVENT, "09", good, BODY, "no"),
        "a timestamp with a plus": (SECRET, EVENT, f"+{now - 1}", good, BODY, "no"),
        "a timestamp with spaces": (SECRET, EVENT, f" {now - 1} ", good, BODY, "no"),
        "a fraction": (SECRET, EVENT, f"{now - 1}.5", good, BODY, "no"),
        "before 1970": (*signed(BODY, -now)[:5], "no"),
        "a secret from a file": (SECRET + "\n", EVENT, str(now), good, BODY, "yes"),
        "a secret without its prefix": (SECRET.removeprefix("whsec_"), EVENT, str(now), good, BODY, "yes"),
        "a secret that is cut short": (SECRET[:-3], EVENT, str(now), good, BODY, "refused"),
        "an empty secret": ("whsec_", EVENT, str(now), f"v1,{by_nothing} v1,", BODY, "refused"),
        "no secret": ("", EVENT, str(now), f"v1,{by_nothing} v1,", BODY, "refused"),
        "a secret that holds nothing": ("whsec_????", EVENT, str(now), f"v1,{by_nothing} v1,", BODY, "refused"),
    }


def _bytes(secret: str, webhook_id: str, stamp: str, signature: str, body: bytes, _: str) -> tuple[bytes, ...]:
    return (*(text.encode("utf-8", "surrogateescape") for text in (secret, webhook_id, stamp, signature)), body)


@pytest.mark.process
@pytest.mark.parametrize("name", PRESENT)
def test_a_snippet_believes_what_we_sent_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Who copies a snippet takes every webhook of ours, also during a rotation, and refuses every other one."""
    asked = cases()
    lines = ["\t".join(base64.b64encode(part).decode() for part in _bytes(*case)) + "\n" for case in asked.values()]
    command = COMMANDS[name][1](name, tmp_path)
    ran = subprocess.run(command, input="".join(lines), capture_output=True, text=True, timeout=100, check=True)
    said = dict(zip(asked, ran.stdout.splitlines(), strict=True))
    refused = {case for case, (*_, answer) in asked.items() if answer == "refused" and said[case] in ("no", "raised")}
    assert said == {case: said[case] if case in refused else answer for case, (*_, answer) in asked.items()}


def test_every_snippet_is_run_where_its_language_is() -> None:
    """No snippet is shown that the test above does not know."""
    compiled = {"__pycache__"}  # by whoever followed the README
    assert {path.name for path in SNIPPETS.iterdir() if path.suffix != ".md"} - compiled == set(COMMANDS)
    assert {"standard_library.py", "library.py"} <= set(PRESENT)
