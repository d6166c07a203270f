"""Planning of WITH and RETURN: projection, aggregation, DISTINCT, ORDER BY, SKIP, LIMIT, WHERE.

The order of effects is that of openCypher 9, section "WITH": project or aggregate, DISTINCT,
ORDER BY, SKIP, LIMIT, then WHERE. ORDER BY and WHERE see the projected names and, unless the
projection aggregates or is DISTINCT, the variables from before; a projected name hides an older
one. An expression in ORDER BY that equals a projected expression means its column.
"""

from __future__ import annotations

from dataclasses import dataclass

from graph.cypher import trees
from graph.cypher.plan import (
    AggregateItem,
    Aggregation,
    Distinct,
    Extend,
    Filter,
    Limit,
    Plan,
    Project,
    Recall,
    Sort,
)
from graph.cypher.planner_context import (
    PLAIN,
    PlannerContext,
    Scope,
    conjuncts,
    free_variables,
    is_plain,
    rewrite,
)
from graph.cypher.syntax import (
    CountStar,
    Expression,
    FunctionCall,
    Projection,
    Variable,
)

__all__ = ["plan_projection"]

Items = list[tuple[str, Expression]]


def is_aggregate(node: object) -> bool:
    return isinstance(node, Expression) and trees.is_aggregate(node)


def has_aggregate(node: Expression) -> bool:
    found = False

    def visit(current: object) -> object:
        nonlocal found
        found = found or is_aggregate(current)
        return current if found else None

    rewrite(node, visit)
    return found


@dataclass
class _Clause:
    """A projection while it is planned."""

    context: PlannerContext
    plan: Plan
    scope: Scope  # of the clauses before
    items: Items
    order: list[tuple[Expression, bool]]
    where: Expression | None
    result: Scope


def plan_projection(
    context: PlannerContext,
    plan: Plan,
    projection: Projection,
    where: Expression | None,
    scope: Scope,
    *,
    writes: bool,
    imported: Scope,
) -> tuple[Plan, Scope]:
    """The plan of WITH or RETURN on top of ``plan``.

    ``writes``: a write clause came before. ``imported``: variables from around a subquery, which
    ORDER BY and WHERE see whatever is projected.
    """
    items = _items(projection, scope)
    names = [name for name, _ in items]
    order = [
        (_with_columns(item.expression, items, scope), item.descending)
        for item in projection.order_by
    ]
    clause = _Clause(context, plan, scope, items, order, where, _result_scope(items, scope))
    if where is not None:
        clause.where = _with_columns(where, items, scope)
    aggregates = any(has_aggregate(e) for _, e in items) or any(
        has_aggregate(item.expression) for item in projection.order_by
    )
    if aggregates:
        visible = _aggregate(clause)
    elif projection.distinct:
        visible = _project(clause)
    else:
        visible = _extend(clause)
    if projection.distinct:
        rows = max(clause.plan.rows * 0.5, 1.0)
        clause.plan = Distinct(clause.plan, tuple(names), rows=rows)
        visible = set(names)
    visible |= _recall(clause, visible, imported)
    _sort(clause, visible)
    _limit(clause, projection, writes=writes)
    _where(clause)
    if visible != set(names) or projection.order_by:
        items_out = tuple((name, Variable(name)) for name in names)
        clause.plan = Project(clause.plan, items_out, rows=clause.plan.rows)
    return clause.plan, clause.result


def _items(projection: Projection, scope: Scope) -> Items:
    items: Items = []
    if projection.star:
        items.extend((name, Variable(name)) for name in sorted(scope) if not name.startswith("@"))
    items.extend((item.name, item.expression) for item in projection.items)
    return items


def _result_scope(items: Items, scope: Scope) -> Scope:
    result: Scope = {}
    for name, expression in items:
        if isinstance(expression, Variable):
            result[name] = scope.get(expression.name)
        else:
            result[name] = PLAIN if is_plain(expression, scope) else None
    return result


def _with_columns(expression: Expression, items: Items, scope: Scope) -> Expression:
    """``expression`` with every projected expression in it replaced by its column."""
    columns = {e: name for name, e in items if not isinstance(e, Variable)}
    # A variable that is projected under another name, unless the name is still what it was.
    names = {name for name, _ in items}
    columns |= {e: name for name, e in items if isinstance(e, Variable) and e.name not in names}

    def visit(node: object) -> object:
        if isinstance(node, Expression):
            name = columns.get(node)
            return None if name is None else Variable(name)
        return None

    replaced: Expression = rewrite(expression, visit)
    return replaced


# --------------------------------------------------------------------------- the three forms


def _extend(clause: _Clause) -> set[str]:
    """Plain projection. Older variables stay while ORDER BY or WHERE need them."""
    clause.plan, expressions = clause.context.lift_all(
        clause.plan, [e for _, e in clause.items], clause.scope
    )
    names = [name for name, _ in clause.items]
    items = tuple(zip(names, expressions, strict=True))
    needed: set[str] = set()
    for expression in [e for e, _ in clause.order] + [clause.where]:
        needed |= free_variables(expression)
    older = (needed & set(clause.scope)) - set(names)
    kept = tuple((name, Variable(name)) for name in sorted(older))
    clause.plan = Project(clause.plan, items + kept, rows=clause.plan.rows)
    clause.result = _result_scope(list(zip(names, expressions, strict=True)), clause.scope)
    return set(names) | older


