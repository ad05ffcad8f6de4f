"""``/openapi.json`` and ``/docs``, which work without internet: everything they load comes from here."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, current_app

from receiver.events import dumps
from receiver.web import answers, outgoing
from receiver.web.api import Api

blueprint = Blueprint("documents", __name__)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Only files that come from here are loaded, and nothing that stands in the page itself."""
_NAME = "receiver-openapi"


def attach(app: Flask, api: Api) -> None:
    """Keep the finished document with the application."""
    api.spec.tag({"name": "Service", "description": "Health and numbers; no key is needed."})
    document = api.spec.to_dict()
    document["components"]["schemas"].pop("PaginationMetadata")  # the library's own; our pages need none
    document["paths"].update(outgoing.health())
    document["webhooks"] = outgoing.webhooks()
    app.extensions[_NAME] = dumps(document)


@blueprint.get("/openapi.json")
def document() -> Response:
    """The OpenAPI 3.1 document."""
    return answers.text(current_app.extensions[_NAME])


@blueprint.get("/docs")
def docs() -> Response:
    """The document for people."""
    page = current_app.send_static_file("docs.html")
    page.headers["Content-Security-Policy"] = PAGE_POLICY
    return page
