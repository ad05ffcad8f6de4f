"""The documentation and the code agree: what is in one is in the other."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
from flask import Flask

import handlers
from handlers import ErrorCode
from receiver.cli import main as command_line
from receiver.config import SETTINGS, read_settings
from receiver.dialling import OutboundError
from receiver.models import DeliveryStatus, EventType, TaskStatus, Verdict
from receiver.runtime import Runtime
from receiver.web import create_app
from receiver.web import errors as problems
from tests.markdown import ROOT, Page, page, pages

PREFIXES = ("RECEIVER", *(name.upper() for name in handlers.available()))
OPTIONS = [(name, option) for name in handlers.available() for option in handlers.options_of(handlers.find(name))]
EVERYWHERE = {page.name: page for page in pages()}


# --- Settings --------------------------------------------------------------------------------------


def defaults_documented() -> dict[str, str]:
    """Name → default, as the tables of the settings say."""
    rows = [row for row in page("docs/settings.md").rows if len(row) == 3]
    return {row[0].strip("`"): "" if row[1] == "–" else row[1].strip("`") for row in rows}


def test_every_setting_of_the_service_is_documented_with_its_default() -> None:
    """An operator finds each setting of the service, and the default that is in force."""
    shown = defaults_documented()
    assert {setting.name: shown.get(setting.name) for setting in SETTINGS} == {
        setting.name: setting.default for setting in SETTINGS
    }


def test_bounds_of_settings_are_those_in_force() -> None:
    """Whoever keeps to the bounds that stand beside a setting is not refused; whoever goes beyond them is."""
    meanings = {row[0].strip("`"): row[2] for row in page("docs/settings.md").rows if len(row) == 3}
    bounds = {setting: re.search(r"(\d[\d.]*) to (\d+)", meanings[setting.name]) for setting in SETTINGS}
    # Not how long a text is, which is judged beside the other settings.
    numbers = [setting for setting, found in bounds.items() if found and setting.parse is not str]
    assert len(numbers) == 10
    for setting in numbers:
        low, high = bounds[setting].groups()  # type: ignore[union-attr]  # those that have none are left out
        setting.parse(low)
        setting.parse(high)
        for beyond in (str(int(low) - 1) if low.isdecimal() else str(float(low) / 2), str(int(high) + 1)):
            with pytest.raises(ValueError, match=r"^must be"):
                setting.parse(beyond)


@pytest.mark.parametrize(("provider", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_option_of_a_handler_is_documented_with_its_default(provider: str, option: handlers.Option) -> None:
    """An operator finds each setting of each provider, and the default that is in force."""
    text = defaults_documented()[handlers.variable_of(provider, option)]
    expected = handlers.find(provider).poll_schedule if option.name == "poll_schedule" else option.default
    if not text:
        assert not expected, f"the documentation shows no default, but it is {expected!r}"
    else:
        assert option.parse(text) == expected


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """Nobody sets a variable that nothing reads."""
    known = {setting.name for setting in SETTINGS} | {handlers.variable_of(name, option) for name, option in OPTIONS}
    known |= set(variables_of_the_command_line())
    named = re.compile(rf"(?<![A-Z_])(?:{'|'.join(PREFIXES)})_[A-Z0-9_]*[A-Z0-9]")
    wrong = [
        f"{name}: {variable}"
        for name, found in EVERYWHERE.items()
        for variable in named.findall(found.text)
        if variable not in known and variable.removesuffix("_FILE") not in known
    ]
    assert not wrong


def test_settings_of_every_provider_exist_for_every_provider() -> None:
    """``<PROVIDER>_…`` in the documentation names only what each provider has."""
    common = set.intersection(
        *({option.name.upper() for name, option in OPTIONS if name == provider} for provider in handlers.available())
    )
    for name, found in EVERYWHERE.items():
        used = set(re.findall(r"(?<!SANDBOX_)<PROVIDER>_([A-Z_]+)", found.text))
        assert used <= common, f"{name} names {used - common}"
    assert set(re.findall(r"<PROVIDER>_([A-Z_]+)", page("docs/settings.md").text)) == common


# --- Words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "heading", "words"),
    [
        ("docs/tasks.md", "States", TaskStatus),
        ("docs/tasks.md", "Error codes", ErrorCode),
        ("docs/webhooks.md", "Event types", EventType),
        ("docs/webhooks.md", "What counts as success", [*OutboundError, "http_status"]),
    ],
)
def test_words_of_the_code_are_those_of_the_documentation(name: str, heading: str, words: Any) -> None:
    """Whoever handles every word of a table handles every word that can come."""
    terms = [term for term in page(name).section(heading).terms if term != "Retry-After"]
    assert sorted(terms) == sorted(str(word) for word in words)


def test_verdicts_are_documented() -> None:
    """Every verdict that a timeline can show is explained."""
    assert {str(verdict) for verdict in Verdict} <= set(page("docs/tasks.md").section("Callbacks and queries").terms)


def test_delivery_states_and_reasons_are_documented() -> None:
    """Every state of a delivery, and every reason for giving it up, is explained, and no other."""
    source = "".join((ROOT / "receiver" / name).read_text() for name in ("lifecycle.py", "subscribers.py"))
    reasons = set(re.findall(r'DeliveryStatus\.DEAD, None, "(\w+)"', source))
    reasons |= set(re.findall(r'end_pending\([^)]*"(\w+)"\)', source))
    assert reasons
    terms = page("docs/webhooks.md").section("Retries").terms
    assert set(terms) - {"status", "reason"} == {str(status) for status in DeliveryStatus} | reasons


def test_kinds_of_timeline_steps_are_documented() -> None:
    """Every kind of step that a timeline can show is explained, and no other."""
    source = "".join(path.read_text() for path in (ROOT / "receiver").rglob("*.py") if "cli" not in path.parts)
    kinds = set(re.findall(r'add_step\([^"]*?"(\w+)"', source)) | set(re.findall(r'Step\([^"()]*?"(\w+)"', source))
    kinds |= {"attempt"}  # written over several lines, with a sum before its kind
    assert set(page("docs/tasks.md").section("The timeline").terms) == kinds


def test_the_state_diagram_knows_every_state_and_no_other() -> None:
    """The picture of a task's life shows exactly the states that there are."""
    (diagram,) = (text for kind, text in page("docs/tasks.md").fences if kind == "mermaid")
    drawn = {word for pair in re.findall(r"(\S+) --> ([\w*\[\]]+)", diagram) for word in pair} - {"[*]"}
    assert drawn == {str(status) for status in TaskStatus}


