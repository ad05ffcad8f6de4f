"""The floors of the house, read from the imports: who may use whom, and what belongs where.

A file imports only from floors below its own, or from its own room. Every import counts, late ones too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import handlers

ROOT = Path(__file__).parents[1]
SOURCES = ("handlers", "receiver", "wsgi.py", "deploy")
LONGEST, LONGEST_TEST = 400, 430

PURE, WATCHING = (1, "pure"), (1.5, "watching")  # what only watches may be used by all above the pure floor
FLOORS: Mapping[str, tuple[float, str]] = {
    "handlers": (0, "handlers"),
    "receiver": (0, "version"),
    **dict.fromkeys(
        (f"receiver.{name}" for name in (
            "addresses", "blanking", "config", "errors", "events", "lifecycle", "limits", "models", "schedule",
            "sealing", "signing", "verifying",
        )),
        PURE,
    ),
    "receiver.faultpoints": WATCHING,
    "receiver.logs": WATCHING,
    "receiver.metrics": WATCHING,
    "receiver.tracing": WATCHING,
    "receiver.watching": WATCHING,
    "receiver.bell": (2, "bell"),
    "receiver.lifelines": (2, "bell"),
    "receiver.answers": (2, "outbound"),
    "receiver.courier": (2, "outbound"),
    "receiver.dialling": (2, "outbound"),
    "receiver.outbound": (2, "outbound"),
    "receiver.providers": (2, "providers"),
    "receiver.reactor": (2, "outbound"),
    "receiver.store": (2, "store"),
    "receiver.tls": (2, "outbound"),
    "receiver.waking": (2.5, "waking"),
    **{
        f"receiver.{name}": (3, name) for name in (
            "accounts", "deliveries", "feed", "inspections", "notices", "overview", "polling", "resealing", "stats",
            "submissions", "subscribers", "sweeping", "tasks", "uploads",
        )
    },
    "receiver.runtime": (4, "runtime"),
    "receiver.sandbox": (5, "sandbox"),
    "receiver.web": (5, "web"),
    "receiver.worker": (5, "worker"),
    "receiver.cli": (6, "entry"),
    "wsgi": (6, "entry"),
    "deploy": (6, "entry"),
}  # fmt: skip
"""Floor and room of every module; a package's line holds for all that is in it."""

