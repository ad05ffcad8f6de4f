"""The OpenAPI document leaves nothing unsaid: each part of it is described, and shown by an example that is valid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from flask import Flask

import handlers
from receiver.web.errors import TITLES
from receiver.web.samples import REQUESTS
from tests.test_docs import app

__all__ = ["app"]  # the fixture

Part = tuple[str, dict[str, Any]]
"""A part of the document, and where it is."""


@pytest.fixture(scope="module")
def document(app: Flask) -> Any:
    """The document."""
    return app.test_client().get("/openapi.json").json


def operations(document: Any) -> Iterator[Part]:
    """Every operation and webhook, each with the parameters of its path."""
    for path, item in {**document["paths"], **document["webhooks"]}.items():
        for method, operation in item.items():
            if method != "parameters":
                whole = [*item.get("parameters", []), *operation.get("parameters", [])]
                yield f"{method.upper()} {path}", {**operation, "parameters": whole}


def contents(document: Any) -> Iterator[Part]:
    """Every body that is sent or answered, by media type."""
    bodies = [(where, operation.get("requestBody")) for where, operation in operations(document)]
    bodies += answers(document)
    for where, body in bodies:
        for kind, content in (body or {}).get("content", {}).items():
            yield f"{where} {kind}", content


def answers(document: Any) -> Iterator[Part]:
    """Every answer; those that many operations share once."""
    for where, operation in operations(document):
        for status, answer in operation["responses"].items():
            if "$ref" not in answer:
                yield f"{where} {status}", answer
    yield from document["components"]["responses"].items()


def inner(schema: Any, where: str) -> Iterator[Part]:
    """Every member of a schema, however deep; what is referred to is looked at by itself."""
    for name, member in schema.get("properties", {}).items():
        yield f"{where}.{name}", member
        yield from inner(member, f"{where}.{name}")
    for deeper in (schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", [])):
        if isinstance(deeper, dict):
            yield from inner(deeper, where)


def shown(part: dict[str, Any]) -> list[Any]:
    """The examples of a parameter, body or header."""
    given = [part["example"]] if "example" in part else []
    given += [example["value"] for example in part.get("examples", {}).values()]
    return given or part["schema"].get("examples", [])


def validator(document: Any, schema: Any) -> jsonschema.Draft202012Validator:
    """What a schema of the document takes, formats included."""
    whole = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())


def problems(document: Any, parts: Iterator[Part]) -> list[str]:
    """The parts that have no example, or one that their schema refuses."""
    found = []
    for where, part in parts:
        if not shown(part):
            found.append(f"{where}: no example")
        for example in shown(part):
            found += [f"{where}: {error.message}" for error in validator(document, part["schema"]).iter_errors(example)]
    return found


def test_every_operation_and_section_is_described(document: Any) -> None:
    """A reader learns of each operation what it does, in a line and in full."""
    assert not [where for where, found in operations(document) if not (found["summary"] and found.get("description"))]
    assert not [tag for tag in document["tags"] if not tag["description"]]
    assert {tag for _, found in operations(document) for tag in found.get("tags", [])} <= {
        tag["name"] for tag in document["tags"]
    }


def parameters(document: Any) -> Iterator[Part]:
    """Every parameter in a path, query or header."""
    for where, operation in operations(document):
        for parameter in operation["parameters"]:
            yield f"{where} {parameter['name']}", parameter


def test_every_parameter_is_described_with_a_valid_example(document: Any) -> None:
    """Nobody has to guess what a parameter means or how it is written."""
    assert not [where for where, parameter in parameters(document) if not parameter.get("description")]
    assert not problems(document, parameters(document))


def test_every_body_has_valid_examples(document: Any) -> None:
    """Each request and each answer, those of errors too, is shown as it can really be."""
    assert not problems(document, contents(document))


def test_every_answer_and_its_headers_are_described(document: Any) -> None:
    """A reader learns what each status means, and each header that comes with it."""
    assert not [where for where, answer in answers(document) if not answer["description"]]
    headers = [
        (f"{where} {name}", header)
        for where, answer in answers(document)
        for name, header in answer.get("headers", {}).items()
    ]
    assert not [where for where, header in headers if not header.get("description")]
    assert not problems(document, iter(headers))


def test_every_field_is_described(document: Any) -> None:
    """Each member of each schema has a meaning."""
    schemas = [(name, schema) for name, schema in document["components"]["schemas"].items()]
    schemas += [(where, content["schema"]) for where, content in contents(document)]
    missing = [
        where for name, schema in schemas for where, member in inner(schema, name) if not member.get("description")
    ]
    assert not missing


def test_every_schema_has_a_valid_example_with_every_field(document: Any) -> None:
    """No field is left for the reader to imagine: of what comes in each by itself, of what goes out all together."""
    wrong = []
    for name, schema in document["components"]["schemas"].items():
        fields = schema.get("properties", {})
        if "examples" not in schema:
            given = {field: member.get("examples") for field, member in fields.items()}
            wrong += [f"{name}.{field}: no example" for field, examples in given.items() if not examples]
            parts = [(field, member) for field, member in fields.items()]
        else:
            parts = [(name, schema)]
            wrong += [f"{name}.{field}: not in the example" for field in fields.keys() - schema["examples"][0].keys()]
        for field, part in parts:
            for example in part.get("examples", []):
                wrong += [f"{field}: {error.message}" for error in validator(document, part).iter_errors(example)]
    assert not wrong


def test_tasks_that_are_shown_can_be_submitted() -> None:
    """Whoever tries an example in the page gets a task, for every provider."""
    bodies = list(REQUESTS["NewTaskSchema"].values())
    assert {body["provider"] for body in bodies} == set(handlers.available())
    for body in bodies:
        handlers.find(body["provider"]).operations[body["operation"]].schema().load(body["input"])


def test_every_kind_of_problem_is_shown(document: Any) -> None:
    """Each error that an operation can answer stands there as it comes."""
    kinds = {
        example["value"]["type"].rpartition(":")[2]
        for answer in document["components"]["responses"].values()
        for content in answer["content"].values()
        for example in content["examples"].values()
    }
    assert kinds == set(TITLES) - {"bad-notice", "method-not-allowed"}  # of callbacks; of no operation


def test_who_takes_parameters_says_that_they_can_be_too_long(document: Any) -> None:
    """Generated clients and fuzzers meet no status that is not in the document: 414 is what a long address gets."""
    takers = {
        where
        for where, operation in operations(document)
        if any(parameter["in"] == "query" for parameter in operation["parameters"])
    }
    assert {"GET /v1/tasks", "GET /v1/providers/{provider}/{resource}"} <= takers
    assert takers == {where for where, operation in operations(document) if "414" in operation["responses"]}
