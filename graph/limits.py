"""Limits of the storage, each with its reason.

Everything that a client or a damaged file could make grow has a bound here. A bound that is
reached gives ``LimitError`` (a statement) or ``CorruptionError`` (bytes that claim to be ours).
"""

from __future__ import annotations

__all__ = [
    "CATALOG_NAMES_MAX",
    "ID_MAX",
    "INDEXES_MAX",
    "INDEX_PROPERTIES_MAX",
    "LIST_LENGTH_MAX",
    "NAME_BYTES_MAX",
    "OPERATION_ROWS_MAX",
    "SNAPSHOT_SECTION_BYTES_MAX",
    "VALUE_BYTES_MAX",
    "WRITE_SET_BYTES_MAX",
    "WRITE_SET_OPERATIONS_MAX",
]

# Ids stay exact when a client keeps them as double, and a chunk number stays a small integer.
ID_MAX = 2**48

# Labels, types and keys are never forgotten, and each may own a column: a client that makes
# names from data must be stopped before the catalog is larger than the graph.
CATALOG_NAMES_MAX = 65_536

# A name is written with a length of two bytes.
NAME_BYTES_MAX = 65_535

# A string, byte array or list, encoded. Larger values belong in a file store.
VALUE_BYTES_MAX = 64 * 1024 * 1024
LIST_LENGTH_MAX = 8 * 1024 * 1024

INDEXES_MAX = 4_096
INDEX_PROPERTIES_MAX = 16

# One transaction: larger imports come in batches, so that a log entry can be sent and applied
# without holding up the others.
WRITE_SET_OPERATIONS_MAX = 8 * 1024 * 1024
WRITE_SET_BYTES_MAX = 1024 * 1024 * 1024
OPERATION_ROWS_MAX = 16 * 1024 * 1024

# What a reader of a snapshot image must be ready to hold at once: 4,096 values of one column.
SNAPSHOT_SECTION_BYTES_MAX = 16 * 1024 * 1024 * 1024
