"""Is each key a linearizable register?

Actions (keys and values hashable, ``None`` is the value of a key never written):

    read   value: key               result: the value read
    write  value: (key, new)        result: not looked at
    cas    value: (key, old, new)   result: True if it replaced, False if it found another value

A compare-and-set that found another value is OK with False: it tells as much as a read. FAILED
operations and reads without an answer are left out; UNKNOWN writes may take effect at any time
after they were invoked, or never.

*Theory.* Linearizability is local: a history is linearizable if each key's part is (Herlihy and
Wing 1990, theorem 1; "P-compositionality" in Horn and Kroening 2015). For one key we walk through
invocations and returns in the order of time and keep every *configuration* the register could be
in: its value and which of the pending operations have taken effect (Wing and Gong 1993, Lowe
2017). An operation is made to take effect just in time, at the return of the first operation that
needs it: any linearization can be put off to that form. If no configuration is left after a return,
the history up to there has no linearization, and the returning operation is the witness.

What keeps the set small:

* An operation that only looks takes effect as soon as it can; that changes nothing for others.
* Of two configurations with one value and one set of writes that must still come, the one that
  spent fewer unknown writes and satisfied more readers can do all that the other can.
* A write that overwrites a value that someone must still find, and that nobody can write again,
  leads nowhere.
* A write that nobody looks for any more takes effect unseen, just before another one.
* An unknown write that nobody can have noticed is as good as never done, and left out; values
  that nobody looked for are all one value.

Histories in which each value is written once are the cheap ones, and the ones that show most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tests.checkers.history import (
    Operation,
    Outcome,
    Verdict,
    frozen,
    shown,
    valid_history,
    verdict,
)

__all__ = ["STEPS_MAX", "check_register"]

STEPS_MAX = 1_000_000  # for one key: some seconds
_TRAIL_SHOWN = 5
_STATES_SHOWN = 6


def check_register(
    history: Sequence[Operation], *, initial: Any = None, steps_max: int = STEPS_MAX
) -> Verdict:
    """Whether every key of a history is a linearizable register that began as ``initial``.

    Not valid: a finding for each key that is not. None: the search for some key took more than
    ``steps_max`` steps. Raises ``ValueError`` for a history with other actions.
    """
    valid_history(history, ("read", "write", "cas"))
    parts: dict[Any, list[Operation]] = defaultdict(list)
    for operation in history:
        key = operation.value if operation.action == "read" else operation.value[0]
        parts[key].append(operation)
    findings: list[str] = []
    undecided: list[str] = []
    for key, operations in parts.items():
        try:
            finding = _Search(key, operations, initial, steps_max).run()
        except _OutOfSteps:
            undecided.append(f"key {key!r}: no answer within {steps_max} steps")
            continue
        if finding:
            # Looking ahead finds out earlier than the shortest prefix that shows it.
            with suppress(_OutOfSteps):
                finding = _Search(key, operations, initial, steps_max, looks_ahead=False).run()
            assert finding is not None, "looking ahead may only make the search shorter"
        if finding:
            findings.append(finding)
    return verdict(findings, len(history), undecided)


_OTHER = ("other",)  # any value that no operation on this key looks for


class _OutOfSteps(Exception):
    pass


@dataclass(slots=True)
class _Budget:
    """Counts configurations made and compared."""

    left: int

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _OutOfSteps


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation in the form that the search wants; ``bit`` is its place in masks.

    ``needs``: the value that must be there, if ``guarded``; or must not, if ``refused``.
    ``makes``: the value it leaves, if it is no observer.
    """

    operation: Operation
    bit: int
    observer: bool
    guarded: bool
    refused: bool
    needs: Any
    makes: Any

    @property
    def unknown(self) -> bool:
        return self.operation.outcome is Outcome.UNKNOWN

    def possible(self, value: Any) -> bool:
        if self.guarded:
            return bool(value == self.needs)
        return not self.refused or bool(value != self.needs)


def _step(operation: Operation, number: int) -> _Step:
    bit = 1 << number
    if operation.action == "read":
        return _Step(operation, bit, True, True, False, frozen(operation.result), None)
    if operation.action == "write":
        return _Step(operation, bit, False, False, False, None, frozen(operation.value[1]))
    _, old, new = operation.value
    if operation.outcome is Outcome.OK and operation.result is False:
        return _Step(operation, bit, True, False, True, frozen(old), None)
    return _Step(operation, bit, False, True, False, frozen(old), frozen(new))


