"""CREATE: one write set for all rows, a column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graph.cypher.operators.base import Execution, Operator, entity_ids
from graph.cypher.operators.writer import PropertySource, consume, fresh_ids, writer_of
from graph.cypher.plan import REQUEST
from graph.errors import CypherTypeError
from graph.vector import Chunk, IntArray, Kind, Vector
from graph.write_set import WriteSet

__all__ = ["Blueprint", "CreateOperator", "NewNode", "NewRelationship"]


@dataclass(frozen=True, slots=True)
class NewNode:
    variable: str
    labels: tuple[str, ...]
    properties: PropertySource


@dataclass(frozen=True, slots=True)
class NewRelationship:
    variable: str
    type: str
    source: str
    target: str
    properties: PropertySource


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What is created for each row."""

    nodes: tuple[NewNode, ...]
    relationships: tuple[NewRelationship, ...]

    def build(self, chunk: Chunk, execution: Execution, step: WriteSet) -> Chunk:
        """Add what the rows create to ``step``; the chunk with columns of the new ids."""
        writer = writer_of(execution)
        allocator = writer.allocator
        assert allocator is not None, "only reads run without an allocator"
        rows = chunk.length
        columns = dict(chunk.columns)
        if self.nodes:
            count = len(self.nodes)
            first = allocator.nodes(rows * count)
            for place, node in enumerate(self.nodes):
                ids = fresh_ids(first, rows, count, place)
                properties = node.properties.columns(chunk, execution)
                step.create_nodes(ids, node.labels, properties)
                if writer.shared is not None:
                    writer.shared.note(step, chunk.columns[REQUEST].data)
                columns[node.variable] = Vector(Kind.NODE, ids)
        if self.relationships:
            count = len(self.relationships)
            first = allocator.relationships(rows * count)
            for place, relationship in enumerate(self.relationships):
                ids = fresh_ids(first, rows, count, place)
                step.create_relationships(
                    ids,
                    relationship.type,
                    _end(columns, relationship, relationship.source),
                    _end(columns, relationship, relationship.target),
                    relationship.properties.columns(chunk, execution),
                )
                if writer.shared is not None:
                    writer.shared.note(step, chunk.columns[REQUEST].data)
                columns[relationship.variable] = Vector(Kind.RELATIONSHIP, ids)
        return Chunk(columns, rows)


def _end(columns: dict[str, Vector], relationship: NewRelationship, name: str) -> IntArray:
    ids, valid = entity_ids(columns[name], Kind.NODE)
    if valid is not None and not valid.all():
        shown = "" if name.startswith("@") else f" `{name}`"
        raise CypherTypeError(
            f"Cannot create a relationship of type :{relationship.type}, because the node{shown}"
            " at one of its ends is null."
        )
    return ids


class CreateOperator(Operator):
    """Creates nodes, then relationships, for every row of the input."""

    __slots__ = ("blueprint", "input")

    def __init__(self, input: Operator, blueprint: Blueprint) -> None:
        self.input = input
        self.blueprint = blueprint

    def run(self, execution: Execution) -> Iterator[Chunk]:
        step = WriteSet()
        chunks = consume(self.input, execution)
        for number, chunk in enumerate(chunks):
            execution.budget.check()
            chunks[number] = self.blueprint.build(chunk, execution, step)
        writer_of(execution).apply(step)
        yield from chunks
