"""The replica: what is executed ahead of the log equals what the log says, whoever leads.

A ``History`` is a log in memory. A leader executes writes on its head and speculates; ``commit``
puts what it proposed into the log; ``feed`` applies the log to a replica up to an index.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import commands
from actors.commands import TransactionId
from actors.raft.messages import Entry, EntryKind
from actors.replica import Replica, Speculation, load_root
from graph.digest import digest
from graph.snapshot import write_snapshot
from graph.store import Root
from graph.vector import Vector
from graph.write_set import WriteSet
from graph.write_set_codec import encode as encode_write_set

CLUSTER = "0123456789abcdef" * 2


class History:
    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.term = 0
        self.ids = 0

    def noop(self, term: int) -> int:
        self.term = term
        self.log.append(Entry(len(self.log) + 1, term, EntryKind.NOOP, b""))
        return len(self.log)

    def commit(self, speculation: Speculation) -> int:
        return self.append(commands.split(speculation.payload))

    def append(self, payloads: tuple[tuple[EntryKind, bytes], ...]) -> int:
        for kind, data in payloads:
            self.log.append(Entry(len(self.log) + 1, self.term, kind, data))
        return len(self.log)

    def feed(self, replica: Replica, up_to: int | None = None) -> list[Speculation]:
        done = []
        for entry in self.log[replica.applied_index : up_to]:
            speculation = replica.apply(entry)
            if speculation is not None:
                done.append(speculation)
        return done

    def write(self, leader: Replica, *names: str, on_commit: object = None) -> Speculation:
        """Create a node for each name and link them, in one batch of one transaction."""
        assert leader.allocator is not None
        count = len(names)
        first = leader.allocator.nodes(count)
        nodes = np.arange(first, first + count)
        write_set = WriteSet()
        write_set.create_nodes(nodes, ("Name",), {"text": Vector.from_values(list(names))})
        if count > 1:
            start = leader.allocator.relationships(count - 1)
            links = np.arange(start, start + count - 1)
            write_set.create_relationships(links, "NEXT", nodes[:-1], nodes[1:], {})
        leader.head.apply(write_set)
        self.ids += 1
        ids = (TransactionId(7, self.ids, 0),)
        payload = commands.encode_transactions(ids, [encode_write_set(write_set)])
        return leader.speculate(payload, ids, on_commit, 0.0)


def led(history: History, term: int = 1) -> Replica:
    leader = Replica()
    history.noop(term)
    history.feed(leader)
    leader.lead(term)
    return leader


def count(root: Root) -> int:
    return root.alive.count


def same(*replicas: Replica) -> bool:
    found = {(digest(r.view()), r.outcomes.encode(), r.cluster_id) for r in replicas}
    return len(found) == 1


@pytest.fixture
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "FRAGMENT_BYTES", 40)


# --- Following ------------------------------------------------------------------------------------


def test_a_follower_ends_where_the_leader_does() -> None:
    history = History()
    leader, follower = led(history), Replica()
    for names in (["a"], ["b", "c"], ["d"]):
        history.commit(history.write(leader, *names))
    assert len(history.feed(leader)) == 3
    assert history.feed(follower) == []
    assert count(follower.view()) == 4
    assert same(leader, follower)
    assert digest(leader.head) == digest(follower.head)
    assert follower.outcomes.find(7, 2) == 3


def test_entries_come_in_order_and_once() -> None:
    history = History()
    led(history)
    follower = Replica()
    history.feed(follower)
    with pytest.raises(AssertionError):
        follower.apply(history.log[0])
    with pytest.raises(AssertionError):
        follower.apply(Entry(3, 1, EntryKind.NOOP, b""))


def test_a_view_never_changes_afterwards() -> None:
    history = History()
    leader, follower = led(history), Replica()
    history.commit(history.write(leader, "a"))
    history.feed(follower)
    early = follower.view()
    before = digest(early)
    history.commit(history.write(leader, "b"))
    history.feed(follower)
    assert digest(early) == before
    assert count(follower.view()) == 2
    assert follower.view() is follower.view()


def test_the_cluster_is_named_once_and_for_all() -> None:
    history = History()
    leader, follower = led(history), Replica()
    for name in (CLUSTER, "f" * 32):
        payload = commands.encode_cluster(name)
        history.append(commands.split(payload))
        leader.speculate(payload, (), [], 0.0)
    history.feed(leader)
    history.feed(follower)
    assert leader.cluster_id == follower.cluster_id == CLUSTER


# --- Speculation ----------------------------------------------------------------------------------


def test_readers_see_a_write_only_when_it_is_committed() -> None:
    history = History()
    leader = led(history)
    first = history.write(leader, "a", on_commit="first")
    second = history.write(leader, "b", on_commit="second")
    assert (count(leader.view()), count(leader.head)) == (0, 2)
    history.commit(first)
    assert [s.on_commit for s in history.feed(leader)] == ["first"]
    assert count(leader.view()) == 1
    assert leader.view_version == first.version
    history.commit(second)
    assert history.feed(leader) == [second]
    assert count(leader.view()) == 2
    assert not leader.pending


def test_what_was_taken_back_leaves_no_trace() -> None:
    history = History()
    leader, follower = led(history), Replica()
    kept = history.write(leader, "a")
    taken = history.write(leader, "b", "c")
    history.write(leader, "d")
    leader.take_back(taken.version)
    assert [s.version for s in leader.pending] == [kept.version]
    assert count(leader.head) == 1
    history.commit(kept)
    history.commit(history.write(leader, "e"))
    history.feed(leader)
    history.feed(follower)
    assert count(follower.view()) == 2
    assert same(leader, follower)
    assert leader.outcomes.find(7, 2) is None


def test_all_may_be_taken_back() -> None:
    history = History()
    leader = led(history)
    history.commit(history.write(leader, "a"))
    history.feed(leader)
    before = digest(leader.view())
    taken = history.write(leader, "b")
    leader.take_back(taken.version)
    assert digest(leader.head) == digest(leader.view()) == before
    assert not leader.pending


def test_a_version_is_never_given_twice() -> None:
    """A late refusal of one batch must not hit another one."""
    history = History()
    leader = led(history)
    taken = history.write(leader, "a")
    leader.take_back(taken.version)
    assert history.write(leader, "b").version > taken.version


def test_a_batch_without_effect_is_an_entry_all_the_same() -> None:
    history = History()
    leader, follower = led(history), Replica()
    ids = (TransactionId(7, 1, 0),)
    for identities in (ids, ()):
        payload = commands.encode_transactions(identities, [])
        history.commit(leader.speculate(payload, identities, [], 0.0))
    assert len(history.feed(leader)) == 2
    history.feed(follower)
    assert same(leader, follower)
    assert follower.outcomes.find(7, 1) == 2


# --- Losing and taking the leadership -------------------------------------------------------------


def test_what_was_dropped_is_applied_from_the_log_if_it_was_committed() -> None:
    history = History()
    old, follower = led(history), Replica()
    done, first, second = (history.write(old, name) for name in "abc")
    history.commit(done)
    history.feed(old)
    assert old.follow() == [first, second]
    assert count(old.view()) == count(old.head) == 1
    assert (old.leading_term, old.allocator, list(old.pending)) == (0, None, [])
    history.commit(first)  # it had reached a majority
    history.noop(2)
    assert history.feed(old) == []
    history.feed(follower)
    assert count(old.view()) == 2
    assert same(old, follower)
    assert old.outcomes.find(7, 2) == 3
    assert old.outcomes.find(7, 3) is None


def test_an_entry_of_another_leader_completes_nothing() -> None:
    history = History()
    leader = led(history)
    waiting = history.write(leader, "a")
    payload = commands.encode_transactions([TransactionId(8, 1, 0)], [])
    assert leader.apply(Entry(2, 2, EntryKind.COMMAND, payload)) is None
    assert list(leader.pending) == [waiting]
    assert leader.outcomes.find(8, 1) == 2


def test_an_old_leader_may_lead_again() -> None:
    history = History()
    server, follower = led(history), Replica()
    lost = history.write(server, "a", "b")
    server.follow()
    history.noop(2)
    history.feed(server)
    server.lead(2)
    kept = history.write(server, "c")
    assert kept.version > lost.version
    history.commit(kept)
    assert history.feed(server) == [kept]
    history.feed(follower)
    assert count(follower.view()) == 1
    assert same(server, follower)


def test_a_new_leader_gives_no_id_twice() -> None:
    history = History()
    old, new = led(history), Replica()
    history.commit(history.write(old, "a", "b", "c"))
    history.feed(old)
    history.noop(2)
    history.feed(new)
    new.lead(2)
    history.commit(history.write(new, "d", "e"))
    history.feed(new)
    old.follow()
    history.feed(old)
    assert count(old.view()) == 5
    assert same(old, new)


def test_follow_without_leadership_changes_nothing() -> None:
    history = History()
    led(history)
    follower = Replica()
    history.feed(follower)
    head = follower.head
    assert follower.follow() == []
    assert follower.head is head


# --- Large commands -------------------------------------------------------------------------------

NAMES = ["a large command, in pieces"] * 4


@pytest.mark.usefixtures("small_fragments")
def test_fragments_are_one_command() -> None:
    history = History()
    leader, follower = led(history), Replica()
    large, after = history.write(leader, *NAMES), history.write(leader, "small")
    assert history.commit(large) > 4
    history.commit(after)
    assert history.feed(leader) == [large, after]
    history.feed(follower)
    assert count(follower.view()) == 5
    assert same(leader, follower)


@pytest.mark.usefixtures("small_fragments")
def test_what_a_lost_leader_left_unfinished_is_forgotten() -> None:
    history = History()
    leader, follower = led(history), Replica()
    large = history.write(leader, *NAMES)
    history.append(commands.split(large.payload)[:-1])
    history.feed(follower)
    leader.follow()
    history.feed(leader)
    history.noop(2)
    history.feed(leader)
    leader.lead(2)
    history.commit(history.write(leader, "small"))
    history.feed(leader)
    history.feed(follower)
    assert count(follower.view()) == 1
    assert same(leader, follower)


@pytest.mark.usefixtures("small_fragments")
def test_leadership_lost_in_the_middle_of_ones_own_large_command() -> None:
    history = History()
    probe = led(history)
    last = 1 + len(commands.split(history.write(probe, *NAMES).payload))
    for lost_at in range(1, last + 1):
        history = History()
        leader, follower = led(history), Replica()
        assert history.commit(history.write(leader, *NAMES)) == last
        history.feed(leader, lost_at)
        leader.follow()
        history.feed(leader)
        history.feed(follower)
        assert count(leader.view()) == len(NAMES)
        assert same(leader, follower)


@pytest.mark.usefixtures("small_fragments")
def test_no_snapshot_is_taken_in_the_middle_of_a_large_command() -> None:
    """The rest of the command would mean nothing to who starts from it."""
    history = History()
    leader, follower = led(history), Replica()
    last = history.commit(history.write(leader, *NAMES))
    for index in range(1, last + 1):
        for replica in (leader, follower):
            history.feed(replica, index)
            assert (replica.capture() is not None) == (index in (1, last))


# --- Snapshots ------------------------------------------------------------------------------------


def restored(replica: Replica) -> Replica:
    captured = replica.capture()
    assert captured is not None
    meta, root = captured
    twin = Replica()
    twin.restore(meta, load_root(write_snapshot(root)))
    return twin


def test_a_replica_restored_from_a_snapshot_goes_on_alike() -> None:
    history = History()
    leader = led(history)
    payload = commands.encode_cluster(CLUSTER)
    history.append(commands.split(payload))
    leader.speculate(payload, (), [], 0.0)
    history.commit(history.write(leader, "a", "b"))
    history.write(leader, "not committed")
    history.feed(leader)
    twin = restored(leader)
    assert (twin.applied_index, twin.applied_term) == (3, 1)
    assert same(leader, twin)
    leader.take_back(leader.pending[-1].version)
    history.commit(history.write(leader, "c"))
    history.feed(leader)
    history.feed(twin)
    assert same(leader, twin)


def test_restore_takes_the_place_of_everything() -> None:
    history = History()
    leader = led(history)
    history.commit(history.write(leader, "a"))
    history.feed(leader)
    other = History()
    behind = led(other)
    other.commit(other.write(behind, *"xyz"))
    other.feed(behind)
    behind.follow()
    behind.view()
    captured = leader.capture()
    assert captured is not None
    behind.restore(captured[0], load_root(write_snapshot(captured[1])))
    assert same(leader, behind)


def test_a_leader_restores_nothing() -> None:
    history = History()
    leader = led(history)
    captured = leader.capture()
    assert captured is not None
    with pytest.raises(AssertionError):
        leader.restore(*captured)


# --- Any order of events --------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["write", "large", "commit", "take back", "depose", "feed", "snapshot"]),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_all_replicas_agree(steps: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "FRAGMENT_BYTES", 60)
        history = History()
        leader, follower, uncommitted = led(history), Replica(), list[Speculation]()
        for number, step in enumerate(steps):
            if step == "write":
                uncommitted.append(history.write(leader, f"name {number}"))
            elif step == "large":
                uncommitted.append(history.write(leader, *NAMES))
            elif step == "commit" and uncommitted:
                history.commit(uncommitted.pop(0))
            elif step == "take back" and uncommitted:
                leader.take_back(uncommitted.pop().version)
            elif step == "depose":
                # What is in the log already is committed; the new leader never saw the rest.
                history.feed(leader, (leader.applied_index + len(history.log)) // 2)
                leader.follow()
                uncommitted.clear()
                history.noop(history.term + 1)
                leader, follower = follower, leader
                history.feed(leader)
                leader.lead(history.term)
            elif step == "feed":
                history.feed(leader)
            elif step == "snapshot":
                history.feed(follower)
                follower = restored(follower)
        history.feed(leader)
        history.feed(follower)
        fresh = Replica()
        history.feed(fresh)
        assert same(leader, follower, fresh)
        leader.follow()
        assert digest(leader.head) == digest(fresh.head)