def _relevant(operations: Sequence[Operation]) -> list[_Step]:
    """Steps that can matter, in order of invocation."""
    kept = [
        operation
        for operation in operations
        if operation.outcome is Outcome.OK
        or (operation.outcome is Outcome.UNKNOWN and operation.action != "read")
    ]
    kept.sort(key=lambda operation: operation.invoked)
    steps = [_step(operation, number) for number, operation in enumerate(kept)]
    # Whoever found "another value" may have noticed any write, so none can be left out then.
    while not any(step.refused for step in steps):
        noticed = {step.needs for step in steps if step.guarded}
        useful = [step for step in steps if not step.unknown or step.makes in noticed]
        if len(useful) == len(steps):
            break
        steps = useful
    looked_for = {step.needs for step in steps if step.guarded or step.refused}
    return [
        step if step.observer or step.makes in looked_for else replace(step, makes=_OTHER)
        for step in steps
    ]


@dataclass(slots=True)
class _Masks:
    """Which steps care about a value, as masks of their bits."""

    must_find: dict[Any, int] = field(default_factory=lambda: defaultdict(int))  # and will
    may_find: dict[Any, int] = field(default_factory=lambda: defaultdict(int))  # unknown ones too
    make: dict[Any, int] = field(default_factory=lambda: defaultdict(int))
    refused_beside: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    # for a write's bit: the compare-and-sets that may have found its value, and refused another

    @staticmethod
    def of(steps: Sequence[_Step]) -> _Masks:
        masks = _Masks()
        for step in steps:
            if step.guarded:
                masks.may_find[step.needs] |= step.bit
                if not step.unknown:
                    masks.must_find[step.needs] |= step.bit
            if not step.observer:
                masks.make[step.makes] |= step.bit
        refused = [step for step in steps if step.refused]
        writers = [step for step in steps if not step.observer and not step.unknown]
        for writer in writers:
            # What came after another write that came after this one found nothing of this one.
            last = min(
                (
                    after.operation.completed
                    for after in writers
                    if after.operation.invoked > writer.operation.completed
                ),
                default=math.inf,
            )
            for looker in refused:
                if looker.operation.invoked > last:
                    break
                if looker.operation.completed >= writer.operation.invoked:
                    masks.refused_beside[writer.bit] |= looker.bit
        return masks


# A configuration: the value, the pending writes that took effect, the unknown writes that did, the
# pending observers that are satisfied, and the operations that led here, newest first.
_Trail = tuple[Operation, "_Trail"] | None
_Configuration = tuple[Any, int, int, int, _Trail]


@dataclass
class _Frontier:
    """Configurations, none of which can do all that another can."""

    budget: _Budget
    groups: dict[tuple[Any, int], list[_Configuration]] = field(default_factory=dict)

    def add(self, candidate: _Configuration) -> bool:
        """Whether the candidate was new; those that it makes superfluous go."""
        value, must, maybe, seen, _ = candidate
        group = self.groups.setdefault((value, must), [])
        self.budget.spend(1 + len(group))
        for _, _, other_maybe, other_seen, _ in group:
            if not other_maybe & ~maybe and not seen & ~other_seen:
                return False
        group[:] = [kept for kept in group if maybe & ~kept[2] or kept[3] & ~seen]
        group.append(candidate)
        return True

    def __iter__(self) -> Iterator[_Configuration]:
        for group in self.groups.values():
            yield from group

    def __bool__(self) -> bool:
        return bool(self.groups)


