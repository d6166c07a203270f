"""From a syntax tree to a plan: one method for each clause, each on top of the plan before it.

The planner keeps a scope (what is bound, and what it is known to hold) beside the growing plan.
Clauses read what the clauses before them did, the whole of it: write operators consume their
input before they write, so a plan never sees half of an earlier clause's effects.

Planning needs statistics and the list of indexes, so a plan belongs to a root's schema; the
engine plans again when that changes. Rewrites that look at whole plans are in ``rules/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graph.cypher import plan as p
from graph.cypher.planner_context import (
    PLAIN,
    PlannerContext,
    Scope,
    Statistics,
    conjuncts,
    is_plain,
)
from graph.cypher.planner_patterns import plan_pattern
from graph.cypher.planner_projection import plan_projection
from graph.cypher.planner_writes import (
    plan_create,
    plan_delete,
    plan_merge,
    plan_remove,
    plan_set,
)
from graph.cypher.procedures import BUILT_IN, Procedures, find_procedure
from graph.cypher.syntax import (
    CallProcedure,
    Clause,
    Create,
    Delete,
    Match,
    Merge,
    Parameter,
    Query,
    Remove,
    Return,
    Set,
    SingleQuery,
    Unwind,
    Variable,
    With,
)
from graph.vector import Kind

__all__ = ["PlannedQuery", "plan_query"]

_WRITES = (Create, Merge, Set, Remove, Delete)
_UNWIND_ROWS = 10.0


@dataclass(frozen=True)
class PlannedQuery:
    """A plan and the names of its result columns (none without RETURN)."""

    plan: p.Plan
    fields: tuple[str, ...]


def plan_query(
    query: Query, statistics: Statistics, procedures: Procedures = BUILT_IN
) -> PlannedQuery:
    """The plan of an analysed query, before rewrites."""

    def subquery(context: PlannerContext, inner: Query, scope: Scope) -> p.Plan:
        return _plan_parts(context, inner, procedures, scope).plan

    context = PlannerContext(statistics, plan_pattern, subquery)
    return _plan_parts(context, query, procedures, {})


def _plan_parts(
    context: PlannerContext, query: Query, procedures: Procedures, imported: Scope
) -> PlannedQuery:
    """All parts of a UNION; ``imported``: variables of the query around a subquery."""
    parts = [_SinglePlanner(context, part, procedures, imported).plan() for part in query.parts]
    result = parts[0]
    for everything, part in zip(query.union_all, parts[1:], strict=True):
        names = result.fields
        rows = result.plan.rows + part.plan.rows
        plan: p.Plan = p.Union((result.plan, part.plan), names, rows=rows)
        if not everything:
            plan = p.Distinct(plan, names, rows=rows)
        result = PlannedQuery(plan, names)
    return result


class _SinglePlanner:
    """Plans the clauses of one part of a UNION."""

    def __init__(
        self,
        context: PlannerContext,
        query: SingleQuery,
        procedures: Procedures,
        imported: Scope,
    ) -> None:
        self.context = context
        self.query = query
        self.procedures = procedures
        self.tree: p.Plan = p.Argument()
        self.scope: Scope = dict(imported)
        self.imported = imported
        self.fields: tuple[str, ...] = ()
        self.writes = False

    def plan(self) -> PlannedQuery:
        methods: dict[type, Callable[[Clause], None]] = {
            Match: self._match,  # type: ignore[dict-item]
            Unwind: self._unwind,  # type: ignore[dict-item]
            With: self._with,  # type: ignore[dict-item]
            Return: self._return,  # type: ignore[dict-item]
            Create: self._create,  # type: ignore[dict-item]
            Merge: self._merge,  # type: ignore[dict-item]
            Set: self._set,  # type: ignore[dict-item]
            Remove: self._remove,  # type: ignore[dict-item]
            Delete: self._delete,  # type: ignore[dict-item]
            CallProcedure: self._call,  # type: ignore[dict-item]
        }
        for clause in self.query.clauses:
            methods[type(clause)](clause)
            self.writes = self.writes or isinstance(clause, _WRITES)
        return PlannedQuery(self.tree, self.fields)

    # ----------------------------------------------------------------- reading

    def _match(self, clause: Match) -> None:
        if not clause.optional:
            self.tree, self.scope = plan_pattern(
                self.context, self.tree, clause.patterns, clause.where, self.scope
            )
            return
        row = self.context.fresh("row")
        inner, scope = plan_pattern(
            self.context, p.Argument(), clause.patterns, clause.where, {**self.scope, row: None}
        )
        del scope[row]
        nulls = tuple(
            (name, int(Kind.OBJECT if kind is None else kind))
            for name, kind in scope.items()
            if name not in self.scope
        )
        rows = max(self.tree.rows, self.tree.rows * inner.rows)
        self.tree = p.Optional(self.tree, inner, row, nulls, rows=rows)
        self.scope = {**scope, **self.scope}

    def _unwind(self, clause: Unwind) -> None:
        self.tree, source = self.context.lift(self.tree, clause.source, self.scope)
        rows = self.tree.rows * _UNWIND_ROWS
        self.tree = p.Unwind(self.tree, source, clause.variable, rows=rows)
        self.scope[clause.variable] = PLAIN if is_plain(clause.source, self.scope) else None

    def _with(self, clause: With) -> None:
        self.tree, self.scope = plan_projection(
            self.context,
            self.tree,
            clause.projection,
            clause.where,
            self.scope,
            writes=self.writes,
            imported=self.imported,
        )
        # Variables from around a subquery stay in scope whatever WITH projects.
        dropped = tuple(sorted(set(self.imported) - set(self.scope)))
        if dropped:
            self.tree = p.Recall(self.tree, dropped, rows=self.tree.rows)
            self.scope = {**{name: self.imported[name] for name in dropped}, **self.scope}

    def _return(self, clause: Return) -> None:
        self.tree, self.scope = plan_projection(
            self.context,
            self.tree,
            clause.projection,
            None,
            self.scope,
            writes=self.writes,
            imported=self.imported,
        )
        self.fields = tuple(self.scope)

    def _call(self, clause: CallProcedure) -> None:
        procedure = find_procedure(self.procedures, clause.name)
        alone = len(self.query.clauses) == 1
        arguments = clause.arguments
        if arguments is None:
            # A standalone CALL without arguments takes parameters by name.
            arguments = tuple(Parameter(name) for name, _ in procedure.inputs)
        self.tree, lifted = self.context.lift_all(self.tree, arguments, self.scope)
        yields = clause.yields
        if yields is None:
            # Standalone CALL without YIELD gives all columns as the result.
            yields = tuple((column, column) for column in procedure.columns) if alone else ()
        rows = self.tree.rows * _UNWIND_ROWS
        self.tree = p.ProcedureCall(self.tree, clause.name, tuple(lifted), yields, rows=rows)
        self.scope.update({variable: None for _, variable in yields})
        for predicate in conjuncts(clause.where):
            self.tree, test = self.context.lift(self.tree, predicate, self.scope)
            self.tree = p.Filter(self.tree, test, rows=self.tree.rows)
        if alone:
            self.fields = tuple(variable for _, variable in yields)
            items = tuple((name, Variable(name)) for name in self.fields)
            self.tree = p.Project(self.tree, items, rows=self.tree.rows)

    # ----------------------------------------------------------------- writing

    def _create(self, clause: Create) -> None:
        self.tree, self.scope = plan_create(self.context, self.tree, clause, self.scope)

    def _merge(self, clause: Merge) -> None:
        self.tree, self.scope = plan_merge(self.context, self.tree, clause, self.scope)

    def _set(self, clause: Set) -> None:
        self.tree = plan_set(self.context, self.tree, clause, self.scope)

    def _remove(self, clause: Remove) -> None:
        self.tree = plan_remove(self.context, self.tree, clause, self.scope)

    def _delete(self, clause: Delete) -> None:
        self.tree = plan_delete(self.context, self.tree, clause, self.scope)
