"""ORDER BY with LIMIT keeps only the rows that can be in the result (top-k)."""

from __future__ import annotations

from graph.cypher.plan import Limit, Plan, Sort, Top

__all__ = ["top"]


def top(plan: Plan) -> Plan:
    """``Limit(Sort(x))`` becomes ``Top(x)``. Sorting consumes its input, so writes run anyway."""
    if not isinstance(plan, Limit) or plan.limit is None or not isinstance(plan.input, Sort):
        return plan
    sort = plan.input
    return Top(sort.input, sort.items, plan.limit, plan.skip, rows=plan.rows)
