"""Every secret of a run, in every spelling, and every text that somebody gets to see."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote


def spellings(secret: str) -> set[str]:
    """The ways in which a text may turn up: as it is, in base64, in hexadecimal, in a URL, in JSON, as a digest."""
    raw = secret.encode()
    coded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    forms = {secret, raw.hex(), quote(secret, safe=""), json.dumps(secret)[1:-1], hashlib.sha256(raw).hexdigest()}
    return forms | {text.rstrip("=") for text in coded}


@dataclass(frozen=True)
class Shown:
    """One text that was shown. ``place``: where, in words. ``purpose``: names of secrets that it is there to show."""

    place: str
    text: str
    purpose: frozenset[str] = frozenset()


@dataclass
class Ledger:
    """Secrets by name, and what was shown."""

    secrets: dict[str, set[str]] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)

    def keep(self, name: str, secret: str) -> str:
        """Note a secret; it is given back."""
        assert len(secret) >= 8, "a short text turns up by chance"
        forms = spellings(secret)
        if secret.startswith("whsec_"):
            bare = secret.removeprefix("whsec_")
            forms |= {bare, base64.b64decode(bare).hex()}
        self.secrets.setdefault(name, set()).update(forms)
        return secret

    def show(self, place: str, text: str, *purpose: str) -> None:
        """Note what was shown. ``purpose``: the names of the secrets that belong there."""
        self.shown.append(Shown(place, text, frozenset(purpose)))

    def leaks(self) -> Iterator[str]:
        """Every secret that was shown where it does not belong; the secret itself is not in the text."""
        for shown in self.shown:
            for name, forms in self.secrets.items():
                if name in shown.purpose:
                    continue
                for form in forms:
                    if (at := shown.text.find(form)) >= 0:
                        before = shown.text[max(0, at - 60) : at].replace("\n", " ")
                        yield f"{shown.place}: {name}, behind …{before}"
                        break
