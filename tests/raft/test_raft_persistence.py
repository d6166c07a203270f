"""Asynchronous persistence: what counts, and what leaves, before and after a write completes."""

from __future__ import annotations

from bench import append, candidate, command, entries, leader, make, readies, role, settle, step

from actors.raft.messages import (
    Append,
    AppendReply,
    Applied,
    Heartbeat,
    HeartbeatReply,
    Persisted,
    Propose,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import Role


def test_a_leader_sends_before_its_own_write_and_counts_itself_only_after() -> None:
    core = leader()
    core.step(command())
    (ready,) = readies(core)
    assert [m.receiver for m in ready.messages if isinstance(m, Append)] == [2, 3]
    core.step(Persisted(ready.sequence))
    assert core.commit_index == 1
    core.step(AppendReply(core.term, 2, 1, True, 2, 0, 0))
    assert core.commit_index == 2


def test_followers_alone_may_be_the_majority_but_nothing_unwritten_is_applied_here() -> None:
    core = leader()
    core.step(command())
    (ready,) = readies(core)
    core.step(AppendReply(core.term, 2, 1, True, 2, 0, 0))
    core.step(AppendReply(core.term, 3, 1, True, 2, 0, 0))
    assert core.commit_index == 2
    assert not [r for r in readies(core) if r.committed]
    core.step(Persisted(ready.sequence))
    assert [entry.index for r in readies(core) for entry in r.committed] == [2]


def test_a_cluster_of_one_commits_only_what_is_durable() -> None:
    core = make(voters=(1,))
    core.step(Tick(100))
    (ready,) = readies(core)
    assert (core.role, ready.hard_state) == (Role.CANDIDATE, (1, 1))
    core.step(Persisted(ready.sequence))
    assert role(core) is Role.LEADER
    core.step(command())
    (ready,) = readies(core)
    assert [entry.index for entry in ready.entries] == [1, 2]
    assert core.commit_index == 0
    core.step(Persisted(ready.sequence))
    assert core.commit_index == 2
    assert settle(core).committed == [1, 2]


def test_several_writes_under_way_complete_together_or_one_by_one() -> None:
    core = leader(voters=(1,))
    sequences = []
    for token in range(3):
        core.step(command(token))
        sequences += [ready.sequence for ready in readies(core)]
    assert sequences == sorted(set(sequences))
    core.step(Persisted(sequences[1]))
    assert core.commit_index == 3
    core.step(Persisted(sequences[1]))
    core.step(Persisted(sequences[0]))
    assert core.commit_index == 3
    core.step(Persisted(sequences[2]))
    assert core.commit_index == 4


def test_a_write_that_completes_after_a_truncation_does_not_count_for_the_new_entries() -> None:
    """Entries 1, 2 of term 1 are being written; 2 is replaced by term 2, then by terms 3."""
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1, 1])))
    (first,) = readies(core)
    core.step(append(core, (1, 1), entries([2], 2), term=2, sender=3))
    (second,) = readies(core)
    core.step(Persisted(first.sequence))
    assert core.status().persisted_index == 1
    core.step(append(core, (1, 1), entries([3, 3], 2), term=3))
    (third,) = readies(core)
    core.step(Persisted(second.sequence))
    assert core.status().persisted_index == 1
    core.step(Persisted(third.sequence))
    assert core.status().persisted_index == 3


def test_a_truncated_entry_that_comes_back_counts_only_by_its_last_write() -> None:
    """The same entry, of the same term, is written, overwritten and written again. The first
    write's completion must not stand for it: the second write will take it off the disk."""
    core = make([1], term=2)
    twos = entries([2], 2)
    core.step(append(core, (1, 1), twos))
    (first,) = readies(core)
    core.step(append(core, (1, 1), entries([3], 2), term=3, sender=3))
    (second,) = readies(core)
    core.step(append(core, (1, 1), twos, term=4))
    (third,) = readies(core)
    core.step(Persisted(first.sequence))
    assert core.status().persisted_index == 1
    core.step(Persisted(second.sequence))
    assert core.status().persisted_index == 1
    core.step(Persisted(third.sequence))
    assert core.status().persisted_index == 2


def test_an_entry_truncated_before_it_was_handed_out_is_never_written() -> None:
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1, 1])))
    core.step(append(core, (1, 1), entries([2], 2), term=2, sender=3))
    (ready,) = readies(core)
    assert [(entry.index, entry.term) for entry in ready.entries] == [(1, 1), (2, 2)]


