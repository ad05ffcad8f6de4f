"""What these tests work with."""

from tests.core.stage import build, clock, migrated, stage, toy
from tests.hostile.plant import plant

__all__ = ["build", "clock", "migrated", "plant", "stage", "toy"]
