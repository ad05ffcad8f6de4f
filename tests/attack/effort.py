"""How hard the generated attacks try: a little and always the same in the tests, long and anew with FUZZ_SCALE."""

from __future__ import annotations

import os
from typing import Any

import hypothesis

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))


def effort(examples: int) -> Any:
    """A decorator: so many examples, times FUZZ_SCALE. At 1 they are the same in every run."""
    return hypothesis.settings(
        max_examples=examples * SCALE,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
