"""Do transactions over lists keep their isolation level? (list-append, as in Elle)

One action, ``txn``. Its value is a tuple of steps, and its result, if OK, a tuple of as many:

    ("append", key, element)    result: not looked at
    ("read", key)               result: the list's elements, as a tuple

Each element is appended to its key at most once in a history, so that a list read later names, in
order, every transaction that wrote to it. Results of transactions that are not OK are not looked
at. An UNKNOWN transaction counts as committed once anybody has read one of its elements.

*Theory* (Kingsbury and Alvaro, "Elle", VLDB 2020; anomalies after Adya 1999). The longest list
read of a key gives the order of its versions; every other read must be a prefix of it. From that
follow edges between committed transactions (``cycles.py``). A committed append that no read has
shown comes after every version that was read. An order of all transactions exists only if there is
no cycle, and what a cycle is made of says what went wrong:

    duplicate           one element twice in a list       internal         a transaction that does
    phantom             an element nobody appended                         not see what it did or
    G1a                 a read of a failed append                          saw before
    G1b                 a read of half a transaction      incompatible     two reads, neither the
    lost-update         two appended after reading the    order            beginning of the other
                        same version
    G0                  ww edges alone                    G1c              ww and wr edges
    G-single            exactly one rw edge               G-nonadjacent    rw edges, no two in a row
    G2-item             the other cycles                  ...-realtime     needs real-time edges

=============================  ==================  ==========================
promise                        real-time edges     cycles allowed
=============================  ==================  ==========================
``serializable``               no                  none
``strict-serializable``        yes                 none
``snapshot-isolation``         no                  with two rw edges in a row
``strong-snapshot-isolation``  yes                 with two rw edges in a row
=============================  ==================  ==========================
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tests.checkers.append_order import Appends, Finding, order_of
from tests.checkers.cycles import RT, RW, WR, WW, Edge, Graph
from tests.checkers.history import Operation, Verdict, shown, valid_history, verdict

__all__ = ["PROMISES", "check_append"]

# By name: whether real time orders transactions, and whether write skew is allowed.
PROMISES = {
    "serializable": (False, False),
    "strict-serializable": (True, False),
    "snapshot-isolation": (False, True),
    "strong-snapshot-isolation": (True, True),
}
_TRIES_MAX = 200  # edges from which a shorter cycle is looked for, once there is one


def check_append(
    history: Sequence[Operation], *, promise: str = "strong-snapshot-isolation"
) -> Verdict:
    """Whether a history keeps ``promise``, one of ``PROMISES``.

    Raises ``ValueError`` for another promise and for a history that appends an element twice.
    """
    if promise not in PROMISES:
        raise ValueError(f"unknown promise {promise!r}; choose one of {', '.join(PROMISES)}")
    valid_history(history, ("txn",))
    appends = Appends.of(history)
    order = order_of(appends)
    graph = _Dependencies(appends, order.versions)
    real_time, skew_allowed = PROMISES[promise]
    if real_time:
        graph.add_real_time()
    found = _Cycles(graph, RT if real_time else 0).find(skew_allowed=skew_allowed)
    return verdict([*order.findings, *found], len(history))


class _Dependencies(Graph):
    """Edges between committed transactions, each with what made it."""

    def __init__(self, appends: Appends, versions: dict[Any, tuple[Any, ...]]) -> None:
        super().__init__()
        self.appends = appends
        self.reasons: dict[Edge, tuple[Any, str]] = {}  # the key, and words
        for key, version in versions.items():
            self._add_writes(key, version)
            self._add_reads(key, version)

    def _add_writes(self, key: Any, version: Sequence[Any]) -> None:
        writer = self.appends.writer
        for before, after in pairwise(version):
            reason = f"{key!r}: {before!r} stands before {after!r}"
            self._because(writer[key, before], writer[key, after], WW, key, reason)
        if version:
            for number, element in self._unseen(key, version):
                reason = f"{key!r}: {element!r} was never seen, so it comes after {version[-1]!r}"
                self._because(writer[key, version[-1]], number, WW, key, reason)

    def _add_reads(self, key: Any, version: Sequence[Any]) -> None:
        writer = self.appends.writer
        unseen = self._unseen(key, version)
        for number, elements in self.appends.external_reads[key]:
            if elements:
                reason = f"{key!r}: the other read its {elements[-1]!r}"
                self._because(writer[key, elements[-1]], number, WR, key, reason)
            if len(elements) < len(version):
                next_ones = [(writer[key, version[len(elements)]], version[len(elements)])]
            else:
                next_ones = unseen
            for target, element in next_ones:
                reason = f"{key!r}: it read {_tail(elements)}, the other appended {element!r} next"
                self._because(number, target, RW, key, reason)

    def _unseen(self, key: Any, version: Sequence[Any]) -> list[tuple[int, Any]]:
        seen = set(version)
        return [
            (number, element)
            for number, element in self.appends.committed_appends[key]
            if element not in seen
        ]

    def _because(self, source: int, target: int, kind: int, key: Any, reason: str) -> None:
        self.add(source, target, kind)
        self.reasons.setdefault((source, target, kind), (key, reason))

    def add_real_time(self) -> None:
        """Edges from each transaction to those that began after it, but for what others imply.

        Of the transactions that ended so far, only those matter that no other ended one follows.
        """
        committed = self.appends.committed
        events = []
        for number in committed:
            operation = self.appends.history[number]
            events.append((operation.invoked, False, number))
            if number in self.appends.answered:
                events.append((operation.completed, True, number))
        latest: set[int] = set()
        before: dict[int, set[int]] = {}
        for _, ends, number in sorted(events):
            if ends:
                latest -= before[number]
                latest.add(number)
            else:
                before[number] = latest.copy()
                for earlier in latest:
                    self.add(earlier, number, RT)

    def told(self, cycle: Sequence[Edge]) -> str:
        """The cycle, for a person."""
        names = {node: f"T{place}" for place, (node, _, _) in enumerate(cycle, 1)}
        lines = [f"  {name}: {shown(self.appends.history[node])}" for node, name in names.items()]
        for source, target, kind in cycle:
            _, reason = self.reasons.get((source, target, kind), (None, ""))
            words = {WW: "wrote before", WR: "was read by", RW: "read before", RT: "ended before"}
            because = f" ({reason})" if reason else " began"
            lines.append(f"  {names[source]} {words[kind]} {names[target]}{because}")
        return "\n".join(lines)

    def is_lost_update(self, cycle: Sequence[Edge]) -> bool:
        """Two transactions read one version of a key; the second wrote over the first's."""
        if len(cycle) != 2 or sorted(kind for _, _, kind in cycle) != [WW, RW]:
            return False
        keys = {self.reasons[edge][0] for edge in cycle}
        return len(keys) == 1


