"""Which plans may serve many requests in one run (design decision "same plan, one run").

A read may if every operator keeps rows of different requests apart: those that look at one row do,
and those that look at several work within ``Execution.partition``. Scans do not qualify: crossing
all requests with all nodes would multiply work instead of sharing it.

A write may if no request can notice another's effects, so that running them together equals
running them one after the other:

* what is created is never found: nodes are found by index under a label that no created node
  has, and no relationship type is both walked and created;
* what is set is never looked at before: keys written differ from all keys read below the
  ``Update`` (its own values are safe, since its waves follow the order of rows);
* nothing is deleted, no label changes, nothing is read after the first write, and a statement
  that changes existing entities returns no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from graph.cypher import plan as p
from graph.cypher.syntax import (
    Expression,
    FunctionCall,
    Index,
    MapLiteral,
    MapProjection,
    Property,
    Variable,
)

__all__ = ["batchable"]

_READS = (
    p.Argument,
    p.NodeIndexSeek,
    p.NodeIndexIn,
    p.NodeById,
    p.Expand,
    p.VariableExpand,
    p.BoundRelationship,
    p.BuildPath,
    p.AsEntity,
    p.ShortestPath,
    p.Filter,
    p.Extend,
    p.Project,
    p.Prune,
    p.Aggregation,
    p.Distinct,
    p.Sort,
    p.Top,
    p.Limit,
    p.Unwind,
    p.Optional,
    p.SemiApply,
    p.RollUp,
    p.Union,
    p.CountStore,
)
_WRITES = (p.Create, p.Update, p.Merge, p.Delete)
# Functions that see a whole entity, so that any key, label or type may matter.
_WHOLE = frozenset(("properties", "keys", "labels", "tostring", "type", "startnode", "endnode"))


def batchable(plan: p.Plan, *, returns: bool) -> bool:
    """Whether one run may serve many requests; ``returns``: the statement gives rows."""
    nodes = list(_walk(plan))
    writes = [node for node in nodes if isinstance(node, _WRITES)]
    if not writes:
        return all(isinstance(node, _READS) for node in nodes)
    return _writes_apart(plan, writes, returns)


def _walk(plan: p.Plan) -> Iterator[p.Plan]:
    yield plan
    for child in p.children(plan):
        yield from _walk(child)


def _writes_apart(plan: p.Plan, writes: Sequence[p.Plan], returns: bool) -> bool:
    # From the top: projections of what was created, then writes, then reads.
    node = plan
    while isinstance(node, (p.Project, p.Prune, p.BuildPath)):
        node = node.input
    updates = [w for w in writes if not isinstance(w, p.Create)]
    if updates and (returns or len(writes) > 1 or not isinstance(updates[0], (p.Update, p.Merge))):
        return False
    while isinstance(node, (*_WRITES, p.Prune)):
        below = node.input
        if isinstance(node, p.Merge):
            return isinstance(below, p.Argument) and _merge_apart(node)
        node = below
    reads = list(_walk(node))
    if any(isinstance(r, _WRITES) for r in reads) or not _reads_by_index(reads):
        return False
    return all(_apart(write, reads) for write in writes)


def _reads_by_index(reads: list[p.Plan]) -> bool:
    allowed = (
        p.Argument,
        p.NodeIndexSeek,
        p.Filter,
        p.Project,
        p.Prune,
        p.Extend,
        p.Expand,
        p.Unwind,
        p.AsEntity,
    )
    return all(isinstance(node, allowed) for node in reads)


def _apart(write: p.Plan, reads: list[p.Plan]) -> bool:
    """Whether nothing that ``write`` does can be seen by ``reads`` of another request."""
    labels = {node.label for node in reads if isinstance(node, p.NodeIndexSeek)}
    walked = [node.types for node in reads if isinstance(node, p.Expand)]
    if isinstance(write, p.Create):
        if any(set(node.labels) & labels for node in write.nodes):
            return False
        types = {relationship.type for relationship in write.relationships}
        return not any(not asked or set(asked) & types for asked in walked)
    assert isinstance(write, p.Update)
    keys: set[str] = set()
    for item in write.items:
        if item.action != "property" or not isinstance(item.subject, Variable):
            return False
        keys.add(item.key)
    return not _keys_read(reads, keys)


def _keys_read(reads: list[p.Plan], keys: set[str]) -> bool:
    """Whether ``reads`` may look at one of ``keys``."""
    for node in reads:
        if isinstance(node, p.NodeIndexSeek) and set(node.keys) & keys:
            return True
        for expression in _expressions(node):
            for part in _parts(expression):
                if isinstance(part, Property) and part.key in keys:
                    return True
                if isinstance(part, (Index, MapProjection)):
                    return True
                if isinstance(part, FunctionCall) and part.name in _WHOLE:
                    return True
    return False


def _merge_apart(merge: p.Merge) -> bool:
    """One node by its key, with plain SETs: rows are handled in order by the operator itself."""
    if merge.fast != "node" or not isinstance(merge.nodes[0].properties, MapLiteral):
        return False
    return all(item.action == "property" for item in merge.on_create + merge.on_match)


def _expressions(node: p.Plan) -> Iterator[Expression]:
    for item in fields(node):
        value = getattr(node, item.name)
        if not isinstance(value, p.Plan):
            yield from (part for part in _parts(value) if isinstance(part, Expression))


def _parts(value: Any) -> Iterator[Any]:
    """All nodes of the expressions in a value."""
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif is_dataclass(value) and not isinstance(value, (type, p.Plan)):
        yield value
        for item in fields(value):
            yield from _parts(getattr(value, item.name))
