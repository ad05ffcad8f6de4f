"""Ports of this machine: one that is free, and why one cannot be used."""

from __future__ import annotations

import errno
import socket

import click


def free_port() -> int:
    """A port of this machine's loopback address that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def bindable(host: str, port: int) -> tuple[str, int]:
    """The web address, a free port chosen for 0; a ClickException says why it cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return host, probe.getsockname()[1]
    except OSError as error:
        mend = "Set RECEIVER_BIND to an address of this machine, e.g. 127.0.0.1:8000."
        if error.errno == errno.EADDRINUSE:
            mend = "Stop what listens there, or set RECEIVER_BIND to another port."
        elif error.errno == errno.EACCES:
            mend = "Ports below 1024 need a right that this process does not have; set RECEIVER_BIND to a higher one."
        raise click.ClickException(f"{host}:{port} cannot be used: {error.strerror or error}. {mend}") from None
