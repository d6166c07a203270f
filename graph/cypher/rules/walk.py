"""Walking a plan for a rewrite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from graph.cypher.plan import Plan, children

__all__ = ["bottom_up", "with_children"]


def with_children(plan: Plan, change: Callable[[Plan], Plan]) -> Plan:
    """The node with each of its input plans changed."""
    changes: dict[str, Any] = {}
    for item in fields(plan):
        value = getattr(plan, item.name)
        if isinstance(value, Plan):
            changed = change(value)
            if changed is not value:
                changes[item.name] = changed
        elif isinstance(value, tuple) and value and isinstance(value[0], Plan):
            parts = tuple(change(part) for part in value)
            if any(a is not b for a, b in zip(parts, value, strict=True)):
                changes[item.name] = parts
    return replace(plan, **changes) if changes else plan


def bottom_up(plan: Plan, rule: Callable[[Plan], Plan]) -> Plan:
    """Apply a rule to every node, inputs first. Not recursive: a plan may be deep."""
    done: dict[int, Plan] = {}
    stack = [(plan, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            done[id(node)] = rule(with_children(node, lambda child: done[id(child)]))
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in children(node))
    return done[id(plan)]
