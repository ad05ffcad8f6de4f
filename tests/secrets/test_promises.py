"""What is promised in writing has a test, and every test that is named for it exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.markdown import ROOT, page

NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
PAGES = ("docs/promises.md", "SECURITY.md")


@cache
def names_in(path: str) -> set[str]:
    """The names of all tests in a file, methods of classes included."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("name", PAGES)
def test_every_test_that_is_named_exists(name: str) -> None:
    """Whoever reads a promise can run what proves it."""
    named = NAMED.findall(page(name).text)
    assert named
    missing = [f"{path}::{test}" for path, test in named if not (ROOT / path).is_file() or test not in names_in(path)]
    assert not missing


def test_every_promise_has_a_test() -> None:
    """No row of the table stands without a proof."""
    rows = page("docs/promises.md").rows
    assert len(rows) > 30
    assert not [row[0] for row in rows if len(row) != 3 or not NAMED.search(row[2])]


def test_named_tests_say_what_they_prove() -> None:
    """Each has a sentence of its own, so that the proof can be judged without reading code."""
    for path, test in NAMED.findall(page("docs/promises.md").text):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == test]
        assert ast.get_docstring(found), f"{path}::{test}"
