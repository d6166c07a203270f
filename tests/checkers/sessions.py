"""Does a session see its own writes, and never go back in time, wherever it reads?

For reads of any server with bookmarks. Values of a key are *versions*: whole numbers that grow in
the order in which writes take effect (one writer per key that counts, or a counter). Actions:

    write  value: (key, version, sent)   result: the bookmark received, or None
    read   value: (key, sent)            result: (version or None, the bookmark received or None)

``sent`` is a tuple of the bookmarks that were sent along, of other clients as well. A client is one
session, which sends its own last bookmark by itself; with ``chained=False`` it does not, and only
``sent`` counts.

An operation *knows* of every key the least version that it must see: that of its own session's
writes (read your writes) and reads (monotonic reads), and whatever those operations knew, saw and
wrote whose bookmarks it sent (causality). It hands all this on with the bookmark it receives. A
bookmark may be received more than once, for it is a position in the log: it stands for all
operations that received it before it was sent. An UNKNOWN write promises nothing.

A read must show no less than it knows, and only versions that were written, not by a failed write
and not later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.checkers.history import Operation, Outcome, Verdict, shown, valid_history, verdict

__all__ = ["check_sessions"]

# Of each key: the least version to be seen, and the operation that says so.
_Knowledge = dict[Any, tuple[int, Operation]]


def check_sessions(history: Sequence[Operation], *, chained: bool = True) -> Verdict:
    """Whether sessions and bookmarks keep what they promise.

    Raises ``ValueError`` if operations of one client overlap (a session does one thing at a time),
    or if a version of a key is written twice.
    """
    valid_history(history, ("write", "read"))
    writes: dict[tuple[Any, int], Operation] = {}
    for operation in history:
        if operation.action == "write":
            key, version, _ = operation.value
            if (key, version) in writes:
                raise ValueError(f"version {version!r} of key {key!r} is written twice")
            writes[key, version] = operation
    findings: list[str] = []
    sessions = _Sessions(chained)
    # All that an operation can know of was answered when it was asked for, so it comes before it.
    for operation in sorted(history, key=lambda op: (op.completed, op.invoked)):
        knowledge = sessions.known_to(operation)
        if operation.outcome is Outcome.OK:
            if operation.action == "read":
                findings += _phantom(operation, writes)
                findings += _stale(operation, knowledge)
            _learn(operation, knowledge)
            sessions.hand_on(operation, knowledge)
    return verdict(findings, len(history))


@dataclass
class _Sessions:
    """What each session and each bookmark stands for."""

    chained: bool
    own: dict[int, _Knowledge] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    # Of each bookmark: times at which it was received, and all that it stood for from then on.
    received: dict[Any, tuple[list[int], list[_Knowledge]]] = field(
        default_factory=lambda: defaultdict(lambda: ([], []))
    )

    def known_to(self, operation: Operation) -> _Knowledge:
        client = operation.client
        if operation.invoked < self.ended.get(client, operation.invoked):
            raise ValueError(f"client {client} does two things at a time: {shown(operation)}")
        self.ended[client] = operation.completed
        knowledge = dict(self.own.get(client, {})) if self.chained else {}
        for bookmark in operation.value[-1]:
            times, stands_for = self.received[bookmark]
            place = bisect_right(times, operation.invoked)
            if place:
                _join(knowledge, stands_for[place - 1])
        return knowledge

    def hand_on(self, operation: Operation, knowledge: _Knowledge) -> None:
        self.own[operation.client] = knowledge
        result = operation.result
        bookmark = result[1] if operation.action == "read" else result
        if bookmark is not None:
            times, stands_for = self.received[bookmark]
            joined = dict(stands_for[-1]) if stands_for else {}
            _join(joined, knowledge)
            times.append(operation.completed)
            stands_for.append(joined)


def _join(knowledge: _Knowledge, more: Mapping[Any, tuple[int, Operation]]) -> None:
    for key, (version, source) in more.items():
        if key not in knowledge or knowledge[key][0] < version:
            knowledge[key] = version, source


def _learn(operation: Operation, knowledge: _Knowledge) -> None:
    """Add what the operation itself wrote or saw."""
    key = operation.value[0]
    version = operation.value[1] if operation.action == "write" else operation.result[0]
    if version is not None:
        _join(knowledge, {key: (version, operation)})


def _stale(read: Operation, knowledge: _Knowledge) -> Iterator[str]:
    key, version = read.value[0], read.result[0]
    if key not in knowledge:
        return
    least, source = knowledge[key]
    if version is None or version < least:
        guarantee = "causality"
        if source.client == read.client:
            guarantee = "read your writes" if source.action == "write" else "monotonic reads"
        yield (
            f"{guarantee}: key {key!r} at version {version!r}, at least {least!r} is due:\n"
            f"  {shown(source)}\n  {shown(read)}"
        )


def _phantom(read: Operation, writes: Mapping[tuple[Any, int], Operation]) -> Iterator[str]:
    key, version = read.value[0], read.result[0]
    if version is None:
        return
    write = writes.get((key, version))
    if write is None:
        yield f"phantom: nobody wrote version {version!r} of key {key!r}: {shown(read)}"
    elif write.outcome is Outcome.FAILED:
        yield f"failed write seen: key {key!r}:\n  {shown(write)}\n  {shown(read)}"
    elif write.invoked > read.completed:
        yield f"written only later: key {key!r}:\n  {shown(write)}\n  {shown(read)}"
