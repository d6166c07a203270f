"""What must hold after every event: the paper's invariants, promises, and equal states.

The checks see what no server can: all of them at once. They hang on the seams: the ports of
``RaftServer``, the write-ahead log, the state machine. For each server they keep a *shadow*: the
log, term and vote as they are certainly durable. A promise (a vote, an acknowledged entry, a
candidate's request) that the shadow does not cover has been given too early, and a server that
restarts with less than its shadow has lost what it promised.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.raft import invariants
from actors.raft.core import RaftCore
from actors.raft.messages import (
    AppendReply,
    Entry,
    PeerMessage,
    SnapshotReply,
    VoteReply,
    VoteRequest,
)
from actors.raft.quorum import majority
from actors.raft.ready import HardState, Role, SnapshotMark
from graph.digest import digest
from tests.checkers.integrity import check_integrity
from tests.simulation.world import SimulationFailure

if TYPE_CHECKING:
    from actors.raft.log import RaftLog
    from tests.simulation.process import Process
    from tests.simulation.simulation import World

__all__ = ["Checks"]


# The states of servers are compared at every such index, when one starts, and at the end of each
# phase. A digest takes milliseconds; what differs once stays different.
COMPARED_EVERY = 40

SINGLES_MAX = 40  # nodes that are looked at one by one, as far as integrity goes

NO_HARD_STATE = HardState(0, 0)


@dataclass(slots=True)
class _Shadow:
    """What of one server is certainly durable."""

    hard_state: HardState = NO_HARD_STATE
    base: int = 0  # covered by a durable snapshot
    last: int = 0
    terms: dict[int, int] = field(default_factory=dict)
    written: list[tuple[HardState | None, list[tuple[int, int]], SnapshotMark | None]] = field(
        default_factory=list
    )

    def synced(self) -> None:
        for hard_state, entries, reset in self.written:
            if reset is not None:
                self.terms.clear()
                self.base = max(self.base, reset.index)
                self.last = reset.index
            if hard_state is not None:
                self.hard_state = hard_state
            for index, term in entries:
                self.put(index, term)
        self.written.clear()

    def put(self, index: int, term: int) -> None:
        for later in range(index, self.last + 1):
            self.terms.pop(later, None)
        self.terms[index] = term
        self.last = index

    def holds(self, index: int, term: int) -> bool:
        return index <= self.base or self.terms.get(index) == term


def _truncates_conflicts_alone(
    process: Process, stored: _Shadow, reset: SnapshotMark | None, entries: Sequence[Entry]
) -> None:
    """What is there with the same term is not written once more: a write drops all behind it
    (paper, figure 2: AppendEntries, 3 and 4)."""
    if reset is not None:
        stored.terms.clear()
    for entry in entries:
        if stored.terms.get(entry.index) == entry.term:
            fail(
                "Truncation",
                f"server {process.host.id} truncates {entry.index}/{entry.term}, which it is sent "
                f"again; its log had {stored.last}",
            )
        stored.put(entry.index, entry.term)


def fail(check: str, text: str) -> None:
    raise SimulationFailure("correctness", check, text)


class Checks:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.committed: dict[int, int] = {}
        self._committed_in: dict[int, int] = {}  # the term in which that was
        self.committed_index = 0
        self._shadows: dict[int, _Shadow] = {}
        self._leaders: dict[int, int] = {}
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}
        self._applied: dict[int, tuple[int, int]] = {}
        self._states: dict[int, tuple[bytes, bytes]] = {}
        self._read_floor: dict[tuple[Process, int], int] = {}
        self._looked_at: dict[Process, Any] = {}
        self._led: dict[Process, tuple[int, int, int, int]] = {}

    # ----------------------------------------------------------------- a life begins

    def opened(self, process: Process) -> None:
        """The server has read its disk; from now on everything it does is seen."""
        core, host = process.assembly.core, process.host
        shadow = self._shadows.setdefault(host.id, _Shadow())
        log = core._state.log
        found = core._state.hard_state
        promised = shadow.hard_state
        if found.term < promised.term or (
            found.term == promised.term and promised.vote not in (0, found.vote)
        ):
            fail("Durable promises", f"server {host.id} restarts with {found}, not {promised}")
        self._check_entries(host.id, log, shadow)
        if host.disk.all_synced("raft"):
            shadow.hard_state = found
            shadow.base = log.base_index
            shadow.last = log.last_index
            shadow.terms = {
                i: log.term_at(i) for i in range(log.base_index + 1, log.last_index + 1)
            }
        shadow.written.clear()
        self.compare(process)
        self._attach(process, shadow)

    def _check_entries(self, server: int, log: RaftLog, shadow: _Shadow) -> None:
        """What was promised is there, or a later leader has put its own entries in the place."""
        # A snapshot whose last entry the log does not have replaces the log (figure 13, rule 7).
        if shadow.terms.get(log.base_index, log.base_term) != log.base_term:
            return
        for index, term in sorted(shadow.terms.items()):
            if index <= log.base_index:
                continue
            found = log.term_at(index) if index <= log.last_index else 0
            if found > term:  # it may not be synced yet; what it replaces was not committed
                return
            if found < term:
                fail(
                    "Durable promises",
                    f"server {server} restarts without {index}/{term}; its "
                    f"log has {log.base_index}..{log.last_index}",
                )

    def _attach(self, process: Process, shadow: _Shadow) -> None:
        """Look over the shoulders of the parts, where they hand on to one another."""
        assembly, disk = process.assembly, process.host.disk
        wal, snapshots, server = assembly.wal, assembly.snapshots, assembly.server
        append, sync, send = wal.append, wal.sync, server._send
        write, apply = assembly.log_thread.write, assembly.machine.apply
        apply_entry = assembly.replica.apply
        stored = _Shadow()  # what this life has in its log, durable or not
        for index in range(assembly.core.log.first_index, assembly.core.last_index + 1):
            stored.put(index, assembly.core.log.term_at(index))
        reads_ready = assembly.machine_thread.reads_ready
        save, finish = snapshots.save, snapshots.finish

        def append_(hard_state: Any, entries: Sequence[Entry], reset: Any = None) -> None:
            append(hard_state, entries, reset)
            shadow.written.append((hard_state, [(e.index, e.term) for e in entries], reset))

        def sync_() -> None:
            sync()
            if disk.all_synced("raft"):
                shadow.synced()

        def send_(messages: Sequence[PeerMessage]) -> None:
            for message in messages:
                self._promise(shadow, message)
            send(messages)

        def write_(sequence: int, hard_state: Any, reset: Any, entries: Sequence[Entry]) -> None:
            self._log_matching(assembly.core, entries)
            _truncates_conflicts_alone(process, stored, reset, entries)
            write(sequence, hard_state, reset, entries)

        def apply_(entries: Sequence[Entry]) -> None:
            self._state_machine_safety(process, entries)
            apply(entries)

        def apply_entry_(entry: Entry) -> Any:
            speculation = apply_entry(entry)
            if not entry.index % COMPARED_EVERY:
                self.compare(process)
            return speculation

        def reads_ready_(reads: Sequence[tuple[int, int]]) -> None:
            for token, index in reads:
                floor = self._read_floor.pop((process, token), 0)
                if index < floor:
                    fail(
                        "Stale read",
                        f"server {process.host.id} reads at {index}, but {floor} "
                        "was committed before it was asked",
                    )
            reads_ready(reads)

        def durable(name: str) -> str:
            index = int(name.partition("-")[0])
            shadow.base = max(shadow.base, index)
            self.world.trace.note("snapshot", process.host.id, name)
            return name

        wal.append, wal.sync, server._send = append_, sync_, send_  # type: ignore[method-assign]
        assembly.log_thread.write = write_  # type: ignore[method-assign]
        assembly.machine.apply = apply_  # type: ignore[method-assign]
        assembly.replica.apply = apply_entry_  # type: ignore[method-assign]
        assembly.machine_thread.reads_ready = reads_ready_  # type: ignore[method-assign]
        count = self.world.trace.count

        def save_(meta: Any, stream: Any) -> str:
            name = durable(save(meta, stream))
            count["snapshots saved"] += 1
            return name

        def finish_() -> str:
            name = durable(finish())
            count["snapshots received"] += 1
            return name

        snapshots.save, snapshots.finish = save_, finish_  # type: ignore[method-assign]

    # ----------------------------------------------------------------- promises

    def _promise(self, shadow: _Shadow, message: PeerMessage) -> None:
        """Votes and acknowledgements leave only when what they say is durable."""
        state = shadow.hard_state
        if isinstance(message, VoteReply) and message.granted:
            if state.term <= message.term and state != HardState(message.term, message.receiver):
                fail("Promise before durable", f"{message}, but durable is {state}")
        elif isinstance(message, VoteRequest):
            if state.term < message.term:
                fail("Promise before durable", f"{message}, but durable is {state}")
        elif isinstance(message, AppendReply) and message.success and message.index:
            if max(shadow.last, shadow.base) < message.index and state.term <= message.term:
                fail("Promise before durable", f"{message}, but durable ends at {shadow.last}")
        elif isinstance(message, SnapshotReply):
            self.world.trace.count["snapshot chunks"] += 1

    # ----------------------------------------------------------------- after every event

    def advanced(self, process: Process) -> None:
        """The loop of a server has taken events."""
        core = process.assembly.core
        log = core._state.log
        entries = (log.base_index, log.last_index, log.last_term, log.snapshot)
        try:
            invariants.check(core, whole_log=entries != self._looked_at.get(process))
        except AssertionError as error:
            fail("Core invariant", f"server {core.server_id}: {error}")
        self._looked_at[process] = entries
        if core.role is Role.LEADER:
            self._leader(process, core)
        if log.commit_index > self.committed_index:
            self._commits(core)
        last = log.commit_index
        if last > log.base_index and log.term_at(last) != self.committed[last]:
            fail(
                "Log Matching",
                f"server {core.server_id} committed {last} with term "
                f"{log.term_at(last)}, others with {self.committed[last]}",
            )
        self.world.trace.note(
            "loop", core.server_id, core.role.name, core.term, log.commit_index, log.last_index
        )

    def _leader(self, process: Process, core: RaftCore) -> None:
        """Election Safety, Leader Completeness, Leader Append-Only, commitment."""
        log, term = core._state.log, core.term
        before = self._led.get(process)
        if before is None or before[0] != term:
            other = self._leaders.setdefault(term, core.server_id)
            if other != core.server_id:
                fail("Election Safety", f"servers {other} and {core.server_id} lead in {term}")
            self.world.trace.count["leaders"] += 1
            for index in range(log.base_index + 1, self.committed_index + 1):
                if self._committed_in[index] > term:
                    break  # no promise of the leaders of earlier terms, who may be heard late
                if index > log.last_index or log.term_at(index) != self.committed[index]:
                    fail(
                        "Leader Completeness",
                        f"leader {core.server_id} of term {term} lacks "
                        f"committed {index}/{self.committed[index]}",
                    )
        elif log.last_index < before[1] or (
            before[1] > log.base_index and log.term_at(before[1]) != before[2]
        ):
            fail("Leader Append-Only", f"leader {core.server_id} lost entries after {before}")
        elif log.commit_index > before[3] and log.term_at(log.commit_index) != term:
            fail(  # paper, figure 2 (rules for leaders) and figure 8
                "Commitment",
                f"leader {core.server_id} of term {term} commits {log.commit_index} by counting, "
                f"an entry of term {log.term_at(log.commit_index)}",
            )
        self._led[process] = (term, log.last_index, log.last_term, log.commit_index)

    def _commits(self, core: RaftCore) -> None:
        """What is committed is durable on a majority.

        Of the voters in force: those that the entry committed last brought, or, where it is not
        committed itself, a later entry in the leader's log (dissertation, 4.1).
        """
        log = core._state.log
        since = log.configuration_at(log.commit_index).index
        in_force = [set(c.membership.voters) for c in log._configurations if c.index >= since]
        for index in range(self.committed_index + 1, log.commit_index + 1):
            if index <= log.base_index:
                fail("Leader Completeness", f"{index} was compacted before it was committed")
            term = self.committed[index] = log.term_at(index)
            self._committed_in[index] = core.term
            holders = [i for i, shadow in self._shadows.items() if shadow.holds(index, term)]
            if not any(len(voters & set(holders)) >= majority(len(voters)) for voters in in_force):
                fail("Commit on a majority", f"{index}/{term} is durable on {holders} alone")
        self.committed_index = log.commit_index

    def _log_matching(self, core: RaftCore, entries: Sequence[Entry]) -> None:
        """An index and a term name one entry and one predecessor (paper, 5.3)."""
        for entry in entries:
            found = (core._state.log.term_at(entry.index - 1), zlib.crc32(entry.data))
            known = self._seen.setdefault((entry.index, entry.term), found)
            if known != found:
                fail("Log Matching", f"two entries {entry.index}/{entry.term}")

    def _state_machine_safety(self, process: Process, entries: Sequence[Entry]) -> None:
        for entry in entries:
            found = (entry.term, zlib.crc32(entry.data))
            if self._applied.setdefault(entry.index, found) != found:
                fail(
                    "State Machine Safety",
                    f"server {process.host.id} applies another entry {entry.index}",
                )

    def compare(self, process: Process) -> None:
        """Equal states at equal applied index."""
        if process.assembly.case is not None:
            return  # it has no graph until it gets another server's
        replica = process.assembly.replica
        root = replica.view() if replica.leading_term else replica.head
        state = (digest(root), replica.outcomes.encode())
        known = self._states.setdefault(replica.applied_index, state)
        if known != state:
            what = "graphs" if known[0] != state[0] else "outcomes"
            fail(
                "Equal states",
                f"{what} differ at {replica.applied_index} (server {process.host.id})",
            )

    def integrity(self, process: Process) -> None:
        """The graph agrees with itself: adjacency and indexes, which no digest covers."""
        found = check_integrity(process.assembly.replica.view(), singles_max=SINGLES_MAX)
        if not found.valid:
            fail("Graph integrity", f"server {process.host.id}: {found.findings}")

    # ----------------------------------------------------------------- reads

    def read_asked(self, process: Process, token: int) -> None:
        self._read_floor[(process, token)] = self.committed_index
