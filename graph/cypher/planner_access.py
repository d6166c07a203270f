"""Access paths: how the nodes of one pattern variable can be found, and how many there will be.

In order of preference by estimated rows: by id, by index equality, by index ``IN`` list, by index
range, by label, all nodes. A predicate that an index answers exactly is *consumed*; where the index
may give too much (ranges over mixed types, lists with repeated members are exact, ``elementId``)
the predicate stays as a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graph.cypher.plan import (
    AllNodesScan,
    NodeById,
    NodeIndexIn,
    NodeIndexRange,
    NodeIndexSeek,
    NodeLabelScan,
    Plan,
)
from graph.cypher.planner_context import NodeIndex, Statistics, free_variables, has_pattern
from graph.cypher.syntax import (
    Binary,
    Comparison,
    Expression,
    FunctionCall,
    HasLabels,
    IsNull,
    Literal,
    Parameter,
    Property,
    Unary,
    Variable,
)

__all__ = ["AccessPath", "best_access", "selectivity"]

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_IN_ROWS = 5.0  # members expected of a list whose length is not known


@dataclass(frozen=True)
class AccessPath:
    """A leaf plan that can be put on any input. ``seek``: it finds rows without a scan."""

    variable: str
    rows: float
    seek: bool
    consumed: tuple[Expression, ...]
    make: Callable[[Plan, float], Plan]

    def on(self, plan: Plan) -> Plan:
        return self.make(plan, max(plan.rows, 1.0) * self.rows)


@dataclass(frozen=True)
class _Bound:
    """One side of a range: ``key operator value``."""

    key: str
    operator: str
    value: Expression


def best_access(
    variable: str,
    labels: set[str],
    predicates: list[Expression],
    bound: set[str],
    statistics: Statistics,
) -> AccessPath:
    """The access path with the fewest expected rows."""
    usable = [p for p in predicates if variable in free_variables(p) and not has_pattern(p)]
    paths = [
        *_by_id(variable, usable, bound),
        *_by_index(variable, labels, usable, bound, statistics),
        *_by_label(variable, labels, usable, statistics),
    ]
    if not paths:
        paths.append(_all_nodes(variable, statistics))
    return min(paths, key=lambda path: path.rows)


def _all_nodes(variable: str, statistics: Statistics) -> AccessPath:
    return AccessPath(
        variable,
        statistics.nodes,
        False,
        (),
        lambda plan, rows: AllNodesScan(plan, variable, rows=rows),
    )


def _by_label(
    variable: str, labels: set[str], predicates: list[Expression], statistics: Statistics
) -> Iterator[AccessPath]:
    for label in sorted(labels):
        consumed = tuple(_label_tests(variable, label, predicates))
        yield AccessPath(
            variable,
            float(statistics.label_count(label)),
            False,
            consumed,
            lambda plan, rows, label=label: NodeLabelScan(plan, variable, label, rows=rows),  # type: ignore[misc]
        )


def _label_tests(variable: str, label: str, predicates: list[Expression]) -> list[Expression]:
    """Predicates that ask for this label and nothing else."""
    return [
        p
        for p in predicates
        if isinstance(p, HasLabels) and p.subject == Variable(variable) and p.labels == (label,)
    ]


def _by_id(variable: str, predicates: list[Expression], bound: set[str]) -> Iterator[AccessPath]:
    for predicate in predicates:
        if not isinstance(predicate, Binary) or predicate.operator not in ("=", "IN"):
            continue
        sides = [(predicate.left, predicate.right)]
        if predicate.operator == "=":
            sides.append((predicate.right, predicate.left))
        for call, value in sides:
            if not (isinstance(call, FunctionCall) and call.arguments == (Variable(variable),)):
                continue
            if call.name not in ("id", "elementid") or not free_variables(value) <= bound:
                continue
            many = predicate.operator == "IN"
            exact = call.name == "id" and not many
            rows = _IN_ROWS if many else 0.9
            yield AccessPath(
                variable,
                rows,
                True,
                (predicate,) if exact else (),
                lambda plan, rows, value=value, many=many: NodeById(  # type: ignore[misc]
                    plan, variable, value, many, rows=rows
                ),
            )


def _by_index(
    variable: str,
    labels: set[str],
    predicates: list[Expression],
    bound: set[str],
    statistics: Statistics,
) -> Iterator[AccessPath]:
    equal = dict(_equalities(variable, predicates, bound))
    for label in sorted(labels):
        for index in statistics.node_indexes(label):
            if index.keys and all(key in equal for key in index.keys):
                yield _seek(variable, label, index, equal, predicates)
            if len(index.keys) == 1:
                yield from _index_in(variable, label, index, predicates, bound)
                yield from _index_range(variable, label, index, predicates, bound, statistics)


def _seek(
    variable: str,
    label: str,
    index: NodeIndex,
    equal: dict[str, tuple[Expression, Expression]],
    predicates: list[Expression],
) -> AccessPath:
    values = tuple(equal[key][0] for key in index.keys)
    consumed = [equal[key][1] for key in index.keys]
    consumed += _label_tests(variable, label, predicates)

    def make(plan: Plan, rows: float) -> Plan:
        return NodeIndexSeek(plan, variable, label, index.keys, values, index.unique, rows=rows)

    return AccessPath(
        variable, 0.95 if index.unique else index.matches, True, tuple(consumed), make
    )


def _equalities(
    variable: str, predicates: list[Expression], bound: set[str]
) -> Iterator[tuple[str, tuple[Expression, Expression]]]:
    """key -> (value, predicate) of ``variable.key = value`` with a value known beforehand."""
    for predicate in predicates:
        if not (isinstance(predicate, Binary) and predicate.operator == "="):
            continue
        for left, right in (
            (predicate.left, predicate.right),
            (predicate.right, predicate.left),
        ):
            key = _property_of(variable, left)
            if key is not None and free_variables(right) <= bound:
                yield key, (right, predicate)
                break


def _property_of(variable: str, expression: Expression) -> str | None:
    if isinstance(expression, Property) and expression.subject == Variable(variable):
        return expression.key
    return None


def _index_in(
    variable: str, label: str, index: NodeIndex, predicates: list[Expression], bound: set[str]
) -> Iterator[AccessPath]:
    for predicate in predicates:
        if not (isinstance(predicate, Binary) and predicate.operator == "IN"):
            continue
        if _property_of(variable, predicate.left) != index.keys[0]:
            continue
        if not free_variables(predicate.right) <= bound:
            continue
        values = predicate.right
        matches = 1.0 if index.unique else index.matches
        yield AccessPath(
            variable,
            _IN_ROWS * matches,
            True,
            (predicate, *_label_tests(variable, label, predicates)),
            lambda plan, rows, values=values: NodeIndexIn(  # type: ignore[misc]
                plan, variable, label, index.keys[0], values, rows=rows
            ),
        )


def _index_range(
    variable: str,
    label: str,
    index: NodeIndex,
    predicates: list[Expression],
    bound: set[str],
    statistics: Statistics,
) -> Iterator[AccessPath]:
    bounds = [b for p in predicates for b in _bounds(variable, p, bound) if b.key == index.keys[0]]
    low = next((b for b in bounds if b.operator in (">", ">=")), None)
    high = next((b for b in bounds if b.operator in ("<", "<=")), None)
    if low is None and high is None:
        return
    share = 0.1 if low is not None and high is not None else 0.3
    rows_expected = max(statistics.label_count(label) * share, 1.0)
    low_value, low_inclusive = (None, False) if low is None else (low.value, low.operator == ">=")
    high_value, high_inclusive = (
        (None, False) if high is None else (high.value, high.operator == "<=")
    )

    def make(plan: Plan, rows: float) -> Plan:
        return NodeIndexRange(
            plan,
            variable,
            label,
            index.keys[0],
            low_value,
            low_inclusive,
            high_value,
            high_inclusive,
            rows=rows,
        )

    consumed = tuple(_label_tests(variable, label, predicates))
    yield AccessPath(variable, rows_expected, True, consumed, make)


def _bounds(variable: str, predicate: Expression, bound: set[str]) -> Iterator[_Bound]:
    """``variable.key < value`` and the like, from single comparisons and from chains."""
    if isinstance(predicate, Binary) and predicate.operator in _FLIPPED:
        triples = [(predicate.left, predicate.operator, predicate.right)]
    elif isinstance(predicate, Comparison):
        triples = list(
            zip(predicate.operands, predicate.operators, predicate.operands[1:], strict=False)
        )
    else:
        return
    for left, operator, right in triples:
        if operator not in _FLIPPED:
            continue
        for subject, sign, value in (
            (left, operator, right),
            (right, _FLIPPED[operator], left),
        ):
            key = _property_of(variable, subject)
            if key is not None and free_variables(value) <= bound:
                yield _Bound(key, sign, value)


def selectivity(predicate: Expression, statistics: Statistics) -> float:
    """The share of rows that is expected to pass: rules of thumb, no histograms."""
    if isinstance(predicate, HasLabels):
        share = 1.0
        for label in predicate.labels:
            share *= min(statistics.label_count(label) / max(statistics.nodes, 1.0), 1.0)
        return share
    if isinstance(predicate, Unary) and predicate.operator == "NOT":
        return 1.0 - selectivity(predicate.operand, statistics) * 0.99
    if isinstance(predicate, IsNull):
        return 0.9 if predicate.negated else 0.1
    if isinstance(predicate, Binary):
        return {"=": 0.1, "IN": 0.2, "<>": 0.9, "OR": 0.6}.get(predicate.operator, 0.3)
    if isinstance(predicate, (Literal, Parameter)):
        return 1.0
    return 0.3
