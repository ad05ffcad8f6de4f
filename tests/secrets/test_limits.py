"""Nobody takes the service from others by asking too often, and nobody guesses keys by trying."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from receiver.accounts import digest_of
from receiver.limits import FAILED_BURST, Buckets, RequestLimits
from receiver.runtime import Runtime
from receiver.web import auth, create_app
from tests.web.conftest import KEY, Caller
from tests.web.problems import assert_problem


class Watch:
    """Seconds that stand still until they are set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """The time by which requests are counted."""
    return Watch(monkeypatch)


@pytest.fixture
def slow(build: Callable[..., Runtime], watch: Watch) -> FlaskClient:
    """A client of an application that takes two requests a second, four at once."""
    return create_app(build(request_rate=2.0)).test_client()


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """A burst at once, then one token each interval, never more than a burst after a long rest."""
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a", 0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 0.25) == 0.25
    assert buckets.wait("a", 0.5) == 0
    assert buckets.take("a", 0.5) == 0
    assert [buckets.take("a", 1000) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    """Earlier times count as no time."""
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 100) == 0
    assert buckets.take("a", 50) == 1
    assert buckets.take("a", 51) == 0


def test_memory_is_bounded_whoever_asks() -> None:
    """Only so many names are remembered; the one unused for longest goes first."""
    buckets = Buckets(rate=1, burst=1, most=3)
    for name in "abcad":
        buckets.take(name, 0)
    assert [name for name in "abcd" if name in buckets] == ["a", "c", "d"]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(slow: FlaskClient, watch: Watch) -> None:
    """429 with Retry-After once the burst is used up; after that time the key is let through again."""
    me = Caller(slow, KEY)
    assert [me.get("/v1/tasks").status_code for _ in range(5)] == [200] * 4 + [429]
    refused = me.post("/v1/tasks", {})
    assert "1 second." in assert_problem(refused, 429, "too-many-requests")["detail"]
    assert refused.headers["Retry-After"] == "1"
    watch.now += 0.5
    assert me.get("/v1/tasks").status_code == 200
    assert me.get("/v1/tasks").status_code == 429


def test_each_key_has_a_limit_of_its_own(build: Callable[..., Runtime], watch: Watch) -> None:
    """One loud key takes nothing from the others, of the same account too."""
    services = build(request_rate=1.0)
    client = create_app(services).test_client()
    loud, quiet = Caller(client, KEY), Caller(client, services.accounts.create_key("default", "", ["read"])[1])
    assert [loud.get("/v1/tasks").status_code for _ in range(3)] == [200, 200, 429]
    assert quiet.get("/v1/tasks").status_code == 200


def test_callbacks_and_health_are_never_limited(slow: FlaskClient, watch: Watch) -> None:
    """What has no API key is not counted: providers, probes and scrapes always come through."""
    seen = {slow.post("/callbacks/topview/nonsense").status_code for _ in range(30)}
    assert seen == {403}
    assert {slow.get("/healthz").status_code for _ in range(30)} == {200}
    assert {slow.get("/metrics").status_code for _ in range(5)} == {200}


def test_no_limit_when_it_is_off(build: Callable[..., Runtime], watch: Watch) -> None:
    """A rate of 0 lets every request of a right key through."""
    me = Caller(create_app(build(request_rate=0.0)).test_client(), KEY)
    assert {me.get("/v1/providers/topview/nothing").status_code for _ in range(60)} == {404}


def test_a_tiny_rate_names_a_time_all_the_same(build: Callable[..., Runtime], watch: Watch) -> None:
    """Whatever number the setting holds, the answer is a 429 with a whole number of seconds."""
    me = Caller(create_app(build(request_rate=5e-324)).test_client(), KEY)
    me.get("/v1/tasks")
    assert me.get("/v1/tasks").headers["Retry-After"] == "86400"


def test_keys_cannot_be_guessed_by_trying(client: FlaskClient, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a burst of wrong keys an address waits; its next key is not taken, wrong or right but never used."""
    for number in range(math.floor(FAILED_BURST)):
        assert client.get("/v1/tasks", headers={"Authorization": f"Bearer rk_{number}"}).status_code == 401
    answer = Caller(client, KEY).get("/v1/tasks")
    assert_problem(answer, 429, "too-many-requests")
    assert answer.headers["Retry-After"] == "1"
    assert Caller(client, KEY).get("/v1/tasks", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 200
    watch.now += 1
    assert client.get("/v1/tasks", headers={"Authorization": "Bearer rk_no"}).status_code == 401
    assert client.get("/v1/tasks", headers={"Authorization": "Bearer rk_no"}).status_code == 429


def test_who_guesses_keys_does_not_lock_others_out(client: FlaskClient, watch: Watch) -> None:
    """A key that was right before works on, although all come from one address, as behind a proxy."""
    me = Caller(client, KEY)
    assert me.get("/v1/tasks").status_code == 200
    for number in range(math.floor(FAILED_BURST) + 5):
        client.get("/v1/tasks", headers={"Authorization": f"Bearer rk_{number}"})
    assert client.get("/v1/tasks", headers={"Authorization": "Bearer rk_no"}).status_code == 429
    assert me.get("/v1/tasks").status_code == 200


def test_who_guesses_keys_does_not_lock_others_out_of_a_new_process(
    client: FlaskClient, build: Callable[..., Runtime], watch: Watch
) -> None:
    """A key that was right before works on behind a proxy, although the process that saw it is not this one."""
    assert Caller(client, KEY).get("/v1/tasks").status_code == 200
    restarted = create_app(build()).test_client()
    for number in range(math.floor(FAILED_BURST) + 5):
        restarted.get("/v1/tasks", headers={"Authorization": f"Bearer rk_{number}"})
    assert restarted.get("/v1/tasks", headers={"Authorization": "Bearer rk_no"}).status_code == 429
    assert Caller(restarted, KEY).get("/v1/tasks").status_code == 200


def test_requests_without_a_key_are_no_guesses(client: FlaskClient, watch: Watch) -> None:
    """Whoever forgets the key sees that, however often, and spoils nothing for the address."""
    assert {client.get("/v1/tasks").status_code for _ in range(150)} == {401}
    assert Caller(client, KEY).get("/v1/tasks").status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("", "nonsense", True),
    ],
)
def test_an_address_is_what_one_caller_has(first: str, second: str, same: bool) -> None:
    """One address of IPv4; of IPv6 a network /64, in which one caller has any number of addresses."""
    limits = RequestLimits(1)
    for _ in range(math.floor(FAILED_BURST)):
        limits.wrong(first, 0)
    assert limits.before("digest", first, 0) > 0
    assert (limits.before("digest", second, 0) > 0) is same


def test_no_key_is_kept_in_memory_by_the_limits(client: FlaskClient, watch: Watch) -> None:
    """What is counted is the digest of a key, so that a dump of memory shows no key that is not in use."""
    Caller(client, KEY).get("/v1/tasks")
    counted = client.application.extensions["receiver"].limits._keys
    assert KEY not in counted
    assert digest_of(KEY) in counted
