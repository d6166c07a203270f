"""A fake root with a small graph, and shorthands to evaluate Cypher expressions in tests."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from neo4j.time import DateTime

from graph.cypher import syntax
from graph.cypher.expressions import Context, Scope, compile_expression
from graph.cypher.parser import parse
from graph.cypher.references import boxed, tighten
from graph.values import Node, Relationship
from graph.vector import Chunk, Kind, Vector

NOW = DateTime(2024, 2, 3, 4, 5, 6, 7, datetime.UTC)


class FakeRoot:
    """Nodes 0 to 3 and relationships 0 and 1, as ``graph.store.Root`` would give them."""

    def __init__(self) -> None:
        self.node_data: dict[int, tuple[tuple[str, ...], dict[str, Any]]] = {
            0: (("Person",), {"name": "Ann", "age": 31}),
            1: (("Person", "Admin"), {"name": "Bob", "age": 42}),
            2: ((), {"name": "Cy"}),
            3: (("City",), {"name": 7, "age": 1.5}),
        }
        self.relationship_data: dict[int, tuple[str, int, int, dict[str, Any]]] = {
            0: ("KNOWS", 0, 1, {"since": 1999}),
            1: ("LIVES_IN", 1, 3, {}),
        }
        self.gathers = 0

    def node_property(self, ids: Any, key: str) -> Vector:
        self.gathers += 1
        values = [self.node_data.get(int(i), ((), {}))[1].get(key) for i in ids]
        return Vector.from_values(values)

    def relationship_property(self, ids: Any, key: str) -> Vector:
        none: tuple[str, int, int, dict[str, Any]] = ("", 0, 0, {})
        values = [self.relationship_data.get(int(i), none)[3].get(key) for i in ids]
        return Vector.from_values(values)

    def nodes_alive(self, ids: Any) -> Any:
        return np.array([int(i) in self.node_data for i in ids], dtype=np.bool_)

    def relationships_alive(self, ids: Any) -> Any:
        return np.array([int(i) in self.relationship_data for i in ids], dtype=np.bool_)

    def node_properties(self, node_id: int) -> dict[str, Any]:
        return dict(self.node_data.get(node_id, ((), {}))[1])

    def relationship_properties(self, relationship_id: int) -> dict[str, Any]:
        return dict(self.relationship_data[relationship_id][3])

    def has_label(self, ids: Any, label: str) -> Any:
        return np.array([label in self.node_data.get(int(i), ((), {}))[0] for i in ids], np.bool_)

    def labels_of(self, node_id: int) -> tuple[str, ...]:
        return self.node_data.get(node_id, ((), {}))[0]

    def relationship_types(self, ids: Any) -> Any:
        return np.array([int(i) for i in ids], dtype=np.int64)

    def type_name(self, type_id: int) -> str:
        return self.relationship_data[type_id][0]

    def relationship_ends(self, ids: Any) -> tuple[Any, Any]:
        ends = [self.relationship_data[int(i)] for i in ids]
        return np.array([e[1] for e in ends], np.int64), np.array([e[2] for e in ends], np.int64)

    def nodes(self, ids: Any) -> list[Node]:
        self.gathers += 1
        return [Node(int(i), *self.node_data[int(i)]) for i in ids]

    def relationships(self, ids: Any) -> list[Relationship]:
        found = [(int(i), self.relationship_data[int(i)]) for i in ids]
        return [Relationship(i, t, a, b, dict(p)) for i, (t, a, b, p) in found]


def context(parameters: Mapping[str, Any] | None = None, **settings: Any) -> Context:
    return Context(FakeRoot(), parameters or {}, NOW, random.Random(1), **settings)


def expression(text: str) -> syntax.Expression:
    """The syntax tree of an expression."""
    statement = parse(f"RETURN {text} AS x")
    assert isinstance(statement, syntax.Query)
    clause = statement.parts[0].clauses[0]
    assert isinstance(clause, syntax.Return)
    return clause.projection.items[0].expression


def evaluate(
    text: str,
    columns: Mapping[str, Vector] | None = None,
    parameters: Mapping[str, Any] | None = None,
    length: int | None = None,
) -> list[Any]:
    """The values of an expression over columns, one for each row."""
    columns = dict(columns or {})
    if length is None:
        length = len(next(iter(columns.values()))) if columns else 1
    scope = Scope(dict.fromkeys(columns))
    compiled = compile_expression(expression(text), scope)
    vector = compiled.evaluate(Chunk(columns, length), context(parameters))
    assert len(vector) == length
    return boxed(vector)


def value(text: str, **parameters: Any) -> Any:
    """The value of an expression without variables."""
    return evaluate(text, parameters=parameters)[0]


def column(values: Sequence[Any]) -> Vector:
    return tighten(values)


def nodes(*ids: int | None) -> Vector:
    valid = None if None not in ids else np.array([i is not None for i in ids])
    return Vector(Kind.NODE, np.array([i or 0 for i in ids], dtype=np.int64), valid)


def relationships(*ids: int) -> Vector:
    return Vector(Kind.RELATIONSHIP, np.array(ids, dtype=np.int64))


def same(a: Any, b: Any) -> bool:
    """Equal in type and value; NaN is the same as NaN, -0.0 is not 0.0's business here."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    if isinstance(a, (list, tuple)) and type(a) in (list, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(x, b[k]) for k, x in a.items())
    return bool(a == b)
