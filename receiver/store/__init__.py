"""The database: tables, transactions, and one module of queries per noun."""

from sqlalchemy import Connection

from receiver.store.database import Store

__all__ = ["Connection", "Store"]
