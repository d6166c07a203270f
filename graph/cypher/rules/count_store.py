"""count(*) over all nodes, a label, or a relationship type is known without counting."""

from __future__ import annotations

from graph.cypher.plan import (
    Aggregation,
    AllNodesScan,
    Argument,
    CountStore,
    NodeLabelScan,
    Plan,
    RelationshipScan,
)
from graph.cypher.syntax import Direction, Expression, Variable

__all__ = ["count_store"]


def count_store(plan: Plan) -> Plan:
    """``Aggregation(count(*), Scan(Argument))`` becomes ``CountStore``."""
    if not isinstance(plan, Aggregation) or plan.keys or len(plan.aggregates) != 1:
        return plan
    item = plan.aggregates[0]
    scan = plan.input
    if item.function != "count" or item.distinct:
        return plan
    if isinstance(scan, (AllNodesScan, NodeLabelScan)) and isinstance(scan.input, Argument):
        if _counts(item.arguments, (scan.variable,)):
            label = scan.label if isinstance(scan, NodeLabelScan) else None
            return CountStore(scan.input, item.name, "node", label)
    elif isinstance(scan, RelationshipScan) and isinstance(scan.input, Argument):
        names = (scan.variable, scan.source, scan.target)
        directed = scan.direction is not Direction.BOTH
        if directed and len(scan.types) == 1 and _counts(item.arguments, names):
            return CountStore(scan.input, item.name, "relationship", scan.types[0])
    return plan


def _counts(arguments: tuple[Expression, ...], names: tuple[str, ...]) -> bool:
    """Whether the argument of count is never null: ``*`` or a variable of the scan."""
    return not arguments or (isinstance(arguments[0], Variable) and arguments[0].name in names)
