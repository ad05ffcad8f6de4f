"""``receiver reseal``: the end of an older secret key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

import click

from receiver.cli.exits import Exit
from receiver.cli.findings import Finding, Level
from receiver.cli.keys import present_schema
from receiver.cli.screen import console
from receiver.resealing import ResealService, Seals
from receiver.sealing import KEY_BYTES, Sealer
from receiver.store import Store


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def reseal(as_json: bool) -> None:
    """Encrypt what is stored with the first secret key.

    After that an older key can go. Works on the database of the settings, a few rows at a time, while the service
    runs. Safe to break off and to repeat. Put the new key in front and restart everything before you run it. The exit
    code is 1 when something is left that the first key does not open.
    """
    with present_schema() as runtime:
        done = runtime.resealing.run()
        seals = runtime.resealing.look()
    left, lost = sum(seals.older.values()), sum(map(len, seals.lost.values()))
    if as_json:
        click.echo(json.dumps({"resealed": done, "current": seals.current, "older": seals.older, "lost": seals.lost}))
    else:
        _tell(done, seals)
    if left or lost:
        raise SystemExit(Exit.FAILED)


def _tell(done: Mapping[str, int], seals: Seals) -> None:
    screen = console()
    for kind, current in seals.current.items():
        screen.print(f"{kind}: {done[kind]} sealed anew, {current} sealed with the first key in all")
        if seals.older[kind]:
            screen.print(
                f"  {seals.older[kind]} were written with an older key meanwhile: restart every process with the new "
                "keys, then run this again."
            )
        if seals.lost[kind]:
            screen.print(f"  {_lost(kind, seals)}")
    if not any(seals.older.values()) and not any(seals.lost.values()):
        screen.print(
            "\nEverything stored is sealed with the first key. Callback URLs of tasks that have not ended may still be "
            "signed with an older one: keep it until they have."
        )


def seals_of(store: Store, keys: Sequence[bytes]) -> Iterator[Finding]:
    """For `receiver check`: whether the secret keys open what is stored, and with which of them. Raises Busy.

    ``store``: its schema is current. ``keys``: the first seals; none means that nothing can be opened.
    """
    about = "secrets"
    seals = ResealService(store, Sealer(keys or [os.urandom(KEY_BYTES)])).look()
    older = sum(seals.older.values())
    for kind, owners in seals.lost.items():
        if owners:
            yield Finding(
                Level.PROBLEM,
                about,
                _lost(kind, seals),
                "Put the key that sealed them back, behind the others. If it is gone for good, rotate the secrets with "
                "an overlap of 0; take the headers of a subscriber away, then set them anew.",
            )
    if older:
        yield Finding(
            Level.WARNING,
            about,
            f"{older} stored secret{' is' if older == 1 else 's are'} sealed with an older secret key.",
            "`receiver reseal` seals them with the first one; until then the older must stay.",
        )


def _lost(kind: str, seals: Seals) -> str:
    owners = seals.lost[kind]
    shown = ", ".join(owners[:3]) + (" …" if len(owners) > 3 else "")
    return f"{len(owners)} of the {kind} cannot be opened with any secret key at hand ({shown})."
