"""A filter on a pattern's existence needs no column of booleans."""

from __future__ import annotations

from graph.cypher.plan import Filter, Plan, RollUp, SemiApply
from graph.cypher.syntax import Expression, Unary, Variable

__all__ = ["semi_apply"]


def semi_apply(plan: Plan) -> Plan:
    """``Filter(v, RollUp(v := exists))`` becomes ``SemiApply``; with NOT likewise."""
    if not isinstance(plan, Filter) or not isinstance(plan.input, RollUp):
        return plan
    roll_up = plan.input
    if roll_up.mode != "exists":
        return plan
    negated = False
    predicate: Expression = plan.predicate
    while isinstance(predicate, Unary) and predicate.operator == "NOT":
        negated = not negated
        predicate = predicate.operand
    if predicate != Variable(roll_up.name):
        return plan
    return SemiApply(roll_up.input, roll_up.inner, roll_up.row, negated, rows=plan.rows)
