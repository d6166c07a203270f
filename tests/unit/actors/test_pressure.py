"""Floods, full disks and slow ones: refused early and clearly, with heartbeats going on."""

from __future__ import annotations

from typing import Any

import pytest
from little_cluster import GATEWAY, LittleCluster, Server

from actors import limits
from actors.assembly import Inbox
from actors.disk import FileDisk
from actors.errors import DiskFailure
from actors.pressure import DISK_NEARLY_FULL, Backlog
from actors.protocol import Op, Reply, Request, Status
from actors.raft.messages import Tick
from actors.raft.ready import Role
from actors.server import FromPeer
from actors.service import Item
from graph.digest import digest

FULL = 1 << 20


def followers(cluster: LittleCluster) -> list[Server]:
    leader = cluster.leader()
    return [s for s in cluster.servers.values() if s is not leader]


def log_workers(server: Server) -> list[Any]:
    """The thread that writes the server's log."""
    sync = server.assembly.log_thread._sync
    return [worker for worker in server.workers if worker._after_batch == sync]


def flood(cluster: LittleCluster, count: int, **fields: Any) -> list[int]:
    """So many writes at once; their ids."""
    leader = cluster.leader()
    requests = [
        Request(10_000 + n, Op.RUN, term=leader.core.term, query=b"CREATE (:N)", **fields)
        for n in range(count)
    ]
    leader.assembly.dispatcher.submit(GATEWAY, requests)
    return [request.id for request in requests]


def statuses(server: Server, identities: list[int]) -> dict[Status, int]:
    found: dict[Status, int] = {}
    for identity in identities:
        status = server.replies[identity].status
        found[status] = found.get(status, 0) + 1
    return found


# --- Too much at once -----------------------------------------------------------------------------


def test_a_flood_is_refused_beyond_its_bound_and_the_term_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WAITING_WRITES_MAX", 300)
    cluster = LittleCluster()
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    term = leader.core.term
    identities = flood(cluster, 1_000)
    refused = [i for i in identities if i in leader.replies]
    assert len(refused) == 700  # at once, in the thread that takes them
    cluster.pass_time(3.0)
    assert statuses(leader, identities) == {Status.DONE: 300, Status.OVERLOADED: 700}
    assert leader.leads and leader.core.term == term
    assert leader.view().node_count == 301
    assert cluster.write("CREATE (:N)").status is Status.DONE
    assert leader.machine.backlog.count == leader.machine.backlog.bytes == 0


