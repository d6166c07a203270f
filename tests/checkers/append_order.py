"""Who appended what, what each transaction read, and the order of versions that follows.

The first half of ``append.py``: it finds what needs no graph (duplicates, phantoms, reads of failed
or half-done transactions, a transaction at odds with itself, reads that no one order explains) and
leaves version orders for the second half.

A transaction's *external* read of a key is what its first read says of others' work: the list,
less what it had appended itself by then. Later reads must be that list and its own appends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.checkers.history import Operation, Outcome, shown

__all__ = ["Appends", "Finding", "Order", "order_of"]

Finding = str
_Element = tuple[Any, Any]  # key, element


@dataclass
class Appends:
    """A history by its parts. Transactions are known by their place in it."""

    history: Sequence[Operation]
    writer: dict[_Element, int] = field(default_factory=dict)  # failed ones too
    reads: list[tuple[int, Any, tuple[Any, ...]]] = field(default_factory=list)  # all of OK ones
    answered: set[int] = field(default_factory=set)  # OK
    committed: list[int] = field(default_factory=list)  # OK, or unknown and seen; ascending
    external_reads: dict[Any, list[tuple[int, tuple[Any, ...]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    committed_appends: dict[Any, list[tuple[int, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    appended: dict[tuple[int, Any], list[Any]] = field(default_factory=lambda: defaultdict(list))
    internal: list[Finding] = field(default_factory=list)

    @staticmethod
    def of(history: Sequence[Operation]) -> Appends:
        """Raises ``ValueError`` for steps of another form, and for an element appended twice."""
        appends = Appends(history)
        for number, operation in enumerate(history):
            appends._add_writes(number, operation)
            if operation.outcome is Outcome.OK:
                appends.answered.add(number)
                appends._add_reads(number, operation)
        seen = {
            appends.writer.get((key, element))
            for _, key, elements in appends.reads
            for element in elements
        }
        for number, operation in enumerate(history):
            if operation.outcome is Outcome.OK or (
                operation.outcome is Outcome.UNKNOWN and number in seen
            ):
                appends.committed.append(number)
        committed = set(appends.committed)
        for (key, element), number in appends.writer.items():
            if number in committed:
                appends.committed_appends[key].append((number, element))
        return appends

    def _add_writes(self, number: int, operation: Operation) -> None:
        for step in operation.value:
            if step[0] == "append" and len(step) == 3:
                _, key, element = step
                if (key, element) in self.writer:
                    raise ValueError(f"element {element!r} is appended to key {key!r} twice")
                self.writer[key, element] = number
                self.appended[number, key].append(element)
            elif step[0] != "read" or len(step) != 2:
                raise ValueError(f"unknown step {step!r} in {shown(operation)}")

    def _add_reads(self, number: int, operation: Operation) -> None:
        if len(operation.result) != len(operation.value):
            raise ValueError(f"as many results as steps are wanted in {shown(operation)}")
        own: dict[Any, list[Any]] = defaultdict(list)
        known: dict[Any, list[Any]] = {}  # what others wrote, by the first read
        external: set[Any] = set()
        for step, result in zip(operation.value, operation.result, strict=True):
            key = step[1]
            if step[0] == "append":
                own[key].append(step[2])
                continue
            elements = tuple(result)
            self.reads.append((number, key, elements))
            mine = own[key]
            others = list(elements[: len(elements) - len(mine)])
            wanted = known.setdefault(key, others) + mine
            too_early = set(self.appended[number, key]).difference(mine).intersection(elements)
            if list(elements) != wanted or too_early:
                self.internal.append(
                    f"internal: key {key!r} was read as {_brief(elements)}, where what the "
                    f"transaction did and saw before makes {_brief(wanted)}: {shown(operation)}"
                )
            elif key not in external:
                external.add(key)
                self.external_reads[key].append((number, tuple(others)))


@dataclass
class Order:
    """Versions by key (the longest list read), and what is wrong with the reads themselves.

    A key whose reads have no one order has no entry.
    """

    versions: dict[Any, tuple[Any, ...]]
    findings: list[Finding]


def order_of(appends: Appends) -> Order:
    """Judge every read by itself and against the other reads of its key."""
    findings = list(appends.internal)
    sound: dict[Any, dict[tuple[Any, ...], int]] = defaultdict(dict)
    broken: set[Any] = set()
    for number, key, elements in appends.reads:
        wrong = list(_wrong_with(appends, number, key, elements))
        findings += wrong
        if any(finding.startswith(("duplicate", "phantom", "G1a")) for finding in wrong):
            broken.add(key)
        sound[key].setdefault(elements, number)
    for key in appends.committed_appends:
        sound.setdefault(key, {})
    versions: dict[Any, tuple[Any, ...]] = {}
    for key, lists in sound.items():
        longest: tuple[Any, ...] = max(lists, key=len, default=())
        odd = next((other for other in lists if other != longest[: len(other)]), None)
        if odd is not None:
            findings.append(
                f"incompatible-order: key {key!r} was read as {_brief(longest)} and as "
                f"{_brief(odd)}:\n  {shown(appends.history[lists[longest]])}\n"
                f"  {shown(appends.history[lists[odd]])}"
            )
        elif key not in broken:
            versions[key] = longest
    findings += _lost_updates(appends, versions)
    return Order(versions, findings)


def _wrong_with(
    appends: Appends, number: int, key: Any, elements: tuple[Any, ...]
) -> Iterator[Finding]:
    """What is wrong with one list, whatever others read."""
    reader = shown(appends.history[number])
    present = set(elements)
    if len(present) != len(elements):
        twice = sorted({e for e in elements if elements.count(e) > 1}, key=repr)
        yield f"duplicate: {twice!r} more than once under key {key!r}: {reader}"
    half_done: set[int] = set()
    for element in elements:
        writer = appends.writer.get((key, element))
        if writer is None:
            yield f"phantom: nobody appended {element!r} to key {key!r}: {reader}"
        elif writer == number:
            continue
        elif appends.history[writer].outcome is Outcome.FAILED:
            failed = shown(appends.history[writer])
            yield (
                f"G1a: {element!r} under key {key!r} is of a failed transaction: {reader}\n"
                f"  {failed}"
            )
        elif not present.issuperset(appends.appended[writer, key]):
            half_done.add(writer)
    for writer in sorted(half_done):
        whole = appends.appended[writer, key]
        yield (
            f"G1b: key {key!r} was read with only some of {whole!r}: {reader}\n"
            f"  {shown(appends.history[writer])}"
        )


def _lost_updates(appends: Appends, versions: dict[Any, tuple[Any, ...]]) -> Iterator[Finding]:
    """Two that read one version and appended to it, though no read shows in which order.

    If a read shows it, there is a cycle, and the cycle is told instead.
    """
    for key, version in versions.items():
        shown_elements = set(version)
        by_version: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, elements in appends.external_reads[key]:
            mine = appends.appended.get((number, key))
            if mine and shown_elements.isdisjoint(mine):
                by_version[elements].append(number)
        for elements, numbers in by_version.items():
            if len(numbers) > 1:
                first, second = (shown(appends.history[number]) for number in numbers[:2])
                yield (
                    f"lost-update: {len(numbers)} transactions read key {key!r} as "
                    f"{_brief(elements)} and appended to it:\n  {first}\n  {second}"
                )


def _brief(elements: Sequence[Any]) -> str:
    if len(elements) <= 8:
        return repr(list(elements))
    return f"[... {', '.join(repr(element) for element in elements[-6:])}] ({len(elements)})"
