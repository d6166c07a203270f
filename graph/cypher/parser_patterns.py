"""Patterns: ``p = (a:A {x: 1})-[r:R|S*1..3]->(b)``.

A pattern is a list of nodes and relationships in turn. The same reader serves MATCH, CREATE, MERGE
and pattern expressions; what each of them allows is a matter of ``analysis``, which can say it in
terms of what the clause means.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from graph.cypher.lexer import NAMES
from graph.cypher.parser_base import Cursor
from graph.cypher.syntax import (
    Direction,
    Expression,
    NodePattern,
    Parameter,
    PathPattern,
    RelationshipPattern,
)

__all__ = ["PatternParser"]

_SHORTEST: Final = {"SHORTESTPATH": "one", "ALLSHORTESTPATHS": "all"}
_DIRECTIONS: Final = {
    (False, False): Direction.BOTH,
    (False, True): Direction.OUT,
    (True, False): Direction.IN,
    (True, True): Direction.BOTH,
}
_NODE_INSIDE: Final = frozenset([")", ":", "{", "PARAMETER"])
_RELATIONSHIP_BEGIN: Final = frozenset(["-", "["])


class PatternParser(Cursor):
    """Reads patterns."""

    @abstractmethod
    def map_literal(self) -> Expression:
        """Read ``{key: value, ...}``."""

    def patterns(self) -> tuple[PathPattern, ...]:
        """One or more paths separated by commas."""
        paths = [self.path()]
        while self.accept(","):
            paths.append(self.path())
        return tuple(paths)

    def path(self) -> PathPattern:
        """One path, with its variable and ``shortestPath`` if they are there."""
        at = self.at
        variable = None
        if self.kinds[at] != "(" and self.kinds[at + 1 : at + 2] == ["="]:
            variable = self.name("a variable")
            self.at += 1
        shortest = _SHORTEST.get(self.kinds[self.at])
        if shortest is None:
            return self.chain(variable, at)
        self.at += 1
        self.expect("(")
        path = self.chain(variable, at, shortest)
        self.expect(")")
        return path

    def chain(self, variable: str | None, at: int, shortest: str | None = None) -> PathPattern:
        """Node, relationship, node, ..."""
        nodes = [self._node()]
        relationships: list[RelationshipPattern] = []
        kinds = self.kinds
        while kinds[self.at] == "-" or kinds[self.at] == "<":
            relationship, breadth_first = self._relationship()
            relationships.append(relationship)
            nodes.append(self._node())
            if breadth_first:
                shortest = "one"
        if shortest is not None and len(relationships) != 1:
            self.error("A shortest path must have exactly one relationship", at=at)
        return PathPattern(
            variable, tuple(nodes), tuple(relationships), shortest, position=self.starts[at]
        )

    def _node(self) -> NodePattern:
        position = self.starts[self.at]
        if self.kinds[self.at] != "(":
            self.fail("a node pattern '('")
        self.at += 1
        variable = self.name("a variable") if self.is_name() else None
        labels = self.labels() if self.kinds[self.at] == ":" else ()
        properties = self._properties()
        if self.kinds[self.at] != ")":
            self._fail_in_node(variable, labels, properties)
        self.at += 1
        return NodePattern(variable, labels, properties, position=position)

    def _fail_in_node(
        self, variable: str | None, labels: tuple[str, ...], properties: Expression | None
    ) -> None:
        kind = self.kinds[self.at]
        if kind == "|" and labels:
            self.error("Alternatives of labels are not supported: use WHERE n:A OR n:B")
        if kind == "WHERE":
            self.error("WHERE cannot stand in a pattern: write it after the pattern")
        expected = [] if properties else ["'{'", "a parameter"]
        if not labels and not properties:
            expected.insert(0, "':'")
            if variable is None:
                expected.insert(0, "a variable")
        self.fail(*expected, "')'")

    def labels(self) -> tuple[str, ...]:
        """``:A:B`` or ``:A&B``, the first colon being next."""
        kinds = self.kinds
        labels: dict[str, None] = {}
        while kinds[self.at] == ":" or (kinds[self.at] == "&" and labels):
            self.at += 1
            labels[self.any_name("a label")] = None
        return tuple(labels)

    def _properties(self) -> Expression | None:
        kind = self.kinds[self.at]
        if kind == "{":
            # A node, a path and a map stand between two levels of expressions here.
            self.deeper(2)
            properties = self.map_literal()
            self.depth -= 2
            return properties
        if kind == "PARAMETER":
            self.at += 1
            return Parameter(self.values[self.at - 1], position=self.starts[self.at - 1])
        return None

    def _relationship(self) -> tuple[RelationshipPattern, bool]:
        """A relationship, and whether it had Memgraph's ``*bfs``."""
        position = self.starts[self.at]
        left = self.accept("<")
        self.expect("-")
        variable: str | None = None
        types: tuple[str, ...] = ()
        hops: tuple[int | None, int | None] | None = None
        properties: Expression | None = None
        breadth_first = False
        if self.accept("["):
            variable = self.name("a variable") if self.is_name() else None
            types = self._types() if self.kinds[self.at] == ":" else ()
            if self.kinds[self.at] == "*":
                breadth_first, hops = self._hops()
            elif self.kinds[self.at] == "..":
                self.error(
                    "A range of lengths needs an asterisk: write *1..3",
                    detail="InvalidRelationshipPattern",
                )
            properties = self._properties()
            if self.kinds[self.at] != "]":
                self.fail("':'", "'*'", "'{'", "a parameter", "']'")
            self.at += 1
        self.expect("-")
        right = self.accept(">")
        direction = _DIRECTIONS[left, right]
        relationship = RelationshipPattern(
            variable, types, direction, properties, hops, position=position
        )
        return relationship, breadth_first

    def _types(self) -> tuple[str, ...]:
        self.at += 1
        types = {self.any_name("a relationship type"): None}
        while self.accept("|"):
            self.accept(":")
            types[self.any_name("a relationship type")] = None
        return tuple(types)

    def _hops(self) -> tuple[bool, tuple[int | None, int | None]]:
        self.at += 1
        breadth_first = self.accept_word("BFS")
        low = self.number_at()
        if not self.accept(".."):
            return breadth_first, (low, low)
        high = self.number_at()
        if breadth_first and self.kinds[self.at] == "(":
            self.error(
                "*bfs with a filter is not supported: use WHERE all(x IN nodes(p) WHERE ...)"
            )
        return breadth_first, (low, high)

    # ------------------------------------------------------------------ looking ahead

    def pattern_follows(self, at: int) -> bool:
        """Whether the ``(`` at token ``at`` begins a pattern with a relationship.

        The first node and the ends of the first relationship decide; ``(a)-[x]-(b)`` is taken as
        a pattern, as the grammar of openCypher has it.
        """
        kinds = self.kinds
        inside = kinds[at + 1]
        if inside not in _NODE_INSIDE and (
            inside not in NAMES or kinds[at + 2] not in _NODE_INSIDE
        ):
            return False
        close = self.brackets.close.get(at)
        if close is None:
            return False
        at = close + 1
        if kinds[at] == "<":
            at += 1
        if kinds[at] != "-" or kinds[at + 1] not in _RELATIONSHIP_BEGIN:
            return False
        if kinds[at + 1] == "[":
            end = self.brackets.close.get(at + 1)
            if end is None or kinds[end + 1] != "-":
                return False
            at = end
        at += 2
        if kinds[at] == ">":
            at += 1
        return kinds[at] == "("
