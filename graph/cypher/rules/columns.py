"""Columns that nobody asks for any more are dropped before rows are multiplied.

The rule goes from the result down with the set of names that are needed, and puts a ``Prune``
under every node that copies rows (an expansion copies each input row once for every relationship).
An ``Expand`` does not even make columns that nobody needs, and a path that nobody needs is not
built. The compiler leaves out a ``Prune`` that has nothing to drop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from graph.cypher import plan as p
from graph.cypher.planner_context import free_variables

__all__ = ["prune_columns"]

Names = frozenset[str]
_NONE: Names = frozenset()


def prune_columns(plan: p.Plan, names: tuple[str, ...]) -> p.Plan:
    """The plan with columns dropped; ``names``: what the result needs."""
    return _Pruner().visit(plan, frozenset(names))


class _Pruner:
    """One walk. ``argument`` gathers what the plan being walked needs of its argument."""

    def __init__(self) -> None:
        self.argument: Names = _NONE

    def visit(self, plan: p.Plan, needed: Names) -> p.Plan:
        if isinstance(plan, p.Argument):
            self.argument |= needed
            return plan
        return _VISITS[type(plan)](self, plan, needed)

    def inner(self, plan: p.Plan, needed: Names) -> tuple[p.Plan, Names]:
        """An inner plan, and what it needs of the outer row."""
        walk = _Pruner()
        pruned = walk.visit(plan, needed)
        return pruned, walk.argument

    def below(self, plan: Any, needed: Names) -> p.Plan:
        """A node that copies rows: its input, narrowed."""
        source = self.visit(plan.input, needed)
        if not isinstance(source, p.Argument):
            source = p.Prune(source, tuple(sorted(needed)), rows=source.rows)
        return cast(p.Plan, replace(plan, input=source))

    def through(self, plan: Any, needed: Names) -> p.Plan:
        """A node that passes its input's columns on."""
        return cast(p.Plan, replace(plan, input=self.visit(plan.input, needed)))

    # ----------------------------------------------------------------- leaves and patterns

    def scan(self, plan: Any, needed: Names) -> p.Plan:
        made = {plan.variable, getattr(plan, "source", ""), getattr(plan, "target", "")}
        values = [getattr(plan, key, None) for key in ("value", "values", "low", "high")]
        return self.below(plan, (needed - made) | _free(values))

    def expand(self, plan: p.Expand, needed: Names) -> p.Plan:
        relationship = plan.relationship if plan.relationship in needed else None
        below = needed | {plan.source} | set(plan.distinct_from)
        target = plan.target
        if plan.into:
            below |= {target} if target is not None else _NONE
        else:
            below -= {plan.target or ""} - {plan.source}
            target = target if target in needed else None
        below -= {plan.relationship or ""}
        return self.below(replace(plan, relationship=relationship, target=target), below)

    def variable_expand(self, plan: p.VariableExpand, needed: Names) -> p.Plan:
        relationship = plan.relationship if plan.relationship in needed else None
        below = needed - {plan.relationship or ""}
        if not plan.into:
            below -= {plan.target}
        below |= {plan.source} | set(plan.distinct_from) | _free(plan.properties)
        if plan.into:
            below |= {plan.target}
        return self.below(replace(plan, relationship=relationship), below)

    def shortest_path(self, plan: p.ShortestPath, needed: Names) -> p.Plan:
        path = plan.path if plan.path in needed else None
        below = needed - {plan.relationship, plan.path or ""}
        below |= {plan.source, plan.target} | _free(plan.properties)
        return self.below(replace(plan, path=path), below)

    def bound_relationship(self, plan: p.BoundRelationship, needed: Names) -> p.Plan:
        ends = {(plan.source, plan.source_bound), (plan.target, plan.target_bound)}
        below = needed - {name for name, bound in ends if not bound}
        below |= {plan.variable} | {name for name, bound in ends if bound}
        return self.below(plan, below)

    def build_path(self, plan: p.BuildPath, needed: Names) -> p.Plan:
        if plan.variable not in needed:
            return self.visit(plan.input, needed)
        below = (needed - {plan.variable}) | set(plan.nodes) | set(plan.relationships)
        return self.through(plan, below)

    def as_entity(self, plan: p.AsEntity, needed: Names) -> p.Plan:
        return self.through(plan, needed | {plan.variable})

    # ----------------------------------------------------------------- rows

    def filter(self, plan: p.Filter, needed: Names) -> p.Plan:
        return self.through(plan, needed | free_variables(plan.predicate))

    def extend(self, plan: p.Extend, needed: Names) -> p.Plan:
        made = {name for name, _ in plan.items}
        return self.through(plan, (needed - made) | _free([e for _, e in plan.items]))

    def project(self, plan: p.Project, needed: Names) -> p.Plan:
        return self.through(plan, _free([e for _, e in plan.items]))

    def recall(self, plan: p.Recall, needed: Names) -> p.Plan:
        self.argument |= set(plan.names)
        return self.through(plan, needed - set(plan.names))

    def aggregation(self, plan: p.Aggregation, needed: Names) -> p.Plan:
        below = _free([e for _, e in plan.keys])
        for item in plan.aggregates:
            below |= _free(item.arguments)
        return self.through(plan, below)

    def distinct(self, plan: p.Distinct, needed: Names) -> p.Plan:
        return self.through(plan, frozenset(plan.names))

    def sort(self, plan: Any, needed: Names) -> p.Plan:
        # Sorting holds its whole input.
        return self.below(plan, needed | {name for name, _ in plan.items})

    def limit(self, plan: p.Limit, needed: Names) -> p.Plan:
        return self.through(plan, needed)

    def unwind(self, plan: p.Unwind, needed: Names) -> p.Plan:
        below = (needed - {plan.variable}) | free_variables(plan.source)
        # The list itself is needed for each input row only, not for each of its elements.
        source = self.visit(plan.input, below)
        return replace(plan, input=source, needed=tuple(sorted(needed)))

    def procedure_call(self, plan: p.ProcedureCall, needed: Names) -> p.Plan:
        made = {variable for _, variable in plan.yields}
        return self.below(plan, (needed - made) | _free(plan.arguments))

    def count_store(self, plan: p.CountStore, needed: Names) -> p.Plan:
        return self.through(plan, needed - {plan.name})

    # ----------------------------------------------------------------- two inputs

    def optional(self, plan: p.Optional, needed: Names) -> p.Plan:
        nulls = tuple(item for item in plan.nulls if item[0] in needed)
        inner, asked = self.inner(plan.inner, frozenset(name for name, _ in nulls))
        below = (needed - {name for name, _ in plan.nulls}) | (asked - {plan.row})
        source = self.visit(plan.input, below)
        return replace(plan, input=source, inner=inner, nulls=nulls)

    def semi_apply(self, plan: p.SemiApply, needed: Names) -> p.Plan:
        inner, asked = self.inner(plan.inner, _NONE)
        source = self.visit(plan.input, needed | (asked - {plan.row}))
        return replace(plan, input=source, inner=inner)

    def roll_up(self, plan: p.RollUp, needed: Names) -> p.Plan:
        value = _NONE if plan.value is None else frozenset((plan.value,))
        inner, asked = self.inner(plan.inner, value)
        source = self.visit(plan.input, (needed - {plan.name}) | (asked - {plan.row}))
        return replace(plan, input=source, inner=inner)

    def cartesian(self, plan: p.Cartesian, needed: Names) -> p.Plan:
        right, _ = self.inner(plan.right, needed)
        right = p.Prune(right, tuple(sorted(needed)), rows=right.rows)
        return self.below(replace(plan, right=right), needed)

    def hash_join(self, plan: p.HashJoin, needed: Names) -> p.Plan:
        wanted = needed | _free(plan.right_keys)
        right, _ = self.inner(plan.right, wanted)
        right = p.Prune(right, tuple(sorted(wanted)), rows=right.rows)
        return self.below(replace(plan, right=right), needed | _free(plan.left_keys))

    def union(self, plan: p.Union, needed: Names) -> p.Plan:
        names = frozenset(plan.names)
        return replace(plan, parts=tuple(self.visit(part, names) for part in plan.parts))

    # ----------------------------------------------------------------- writes

    def create(self, plan: p.Create, needed: Names) -> p.Plan:
        return self.below(plan, needed - _made(plan) | _used(plan))

    def update(self, plan: p.Update, needed: Names) -> p.Plan:
        return self.below(plan, needed | _updated(plan.items))

    def delete(self, plan: p.Delete, needed: Names) -> p.Plan:
        return self.below(plan, needed | _free(plan.expressions))

    def merge(self, plan: p.Merge, needed: Names) -> p.Plan:
        made = _made(plan) | ({plan.path[0]} if plan.path is not None else _NONE)
        after = needed | _updated(plan.on_create + plan.on_match)
        match, asked = self.inner(plan.match, after | made)
        below = (after - made) | _used(plan) | set(plan.bound) | (asked - {plan.row} - made)
        return self.below(replace(plan, match=match), below)


