"""A child process that ends with its parent, even when the parent is killed outright."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "RECEIVER_PARENT_PID"
"""The environment variable that tells a child whose child it is."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOK_EVERY = 1.0


def stop_with_parent() -> None:
    """From now on a SIGTERM ends this process when the parent named in the environment is gone.

    Does nothing without one. Linux's kernel sends the signal itself; elsewhere a thread looks every
    second. Call it early, from the main thread.
    """
    expected = os.environ.pop(PARENT, "")
    if not expected.isdecimal():
        return
    if not _ask_the_kernel():
        threading.Thread(target=_watch, args=(int(expected),), name="parent-watch", daemon=True).start()
    if os.getppid() != int(expected):  # it was gone before we asked
        raise SystemExit(1)


def _ask_the_kernel() -> bool:
    """Have SIGTERM sent when the parent dies; whether this system can do it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
