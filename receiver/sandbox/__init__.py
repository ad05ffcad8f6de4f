"""The sandbox: all providers on one port of this machine, strict where they are, with faults on demand.

It speaks the providers' side of the wire and is written from their pages alone. It imports no handler and no
other part of the receiver, so that a misreading in one cannot be confirmed by the other.
"""

from ._app import RunningSandbox, create_sandbox, running_sandbox, serve
from ._settings import SandboxSettings

__all__ = ["RunningSandbox", "SandboxSettings", "create_sandbox", "running_sandbox", "serve"]