def _free(value: Any) -> Names:
    """Variables that an expression, or any in a sequence, reads."""
    return free_variables(tuple(value) if isinstance(value, list) else value)


def _made(plan: p.Create | p.Merge) -> Names:
    nodes = {node.variable for node in plan.nodes}
    return frozenset(nodes | {relationship.variable for relationship in plan.relationships})


def _used(plan: p.Create | p.Merge) -> Names:
    """What creating reads of the input row."""
    found = _free([node.properties for node in plan.nodes])
    for relationship in plan.relationships:
        found |= _free(relationship.properties) | {relationship.source, relationship.target}
    return found - _made(plan)


def _updated(items: tuple[p.UpdateItem, ...]) -> Names:
    found = _NONE
    for item in items:
        found |= free_variables(item.subject) | free_variables(item.value)
    return found


_VISITS: dict[type, Callable[[_Pruner, Any, Names], p.Plan]] = {
    p.AllNodesScan: _Pruner.scan,
    p.NodeLabelScan: _Pruner.scan,
    p.NodeIndexSeek: _Pruner.scan,
    p.NodeIndexIn: _Pruner.scan,
    p.NodeIndexRange: _Pruner.scan,
    p.NodeById: _Pruner.scan,
    p.RelationshipScan: _Pruner.scan,
    p.Expand: _Pruner.expand,
    p.VariableExpand: _Pruner.variable_expand,
    p.ShortestPath: _Pruner.shortest_path,
    p.BoundRelationship: _Pruner.bound_relationship,
    p.BuildPath: _Pruner.build_path,
    p.AsEntity: _Pruner.as_entity,
    p.Filter: _Pruner.filter,
    p.Extend: _Pruner.extend,
    p.Project: _Pruner.project,
    p.Recall: _Pruner.recall,
    p.Aggregation: _Pruner.aggregation,
    p.Distinct: _Pruner.distinct,
    p.Sort: _Pruner.sort,
    p.Top: _Pruner.sort,
    p.Limit: _Pruner.limit,
    p.Unwind: _Pruner.unwind,
    p.ProcedureCall: _Pruner.procedure_call,
    p.CountStore: _Pruner.count_store,
    p.Optional: _Pruner.optional,
    p.SemiApply: _Pruner.semi_apply,
    p.RollUp: _Pruner.roll_up,
    p.Cartesian: _Pruner.cartesian,
    p.HashJoin: _Pruner.hash_join,
    p.Union: _Pruner.union,
    p.Create: _Pruner.create,
    p.Update: _Pruner.update,
    p.Delete: _Pruner.delete,
    p.Merge: _Pruner.merge,
}
