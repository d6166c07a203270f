"""shortestPath and allShortestPaths: breadth first from both ends, a level at a time.

Each side keeps its visited nodes (a bitmap over node ids) and, for each level, the relationships
over which nodes were first reached. The side with the smaller frontier takes the next step. The
first node in both frontiers ends the search: the sides have then taken ``i`` and ``j`` steps, and
no path is shorter than ``i + j``. Paths are read off the levels backwards from the meeting nodes.
A shortest path repeats no node, so relationship uniqueness needs no check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graph.cypher.operators.base import Execution, Operator, entity_ids, pick
from graph.cypher.operators.expand import DIRECTIONS, expand_pieces
from graph.cypher.operators.variable import Steps
from graph.cypher.references import PathRef, RelationshipRef
from graph.cypher.syntax import Direction
from graph.distinct import common, distinct
from graph.vector import Chunk, IntArray, Kind, Vector

__all__ = ["ShortestPathOperator"]

_FLIPPED = {
    Direction.OUT: Direction.IN,
    Direction.IN: Direction.OUT,
    Direction.BOTH: Direction.BOTH,
}
Walk = tuple[tuple[int, ...], tuple[int, ...]]  # nodes, relationships


@dataclass(slots=True)
class _Level:
    """Relationships over which the nodes of one level were reached, by reached node."""

    nodes: IntArray  # sorted; a node stands once for each relationship that reaches it
    parents: IntArray
    relationships: IntArray


@dataclass(slots=True)
class _Side:
    """One end of the search."""

    direction: Direction
    frontier: IntArray
    seen: npt.NDArray[np.bool_]
    levels: list[_Level] = field(default_factory=list)


class ShortestPathOperator(Operator):
    """For each row the shortest path, or all of them, between two bound nodes."""

    __slots__ = ("every", "input", "path", "relationship", "source", "steps", "target")

    def __init__(
        self,
        input: Operator,
        ends: tuple[str, str],
        relationship: str,
        path: str | None,
        steps: Steps,
        *,
        every: bool,
    ) -> None:
        self.input = input
        self.source, self.target = ends
        self.relationship = relationship
        self.path = path
        self.steps = steps
        self.every = every

    def run(self, execution: Execution) -> Iterator[Chunk]:
        for chunk in self.input.stream(execution):
            sources, source_valid = entity_ids(chunk.columns[self.source], Kind.NODE)
            targets, target_valid = entity_ids(chunk.columns[self.target], Kind.NODE)
            rows: list[int] = []
            walks: list[Walk] = []
            for row in range(chunk.length):
                execution.budget.check()
                if source_valid is not None and not source_valid[row]:
                    continue
                if target_valid is not None and not target_valid[row]:
                    continue
                for walk in self._walks(
                    execution, chunk, row, int(sources[row]), int(targets[row])
                ):
                    rows.append(row)
                    walks.append(walk)
                    if len(rows) >= execution.chunk_rows:
                        yield self._output(chunk, rows, walks)
                        rows, walks = [], []
                    if not self.every:
                        break
            if rows:
                yield self._output(chunk, rows, walks)

    def _output(self, chunk: Chunk, rows: list[int], walks: list[Walk]) -> Chunk:
        lists = [[RelationshipRef(id) for id in walk[1]] for walk in walks]
        added = {self.relationship: Vector.objects(lists)}
        if self.path is not None:
            added[self.path] = Vector.objects([PathRef(*walk) for walk in walks])
        return pick(chunk, np.array(rows, dtype=np.int64), added)

    # ----------------------------------------------------------------- the search

    def _walks(
        self, execution: Execution, chunk: Chunk, row: int, source: int, target: int
    ) -> Iterator[Walk]:
        if source == target:
            # The empty path, where the pattern allows it; a way round is never the shortest.
            if self.steps.minimum == 0:
                yield (source,), ()
            return
        forward = self._side(execution, source, self.steps.direction)
        backward = self._side(execution, target, _FLIPPED[self.steps.direction])
        hops = 0
        while len(forward.frontier) and len(backward.frontier):
            if self.steps.maximum is not None and hops >= self.steps.maximum:
                return
            execution.budget.check()
            hops += 1
            side = forward if len(forward.frontier) <= len(backward.frontier) else backward
            self._step(execution, chunk, row, side)
            meeting = common(forward.frontier, backward.frontier)
            if len(meeting):
                yield from _joined(forward, backward, meeting.tolist())
                return

    def _side(self, execution: Execution, node: int, direction: Direction) -> _Side:
        seen = np.zeros(max(int(execution.context.root.next_node_id), node + 1), dtype=np.bool_)
        seen[node] = True
        return _Side(direction, np.array([node], dtype=np.int64), seen)

    def _step(self, execution: Execution, chunk: Chunk, row: int, side: _Side) -> None:
        root = execution.context.root
        direction = DIRECTIONS[side.direction]
        nodes: list[IntArray] = []
        parents: list[IntArray] = []
        found: list[IntArray] = []
        for positions, relationships, neighbours in expand_pieces(
            root, side.frontier, direction, self.steps.types
        ):
            execution.budget.check()
            fresh = np.flatnonzero(~side.seen[neighbours])
            positions, relationships = positions[fresh], relationships[fresh]
            neighbours = neighbours[fresh]
            rows = np.full(len(relationships), row, dtype=np.int64)
            allowed = self.steps.allowed(execution, chunk, rows, relationships)
            if allowed is not None:
                positions, relationships = positions[allowed], relationships[allowed]
                neighbours = neighbours[allowed]
            nodes.append(neighbours)
            parents.append(side.frontier[positions])
            found.append(relationships)
        reached = np.concatenate(nodes)
        order = np.argsort(reached, kind="stable")
        level = _Level(reached[order], np.concatenate(parents)[order], np.concatenate(found)[order])
        side.levels.append(level)
        side.frontier = distinct(level.nodes)
        side.seen[side.frontier] = True


def _joined(forward: _Side, backward: _Side, meeting: list[int]) -> Iterator[Walk]:
    """Whole paths through the meeting nodes, in the pattern's direction."""
    for node in meeting:
        for nodes_in, relationships_in in _back(forward.levels, len(forward.levels), node):
            for nodes_out, relationships_out in _back(backward.levels, len(backward.levels), node):
                yield (
                    nodes_in[::-1] + nodes_out[1:],
                    relationships_in[::-1] + relationships_out,
                )


def _back(levels: list[_Level], depth: int, node: int) -> Iterator[Walk]:
    """Ways from ``node``, reached at ``depth``, back to where the side began.

    Recursion is as deep as the path is long, so it is spelled out with a stack.
    """
    stack: list[tuple[int, int, tuple[int, ...], tuple[int, ...]]] = [(depth, node, (node,), ())]
    while stack:
        level_number, current, nodes, relationships = stack.pop()
        if level_number == 0:
            yield nodes, relationships
            continue
        level = levels[level_number - 1]
        start, stop = np.searchsorted(level.nodes, (current, current + 1))
        for place in range(int(stop) - 1, int(start) - 1, -1):
            parent = int(level.parents[place])
            found = (*relationships, int(level.relationships[place]))
            stack.append((level_number - 1, parent, (*nodes, parent), found))
