"""``BACKUP DATABASE`` and ``RESTORE DATABASE ...``: their grammar, and how a gateway asks for them.

::

    BACKUP DATABASE            rows of one column, ``part``: the bytes of a backup file
    RESTORE DATABASE BEGIN     $size, $replace: one row, ``restore``: the name of this restore
    RESTORE DATABASE PART      $restore, $offset, $data: the next bytes of the file
    RESTORE DATABASE END       $restore: the file becomes the graph
    RESTORE DATABASE CANCEL    $restore

They are sent as autocommit statements. ``memgraph_ha backup`` and ``restore``, and ``backup`` and
``restore`` of the Python handle, do the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from actors import limits
from bolt import status as codes
from graph.errors import GraphError

__all__ = [
    "BeginRestore",
    "CancelRestore",
    "EndRestore",
    "PartOfRestore",
    "RestoreStatement",
    "is_backup",
    "is_restore",
    "parse_restore",
]

_BACKUP = re.compile(rb"\s*BACKUP\s+DATABASE\s*;?\s*\Z", re.IGNORECASE)
_RESTORE_BEGINS = re.compile(rb"\s*RESTORE\s+DATABASE\b", re.IGNORECASE)
_RESTORE = re.compile(r"\s*RESTORE\s+DATABASE\s+(BEGIN|PART|END|CANCEL)\s*;?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BeginRestore:
    size: int  # of the whole file
    replace: bool  # whether there may be a graph already


@dataclass(frozen=True, slots=True)
class PartOfRestore:
    restore: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EndRestore:
    restore: str


@dataclass(frozen=True, slots=True)
class CancelRestore:
    restore: str


RestoreStatement: TypeAlias = BeginRestore | PartOfRestore | EndRestore | CancelRestore


def is_backup(query: bytes) -> bool:
    return _BACKUP.match(query) is not None


def is_restore(query: bytes) -> bool:
    """Whether a query is one of these statements, rightly written or not, and no Cypher."""
    return _RESTORE_BEGINS.match(query) is not None


def parse_restore(text: str, parameters: Mapping[str, Any]) -> RestoreStatement:
    """Raises ``GraphError``."""
    match = _RESTORE.match(text)
    if match is None:
        raise GraphError(
            "Write RESTORE DATABASE BEGIN, PART, END or CANCEL. `memgraph_ha restore FILE` does "
            "all of it.",
            code=codes.STATEMENT_SYNTAX_ERROR,
        )
    verb = match[1].upper()
    if verb == "BEGIN":
        size = _value(parameters, "size", int)
        if not 1 <= size <= limits.RESTORE_BYTES_MAX:
            raise _wrong(f"$size must be from 1 to {limits.RESTORE_BYTES_MAX} bytes, not {size}")
        return BeginRestore(size, _value(parameters, "replace", bool))
    restore = _value(parameters, "restore", str)
    if verb == "END":
        return EndRestore(restore)
    if verb == "CANCEL":
        return CancelRestore(restore)
    data = _value(parameters, "data", bytes)
    if not 1 <= len(data) <= limits.RESTORE_PART_BYTES_MAX:
        raise _wrong(f"$data must have from 1 to {limits.RESTORE_PART_BYTES_MAX} bytes")
    return PartOfRestore(restore, _value(parameters, "offset", int), data)


def _value(parameters: Mapping[str, Any], name: str, kind: type) -> Any:
    value = parameters.get(name)
    if kind is bytes and isinstance(value, bytearray):
        value = bytes(value)
    if type(value) is not kind:
        raise _wrong(f"${name} must be of type {kind.__name__}")
    return value


def _wrong(what: str) -> GraphError:
    return GraphError(f"{what}. Nothing was done.", code=codes.STATEMENT_ARGUMENT_ERROR)
