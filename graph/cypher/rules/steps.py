"""Whether a statement writes in one step, so that its failure leaves nothing behind.

A write set is applied whole or not at all. So a statement that applies one only, and in which
nothing can fail after that, needs no copy of the root to fall back to. What may stand above the
write is what cannot fail: columns passed on, and properties, ids, labels or types of entities that
the write itself has bound.
"""

from __future__ import annotations

from graph.cypher import plan as p
from graph.cypher.planner_context import free_variables
from graph.cypher.syntax import Expression, FunctionCall, Property, Variable

__all__ = ["one_step"]

_WRITES = (p.Create, p.Delete, p.Update, p.Merge)
_SAFE_FUNCTIONS = frozenset(("id", "elementid"))


def one_step(plan: p.Plan) -> bool:
    """Whether the plan applies at most one write set, and that at its very end."""
    shown: list[Expression] = []
    while isinstance(plan, (p.Project, p.Prune)):
        if isinstance(plan, p.Project):
            shown.extend(expression for _, expression in plan.items)
        plan = plan.input
    if not isinstance(plan, _WRITES):
        return not _writes(plan)
    if _writes(plan.input) or not _single(plan):
        return False
    bound: frozenset[str] = frozenset()
    if isinstance(plan, (p.Create, p.Merge)):
        bound = frozenset(
            [node.variable for node in plan.nodes]
            + [relationship.variable for relationship in plan.relationships]
        )
    return all(_safe(expression, bound) for expression in shown)


def _writes(plan: p.Plan) -> bool:
    stack = [plan]
    while stack:
        node = stack.pop()
        if isinstance(node, _WRITES):
            return True
        stack.extend(p.children(node))
    return False


def _single(write: p.Plan) -> bool:
    """Whether a write operator applies one write set."""
    if isinstance(write, p.Merge):
        return bool(write.fast) and not write.on_create and not write.on_match
    if isinstance(write, p.Update):
        return len(write.items) == 1 and not free_variables(write.items[0].value)
    return True


def _safe(expression: Expression, bound: frozenset[str]) -> bool:
    if isinstance(expression, Variable):
        return True
    if isinstance(expression, Property):
        subject = expression.subject
        return isinstance(subject, Variable) and subject.name in bound
    if isinstance(expression, FunctionCall) and expression.name in _SAFE_FUNCTIONS:
        return all(isinstance(a, Variable) and a.name in bound for a in expression.arguments)
    return False
