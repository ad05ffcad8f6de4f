"""Which providers there are: a module in this folder without a leading underscore is one.

No list is kept anywhere, so that adding a provider edits no file.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from types import ModuleType


def provider_modules() -> dict[str, ModuleType]:
    """Every provider's module by name, in the order of the alphabet.

    A module offers ``blueprint(world)``, and may offer ``OPTIONS`` (its settings), ``SHORT_NAME`` (another
    spelling of its name in the environment) and ``takes_root(environ)`` (whether a request to the bare ``/``
    of the port is meant for it).
    """
    package = sys.modules[__package__]
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.name[0] != "_")
    return {name: _load(name) for name in names}


@functools.cache
def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")
