"""Backups: a graph as the bytes of a file, streamed to whoever asks.

``BACKUP DATABASE`` is answered by the server behind the gateway that is asked, leader or not, with
rows of bytes; one after another they are a backup file (``snapshot_file.py``):

    head     cluster id, log index and term, digest, counts, when it was made
    stream   the image of the graph as of that index

The graph is a root, so nobody waits for a backup and a backup waits for nobody: it shows the graph
of one moment, at which its bookmark had been applied, however long the client takes to fetch it.
The rows are made as they are fetched. What a backup does not hold is what belongs to the cluster
and not to the graph: the outcomes of transactions, the members.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from actors import limits
from actors.backup_file import MAGIC, BackupHead
from actors.protocol import Reply
from actors.service import Item, QueryService
from actors.snapshot_file import file_pieces
from graph.digest import digest
from graph.errors import GraphError
from graph.snapshot import write_snapshot
from graph.store import Root

__all__ = ["Backups"]

# A row: large enough that its own cost does not count, small enough for any driver's buffers.
ROW_BYTES = 128 * 1024


class BackupResult:
    """Stands in for a query's result in a cursor; ``root`` is the graph as of log index ``index``.

    What the head says takes reading all of the graph, so that is done with the first row.
    """

    fields = ("part",)
    query_type = "r"
    plan = None
    profiled = False

    def __init__(self, root: Root, index: int, term: int, cluster_id: str, created: str) -> None:
        self.statistics: dict[str, Any] = {}
        self._root = root
        self._index = index
        self._term = term
        self._cluster_id = cluster_id
        self._created = created

    def chunks(self) -> Iterator[tuple[int, list[list[Any]]]]:
        """(1, [[bytes]]) again and again."""
        rest = bytearray()
        for piece in file_pieces(MAGIC, asdict(self._head()), write_snapshot(self._root)):
            rest += piece
            start = 0
            while len(rest) - start >= ROW_BYTES:
                yield 1, [[bytes(rest[start : start + ROW_BYTES])]]
                start += ROW_BYTES
            del rest[:start]
        yield 1, [[bytes(rest)]]

    def _head(self) -> BackupHead:
        root = self._root
        return BackupHead(
            self._cluster_id,
            self._index,
            self._term,
            digest(root).hex(),
            root.node_count,
            root.relationship_count,
            self._created,
        )


class Backups:
    """The backups that clients of this server are fetching. Thread-safe."""

    def __init__(self, service: QueryService) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[BackupResult] = weakref.WeakSet()

    def begin(self, item: Item, root: Root, index: int, term: int, cluster_id: str) -> Reply:
        """Answer BACKUP DATABASE with the first rows; in a reader thread.

        The graph is ``root``, as of log index ``index``, which is of ``term``.
        """
        try:
            created = self._service.time_of_day()
            result = BackupResult(root, index, term, cluster_id, created)
            self._admit(result)
            return self._service.first_rows(item, result, index)
        except Exception as error:
            return self._service.failed(item, error)

    def _admit(self, result: BackupResult) -> None:
        with self._lock:
            if len(self._open) >= limits.BACKUPS_MAX:
                raise GraphError(
                    f"{limits.BACKUPS_MAX} backups are being made of this server. Wait for one to "
                    "end, or ask another server.",
                    code="Neo.TransientError.General.MemoryPoolOutOfMemoryError",
                )
            self._open.add(result)