def test_a_flood_that_cannot_be_replicated_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The majority is silent: nothing piles up, everybody is answered or not called undone."""
    monkeypatch.setattr(limits, "WAITING_WRITES_MAX", 300)
    monkeypatch.setattr(limits, "WRITE_BATCH_MAX", 100)
    cluster = LittleCluster()
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    for server in followers(cluster):
        server.cut = True
    identities = flood(cluster, 1_000)
    cluster.settle()
    assert leader.machine.backlog.count <= 300
    cluster.pass_time(30.0)
    assert not leader.leads
    assert leader.machine.backlog.count == 0
    answered = [i for i in identities if i in leader.replies]
    assert set(statuses(leader, answered)) == {Status.OVERLOADED, Status.NOT_LEADER}
    for server in cluster.servers.values():
        server.cut = False
    cluster.leader()
    cluster.pass_time(2.0)
    counts = {s.view().node_count for s in cluster.servers.values()}
    assert len(counts) == 1
    assert counts.pop() - 1 <= len(identities) - len(answered)  # none that was refused is there


def test_waiting_writes_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_WRITES_BYTES_MAX", 1_000)
    backlog = Backlog()

    def item(size: int) -> Item:
        return Item(1, Request(1, Op.RUN, parameters=b"x" * size), 0.0, 0.0)

    large = item(5_000)
    assert backlog.offer(large)  # one alone is always taken
    assert not backlog.offer(item(1))
    assert backlog.offer(item(0)) is False or backlog.bytes > 1_000
    backlog.take([large])
    assert backlog.offer(item(600)) and not backlog.offer(item(500)) and backlog.offer(item(400))


def test_what_a_commit_is_refused_for_does_not_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = LittleCluster()
    begun = cluster.submit(Op.BEGIN)
    cluster.answer(begun)
    cluster.ask(Op.RUN, "CREATE (:N)", tx=begun)
    leader = cluster.leader()
    monkeypatch.setattr(limits, "WAITING_WRITES_MAX", 0)
    assert cluster.ask(Op.COMMIT, tx=begun).status is Status.OVERLOADED
    assert leader.machine.service.sessions.transaction(GATEWAY, begun) is None


# --- A disk that fills up -------------------------------------------------------------------------


def test_a_nearly_full_disk_refuses_writes_and_serves_reads() -> None:
    cluster = LittleCluster()
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    leader.disk.free = FULL
    cluster.pass_time(0.2)
    reply = cluster.write("CREATE (:N)")
    assert (reply.status, reply.head.decode()) == (Status.FAILED, DISK_NEARLY_FULL)
    assert b"server %d, which leads, is nearly full: 1 MiB are free" % leader.id in reply.body
    assert b"Nothing was done" in reply.body
    assert cluster.ask(Op.RUN, "MATCH (n) RETURN count(n)", count=-1).status is Status.DONE
    assert "nearly full" in leader.machine.health
    index = leader.core.last_index
    cluster.pass_time(60.0)
    assert leader.leads and leader.core.last_index == index  # and grows no log by itself
    leader.disk.free = limits.DISK_FREE_BYTES_MIN + 1  # not yet: it would come and go
    cluster.pass_time(0.2)
    assert cluster.write("CREATE (:N)").status is Status.FAILED
    leader.disk.free = 1 << 40
    cluster.pass_time(0.2)
    assert cluster.write("CREATE (:N)").status is Status.DONE
    assert leader.machine.health == ""


def test_a_transaction_that_finds_the_disk_full_is_gone_and_its_outcome_can_be_asked() -> None:
    cluster = LittleCluster()
    begun = cluster.submit(Op.BEGIN, name=b"t")
    cluster.answer(begun)
    cluster.ask(Op.RUN, "CREATE (:N)", tx=begun)
    leader = cluster.leader()
    leader.disk.free = FULL
    cluster.pass_time(0.2)
    assert cluster.ask(Op.COMMIT, tx=begun).status is Status.FAILED
    assert leader.machine.service.sessions.transaction(GATEWAY, begun) is None
    assert cluster.ask(Op.SETTLE, name=b"t").status is Status.ABSENT


@pytest.mark.parametrize(("full", "refused"), [(1, False), (2, True)])
def test_full_disks_of_others_count_when_they_are_a_majority(full: int, refused: bool) -> None:
    cluster = LittleCluster()
    cluster.write("CREATE (:N)")
    for server in followers(cluster)[:full]:
        server.disk.free = FULL
    cluster.pass_time(3.0)
    reply = cluster.write("CREATE (:N)")
    assert reply.status is (Status.FAILED if refused else Status.DONE)
    if refused:
        assert b"each of the servers" in reply.body
    for server in cluster.servers.values():
        server.disk.free = 1 << 40
    cluster.pass_time(10.0)
    assert cluster.write("CREATE (:N)").status is Status.DONE


def test_a_log_that_cannot_be_written_ends_the_process_and_loses_nothing() -> None:
    cluster = LittleCluster()
    done = 0
    victim = cluster.leader()
    for number in range(60):
        if number == 20:
            victim.disk.fail_at = len(victim.disk.log) + 3
        identity = cluster.submit(Op.RUN, "CREATE (:N)")
        cluster.pass_time(0.3)
        replies = [s.replies[identity] for s in cluster.servers.values() if identity in s.replies]
        done += any(reply.status is Status.DONE for reply in replies)
    assert isinstance(victim.ended, DiskFailure)
    assert done >= 55
    victim.disk.fail_at = -1
    victim.disk = victim.disk.crash(unsynced_bytes_kept=7)
    victim.start()
    cluster.pass_time(3.0)
    assert len({digest(s.view()) for s in cluster.servers.values()}) == 1
    assert cluster.leader().view().node_count >= done


def test_every_write_of_the_log_may_be_the_one_that_fails() -> None:
    for fail_at in range(0, 24, 2):
        cluster = LittleCluster()
        victim = followers(cluster)[0]
        victim.disk.fail_at = len(victim.disk.log) + fail_at
        acknowledged = [cluster.write("CREATE (:N)").status for _ in range(6)]
        assert acknowledged == [Status.DONE] * 6
        victim.disk.fail_at = -1
        if victim.alive:
            continue
        victim.disk = victim.disk.crash()
        victim.start()
        cluster.pass_time(3.0)
        assert victim.view().node_count == 6


def test_free_bytes_of_a_real_disk(tmp_path: Any) -> None:
    assert FileDisk(tmp_path).free_bytes() > 0
    with pytest.raises(DiskFailure, match="cannot look at the disk"):
        FileDisk(tmp_path / "missing").free_bytes()


# --- A disk that stalls ---------------------------------------------------------------------------


def test_a_leader_whose_disk_stalls_steps_down_and_comes_back_as_a_follower() -> None:
    cluster = LittleCluster()
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    (log_worker,) = (
        w for w in leader.workers if w._after_batch == leader.assembly.log_thread._sync
    )
    log_worker.stalled = True
    identity = cluster.submit(Op.RUN, "CREATE (:M)")
    assert cluster.pass_time(30.0, lambda: leader.core.role is not Role.LEADER)
    other = cluster.leader()
    assert other is not leader
    assert cluster.write("CREATE (:N)").status is Status.DONE
    log_worker.stalled = False
    cluster.pass_time(3.0)
    assert leader.alive
    assert len({digest(s.view()) for s in cluster.servers.values()}) == 1
    # The followers had that write; whoever asks is told that it was committed.
    asked = cluster.ask(Op.OUTCOME, cursor=identity)
    assert asked.status is Status.DONE


# --- Replication that takes too long --------------------------------------------------------------


def test_when_replication_timeout_passes_the_waiting_go_on_waiting_and_new_writes_are_refused() -> (
    None
):
    """As in the original. Followers that hear heartbeats and cannot write hold everything up."""
    cluster = LittleCluster(replication_timeout_ms=2_000)
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    stalled = [worker for server in followers(cluster) for worker in log_workers(server)]
    for worker in stalled:
        worker.stalled = True
    first = cluster.submit(Op.RUN, "CREATE (:First)")
    cluster.pass_time(1.0)
    second = cluster.submit(Op.RUN, "CREATE (:Second)")
    cluster.pass_time(2.0)
    assert leader.leads
    assert first not in leader.replies  # it may be committed yet: it is not called undone
    assert leader.replies[second].status is Status.OVERLOADED  # it was never executed
    third = cluster.submit(Op.RUN, "CREATE (:Third)")
    cluster.pass_time(1.0)
    assert leader.replies[third].status is Status.OVERLOADED
    for worker in stalled:
        worker.stalled = False
    assert cluster.answer(first).status is Status.DONE
    assert cluster.write("CREATE (:Fourth)").status is Status.DONE
    assert leader.view().node_count == 3


def test_a_majority_that_is_lost_leaves_the_outcome_open() -> None:
    """The leader steps down and says nothing of what it had proposed; the next leader knows."""
    cluster = LittleCluster(replication_timeout_ms=2_000)
    cluster.write("CREATE (:N)")
    leader = cluster.leader()
    others = followers(cluster)
    for server in others:
        server.cut = True
    identity = cluster.submit(Op.RUN, "CREATE (:Open)", name=b"open")
    cluster.pass_time(10.0)
    assert not leader.leads and identity not in leader.replies
    leader.cut = True
    for server in others:
        server.cut = False
    asked: Reply = cluster.ask(Op.OUTCOME, cursor=identity)
    assert asked.status is Status.ABSENT  # final: the others never had it
    assert cluster.ask(Op.SETTLE, name=b"open").status is Status.ABSENT
    leader.cut = False
    cluster.pass_time(3.0)
    assert len({digest(s.view()) for s in cluster.servers.values()}) == 1


def test_a_snapshot_that_would_not_fit_is_put_off_and_the_process_lives() -> None:
    cluster = LittleCluster(log_size_snapshot_threshold=10)
    leader = cluster.leader()
    leader.disk.free = limits.DISK_FREE_BYTES_MIN // 2 - 1
    leader.machine.disk.look = lambda: None  # writes go on all the same, to have something to save
    for _ in range(30):
        cluster.write("CREATE (:N)")
    assert leader.alive and leader.assembly.snapshots.newest() is None
    leader.disk.free = 1 << 40
    cluster.write("CREATE (:N)")
    assert leader.assembly.snapshots.newest() is not None


def test_the_inbox_is_bounded_for_peers_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "INBOX_MESSAGES_MAX", 5)
    monkeypatch.setattr(limits, "INBOX_BYTES_MAX", 100)
    inbox = Inbox()
    for _ in range(9):
        inbox.post_from_peer(FromPeer(b"x"))
    inbox.post(Tick(1))
    assert len(inbox.take()) == 6
    for _ in range(4):
        inbox.post_from_peer(FromPeer(b"x" * 60))
    assert len(inbox.take()) == 2  # beyond the bound by less than one message
    inbox.post_from_peer(FromPeer(b"x"))
    assert len(inbox.take()) == 1
