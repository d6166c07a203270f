"""The same question asked in different ways must have the same answer.

Random graphs; a table of queries that are run with and without indexes, with chunks of 1, 3 and
2,048 rows, with the pattern written from either end, and where the planner has two ways to answer,
in both. A naive walk in Python is the judge for trails, reachability and shortest paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from engine_support import Graph, plain
from hypothesis import given, settings
from hypothesis import strategies as st

Edges = list[tuple[int, int, str]]

_NODES = 5
_edges = st.lists(
    st.tuples(st.integers(0, _NODES - 1), st.integers(0, _NODES - 1), st.sampled_from(["R", "S"])),
    max_size=9,
)
_INDEXES = ("CREATE INDEX FOR (n:A) ON (n.i)", "CREATE INDEX FOR (n:B) ON (n.i, n.k)")

_QUERIES = [
    "MATCH (a:A {i: $x})-[r]->(b) RETURN a.i, b.i, type(r)",
    "MATCH (a:A)-[r:R]->(b:B) WHERE a.i = $x OR b.i = $y RETURN a.i, b.i",
    "MATCH (a:A {i: $x}), (b:B {i: $y, k: $y % 2}) RETURN a.i, b.i, a.k = b.k",
    "MATCH (a:A {i: $x}), (b:A {i: $y}) OPTIONAL MATCH (a)-[r]-(b) RETURN type(r)",
    "MATCH (a:A) WHERE a.i IN [$x, $y, $x] RETURN a.i",
    "MATCH (a:A) WHERE a.i >= $x AND a.i < $y RETURN a.i",
    "MATCH (a:A) WHERE $x < a.i <= $y RETURN count(*)",
    "MATCH (a:A), (b:B) WHERE a.k = b.k AND a.i < b.i RETURN a.i, b.i",
    "MATCH (a:A)-[:R]->(m)-[:S]->(b) RETURN a.i, m.i, b.i",
    "MATCH (a:A)-[:R]->(m)<-[:R]-(b) RETURN a.i, m.i, b.i",
    "MATCH (a {i: $x})-[*1..3]-(b {i: $y}) RETURN count(*)",
    "MATCH (a:A)-[*0..2]->(b) RETURN a.i, collect(b.k)",
    "MATCH (a:A) WHERE EXISTS { (a)-[:R*1..2]->(:B {i: $y}) } RETURN a.i",
    "MATCH (a) OPTIONAL MATCH (a)-[:R]->(b:B) WHERE b.i <> $x RETURN a.i, count(b)",
    "MATCH (a) WITH a, COUNT { (a)-->() } AS d WHERE d > 0 RETURN a.i, d",
    "MATCH (a:A)-[:R]->(b) WITH b, count(*) AS c MATCH (b)-[:S]->(d) RETURN b.i, c, d.i",
    "MATCH (a:A)-->(b)-->(c) WHERE a.i = c.i RETURN a.i, b.i",
    "MATCH (a)-[r]->(b), (b)-[s]->(c) WHERE a.k = $x % 2 RETURN id(r), id(s)",
    "MATCH p = (a:A {i: $x})-[:R*1..2]->(b) RETURN [n IN nodes(p) | n.i]",
    "UNWIND [$x, $y] AS i MATCH (a:A {i: i}) MATCH (a)-[r]->(b) RETURN i, b.i",
    "MATCH (a)-[r:R|S]-(b) WHERE id(a) < id(b) RETURN DISTINCT a.i, b.i",
    "MATCH (a:A) RETURN a.i AS i UNION MATCH (b:B) RETURN b.i AS i",
    "MATCH (a:A) RETURN a.k AS k, a.i AS i ORDER BY k DESC, i LIMIT 2",
]


def _graph(edges: Edges, *, indexes: bool = False, chunk_rows: int = 2048) -> Graph:
    graph = Graph(*(_INDEXES if indexes else ()), chunk_rows=chunk_rows)
    labels = {0: "A", 1: "A", 2: "A:B", 3: "B", 4: ""}
    for i in range(_NODES):
        label = f":{labels[i]}" if labels[i] else ""
        graph.run(f"CREATE (n{label} {{i: $i, k: $k}})", i=i, k=i % 2)
    rows = [{"a": a, "b": b} for a, b, _ in edges]
    for row, (_, _, name) in zip(rows, edges, strict=True):
        graph.run(
            f"MATCH (a {{i: $a}}), (b {{i: $b}}) CREATE (a)-[:{name}]->(b)", a=row["a"], b=row["b"]
        )
    return graph


def _bag(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(repr(_sorted_lists(plain(row))) for row in rows)


def _sorted_lists(row: Any) -> Any:
    """Lists made by collect have no order of their own."""
    return [sorted(v, key=repr) if isinstance(v, list) else v for v in row]


@settings(max_examples=25, deadline=None)
@given(_edges, st.integers(0, _NODES), st.integers(0, _NODES))
def test_indexes_and_chunks_change_nothing(edges: Edges, x: int, y: int) -> None:
    graphs = [
        _graph(edges),
        _graph(edges, indexes=True),
        _graph(edges, chunk_rows=1),
        _graph(edges, indexes=True, chunk_rows=3),
    ]
    for text in _QUERIES:
        answers = [_bag(graph.run(text, x=x, y=y)) for graph in graphs]
        assert answers.count(answers[0]) == len(answers), text


_FORWARD_BACKWARD = [
    ("(a:A)-[:R]->(b)", "(b)<-[:R]-(a:A)"),
    ("(a {i: $x})-[r:R|S]->(b)-[s]-(c)", "(c)-[s]-(b)<-[r:R|S]-(a {i: $x})"),
    ("(a)-[:R*1..3]->(b:B)", "(b:B)<-[:R*1..3]-(a)"),
    ("(a:A)-[*0..2]-(b {i: $x})", "(b {i: $x})-[*0..2]-(a:A)"),
]


@settings(max_examples=40, deadline=None)
@given(_edges, st.integers(0, _NODES), st.sampled_from(_FORWARD_BACKWARD))
def test_patterns_read_alike_from_either_end(
    edges: Edges, x: int, patterns: tuple[str, str]
) -> None:
    graph = _graph(edges)
    one, other = (graph.run(f"MATCH {p} RETURN a.i, b.i", x=x) for p in patterns)
    assert Counter(one) == Counter(other)


# --------------------------------------------------------------------------- a naive judge


def _steps(edges: Edges, direction: str) -> dict[int, list[tuple[int, int]]]:
    """node -> (edge, neighbour)."""
    found: dict[int, list[tuple[int, int]]] = {i: [] for i in range(_NODES)}
    for number, (a, b, _) in enumerate(edges):
        if direction in ("->", "-"):
            found[a].append((number, b))
        if direction in ("<-", "-") and not (direction == "-" and a == b):
            found[b].append((number, a))
    return found


def _trails(edges: Edges, direction: str, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, length) of every trail."""
    steps = _steps(edges, direction)

    def walk(start: int, node: int, used: frozenset[int]) -> Iterator[tuple[int, int, int]]:
        if len(used) >= low:
            yield start, node, len(used)
        if len(used) < high:
            for edge, neighbour in steps[node]:
                if edge not in used:
                    yield from walk(start, neighbour, used | {edge})

    for start in range(_NODES):
        yield from walk(start, start, frozenset())


