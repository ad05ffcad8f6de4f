"""The app: every provider under its name, the control API, and the server that runs it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from ._calls import CUT
from ._control import control_blueprint
from ._discovery import provider_modules
from ._settings import SandboxSettings
from ._world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

_MOST_BYTES = 256 * 1024 * 1024


def create_sandbox(settings: SandboxSettings) -> Flask:
    """The WSGI app that plays all providers. Its `World` is in ``app.extensions["sandbox"]``."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MOST_BYTES
    world = app.extensions["sandbox"] = World(settings)
    modules = provider_modules()
    for name, module in modules.items():
        app.register_blueprint(module.blueprint(world), url_prefix=f"/{name}")
    app.register_blueprint(control_blueprint(world), url_prefix="/_sandbox")
    rooted = {name: module.takes_root for name, module in modules.items() if hasattr(module, "takes_root")}
    app.wsgi_app = _Front(app.wsgi_app, rooted)  # type: ignore[method-assign]  # the way Flask documents

    @app.before_request
    def read_whole_body() -> None:
        # An answer given while the body is still on its way would reset the connection under it.
        request.get_data()

    @app.get("/")
    def root() -> Any:
        return redirect("/_sandbox/")

    @app.errorhandler(404)
    def unknown(_: Exception) -> tuple[Response, int]:
        return jsonify(error="nothing here; see /_sandbox/"), 404

    return app


class _Front:
    """What happens around the app: requests to the bare ``/`` are sent on, connections are cut.

    Official clients of some providers can be given a host and a port, but no path.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], takers: dict[str, Callable[..., bool]]) -> None:
        self._app = app
        self._takers = takers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "/") in ("", "/"):
            for name, takes_root in self._takers.items():
                if takes_root(environ):
                    environ["PATH_INFO"] = f"/{name}/"
                    break
        answer = self._app(environ, start_response)
        if environ.get(CUT):
            _cut_connection(environ)
        return answer


def _cut_connection(environ: WSGIEnvironment) -> None:
    """Close the request's socket, so that the caller gets no answer at all.

    Raises ConnectionAbortedError where the server does not hand its socket out (Flask's test client).
    """
    sock = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
    if sock is None:
        raise ConnectionAbortedError("the sandbox cut the connection")
    with contextlib.suppress(OSError):  # the caller may have gone already
        sock.shutdown(socket.SHUT_RDWR)


class _QuietHandler(WSGIRequestHandler):
    """Logs through this module's logger; werkzeug's own would write to the terminal."""

    timeout = 60.0  # seconds of a caller's silence before or within a request, after which its thread is free again

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # werkzeug's name for it
        log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that answers at ``url`` (no slash at the end); ``world`` is its memory."""

    url: str
    world: World


def serve(
    settings: SandboxSettings,
    host: str = "127.0.0.1",
    port: int = 9100,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run the sandbox until interrupted. Port 0 takes a free one.

    ``ready`` is called with the address once it can be called. Raises OSError when the port is taken.
    """
    app = create_sandbox(settings)
    server = _server(app, host, port)
    url = _url(host, server.port)
    log.info("sandbox at %s", url)
    try:
        if ready is not None:
            ready(url)
        server.serve_forever()
    except KeyboardInterrupt:
        log.info("sandbox stopped")
    finally:
        server.server_close()
        app.extensions["sandbox"].close()


@contextlib.contextmanager
def running_sandbox(settings: SandboxSettings) -> Iterator[RunningSandbox]:
    """A sandbox on a thread of this process for the length of a ``with`` block, on a free port of the loopback."""
    app = create_sandbox(settings)
    host = "127.0.0.1"
    server = _server(app, host, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="sandbox", daemon=True)
    thread.start()
    try:
        yield RunningSandbox(_url(host, server.port), app.extensions["sandbox"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions["sandbox"].close()


def _server(app: Flask, host: str, port: int) -> BaseWSGIServer:
    # Bound here because werkzeug prints and leaves the process when the port is taken.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=256) as bound:
        return make_server(host, port, app, threaded=True, request_handler=_QuietHandler, fd=bound.fileno())


def _url(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
