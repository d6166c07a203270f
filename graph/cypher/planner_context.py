"""What the parts of the planner share: scope, fresh names, statistics, and pattern lifting.

A ``Scope`` says which variables are bound where a clause begins and what each is known to hold.
Patterns inside expressions (``(a)-->(b)`` as a predicate, ``COUNT {}``, comprehensions) are
*lifted*: a ``RollUp`` below the clause computes each as a hidden column, and the expression
refers to that column. Hence the expression compiler never meets a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol

from graph.cypher.plan import HIDDEN, Argument, Extend, Filter, Plan, RollUp, Unwind
from graph.cypher.syntax import (
    Binary,
    Case,
    CountSubquery,
    ExistsSubquery,
    Expression,
    FunctionCall,
    IsNull,
    ListComprehension,
    Literal,
    NodePattern,
    PathPattern,
    PatternComprehension,
    PatternCount,
    PatternPredicate,
    Property,
    Quantifier,
    Query,
    Reduce,
    RelationshipPattern,
    Variable,
)
from graph.vector import Kind

__all__ = [
    "PLAIN",
    "PlannerContext",
    "Scope",
    "Statistics",
    "conjuncts",
    "free_variables",
    "has_pattern",
    "is_plain",
    "rewrite",
]

# What a variable holds: NODE, RELATIONSHIP, OBJECT (a path or a list of relationships), PLAIN, or
# None (not known).
Scope = dict[str, Kind | None]
# A value with no node or relationship anywhere in it. The planner needs no finer kinds of these.
PLAIN = Kind.STRING
# Functions whose value holds no entity although their argument may be one.
_PLAIN_FUNCTIONS = frozenset(
    ("id", "elementid", "type", "labels", "keys", "size", "length", "count")
)

_PATTERNS = (
    PatternPredicate,
    PatternCount,
    PatternComprehension,
    ExistsSubquery,
    CountSubquery,
)


class IndexInfoLike(Protocol):
    """What the planner reads of an index description (``graph.indexes``)."""

    @property
    def label(self) -> str: ...
    @property
    def properties(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class NodeIndex:
    """An index that the planner may use. ``matches``: expected nodes for one key."""

    keys: tuple[str, ...]
    unique: bool
    matches: float


@dataclass(frozen=True)
class Statistics:
    """Counts that cost estimates rest on, taken from a root at planning time."""

    nodes: float
    relationships: float
    label_count: Callable[[str], int]
    type_count: Callable[[str], int]
    node_indexes: Callable[[str], tuple[NodeIndex, ...]]

    def relationships_of(self, types: tuple[str, ...]) -> float:
        if not types:
            return self.relationships
        return float(sum(self.type_count(name) for name in types))


@dataclass
class PlannerContext:
    """One planning run: statistics and a source of fresh hidden names.

    ``plan_pattern`` is set by the planner (pattern planning and lifting need one another): it
    plans patterns with a predicate on top of a plan.
    """

    statistics: Statistics
    plan_pattern: Callable[
        [PlannerContext, Plan, tuple[PathPattern, ...], Expression | None, Scope],
        tuple[Plan, Scope],
    ]
    # Likewise for whole queries inside expressions (``EXISTS { MATCH ... WITH ... }``).
    plan_subquery: Callable[[PlannerContext, Query, Scope], Plan]
    _counter: int = field(default=0)

    def fresh(self, prefix: str) -> str:
        self._counter += 1
        return f"{HIDDEN}{prefix}{self._counter}"

    # ----------------------------------------------------------------- lifting of patterns

    def lift(self, plan: Plan, expression: Expression, scope: Scope) -> tuple[Plan, Expression]:
        """``expression`` without patterns, and the plan that provides what replaces them."""
        if not has_pattern(expression):
            return plan, expression
        state = [plan]

        def visit(node: Any) -> Any:
            if isinstance(node, _PATTERNS):
                state[0], column = self._roll_up(state[0], node, scope)
                return column
            if isinstance(node, ListComprehension) and has_pattern(node):
                return self._lift_comprehension(state, node, scope)
            if isinstance(node, Quantifier) and has_pattern(node.predicate):
                values = ListComprehension(node.variable, node.source, None, node.predicate)
                name = self.fresh("x")
                return Quantifier(node.quantifier, name, visit(values), Variable(name))
            return None

        lifted = rewrite(expression, visit)
        return state[0], lifted

    def lift_all(
        self, plan: Plan, items: Iterable[Expression], scope: Scope
    ) -> tuple[Plan, list[Expression]]:
        lifted: list[Expression] = []
        for item in items:
            plan, expression = self.lift(plan, item, scope)
            lifted.append(expression)
        return plan, lifted

    def _roll_up(self, plan: Plan, node: Any, scope: Scope) -> tuple[Plan, Expression]:
        row, name = self.fresh("row"), self.fresh("v")
        if isinstance(node, (ExistsSubquery, CountSubquery)):
            inner = self.plan_subquery(self, node.query, scope)
            mode = "exists" if isinstance(node, ExistsSubquery) else "count"
            return RollUp(plan, inner, row, name, mode, rows=plan.rows), Variable(name)
        if isinstance(node, PatternComprehension):
            inner, inner_scope = self.plan_pattern(
                self, Argument(), (node.pattern,), node.predicate, scope
            )
            inner, value = self.lift(inner, node.projection, inner_scope)
            column = self.fresh("c")
            inner = Extend(inner, ((column, value),), rows=inner.rows)
            return RollUp(plan, inner, row, name, "collect", column, rows=plan.rows), Variable(name)
        inner, _ = self.plan_pattern(self, Argument(), node.patterns, node.where, scope)
        mode = "exists" if isinstance(node, PatternPredicate) else "count"
        return RollUp(plan, inner, row, name, mode, rows=plan.rows), Variable(name)

    def _lift_comprehension(
        self, state: list[Plan], node: ListComprehension, scope: Scope
    ) -> Expression:
        """A list comprehension with a pattern inside: unwind, filter, and collect again."""
        row, name, item = self.fresh("row"), self.fresh("v"), self.fresh("x")
        state[0], source = self.lift(state[0], node.source, scope)
        held = self.fresh("l")
        state[0] = Extend(state[0], ((held, source),), rows=state[0].rows)
        inner_scope: Scope = {**scope, item: None}
        renamed = {node.variable: item}
        inner: Plan = Unwind(Argument(), Variable(held), item, rows=10.0)
        if node.predicate is not None:
            predicate = rename_variables(node.predicate, renamed)
            inner, predicate = self.lift(inner, predicate, inner_scope)
            inner = Filter(inner, predicate, rows=5.0)
        value: Expression = Variable(item)
        if node.projection is not None:
            value = rename_variables(node.projection, renamed)
            inner, value = self.lift(inner, value, inner_scope)
        column = self.fresh("c")
        inner = Extend(inner, ((column, value),), rows=inner.rows)
        state[0] = RollUp(state[0], inner, row, name, "collect", column, rows=state[0].rows)
        missing = IsNull(Variable(held), negated=False)
        return Case(None, ((missing, Literal(None)),), Variable(name))


def conjuncts(predicate: Expression | None) -> list[Expression]:
    """The operands of a tree of ANDs, left to right."""
    found: list[Expression] = []
    stack = [] if predicate is None else [predicate]
    while stack:
        node = stack.pop()
        if isinstance(node, Binary) and node.operator == "AND":
            stack.extend((node.right, node.left))
        else:
            found.append(node)
    return found


def is_plain(expression: Any, scope: Scope) -> bool:
    """Whether a value certainly holds no node or relationship."""
    if isinstance(expression, Property) and isinstance(expression.subject, Variable):
        known = scope.get(expression.subject.name)
        return known is PLAIN or known is Kind.NODE or known is Kind.RELATIONSHIP
    if isinstance(expression, FunctionCall) and expression.name in _PLAIN_FUNCTIONS:
        return True
    if isinstance(expression, Variable):
        return scope.get(expression.name) is PLAIN
    if has_pattern(expression):
        return False
    if isinstance(expression, (ListComprehension, Quantifier, Reduce)):
        return all(scope.get(name) is PLAIN for name in free_variables(expression))
    return all(is_plain(part, scope) for part in _parts(expression))


def has_pattern(node: Any) -> bool:
    """Whether a pattern expression stands anywhere in the tree."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, _PATTERNS):
            return True
        stack.extend(_parts(current))
    return False


