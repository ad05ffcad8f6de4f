"""What these tests work with."""

from tests.core.stage import build, clock, migrated, stage, toy

__all__ = ["build", "clock", "migrated", "stage", "toy"]
