"""What the providers can do, from a terminal."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.service import FakeService

LISTING = {
    "data": [
        {
            "name": "superapp",
            "title": "SuperApp",
            "docs": "https://docs.example/superapp",
            "configured": True,
            "callbacks": "none",
            "uploads": False,
            "resources": {},
            "operations": [
                {
                    "name": "text2image",
                    "title": "A picture from text",
                    "callbacks": False,
                    "experimental": False,
                    "input": {
                        "type": "object",
                        "required": ["inputText"],
                        "properties": {
                            "width": {"type": "integer", "minimum": 64, "maximum": 2048, "description": "Pixels."},
                            "style": {"enum": ["photo", "drawing"]},
                            "seed": {"type": ["integer", "null"], "minimum": 0},
                            "inputText": {"type": "string", "description": "What to show."},
                        },
                    },
                },
                {
                    "name": "other",
                    "title": "Another thing",
                    "callbacks": False,
                    "experimental": True,
                    "input": {"type": "object"},
                },
            ],
        },
        {
            "name": "topview",
            "title": "TopView",
            "docs": "",
            "configured": False,
            "callbacks": "unsigned",
            "uploads": True,
            "resources": {},
            "operations": [],
        },
    ]
}


@pytest.fixture(autouse=True)
def _told(service: FakeService) -> None:
    service.on("GET", "/v1/providers", LISTING)


def test_providers_are_listed(run: Run) -> None:
    """Name, title, whether it is configured, whether it calls back, how many operations."""
    shown = run("providers").stdout.splitlines()
    assert shown[1].split() == ["superapp", "SuperApp", "yes", "none", "2"]
    assert shown[2].split() == ["topview", "TopView", "no", "unsigned", "0"]


def test_one_provider_shows_its_operations_and_fields(run: Run) -> None:
    """Required fields come first and are marked."""
    shown = run("providers", "superapp").stdout
    assert "text2image  A picture from text" in shown
    assert "inputText*, width, style, seed" in shown
    assert "all are passed on" in shown
    assert "not tried" in shown


def test_one_operation_shows_what_its_fields_mean(run: Run) -> None:
    """Types, limits, choices and meanings are shown."""
    shown = [
        " ".join(line.split()) for line in run("providers", "superapp", "--operation", "text2image").stdout.splitlines()
    ]
    assert shown[0].startswith("text2image ")
    assert "inputText* string What to show." in shown
    assert "width integer 64..2048 Pixels." in shown
    assert "style photo | drawing –" in shown
    assert "seed integer or null 0.. –" in shown


def test_json_is_the_whole_listing(run: Run) -> None:
    """``--json`` gives what the API gives."""
    assert json.loads(run("providers", "--json").stdout) == LISTING


@pytest.mark.parametrize(
    ("args", "said"),
    [(["nobody"], "known are superapp, topview"), (["superapp", "--operation", "x"], "it has text2image, other")],
)
def test_unknown_names_are_usage_errors_that_name_the_known_ones(run: Run, args: list[str], said: str) -> None:
    """A mistyped provider or operation ends with code 2 and the right names."""
    result = run("providers", *args)
    assert result.exit_code == 2
    assert said in result.stderr