def test_event_types_that_are_named_exist() -> None:
    """Nobody subscribes to an event that never comes."""
    named = {
        span
        for found in EVERYWHERE.values()
        for span in found.spans
        if re.fullmatch(r"(task|subscriber)\.[a-z_]+", span) and not span.endswith(".py")
    }
    assert named == {str(kind) for kind in EventType}


# --- Providers -------------------------------------------------------------------------------------


def test_every_provider_is_documented_everywhere() -> None:
    """A provider is in the README and has its part in the pages on providers, settings and tasks."""
    for provider in handlers.available():
        title = handlers.find(provider).title
        assert f"`{provider}`" in page("README.md").text
        assert f"| `{provider}` |" in page("handlers/README.md").text
        assert f"`{provider}`" in page("docs/settings.md").section(title).text
        assert f"(providers/{provider}.md)" in page("docs/providers.md").text
        for heading in ("When the answer to a submission is lost", "Callbacks and queries"):
            assert provider in page("docs/tasks.md").section(heading).terms


@pytest.mark.parametrize("provider", handlers.available())
def test_operations_are_documented(provider: str) -> None:
    """A provider's page lists exactly its operations, their needed inputs, callbacks and resources."""
    handler = handlers.find(provider)
    found = page(f"docs/providers/{provider}.md")
    section = found.section("Operations")
    assert section.terms == list(handler.operations)
    for row in section.rows:
        operation = handler.operations[row[0].strip("`")]
        needed = {name for name, field in operation.schema().fields.items() if field.required}
        assert needed <= set(re.findall(r"`(\w+)`", row[-1])), operation.name
        assert ("experimental" in row[1]) == operation.experimental, operation.name
        if len(row) == 4:
            assert (row[2] == "yes") == operation.callbacks, operation.name
    assert all(f"`{resource}`" in section.text for resource in handler.resources)
    assert found.text.startswith(f"# {handler.title}\n")
    assert handler.docs in found.text
    credentials = [option for option in handlers.options_of(handler) if option.credential]
    assert all(handlers.variable_of(provider, option) in found.section("Credentials").text for option in credentials)
    assert all(found.section(heading).text.strip() for heading in ("Callbacks", "Quirks and limits"))


