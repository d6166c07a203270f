"""Rayft, a highly available property-graph database on Ray: ``db = rayft.connect(...)``."""

from actors.config import ConfigurationError
from actors.errors import RayftError
from actors.handle import Database, QueryError, Record, Result, Transaction, connect
from graph.values import Node, Path, Relationship

__all__ = [
    "ConfigurationError",
    "Database",
    "Node",
    "Path",
    "QueryError",
    "RayftError",
    "Record",
    "Relationship",
    "Result",
    "Transaction",
    "connect",
]