def _project(clause: _Clause) -> set[str]:
    clause.plan, expressions = clause.context.lift_all(
        clause.plan, [e for _, e in clause.items], clause.scope
    )
    names = [name for name, _ in clause.items]
    items = tuple(zip(names, expressions, strict=True))
    clause.plan = Project(clause.plan, items, rows=clause.plan.rows)
    return set(names)


def _aggregate(clause: _Clause) -> set[str]:
    """Aggregation: group by the items without aggregates, then compute the others on top."""
    keys: Items = [(name, e) for name, e in clause.items if not has_aggregate(e)]
    collected: dict[Expression, str] = {}
    outputs: Items = []
    key_columns = {e: name for name, e in keys}

    def visit(node: object) -> object:
        if is_aggregate(node):
            assert isinstance(node, Expression)
            if node not in collected:
                collected[node] = clause.context.fresh("a")
            return Variable(collected[node])
        if isinstance(node, Expression) and node in key_columns:
            return Variable(key_columns[node])
        return None

    for name, expression in clause.items:
        if has_aggregate(expression):
            outputs.append((name, rewrite(expression, visit)))
    clause.order = [(rewrite(e, visit), descending) for e, descending in clause.order]
    clause.plan = _aggregation(clause, keys, collected)
    columns = {name for name, _ in keys} | set(collected.values())
    direct = {e.name for _, e in outputs if isinstance(e, Variable)}
    if len(outputs) == len(direct) and direct <= set(collected.values()):
        clause.plan = _renamed(clause.plan, outputs)
        return (columns - direct) | {name for name, _ in outputs}
    clause.plan = Extend(clause.plan, tuple(outputs), rows=clause.plan.rows)
    return columns | {name for name, _ in outputs}


def _aggregation(clause: _Clause, keys: Items, collected: dict[Expression, str]) -> Plan:
    plan, lifted = clause.context.lift_all(clause.plan, [e for _, e in keys], clause.scope)
    keys = [(name, e) for (name, _), e in zip(keys, lifted, strict=True)]
    aggregates: list[AggregateItem] = []
    for node, column in collected.items():
        if isinstance(node, CountStar):
            aggregates.append(AggregateItem(column, "count", (), False))
            continue
        assert isinstance(node, FunctionCall)
        plan, arguments = clause.context.lift_all(plan, node.arguments, clause.scope)
        aggregates.append(AggregateItem(column, node.name, tuple(arguments), node.distinct))
    rows = max(plan.rows**0.75, 1.0) if keys else 1.0
    return Aggregation(plan, tuple(keys), tuple(aggregates), rows=rows)


def _renamed(plan: Plan, outputs: Items) -> Plan:
    """Give the aggregates their final names at once where each is an output as it is."""
    assert isinstance(plan, Aggregation)
    final = {e.name: name for name, e in outputs if isinstance(e, Variable)}
    aggregates = tuple(
        AggregateItem(final.get(a.name, a.name), a.function, a.arguments, a.distinct)
        for a in plan.aggregates
    )
    return Aggregation(plan.input, plan.keys, aggregates, rows=plan.rows)


# --------------------------------------------------------------------------- what follows


def _recall(clause: _Clause, visible: set[str], imported: Scope) -> set[str]:
    """Bring back variables from around a subquery that ORDER BY or WHERE ask for."""
    needed: set[str] = set()
    for expression in [e for e, _ in clause.order] + [clause.where]:
        needed |= free_variables(expression)
    names = (needed & set(imported)) - visible
    if names:
        clause.plan = Recall(clause.plan, tuple(sorted(names)), rows=clause.plan.rows)
    return names


def _sort(clause: _Clause, visible: set[str]) -> None:
    if not clause.order:
        return
    scope: Scope = {**clause.scope, **clause.result}
    columns: list[tuple[str, bool]] = []
    added: Items = []
    for expression, descending in clause.order:
        if isinstance(expression, Variable) and expression.name in visible:
            columns.append((expression.name, descending))
            continue
        clause.plan, lifted = clause.context.lift(clause.plan, expression, scope)
        name = clause.context.fresh("s")
        added.append((name, lifted))
        columns.append((name, descending))
    if added:
        clause.plan = Extend(clause.plan, tuple(added), rows=clause.plan.rows)
    clause.plan = Sort(clause.plan, tuple(columns), rows=clause.plan.rows)


def _limit(clause: _Clause, projection: Projection, *, writes: bool) -> None:
    if projection.limit is None and projection.skip is None:
        return
    rows = min(clause.plan.rows, 10.0) if projection.limit is not None else clause.plan.rows
    clause.plan = Limit(clause.plan, projection.limit, projection.skip, writes, rows=rows)


def _where(clause: _Clause) -> None:
    scope: Scope = {**clause.scope, **clause.result}
    for predicate in conjuncts(clause.where):
        clause.plan, lifted = clause.context.lift(clause.plan, predicate, scope)
        clause.plan = Filter(clause.plan, lifted, rows=max(clause.plan.rows * 0.3, 1.0))
