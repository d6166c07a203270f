"""Checks of WITH and RETURN: columns, grouping, and what ORDER BY, WHERE, SKIP and LIMIT may see.

After a projection that neither aggregates nor is DISTINCT, ORDER BY and WHERE see the variables
from before and the new columns. Otherwise a row of the result stands for many rows from before, so
only the columns are left, and whole expressions that equal a projected one and so mean its column.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from graph.cypher import syntax
from graph.cypher.analysis_base import Scope
from graph.cypher.analysis_expressions import Aggregation
from graph.cypher.analysis_kinds import is_one_of
from graph.cypher.analysis_patterns import PatternAnalysis, names_in
from graph.cypher.syntax import Expression, Literal, ProjectionItem, Property, Variable
from graph.cypher.trees import children, is_aggregate
from graph.errors import CypherSemanticError

__all__ = ["ProjectionAnalysis"]

_INTEGER: Final = frozenset({"integer"})
_NO_NAMES: Final[frozenset[str]] = frozenset()


class ProjectionAnalysis(PatternAnalysis):
    """Checks projections."""

    def projection(
        self, clause: syntax.With | syntax.Return, scope: Scope, imported: Scope
    ) -> Scope:
        """Check a projection with all that belongs to it and give its columns.

        :param imported: variables of the query around a subquery, which are always in scope.
        """
        projection = clause.projection
        columns: Scope = {}
        if projection.star:
            if not scope and isinstance(clause, syntax.Return):
                self.fail(
                    "NoVariablesInScope",
                    "RETURN * is not allowed when there are no variables in scope",
                    clause.position,
                )
            columns.update(sorted(self.merged(scope).items()))
        keys: set[Expression] = set()
        aggregating: list[ProjectionItem] = []
        for item in projection.items:
            self._item(item, scope, columns, isinstance(clause, syntax.With))
            if self.aggregates:
                aggregating.append(item)
            elif _is_plain(item.expression):
                keys.add(item.expression)
        if aggregating and projection.star:
            keys.update(Variable(name) for name in scope)
        for item in aggregating:
            self._check_grouping(item.expression, keys, _NO_NAMES, scope)
        self._order_and_where(clause, scope, columns, imported, bool(aggregating))
        self._row_count(projection.skip, "SKIP")
        self._row_count(projection.limit, "LIMIT")
        return columns

    def _item(self, item: ProjectionItem, scope: Scope, columns: Scope, in_with: bool) -> None:
        """Check one item and add its column; ``self.aggregates`` tells whether it aggregates."""
        self.aggregation = Aggregation.ALLOWED
        self.aggregates = False
        kind = self.kind_of(item.expression, scope)
        self.aggregation = Aggregation.MISPLACED
        if in_with and not item.aliased and not isinstance(item.expression, Variable):
            self.fail(
                "NoExpressionAlias",
                "Expression in WITH must be aliased (use AS)",
                item.position,
            )
        if item.name in columns:
            self.fail(
                "ColumnNameConflict",
                f"Multiple result columns with the same name `{item.name}` are not supported",
                item.position,
            )
        columns[item.name] = kind

    # ------------------------------------------------------------------ grouping

    def _check_grouping(
        self, expression: Expression, keys: set[Expression], bound: frozenset[str], scope: Scope
    ) -> None:
        """Check that what stands outside the aggregates of an item is one value per group.

        :param keys: items that are plain variables or properties.
        :param bound: variables that the item itself binds (comprehensions).
        """
        if is_aggregate(expression) or expression in keys:
            return
        for name, position in _names_used(expression, scope):
            if name not in bound and Variable(name) not in keys:
                self.fail(
                    "AmbiguousAggregationExpression",
                    f"Aggregation column contains implicit grouping expressions: `{name}` is "
                    "neither inside an aggregating function nor projected by itself. "
                    "Compute it in WITH first",
                    position,
                )
        binds = _names_bound(expression, scope)
        source = getattr(expression, "source", None)
        for child in children(expression):
            inner = bound if child is source else bound | binds
            self._check_grouping(child, keys, inner, scope)

    # ------------------------------------------------------------------ ORDER BY, WHERE

    def _order_and_where(
        self,
        clause: syntax.With | syntax.Return,
        scope: Scope,
        columns: Scope,
        imported: Scope,
        aggregating: bool,
    ) -> None:
        projection = clause.projection
        visible = self.merged(scope, columns)
        where = clause.where if isinstance(clause, syntax.With) else None
        if not aggregating and not projection.distinct:
            for sort in projection.order_by:
                self.kind_of(sort.expression, visible)
            self.condition(where, visible)
            return
        projected = {item.expression for item in projection.items}
        remaining = self.merged(imported, columns)
        for sort in projection.order_by:
            self.aggregation = Aggregation.ALLOWED if aggregating else Aggregation.MISPLACED
            self.aggregates = False
            self.kind_of(sort.expression, visible)
            self.aggregation = Aggregation.MISPLACED
            if sort.expression not in projected:
                self._check_narrow(
                    sort.expression, projected, visible, remaining, _NO_NAMES, self.aggregates
                )
        if where is not None:
            self.condition(where, visible)
            self._check_narrow(where, projected, visible, remaining, _NO_NAMES, False)

    def _check_narrow(
        self,
        expression: Expression,
        projected: set[Expression],
        scope: Scope,
        visible: Scope,
        bound: frozenset[str],
        mixed: bool,
    ) -> None:
        """Check a part of a sort key or filter after DISTINCT or an aggregation.

        :param scope: all that was in scope before, and the columns.
        :param visible: what is left of that.
        :param mixed: it has aggregates, so beside them only plain columns are allowed.
        """
        if expression in projected:
            if mixed and not _is_plain(expression) and not is_aggregate(expression):
                if not any(True for _ in _variables(expression)):
                    return
                self.fail(
                    "AmbiguousAggregationExpression",
                    "ORDER BY combines an aggregating function with an expression: "
                    "give the expression a name in WITH or RETURN and use that",
                    expression.position,
                )
            return
        for name, position in _names_used(expression, scope):
            if name not in visible and name not in bound:
                self.fail(
                    "UndefinedVariable",
                    f"Variable `{name}` not defined: after DISTINCT or an aggregation only what is "
                    "projected can be seen",
                    position,
                )
        binds = _names_bound(expression, scope)
        source = getattr(expression, "source", None)
        for child in children(expression):
            inner = bound if child is source else bound | binds
            self._check_narrow(child, projected, scope, visible, inner, mixed)
        if is_aggregate(expression):
            self.fail(
                "InvalidAggregation",
                "ORDER BY can only use an aggregating function that is projected: "
                "add it to WITH or RETURN",
                expression.position,
            )

    # ------------------------------------------------------------------ SKIP, LIMIT

    def _row_count(self, expression: Expression | None, what: str) -> None:
        if expression is None:
            return
        try:
            kind = self.kind_of(expression, {})
        except CypherSemanticError as error:
            if error.detail != "UndefinedVariable":
                raise
            self.fail(
                "NonConstantExpression",
                f"It is not allowed to refer to variables in {what}",
                expression.position,
            )
        if not is_one_of(kind, _INTEGER):
            self.mismatch(expression, kind, f"Integer for {what}")
        if isinstance(expression, Literal) and (expression.value is None or expression.value < 0):
            detail = (
                "InvalidArgumentType" if expression.value is None else "NegativeIntegerArgument"
            )
            self.fail(
                detail,
                f"Invalid input. '{_value(expression)}' is not a valid value for {what}. "
                "Must be a non-negative integer",
                expression.position,
            )


def _value(literal: Literal) -> str:
    return "null" if literal.value is None else str(literal.value)


def _is_plain(expression: Expression) -> bool:
    """Whether an expression is a variable or a property of one, which may be a grouping key."""
    while isinstance(expression, Property):
        expression = expression.subject
    return isinstance(expression, Variable)


def _patterns_of(expression: Expression) -> tuple[syntax.PathPattern, ...]:
    if isinstance(expression, syntax.PatternComprehension):
        return (expression.pattern,)
    if isinstance(expression, (syntax.PatternPredicate, syntax.PatternCount)):
        return expression.patterns
    return ()


def _names_used(expression: Expression, scope: Scope) -> Iterable[tuple[str, int]]:
    """Variables of ``scope`` that this very node refers to, with their places."""
    if isinstance(expression, Variable):
        yield expression.name, expression.position
    for pattern in _patterns_of(expression):
        for name, position in names_in(pattern):
            if name in scope:
                yield name, position


def _names_bound(expression: Expression, scope: Scope) -> frozenset[str]:
    """Variables that this very node binds for what is below it."""
    if isinstance(expression, (syntax.ListComprehension, syntax.Quantifier)):
        return frozenset({expression.variable})
    if isinstance(expression, syntax.Reduce):
        return frozenset({expression.variable, expression.accumulator})
    patterns = _patterns_of(expression)
    names = {name for pattern in patterns for name, _ in names_in(pattern)}
    names.update(pattern.variable for pattern in patterns if pattern.variable is not None)
    return frozenset(names - scope.keys())


def _variables(expression: Expression) -> Iterable[Variable]:
    pending = [expression]
    while pending:
        current = pending.pop()
        if isinstance(current, Variable):
            yield current
        pending.extend(children(current))
