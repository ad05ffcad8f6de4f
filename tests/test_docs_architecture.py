"""The page on the architecture shows the code as it is: floors, imports, transactions, states and tables."""

from __future__ import annotations

import re
from typing import Any

import handlers
from handlers import RemoteStatus, TaskError, TaskUpdate
from receiver import lifecycle, runtime
from receiver.models import CompletedVia, Task, TaskStatus
from receiver.store.schema import metadata
from tests.markdown import ROOT, Page, page
from tests.test_architecture import FLOORS, IMPORTS, place

PAGE = page("docs/architecture.md")


def module_of(path: str) -> str:
    """The dotted name of what the page calls by its path."""
    return path.removesuffix(".py").removesuffix("/").removesuffix("/__init__").replace("/", ".")


def test_the_floors_are_those_that_are_enforced() -> None:
    """Whoever looks for the place of a new file finds the rule that the test of imports holds."""
    shown = {
        module_of(path): float(row[0].split()[0])
        for row in PAGE.section("Floors").rows
        for path in re.findall(r"`([^`]+)`", row[1])
    }
    assert shown == {name: float(floor) for name, (floor, _) in FLOORS.items()}


def arrows(found: Page) -> set[tuple[str, str]]:
    """The arrows of a page's only flowchart."""
    (drawing,) = (text for kind, text in found.fences if kind == "mermaid")
    return set(re.findall(r"^ *(\w+) --> (\w+)$", drawing, re.MULTILINE))


def test_arrows_are_imports_and_lead_to_every_import() -> None:
    """The picture draws no import that there is none of, and leaves out only those that skip a floor."""
    drawn = arrows(PAGE.section("Floors"))
    nodes = {node for arrow in drawn for node in arrow}

    def node(module: str) -> str:
        floor, room = place(module) or (0, "")
        return "services" if floor == 3 else room

    real = {(node(found.importer), node(found.imported)) for found in IMPORTS}
    real = {(here, there) for here, there in real if {here, there} <= nodes and here != there}
    assert drawn <= real
    assert {(here, there) for here, there in real if there not in below(here, drawn)} == set()


def below(node: str, drawn: set[tuple[str, str]]) -> set[str]:
    """All that the arrows lead to from a node."""
    direct = {there for here, there in drawn if here == node}
    return direct.union(*(below(there, drawn) for there in direct))


def test_transactions_that_are_named_exist() -> None:
    """Each step of a task's life leads to the method that does it."""
    rows = PAGE.section("The life of a task, transaction by transaction").rows
    for row in rows:
        service, *names = re.findall(r"`([\w.]+)`", row[1])
        kind, first = service.split(".")
        found: Any = getattr(runtime, kind)
        assert all(callable(getattr(found, name)) for name in (first, *names)), row[1]
    drawn = {text for kind, text in PAGE.fences if kind == "mermaid" and "sequenceDiagram" in text}
    numbers = re.findall(r"->>d: (\d+) ", drawn.pop())
    assert numbers == [row[0] for row in rows if row[0] != "–"]


def test_functions_and_files_that_are_named_exist() -> None:
    """A reader who follows a name finds what it names."""
    source = (ROOT / "receiver" / "lifecycle.py").read_text()
    for name in re.findall(r"`(\w+)\(\)`", PAGE.section("States").text):
        assert f"def {name}(" in source, name
    paths = [span for span in PAGE.spans if re.fullmatch(r"(receiver|handlers|tests|deploy)/[\w/.]*", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert hasattr(handlers.Handler, "submit_is_safe_to_repeat")


def test_tables_are_those_of_the_schema() -> None:
    """The page has a line for each table."""
    assert PAGE.section("Tables").terms == [table.name for table in metadata.tables.values()]


def test_the_state_diagram_has_the_moves_of_the_lifecycle() -> None:
    """The picture of a task's states draws each move that the rules allow, and no other."""
    (diagram,) = (text for kind, text in page("docs/tasks.md").fences if kind == "mermaid")
    drawn = {(here, there) for here, there in re.findall(r"(\w+) --> (\w+)", diagram)}
    live = [status for status in TaskStatus if not status.final]
    moves = {("queued", "submitting"), ("submitting", "queued")}  # by the claim, and back when the provider is away
    moves |= {(str(status), "canceled") for status in live}
    for status in live:
        task = Task(
            "task_x", "acct_x", "superapp", "text2image", status, "{}", {}, None, 0, 0, None, outcome_unknown=True
        )  # fmt: skip
        changes = [lifecycle.past_deadline(task)]
        if status is TaskStatus.SUBMITTING:
            waiting = Task("task_x", "acct_x", "superapp", "text2image", status, "{}", {}, None, 0, 0, None)
            changes += [lifecycle.past_deadline(waiting)]
            changes += [lifecycle.rejected(task, TaskError(handlers.ErrorCode.INVALID_INPUT, "no"))]
        # Also of a task that waits here again a provider may have heard, whatever it answered.
        said = [
            lifecycle.apply_update(task, TaskUpdate(word, raw="{}"), CompletedVia.CALLBACK) for word in RemoteStatus
        ]
        changes += [change for change in said if change is not None]
        moves |= {(str(status), str(change.status)) for change in changes if change.status is not status}
    assert drawn == moves
