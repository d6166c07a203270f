"""Where duplicates do not matter, a variable-length pattern only needs the nodes it reaches.

Enumerating trails takes time exponential in their length; reaching nodes level by level takes time
linear in the graph. The two give the same *set* of (row, node) pairs if the shortest trail to any
node is no shorter than the minimum, that is for a minimum of 0 or 1, with one exception: an
undirected pattern with minimum 1 may come back to where it began over the same relationship, which
is no trail, so the rule leaves it alone.

Duplicates do not matter below DISTINCT, below aggregates that ignore them, and below a test of
existence, as long as only row-wise operators lie between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graph.cypher import plan as p
from graph.cypher.syntax import Direction

__all__ = ["reach"]

_ROW_WISE = (
    p.Filter,
    p.Extend,
    p.Project,
    p.Prune,
    p.Expand,
    p.VariableExpand,
    p.Unwind,
    p.NodeIndexSeek,
    p.NodeById,
    p.AsEntity,
    p.BuildPath,
    p.SemiApply,
    p.RollUp,
    p.Optional,
    p.HashJoin,
    p.Cartesian,
    p.Recall,
    p.Sort,
)
_IGNORE_DUPLICATES = frozenset(("min", "max"))


def reach(plan: p.Plan, duplicates: bool = True) -> p.Plan:
    """The plan with ``reach`` set where it may be; ``duplicates``: whether they matter above."""
    if isinstance(plan, p.Distinct):
        matter = False
    elif isinstance(plan, p.Aggregation):
        matter = not all(
            item.distinct or item.function in _IGNORE_DUPLICATES for item in plan.aggregates
        )
    else:
        matter = duplicates or not isinstance(plan, _ROW_WISE)
    if isinstance(plan, p.VariableExpand) and not matter and _fits(plan):
        plan = replace(plan, reach=True)
    changes: dict[str, Any] = {}
    for name in ("input", "right", "inner", "match"):
        child = getattr(plan, name, None)
        if isinstance(child, p.Plan):
            changes[name] = reach(child, _matter(plan, name, matter))
    if isinstance(plan, p.Union):
        changes["parts"] = tuple(reach(part, duplicates) for part in plan.parts)
    return replace(plan, **changes) if changes else plan


def _matter(plan: p.Plan, name: str, matter: bool) -> bool:
    if name != "inner":
        return matter
    if isinstance(plan, p.SemiApply):
        return False
    if isinstance(plan, p.RollUp):
        return plan.mode != "exists"
    return matter


def _fits(plan: p.VariableExpand) -> bool:
    if plan.relationship is not None or plan.into or plan.distinct_from:
        return False
    return plan.minimum == 0 or (plan.minimum == 1 and plan.direction is not Direction.BOTH)
