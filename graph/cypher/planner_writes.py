"""Planning of CREATE, MERGE, SET, REMOVE and DELETE."""

from __future__ import annotations

from dataclasses import replace

from graph.cypher import plan as p
from graph.cypher.planner_context import PLAIN, PlannerContext, Scope, free_variables
from graph.cypher.syntax import (
    Create,
    Delete,
    Direction,
    Expression,
    Literal,
    MapLiteral,
    Merge,
    PathPattern,
    Remove,
    RemoveProperty,
    Set,
    SetItem,
    SetLabels,
    SetProperties,
    SetProperty,
    Variable,
)
from graph.vector import Kind

__all__ = ["plan_create", "plan_delete", "plan_merge", "plan_remove", "plan_set"]

PathParts = tuple[str, tuple[str, ...], tuple[str, ...]]


class _Created:
    """What a pattern creates, collected path by path."""

    def __init__(self, context: PlannerContext, scope: Scope) -> None:
        self.context = context
        self.scope: Scope = dict(scope)
        self.nodes: list[p.CreateNode] = []
        self.relationships: list[p.CreateRelationship] = []
        self.paths: list[PathParts] = []

    def add(self, pattern: PathPattern) -> None:
        names: list[str] = []
        for node in pattern.nodes:
            name = node.variable or self.context.fresh("n")
            if name not in self.scope:
                self.nodes.append(p.CreateNode(name, node.labels, node.properties))
                self.scope[name] = Kind.NODE
            names.append(name)
        edges: list[str] = []
        for position, relationship in enumerate(pattern.relationships):
            source, target = names[position], names[position + 1]
            if relationship.direction is Direction.IN:
                source, target = target, source
            name = relationship.variable or self.context.fresh("r")
            self.relationships.append(
                p.CreateRelationship(
                    name, relationship.types[0], source, target, relationship.properties
                )
            )
            self.scope[name] = Kind.RELATIONSHIP
            edges.append(name)
        if pattern.variable is not None:
            self.paths.append((pattern.variable, tuple(names), tuple(edges)))
            self.scope[pattern.variable] = Kind.OBJECT

    def reads(self) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for properties in (
            *(node.properties for node in self.nodes),
            *(relationship.properties for relationship in self.relationships),
        ):
            found |= free_variables(properties)
        return found


def _as_nodes(plan: p.Plan, scope: Scope, names: list[str]) -> p.Plan:
    """Make columns of ids of the bound nodes among ``names``."""
    for name in dict.fromkeys(names):
        if name in scope and scope[name] is not Kind.NODE:
            plan = p.AsEntity(plan, name, True, rows=plan.rows)
            scope[name] = Kind.NODE
    return plan


def plan_create(
    context: PlannerContext, plan: p.Plan, clause: Create, scope: Scope
) -> tuple[p.Plan, Scope]:
    """CREATE. Paths that read what an earlier path of the clause creates run after it."""
    created = _Created(context, scope)
    for pattern in clause.patterns:
        attempt = _Created(context, created.scope)
        attempt.add(pattern)
        if attempt.reads() & (set(created.scope) - set(scope)):
            plan = _create(context, plan, created, scope)
            scope = dict(created.scope)
            created = _Created(context, scope)
        created.add(pattern)
    return _create(context, plan, created, scope), created.scope


def _create(context: PlannerContext, plan: p.Plan, created: _Created, scope: Scope) -> p.Plan:
    ends = [name for r in created.relationships for name in (r.source, r.target)]
    scope = dict(scope)
    plan = _as_nodes(plan, scope, ends)
    nodes: list[p.CreateNode] = []
    for node in created.nodes:
        plan, properties = _lift(context, plan, node.properties, scope)
        nodes.append(replace(node, properties=properties))
    relationships: list[p.CreateRelationship] = []
    for relationship in created.relationships:
        plan, properties = _lift(context, plan, relationship.properties, scope)
        relationships.append(replace(relationship, properties=properties))
    if nodes or relationships:
        plan = p.Create(plan, tuple(nodes), tuple(relationships), rows=plan.rows)
    for variable, path_nodes, path_edges in created.paths:
        plan = p.BuildPath(plan, variable, path_nodes, path_edges, rows=plan.rows)
    return plan


def _lift(
    context: PlannerContext, plan: p.Plan, expression: Expression | None, scope: Scope
) -> tuple[p.Plan, Expression | None]:
    if expression is None:
        return plan, None
    return context.lift(plan, expression, scope)


# --------------------------------------------------------------------------- SET and REMOVE


def _update_item(item: SetItem) -> p.UpdateItem:
    if isinstance(item, SetProperty):
        return p.UpdateItem("property", item.subject, item.key, item.value)
    if isinstance(item, SetProperties):
        action = "merge" if item.merge else "replace"
        return p.UpdateItem(action, Variable(item.variable), value=item.value)
    assert isinstance(item, SetLabels)
    return p.UpdateItem("add_labels", Variable(item.variable), labels=item.labels)


def plan_set(context: PlannerContext, plan: p.Plan, clause: Set, scope: Scope) -> p.Plan:
    return _update(context, plan, [_update_item(item) for item in clause.items], scope)


