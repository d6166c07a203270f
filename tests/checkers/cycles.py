"""Graphs of transactions with kinds of edges, and the cycles in them.

An edge says that one transaction must come before another, and why:

    WW  it wrote a version that the other's version comes right after
    WR  it wrote the version that the other read
    RW  it read a version, and the other wrote the next one
    RT  it had its answer before the other was asked for

A set of kinds is a bit mask, so an edge between two nodes is a mask, too. ``components`` is
Tarjan's algorithm (1972) without recursion. ``cycle_through`` finds a shortest cycle through an
edge, breadth first; with ``apart`` it finds one in which no two RW edges follow each other, walking
over pairs of a node and "came by RW". Such closed walks are exactly the cycles that snapshot
isolation forbids (Fekete et al. 2005; Cerone and Gotsman 2016: (WW + WR) ; RW? has no cycle).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["RT", "RW", "WR", "WW", "Edge", "Graph", "components", "kind_names"]

WW, WR, RW, RT = 1, 2, 4, 8
_NAMES = {WW: "ww", WR: "wr", RW: "rw", RT: "rt"}

Edge = tuple[int, int, int]  # from, to, one kind


def kind_names(kinds: int) -> str:
    return "+".join(name for kind, name in _NAMES.items() if kinds & kind)


class Graph:
    """Nodes are numbers; between two nodes there is at most one edge of each kind."""

    def __init__(self) -> None:
        self.edges: dict[int, dict[int, int]] = {}

    def add(self, source: int, target: int, kind: int) -> None:
        """An edge from a node to itself says nothing and is not kept."""
        if source != target:
            out = self.edges.setdefault(source, {})
            out[target] = out.get(target, 0) | kind

    def successors(self, node: int, kinds: int) -> Iterator[int]:
        for target, has in self.edges.get(node, {}).items():
            if has & kinds:
                yield target

    def components(self, kinds: int) -> list[list[int]]:
        """Strongly connected components of two nodes and more, over edges of these kinds."""
        return components(
            {node: list(self.successors(node, kinds)) for node in self.edges},
        )

    def components_apart(self, kinds: int) -> list[list[int]]:
        """Likewise, over closed walks in which no two RW edges follow each other.

        The components are given by their nodes; a node can be in two of them.
        """
        split: dict[int, list[int]] = {}
        for node in self.edges:
            plain = [2 * target for target in self.successors(node, kinds & ~RW)]
            split[2 * node + 1] = plain
            split[2 * node] = plain + [2 * t + 1 for t in self.successors(node, kinds & RW)]
        found = components(split)
        return [sorted({state // 2 for state in component}) for component in found]

    def edges_within(self, component: Iterable[int], kind: int) -> list[Edge]:
        """Edges of a kind whose ends are both in the component."""
        inside = frozenset(component)
        return [
            (node, target, kind)
            for node in sorted(inside)
            for target in self.successors(node, kind)
            if target in inside
        ]

    def cycle_through(
        self, edge: Edge, kinds: int, inside: frozenset[int], *, apart: bool = False
    ) -> list[Edge] | None:
        """A shortest cycle that begins with ``edge`` and goes on by edges of ``kinds``.

        It stays ``inside``. With ``apart``, no two RW edges follow each other, around the end too.
        """
        first, start, kind = edge
        origin = (start, kind == RW)
        came: dict[tuple[int, bool], tuple[tuple[int, bool], int]] = {}
        seen = {origin}
        queue = deque([origin])
        while queue:
            state = queue.popleft()
            node, by_rw = state
            if node == first and not (apart and by_rw and kind == RW):
                return [edge, *_path(state, origin, came)]
            for target, has in self.edges.get(node, {}).items():
                if target not in inside:
                    continue
                for step in (WW, WR, RT, RW):
                    if not has & kinds & step or (apart and by_rw and step == RW):
                        continue
                    after = (target, step == RW and apart)
                    if after not in seen:
                        seen.add(after)
                        came[after] = (state, step)
                        queue.append(after)
        return None


def _path(
    state: tuple[int, bool],
    origin: tuple[int, bool],
    came: Mapping[tuple[int, bool], tuple[tuple[int, bool], int]],
) -> list[Edge]:
    path: list[Edge] = []
    while state != origin:
        before, kind = came[state]
        path.append((before[0], state[0], kind))
        state = before
    return path[::-1]


def components(edges: Mapping[int, list[int]]) -> list[list[int]]:
    """Strongly connected components of two nodes and more."""
    numbers: dict[int, int] = {}
    lowest: dict[int, int] = {}
    waiting: list[int] = []
    is_waiting: set[int] = set()
    found: list[list[int]] = []
    for root in edges:
        if root in numbers:
            continue
        walk = [(root, iter(edges[root]))]
        numbers[root] = lowest[root] = len(numbers)
        waiting.append(root)
        is_waiting.add(root)
        while walk:
            node, targets = walk[-1]
            for target in targets:
                if target not in numbers:
                    numbers[target] = lowest[target] = len(numbers)
                    waiting.append(target)
                    is_waiting.add(target)
                    walk.append((target, iter(edges.get(target, ()))))
                    break
                if target in is_waiting:
                    lowest[node] = min(lowest[node], numbers[target])
            else:
                walk.pop()
                if walk:
                    lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[node])
                if lowest[node] == numbers[node]:
                    component: list[int] = []
                    while not component or component[-1] != node:
                        component.append(waiting.pop())
                        is_waiting.discard(component[-1])
                    if len(component) > 1:
                        found.append(component)
    return found
