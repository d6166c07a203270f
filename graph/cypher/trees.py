"""Walking and rewriting syntax trees of expressions.

``children`` and ``rebuild`` know the shape of every node from its dataclass fields (an expression,
a tuple of them, a pattern that holds some), so a new production needs no change here. Lambda
variables (comprehensions, quantifiers, reduce) are bound within their bodies: ``variables_in`` and
``substitute`` respect that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graph.cypher import syntax
from graph.cypher.syntax import Expression

__all__ = [
    "aggregates_in",
    "children",
    "is_aggregate",
    "rebuild",
    "substitute",
    "variables_in",
    "walk",
]

AGGREGATES = frozenset(
    {
        "avg",
        "collect",
        "count",
        "max",
        "min",
        "percentilecont",
        "percentiledisc",
        "stdev",
        "stdevp",
        "sum",
    }
)

_PATTERNS = (syntax.PathPattern, syntax.NodePattern, syntax.RelationshipPattern)


_FIELDS: dict[type, tuple[str, ...]] = {}


def _fields(cls: Any) -> tuple[str, ...]:
    """Fields that may hold expressions: all but the offset into the text."""
    names = _FIELDS.get(cls)
    if names is None:
        names = tuple(field.name for field in dataclasses.fields(cls) if field.name != "position")
        _FIELDS[cls] = names
    return names


def _expressions(value: Any) -> Iterator[Expression]:
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, _PATTERNS):
        for name in _fields(type(value)):
            yield from _expressions(getattr(value, name))


def children(expression: Expression) -> Iterator[Expression]:
    """The direct sub-expressions, left to right; those inside patterns included."""
    for name in _fields(type(expression)):
        yield from _expressions(getattr(expression, name))


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything below it, parents first."""
    stack = [expression]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(list(children(node))))


def rebuild(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with ``change`` applied to each child; itself if nothing changed."""
    changed: dict[str, Any] = {}
    for name in _fields(type(expression)):
        old = getattr(expression, name)
        new = _rebuilt(old, change)
        if new is not old:
            changed[name] = new
    return dataclasses.replace(expression, **changed) if changed else expression


def _rebuilt(value: Any, change: Callable[[Expression], Expression]) -> Any:
    if isinstance(value, Expression):
        return change(value)
    if isinstance(value, tuple):
        items = tuple(_rebuilt(item, change) for item in value)
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else items
    if isinstance(value, _PATTERNS):
        changed = {}
        for name in _fields(type(value)):
            old = getattr(value, name)
            new = _rebuilt(old, change)
            if new is not old:
                changed[name] = new
        return dataclasses.replace(value, **changed) if changed else value
    return value


def is_aggregate(expression: Expression) -> bool:
    """Whether this very node is an aggregation."""
    if isinstance(expression, syntax.CountStar):
        return True
    return isinstance(expression, syntax.FunctionCall) and expression.name in AGGREGATES


def aggregates_in(expression: Expression) -> list[Expression]:
    """The outermost aggregations of an expression, in order, without repetition."""
    found: dict[Expression, None] = {}

    def visit(node: Expression) -> None:
        if is_aggregate(node):
            found.setdefault(node)
            return
        for child in children(node):
            visit(child)

    visit(expression)
    return list(found)


def bound_variables(expression: Expression) -> tuple[str, ...]:
    """The lambda variables that this very node binds in its bodies."""
    if isinstance(expression, (syntax.ListComprehension, syntax.Quantifier)):
        return (expression.variable,)
    if isinstance(expression, syntax.Reduce):
        return (expression.accumulator, expression.variable)
    return ()


def _outside(expression: Expression) -> tuple[Expression, ...]:
    """Children of a binding node that its variables do not reach."""
    if isinstance(expression, (syntax.ListComprehension, syntax.Quantifier)):
        return (expression.source,)
    if isinstance(expression, syntax.Reduce):
        return (expression.initial, expression.source)
    return ()


def variables_in(expression: Expression) -> frozenset[str]:
    """The free variables of an expression.

    Variables named in patterns (pattern predicates, EXISTS, COUNT, pattern comprehensions) are
    included whether the pattern uses an outer one or introduces its own: who plans the pattern
    knows which are bound.
    """
    if isinstance(expression, syntax.Variable):
        return frozenset((expression.name,))
    found: set[str] = set(_pattern_variables(expression))
    bound = bound_variables(expression)
    if not bound:
        for child in children(expression):
            found |= variables_in(child)
        return frozenset(found)
    outside = _outside(expression)
    for child in children(expression):
        inner = variables_in(child)
        reached = not any(child is node for node in outside)
        found |= inner - set(bound) if reached else inner
    return frozenset(found)


def _pattern_variables(expression: Expression) -> Iterator[str]:
    if isinstance(expression, (syntax.PatternPredicate, syntax.PatternCount)):
        patterns = expression.patterns
    elif isinstance(expression, syntax.PatternComprehension):
        patterns = (expression.pattern,)
    else:
        return
    for pattern in patterns:
        names = [pattern.variable]
        names += [node.variable for node in pattern.nodes]
        names += [relationship.variable for relationship in pattern.relationships]
        yield from (name for name in names if name is not None)


def substitute(expression: Expression, mapping: Mapping[Expression, Expression]) -> Expression:
    """Replace every sub-expression equal to a key of ``mapping`` by its value, outermost first.

    A key that uses a variable is not looked for where a lambda has bound that name anew.
    """
    if not mapping:
        return expression
    replacement = mapping.get(expression)
    if replacement is not None:
        return replacement
    bound = bound_variables(expression)
    if not bound:
        return rebuild(expression, lambda child: substitute(child, mapping))
    outside = _outside(expression)
    visible = {k: v for k, v in mapping.items() if not variables_in(k) & set(bound)}

    def change(child: Expression) -> Expression:
        if any(child is node for node in outside):
            return substitute(child, mapping)
        return substitute(child, visible)

    return rebuild(expression, change)