class _Cycles:
    """Looks for each class of cycle, the plainest first; one finding for each component."""

    def __init__(self, graph: _Dependencies, real_time: int) -> None:
        self.graph = graph
        self.real_time = real_time
        self.findings: list[Finding] = []
        self.explained: set[int] = set()

    def find(self, *, skew_allowed: bool) -> list[Finding]:
        graph = self.graph
        for time in dict.fromkeys((0, self.real_time)):
            self._search("G0", graph.components(WW | time), WW, WW | time)
            self._search("G1c", graph.components(WW | WR | time), WR, WW | WR | time)
            everything = WW | WR | RW | time
            apart = graph.components_apart(everything)
            self._search("G-single", apart, RW, WW | WR | time)
            self._search("G-nonadjacent", apart, RW, everything, apart=True)
            assert all(self.explained.intersection(nodes) for nodes in apart), "a cycle is untold"
            if not skew_allowed:
                self._search("G2-item", graph.components(everything), RW, everything)
        return self.findings

    def _search(
        self, name: str, found: list[list[int]], first: int, kinds: int, *, apart: bool = False
    ) -> None:
        """The shortest cycle that begins with an edge of kind ``first``, in each component."""
        for component in found:
            inside = frozenset(component)
            if inside & self.explained:
                continue
            best: list[Edge] | None = None
            for tries, edge in enumerate(self.graph.edges_within(component, first)):
                if best is not None and tries >= _TRIES_MAX:
                    break
                cycle = self.graph.cycle_through(edge, kinds, inside, apart=apart)
                if cycle and (best is None or len(cycle) < len(best)):
                    best = cycle
            if best is not None:
                self.explained |= inside
                self._tell(name, best)

    def _tell(self, name: str, cycle: list[Edge]) -> None:
        if self.graph.is_lost_update(cycle):
            name = "lost-update"
        if any(kind == RT for _, _, kind in cycle):
            name += "-realtime"
        self.findings.append(f"{name}:\n{self.graph.told(cycle)}")


def _tail(elements: Sequence[Any]) -> str:
    if not elements:
        return "an empty list"
    return f"a list that ends with {elements[-1]!r}"
