"""Consecutive CREATE clauses become one: one write set for all of them.

``CREATE (a) CREATE (b)`` is the same as ``CREATE (a), (b)`` unless the second reads what the first
made. Scripts that build a graph in one statement have hundreds of such clauses in a row.
"""

from __future__ import annotations

from graph.cypher.plan import Create, Plan
from graph.cypher.planner_context import free_variables

__all__ = ["merge_writes"]


def merge_writes(plan: Plan) -> Plan:
    if isinstance(plan, Create) and isinstance(plan.input, Create):
        below = plan.input
        made = {node.variable for node in below.nodes}
        made |= {relationship.variable for relationship in below.relationships}
        read: set[str] = set()
        for node in plan.nodes:
            read |= free_variables(node.properties)
        for relationship in plan.relationships:
            read |= free_variables(relationship.properties)
        if not made & read:
            nodes = below.nodes + plan.nodes
            relationships = below.relationships + plan.relationships
            return Create(below.input, nodes, relationships, rows=plan.rows)
    return plan
