"""Secrets that are changed by several at once: whoever was given a new one finds it in force."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from receiver.signing import Secret
from tests.core.stage import HOOK, Stage


def test_no_rotation_undoes_another(build: Callable[..., Stage]) -> None:
    """Two at once, for an account and for a subscriber: both new secrets sign, besides the first."""
    stages = [build(), build()]
    subscriber = stages[0].subscribe(HOOK)
    ways: list[Callable[[Stage], tuple[Secret, ...]]] = [
        lambda one: one.runtime.accounts.rotate_signing_secret(one.account, 3600),
        lambda one: one.runtime.subscribers.rotate_secret(one.account, subscriber.id, 3600, None),
    ]
    for way in ways:
        with ThreadPoolExecutor(2) as pool:
            fewer, more = sorted(({secret.key for secret in got} for got in pool.map(way, stages)), key=len)
        assert (len(fewer), len(more)) == (2, 3)
        assert fewer < more, "a secret that was given out is not in force"
