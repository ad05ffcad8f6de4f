"""Connections whose machine is gone without a word, on one machine and without any right."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_SO_ATTACH_FILTER = 26
_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # a packet filter: "take 0 bytes"


def deafen(number: int) -> None:
    """From now on no packet is taken or acknowledged that comes to this socket. ``number``: of its file."""
    with socket.socket(fileno=os.dup(number)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(_NOTHING)))
