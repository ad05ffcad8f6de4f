"""Whoever is woken by an alarm finds what it means, where to look and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.markdown import ROOT, page

RULES: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
ALARMS = page("docs/runbook.md").section("Alarms")


def test_every_alarm_is_in_the_runbook_and_no_other() -> None:
    """In the order of the rules, each under its own name."""
    assert re.findall(r"^### (\w+)$", ALARMS.text, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize("alarm", RULES)
def test_each_entry_says_what_to_look_at_and_what_to_do(alarm: str) -> None:
    """An entry names the metrics that set the alarm off, and goes from the symptom to the cure."""
    entry = ALARMS.section(alarm).text
    assert re.findall(r"^\* \*\*(\w+):\*\* ", entry, re.MULTILINE) == ["Symptom", "Look", "Do"]
    metrics = {name.removesuffix("_bucket") for name in re.findall(r"receiver_\w+", RULES[alarm]["expr"])}
    assert {name for name in metrics if name not in entry} == set()


def test_metrics_that_are_named_exist() -> None:
    """No page sends anybody to a number that is not there."""
    known = set(page("docs/operating.md").section("Metrics").terms)
    named = set(re.findall(r"\breceiver_[a-z_]+\b", page("docs/runbook.md").text))
    named |= set(page("docs/operating.md").section("What to watch").terms)
    assert named <= known
