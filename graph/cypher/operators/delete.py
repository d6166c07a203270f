"""DELETE and DETACH DELETE of nodes, relationships and paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graph.cypher.evaluation import Compiled
from graph.cypher.graves import Graves
from graph.cypher.operators.base import Execution, Operator
from graph.cypher.operators.expand import expand_pieces
from graph.cypher.operators.writer import consume, writer_of
from graph.cypher.references import NodeRef, PathRef, RelationshipRef
from graph.distinct import distinct
from graph.errors import CypherTypeError
from graph.vector import Chunk, IntArray, Kind, Vector
from graph.write_set import WriteSet

__all__ = ["DeleteOperator"]


class DeleteOperator(Operator):
    """Deletes what the expressions give; null and what is deleted already are passed over."""

    __slots__ = ("detach", "expressions", "input")

    def __init__(self, input: Operator, expressions: tuple[Compiled, ...], detach: bool) -> None:
        self.input = input
        self.expressions = expressions
        self.detach = detach

    def run(self, execution: Execution) -> Iterator[Chunk]:
        chunks = consume(self.input, execution)
        nodes: list[IntArray] = []
        relationships: list[IntArray] = []
        for chunk in chunks:
            execution.budget.check()
            for expression in self.expressions:
                vector = expression.evaluate(chunk, execution.context)
                _gather(vector, nodes, relationships)
        self._delete(execution, _joined(nodes), _joined(relationships))
        yield from chunks

    def _delete(self, execution: Execution, nodes: IntArray, relationships: IntArray) -> None:
        root = execution.context.root
        nodes = nodes[root.nodes_alive(nodes)]
        if self.detach and len(nodes):
            attached = [relationships]
            for _, found, _ in expand_pieces(root, nodes, "both", None):
                execution.budget.check()
                attached.append(found)
            relationships = _joined(attached)
        relationships = relationships[root.relationships_alive(relationships)]
        if len(relationships):
            context = execution.context
            if context.graves is None:
                context.graves = Graves(root)
            context.graves.bury(relationships)
        step = WriteSet()
        step.delete_relationships(relationships)
        step.delete_nodes(nodes)
        writer_of(execution).apply(step)


def _joined(arrays: list[IntArray]) -> IntArray:
    """Distinct ids, ascending."""
    if not arrays:
        return np.zeros(0, dtype=np.int64)
    return distinct(np.concatenate(arrays))


def _gather(vector: Vector, nodes: list[IntArray], relationships: list[IntArray]) -> None:
    if vector.kind is Kind.NODE or vector.kind is Kind.RELATIONSHIP:
        ids = vector.data if vector.valid is None else vector.data[vector.valid]
        (nodes if vector.kind is Kind.NODE else relationships).append(ids)
        return
    node_ids: list[int] = []
    relationship_ids: list[int] = []
    for value in vector.to_list():
        if value is None:
            continue
        if type(value) is NodeRef:
            node_ids.append(value.id)
        elif type(value) is RelationshipRef:
            relationship_ids.append(value.id)
        elif type(value) is PathRef:
            node_ids.extend(value.nodes)
            relationship_ids.extend(value.relationships)
        else:
            raise CypherTypeError(
                f"Expected a node, a relationship or a path to delete, but got {value!r}."
            )
    nodes.append(np.array(node_ids, dtype=np.int64))
    relationships.append(np.array(relationship_ids, dtype=np.int64))