@pytest.mark.parametrize("provider", handlers.available())
def test_assumptions_are_listed_with_the_settings_that_change_them(provider: str) -> None:
    """Whatever a provider leaves open stands on its page, so that who knows better finds the setting."""
    handler = handlers.find(provider)
    listed = page(f"docs/providers/{provider}.md").section("What is assumed").text
    rows = page("docs/settings.md").section(handler.title).rows
    assumed = [row[0].strip("`") for row in rows if "assumed" in row[2]]
    assumed += [handlers.variable_of(provider, option) for option in handler.options if "assumed" in option.help]
    assert [name for name in assumed if name not in listed] == []


# --- Routes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application on a database of its own, with no provider configured."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(tuple(f"{prefix}_" for prefix in PREFIXES))]:
            environment.delenv(name)
        environment.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('docs')}/receiver.db")
        runtime = Runtime.build(read_settings())
    runtime.prepare()
    runtime.sweeping.beat("worker")
    yield create_app(runtime)
    runtime.close()


def routes(app: Flask) -> set[tuple[str, str]]:
    """(method, path) of every route for programs; parameters are written ``{}``, files and pages left out."""
    return {
        (method, re.sub(r"<[^>]+>", "{}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if "path:" not in rule.rule and (rule.rule == "/" or not rule.endpoint.startswith("dashboard."))
    }


def calls(found: Page) -> set[tuple[str, str]]:
    """(method, path) of what is written like `GET /v1/tasks/{id}?wait=30`."""
    named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`\"']*)", "\n".join(found.code))
    return {(method, re.sub(r"\{[^}]+\}", "{}", path.partition("?")[0])) for method, path in named}


def filled(path: str) -> str:
    """A documented path with something in the place of each parameter."""
    noun = {"tasks": "task", "subscribers": "sub", "events": "evt", "deliveries": "dlv"}
    ids = re.sub(r"/(\w+)/\{[^}]*\}", lambda found: f"/{found[1]}/{noun.get(found[1], 'x')}_" + "0" * 26, path)
    return re.sub(r"\{[^}]*\}", "x", ids)


def test_every_route_is_documented(app: Flask) -> None:
    """A caller finds each route of the service in the page on the API."""
    assert routes(app) - calls(page("docs/api.md")) == set()


def test_no_route_is_documented_that_does_not_exist(app: Flask) -> None:
    """Every method and path that the documentation names is answered by a route."""
    adapter = app.url_map.bind("localhost")
    missing = []
    for name, found in EVERYWHERE.items():
        if name == "docs/sandbox.md":  # it is about the providers' own paths
            continue
        for method, path in calls(found) - routes(app):
            if not path.startswith("/hooks") and not adapter.test(filled(path), method):  # /hooks: of the subscriber
                missing.append(f"{name}: {method} {path}")
        paths = re.findall(r"(?<![\w/])(?:http://127\.0\.0\.1:8000)?(/v1/[\w/{}.-]*[\w}])", "\n".join(found.code))
        missing += [f"{name}: {path}" for path in paths if not adapter.allowed_methods(filled(path))]
    assert not missing


def test_metrics_are_documented(app: Flask) -> None:
    """Every metric that `/metrics` shows is documented, and no other."""
    text = app.test_client().get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (receiver_\w+) (\w+)$", text, re.MULTILINE))
    shown = {name for name in kinds if not name.endswith("_created")}
    assert set(page("docs/operating.md").section("Metrics").terms) == shown


def lines_logged() -> list[tuple[str, str, set[str]]]:
    """(level, event, fields) of each line that the code logs under a name that stands there."""
    found = []
    for path in sorted((ROOT / "receiver").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
                said = node.args[0]
                if isinstance(said, ast.Constant) and not path.is_relative_to(ROOT / "receiver" / "sandbox"):
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                    found.append((ast.unparse(node.func).removeprefix("log."), str(said.value), fields))
    return found


def test_lines_of_the_log_are_documented() -> None:
    """What an operator finds in the log has the fields that the page says, and all that happens as usual is there."""
    logged = lines_logged()
    elsewhere = {"submit", "query", "log lines lost"}  # named by a variable, and no line of a logger
    documented: set[str] = set()
    for row in page("docs/operating.md").section("Logs").rows:
        events = set(row[0].split(", ")) - {"`event`"}
        documented |= events
        known = set().union(*(fields for _, event, fields in logged if event in events))
        assert events & elsewhere or set(re.findall(r"`(\w+)`", row[2])) <= known, row
    assert documented - elsewhere <= {event for _, event, _ in logged}
    assert {event for level, event, _ in logged if level == "info"} <= documented


def test_problems_are_documented() -> None:
    """Every kind of problem that the service answers is explained, and no other."""
    assert sorted(page("docs/api.md").section("Errors").terms) == sorted(problems.TITLES)


# --- Commands --------------------------------------------------------------------------------------


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path below ``receiver``; groups are followed by what is in them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


def variables_of_the_command_line() -> list[str]:
    """Environment variables that options of the commands read."""
    every: list[click.Command] = [command_line, *(command for _, command in commands(command_line))]
    read = [parameter.envvar for command in every for parameter in command.params if parameter.envvar]
    return [name for names in read for name in ([names] if isinstance(names, str) else names)]


def test_every_command_is_documented() -> None:
    """Whoever reads the README and the page of the terminal meets every command."""
    code = " ".join([*page("README.md").code, *page("docs/terminal.md").code])
    missing = [" ".join(path) for path, _ in commands(command_line) if f"receiver {' '.join(path)}" not in code]
    assert not missing


def test_commands_that_are_named_exist_with_their_options() -> None:
    """Every command line in the documentation can be typed as it stands."""
    known = dict(commands(command_line))
    wrong = []
    sources = {name: found.code for name, found in EVERYWHERE.items()}
    unit = (ROOT / "deploy" / "receiver.service").read_text()
    sources |= {f"help of {command.name}": (command.help or "").splitlines() for command in known.values()}
    sources["deploy/receiver.service"] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    for name, pieces in sources.items():
        for piece in pieces:
            for line in re.findall(r"(?:^|[\s(]|\bbin/)receiver ([a-z-].*)", piece):
                words = line.split()
                path = tuple(words[:1])
                if words[0] == "--help":
                    continue
                if isinstance(known.get(path), click.Group) and len(words) > 1 and (*path, words[1]) in known:
                    path = (*path, words[1])
                command = known.get(path)
                options = {flag for flag in words if re.fullmatch(r"--[a-z-]+", flag)} - {"--help"}
                if command is None or options - {flag for param in command.params for flag in param.opts}:
                    wrong.append(f"{name}: receiver {line}")
    assert not wrong


def test_make_targets_that_are_named_exist_and_all_are_named() -> None:
    """Every `make` in the documentation works, and every target is explained."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target
        for found in EVERYWHERE.values()
        for piece in found.code
        for target in re.findall(r"(?:^|[;&] *)make ([a-z-]+)", piece)
    }
    assert named == targets - {"help"}


# --- Links ----------------------------------------------------------------------------


@pytest.mark.parametrize("found", pages(), ids=lambda found: found.name)
def test_links_lead_somewhere(found: Page) -> None:
    """No link within the project is dead, its heading included."""
    dead = []
    for link in found.links:
        target, _, anchor = link.partition("#")
        path = (ROOT / found.name).parent / target if target else ROOT / found.name
        if not path.exists() or (
            anchor and anchor not in page(str(path.resolve().relative_to(ROOT.resolve()))).anchors
        ):
            dead.append(link)
    assert not dead
