"""What every request needs, kept with the application: no globals, so any number of applications can live at once."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app

from receiver.limits import RequestLimits
from receiver.runtime import Runtime
from receiver.web.lists import ListTurns
from receiver.web.waiting import Alarm

_NAME = "receiver"
RESERVED_THREADS = 8
"""Threads of a process that no waiting caller may occupy, so that a callback always finds one."""


@dataclass(frozen=True)
class Face:
    """The services, the one alarm that wakes waiting requests of this process, and how much callers may ask."""

    runtime: Runtime
    alarm: Alarm
    limits: RequestLimits
    lists: ListTurns


def attach(app: Flask, runtime: Runtime) -> None:
    """Give an application its services."""
    threads = runtime.settings.web_threads
    alarm = Alarm(runtime.bell, max(1, threads - RESERVED_THREADS))
    app.extensions[_NAME] = Face(runtime, alarm, RequestLimits(runtime.settings.request_rate), ListTurns(threads))


def face_of(app: Flask) -> Face:
    """The face of an application."""
    face: Face = app.extensions[_NAME]
    return face


def runtime() -> Runtime:
    """The services, inside a request."""
    return face_of(current_app).runtime


def alarm() -> Alarm:
    """The alarm, inside a request."""
    return face_of(current_app).alarm


def limits() -> RequestLimits:
    """How often callers may ask, inside a request."""
    return face_of(current_app).limits


def lists() -> ListTurns:
    """The turns of those who read lists, inside a request."""
    return face_of(current_app).lists