def free_variables(node: Any) -> frozenset[str]:
    """Variables that the tree reads, without those that it binds itself (``x IN list``).

    Variables inside a pattern count as free: the caller intersects with what is bound.
    """
    if isinstance(node, Variable):
        return frozenset((node.name,))
    if isinstance(node, ListComprehension):
        inner = free_variables(node.predicate) | free_variables(node.projection)
        return free_variables(node.source) | (inner - {node.variable})
    if isinstance(node, Quantifier):
        return free_variables(node.source) | (free_variables(node.predicate) - {node.variable})
    if isinstance(node, Reduce):
        body = free_variables(node.body) - {node.variable, node.accumulator}
        return free_variables(node.initial) | free_variables(node.source) | body
    found: set[str] = set()
    if isinstance(node, (NodePattern, RelationshipPattern)) and node.variable is not None:
        found.add(node.variable)
    for part in _parts(node):
        found |= free_variables(part)
    return frozenset(found)


def rewrite(node: Any, visit: Callable[[Any], Any]) -> Any:
    """The tree with every (outermost) node for which ``visit`` gives one replaced by that."""
    replacement = visit(node)
    if replacement is not None:
        return replacement
    if isinstance(node, tuple):
        parts = tuple(rewrite(part, visit) for part in node)
        return parts if any(a is not b for a, b in zip(parts, node, strict=True)) else node
    if not is_dataclass(node) or isinstance(node, type):
        return node
    changes = {}
    for item in fields(node):
        value = getattr(node, item.name)
        if isinstance(value, tuple) or is_dataclass(value):
            changed = rewrite(value, visit)
            if changed is not value:
                changes[item.name] = changed
    return replace(node, **changes) if changes else node


