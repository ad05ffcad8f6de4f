"""Thousands of calls that nobody knows leave nothing behind: no row, no label, no growing memory."""

from __future__ import annotations

import json
import secrets

import pytest

from receiver import metrics
from receiver.signing import CallbackTokens
from tests.attack.conftest import Door
from tests.attack.test_fuzz_door import genuine_headers, notice
from tests.web.conftest import KEY

COUNT = 400


def labels() -> set[tuple[tuple[str, str], ...]]:
    """Every label set of every metric that requests can touch."""
    return {
        tuple(sorted(sample.labels.items()))
        for metric in (metrics.NOTICES, metrics.HTTP_REQUESTS)
        for family in metric.collect()
        for sample in family.samples
    }


def hexadecimal(number: int) -> str:
    """Something new each time."""
    return secrets.token_hex(number)


@pytest.mark.parametrize("provider", ["topview", "apsaravideo_vod", "img_open", "superapp"])
def test_invented_tokens_leave_nothing(door: Door, provider: str) -> None:
    """Each is refused; the tables do not grow, and neither do the metrics."""
    client = door.app.test_client()
    task = door.start().task_id.removeprefix("task_")
    client.post(f"/callbacks/{provider}/x", data=b"{}")
    before, known = door.stored(), labels()
    for number in range(COUNT):
        token = (hexadecimal(35), f"{task}.{hexadecimal(21)}A", hexadecimal(2), f"{task}.")[number % 4]
        answer = client.post(f"/callbacks/{provider}/{token}", data=b"{}", headers={"User-Agent": hexadecimal(8)})
        assert answer.status_code == 403
    assert door.stored() == before
    assert labels() == known


def test_invented_addresses_methods_and_providers_leave_nothing(door: Door) -> None:
    """404 or 405; one label stands for all names that nobody knows."""
    client = door.app.test_client()
    for path in ("/callbacks/x", "/callbacks/x/y", "/nowhere"):
        client.post(path)
        client.open(path, method="BREW")
    before, known = door.stored(), labels()
    for number in range(COUNT):
        name = hexadecimal(6)
        path = (f"/callbacks/{name}", f"/callbacks/{name}/{name}", f"/{name}", f"/callbacks/{name}/x/y")[number % 4]
        method = "POST" if number % 3 else f"M{name.upper()}"
        assert client.open(path, method=method).status_code in (404, 405)
    assert door.stored() == before
    assert labels() == known


def test_signed_notices_about_unknown_jobs_leave_nothing(door: Door) -> None:
    """At the provider-wide address they are answered, so that the provider stops, and forgotten."""
    client = door.app.test_client()
    path = "/callbacks/apsaravideo_vod"
    headers = genuine_headers("apsaravideo_vod", path)
    client.post(path, data=json.dumps(notice("apsaravideo_vod", "nobody")), headers=headers)
    before, known = door.stored(), labels()
    for _ in range(COUNT):
        body = json.dumps(notice("apsaravideo_vod", hexadecimal(16)))
        assert client.post(path, data=body, headers=headers).status_code == 200
    assert door.stored() == before
    assert labels() == known


def test_notices_about_tasks_that_are_gone_leave_nothing(door: Door) -> None:
    """A genuine token of a task that was purged: answered and forgotten, however often."""
    tokens = CallbackTokens(door.runtime.settings.secret_keys)
    client = door.app.test_client()
    before = door.stored()
    for number in range(COUNT):
        token = tokens.make("topview", f"task_{number:026d}")
        assert client.post(f"/callbacks/topview/{token}", data=b"{}").status_code in (200, 400)
    assert door.stored() == before


def test_an_api_key_does_not_open_the_door(door: Door) -> None:
    """Who may call the API may not thereby speak for a provider."""
    answer = door.app.test_client().post("/callbacks/topview", data=b"{}", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 401