def plan_remove(context: PlannerContext, plan: p.Plan, clause: Remove, scope: Scope) -> p.Plan:
    items: list[p.UpdateItem] = []
    for item in clause.items:
        if isinstance(item, RemoveProperty):
            items.append(p.UpdateItem("property", item.subject, item.key, Literal(None)))
        else:
            items.append(p.UpdateItem("remove_labels", Variable(item.variable), labels=item.labels))
    return _update(context, plan, items, scope)


def _update(
    context: PlannerContext, plan: p.Plan, items: list[p.UpdateItem], scope: Scope
) -> p.Plan:
    lifted: list[p.UpdateItem] = []
    for item in items:
        plan, value = _lift(context, plan, item.value, scope)
        lifted.append(replace(item, value=value))
    return p.Update(plan, tuple(lifted), rows=plan.rows)


def plan_delete(context: PlannerContext, plan: p.Plan, clause: Delete, scope: Scope) -> p.Plan:
    plan, expressions = context.lift_all(plan, clause.expressions, scope)
    return p.Delete(plan, tuple(expressions), clause.detach, rows=plan.rows)


# --------------------------------------------------------------------------- MERGE


def plan_merge(
    context: PlannerContext, plan: p.Plan, clause: Merge, scope: Scope
) -> tuple[p.Plan, Scope]:
    """MERGE, by one of the fast ways where row order cannot show, else row by row."""
    pattern = _named(context, clause.pattern)
    created = _Created(context, scope)
    created.add(pattern)
    scope_in = dict(scope)
    ends = [name for r in created.relationships for name in (r.source, r.target)]
    plan = _as_nodes(plan, scope_in, ends)
    match, _ = context.plan_pattern(context, p.Argument(), (pattern,), None, scope_in)
    on_create = tuple(_update_item(item) for item in clause.on_create)
    on_match = tuple(_update_item(item) for item in clause.on_match)
    names = {node.variable for node in pattern.nodes}
    fast = _fast_way(pattern, created, scope_in, on_create + on_match)
    paths = list(created.paths)
    merged: p.Plan = p.Merge(
        plan,
        match,
        context.fresh("row"),
        tuple(created.nodes),
        tuple(created.relationships),
        paths[0] if paths and not fast else None,
        on_create,
        on_match,
        tuple(sorted(name for name in names if name is not None and name in scope)),
        fast=fast,
        undirected=any(r.direction is Direction.BOTH for r in pattern.relationships),
        rows=plan.rows,
    )
    if fast:
        for variable, path_nodes, path_edges in paths:
            merged = p.BuildPath(merged, variable, path_nodes, path_edges, rows=plan.rows)
    return merged, created.scope


def _named(context: PlannerContext, pattern: PathPattern) -> PathPattern:
    """The pattern with a name for everything, so that match and create bind the same columns."""
    nodes = tuple(
        n if n.variable is not None else replace(n, variable=context.fresh("n"))
        for n in pattern.nodes
    )
    relationships = tuple(
        r if r.variable is not None else replace(r, variable=context.fresh("r"))
        for r in pattern.relationships
    )
    return replace(pattern, nodes=nodes, relationships=relationships)


def _fast_way(
    pattern: PathPattern, created: _Created, scope: Scope, items: tuple[p.UpdateItem, ...]
) -> str:
    """``node``, ``relationship`` or ``""``: see ``plan.Merge``.

    The fast ways look up all rows at once and then create what is missing. That is the same as
    row after row if what ON CREATE and ON MATCH write cannot change what a later row finds, and
    if the values that the pattern compares with do not depend on the graph's state.
    """
    if len(created.nodes) == 1 and not created.relationships:
        way, target = "node", created.nodes[0]
        labels = set(created.nodes[0].labels)
    elif len(created.relationships) == 1 and not created.nodes:
        way, target = "relationship", created.relationships[0]  # type: ignore[assignment]
        labels = set()
    else:
        return ""
    properties = target.properties
    if properties is not None and not isinstance(properties, MapLiteral):
        return ""
    keys = set() if properties is None else {key for key, _ in properties.items}
    entities = {name for name, kind in scope.items() if kind is not PLAIN}
    for item in items:
        if not _harmless(item, target.variable, keys, labels, entities):
            return ""
    if items and properties is not None and _reads_graph(properties, scope):
        return ""
    return way


def _reads_graph(properties: Expression, scope: Scope) -> bool:
    return any(scope.get(name) is not PLAIN for name in free_variables(properties))


def _harmless(
    item: p.UpdateItem, variable: str, keys: set[str], labels: set[str], entities: set[str]
) -> bool:
    if item.subject != Variable(variable):
        return False
    if item.action == "property":
        if item.key in keys:
            return False
    elif item.action == "add_labels":
        return True
    elif item.action == "remove_labels":
        return not set(item.labels) & labels
    elif item.action != "merge" or variable in free_variables(item.value):
        # What ``+=`` writes is only known at run time; the operator looks before it begins.
        return False
    return item.value is None or not _touches(item.value, variable, entities)


def _touches(value: Expression, variable: str, entities: set[str]) -> bool:
    """Whether a value reads an entity of the row other than the merged one."""
    return bool(free_variables(value) & entities - {variable})
