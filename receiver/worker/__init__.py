"""The worker: lanes submit and query for every provider, deliver, and sweep; a graceful stop."""

from receiver.worker.worker import Worker, serve

__all__ = ["Worker", "serve"]
