"""Checks of expressions: variables, kinds, calls, and where aggregates and patterns may stand.

``kind_of`` walks an expression once. It refuses what can never be right and gives back what is
known of the value. On the way it notes parameters and whether it met an aggregate.

Aggregates: ``aggregation`` says what an aggregate would be at this place: allowed, misplaced
(WHERE, SET, the body of a comprehension ...) or nested in another. What may stand beside them is
checked in ``analysis_projections``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

from graph.cypher import syntax
from graph.cypher.analysis_base import TYPE_ERROR, Base, Scope
from graph.cypher.analysis_kinds import (
    ANY,
    FUNCTIONS,
    NOT_ARITHMETIC,
    NULL,
    WITH_PROPERTIES,
    common,
    element,
    family,
    is_list,
    is_one_of,
    list_of,
    shown,
)
from graph.cypher.syntax import Expression
from graph.cypher.trees import AGGREGATES

__all__ = ["Aggregation", "ExpressionAnalysis"]

_BOOLEAN: Final = frozenset({"boolean"})
_LISTS: Final = frozenset({"list"})
_NOT_INDEXABLE: Final = frozenset({"boolean", "float", "integer", "path", "string", "temporal"})
_LOGICAL: Final = frozenset({"AND", "OR", "XOR"})
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%", "^"})
_NUMBERS: Final = frozenset({"float", "integer"})
# Functions whose value differs from call to call, so an aggregate of them means nothing.
_VOLATILE: Final = frozenset({"rand", "randomuuid"})


class Aggregation(Enum):
    """What an aggregate would be at a place; the value completes "cannot be used"."""

    ALLOWED = ""
    NESTED = "inside another aggregating function"
    MISPLACED = "here: compute it in WITH or RETURN first"


class ExpressionAnalysis(Base):
    """Checks expressions."""

    aggregation = Aggregation.MISPLACED
    # Whether an aggregate was met since the caller last cleared it.
    aggregates = False

    @abstractmethod
    def bind_subquery_patterns(
        self, patterns: tuple[syntax.PathPattern, ...], scope: Scope
    ) -> None:
        """Check the patterns of EXISTS or COUNT and add their variables to ``scope``."""

    @abstractmethod
    def check_bound_pattern(self, pattern: syntax.PathPattern, scope: Scope) -> None:
        """Check a pattern that may not introduce variables."""

    @abstractmethod
    def check_subquery(self, query: syntax.Query, scope: Scope) -> None:
        """Check ``EXISTS { query }``."""

    # ------------------------------------------------------------------ entries

    def kind_of(self, expression: Expression, scope: Scope, predicate: bool = False) -> str:
        """The kind of an expression in ``scope``.

        :param predicate: a boolean is expected here, so a bare pattern may stand here.
        :raises CypherSemanticError: the expression means nothing.
        """
        check = _CHECKS.get(type(expression))
        assert check is not None, f"no check for {type(expression).__name__}"
        if predicate and type(expression) is syntax.PatternPredicate:
            return self._pattern_predicate(expression, scope, True)
        return check(self, expression, scope)

    def condition(self, expression: Expression | None, scope: Scope) -> None:
        """Check what WHERE filters by."""
        if expression is not None:
            self._boolean(expression, scope, "WHERE")

    def without_aggregates(self, expression: Expression, scope: Scope) -> str:
        """The kind of an expression that is evaluated for each row."""
        before = self.aggregation
        self.aggregation = Aggregation.MISPLACED
        kind = self.kind_of(expression, scope)
        self.aggregation = before
        return kind

    # ------------------------------------------------------------------ leaves

    def _literal(self, expression: syntax.Literal, scope: Scope) -> str:
        return _LITERAL_KINDS[type(expression.value)]

    def _parameter(self, expression: syntax.Parameter, scope: Scope) -> str:
        self.parameters.add(expression.name)
        if expression.name in self.literals:
            return _LITERAL_KINDS[type(self.literals[expression.name])]
        return ANY

    def _variable(self, expression: syntax.Variable, scope: Scope) -> str:
        kind = scope.get(expression.name)
        if kind is None:
            self.undefined(expression.name, expression.position)
        return kind

    # ------------------------------------------------------------------ parts and collections

    def _property(self, expression: syntax.Property, scope: Scope) -> str:
        kind = self.kind_of(expression.subject, scope)
        if not is_one_of(kind, WITH_PROPERTIES):
            self.mismatch(
                expression.subject,
                kind,
                "Map, Node, Relationship, Point, Duration or a temporal value",
                None if kind == "path" else TYPE_ERROR,
            )
        return ANY

    def _index(self, expression: syntax.Index, scope: Scope) -> str:
        kind = self.kind_of(expression.subject, scope)
        self.kind_of(expression.index, scope)
        if kind in _NOT_INDEXABLE:
            wanted = "List, Map, Node or Relationship"
            self.mismatch(expression.subject, kind, wanted, TYPE_ERROR)
        return element(kind)

    def _slice(self, expression: syntax.Slice, scope: Scope) -> str:
        kind = self.kind_of(expression.subject, scope)
        for end in (expression.start, expression.stop):
            if end is not None:
                self.kind_of(end, scope)
        if not is_one_of(kind, _LISTS):
            self.mismatch(expression.subject, kind, "List", TYPE_ERROR)
        return kind

    def _list(self, expression: syntax.ListLiteral, scope: Scope) -> str:
        if not expression.items:
            return list_of(NULL)
        kind = NULL
        for item in expression.items:
            kind = common(kind, self.kind_of(item, scope))
        return list_of(kind)

    def _map(self, expression: syntax.MapLiteral, scope: Scope) -> str:
        for _, value in expression.items:
            self.kind_of(value, scope)
        return "map"

    def _map_projection(self, expression: syntax.MapProjection, scope: Scope) -> str:
        kind = self.kind_of(expression.subject, scope)
        if not is_one_of(kind, WITH_PROPERTIES):
            self.mismatch(expression.subject, kind, "Map, Node or Relationship")
        for _, value in expression.items:
            if value is not None:
                self.kind_of(value, scope)
        return "map"

    def _has_labels(self, expression: syntax.HasLabels, scope: Scope) -> str:
        kind = self.kind_of(expression.subject, scope)
        if not is_one_of(kind, frozenset({"node", "relationship"})):
            self.mismatch(expression.subject, kind, "Node or Relationship")
        return "boolean"

    # ------------------------------------------------------------------ operators

    def _boolean(self, expression: Expression, scope: Scope, what: str) -> None:
        kind = self.kind_of(expression, scope, True)
        if not is_one_of(kind, _BOOLEAN):
            self.mismatch(expression, kind, f"Boolean for {what}")

    def _unary(self, expression: syntax.Unary, scope: Scope) -> str:
        if expression.operator == "NOT":
            self._boolean(expression.operand, scope, "NOT")
            return "boolean"
        kind = self.kind_of(expression.operand, scope)
        if family(kind) in NOT_ARITHMETIC:
            self.mismatch(expression.operand, kind, f"a number for {expression.operator}")
        return kind

    def _binary(self, expression: syntax.Binary, scope: Scope) -> str:
        operator = expression.operator
        if operator in _LOGICAL:
            self._boolean(expression.left, scope, operator)
            self._boolean(expression.right, scope, operator)
            return "boolean"
        left = self.kind_of(expression.left, scope)
        right = self.kind_of(expression.right, scope)
        if operator in _ARITHMETIC:
            if operator == "+":
                return _sum_kind(left, right)
            for operand, kind in ((expression.left, left), (expression.right, right)):
                if family(kind) in NOT_ARITHMETIC:
                    self.mismatch(operand, kind, f"a number for {operator}")
            return _number_kind(operator, left, right)
        if operator == "IN" and not is_one_of(right, _LISTS):
            self.mismatch(expression.right, right, "List for IN")
        return "boolean"

    def _comparison(self, expression: syntax.Comparison, scope: Scope) -> str:
        for operand in expression.operands:
            self.kind_of(operand, scope)
        return "boolean"

    def _is_null(self, expression: syntax.IsNull, scope: Scope) -> str:
        self.kind_of(expression.operand, scope)
        return "boolean"

    def _case(self, expression: syntax.Case, scope: Scope) -> str:
        if expression.subject is not None:
            self.kind_of(expression.subject, scope)
        kind = NULL
        for condition, value in expression.branches:
            self.kind_of(condition, scope, expression.subject is None)
            kind = common(kind, self.kind_of(value, scope))
        if expression.otherwise is not None:
            kind = common(kind, self.kind_of(expression.otherwise, scope))
        return kind

    # ------------------------------------------------------------------ calls

    def _count_star(self, expression: syntax.CountStar, scope: Scope) -> str:
        self._enter_aggregate("count", expression.position)
        return "integer"

    def _enter_aggregate(self, name: str, position: int) -> None:
        if self.aggregation is not Aggregation.ALLOWED:
            nested = self.aggregation is Aggregation.NESTED
            self.fail(
                "NestedAggregation" if nested else "InvalidAggregation",
                f"Invalid use of aggregating function {name}(...): "
                f"it cannot be used {self.aggregation.value}",
                position,
            )
        self.aggregates = True

    def _call(self, expression: syntax.FunctionCall, scope: Scope) -> str:
        name, position = expression.name, expression.position
        if name in AGGREGATES:
            self._enter_aggregate(name, position)
            self.aggregation = Aggregation.NESTED
            kinds = [self.kind_of(argument, scope) for argument in expression.arguments]
            self.aggregation = Aggregation.ALLOWED
        else:
            self._check_function(expression)
            kinds = [self.kind_of(argument, scope) for argument in expression.arguments]
            if name == "coalesce":
                return _common_of(kinds)
        signature = FUNCTIONS.get(name)
        if signature is None:
            return ANY
        if signature.exact is not None and len(kinds) != signature.exact:
            self.fail(
                "InvalidNumberOfArguments",
                f"Function {name}(...) takes {signature.exact} argument(s), not {len(kinds)}",
                position,
            )
        if signature.first is not None and kinds and not is_one_of(kinds[0], signature.first):
            wanted = " or ".join(shown(kind) for kind in sorted(signature.first))
            self.mismatch(expression.arguments[0], kinds[0], f"{wanted} for {name}(...)")
        return signature.result_of(kinds)

    def _check_function(self, expression: syntax.FunctionCall) -> None:
        name, position = expression.name, expression.position
        if self.functions is not None and name not in self.functions:
            self.fail("UnknownFunction", f"Unknown function '{name}'", position)
        if expression.distinct:
            self.fail(
                "UnexpectedSyntax",
                f"DISTINCT cannot be used with {name}(...), which does not aggregate",
                position,
            )
        if name in _VOLATILE and self.aggregation is Aggregation.NESTED:
            self.fail(
                "NonConstantExpression",
                f"{name}() cannot be used inside an aggregating function: "
                "its value differs from row to row",
                position,
            )

    # ------------------------------------------------------------------ bodies with a variable

    def _bodies(
        self,
        names: dict[str, str],
        scope: Scope,
        predicate: Expression | None,
        body: Expression | None,
    ) -> str:
        """The kind of ``body`` where the variables ``names`` are bound as well.

        They are put into ``scope`` and taken out again: copying it for each of many small
        comprehensions would cost more than everything else.
        """
        hidden = {name: scope[name] for name in names if name in scope}
        scope.update(names)
        self._body(predicate, scope, True)
        kind = self._body(body, scope)
        for name in names:
            if name in hidden:
                scope[name] = hidden[name]
            else:
                del scope[name]
        return kind

    def _body(self, expression: Expression | None, scope: Scope, predicate: bool = False) -> str:
        """The kind of what is evaluated for each element of a list."""
        if expression is None:
            return ANY
        before = self.aggregation
        if before is Aggregation.ALLOWED:
            self.aggregation = Aggregation.MISPLACED
        if predicate:
            self._boolean(expression, scope, "WHERE")
            kind = "boolean"
        else:
            kind = self.kind_of(expression, scope)
        self.aggregation = before
        return kind

    def _source(self, expression: Expression, scope: Scope) -> str:
        """The kind of the elements of a list that is gone through."""
        kind = self.kind_of(expression, scope)
        if not is_one_of(kind, _LISTS):
            self.mismatch(expression, kind, "List")
        return element(kind)

    def _list_comprehension(self, expression: syntax.ListComprehension, scope: Scope) -> str:
        kind = self._source(expression.source, scope)
        names = {expression.variable: kind}
        projected = self._bodies(names, scope, expression.predicate, expression.projection)
        return list_of(kind if expression.projection is None else projected)

    def _quantifier(self, expression: syntax.Quantifier, scope: Scope) -> str:
        kind = self._source(expression.source, scope)
        self._bodies({expression.variable: kind}, scope, expression.predicate, None)
        return "boolean"

    def _reduce(self, expression: syntax.Reduce, scope: Scope) -> str:
        self.kind_of(expression.initial, scope)
        kind = self._source(expression.source, scope)
        # The accumulator may change its kind with each step, so nothing is known of it.
        names = {expression.accumulator: ANY, expression.variable: kind}
        self._bodies(names, scope, None, expression.body)
        return ANY

    # ------------------------------------------------------------------ patterns

    def _bare_pattern(self, expression: syntax.PatternPredicate, scope: Scope) -> str:
        return self._pattern_predicate(expression, scope, False)

    def _pattern_predicate(
        self, expression: syntax.PatternPredicate, scope: Scope, predicate: bool
    ) -> str:
        if expression.form == "subquery":
            self._pattern_subquery(expression, scope)
            return "boolean"
        if expression.form == "pattern" and not predicate:
            self.fail(
                "UnexpectedSyntax",
                "A pattern can only stand where a predicate is expected: "
                "use EXISTS { ... }, COUNT { ... } or [pattern | expression]",
                expression.position,
            )
        for pattern in expression.patterns:
            self.check_bound_pattern(pattern, scope)
        return "boolean"

    def _pattern_subquery(
        self, expression: syntax.PatternPredicate | syntax.PatternCount, scope: Scope
    ) -> str:
        before = self.aggregation
        self.aggregation = Aggregation.MISPLACED
        inner = self.merged(scope)
        self.bind_subquery_patterns(expression.patterns, inner)
        self.condition(expression.where, inner)
        self.aggregation = before
        return "integer"

    def _pattern_comprehension(self, expression: syntax.PatternComprehension, scope: Scope) -> str:
        inner = self.merged(scope)
        before = self.aggregation
        self.aggregation = Aggregation.MISPLACED
        self.bind_subquery_patterns((expression.pattern,), inner)
        self.aggregation = before
        self._body(expression.predicate, inner, True)
        return list_of(self._body(expression.projection, inner))

    def _exists_subquery(self, expression: syntax.ExistsSubquery, scope: Scope) -> str:
        self.check_subquery(expression.query, scope)
        return "boolean"

    def _count_subquery(self, expression: syntax.CountSubquery, scope: Scope) -> str:
        self.check_subquery(expression.query, scope)
        return "integer"

    # ------------------------------------------------------------------ errors

    def mismatch(
        self, expression: Expression, kind: str, wanted: str, code: str | None = None
    ) -> None:
        """Refuse a value whose kind can never be right."""
        self.fail(
            "InvalidArgumentType",
            f"Type mismatch: expected {wanted} but was {shown(kind)}",
            expression.position,
            code,
        )


def _common_of(kinds: Iterable[str]) -> str:
    result = NULL
    for kind in kinds:
        result = common(result, kind)
    return result


def _sum_kind(left: str, right: str) -> str:
    """The kind of ``left + right``: addition, concatenation, or appending to a list."""
    if is_list(left) and is_list(right):
        return common(left, right)
    if is_list(left) or is_list(right):
        return list_of(ANY)
    if left in _NUMBERS and right in _NUMBERS:
        return _number_kind("+", left, right)
    if left == "string" and right == "string":
        return left
    return ANY


def _number_kind(operator: str, left: str, right: str) -> str:
    if left not in _NUMBERS or right not in _NUMBERS:
        return ANY
    return "float" if operator == "^" or "float" in (left, right) else "integer"


_LITERAL_KINDS: Final[dict[type, str]] = {
    type(None): NULL,
    bool: "boolean",
    float: "float",
    int: "integer",
    str: "string",
}

_CHECKS: Final[dict[type, Callable[[ExpressionAnalysis, Any, Scope], str]]] = {
    syntax.Binary: ExpressionAnalysis._binary,
    syntax.Case: ExpressionAnalysis._case,
    syntax.Comparison: ExpressionAnalysis._comparison,
    syntax.CountStar: ExpressionAnalysis._count_star,
    syntax.CountSubquery: ExpressionAnalysis._count_subquery,
    syntax.ExistsSubquery: ExpressionAnalysis._exists_subquery,
    syntax.FunctionCall: ExpressionAnalysis._call,
    syntax.HasLabels: ExpressionAnalysis._has_labels,
    syntax.Index: ExpressionAnalysis._index,
    syntax.IsNull: ExpressionAnalysis._is_null,
    syntax.ListComprehension: ExpressionAnalysis._list_comprehension,
    syntax.ListLiteral: ExpressionAnalysis._list,
    syntax.Literal: ExpressionAnalysis._literal,
    syntax.MapLiteral: ExpressionAnalysis._map,
    syntax.MapProjection: ExpressionAnalysis._map_projection,
    syntax.Parameter: ExpressionAnalysis._parameter,
    syntax.PatternComprehension: ExpressionAnalysis._pattern_comprehension,
    syntax.PatternCount: ExpressionAnalysis._pattern_subquery,
    syntax.PatternPredicate: ExpressionAnalysis._bare_pattern,
    syntax.Property: ExpressionAnalysis._property,
    syntax.Quantifier: ExpressionAnalysis._quantifier,
    syntax.Reduce: ExpressionAnalysis._reduce,
    syntax.Slice: ExpressionAnalysis._slice,
    syntax.Unary: ExpressionAnalysis._unary,
    syntax.Variable: ExpressionAnalysis._variable,
}
