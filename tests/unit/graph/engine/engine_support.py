"""A graph that tests can query, and the options they vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from neo4j.time import DateTime

from graph.batch import BatchOutcome
from graph.digest import digest
from graph.engine import Engine, QueryLimits, Result, Transaction, run_batch
from graph.store import IdAllocator, Root
from graph.values import Node, Path, Relationship
from graph.write_set import WriteSet
from graph.write_set_codec import decode, encode

NOW = DateTime(2024, 5, 17, 12, 30, 0, 0)


# Plans are shared by all graphs of a test run, as by all transactions of a server.
_ENGINE = Engine()


class Graph:
    """One root and an engine. Every ``run`` is a transaction of its own."""

    def __init__(self, *script: str, chunk_rows: int = 2048) -> None:
        self.engine = _ENGINE
        self.root = Root.empty()
        self.allocator = IdAllocator(0, 0)
        self.limits = QueryLimits(chunk_rows=chunk_rows)
        self.log: list[WriteSet] = []
        for text in script:
            self.run(text)

    def transaction(self, **options: Any) -> Transaction:
        settings: dict[str, Any] = {"now": NOW, "limits": self.limits, "random": Random(3)}
        return Transaction(self.engine, self.root, self.allocator, **{**settings, **options})

    def result(self, text: str, parameters: Mapping[str, Any] | None = None) -> Result:
        transaction = self.transaction()
        result = transaction.run(self.engine.prepare(text), parameters or {})
        self.root = transaction.root
        if not transaction.write_set.empty:
            self.log.append(transaction.write_set)
        return result

    def run(self, text: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return self.result(text, parameters).rows()

    def column(self, text: str, **parameters: Any) -> list[Any]:
        return [row[0] for row in self.run(text, **parameters)]

    def value(self, text: str, **parameters: Any) -> Any:
        rows = self.run(text, **parameters)
        assert len(rows) == 1 and len(rows[0]) == 1, rows
        return rows[0][0]

    def batch(
        self, requests: Sequence[tuple[str, Mapping[str, Any]]], **options: Any
    ) -> BatchOutcome:
        prepared = [(self.engine.prepare(text), parameters) for text, parameters in requests]
        outcome = run_batch(
            self.engine,
            self.root,
            self.allocator,
            prepared,
            now=NOW,
            limits=self.limits,
            random=Random(3),
            **options,
        )
        self.root = outcome.root
        self.log.extend(write_set for _, write_set in outcome.writes)
        return outcome

    def replayed(self) -> Root:
        """A fresh root to which everything written here was applied, by way of bytes."""
        root = Root.empty()
        for write_set in self.log:
            root.apply(decode(encode(write_set)))
        return root

    def digest(self) -> bytes:
        return digest(self.root)


def plain(value: Any) -> Any:
    """Values without identity of Python objects: entities by id, containers by content."""
    if isinstance(value, Node):
        return ("node", value.id, value.labels, plain(value.properties))
    if isinstance(value, Relationship):
        return ("relationship", value.id, value.type, value.start, value.end)
    if isinstance(value, Path):
        return ("path", plain(value.nodes), plain(value.relationships))
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
