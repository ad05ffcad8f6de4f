"""The API's frame: flask-smorest, with our strict reading of requests, and an answer documented for every status."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NoReturn

import flask
import flask_smorest  # type: ignore[import-untyped]  # the library has no types
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter

from receiver import __version__
from receiver.errors import Invalid, field_errors
from receiver.models import Scope, id_pattern, storable
from receiver.web import auth, bodies, refusals, samples, shapes
from receiver.web.fields import Matching, Texts
from receiver.web.schemas import Incoming

View = Callable[..., flask.Response]

_PAIR = re.compile(r"([a-z_]+)(?:\.(.+)|\[(.+)\])", re.DOTALL)


class Parser(FlaskParser):
    """Reads requests strictly: unknown names, repeated parameters and odd JSON are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.DEFAULT_UNKNOWN_BY_LOCATION = {**self.DEFAULT_UNKNOWN_BY_LOCATION, "query": RAISE, "json": RAISE}

    def load_json(self, _: flask.Request, schema: Schema) -> Any:
        """The body; see ``bodies``."""
        return bodies.read_json(optional=isinstance(schema, Incoming) and schema.optional_body)

    def load_querystring(self, req: flask.Request, schema: Schema) -> Any:
        """Each parameter once; ``name.key`` and ``name[key]`` are collected where the schema takes pairs."""
        found: dict[str, Any] = {}
        errors: dict[str, list[str]] = {}
        for name, values in req.args.lists():
            pair = _PAIR.fullmatch(name)
            if len(values) > 1:
                errors[name] = ["Must be given once."]
            elif not storable(name + values[0]):
                errors[name] = ["Must be valid Unicode without NUL characters."]
            elif pair and isinstance(schema.load_fields.get(pair[1]), Texts):
                pairs, key = found.setdefault(pair[1], {}), pair[2] or pair[3]
                if key in pairs:  # in the other spelling
                    errors[name] = ["Must be given once."]
                pairs[key] = values[0]
            else:
                found[name] = values[0]
        if errors:
            raise Invalid(errors)
        return found

    def load_headers(self, req: flask.Request, schema: Schema) -> Any:
        """Only the headers that the schema names."""
        names = [loaded.data_key or name for name, loaded in schema.load_fields.items()]
        return {name: req.headers[name] for name in names if name in req.headers}

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> NoReturn:
        """Every problem at once, by field path."""
        messages = error.messages_dict
        (inside,) = messages.values()  # by location, and one location is read at a time
        raise Invalid(field_errors(inside))


class Api(flask_smorest.Api):  # type: ignore[misc]  # the library has no types
    """The document, without the library's own pages, errors and error schema."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Errors are registered for the whole application (``errors.register``)."""

    def _register_responses(self) -> None:
        """Problems stand in ``shapes``, by status."""


@dataclass(frozen=True)
class Answer:
    """One good answer of an operation. ``shape``: a name in ``shapes.SCHEMAS``, or None for no body.

    ``headers``: what each means, and an example. ``example``: where the shape's own does not fit.
    """

    status: int
    shape: str | None
    description: str
    headers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    streams: str | None = None
    example: Mapping[str, Any] | None = None


