"""From a plan to operators: expressions compiled, columns of each node known.

The compiler walks a plan from its argument upwards and keeps, beside each operator, the columns
that it gives. An expression is compiled against the columns of its input, so that a plan that
refers to a missing column fails here and not in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graph.cypher import plan as p
from graph.cypher.evaluation import Compiled, Scope
from graph.cypher.expressions import compile_expression
from graph.cypher.functions.aggregates import make_aggregate
from graph.cypher.operators import (
    aggregate,
    apply,
    create,
    expand,
    joins,
    merge,
    rows,
    scans,
    update,
    variable,
)
from graph.cypher.operators import sort as sorting
from graph.cypher.operators.base import ArgumentOperator, Operator
from graph.cypher.operators.call import ProcedureCallOperator
from graph.cypher.operators.delete import DeleteOperator
from graph.cypher.operators.shortest import ShortestPathOperator
from graph.cypher.operators.writer import PropertySource
from graph.cypher.planner_context import free_variables
from graph.cypher.procedures import Procedures, find_procedure
from graph.cypher.syntax import (
    Binary,
    Expression,
    FunctionCall,
    MapLiteral,
    Property,
    Variable,
)
from graph.vector import Kind

__all__ = ["compile_plan", "walk"]

Columns = dict[str, Kind | None]


def walk(plan: p.Plan) -> list[p.Plan]:
    """All nodes of a plan, parents first; a node's place here is its operator's number."""
    found: list[p.Plan] = []
    stack = [plan]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(reversed(p.children(node)))
    return found


def compile_plan(plan: p.Plan, procedures: Procedures) -> Operator:
    """The operators of a whole statement's plan."""
    return _Compiler(plan, procedures).compile(plan, {})[0]


