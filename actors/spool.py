"""Parts of a backup that the log has brought so far (``restore.py``): a function of the log."""

from __future__ import annotations

from actors.commands import RestorePart
from graph.errors import CorruptionError

__all__ = ["Spool"]


class Spool:
    """See the module. ``parts`` may be read by another thread once no more come."""

    def __init__(self) -> None:
        self.name = ""  # of the restore; empty for none
        self.size = 0
        self.parts: list[memoryview] = []

    def add(self, part: RestorePart) -> None:
        """Keep a part; the first one of another restore drops what was here."""
        if part.offset == 0:
            self.clear()
            self.name = part.restore
        if (part.restore, part.offset) != (self.name, self.size):
            raise CorruptionError(
                f"a log entry is damaged: a part of a backup at byte {part.offset} does not follow "
                f"the {self.size} bytes before it"
            )
        self.parts.append(part.data)
        self.size += len(part.data)

    def clear(self) -> None:
        """It was used, or will not be."""
        self.name = ""
        self.size = 0
        self.parts = []