HOMES: Mapping[str, set[str]] = {
    "flask": {"web", "sandbox"},
    "flask_smorest": {"web"},
    "werkzeug": {"web", "sandbox"},
    "gunicorn": {"web"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "requests": {"handlers", "sandbox", "entry"},
    "urllib3": {"handlers", "sandbox", "entry"},
    "click": {"entry"},
    "rich": {"entry"},
    "environs": {"pure"},
    "cryptography": {"pure"},
    "itsdangerous": {"pure"},
    "structlog": {"watching"},
    "prometheus_client": {"watching", "web", "entry"},
    "opentelemetry": {"watching"},
}
"""Libraries that may be imported in these rooms alone."""

NOT_PURE = {
    "asyncio", "http", "multiprocessing", "random", "requests", "select", "selectors", "signal", "socket", "sqlite3",
    "ssl", "subprocess", "tempfile", "time", "urllib.request", "urllib3",
}  # fmt: skip
"""What the pure floor does without: networks, processes, clocks and dice of its own."""


@dataclass(frozen=True)
class Import:
    """One name that a module imports: at once, when a function runs, or for the type checker alone."""

    importer: str
    imported: str
    line: int


def files(*where: str) -> list[Path]:
    """All Python files in folders (or the files themselves) of the repository."""
    found: list[Path] = []
    for name in where:
        path = ROOT / name
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def module_of(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in files(*SOURCES)}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports_of(name: str) -> Iterator[Import]:
    """Everything a module imports; ``from package import module`` counts as the module."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(name, inner if inner in MODULES else base, node.lineno)


IMPORTS = [found for name in MODULES for found in imports_of(name)]


def place(name: str) -> tuple[float, str] | None:
    """Floor and room of one of our modules, None for anything else."""
    while name:
        if name in FLOORS and (name != "receiver" or "receiver" in MODULES):
            return FLOORS[name]
        name = name.rpartition(".")[0]
    return None


def ours(name: str) -> bool:
    """Whether a name is a module of this repository's sources."""
    return name.partition(".")[0] in ("handlers", "receiver", "wsgi", "deploy")


def test_every_module_has_its_floor() -> None:
    """A new file says where it stands: in this test's table, or in a room that stands there."""
    for name in MODULES:
        inside = name == "receiver" or place(name) != FLOORS["receiver"]
        assert inside, f"{name} is on no floor"
    for name in FLOORS:
        assert name == "deploy" or name in MODULES, f"{name} does not exist any more"


def test_imports_go_down() -> None:
    """From floors below, or from the own room: never sideways, never up."""
    wrong = []
    for found in IMPORTS:
        if not ours(found.imported):
            continue
        here, there = place(found.importer), place(found.imported)
        assert here is not None
        assert there is not None, f"{found.importer}:{found.line} imports {found.imported}, which does not exist"
        if there[1] != here[1] and there[0] >= here[0]:
            wrong.append(f"{found.importer}:{found.line} imports {found.imported}")
    assert wrong == []


@pytest.mark.parametrize("library", HOMES)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    """Flask in the faces, SQLAlchemy in the store: what can be exchanged is in one place."""
    wrong = [
        f"{found.importer}:{found.line}"
        for found in IMPORTS
        if found.imported.partition(".")[0] == library and (place(found.importer) or (0, ""))[1] not in HOMES[library]
    ]
    assert wrong == []


def test_handlers_are_leaves() -> None:
    """A provider's file needs the standard library, requests and marshmallow; of the kit only ``_http`` calls."""
    allowed = {"handlers", "requests", "urllib3", "marshmallow", *sys.stdlib_module_names}
    for found in IMPORTS:
        if place(found.importer) == FLOORS["handlers"]:
            top = found.imported.partition(".")[0]
            assert top in allowed, f"{found.importer}:{found.line} imports {found.imported}"
            if top in ("requests", "urllib3", "socket", "http"):
                assert found.importer in ("handlers._http", "handlers._deadline"), f"{found.importer} calls by itself"


def test_outside_only_the_door_of_the_handlers_is_used() -> None:
    """``handlers``, never ``handlers._something``, nor one provider by its name."""
    for found in IMPORTS:
        if found.imported.startswith("handlers.") and place(found.importer) != FLOORS["handlers"]:
            pytest.fail(f"{found.importer}:{found.line} imports {found.imported}")


def test_the_sandbox_shares_nothing() -> None:
    """One misreading of a provider's pages cannot hide on both sides of the wire."""
    for found in IMPORTS:
        if place(found.importer) == FLOORS["receiver.sandbox"] and ours(found.imported):
            assert place(found.imported) == FLOORS["receiver.sandbox"], f"{found.importer} imports {found.imported}"


def test_the_pure_floor_is_pure() -> None:
    """No network, no process, no clock and no dice of its own: everything is passed in."""
    for found in IMPORTS:
        if place(found.importer) == PURE:
            names = {found.imported, found.imported.partition(".")[0]}
            assert not names & NOT_PURE, f"{found.importer}:{found.line} imports {found.imported}"
    clocks = {"now", "utcnow", "today", "time", "monotonic", "time_ns", "sleep"}
    for name, tree in TREES.items():
        for node in ast.walk(tree) if place(name) == PURE else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in clocks, f"{name}:{node.lineno} asks for the time"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("open", "print", "input"), f"{name}:{node.lineno} does I/O"


def test_differences_between_databases_are_in_one_file() -> None:
    """Whoever adds a database, or looks for what one does differently, reads ``store/dialect.py``."""
    home = "receiver.store.dialect"
    for found in IMPORTS:
        if found.imported.startswith(("sqlalchemy.dialects", "sqlite3", "psycopg")):
            apart = found.importer in ("receiver.store.arrays", "receiver.store.direct")  # too long for one file
            assert apart or found.importer == home or ".migrations" in found.importer, f"{found.importer}:{found.line}"
    for name, tree in TREES.items():
        if name == home or ".migrations" in name or (place(name) or (0, ""))[1] != "store":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "dialect":
                pytest.fail(f"{name}:{node.lineno} asks which database it is")


def test_sql_is_in_the_store_alone() -> None:
    """No other room writes statements as text."""
    words = re.compile(r"^\s*(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA|CREATE TABLE) ?", re.DOTALL)
    for name, tree in TREES.items():
        for node in ast.walk(tree) if (place(name) or (0, ""))[1] != "store" else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not words.match(node.value), f"{name}:{node.lineno} writes SQL"


def test_no_circles_of_imports() -> None:
    """Any module can be read, and imported, first: an import inside a function hides a circle, and opens none."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in IMPORTS:
        if found.imported in MODULES:
            graph[found.importer].add(found.imported)
    state: dict[str, int] = {}

    def visit(name: str, path: list[str]) -> None:
        if state.get(name) == 1:
            pytest.fail(" → ".join([*path[path.index(name) :], name]))
        if name not in state:
            state[name] = 1
            for further in sorted(graph[name] - {name}):
                visit(further, [*path, name])
            state[name] = 2

    for name in graph:
        visit(name, [])


# Shape -------------------------------------------------------------------------------------------------


def test_no_file_is_too_long() -> None:
    """What does not fit on a few screens is more than one thing; migrations are written by a generator."""
    for path in files(*SOURCES, "tests"):
        if "versions" in path.parts:
            continue
        limit = LONGEST_TEST if path.is_relative_to(ROOT / "tests") else LONGEST
        lines = path.read_text().count("\n")
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines"


def test_names_say_what_is_inside() -> None:
    """No drawer for odds and ends."""
    for path in files(*SOURCES, "tests"):
        for part in path.relative_to(ROOT).with_suffix("").parts:
            assert part.strip("_") not in ("utils", "util", "common", "helpers", "helper", "misc"), path


@pytest.mark.parametrize("name", handlers.available())
def test_every_provider_is_complete(name: str) -> None:
    """A handler, a test of it, its other side in the sandbox, and a row in the table of providers."""
    assert (ROOT / "handlers" / f"{name}.py").is_file()
    assert (ROOT / "receiver" / "sandbox" / f"{name}.py").is_file()
    test = (ROOT / "tests" / "handlers" / f"test_{name}.py").read_text()
    assert "HandlerConformance" in test
    assert f"| `{name}` |" in (ROOT / "handlers" / "README.md").read_text()


def test_every_test_says_its_promise() -> None:
    """One sentence that tells what breaks for whom when it fails."""
    for path in files("tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and path.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_everything_public_is_described() -> None:
    """Modules, classes and functions that others may use say what goes in and comes out."""
    for name, tree in TREES.items():
        if ".migrations" not in name:
            assert ast.get_docstring(tree) or not tree.body, f"{name} has no docstring"
        for node, public in public_definitions(tree):
            if public and not ast.get_docstring(node) and not overrides(node):
                pytest.fail(f"{name}:{node.lineno} {node.name} has no docstring")


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_definitions(tree: ast.Module | ast.ClassDef, public: bool = True) -> Iterator[tuple[Definition, bool]]:
    """Classes and functions of a module, and those of its classes, each with whether others may use it."""
    for node in tree.body:
        if isinstance(node, Definition):
            visible = public and not node.name.startswith("_")
            yield node, visible
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, visible)


def overrides(node: Definition) -> bool:
    """Whether a definition only answers to a name that a framework gives it."""
    return isinstance(node, ast.ClassDef) and node.name == "Meta"
