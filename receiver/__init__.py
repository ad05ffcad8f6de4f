"""Callback Receiver."""