def rename_variables(node: Any, names: Mapping[str, str]) -> Any:
    """The tree with free variables renamed, in patterns too."""

    def visit(current: Any) -> Any:
        if isinstance(current, Variable) and current.name in names:
            return Variable(names[current.name], position=current.position)
        if isinstance(current, (ListComprehension, Quantifier)) and current.variable in names:
            inner = {k: v for k, v in names.items() if k != current.variable}
            source = rename_variables(current.source, names)
            changes: dict[str, Any] = {"source": source}
            for part in ("predicate", "projection"):
                if hasattr(current, part):
                    changes[part] = rename_variables(getattr(current, part), inner)
            return replace(current, **changes)
        if isinstance(current, (NodePattern, RelationshipPattern)) and (
            current.variable is not None and current.variable in names
        ):
            renamed = replace(current, variable=names[current.variable])
            return replace(renamed, properties=rename_variables(renamed.properties, names))
        return None

    return rewrite(node, visit)


def is_aggregate_free_call(node: Any, name: str) -> bool:
    """Whether ``node`` is a call of ``name`` with one argument."""
    return isinstance(node, FunctionCall) and node.name == name and len(node.arguments) == 1


def _parts(node: Any) -> Iterable[Any]:
    if isinstance(node, tuple):
        return node
    if is_dataclass(node) and not isinstance(node, type):
        values = [getattr(node, item.name) for item in fields(node)]
        return [v for v in values if isinstance(v, tuple) or is_dataclass(v)]
    return ()