def test_an_answer_that_relies_on_an_earlier_write_waits_for_it() -> None:
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1])))
    (first,) = readies(core)
    core.step(append(core, (0, 0), entries([1])))
    (second,) = readies(core)
    assert second.entries == ()
    assert second.messages == ()
    assert second.sequence > first.sequence
    assert second.messages_after_persist == (AppendReply(1, 1, 2, True, 1, 0, 0),)


def test_an_answer_that_relies_on_nothing_under_way_leaves_at_once() -> None:
    core = make([1], term=1)
    core.step(append(core, (0, 0), entries([1])))
    (ready,) = readies(core)
    assert ready.sequence == 0
    assert ready.messages == (AppendReply(1, 1, 2, True, 1, 0, 0),)


def test_a_heartbeat_is_answered_while_a_write_is_under_way() -> None:
    core = make(term=1)
    core.step(append(core, (0, 0), entries([1])))
    readies(core)
    core.step(Heartbeat(1, 2, 1, 0, 7, True))
    (ready,) = readies(core)
    assert ready.messages == (HeartbeatReply(1, 1, 2, 7),)


def test_the_own_vote_counts_only_when_it_is_durable() -> None:
    core = make(pre_vote=False)
    core.step(Tick(100))
    (ready,) = readies(core)
    core.step(VoteReply(1, 2, 1, True))
    assert role(core) is Role.CANDIDATE
    core.step(Persisted(ready.sequence))
    assert role(core) is Role.LEADER


def test_a_durable_vote_of_an_earlier_campaign_does_not_count_for_the_next() -> None:
    core = make(pre_vote=False, voters=(1, 2))
    core.step(Tick(100))
    (first,) = readies(core)
    core.step(Tick(core.deadline_ms))
    (second,) = readies(core)
    core.step(VoteReply(2, 2, 1, True))
    core.step(Persisted(first.sequence))
    assert (core.role, core.term) == (Role.CANDIDATE, 2)
    core.step(Persisted(second.sequence))
    assert role(core) is Role.LEADER


def test_many_acknowledgements_of_one_batch_are_one_message() -> None:
    core = make(term=1)
    for index in range(5):
        core.step(append(core, (index, min(index, 1)), entries([1], index + 1)))
    (ready,) = readies(core)
    assert ready.messages_after_persist == (AppendReply(1, 1, 2, True, 5, 0, 0),)


def test_a_leader_whose_disk_stalls_steps_down() -> None:
    core = leader(persist_stall_max_ms=300, check_quorum=False)
    core.step(command())
    readies(core)
    for now_ms in range(core.deadline_ms, core.deadline_ms + 300, 10):
        core.step(Tick(now_ms))
    assert role(core) is Role.LEADER
    core.step(Tick(core.deadline_ms + 20))
    assert role(core) is Role.FOLLOWER


def test_hard_state_is_handed_out_once_for_each_change() -> None:
    core = make()
    done = candidate(core)
    assert [r.hard_state for r in done.readies if r.hard_state] == [(1, 1)]
    done = step(core, VoteRequest(5, 2, 1, 0, 0))
    assert [r.hard_state for r in done.readies if r.hard_state] == [(5, 2)]
    assert step(core, VoteRequest(5, 2, 1, 0, 0)).readies[0].hard_state is None


def test_committed_entries_are_bounded_by_bytes_and_by_what_is_not_yet_applied() -> None:
    core = leader(voters=(1,), committed_bytes_max=400, unapplied_bytes_max=800)
    for token in range(20):
        core.step(command(token, bytes(100)))
    (write,) = readies(core)
    core.step(Persisted(write.sequence))
    handed = [[entry.index for entry in ready.committed] for ready in readies(core)]
    assert [len(each) for each in handed] == [2, 2, 2]
    assert core.ready() is None
    core.step(Applied(handed[0][-1]))
    assert [len(ready.committed) for ready in readies(core)] == [2]
    assert settle(core).committed == []
    core.step(Applied(9))
    assert settle(core).committed == list(range(10, 22))


def test_one_proposal_of_many_entries_is_consecutive() -> None:
    core = leader()
    payloads = tuple((kind, b"x") for kind in (2, 2, 1))
    core.step(command(1))
    core.step(Propose(2, payloads))  # type: ignore[arg-type]
    core.step(command(3))
    (ready,) = readies(core)
    assert ready.proposed == ((1, 1, 2, 2), (2, 1, 3, 5), (3, 1, 6, 6))
    assert len([m for m in ready.messages if isinstance(m, Append)]) == 2