class _Compiler:
    def __init__(self, plan: p.Plan, procedures: Procedures) -> None:
        self.procedures = procedures
        self.numbers = {id(node): number for number, node in enumerate(walk(plan))}

    def compile(self, plan: p.Plan, outer: Columns) -> tuple[Operator, Columns]:
        """The operator of a node and the columns that it gives; ``outer``: the argument's."""
        operator: Operator
        if isinstance(plan, p.Argument):
            operator, columns = ArgumentOperator(), dict(outer)
        else:
            make = _METHODS[type(plan)]
            operator, columns = make(self, plan, outer)
        operator.number = self.numbers.get(id(plan), -1)
        return operator, columns

    def expression(self, expression: Expression, columns: Columns) -> Compiled:
        return compile_expression(expression, Scope(columns))

    def optional(self, expression: Expression | None, columns: Columns) -> Compiled | None:
        return None if expression is None else self.expression(expression, columns)

    def items(
        self, items: tuple[tuple[str, Expression], ...], columns: Columns
    ) -> tuple[tuple[str, Compiled], ...]:
        return tuple((name, self.expression(e, columns)) for name, e in items)

    # ----------------------------------------------------------------- scans

    def nodes_scan(self, plan: Any, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        label = plan.label if isinstance(plan, p.NodeLabelScan) else None
        operator = scans.NodeScanOperator(source, plan.variable, label)
        return operator, {**columns, plan.variable: Kind.NODE}

    def index_seek(self, plan: p.NodeIndexSeek, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        values = tuple(self.expression(value, columns) for value in plan.values)
        operator = scans.NodeIndexSeekOperator(source, plan.variable, plan.label, plan.keys, values)
        return operator, {**columns, plan.variable: Kind.NODE}

    def index_in(self, plan: p.NodeIndexIn, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        values = self.expression(plan.values, columns)
        operator = scans.NodeIndexInOperator(source, plan.variable, plan.label, plan.key, values)
        return operator, {**columns, plan.variable: Kind.NODE}

    def index_range(self, plan: p.NodeIndexRange, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        low = (self.optional(plan.low, columns), plan.low_inclusive)
        high = (self.optional(plan.high, columns), plan.high_inclusive)
        operator = scans.NodeIndexRangeOperator(
            source, plan.variable, plan.label, plan.key, low, high
        )
        return operator, {**columns, plan.variable: Kind.NODE}

    def node_by_id(self, plan: p.NodeById, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        value = self.expression(plan.value, columns)
        operator = scans.NodeByIdOperator(source, plan.variable, value, plan.many)
        return operator, {**columns, plan.variable: Kind.NODE}

    def relationship_scan(
        self, plan: p.RelationshipScan, outer: Columns
    ) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = scans.RelationshipScanOperator(
            source, plan.variable, plan.source, plan.target, plan.types, plan.direction
        )
        added: Columns = {
            plan.variable: Kind.RELATIONSHIP,
            plan.source: Kind.NODE,
            plan.target: Kind.NODE,
        }
        return operator, {**columns, **added}

    # ----------------------------------------------------------------- patterns

    def expand(self, plan: p.Expand, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        columns = dict(columns)
        operator: Operator
        if plan.into:
            assert plan.target is not None
            operator = expand.ExpandIntoOperator(
                source,
                plan.source,
                plan.relationship,
                plan.target,
                plan.types,
                plan.direction,
                plan.distinct_from,
            )
        else:
            operator = expand.ExpandOperator(
                source,
                plan.source,
                plan.relationship,
                plan.target,
                plan.types,
                plan.direction,
                plan.distinct_from,
            )
            if plan.target is not None:
                columns[plan.target] = Kind.NODE
        if plan.relationship is not None:
            columns[plan.relationship] = Kind.RELATIONSHIP
        return operator, columns

    def steps(self, plan: Any, columns: Columns) -> variable.Steps:
        """What the relationships of a variable-length pattern must satisfy."""
        test: Expression | None = None
        for key, value in plan.properties:
            equal = Binary("=", Property(Variable(variable.EDGE), key), value)
            test = equal if test is None else Binary("AND", test, equal)
        step_filter = None
        if test is not None:
            scope: Columns = {**columns, variable.EDGE: Kind.RELATIONSHIP}
            needed = tuple(sorted(free_variables(test) - {variable.EDGE}))
            step_filter = variable.StepFilter(self.expression(test, scope), needed)
        return variable.Steps(
            plan.types or None,
            plan.direction,
            plan.minimum,
            plan.maximum,
            step_filter,
            getattr(plan, "distinct_from", ()),
        )

    def variable_expand(self, plan: p.VariableExpand, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        steps = self.steps(plan, columns)
        operator: Operator
        if plan.reach:
            operator = variable.ReachOperator(source, plan.source, plan.target, steps)
        else:
            operator = variable.VariableExpandOperator(
                source,
                (plan.source, plan.target),
                plan.relationship,
                steps,
                into=plan.into,
                reverse=plan.reverse,
            )
        columns = {**columns, plan.target: Kind.NODE}
        if plan.relationship is not None:
            columns[plan.relationship] = Kind.OBJECT
        return operator, columns

    def shortest_path(self, plan: p.ShortestPath, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = ShortestPathOperator(
            source,
            (plan.source, plan.target),
            plan.relationship,
            plan.path,
            self.steps(plan, columns),
            every=plan.every,
        )
        columns = {**columns, plan.relationship: Kind.OBJECT}
        if plan.path is not None:
            columns[plan.path] = Kind.OBJECT
        return operator, columns

    def bound_relationship(
        self, plan: p.BoundRelationship, outer: Columns
    ) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        ends = (plan.source, plan.target)
        bound = (plan.source_bound, plan.target_bound)
        operator: Operator
        if plan.many:
            operator = expand.BoundRelationshipsOperator(
                source,
                plan.variable,
                ends,
                bound,
                plan.types,
                plan.direction,
                (plan.minimum, plan.maximum),
            )
        else:
            operator = expand.BoundRelationshipOperator(
                source, plan.variable, ends, bound, plan.types, plan.direction
            )
        return operator, {**columns, plan.source: Kind.NODE, plan.target: Kind.NODE}

    def build_path(self, plan: p.BuildPath, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = rows.BuildPathOperator(source, plan.variable, plan.nodes, plan.relationships)
        return operator, {**columns, plan.variable: Kind.OBJECT}

    def as_entity(self, plan: p.AsEntity, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        kind = Kind.NODE if plan.node else Kind.RELATIONSHIP
        operator = rows.AsEntityOperator(source, plan.variable, kind)
        return operator, {**columns, plan.variable: kind}

    # ----------------------------------------------------------------- rows

    def filter(self, plan: p.Filter, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        return rows.FilterOperator(source, self.expression(plan.predicate, columns)), columns

    def extend(self, plan: p.Extend, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = rows.ExtendOperator(source, self.items(plan.items, columns))
        return operator, {**columns, **_kinds(plan.items, columns)}

    def project(self, plan: p.Project, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = rows.ProjectOperator(source, self.items(plan.items, columns))
        return operator, _kinds(plan.items, columns)

    def prune(self, plan: p.Prune, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        kept = {name: kind for name, kind in columns.items() if name in plan.names}
        hidden = sum(name == p.REQUEST or name.startswith("@row") for name in columns)
        if len(kept) + hidden >= len(columns):
            return source, columns
        return rows.PruneOperator(source, tuple(kept)), kept

    def recall(self, plan: p.Recall, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        recalled = {name: outer[name] for name in plan.names}
        return rows.RecallOperator(source, plan.names), {**columns, **recalled}

    def aggregation(self, plan: p.Aggregation, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        aggregates = tuple(
            aggregate.AggregateColumn(
                item.name,
                make_aggregate(item.function, item.distinct),
                tuple(self.expression(a, columns) for a in item.arguments),
            )
            for item in plan.aggregates
        )
        keys = self.items(plan.keys, columns)
        operator = aggregate.AggregationOperator(source, keys, aggregates)
        given: Columns = {item.name: None for item in plan.aggregates}
        return operator, {**_kinds(plan.keys, columns), **given}

    def distinct(self, plan: p.Distinct, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = aggregate.DistinctOperator(source, plan.names)
        return operator, {name: columns[name] for name in plan.names}

    def sort(self, plan: p.Sort, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        return sorting.SortOperator(source, plan.items), columns

    def top(self, plan: p.Top, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        limit = self.expression(plan.limit, {})
        skip = self.optional(plan.skip, {})
        return sorting.TopOperator(source, plan.items, limit, skip), columns

    def limit(self, plan: p.Limit, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        limit, skip = self.optional(plan.limit, {}), self.optional(plan.skip, {})
        return sorting.LimitOperator(source, limit, skip, plan.exhaust), columns

    def unwind(self, plan: p.Unwind, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        bounds = None
        if isinstance(plan.source, FunctionCall) and plan.source.name == "range":
            bounds = tuple(self.expression(a, columns) for a in plan.source.arguments)
        dropped: tuple[str, ...] = ()
        if plan.needed is not None:
            hidden = (p.REQUEST, "@row")
            dropped = tuple(
                name for name in columns if name not in plan.needed and not name.startswith(hidden)
            )
        operator = rows.UnwindOperator(
            source, self.expression(plan.source, columns), plan.variable, bounds, dropped
        )
        kept = {name: kind for name, kind in columns.items() if name not in dropped}
        return operator, {**kept, plan.variable: None}

    def procedure_call(self, plan: p.ProcedureCall, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        arguments = tuple(self.expression(a, columns) for a in plan.arguments)
        procedure = find_procedure(self.procedures, plan.name)
        operator = ProcedureCallOperator(source, procedure, arguments, plan.yields)
        return operator, {**columns, **{variable: None for _, variable in plan.yields}}

    def count_store(self, plan: p.CountStore, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = rows.CountStoreOperator(source, plan.name, plan.what, plan.label)
        return operator, {**columns, plan.name: Kind.INT}

    # ----------------------------------------------------------------- two inputs

    def inner(self, plan: p.Plan, columns: Columns, row: str) -> tuple[Operator, Columns]:
        return self.compile(plan, {**columns, row: Kind.INT})

    def optional_match(self, plan: p.Optional, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        inner, _ = self.inner(plan.inner, columns, plan.row)
        nulls = tuple((name, Kind(kind)) for name, kind in plan.nulls)
        operator = apply.OptionalOperator(source, inner, plan.row, nulls)
        return operator, {**columns, **dict(nulls)}

    def semi_apply(self, plan: p.SemiApply, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        inner, _ = self.inner(plan.inner, columns, plan.row)
        return apply.SemiApplyOperator(source, inner, plan.row, plan.negated), columns

    def roll_up(self, plan: p.RollUp, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        inner, _ = self.inner(plan.inner, columns, plan.row)
        operator = apply.RollUpOperator(source, inner, plan.row, plan.name, plan.mode, plan.value)
        kind = {"exists": Kind.BOOL, "count": Kind.INT}.get(plan.mode, Kind.OBJECT)
        return operator, {**columns, plan.name: kind}

    def cartesian(self, plan: p.Cartesian, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        right, added = self.compile(plan.right, {})
        return joins.CartesianOperator(source, right), {**columns, **added}

    def hash_join(self, plan: p.HashJoin, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        right, added = self.compile(plan.right, {})
        left_keys = tuple(self.expression(key, columns) for key in plan.left_keys)
        right_keys = tuple(self.expression(key, added) for key in plan.right_keys)
        operator = joins.HashJoinOperator(source, right, left_keys, right_keys)
        return operator, {**columns, **added}

    def union(self, plan: p.Union, outer: Columns) -> tuple[Operator, Columns]:
        parts = tuple(self.compile(part, outer)[0] for part in plan.parts)
        return joins.UnionOperator(parts, plan.names), dict.fromkeys(plan.names)

    # ----------------------------------------------------------------- writes

    def properties(self, properties: Expression | None, columns: Columns) -> PropertySource:
        if properties is None:
            return PropertySource()
        if isinstance(properties, MapLiteral):
            # Of a repeated key the last value counts.
            items = dict(properties.items)
            return PropertySource(self.items(tuple(items.items()), columns))
        return PropertySource(whole=self.expression(properties, columns))

    def blueprint(self, plan: p.Create | p.Merge, columns: Columns) -> create.Blueprint:
        nodes = tuple(
            create.NewNode(n.variable, n.labels, self.properties(n.properties, columns))
            for n in plan.nodes
        )
        relationships = tuple(
            create.NewRelationship(
                r.variable, r.type, r.source, r.target, self.properties(r.properties, columns)
            )
            for r in plan.relationships
        )
        return create.Blueprint(nodes, relationships)

    def create(self, plan: p.Create, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        operator = create.CreateOperator(source, self.blueprint(plan, columns))
        return operator, {**columns, **_created(plan)}

    def update_items(self, items: tuple[p.UpdateItem, ...], columns: Columns) -> update.UpdateItems:
        steps = tuple(
            update.UpdateStep(
                item.action,
                self.expression(item.subject, columns),
                item.subject.name if isinstance(item.subject, Variable) else None,
                item.key,
                self.optional(item.value, columns),
                item.labels,
                free_variables(item.value) & set(columns),
            )
            for item in items
        )
        return update.UpdateItems(steps)

    def update(self, plan: p.Update, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        return update.UpdateOperator(source, self.update_items(plan.items, columns)), columns

    def delete(self, plan: p.Delete, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        expressions = tuple(self.expression(e, columns) for e in plan.expressions)
        return DeleteOperator(source, expressions, plan.detach), columns

    def merge(self, plan: p.Merge, outer: Columns) -> tuple[Operator, Columns]:
        source, columns = self.compile(plan.input, outer)
        blueprint = self.blueprint(plan, columns)
        given: Columns = {**columns, **_created(plan)}
        if plan.path is not None:
            given[plan.path[0]] = Kind.OBJECT
        actions = merge.MergeActions(
            self.update_items(plan.on_create, given), self.update_items(plan.on_match, given)
        )
        match, _ = self.inner(plan.match, columns, plan.row)
        general = merge.MergeOperator(
            source, match, blueprint, plan.path, actions, plan.bound, plan.row
        )
        operator: Operator = general
        if plan.fast == "node":
            operator = merge.MergeNodeOperator(general)
        elif plan.fast == "relationship":
            operator = merge.MergeRelationshipOperator(general, plan.undirected)
        return operator, given


def _kinds(items: tuple[tuple[str, Expression], ...], columns: Columns) -> Columns:
    """Static kinds of projected columns: those of variables that are passed on."""
    return {name: columns.get(e.name) if isinstance(e, Variable) else None for name, e in items}


def _created(plan: p.Create | p.Merge) -> Columns:
    nodes: Columns = {n.variable: Kind.NODE for n in plan.nodes}
    return {**nodes, **{r.variable: Kind.RELATIONSHIP for r in plan.relationships}}


_METHODS: dict[type, Callable[[_Compiler, Any, Columns], tuple[Operator, Columns]]] = {
    p.AllNodesScan: _Compiler.nodes_scan,
    p.NodeLabelScan: _Compiler.nodes_scan,
    p.NodeIndexSeek: _Compiler.index_seek,
    p.NodeIndexIn: _Compiler.index_in,
    p.NodeIndexRange: _Compiler.index_range,
    p.NodeById: _Compiler.node_by_id,
    p.RelationshipScan: _Compiler.relationship_scan,
    p.Expand: _Compiler.expand,
    p.VariableExpand: _Compiler.variable_expand,
    p.ShortestPath: _Compiler.shortest_path,
    p.BoundRelationship: _Compiler.bound_relationship,
    p.BuildPath: _Compiler.build_path,
    p.AsEntity: _Compiler.as_entity,
    p.Filter: _Compiler.filter,
    p.Extend: _Compiler.extend,
    p.Project: _Compiler.project,
    p.Prune: _Compiler.prune,
    p.Recall: _Compiler.recall,
    p.Aggregation: _Compiler.aggregation,
    p.Distinct: _Compiler.distinct,
    p.Sort: _Compiler.sort,
    p.Top: _Compiler.top,
    p.Limit: _Compiler.limit,
    p.Unwind: _Compiler.unwind,
    p.ProcedureCall: _Compiler.procedure_call,
    p.CountStore: _Compiler.count_store,
    p.Optional: _Compiler.optional_match,
    p.SemiApply: _Compiler.semi_apply,
    p.RollUp: _Compiler.roll_up,
    p.Cartesian: _Compiler.cartesian,
    p.HashJoin: _Compiler.hash_join,
    p.Union: _Compiler.union,
    p.Create: _Compiler.create,
    p.Update: _Compiler.update,
    p.Delete: _Compiler.delete,
    p.Merge: _Compiler.merge,
}
