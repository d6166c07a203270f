"""The order in which plan rewrites run."""

from __future__ import annotations

from collections.abc import Callable

from graph.cypher.plan import Plan, children
from graph.cypher.rules.columns import prune_columns
from graph.cypher.rules.count_store import count_store
from graph.cypher.rules.merge_writes import merge_writes
from graph.cypher.rules.reach import reach
from graph.cypher.rules.semi_apply import semi_apply
from graph.cypher.rules.top import top
from graph.cypher.rules.walk import bottom_up
from graph.errors import LimitError

__all__ = ["rewrite_plan"]

# Each looks at one node whose inputs have been rewritten already.
_RULES: tuple[Callable[[Plan], Plan], ...] = (merge_writes, semi_apply, top, count_store)
# A running plan nests one generator in the other, and the interpreter allows about 1,000.
_DEPTH_MAX = 300


def rewrite_plan(plan: Plan, names: tuple[str, ...]) -> Plan:
    """The plan after all rewrites; ``names``: the result's columns.

    Raises:
        LimitError: the plan is still too deep to be run.
    """
    for rule in _RULES:
        plan = bottom_up(plan, rule)
    if _depth(plan) > _DEPTH_MAX:
        raise LimitError(
            f"The query needs a plan of more than {_DEPTH_MAX} steps. Split it into several.",
            code="Neo.ClientError.Statement.SyntaxError",
        )
    return reach(prune_columns(plan, names))


def _depth(plan: Plan) -> int:
    deepest = 0
    stack = [(plan, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in children(node))
    return deepest
