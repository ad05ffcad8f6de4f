"""The document and the service agree: requests made from the document, good and bad ones, find no difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, strategies
from schemathesis import GenerationMode, checks
from schemathesis.schemas import APIOperation

from receiver.config import Settings, read_settings
from receiver.runtime import Runtime
from receiver.web import create_app
from receiver.web.face import face_of
from tests.databases import Template
from tests.web.conftest import KEY, SAMPLE, Caller, Clock, Progress, set_environment

OPERATIONS = [
    "submit_task", "list_tasks", "get_task", "cancel_task", "get_timeline",
    "list_providers", "get_resource", "upload_file",
    "create_subscriber", "list_subscribers", "get_subscriber", "change_subscriber", "delete_subscriber",
    "get_subscriber_secret", "rotate_subscriber_secret", "ping_subscriber", "count_replay", "replay_to_subscriber",
    "list_events", "get_event", "list_deliveries", "get_delivery", "retry_delivery",
    "get_signing_secret", "rotate_signing_secret", "live", "ready", "show_metrics",
]  # fmt: skip
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
SENSE = {
    "submit_task": SAMPLE,
    "create_subscriber": {
        "url": "http://127.0.0.1:9/",
        "event_types": ["task.*"],
        "secret": None,
        "headers": {"X": "y"},
    },
    "change_subscriber": {"url": "http://127.0.0.1:9/x", "event_types": ["task.failed"], "headers": {"X": None}},
    "rotate_subscriber_secret": {"overlap": 0, "secret": None},
}
"""What no schema can say (which providers there are, which addresses are allowed), put into some of the good bodies."""
AWAY = "get_resource", "upload_file", "ready"  # no provider answers here, and no worker runs


@pytest.fixture(scope="module")
def fresh(template: tuple[Template, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a database for all tests of this file."""
    with template[0].copy(tmp_path_factory.mktemp("fuzz")) as url:
        with pytest.MonkeyPatch.context() as patch:
            set_environment(patch, url, template[1])
            found = read_settings()
        yield found


@pytest.fixture(scope="module")
def prepared(fresh: Settings) -> Iterator[Any]:
    """The document's operations by id, and the ids of things that exist."""
    clock = Clock()
    runtime = Runtime.build(fresh, clock)
    app = create_app(runtime)
    face_of(app).alarm.stop()  # nobody waits: what asks to wait is answered at once
    me = Caller(app.test_client(), KEY)
    hook = {"url": "http://127.0.0.1:9/", "event_types": ["*"]}
    spare = me.post("/v1/subscribers", hook).json["id"]  # to be deleted; the newest one stays
    me.post("/v1/subscribers", hook)
    me.submit()
    Progress(runtime, clock).finish()
    me.post("/v1/tasks", SAMPLE)
    things = {
        f"{noun.rstrip('s') if noun != 'deliveries' else 'delivery'}_id": me.get(f"/v1/{noun}").json["data"][0]["id"]
        for noun in ("tasks", "subscribers", "events", "deliveries")
    }
    # keys are tested elsewhere; here every request has one
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)
    found = {result.ok().definition.raw["operationId"]: result.ok() for result in schema.get_all_operations()}
    yield found, things, spare
    runtime.close()


def test_every_operation_is_tried(prepared: Any) -> None:
    """A new operation cannot be left out."""
    assert sorted(prepared[0]) == sorted(OPERATIONS)


def sensible(case: schemathesis.Case) -> schemathesis.Case:
    """The case with values that the service can accept."""
    if isinstance(case.body, dict):
        case.body = {**case.body, **SENSE[case.operation.definition.raw["operationId"]]}
    return case


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_document_and_the_service_agree(prepared: Any, name: str, mode: GenerationMode) -> None:
    """Documented statuses, types, headers and shapes only; bad requests are refused; no failure is provoked."""
    operations, things, spare = prepared
    operation: APIOperation[Any, Any, Any, Any] = operations[name]
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body or operation.path_parameters):
        return  # there is nothing in it that could be bad
    known = {
        parameter.name: things[parameter.name] for parameter in operation.path_parameters if parameter.name in things
    }
    if name == "delete_subscriber":
        known = {"subscriber_id": spare}
    strategy = operation.as_strategy(generation_mode=mode)
    if known and mode is GenerationMode.POSITIVE:
        strategy = strategies.one_of(operation.as_strategy(generation_mode=mode, path_parameters=known), strategy)
    if name in SENSE and mode is GenerationMode.POSITIVE:
        strategy = strategies.one_of(strategy.map(sensible), strategy)
    chosen = [check for check in CHECKS if name not in AWAY or check is not checks.not_a_server_error]

    @hypothesis.settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def run(case: schemathesis.Case) -> None:
        if mode is GenerationMode.NEGATIVE:  # written into a URL, every value of a pair is a text, and so a good one
            hypothesis.assume("metadata" not in (case.query or {}))
        case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=chosen)

    run()
