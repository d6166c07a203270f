"""Checks of patterns: which variables they bind, and what each clause allows in them.

MATCH takes a pattern that may join variables of the right kind; CREATE and MERGE take one in which
every relationship is new and a node is either new, or bound before and then named only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from graph.cypher.analysis_base import Scope
from graph.cypher.analysis_expressions import ExpressionAnalysis
from graph.cypher.analysis_kinds import ANY, NULL, element, is_list, list_of, shown
from graph.cypher.syntax import (
    Direction,
    Expression,
    NodePattern,
    Parameter,
    PathPattern,
    RelationshipPattern,
)

__all__ = ["PatternAnalysis", "names_in"]

_UNKNOWN: Final = frozenset({ANY, NULL})


def names_in(pattern: PathPattern) -> Iterator[tuple[str, int]]:
    """The variables of the nodes and relationships of a pattern, with their places."""
    for node in pattern.nodes:
        if node.variable is not None:
            yield node.variable, node.position
    for relationship in pattern.relationships:
        if relationship.variable is not None:
            yield relationship.variable, relationship.position


class PatternAnalysis(ExpressionAnalysis):
    """Checks patterns."""

    # ------------------------------------------------------------------ MATCH

    def match_patterns(self, patterns: tuple[PathPattern, ...], scope: Scope) -> None:
        """Check the patterns of MATCH and add their variables to ``scope``."""
        relationships: set[str] = set()
        for path in patterns:
            for node in path.nodes:
                self._match_node(node, scope)
            for relationship in path.relationships:
                self._match_relationship(relationship, scope, relationships)
            if path.variable is not None:
                self.bind(scope, path.variable, "path", path.position)
        # A property may refer to any variable of the clause: MATCH (a {x: b.x}), (b).
        for path in patterns:
            self._properties(path, scope, "MATCH")

    def bind_subquery_patterns(self, patterns: tuple[PathPattern, ...], scope: Scope) -> None:
        self.match_patterns(patterns, scope)

    def check_bound_pattern(self, pattern: PathPattern, scope: Scope) -> None:
        for name, position in names_in(pattern):
            if name not in scope:
                self.undefined(name, position)
        self.match_patterns((pattern,), self.merged(scope))

    def _match_node(self, node: NodePattern, scope: Scope) -> None:
        name = node.variable
        if name is None:
            return
        kind = scope.get(name)
        if kind is None or kind in _UNKNOWN:
            scope[name] = "node"
        elif kind != "node":
            self._conflict(name, kind, "node", node.position)

    def _match_relationship(
        self, relationship: RelationshipPattern, scope: Scope, seen: set[str]
    ) -> None:
        name = relationship.variable
        if name is None:
            return
        wanted = "relationship" if relationship.hops is None else list_of("relationship")
        kind = scope.get(name)
        if kind is None or kind in _UNKNOWN:
            scope[name] = wanted
        elif kind != wanted and not (
            is_list(wanted) and is_list(kind) and element(kind) in _UNKNOWN
        ):
            self._conflict(name, kind, wanted, relationship.position)
        if name in seen:
            self.fail(
                "RelationshipUniquenessViolation",
                f"Cannot use the same relationship variable `{name}` for multiple relationships",
                relationship.position,
            )
        seen.add(name)

    def _conflict(self, name: str, kind: str, wanted: str, position: int) -> None:
        self.fail(
            "VariableTypeConflict",
            f"Type mismatch: `{name}` defined with conflicting type {shown(kind)} "
            f"(expected {shown(wanted)})",
            position,
        )

    # ------------------------------------------------------------------ CREATE, MERGE

    def create_patterns(self, patterns: tuple[PathPattern, ...], scope: Scope, clause: str) -> None:
        """Check what CREATE or MERGE makes and add its variables to ``scope``."""
        for path in patterns:
            if path.shortest is not None:
                self.fail(
                    "InvalidClauseComposition",
                    f"A shortest path cannot be used in {clause}",
                    path.position,
                )
            # Properties are evaluated before anything of this path exists.
            self._properties(path, scope, clause)
            alone = not path.relationships
            for node in path.nodes:
                self._create_node(node, scope, alone, clause)
            for relationship in path.relationships:
                self._create_relationship(relationship, scope, clause)
            if path.variable is not None:
                self.bind(scope, path.variable, "path", path.position)

    def _create_node(self, node: NodePattern, scope: Scope, alone: bool, clause: str) -> None:
        name = node.variable
        if name is None:
            return
        kind = scope.get(name)
        if kind is None:
            scope[name] = "node"
            return
        if kind != "node" and kind not in _UNKNOWN:
            self._conflict(name, kind, "node", node.position)
        if alone or node.labels or node.properties is not None:
            self.fail(
                "VariableAlreadyBound",
                f"Can't {clause.lower()} node `{name}` with labels or properties here. "
                "The variable is already declared in this context",
                node.position,
            )

    def _create_relationship(
        self, relationship: RelationshipPattern, scope: Scope, clause: str
    ) -> None:
        position = relationship.position
        if relationship.variable is not None:
            self.bind(scope, relationship.variable, "relationship", position)
        if relationship.hops is not None:
            self.fail(
                "CreatingVarLength",
                f"Variable length relationships cannot be used in {clause}",
                position,
            )
        if len(relationship.types) != 1:
            self.fail(
                "NoSingleRelationshipType",
                f"Exactly one relationship type must be specified for {clause}. "
                "Did you forget to prefix your relationship type with a ':'?",
                position,
            )
        if relationship.direction is Direction.BOTH and clause == "CREATE":
            self.fail(
                "RequiresDirectedRelationship",
                "Only directed relationships are supported in CREATE",
                position,
            )

    # ------------------------------------------------------------------ properties

    def _properties(self, path: PathPattern, scope: Scope, clause: str) -> None:
        for node in path.nodes:
            if node.properties is not None:
                self._check_properties(node.properties, scope, clause)
        for relationship in path.relationships:
            if relationship.properties is not None:
                self._check_properties(relationship.properties, scope, clause)

    def _check_properties(self, properties: Expression, scope: Scope, clause: str) -> None:
        if isinstance(properties, Parameter) and clause != "CREATE":
            self.fail(
                "InvalidParameterUse",
                f"Parameter maps cannot be used in {clause} patterns: "
                f"use a literal map, such as {{id: ${properties.name}.id}}",
                properties.position,
            )
        self.without_aggregates(properties, scope)
