"""Is what was added there, once, and is nothing else?

Actions (each element is added at most once in a history, and removed at most once):

    add         value: element           result: not looked at
    remove      value: element           result: not looked at
    read        value: not looked at     result: the elements, in any order
    local-read  likewise; it may be of the past

What a read must show: every element whose ``add`` had its answer before the read was asked for,
unless someone may have removed it. What it must not show: an element twice; one that nobody added;
one whose ``add`` failed or was asked for after the read was answered; one whose ``remove`` had its
answer before (if the ``add`` was answered before the ``remove`` was asked for, else it may have
come after it). What an unknown ``add`` or ``remove`` did is settled by the first read that shows
it: reads asked for after that one was answered must agree. A local read need not show what was
added before, and may show what was removed; all the rest holds for it, too, and what it shows
settles.

Without a read (not a local one) that was asked for after every add and remove was answered, nothing
proves that the last additions were kept, so there is no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.checkers.history import Operation, Outcome, Verdict, precedes, valid_history, verdict

__all__ = ["check_set"]

_READS = ("read", "local-read")
_ELEMENTS_SHOWN = 10


def check_set(history: Sequence[Operation]) -> Verdict:
    """Whether every read of a history of additions and removals can be.

    Raises ``ValueError`` if an element is added or removed twice.
    """
    valid_history(history, ("add", "remove", *_READS))
    lives: dict[Any, _Life] = {}
    changed = -1  # when the last change was answered
    for operation in history:
        if operation.action not in _READS:
            lives.setdefault(operation.value, _Life()).take(operation)
            if operation.outcome is Outcome.OK:
                changed = max(changed, operation.completed)
    reads = [op for op in history if op.action in _READS and op.outcome is Outcome.OK]
    reads.sort(key=lambda read: read.completed)
    findings: list[str] = []
    has_final = not any(life.possible for life in lives.values())
    for read in reads:
        current = read.action == "read"
        has_final = has_final or (current and read.invoked > changed)
        findings += _wrong_with(read, lives, current)
    findings += _turned_back(reads, lives)
    missing = [] if has_final else ["no read began after the last change was answered"]
    return verdict(findings, len(history), missing)


@dataclass
class _Life:
    """What is known of one element."""

    add: Operation | None = None
    remove: Operation | None = None

    def take(self, operation: Operation) -> None:
        if getattr(self, operation.action) is not None:
            raise ValueError(f"a second {operation.action} of {operation.value!r}")
        setattr(self, operation.action, operation)

    @property
    def possible(self) -> bool:
        return self.add is not None and self.add.outcome is not Outcome.FAILED

    def must_be_in(self, read: Operation) -> bool:
        return _answered(self.add, read) and not _begun(self.remove, read)

    def may_be_in(self, read: Operation) -> bool:
        return _begun(self.add, read) and not (self._removes_it() and _answered(self.remove, read))

    def _removes_it(self) -> bool:
        """Whether the add surely came first; else the remove may have found nothing to do."""
        return (
            self.add is not None
            and self.remove is not None
            and self.add.outcome is Outcome.OK
            and precedes(self.add, self.remove)
        )


def _answered(change: Operation | None, read: Operation) -> bool:
    return change is not None and change.outcome is Outcome.OK and change.completed < read.invoked


def _begun(change: Operation | None, read: Operation) -> bool:
    return (
        change is not None
        and change.outcome is not Outcome.FAILED
        and change.invoked <= read.completed
    )


def _wrong_with(read: Operation, lives: dict[Any, _Life], current: bool) -> list[str]:
    """What is wrong with one read; ``current``: it may not be of the past."""
    counts = Counter(read.result)
    wrong: dict[str, list[Any]] = {}
    for element, count in counts.items():
        life = lives.get(element)
        if count > 1:
            wrong.setdefault("duplicate", []).append(element)
        if life is None or life.add is None:
            wrong.setdefault("never added", []).append(element)
        elif life.add.outcome is Outcome.FAILED:
            wrong.setdefault("the add failed", []).append(element)
        elif not _begun(life.add, read):
            wrong.setdefault("added only later", []).append(element)
        elif current and not life.may_be_in(read):
            wrong.setdefault("removed before", []).append(element)
    if current:
        lost = [e for e, life in lives.items() if e not in counts and life.must_be_in(read)]
        if lost:
            wrong["lost"] = lost
    return [f"{what}: {_brief(elements)} in {_told(read)}" for what, elements in wrong.items()]


def _turned_back(reads: Sequence[Operation], lives: dict[Any, _Life]) -> list[str]:
    """Elements that a read showed added (or removed) and a later one did not.

    ``reads`` by completion. For each element it is enough to know the first read that showed it
    added, and the first that showed it removed: shown by an earlier one, or certainly added.
    """
    findings: list[str] = []
    seen: dict[Any, Operation] = {}
    gone: dict[Any, Operation] = {}
    by_start = sorted(reads, key=lambda read: read.invoked)
    finished = 0
    for read in by_start:
        while finished < len(reads) and reads[finished].completed < read.invoked:
            _settle(reads[finished], lives, seen, gone)
            finished += 1
        if read.action != "read":
            continue
        present = set(read.result)
        vanished = [
            element
            for element, first in seen.items()
            if element not in present and not _begun(lives[element].remove, read)
        ]
        back = [element for element in gone if element in present]
        if vanished:
            first = _told(seen[vanished[0]])
            findings.append(f"vanished: {_brief(vanished)} not in {_told(read)}, seen in {first}")
        if back:
            first = _told(gone[back[0]])
            findings.append(f"resurrected: {_brief(back)} in {_told(read)}, gone in {first}")
    return findings


def _settle(
    read: Operation,
    lives: dict[Any, _Life],
    seen: dict[Any, Operation],
    gone: dict[Any, Operation],
) -> None:
    present = set(read.result)
    for element, life in lives.items():
        if element in present:
            seen.setdefault(element, read)
            continue
        if read.action != "read":
            continue  # it may be of a time before the element was added
        was_there = _answered(life.add, read) or (
            element in seen and seen[element].completed < read.invoked
        )
        if was_there and _begun(life.remove, read):
            gone.setdefault(element, read)


def _told(read: Operation) -> str:
    return f"the read of client {read.client} [{read.invoked}..{read.completed}]"


def _brief(elements: Sequence[Any]) -> str:
    head = ", ".join(repr(element) for element in elements[:_ELEMENTS_SHOWN])
    more = f" and {len(elements) - _ELEMENTS_SHOWN} more" if len(elements) > _ELEMENTS_SHOWN else ""
    return f"{head}{more}"
