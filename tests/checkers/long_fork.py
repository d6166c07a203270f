"""Do all readers see writes happen in one order?

Actions (each key is written at most once in a history):

    write  value: (key, value)         result: not looked at
    read   value: (key, ...)           result: ((key, value or None), ...), of one moment

Two reads that see two writes in different orders (one shows the first and not the second, the
other the second and not the first) are a *long fork*: no single order of commits explains both.
Parallel snapshot isolation allows it, snapshot isolation does not.

Each key written once makes the search simple: for every pair of keys it is enough to remember one
read that showed only the one, and one that showed only the other. Beside the fork itself, values
must be what was written, by a write that did not fail and was not asked for later; and with
``linearizable`` a write that was answered is seen by every read asked for after that, and what one
read has seen, by every read that is asked for after its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.checkers.history import (
    Operation,
    Outcome,
    Verdict,
    frozen,
    precedes,
    shown,
    valid_history,
    verdict,
)

__all__ = ["check_long_fork"]


def check_long_fork(history: Sequence[Operation], *, linearizable: bool = False) -> Verdict:
    """Whether all reads agree on the order of the writes.

    Raises ``ValueError`` if a key is written twice or with None, which stands for "not there".
    """
    valid_history(history, ("write", "read"))
    writes: dict[Any, Operation] = {}
    for operation in history:
        if operation.action == "write":
            key, value = operation.value
            if key in writes or value is None:
                raise ValueError(f"a second write, or one of None: {shown(operation)}")
            writes[key] = operation
    reads = [op for op in history if op.action == "read" and op.outcome is Outcome.OK]
    reads.sort(key=lambda read: read.completed)
    findings = [wrong for read in reads for wrong in _wrong_with(read, writes, linearizable)]
    findings += _forks(reads)
    if linearizable:
        findings += _unseen(reads)
    return verdict(findings, len(history))


def _wrong_with(read: Operation, writes: dict[Any, Operation], current: bool) -> Iterator[str]:
    values = dict(read.result)
    if values.keys() != set(read.value) or len(values) != len(read.result):
        yield f"answer for other keys: {shown(read)}"
    for key, value in values.items():
        write = writes.get(key)
        if value is None:
            if current and write and write.outcome is Outcome.OK and precedes(write, read):
                yield f"stale: key {key!r} not seen:\n  {shown(write)}\n  {shown(read)}"
        elif write is None or frozen(write.value[1]) != frozen(value):
            yield f"phantom: key {key!r} = {value!r} was never written: {shown(read)}"
        elif write.outcome is Outcome.FAILED:
            yield f"failed write seen: key {key!r}:\n  {shown(write)}\n  {shown(read)}"
        elif write.invoked > read.completed:
            yield f"written only later: key {key!r}:\n  {shown(write)}\n  {shown(read)}"


def _forks(reads: Sequence[Operation]) -> Iterator[str]:
    only: dict[tuple[Any, Any], Operation] = {}  # the first read that saw this key and not that
    told: set[frozenset[Any]] = set()
    for read in reads:
        seen = [key for key, value in read.result if value is not None]
        unseen = [key for key, value in read.result if value is None]
        for one in seen:
            for other in unseen:
                only.setdefault((one, other), read)
                opposite = only.get((other, one))
                pair = frozenset((one, other))
                if opposite is not None and pair not in told:
                    told.add(pair)
                    yield (
                        f"long fork: keys {one!r} and {other!r} were seen in both orders:\n"
                        f"  {shown(opposite)}\n  {shown(read)}"
                    )


def _unseen(reads: Sequence[Operation]) -> Iterator[str]:
    """Values that one read saw and a later one did not. ``reads`` by completion."""
    seen: dict[Any, Operation] = {}
    finished = 0
    for read in sorted(reads, key=lambda read: read.invoked):
        while finished < len(reads) and reads[finished].completed < read.invoked:
            for key, value in reads[finished].result:
                if value is not None:
                    seen.setdefault(key, reads[finished])
            finished += 1
        for key, value in read.result:
            if value is None and key in seen:
                yield f"vanished: key {key!r}:\n  {shown(seen[key])}\n  {shown(read)}"