class _Search:
    """The walk through one key's history."""

    def __init__(
        self,
        key: Any,
        operations: Sequence[Operation],
        initial: Any,
        steps_max: int,
        *,
        looks_ahead: bool = True,
    ) -> None:
        self.key = key
        self.operations = operations
        self.initial = initial
        self.steps = _relevant(operations)
        self.looks_ahead = looks_ahead
        self.budget = _Budget(steps_max)
        self.masks = _Masks.of(self.steps)
        self.returned = 0  # mask
        self.writers: dict[int, _Step] = {}  # pending, the answer is known to come
        self.unknown: list[_Step] = []  # invoked; pending for ever
        self.observers: dict[int, _Step] = {}  # pending
        self.frontier = _Frontier(self.budget)
        self.frontier.add((frozen(initial), 0, 0, 0, None))

    def run(self) -> str | None:
        """A finding, or None if there is a linearization. Raises ``_OutOfSteps``."""
        returned = 0
        for step, returns in self._events():
            if not returns:
                self._invoke(step)
                continue
            before = self.frontier
            self.frontier = self._after_return(step)
            if not self.frontier:
                return self._explanation(step, before, returned)
            returned += 1
            self.returned |= step.bit
            self.writers.pop(step.bit, None)
            self.observers.pop(step.bit, None)
        return None

    def _events(self) -> list[tuple[_Step, bool]]:
        events = [(step.operation.invoked, False, step) for step in self.steps]
        events += [
            (step.operation.completed, True, step) for step in self.steps if not step.unknown
        ]
        events.sort(key=lambda event: event[:2])  # at one time, invocations come first
        return [(step, returns) for _, returns, step in events]

    def _invoke(self, step: _Step) -> None:
        if step.unknown:
            self.unknown.append(step)
        elif not step.observer:
            self.writers[step.bit] = step
        else:
            self.observers[step.bit] = step
            frontier = _Frontier(self.budget)
            for value, must, maybe, seen, trail in self.frontier:
                if step.possible(value):
                    seen, trail = seen | step.bit, (step.operation, trail)
                frontier.add((value, must, maybe, seen, trail))
            self.frontier = frontier

    def _after_return(self, step: _Step) -> _Frontier:
        """Every configuration in which ``step`` has taken effect, with its bit given back."""
        result = _Frontier(self.budget)
        visited = _Frontier(self.budget)
        stack = [configuration for configuration in self.frontier if visited.add(configuration)]
        while stack:
            value, must, maybe, seen, trail = configuration = stack.pop()
            if (must | seen) & step.bit:
                result.add((value, must & ~step.bit, maybe, seen & ~step.bit, trail))
                continue
            stack += [after for after in self._writes(configuration) if visited.add(after)]
        return result

    def _writes(self, configuration: _Configuration) -> Iterator[_Configuration]:
        """What one more pending write can make of a configuration."""
        value, must, maybe, seen, _ = configuration
        missing = 0
        if self.looks_ahead:
            missing = self.masks.must_find[value] & ~(must | seen | self.returned)
        makers = self.masks.make[value] & ~(must | maybe | self.returned)
        for writer in self.writers.values():
            if must & writer.bit or not writer.possible(value):
                continue
            if makers or not missing & ~writer.bit:
                yield self._written(writer, configuration)
        tried = set()
        for writer in self.unknown:
            if maybe & writer.bit or (missing and not makers):
                continue
            kind = (writer.guarded, writer.needs, writer.makes)
            if kind not in tried and writer.possible(value):
                tried.add(kind)  # another like it would do the same
                yield self._written(writer, configuration)

    def _written(self, writer: _Step, configuration: _Configuration) -> _Configuration:
        """``writer`` takes effect, with the writes before it and reads after it that may, too."""
        self.budget.spend(1)
        _, must, maybe, seen, trail = configuration
        if writer.unknown:
            maybe |= writer.bit
        else:
            must |= writer.bit
        if not writer.guarded:
            gone = must | maybe | seen | self.returned
            for other in self.writers.values():
                if (
                    not other.guarded
                    and not must & other.bit
                    and not self.masks.may_find[other.makes] & ~gone
                    and not self.masks.refused_beside[other.bit] & ~gone
                ):
                    must |= other.bit
                    trail = (other.operation, trail)
        trail = (writer.operation, trail)
        for observer in self.observers.values():
            if not seen & observer.bit and observer.possible(writer.makes):
                seen |= observer.bit
                trail = (observer.operation, trail)
        return writer.makes, must, maybe, seen, trail

    def _explanation(self, step: _Step, before: _Frontier, returned: int) -> str:
        values = sorted({self._value(configuration) for configuration in before})
        more = ", ..." if len(values) > _STATES_SHOWN else ""
        trail = max((configuration[4] for configuration in before), key=_length)
        lines = [
            f"key {self.key!r}: {shown(step.operation)} cannot have happened between its "
            f"invocation and its answer{self._hint(step)}",
            f"  the {returned} operations that returned before it can be put in order, after which"
            f" the value could be {', '.join(values[:_STATES_SHOWN])}{more}",
        ]
        last: list[str] = []
        while trail is not None and len(last) < _TRAIL_SHOWN:
            last.append(f"    {shown(trail[0])}")
            trail = trail[1]
        if last:
            lines += ["  one such order ends with", *reversed(last)]
        pending = [*self.writers.values(), *self.unknown]
        if pending:
            lines.append(f"  pending then: {'; '.join(shown(s.operation) for s in pending[-5:])}")
        return "\n".join(lines)

    def _value(self, configuration: _Configuration) -> str:
        trail = configuration[4]
        while trail is not None:
            operation, trail = trail
            if operation.action == "write" or (
                operation.action == "cas" and operation.result is not False
            ):
                return repr(operation.value[-1])
        return repr(self.initial)

    def _hint(self, step: _Step) -> str:
        if not step.guarded or step.needs == frozen(self.initial):
            return ""
        makers = [
            operation
            for operation in self.operations
            if (operation.action == "write" and frozen(operation.value[1]) == step.needs)
            or (operation.action == "cas" and frozen(operation.value[2]) == step.needs)
        ]
        if not makers:
            return " (nobody ever wrote that value)"
        if all(maker.outcome is Outcome.FAILED for maker in makers):
            return " (only a failed operation wrote that value)"
        if all(maker.invoked > step.operation.completed for maker in makers):
            return " (that value was written later)"
        return ""


def _length(trail: _Trail) -> int:
    length = 0
    while trail is not None:
        length, trail = length + 1, trail[1]
    return length
