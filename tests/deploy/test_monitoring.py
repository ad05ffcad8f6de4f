"""The board and the alarms ask for what the service really shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from receiver import metrics, watching
from receiver.web import create_app
from tests.core.stage import Stage, build, clock, migrated, stage, toy

__all__ = ["build", "clock", "migrated", "stage", "toy"]

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = DEPLOY / "grafana" / "receiver.json"
RULES = DEPLOY / "prometheus" / "alerts.yml"
ADDED = {"instance", "job", "role", "le"}
"""Labels that Prometheus adds to what it scrapes, and that of a histogram's buckets."""


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel and every rule; what Grafana fills in is filled in."""
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            filled = target["expr"].replace("$__rate_interval", "5m").replace("$provider", ".*")
            yield f"panel {panel['title']}", filled
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        yield f"alert {rule['alert']}", rule["expr"]


@pytest.fixture(scope="module")
def _counted() -> None:
    """Something has happened of every kind, so that every series is there."""
    watching.notice_refused("toy", "bad_signature", "req-1")
    metrics.observe_accepted("toy")
    metrics.observe_provider_call("toy", "submit", "unavailable", 0.1)
    metrics.observe_first_submit("toy", 0.1)
    metrics.observe_callback_to_event("toy", 0.1)
    metrics.observe_task_change("toy", "succeeded", "poll", rescued=True)
    metrics.observe_attempt(200, None, 0.1)
    metrics.observe_first_attempt(0.1)
    metrics.observe_delivery_ended("dead", "exhausted")


@pytest.fixture
def shown(stage: Stage, _counted: None) -> dict[str, set[str]]:
    """Every series of a real scrape with its labels."""
    stage.running()
    client = create_app(stage.runtime).test_client()
    client.get("/healthz")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_what_the_board_and_the_alarms_ask_for_is_shown(shown: dict[str, set[str]]) -> None:
    """No panel stays empty, and no alarm stays silent, because a name or a label has changed."""
    wrong = []
    for where, query in expressions():
        names = set(re.findall(r"\breceiver_\w+", query))
        assert names, where
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
        for group in re.findall(r"\bby\s*\(([^)]*)\)", query):
            labels |= {label.strip() for label in group.split(",")}
        wrong += [f"{where}: {name}" for name in names - set(shown)]
        known = set().union(*(shown.get(name, set()) for name in names)) | ADDED
        wrong += [f"{where}: label {label}" for label in labels - known]
    assert not wrong


def test_every_metric_is_on_the_board(shown: dict[str, set[str]]) -> None:
    """What is counted can be seen without writing a query (but for what only says how long ago)."""
    asked = " ".join(query for _, query in expressions())
    unseen = {name for name in shown if not re.search(rf"\b{name}\b", asked)}
    parts = ("_created", "_count", "_sum")
    assert {name for name in unseen if not name.endswith(parts)} == {"receiver_worker_seen_seconds"} & set(shown)


def test_every_alarm_says_what_to_do() -> None:
    """Whoever is woken reads what is wrong and what to look at; the severity is one of three."""
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_board_has_no_two_panels_in_one_place() -> None:
    """Ids are unique and nothing lies on something else."""
    panels = json.loads(BOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_takes_the_queries(tmp_path: Path) -> None:
    """Prometheus' own parser reads every query, and its tests of the rules pass (where its tool could be installed)."""
    tool = shutil.which("promtool")
    if tool is None:
        for where, query in expressions():
            assert query.count("(") == query.count(")"), where
        return
    rules = [{"record": f"r:{number}", "expr": query} for number, (_, query) in enumerate(expressions())]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    for asked in (
        ["check", "rules", str(tmp_path / "board.yml")],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run([tool, *asked], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
