"""Expansion over variable numbers of relationships: trails, and sets of nodes reached.

A trail uses no relationship twice (openCypher 9: relationship uniqueness). Trails are enumerated
depth first by *blocks*: a block is a few thousand partial trails of equal length, held as a matrix
of relationship ids. Expanding a block is a handful of array operations; the stack of blocks
waiting is bounded by depth times fan-out of one block, never by the number of trails.

Where only the nodes reached matter (``reach``), each (row, node) pair is visited once, level by
level. That is equal because the shortest way to a node is a trail, provided that the minimum is at
most 1 (see ``rules/reach.py`` for the case of a node that reaches itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.evaluation import Compiled
from graph.cypher.operators.base import Execution, Operator, entity_ids, pick, true_rows
from graph.cypher.operators.expand import DIRECTIONS, differs, expand_pieces
from graph.cypher.references import RelationshipRef
from graph.cypher.syntax import Direction
from graph.distinct import distinct
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = ["EDGE", "ReachOperator", "StepFilter", "VariableExpandOperator"]

# The column in which a step's relationship stands while its predicate is evaluated.
EDGE = "@edge"
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class StepFilter:
    """What every relationship of a variable-length pattern must satisfy."""

    predicate: Compiled
    columns: tuple[str, ...]  # of the row, that the predicate reads

    def mask(
        self, execution: Execution, chunk: Chunk, rows: IntArray, relationships: IntArray
    ) -> BoolArray:
        names = (*self.columns, *execution.carried)
        columns = {name: chunk.columns[name].take(rows) for name in names}
        columns[EDGE] = Vector(Kind.RELATIONSHIP, relationships)
        tested = Chunk(columns, len(rows))
        return true_rows(self.predicate.evaluate(tested, execution.context))


@dataclass(slots=True)
class _Block:
    """Partial trails of one length: origin rows, the nodes they end at, relationships walked."""

    rows: IntArray
    nodes: IntArray
    trail: npt.NDArray[np.int64]  # one row for each partial trail, one column for each hop


@dataclass(frozen=True, slots=True)
class Steps:
    """Which relationships may be walked, and how many."""

    types: tuple[str, ...] | None
    direction: Direction
    minimum: int
    maximum: int | None
    filter: StepFilter | None
    distinct_from: tuple[str, ...] = ()

    def allowed(
        self, execution: Execution, chunk: Chunk, rows: IntArray, relationships: IntArray
    ) -> BoolArray | None:
        """Where a step's relationship passes the predicate and the rest of the pattern."""
        mask = differs(chunk, self.distinct_from, rows, relationships)
        if self.filter is not None and len(rows):
            passed = self.filter.mask(execution, chunk, rows, relationships)
            mask = passed if mask is None else mask & passed
        return mask