class Section(flask_smorest.Blueprint):  # type: ignore[misc]  # the library has no types
    """The operations on one noun."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, __name__, url_prefix="/v1", description=description)

    def operation(
        self,
        method: str,
        rule: str,
        answer: Answer,
        *,
        scopes: Sequence[Scope],
        body: type[Schema] | None = None,
        query: type[Schema] | None = None,
        headers: type[Schema] | None = None,
        problems: Sequence[int] = (),
        any_query: bool = False,
        manual: Mapping[str, Any] | None = None,
    ) -> Callable[[View], View]:
        """Declare an operation; what is read from body, query and headers comes as arguments, in this order.

        ``problems``: statuses beside those that follow from the rest. ``any_query``: the view reads the query itself;
        else one without a schema must be empty. ``manual``: more for the document.
        """

        def decorate(view: View) -> View:
            statuses = {401, 403, 422, 429, 500, 503, *problems}
            wrapped = view
            if headers is not None:
                wrapped = self.arguments(headers, location="headers")(wrapped)
            if query is not None:
                wrapped = self.arguments(query, location="query")(wrapped)
            if body is not None:
                optional = issubclass(body, Incoming) and body.optional_body
                examples = {name: {"value": value} for name, value in samples.REQUESTS[body.__name__].items()}
                wrapped = self.arguments(body, location="json", required=not optional, examples=examples)(wrapped)
                statuses |= {400, 413, 415}
            elif method == "POST" and manual is None:
                wrapped = _without_body(wrapped)
                statuses |= {400, 413, 415}
            if query is not None or any_query:
                statuses |= {414}
            else:
                wrapped = _without_query(wrapped)
            if "<" in rule:
                statuses |= {404}
            wrapped = auth.needs(*scopes)(wrapped)
            wrapped = self.doc(
                operationId=view.__name__,
                security=[{"ApiKey": []}],
                responses={**_good(answer), **{status: {"$ref": _ref(status)} for status in sorted(statuses)}},
                **(manual or {}),
            )(wrapped)
            named = re.findall(r":(\w+)>", rule)
            in_path = [{"in": "path", "name": name, **shapes.IN_PATHS[name]} for name in named]
            self.add_url_rule(rule, view.__name__, wrapped, methods=[method], parameters=in_path)
            return view

        return decorate


def _without_query(view: View) -> View:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> flask.Response:
        if flask.request.args:
            raise Invalid({name: ["Unknown field."] for name in flask.request.args})
        return view(*args, **kwargs)

    return guarded


def _without_body(view: View) -> View:
    """No body, or an empty object: members that nobody reads would be an option mistyped, or meant for elsewhere."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> flask.Response:
        given = bodies.read_json(optional=True)
        if not isinstance(given, dict):
            raise Invalid({"body": [Incoming.error_messages["type"]]})
        if given:
            raise Invalid({name: ["Unknown field."] for name in given})
        return view(*args, **kwargs)

    return guarded


def _good(answer: Answer) -> dict[int, Any]:
    said: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        said["headers"] = {
            name: {"description": text, "schema": {"type": "string"}, "example": example}
            for name, (text, example) in answer.headers.items()
        }
    if answer.shape is not None:
        shape = {"$ref": f"#/components/schemas/{answer.shape}"}
        example = samples.EXAMPLES[answer.shape] if answer.example is None else answer.example
        said["content"] = {"application/json": {"schema": shape, "example": example}}
    if answer.streams is not None:
        streamed = {"type": "string", "description": answer.streams}
        said["content"]["text/event-stream"] = {"schema": streamed, "example": samples.STREAM}
    return {answer.status: said}


def _ref(status: int) -> str:
    return f"#/components/responses/Problem{status}"


class IdConverter(BaseConverter):
    """A part of a path that is an id of ours; anything else is not found."""

    def __init__(self, url_map: Any, prefix: str) -> None:
        super().__init__(url_map)
        self.regex = id_pattern(prefix)


class NameConverter(BaseConverter):
    """A part of a path that is the name of a provider or of something it has."""

    regex = "[a-z][a-z0-9_]{0,63}"


def _pattern_of(converter: BaseConverter) -> dict[str, str]:
    return {"type": "string", "pattern": f"^{converter.regex}$"}


def open_api(app: flask.Flask) -> Api:
    """The API of an application, for its sections to be registered with."""
    app.url_map.converters.update(id=IdConverter, name=NameConverter)
    app.config.update(API_TITLE="Callback Receiver", API_VERSION=__version__, OPENAPI_VERSION="3.1.0")
    api = Api(app, spec_kwargs={"info": {"description": shapes.ABOUT}})
    api.register_converter(IdConverter, _pattern_of)
    api.register_converter(NameConverter, _pattern_of)
    api.ma_plugin.converter.add_attribute_function(_own_schema)
    api.ma_plugin.converter.add_parameter_attribute_function(_parameter)
    api.spec.components.security_scheme("ApiKey", shapes.SECURITY)
    for name, schema in shapes.SCHEMAS.items():
        api.spec.components.schema(name, schema)
    for status, response in refusals.RESPONSES.items():
        api.spec.components.response(f"Problem{status}", response)
    return api


def _own_schema(_: Any, loaded: Any, **__: Any) -> dict[str, Any]:
    return loaded.json_schema() if isinstance(loaded, Texts | Matching) else {}


def _parameter(_: Any, loaded: Any, **__: Any) -> dict[str, Any]:
    """The example goes into the text: as the parameter's own it would be filled into the page's form, as a filter."""
    if isinstance(loaded, Texts):
        return {"style": "deepObject", "explode": True}
    return {"description": f"{loaded.metadata['description']} For example `{loaded.metadata['examples'][0]}`."}
