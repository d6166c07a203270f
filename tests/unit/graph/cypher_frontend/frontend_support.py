"""Shorthands for tests of the Cypher front end: parts of trees, and errors."""

from __future__ import annotations

from typing import Any

from graph.cypher.analysis import Analysed, analyse
from graph.cypher.parser import parse
from graph.cypher.syntax import (
    Clause,
    Direction,
    Expression,
    Literal,
    NodePattern,
    Parameter,
    PathPattern,
    Property,
    Query,
    RelationshipPattern,
    Return,
    Variable,
)
from graph.errors import CypherError


def expression(text: str) -> Expression:
    """The tree of one expression."""
    clause = clauses(f"RETURN {text}")[0]
    assert isinstance(clause, Return)
    [item] = clause.projection.items
    return item.expression


def clauses(text: str) -> tuple[Clause, ...]:
    """The clauses of a query without UNION."""
    query = parse(text)
    assert isinstance(query, Query)
    [part] = query.parts
    return part.clauses


def refused(text: str, **options: Any) -> CypherError:
    """The error that parsing or analysing ``text`` gives."""
    try:
        found: Analysed = analyse(parse(text), text, **options)
    except CypherError as error:
        return error
    raise AssertionError(f"accepted: {found}")


def lit(value: Any) -> Literal:
    return Literal(value)


def var(name: str) -> Variable:
    return Variable(name)


def prop(name: str, key: str) -> Property:
    return Property(Variable(name), key)


def param(name: str) -> Parameter:
    return Parameter(name)


def node(
    variable: str | None = None, labels: tuple[str, ...] = (), properties: Expression | None = None
) -> NodePattern:
    return NodePattern(variable, labels, properties)


def rel(
    variable: str | None = None,
    types: tuple[str, ...] = (),
    direction: Direction = Direction.OUT,
    properties: Expression | None = None,
    hops: tuple[int | None, int | None] | None = None,
) -> RelationshipPattern:
    return RelationshipPattern(variable, types, direction, properties, hops)


def path(
    *parts: NodePattern | RelationshipPattern,
    variable: str | None = None,
    shortest: str | None = None,
) -> PathPattern:
    """Nodes and relationships in the order they are written."""
    nodes = tuple(part for part in parts if isinstance(part, NodePattern))
    relationships = tuple(part for part in parts if isinstance(part, RelationshipPattern))
    return PathPattern(variable, nodes, relationships, shortest)