class VariableExpandOperator(Operator):
    """All trails of the allowed lengths."""

    __slots__ = ("input", "into", "relationship", "reverse", "source", "steps", "target")

    def __init__(
        self,
        input: Operator,
        ends: tuple[str, str],
        relationship: str | None,
        steps: Steps,
        *,
        into: bool,
        reverse: bool,
    ) -> None:
        self.input = input
        self.source, self.target = ends
        self.relationship = relationship
        self.steps = steps
        self.into = into
        self.reverse = reverse

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            execution.budget.check()
            ids, valid = entity_ids(chunk.columns[self.source], Kind.NODE)
            rows = np.arange(len(ids)) if valid is None else np.flatnonzero(valid)
            yield from self._trails(execution, chunk, rows, ids[rows])

    def _trails(
        self, execution: Execution, chunk: Chunk, rows: IntArray, nodes: IntArray
    ) -> Iterator[Chunk]:
        steps = self.steps
        alive = execution.context.root.nodes_alive(nodes)
        rows, nodes = rows[alive], nodes[alive]
        stack = [_Block(rows, nodes, np.zeros((len(rows), 0), dtype=np.int64))]
        execution.budget.charge(_block_bytes(stack[0]))
        while stack:
            execution.budget.check()
            block = stack.pop()
            execution.budget.release(_block_bytes(block))
            depth = block.trail.shape[1]
            if depth >= steps.minimum:
                yield from self._output(execution, chunk, block)
            if steps.maximum is not None and depth >= steps.maximum:
                continue
            for following in reversed(self._expand(execution, chunk, block)):
                execution.budget.charge(_block_bytes(following))
                stack.append(following)

    def _expand(self, execution: Execution, chunk: Chunk, block: _Block) -> list[_Block]:
        steps, blocks = self.steps, []
        direction = DIRECTIONS[steps.direction]
        for positions, relationships, neighbours in expand_pieces(
            execution.context.root, block.nodes, direction, steps.types
        ):
            before = block.trail[positions]
            fresh = ~(before == relationships[:, None]).any(axis=1)
            rows = block.rows[positions]
            allowed = steps.allowed(execution, chunk, rows, relationships)
            if allowed is not None:
                fresh &= allowed
            kept = np.flatnonzero(fresh)
            trail = np.concatenate((before[kept], relationships[kept, None]), axis=1)
            rows, neighbours = rows[kept], neighbours[kept]
            for start in range(0, len(kept), _BLOCK_ROWS):
                stop = start + _BLOCK_ROWS
                blocks.append(_Block(rows[start:stop], neighbours[start:stop], trail[start:stop]))
        return blocks

    def _output(self, execution: Execution, chunk: Chunk, block: _Block) -> Iterator[Chunk]:
        rows, nodes, trail = block.rows, block.nodes, block.trail
        if self.into:
            targets, valid = entity_ids(chunk.columns[self.target], Kind.NODE)
            mask = targets[rows] == nodes
            if valid is not None:
                mask &= valid[rows]
            rows, nodes, trail = rows[mask], nodes[mask], trail[mask]
        for start in range(0, len(rows), execution.chunk_rows):
            stop = start + execution.chunk_rows
            added: dict[str, Vector] = {}
            if self.relationship is not None:
                added[self.relationship] = self._lists(trail[start:stop])
            if not self.into:
                added[self.target] = Vector(Kind.NODE, nodes[start:stop])
            yield pick(chunk, rows[start:stop], added)

    def _lists(self, trail: npt.NDArray[np.int64]) -> Vector:
        if self.reverse:
            trail = trail[:, ::-1]
        lists: list[Any] = [[RelationshipRef(id) for id in row] for row in trail.tolist()]
        return Vector.objects(lists)


def _block_bytes(block: _Block) -> int:
    return block.rows.nbytes + block.nodes.nbytes + block.trail.nbytes


class ReachOperator(Operator):
    """Nodes within a number of hops, each once for an input row."""

    __slots__ = ("input", "source", "steps", "target")

    def __init__(self, input: Operator, source: str, target: str, steps: Steps) -> None:
        assert steps.minimum <= 1 and not steps.distinct_from
        self.input = input
        self.source = source
        self.target = target
        self.steps = steps

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            execution.budget.check()
            ids, valid = entity_ids(chunk.columns[self.source], Kind.NODE)
            rows = np.arange(len(ids)) if valid is None else np.flatnonzero(valid)
            for found_rows, found_nodes in self._levels(execution, chunk, rows, ids[rows]):
                for start in range(0, len(found_rows), execution.chunk_rows):
                    stop = start + execution.chunk_rows
                    added = {self.target: Vector(Kind.NODE, found_nodes[start:stop])}
                    yield pick(chunk, found_rows[start:stop], added)

    def _levels(
        self, execution: Execution, chunk: Chunk, rows: IntArray, nodes: IntArray
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """(row, node) pairs not seen before, level by level."""
        root, steps = execution.context.root, self.steps
        alive = root.nodes_alive(nodes)
        rows, nodes = rows[alive], nodes[alive]
        width = max(int(root.next_node_id), 1)
        # A pair is one integer, so that sets of pairs are sorted arrays.
        seen: IntArray = np.zeros(0, dtype=np.int64)
        if steps.minimum == 0:
            seen = np.sort(rows * width + nodes)
            yield rows, nodes
        depth = 0
        direction = DIRECTIONS[steps.direction]
        while len(rows) and (steps.maximum is None or depth < steps.maximum):
            depth += 1
            pairs: list[IntArray] = []
            for positions, relationships, neighbours in expand_pieces(
                root, nodes, direction, steps.types
            ):
                execution.budget.check()
                origin = rows[positions]
                allowed = steps.allowed(execution, chunk, origin, relationships)
                if allowed is not None:
                    origin, neighbours = origin[allowed], neighbours[allowed]
                pairs.append(distinct(origin * width + neighbours))
            found = distinct(np.concatenate(pairs)) if len(pairs) > 1 else pairs[0]
            if len(seen):
                places = np.minimum(np.searchsorted(seen, found), len(seen) - 1)
                found = found[seen[places] != found]
            execution.budget.charge(found.nbytes)
            seen = np.sort(np.concatenate((seen, found)), kind="stable")
            rows, nodes = found // width, found % width
            if len(rows):
                yield rows, nodes
        execution.budget.release(seen.nbytes)