_WAYS = {"->": ("-", "->"), "<-": ("<-", "-"), "-": ("-", "-")}


@settings(max_examples=60, deadline=None)
@given(_edges, st.sampled_from(["->", "<-", "-"]), st.integers(0, 2), st.integers(0, 3))
def test_trails_and_reachability(edges: Edges, direction: str, low: int, more: int) -> None:
    graph = _graph(edges)
    left, right = _WAYS[direction]
    expected = list(_trails(edges, direction, low, low + more))
    pattern = f"MATCH (a){left}[r*{low}..{low + more}]{right}(b) "
    assert Counter(graph.run(pattern + "RETURN a.i, b.i, size(r)")) == Counter(expected)
    pairs = {(a, b) for a, b, _ in expected}
    unnamed = pattern.replace("[r*", "[*")
    found = graph.run(unnamed + "RETURN DISTINCT a.i, b.i")
    assert len(found) == len(pairs) and set(found) == pairs
    counted = graph.run(unnamed + "RETURN a.i, count(DISTINCT b.i)")
    assert dict(counted) == Counter(a for a, _ in pairs)
    exists = f"MATCH (a), (b) WHERE (a){left}[*{low}..{low + more}]{right}(b) RETURN a.i, b.i"
    assert set(graph.run(exists)) == pairs


@settings(max_examples=60, deadline=None)
@given(_edges, st.sampled_from(["->", "<-", "-"]), st.integers(1, 4))
def test_shortest_paths(edges: Edges, direction: str, high: int) -> None:
    graph = _graph(edges)
    left, right = _WAYS[direction]
    lengths: dict[tuple[int, int], int] = {}
    for a, b, length in _trails(edges, direction, 1, high):
        if a != b:
            lengths[a, b] = min(length, lengths.get((a, b), length))
    many = Counter(
        (a, b)
        for a, b, length in _trails(edges, direction, 1, high)
        if a != b and length == lengths[a, b]
    )
    pattern = f"(a){left}[*..{high}]{right}(b)"
    rows = graph.run(f"MATCH (a), (b) MATCH p = shortestPath({pattern}) RETURN a.i, b.i, length(p)")
    assert {(a, b): length for a, b, length in rows} == lengths
    assert len(rows) == len(lengths)
    rows = graph.run(f"MATCH (a), (b) MATCH p = allShortestPaths({pattern}) RETURN a.i, b.i, p")
    assert Counter((a, b) for a, b, _ in rows) == many
    assert len({repr(plain(p)) for _, _, p in rows}) == len(rows)
    for a, b, path in rows:
        assert [path.nodes[0].properties["i"], path.nodes[-1].properties["i"]] == [a, b]
        for position, relationship in enumerate(path.relationships):
            ends = {relationship.start, relationship.end}
            assert {path.nodes[position].id, path.nodes[position + 1].id} == ends


@pytest.mark.parametrize("degree", [10, 5_000])
def test_hubs(degree: int) -> None:
    """A chunk with hubs is expanded in pieces; both sides of a pattern may be the hub."""
    graph = Graph(
        "CREATE (:Hub {i: 0}), (:Hub {i: 1})",
        f"UNWIND range(1, {degree}) AS i CREATE (:N {{i: i}})",
        "MATCH (h:Hub), (n:N) CREATE (n)-[:T]->(h)",
    )
    assert graph.value("MATCH (h:Hub)<--(n) RETURN count(n)") == 2 * degree
    assert graph.value("MATCH (n:N {i: 7}) MATCH (h:Hub) MATCH (n)-->(h) RETURN count(*)") == 2
    assert graph.value("MATCH (h:Hub {i: 0})<--(n)-->(o:Hub) WHERE n.i < 5 RETURN count(o)") == 4
