"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient

from receiver.models import EventType
from receiver.web.samples import EXAMPLES
from receiver.web.shapes import SCHEMAS


@pytest.fixture
def document(client: FlaskClient) -> Any:
    """The document."""
    return client.get("/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Every operation: method, path, and what is said of it."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method, path, operation


def refs(value: Any) -> Iterator[str]:
    """All references in the document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)


def test_it_is_openapi_3_1(document: Any) -> None:
    """Its version, and every schema in it is a valid JSON Schema of the dialect that 3.1 uses."""
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(document):
        for parameter in operation.get("parameters", []):
            jsonschema.Draft202012Validator.check_schema(parameter["schema"])


def test_every_reference_leads_somewhere(document: Any) -> None:
    """No dangling names."""
    for ref in set(refs(document)):
        place = document
        for part in ref.removeprefix("#/").split("/"):
            place = place[part]


def test_every_route_is_documented(app: Flask, document: Any) -> None:
    """Nothing of the API and the service is missing, nothing is documented that is not there."""
    there = {
        (method.lower(), re.sub(r"<[^:>]*:?([^>]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/v1/", "/healthz", "/readyz", "/metrics"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == there


def test_every_operation_says_all_it_should(document: Any) -> None:
    """An id, a summary, who may call it, a good answer, and the problems that any operation can have."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for method, path, operation in operations(document):
        assert operation["summary"], path
        if not path.startswith("/v1/"):
            assert operation["security"] == []
            continue
        assert operation["security"] == [{"ApiKey": []}]
        statuses = set(operation["responses"])
        assert {"401", "403", "500", "503"} <= statuses
        assert any(status.startswith("2") for status in statuses)
        assert ("404" in statuses) == ("{" in path), path
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= statuses, (method, path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_what_they_show(document: Any, name: str) -> None:
    """Every example is valid for its schema."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    validator.validate(EXAMPLES[name])


def test_every_type_of_event_is_documented_as_a_webhook(document: Any) -> None:
    """What goes out is described too, with the headers that carry the signature."""
    assert set(document["webhooks"]) == {str(kind) for kind in EventType}
    for kind, item in document["webhooks"].items():
        schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["type"]["const"] == kind
        assert [found["name"] for found in item["post"]["parameters"]] == [
            "webhook-id", "webhook-timestamp", "webhook-signature",
        ]  # fmt: skip


def test_problems_are_documented_as_they_are(document: Any) -> None:
    """Each status has the media type and examples of its own."""
    for name, response in document["components"]["responses"].items():
        (kind,) = response["content"]
        assert kind == "application/problem+json"
        for slug, example in response["content"][kind]["examples"].items():
            assert example["value"]["type"].endswith(slug)
            assert f"Problem{example['value']['status']}" == name
            jsonschema.validate(example["value"], SCHEMAS["Problem"])


def test_the_page_works_without_internet(client: FlaskClient) -> None:
    """Everything it loads comes from here, is there, and has no inline script."""
    with client.get("/docs") as page:
        assert page.content_type.startswith("text/html")
        text = page.get_data(as_text=True)
        policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert not re.search(r"<script(?![^>]*src=)", text)
    assert "http" not in re.sub(r"charset|httpequiv", "", text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        if not address.startswith("data:"):
            with client.get(f"/{address}") as found:
                assert found.status_code == 200, address
    with client.get("/static/docs.js") as script:
        assert not re.search(r"https?://", script.get_data(as_text=True))


def test_licences_of_what_is_shipped_are_shipped(client: FlaskClient) -> None:
    """The viewer's licence stands beside it."""
    with client.get("/static/swagger-ui.LICENSE.txt") as answer:
        assert "Apache License" in answer.get_data(as_text=True)
