"""What `receiver check` finds: one record for each thing that it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters. Only a problem makes `receiver check` fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``mend``: what to do, empty when there is nothing to do."""

    level: Level
    about: str
    text: str
    mend: str = ""


def failed(findings: Sequence[Finding]) -> bool:
    """Whether there is any problem."""
    return any(finding.level is Level.PROBLEM for finding in findings)
