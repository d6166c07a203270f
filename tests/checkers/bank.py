"""Is money neither made nor lost?

Actions:

    transfer    value: (source, target, amount)   result: not looked at
    read        value: not looked at              result: ((account, balance), ...), all accounts
    local-read  likewise

A transfer that the database refused for lack of money is FAILED. Reads are of one moment; a
``local-read`` may be of the past.

What is checked of every read: it shows each account once, the total is what it was in the
beginning, and no balance is negative where that is forbidden. Beyond that, a read has to be
*explained*: its balances must follow from those in the beginning by all transfers that had their
answer before it was asked for, none that was asked for after it was answered, and some of the
others (concurrent, or of unknown outcome; for a local read, any that were asked for by then).
That is a subset-sum problem in as many dimensions as there are accounts; a depth-first search that
closes one account after another, with bounds on what the rest can still add, answers it fast in
practice. Reads that began after the last transfer was answered (local ones aside) are the final
state; for them an unanswered search is an undecided verdict. For reads in between it is not: there
the explanation is a check on top, and what it might have found shows in the final state too,
unless it was a stale read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.checkers.history import Operation, Outcome, Verdict, shown, valid_history, verdict

__all__ = ["STEPS_MAX", "check_bank"]

STEPS_MAX = 200_000  # for the final state: a second or so
# For each read before that:
_BETWEEN_STEPS_MAX = 1_000
_BETWEEN_OPTIONAL_MAX = 100


def check_bank(
    history: Sequence[Operation],
    initial: Mapping[Any, int],
    *,
    negative_allowed: bool = False,
    steps_max: int = STEPS_MAX,
) -> Verdict:
    """Whether every read of a history of transfers can be.

    ``initial``: the balance of each account in the beginning. None: no read shows the final state
    though a transfer may have happened, or it could not be explained within ``steps_max`` steps.
    """
    valid_history(history, ("transfer", "read", "local-read"))
    findings: list[str] = []
    undecided: list[str] = []
    transfers = [operation for operation in history if operation.action == "transfer"]
    possible = [transfer for transfer in transfers if transfer.outcome is not Outcome.FAILED]
    last = max((one.completed for one in possible if one.outcome is Outcome.OK), default=-1)
    has_final = not possible
    for read, explanation in _explained_reads(history, initial):
        final = read.action == "read" and read.invoked > last
        has_final = has_final or final
        wrong = _wrong_with(read, initial, negative_allowed)
        if wrong:
            findings.append(f"{wrong}: {shown(read)}")
            continue
        explained = explanation.explains(read, steps_max if final else 0)
        if explained is False:
            findings.append(explanation.told(read, final))
        elif explained is None and final:
            undecided.append(f"no explanation found in {steps_max} steps of: {shown(read)}")
    if not has_final:
        undecided.append("no read began after the last transfer was answered")
    return verdict(findings, len(history), undecided)


def _wrong_with(read: Operation, initial: Mapping[Any, int], negative_allowed: bool) -> str:
    balances = dict(read.result)
    if len(balances) != len(read.result) or balances.keys() != initial.keys():
        names = sorted(initial, key=repr)
        return f"a read that does not show each of the accounts {names!r} once"
    total, wanted = sum(balances.values()), sum(initial.values())
    if total != wanted:
        return f"the total is {total}, not {wanted}"
    negative = {account: balance for account, balance in balances.items() if balance < 0}
    if negative and not negative_allowed:
        return f"negative balances {negative!r}"
    return ""


@dataclass
class _Explanation:
    """``base``: balances by the transfers that must be in; ``optional``: those that may be."""

    base: dict[Any, int]
    optional: list[Operation]

    def missing(self, read: Operation) -> dict[Any, int]:
        """What the optional transfers have to add to each account."""
        return {account: balance - self.base[account] for account, balance in read.result}

    def explains(self, read: Operation, steps_max: int) -> bool | None:
        """Whether some of the optional transfers add up to what is missing.

        None: not known after ``steps_max`` steps; if that is 0, after what is worth the effort.
        """
        if not steps_max and len(self.optional) > _BETWEEN_OPTIONAL_MAX:
            return None
        missing = self.missing(read)
        return _Search(missing, self.optional, steps_max or _BETWEEN_STEPS_MAX).run()

    def told(self, read: Operation, final: bool) -> str:
        when = "the final state" if final else "a read"
        missing = {account: amount for account, amount in self.missing(read).items() if amount}
        choice = "; ".join(shown(transfer) for transfer in self.optional[-6:]) or "none"
        return (
            f"{when} is not explained by the transfers: {shown(read)}\n"
            f"  after all that must have happened, the balances differ by {missing!r}\n"
            f"  {len(self.optional)} transfers may or may not have happened: {choice}"
        )


def _explained_reads(
    history: Sequence[Operation], initial: Mapping[Any, int]
) -> Iterator[tuple[Operation, _Explanation]]:
    """Each answered read, in order of time, with what can explain it."""
    settled = dict(initial)  # by transfers that were answered
    begun: list[Operation] = []
    pending: dict[int, Operation] = {}  # those not answered
    reading: dict[int, _Explanation] = {}
    for _, event, number in sorted(_events(history)):
        operation = history[number]
        if event == _BEGIN:
            begun.append(operation)
            pending[number] = operation
            for explanation in reading.values():
                explanation.optional.append(operation)
        elif event == _BEGIN_READ and operation.action == "read":
            reading[number] = _Explanation(settled.copy(), list(pending.values()))
        elif event == _BEGIN_READ:
            reading[number] = _Explanation(dict(initial), begun.copy())
        elif event == _END_READ:
            yield operation, reading.pop(number)
        else:
            source, target, amount = operation.value
            settled[source] -= amount
            settled[target] += amount
            del pending[number]


# At one time in this order: what touches is concurrent.
_BEGIN, _BEGIN_READ, _END_READ, _END = range(4)


def _events(history: Sequence[Operation]) -> Iterator[tuple[int, int, int]]:
    for number, operation in enumerate(history):
        answered = operation.outcome is Outcome.OK
        if operation.action == "transfer" and operation.outcome is not Outcome.FAILED:
            yield operation.invoked, _BEGIN, number
            if answered:
                yield operation.completed, _END, number
        elif operation.action != "transfer" and answered:
            yield operation.invoked, _BEGIN_READ, number
            yield operation.completed, _END_READ, number


class _Search:
    """Depth first over the optional transfers: taken or not.

    They are ordered so that accounts with few of them are settled first. For each place in the
    order, ``most`` and ``least`` are what the transfers from there on can add to an account.
    """

    def __init__(
        self, missing: Mapping[Any, int], optional: Sequence[Operation], steps_max: int
    ) -> None:
        self.steps_left = steps_max
        accounts = {account: number for number, account in enumerate(missing)}
        self.missing = list(missing.values())
        moves = [
            (accounts[source], accounts[target], amount)
            for source, target, amount in (transfer.value for transfer in optional)
            if source != target and amount
        ]
        self.moves = _by_account(moves, len(accounts))
        most, least = [0] * len(accounts), [0] * len(accounts)
        self.bounds = [(most.copy(), least.copy())]
        for source, target, amount in reversed(self.moves):
            most[target] += max(amount, 0)
            least[target] += min(amount, 0)
            most[source] += max(-amount, 0)
            least[source] += min(-amount, 0)
            self.bounds.append((most.copy(), least.copy()))
        self.bounds.reverse()
        self.dead: set[tuple[int, tuple[int, ...]]] = set()

    def run(self) -> bool | None:
        missing = tuple(self.missing)
        if not self._in_reach(0, missing, range(len(missing))):
            return False
        stack = [(0, missing)]
        while stack:
            place, missing = stack.pop()
            if place == len(self.moves):
                return True  # nothing is left to add, and nothing out of reach is missing
            if (place, missing) in self.dead:
                continue
            self.dead.add((place, missing))
            self.steps_left -= 1
            if self.steps_left < 0:
                return None
            source, target, amount = self.moves[place]
            taken = list(missing)
            taken[source] += amount
            taken[target] -= amount
            stack += [
                (place + 1, after)
                for after in (missing, tuple(taken))
                if self._in_reach(place + 1, after, (source, target))
            ]
        return False

    def _in_reach(self, place: int, missing: Sequence[int], accounts: Sequence[int]) -> bool:
        most, least = self.bounds[place]
        return all(least[account] <= missing[account] <= most[account] for account in accounts)


def _by_account(moves: list[tuple[int, int, int]], accounts: int) -> list[tuple[int, int, int]]:
    """The moves of the account that has fewest left, then of the next, and so on."""
    left = moves
    ordered: list[tuple[int, int, int]] = []
    while left:
        counts = [0] * accounts
        for source, target, _ in left:
            counts[source] += 1
            counts[target] += 1
        touched = [number for number in range(accounts) if counts[number]]
        rarest = min(touched, key=counts.__getitem__)
        ordered += [move for move in left if rarest in move[:2]]
        left = [move for move in left if rarest not in move[:2]]
    return ordered
