"""The work of several machines: split among them, and nothing is lost or done twice when one of them goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.crash.checker import Checker, await_rest
from tests.crash.load import Callers, Hook
from tests.crash.plant import until
from tests.machines.farm import REST, Farm, told
from tests.machines.upgrade import upgrade
from tests.model.ledger import Ledger

pytestmark = pytest.mark.process

CALM = ((), (), ("duplicate-callbacks=2",), ("early-callback",), ("no-callback",))
"""What providers do every day: nothing that takes a deadline to clear up."""
Build = Callable[..., Farm]


def open_hook(farm: Farm) -> Hook:
    """A steady webhook that is told everything."""
    hook = Hook(1, flaky=False)
    hook.secret = farm.subscribe(hook.url)
    return hook


def copies(hook: Hook) -> Counter[int]:
    """How many deliveries came once, twice, and so on."""
    return Counter(len(requests) for requests in hook.taken.values())


def failed_attempts(farm: Farm) -> str:
    """What the service itself says of attempts that failed, so that a test which fails tells why one came again."""
    with closing(Ledger(farm.database)) as ledger:
        return f"attempts that failed: {[row for row in ledger.attempts() if row['error']]}"


def test_work_is_split_and_machines_that_stop_in_order_double_nothing(build: Build) -> None:
    """Every web and every worker does a share; one of each is stopped under load, and every delivery comes once."""
    farm = build()
    webs = [farm.web(f"web-{number}") for number in range(2)]
    workers = [farm.worker(f"worker-{number}") for number in range(3)]
    hook = open_hook(farm)
    callers = Callers(farm, seed=1, magic=CALM)

    def shares() -> list[int]:
        return [told(worker, "attempt") for worker in workers]

    until(lambda: sum(shares()) >= 60, 60, "no work is done")
    share = shares()
    assert webs[0].terminate(20) == 0
    assert workers[0].terminate(20) == 0
    time.sleep(2)
    callers.stop()
    await_rest(farm, 90)
    Checker(farm, callers.orders, [hook]).check()
    assert set(copies(hook)) == {1}, failed_attempts(farm)
    assert min(share) >= 5, f"attempts of each worker: {share}"
    assert len(farm.balancer.taken) == 2
    assert min(farm.balancer.taken.values()) >= 5, f"connections of each web: {farm.balancer.taken}"
    hook.subscriber.close()


def test_machines_that_lose_power_lose_nothing(build: Build) -> None:
    """A web and a worker are killed under load and replaced: all ends as ordered.

    Only what the killed worker had under way comes to the subscriber once more.
    """
    farm = build()
    webs = [farm.web(f"web-{number}") for number in range(2)]
    workers = [farm.worker(f"worker-{number}") for number in range(2)]
    hook = open_hook(farm)
    callers = Callers(farm, seed=2, magic=CALM)
    under_way = 0
    for number in range(2):
        time.sleep(2)
        webs[number].kill()
        workers[number].kill()
        with closing(Ledger(farm.database)) as ledger:
            under_way += ledger.rows("SELECT count(*) AS n FROM deliveries WHERE leased")[0]["n"]
        farm.web(f"web-{2 + number}")
        farm.worker(f"worker-{2 + number}")
    time.sleep(1)
    callers.stop()
    await_rest(farm, REST)
    Checker(farm, callers.orders, [hook]).check()
    assert sum(size - 1 for size in copies(hook).elements()) <= under_way, failed_attempts(farm)
    hook.subscriber.close()


def test_clocks_that_differ_by_seconds_change_nothing(build: Build) -> None:
    """One machine is two seconds ahead, another two behind: no task is bought twice, no delivery comes twice.

    What matters is the lease: it must be longer than a call and the difference together.
    """
    farm = build()
    farm.web("web-ahead", clock=2)
    farm.web("web-behind", clock=-2)
    farm.worker("worker-behind", clock=-2)
    farm.worker("worker-ahead", clock=2)
    hook = open_hook(farm)
    callers = Callers(farm, seed=3, magic=CALM)
    time.sleep(4)
    callers.stop()
    await_rest(farm, 90)
    Checker(farm, callers.orders, [hook]).check()
    assert set(copies(hook)) == {1}, failed_attempts(farm)
    with closing(Ledger(farm.database)) as ledger:
        assert ledger.rows("SELECT max(started_at) - min(started_at) AS apart FROM workers")[0]["apart"] >= 4000
    hook.subscriber.close()


def test_a_new_version_is_rolled_out_under_load(build: Build) -> None:
    """Old and new code side by side, before, between and after the two steps of a migration: nobody notices.

    The old code starts and migrates beside the newer schema, too, and leaves it as it is.
    """
    farm = build()
    old = [farm.web("web-old"), farm.worker("worker-old")]
    hook = open_hook(farm)
    callers = Callers(farm, seed=5, magic=CALM)
    time.sleep(1)
    upgrade(farm.variables["RECEIVER_DATABASE_URL"], "9001")
    again = farm.start("migrate-again", "migrate")
    assert again.popen.wait(30) == 0, again.tail()
    farm.web("web-new")
    farm.worker("worker-new")
    for _ in farm.balancer.webs:
        assert farm.api("GET", "/readyz").status_code == 200
    for group in old:
        assert group.terminate(20) == 0
    upgrade(farm.variables["RECEIVER_DATABASE_URL"], "9002")
    time.sleep(1)
    callers.stop()
    await_rest(farm, 90)
    Checker(farm, callers.orders, [hook]).check()
    assert set(copies(hook)) == {1}, failed_attempts(farm)
    with closing(Ledger(farm.database)) as ledger:
        assert ledger.rows("SELECT version_num FROM alembic_version") == [{"version_num": "9002"}]
        assert ledger.rows("SELECT DISTINCT colour FROM tasks") == [{"colour": "none"}]
    hook.subscriber.close()
