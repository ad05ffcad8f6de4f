"""The stage that the toy plays on."""

from tests.core.stage import build, clock, migrated, toy

__all__ = ["build", "clock", "migrated", "toy"]
