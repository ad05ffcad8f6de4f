"""Callback Receiver: one service between your software and generative-AI providers."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("callback-receiver")
except PackageNotFoundError:  # run from a copy that was never installed
    __version__ = "0"

__all__ = ["__version__"]
