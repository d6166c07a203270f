"""The order in which plan rewrites run, and the walk that most of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from graph.cypher.plan import Plan
from graph.cypher.rules.count_store import count_store
from graph.cypher.rules.semi_apply import semi_apply
from graph.cypher.rules.top import top
from graph.cypher.rules.walk import bottom_up

__all__ = ["rewrite_plan"]

Rule = Callable[[Plan], Plan]

# Each looks at one node whose inputs have been rewritten already.
_RULES: tuple[Rule, ...] = (semi_apply, top, count_store)


def rewrite_plan(plan: Plan, names: tuple[str, ...]) -> Plan:
    """The plan after all rewrites; ``names``: the result columns."""
    for rule in _RULES:
        plan = bottom_up(plan, rule)
    return plan
