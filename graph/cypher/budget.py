"""Budgets: how long a statement may run and how much memory it may hold.

The engine reads no clock of its own: the caller gives one in ``QueryLimits``, with the instant at
which the statement must have ended, and may give a function that says whether it was cancelled
(client gone, leadership lost). Operators call ``check`` once for each chunk, and ``charge`` for
what they hold beyond a chunk: hash tables, sort buffers, collected lists, results of writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graph.errors import LimitError
from graph.vector import Chunk, Kind, Vector

__all__ = ["Budget", "QueryLimits", "chunk_bytes", "vector_bytes"]

TIMED_OUT = "Neo.ClientError.Transaction.TransactionTimedOut"
TERMINATED = "Neo.TransientError.Transaction.Terminated"
# An object in a column: the pointer and a small Python object. An estimate on the low side for
# long strings, which is why budgets must leave room.
_OBJECT_BYTES = 64


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one statement may use."""

    # Gives seconds that only grow (time.monotonic); None: no deadline.
    clock: Callable[[], float] | None = None
    # The instant, on ``clock``, at which the statement is stopped.
    deadline_s: float | None = None
    # True once the statement should stop for another reason.
    cancelled: Callable[[], bool] | None = None
    # Held at one time by operators and by the rows of a write's result.
    memory_bytes_max: int = 1 << 30
    # Rows in a chunk; smaller only in tests.
    chunk_rows: int = 2048

    def validate(self) -> None:
        """Raises ValueError for limits that make no sense."""
        if self.memory_bytes_max <= 0:
            raise ValueError(f"memory_bytes_max must be positive, not {self.memory_bytes_max}")
        if self.chunk_rows <= 0:
            raise ValueError(f"chunk_rows must be positive, not {self.chunk_rows}")
        if self.deadline_s is not None and self.clock is None:
            raise ValueError("a deadline needs a clock")


class Budget:
    """The running account of one statement. Not shared between threads."""

    __slots__ = ("_cancelled", "_clock", "_deadline", "_max", "used_bytes")

    def __init__(self, limits: QueryLimits) -> None:
        self._clock = limits.clock if limits.deadline_s is not None else None
        self._deadline = limits.deadline_s or 0.0
        self._cancelled = limits.cancelled
        self._max = limits.memory_bytes_max
        self.used_bytes = 0

    def check(self) -> None:
        """Raises LimitError when the time is up or the statement was cancelled."""
        if self._clock is not None and self._clock() > self._deadline:
            raise LimitError(
                "The transaction ran longer than its timeout and was stopped. Nothing of it was"
                " done. Raise the timeout, or make the query do less.",
                code=TIMED_OUT,
            )
        if self._cancelled is not None and self._cancelled():
            raise LimitError("The transaction was terminated.", code=TERMINATED)

    def charge(self, size_bytes: int, /) -> None:
        """Count memory that is held from now on; raises LimitError when there is too much."""
        self.used_bytes += size_bytes
        if self.used_bytes > self._max:
            raise LimitError(
                f"The query needs more than its memory budget of {self._max} bytes. Return or"
                " collect less, or split it into batches."
            )

    def lift(self) -> None:
        """No more limits: the statement has done what it had to do, and must not fail any more."""
        self._clock = None
        self._cancelled = None
        self._max = 1 << 62

    def release(self, size_bytes: int, /) -> None:
        """Count memory as given back."""
        self.used_bytes -= size_bytes


def vector_bytes(vector: Vector) -> int:
    """Estimated memory of a vector in bytes."""
    if vector.kind >= Kind.STRING:
        return len(vector.data) * _OBJECT_BYTES
    return vector.data.nbytes + (0 if vector.valid is None else vector.valid.nbytes)


def chunk_bytes(chunk: Chunk) -> int:
    """Estimated memory of a chunk in bytes."""
    return 64 + sum(vector_bytes(vector) for vector in chunk.columns.values())
