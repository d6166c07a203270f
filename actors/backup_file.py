"""Backup files: what one says of itself, and the graph in it.

A backup file is a container (``snapshot_file.py``) with a ``BackupHead`` and the image of a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from actors.snapshot_file import FileReader, read_parts
from graph.digest import digest
from graph.errors import CorruptionError
from graph.snapshot import read_snapshot
from graph.store import Root

__all__ = ["MAGIC", "BackupHead", "load_backup", "read_backup", "read_backup_head"]

MAGIC = b"RFTBACK1"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class BackupHead:
    """What a backup is of. ``digest`` is that of the graph (``graph.digest``), hexadecimal."""

    cluster_id: str
    index: int
    term: int
    digest: str
    nodes: int
    relationships: int
    created: str  # ISO 8601
    format: int = FORMAT_VERSION


def read_backup_head(reader: FileReader) -> BackupHead:
    """Raises ``CorruptionError`` for damage, and for a format that is not known here."""
    found = reader.head()
    if found.get("format") != FORMAT_VERSION:
        raise CorruptionError(
            f"it has format {found.get('format')}, this version reads format {FORMAT_VERSION}: "
            "use the version that wrote it"
        )
    kinds = {field.name: field.type for field in fields(BackupHead)}
    if found.keys() != kinds.keys() or not all(
        type(value).__name__ == kinds[name] for name, value in found.items()
    ):
        raise CorruptionError("its head is not that of a backup")
    return BackupHead(**found)


def read_backup(reader: FileReader) -> tuple[BackupHead, Root]:
    """The graph in a backup, checked as a whole. Raises ``CorruptionError``."""
    head = read_backup_head(reader)
    root = read_snapshot(reader.stream())
    if digest(root).hex() != head.digest:
        raise CorruptionError("its graph is not the one it was made of: the digests differ")
    return head, root


def load_backup(parts: Sequence[bytes | memoryview]) -> Root:
    """The graph in a backup file in consecutive parts. Raises ``CorruptionError``."""
    read, size = read_parts(parts)
    return read_backup(FileReader(read, size, MAGIC))[1]
