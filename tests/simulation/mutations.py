"""Known bugs, put in one at a time: the simulator must find each of them.

    python -m tests.simulation.mutations --seeds 200
    python -m tests.simulation.mutations reply_before_persist --seeds 20

This tests the simulator, not the product. Every mutation is a bug that somebody has shipped, or a
rule of the product left out, as a patch of one place of the real code. Seeds are run from 0 on
until one fails; a seed counts only if the product itself passes it, and a fault that did not happen
is no catch. What comes out is a table in Markdown: mutation, seeds needed, check that caught it.
The exit status is 1 if a mutation was not caught, or if the product fails one of the seeds.

No mutation is made easier to catch than it was where it was seen, and nothing in the simulator
knows of them. What only the chance of real processes could show (the order of a set) is made to
differ between the lives of servers, as it would there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from actors.assembly import Assembly
from actors.errors import DiskFailure
from actors.machine import StateMachine
from actors.outcomes import OutcomeTable
from actors.protocol import Reply
from actors.raft import follower, leader, quorum
from actors.raft.core import _PEER_HANDLERS
from actors.raft.log import RaftLog
from actors.raft.messages import SnapshotChunk
from actors.raft.ready import SnapshotMark
from actors.raft.state import Leadership, Receiving, State
from actors.replica import Replica
from actors.server import RaftServer
from actors.wal import WriteAheadLog
from actors.writer import Writer
from graph import apply
from graph.state import State as Pieces
from graph.store import Root
from tests.simulation.simulation import run_seed
from tests.simulation.world import SimulationFailure

__all__ = ["MUTATIONS", "Caught", "Mutation", "hunt", "main"]

Patch = pytest.MonkeyPatch

# ----------------------------------------------------------------- disk


def vote_not_synced(patch: Patch) -> None:
    append, sync = WriteAheadLog.append, WriteAheadLog.sync
    entries_unsynced: set[WriteAheadLog] = set()

    def append_(self: WriteAheadLog, hard_state: Any, entries: Any, reset: Any = None) -> None:
        append(self, hard_state, entries, reset)
        if entries or reset is not None:
            entries_unsynced.add(self)

    def sync_(self: WriteAheadLog) -> None:
        if self in entries_unsynced:
            entries_unsynced.remove(self)
            sync(self)

    patch.setattr(WriteAheadLog, "append", append_)
    patch.setattr(WriteAheadLog, "sync", sync_)


def reply_before_persist(patch: Patch) -> None:
    persist = RaftServer._persist

    def persist_(self: RaftServer, ready: Any) -> None:
        self._send(ready.messages_after_persist)
        persist(self, replace(ready, messages_after_persist=()))

    patch.setattr(RaftServer, "_persist", persist_)


def sync_tried_again(patch: Patch) -> None:
    sync = WriteAheadLog.sync

    def sync_(self: WriteAheadLog) -> None:
        try:
            sync(self)
        except DiskFailure:
            sync(self)

    patch.setattr(WriteAheadLog, "sync", sync_)


def damage_taken_for_torn_tail(patch: Patch) -> None:
    patch.setattr(WriteAheadLog, "_refuse_unless_torn", lambda *_, **__: None)


# ----------------------------------------------------------------- elections and commitment


def half_elects(patch: Patch) -> None:
    patch.setattr(quorum, "majority", lambda voters: max(1, voters // 2))


def half_commits(patch: Patch) -> None:
    def value(values: Iterable[int]) -> int:
        ordered = sorted(values)
        return ordered[-max(1, len(ordered) // 2)]

    patch.setattr(leader, "majority_value", value)


def vote_by_index_first(patch: Patch) -> None:
    def is_up_to_date(self: RaftLog, last_index: int, last_term: int) -> bool:
        return (last_index, last_term) >= (self.last_index, self.last_term)

    patch.setattr(RaftLog, "is_up_to_date", is_up_to_date)


def prior_terms_counted(patch: Patch) -> None:
    def advance_commit(state: State) -> None:
        assert state.leadership is not None
        log = state.log
        log.commit_to(
            leader._reached(state, state.leadership, log.persisted_index, leader._match_index)
        )

    patch.setattr(leader, "advance_commit", advance_commit)


def truncate_unconditionally(patch: Patch) -> None:
    def store(state: State, entries: Sequence[Any]) -> bool:
        if entries:
            if entries[0].index <= state.log.last_index:
                state.log.truncate(entries[0].index)
                state.persistence.truncated(entries[0].index)
            state.log.append(entries)
        return True

    patch.setattr(follower, "_store", store)


# ----------------------------------------------------------------- snapshots


def older_snapshot_accepted(patch: Patch) -> None:
    def handle(state: State, message: SnapshotChunk) -> None:
        if not follower.heard_leader(state, message.sender):
            return
        mark = SnapshotMark(message.index, message.snapshot_term)
        if state.installing is not None:
            follower._reply_snapshot(state, mark, state.installing.offset)
            return
        receiving = state.receiving
        if receiving is None or receiving.sender != message.sender or receiving.mark != mark:
            if message.offset != 0:
                follower._reply_snapshot(state, mark, 0)
                return
            receiving = state.receiving = Receiving(message.sender, mark, message.total)
        if message.offset == receiving.offset and message.total == receiving.total:
            state.snapshot_chunks.append(message)
            receiving.offset += len(message.data)
            if message.last:
                state.receiving, state.installing = None, receiving
        follower._reply_snapshot(state, mark, receiving.offset)

    patch.setitem(_PEER_HANDLERS, SnapshotChunk, handle)


def outcomes_not_in_snapshot(patch: Patch) -> None:
    capture = Replica.capture

    def capture_(self: Replica) -> Any:
        captured = capture(self)
        if captured is None:
            return None
        meta, root = captured
        return replace(meta, outcomes=OutcomeTable().encode().hex()), root

    patch.setattr(Replica, "capture", capture_)


# ----------------------------------------------------------------- reads


def read_without_round(patch: Patch) -> None:
    def confirm(state: State, leadership: Leadership) -> None:
        state.reads.extend(leadership.reads.confirm(leadership.context))

    patch.setattr(leader, "_confirm_reads", confirm)


def read_before_own_commit(patch: Patch) -> None:
    start_reads = leader._start_reads

    def start_reads_(state: State, leadership: Leadership, rounds_max: int) -> bool:
        term_start, leadership.term_start = leadership.term_start, 0
        try:
            return start_reads(state, leadership, rounds_max)
        finally:
            leadership.term_start = term_start

    patch.setattr(leader, "_start_reads", start_reads_)


# ----------------------------------------------------------------- membership


def old_configuration_commits(patch: Patch) -> None:
    def reached(state: State, leadership: Leadership, own: int, of: Callable[[Any], int]) -> int:
        log, progress = state.log, leadership.progress
        voters = log.configuration_at(log.commit_index).membership.voters
        return quorum.majority_value([own if v == state.id else of(progress[v]) for v in voters])

    patch.setattr(leader, "_reached", reached)


# ----------------------------------------------------------------- answers


def not_leader_after_append(patch: Patch) -> None:
    stop_leading = StateMachine._stop_leading

    def stop_leading_(self: StateMachine) -> None:
        items = [e.item for s in self.replica.pending for e in s.on_commit]
        stop_leading(self)
        answers: list[tuple[Any, Reply]] = [(item, self._not_leader(item)) for item in items]
        self.service.reply_all(answers)

    patch.setattr(StateMachine, "_stop_leading", stop_leading_)


# ----------------------------------------------------------------- graph


def set_iterated_in_apply(patch: Patch) -> None:
    """The order of a set of names depends on the process: here, on the life of the server."""
    load_state, apply_entry, add_names = Assembly._load_state, Replica.apply, Pieces.add_names
    hashes: dict[Replica, bytes] = {}
    applying: list[bytes] = []

    def load_state_(self: Assembly) -> Any:
        life = f"{self.settings.server_id} {self.directory.identity.incarnation}"
        hashes[self.replica] = life.encode()
        return load_state(self)

    def apply_entry_(self: Replica, entry: Any) -> Any:
        applying.append(hashes[self])
        try:
            return apply_entry(self, entry)
        finally:
            applying.pop()

    def add_names_(self: Pieces, labels: list[str], types: list[str], keys: list[str]) -> None:
        add_names(self, in_set_order(labels), in_set_order(types), in_set_order(keys))

    def in_set_order(names: list[str]) -> list[str]:
        life = applying[-1] if applying else b""
        return sorted(names, key=lambda name: zlib.crc32(life + name.encode()))

    patch.setattr(Assembly, "_load_state", load_state_)
    patch.setattr(Replica, "apply", apply_entry_)
    patch.setattr(Pieces, "add_names", add_names_)


def adjacency_before_properties(patch: Patch) -> None:
    """The view takes over the properties of relationships one change later than the rest."""
    view = Replica.view
    shown: dict[Replica, tuple[Root, Root]] = {}  # what is committed, what is shown of it

    def view_(self: Replica) -> Root:
        committed = view(self)
        before = shown.get(self)
        if before is None or before[0] is not committed:
            half = committed.fork()
            if before is not None:
                columns = before[0].relationship_columns
                half.relationship_columns = columns + half.relationship_columns[len(columns) :]
            shown[self] = before = (committed, half)
        return before[1]

    patch.setattr(Replica, "view", view_)


def conflicts_not_looked_for(patch: Patch) -> None:
    checked = Writer._checked

    def checked_(self: Writer, opened: Any, earlier: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self.conflicts, "conflict", lambda *_: False)
            return checked(self, opened, ())

    patch.setattr(Writer, "_checked", checked_)


def reverse_adjacency_stays(patch: Patch) -> None:
    delete, own_adjacency = apply._delete_relationships, Pieces.own_adjacency

    class Unchanged:
        def remove(self, nodes: Any, alive: Any) -> None:
            pass

    def delete_(root: Any, op: Any, counters: Any) -> None:
        def own(self: Pieces, adjacencies: list[Any], number: int) -> Any:
            incoming = adjacencies is self.incoming
            return Unchanged() if incoming else own_adjacency(self, adjacencies, number)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Pieces, "own_adjacency", own)
            delete(root, op, counters)

    patch.setattr(apply, "_delete_relationships", delete_)


# ----------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Mutation:
    """``what`` is wrong; ``seen``: who had it, or the rule that it leaves out."""

    patch: Callable[[Patch], None]
    what: str
    seen: str
    quick: bool = False  # caught within a few seeds: tried in every run of the tests

    @property
    def name(self) -> str:
        return self.patch.__name__


_ALL = (
    Mutation(
        vote_not_synced,
        "term and vote are written, but only entries are synced",
        "PySyncObj #84, #202; tikv #1610",
        quick=True,
    ),
    Mutation(
        reply_before_persist,
        "votes and acknowledgements leave before they are durable",
        "etcd #14370",
        quick=True,
    ),
    Mutation(
        prior_terms_counted,
        "an entry of an earlier term is committed by counting",
        "logcabin #44; paper, 5.4.2 and figure 8",
        quick=True,
    ),
    Mutation(
        truncate_unconditionally,
        "a follower drops what follows an Append, conflict or not",
        "openraft 9540c904, redisraft #53",
        quick=True,
    ),
    Mutation(
        older_snapshot_accepted,
        "a follower installs a snapshot that is behind its commit index",
        "openraft eed681d5, 674e78aa; etcd #18055",
    ),
    Mutation(
        outcomes_not_in_snapshot,
        "a snapshot lacks the memory of transactions done",
        "redisraft #13, #52; dissertation, 6.3",
        quick=True,
    ),
    Mutation(
        read_without_round,
        "a leader answers reads without asking a majority",
        "etcd #3879, redisraft #18; dissertation, 6.4",
    ),
    Mutation(
        read_before_own_commit,
        "a new leader answers reads before its own first commit",
        "redisraft #19; dissertation, 6.4, step 1",
        quick=True,
    ),
    Mutation(
        old_configuration_commits,
        "during a change of membership the old majority commits",
        "RethinkDB 2016; dissertation, 4.1",
        quick=True,
    ),
    Mutation(
        half_elects,
        "half of the voters elect a leader",
        "openraft d60f1e85",
        quick=True,
    ),
    Mutation(
        half_commits,
        "half of the voters commit an entry",
        "openraft d60f1e85",
        quick=True,
    ),
    Mutation(
        vote_by_index_first,
        "the longer log gets the vote, not the newer one",
        "openraft a48a3282; paper, 5.4.1",
    ),
    Mutation(
        set_iterated_in_apply,
        "a set is iterated where entries are applied",
        "any Python with randomised hashes",
        quick=True,
    ),
    Mutation(
        sync_tried_again,
        "a failed sync is tried again",
        "PostgreSQL before 2018",
    ),
    Mutation(
        damage_taken_for_torn_tail,
        "damage in the middle of the log is cut off like a torn tail",
        "the rule that etcd has for repairing its log",
    ),
    Mutation(
        not_leader_after_append,
        "a deposed leader says 'not done' of what it has appended",
        "redisraft #23",
        quick=True,
    ),
    Mutation(
        adjacency_before_properties,
        "readers see relationships before their properties",
        "Dgraph 1.0.2",
        quick=True,
    ),
    Mutation(
        conflicts_not_looked_for,
        "a transaction overwrites what changed since it began",
        "lost updates; Dgraph 1.0.2",
        quick=True,
    ),
    Mutation(
        reverse_adjacency_stays,
        "a deleted relationship stays in its target's list",
        "the specific risk of a graph",
    ),
)

MUTATIONS = {mutation.name: mutation for mutation in _ALL}

# ----------------------------------------------------------------- running


@dataclass(frozen=True)
class Caught:
    """What became of a mutation: ``seeds`` were needed, 0 if nobody caught it."""

    name: str
    seeds: int
    check: str
    passed_over: tuple[int, ...]  # seeds that the product itself fails


@cache
def _found_in_product(seed: int) -> str:
    """What a seed finds with no mutation at all; nothing, it should be."""
    failure = run_seed(seed).failure
    return "" if failure is None else str(failure)


def hunt(mutation: Mutation, seeds: int) -> Caught:
    """Run seeds from 0 on, at most so many, until one catches the mutation."""
    passed_over: list[int] = []
    for seed in range(seeds):
        failure = _with(mutation, seed)
        if failure is None or failure.kind == "coverage":
            continue
        if _found_in_product(seed):
            passed_over.append(seed)
            continue
        return Caught(mutation.name, seed + 1, _shown(failure), tuple(passed_over))
    return Caught(mutation.name, 0, "", tuple(passed_over))


def _with(mutation: Mutation, seed: int) -> SimulationFailure | None:
    with pytest.MonkeyPatch.context() as patch:
        mutation.patch(patch)
        return run_seed(seed).failure


def _shown(failure: SimulationFailure) -> str:
    """The name of the check; of an assertion of the product, and of an error, what it says."""
    if failure.check not in ("assertion", "event loop", "query", "server", "simulation"):
        return failure.check
    return f"{failure.check}: {failure.text.splitlines()[0][:60]}"


def _hunt(work: tuple[str, int]) -> Caught:
    name, seeds = work
    return hunt(MUTATIONS[name], seeds)


def _results(work: list[tuple[str, int]], jobs: int) -> Iterator[Caught]:
    if jobs == 1:
        yield from map(_hunt, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_hunt, work)


def main(arguments: list[str] | None = None) -> int:
    """The command. The exit status is 1 if a mutation lives, or the product fails a seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations (default: all)")
    parser.add_argument("--seeds", type=int, default=200, help="at most so many (default 200)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - set(MUTATIONS))
    if unknown:
        parser.error(f"no such mutation: {', '.join(unknown)}; there are {', '.join(MUTATIONS)}")
    print("| mutation | what is wrong | seen in | seeds needed | check that caught it |")
    print("|---|---|---|---|---|")
    alive: list[str] = []
    most = 0
    for caught in _results([(n, given.seeds) for n in given.names or MUTATIONS], given.jobs):
        mutation = MUTATIONS[caught.name]
        seeds = str(caught.seeds or f"more than {given.seeds}")
        row = (f"`{caught.name}`", mutation.what, mutation.seen, seeds, caught.check)
        print(f"| {' | '.join(row)} |", flush=True)
        alive += [] if caught.seeds else [caught.name]
        most = max(most, caught.seeds or given.seeds)
    suspect = [seed for seed in range(most) if _found_in_product(seed)]
    for seed in suspect:
        print(f"seed {seed} fails without any mutation: python -m tests.simulation --seed {seed}")
    print(f"not caught: {', '.join(alive)}" if alive else "all caught")
    return 1 if alive or suspect else 0


if __name__ == "__main__":
    sys.exit(main())
