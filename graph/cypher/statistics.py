"""What the planner knows of a root, and when a plan is too old for one."""

from __future__ import annotations

from typing import Any

from graph.cypher.planner_context import NodeIndex, Statistics
from graph.store import Root

__all__ = ["graph_magnitude", "schema_key", "statistics_of"]

# A plan is made anew when the number of nodes or of relationships has grown or shrunk by a factor
# of about 2 ** _BITS: estimates only choose between ways that are all correct.
_BITS = 3


def statistics_of(root: Root) -> Statistics:
    """Counts and indexes of a root at this moment."""

    def node_indexes(label: str) -> tuple[NodeIndex, ...]:
        found: list[NodeIndex] = []
        for info in root.indexes():
            if info.entity != "node" or info.label != label or not info.properties:
                continue
            distinct = max(root.index_distinct(info), 1)
            matches = max(root.index_size(info) / distinct, 1.0)
            unique = info.constraint is not None
            found.append(NodeIndex(tuple(info.properties), unique, 1.0 if unique else matches))
        return tuple(found)

    return Statistics(
        nodes=float(root.node_count),
        relationships=float(root.relationship_count),
        label_count=root.label_count,
        type_count=root.type_count,
        node_indexes=node_indexes,
    )


def graph_magnitude(root: Root) -> tuple[int, int]:
    """Equal for roots whose counts are of like magnitude."""
    nodes = root.node_count.bit_length() // _BITS
    return nodes, root.relationship_count.bit_length() // _BITS


def schema_key(root: Root) -> tuple[Any, ...]:
    """Equal for roots with the same indexes."""
    return tuple([index.info for index in root.schema.indexes.values()])
