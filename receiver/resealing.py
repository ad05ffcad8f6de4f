"""Sealing anew: what older secret keys have sealed is sealed with the first one, so that the older can go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from receiver.sealing import Sealer
from receiver.store import Store, sealed
from receiver.store.sealed import Sealed

STEP = 50
"""Texts that are written in one transaction: others get their turn in between."""
PASSES = 10
"""How many times everything is gone through at most, while others still write with an older key."""


@dataclass(frozen=True, slots=True)
class Seals:
    """By which keys things are sealed, by kind of thing (``receiver.store.sealed.KINDS``).

    ``current``: how many with the first key. ``older``: how many with another key that is at hand.
    ``lost``: the ids of rows that no key at hand opens.
    """

    current: Mapping[str, int]
    older: Mapping[str, int]
    lost: Mapping[str, Sequence[str]]


class ResealService:
    """Looks at everything sealed, of all accounts; its transactions begin here."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        """``sealer``: knows the first secret key and the older ones."""
        self._store = store
        self._sealer = sealer

    def look(self) -> Seals:
        """How everything is sealed. Changes nothing. Raises Busy."""
        older = dict.fromkeys(sealed.KINDS, 0)
        lost: dict[str, list[str]] = {kind: [] for kind in sealed.KINDS}
        for found in self._older():
            for each in found:
                if self._sealer.opened(each.text, each.owner) is None:
                    lost[each.kind].append(each.owner)
                else:
                    older[each.kind] += 1
        with self._store.read() as connection:
            current = {kind: sealed.count(connection, kind, self._sealer.beginning) for kind in sealed.KINDS}
        return Seals(current, older, lost)

    def run(self) -> Mapping[str, int]:
        """Seal with the first key what an older one has sealed; how many texts, by kind of thing. Raises Busy.

        Safe while the service runs (a secret that is rotated meanwhile is never overwritten), safe to break off at
        any point, safe to repeat. What no key opens is left as it is.
        """
        done = dict.fromkeys(sealed.KINDS, 0)
        for _ in range(PASSES):
            overtaken = False
            for found in self._older():
                opened = ((each, self._sealer.opened(each.text, each.owner)) for each in found)
                fresh = [(each, self._sealer.seal(plain, each.owner)) for each, plain in opened if plain is not None]
                if not fresh:
                    continue
                with self._store.write() as connection:
                    for each, text in fresh:
                        if sealed.replace(connection, each, text):
                            done[each.kind] += 1
                        else:
                            overtaken = True  # by a process that may still seal with the older key
            if not overtaken:
                break
        return done

    def _older(self) -> Iterator[Sequence[Sealed]]:
        """Everything that the first key has not sealed, a step at a time."""
        for kind in sealed.KINDS:
            after = ""
            while True:
                with self._store.read() as connection:
                    found = sealed.older(connection, kind, self._sealer.beginning, after, STEP)
                if not found:
                    break
                yield found
                after = found[-1].owner
