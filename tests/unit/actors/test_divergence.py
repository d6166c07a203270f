"""A server whose graph is not that of the others finds out, stops, and comes back with theirs.

Whole servers in one thread (``little_cluster.py``). One's memory is made to differ under its feet;
then the majority's word goes through the log.
"""

from __future__ import annotations

from typing import Any

import pytest
from little_cluster import LittleCluster, Server

from actors import quarantine
from actors.commands import DigestAgreed
from actors.divergence import DigestWatch, Divergence
from actors.errors import DirectoryRefused, Diverged, Restart
from actors.notes import DigestFound
from actors.protocol import Op, Status
from actors.snapshots import mark_of
from bolt.limits import RESULTS
from bolt.packstream import unpack
from graph.digest import digest
from graph.store import Root
from graph.vector import Vector
from graph.write_set import WriteSet

SETTINGS = {"digest_entries": 10, "digest_seconds": 1.0}


def cluster_with_data(size: int = 3, **settings: Any) -> LittleCluster:
    cluster = LittleCluster(size, **{**SETTINGS, **settings})
    for number in range(12):
        assert cluster.write(f"CREATE (:N {{x: {number}}})").status is Status.DONE
    return cluster


def corrupt(server: Server, value: int = 99) -> None:
    """Write past the log into the graph that the server has in memory."""
    write_set = WriteSet()
    write_set.set_node_property([3], "x", Vector.from_values([value]))
    server.machine.replica.head.apply(write_set)
    server.machine.replica._view = None


def compared(cluster: LittleCluster) -> list[int]:
    return [s.machine.watch.compared for s in cluster.servers.values()]


def write_until(cluster: LittleCluster, what: Any, seconds: float = 30.0) -> bool:
    end = cluster.now + seconds
    while cluster.now < end:
        if what():
            return True
        cluster.write("CREATE (:M)")
        cluster.pass_time(0.2)
    return bool(what())


def heal(cluster: LittleCluster, server: Server) -> None:
    """Start it whenever it ends, until it serves again."""

    def ordinary() -> bool:
        if not server.alive:
            server.start()
        return server.assembly.case is None

    assert write_until(cluster, ordinary)


def assert_equal(cluster: LittleCluster) -> None:
    cluster.write("CREATE (:Last)")
    cluster.pass_time(1.0)
    alive = [s for s in cluster.servers.values() if s.alive]
    assert len({s.machine.replica.applied_index for s in alive}) == 1
    assert len({digest(s.view()) for s in alive}) == 1
    assert len({s.machine.replica.outcomes.encode() for s in alive}) == 1


# --- Finding out ----------------------------------------------------------------------------------


def test_equal_servers_agree_again_and_again() -> None:
    cluster = cluster_with_data()
    assert write_until(cluster, lambda: min(compared(cluster)) >= 3)
    assert all(s.alive and s.machine.health == "" for s in cluster.servers.values())


def test_an_idle_cluster_compares_nothing() -> None:
    cluster = cluster_with_data()
    cluster.pass_time(5.0)
    index, before = cluster.leader().core.last_index, compared(cluster)
    cluster.pass_time(60.0)
    assert cluster.leader().core.last_index == index
    assert compared(cluster) == before


@pytest.mark.parametrize("which", ["follower", "leader"])
def test_the_one_that_differs_stops_and_comes_back_with_the_others_state(which: str) -> None:
    cluster = cluster_with_data()
    leader = cluster.leader()
    followers = [s for s in cluster.servers.values() if s is not leader]
    victim = leader if which == "leader" else followers[0]
    corrupt(victim)
    term, files = victim.core.term, dict(victim.disk.files)
    assert write_until(cluster, lambda: not victim.alive)
    assert isinstance(victim.ended, Diverged)
    assert "digest" in str(victim.ended)
    others = [s for s in cluster.servers.values() if s is not victim]
    assert all(s.alive for s in others)

    victim.start()
    assert victim.assembly.case is not None
    assert victim.machine.health.startswith("diverged")
    assert victim.core.term >= term  # it kept its term, its vote and its log
    if which == "leader":
        assert cluster.leader() is not victim
    heal(cluster, victim)
    assert victim.machine.health == ""
    assert_equal(cluster)
    kept = {p for p in victim.disk.files if p.startswith("diverged-")}
    assert len(kept) == sum(p.startswith("snapshots/") for p in files)
    for server in cluster.servers.values():  # and is a full member again
        if server is not victim and not server.leads:
            server.die()
            break
    assert cluster.write("CREATE (:Two)").status is Status.DONE


def test_snapshots_are_set_aside_and_nothing_is_deleted() -> None:
    cluster = cluster_with_data(log_size_snapshot_threshold=20)
    assert write_until(
        cluster, lambda: all(s.assembly.snapshots.newest() for s in cluster.servers.values())
    )
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    corrupt(victim)
    assert write_until(cluster, lambda: not victim.alive)
    snapshots = {p: d for p, d in victim.disk.files.items() if p.startswith("snapshots/")}
    assert snapshots
    victim.start()
    folder = victim.assembly.case.folder
    for path, data in snapshots.items():
        assert victim.disk.files[path.replace("snapshots", folder)] == data
        assert path not in victim.disk.files
    heal(cluster, victim)
    assert_equal(cluster)


def test_what_cannot_be_applied_is_divergence_too() -> None:
    cluster = cluster_with_data()
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    write_set = WriteSet()
    write_set.create_nodes([12], (), {})  # the id that the leader gives next
    victim.machine.replica.head.apply(write_set)
    victim.machine.replica._view = None
    assert cluster.write("CREATE (:N)").status is Status.DONE
    cluster.pass_time(1.0)
    assert isinstance(victim.ended, Diverged)
    assert "cannot be applied" in str(victim.ended)
    heal(cluster, victim)
    assert_equal(cluster)


def test_a_server_that_was_away_compares_when_it_gets_there() -> None:
    cluster = cluster_with_data()
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    corrupt(victim)
    victim.cut = True
    assert write_until(cluster, lambda: leader.machine.watch.compared >= 2)
    assert victim.alive
    victim.cut = False
    cluster.pass_time(3.0)
    assert isinstance(victim.ended, Diverged)


def test_without_a_majority_nobody_stops_and_it_is_said() -> None:
    cluster = cluster_with_data()
    for server in cluster.servers.values():
        corrupt(server, 100 + server.id)
    leader = cluster.leader()
    assert write_until(cluster, lambda: leader.machine.health != "")
    assert "no majority agrees" in leader.machine.health
    assert all(s.alive for s in cluster.servers.values())


def test_two_servers_that_differ_go_on() -> None:
    cluster = cluster_with_data(2)
    corrupt(cluster.servers[1])
    leader = cluster.leader()
    assert write_until(cluster, lambda: leader.machine.health != "")
    assert all(s.alive for s in cluster.servers.values())


def test_one_server_alone_has_nothing_to_compare() -> None:
    cluster = cluster_with_data(1)
    for _ in range(30):
        cluster.write("CREATE (:M)")
        cluster.pass_time(0.5)
    assert compared(cluster) == [0]


# --- Apart ----------------------------------------------------------------------------------------


def quarantined() -> tuple[LittleCluster, Server]:
    cluster = cluster_with_data()
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    corrupt(victim)
    assert write_until(cluster, lambda: not victim.alive)
    return cluster, victim


def test_apart_it_serves_nobody_votes_and_does_not_stand() -> None:
    cluster, victim = quarantined()
    for server in cluster.servers.values():
        server.cut = server.cut or server is cluster.leader()
    victim.start()
    (other,) = (s for s in cluster.servers.values() if s is not victim and not s.cut)
    cluster.pass_time(30.0, lambda: other.leads)
    assert other.leads  # by the vote of the one that stays apart
    other.cut = True
    reply = _local_read(cluster, victim)
    assert reply.status is Status.NOT_LEADER
    cluster.pass_time(20.0)
    assert victim.core.term == other.core.term  # it never stood


def _local_read(cluster: LittleCluster, server: Server) -> Any:
    from actors.protocol import Request

    server.assembly.dispatcher.submit(
        7, [Request(9_999, Op.RUN, read=True, query=b"MATCH (n) RETURN count(n)")]
    )
    cluster.settle()
    return server.replies[9_999]


def test_its_acknowledgements_still_count() -> None:
    cluster, victim = quarantined()
    victim.start()
    cluster.settle()
    for server in cluster.servers.values():
        if server is not victim and not server.leads:
            server.cut = True
    assert cluster.write("CREATE (:ByTwo)").status is Status.DONE


def test_a_crash_at_any_moment_of_the_way_back_only_repeats_it() -> None:
    cluster, victim = quarantined()
    for crash_at in range(0, 40, 3):
        victim.disk.fail_at = len(victim.disk.log) + crash_at
        for _ in range(4):
            try:
                if not victim.alive:
                    victim.start()
            except Exception:
                continue
            finally:
                victim.disk.fail_at = -1
            cluster.pass_time(0.5)
        if victim.alive and victim.assembly.case is None:
            break
    heal_or_done = write_until(
        cluster,
        lambda: (victim.alive or victim.start()) and victim.assembly.case is None,
    )
    assert heal_or_done
    assert_equal(cluster)


def test_a_damaged_image_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, victim = quarantined()
    send = Server.send
    spoilt: list[int] = []

    def spoil(server: Server, peer: int, data: bytes) -> None:
        mark = data.find(b"\xd3")
        if mark >= 0 and peer == victim.id and len(data) > 500 and not spoilt:
            spoilt.append(peer)
            data = data[:400] + bytes([data[400] ^ 1]) + data[401:]
        send(server, peer, data)

    monkeypatch.setattr(Server, "send", spoil)
    victim.start()
    heal(cluster, victim)
    assert spoilt
    assert_equal(cluster)


def test_what_diverges_again_and_again_stays_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "CASES_MAX", 1)
    cluster, victim = quarantined()
    heal(cluster, victim)
    corrupt(victim)
    assert write_until(cluster, lambda: not victim.alive)
    with pytest.raises(DirectoryRefused, match=r"2 times.*REPLACE SERVER.*diverged-"):
        victim.start()


# --- A damaged snapshot ---------------------------------------------------------------------------


def with_snapshots(size: int = 3) -> tuple[LittleCluster, Server, str]:
    cluster = cluster_with_data(size, log_size_snapshot_threshold=20)
    assert write_until(
        cluster, lambda: all(s.assembly.snapshots.newest() for s in cluster.servers.values())
    )
    leader = cluster.leader()
    victim = next((s for s in cluster.servers.values() if s is not leader), leader)
    victim.die()
    return cluster, victim, f"snapshots/{victim.assembly.snapshots.newest()}"


def test_a_snapshot_with_a_damaged_body_is_replaced_by_another_servers() -> None:
    cluster, victim, path = with_snapshots()
    data = victim.disk.files[path]
    victim.disk.overwrite(path, data[:-40] + b"x" + data[-39:])
    victim.start()
    assert "is damaged" in victim.machine.health
    heal(cluster, victim)
    assert_equal(cluster)


def test_a_snapshot_with_a_damaged_head_is_refused() -> None:
    """Which members it stands for is not known: neither is who may be believed."""
    _, victim, path = with_snapshots()
    data = victim.disk.files[path]
    victim.disk.overwrite(path, data[:30] + b"x" + data[31:])
    with pytest.raises(DirectoryRefused, match="head does not check"):
        victim.start()


def test_a_server_alone_refuses_a_damaged_snapshot() -> None:
    _, victim, path = with_snapshots(1)
    data = victim.disk.files[path]
    victim.disk.overwrite(path, data[:-40] + b"x" + data[-39:])
    with pytest.raises(DirectoryRefused, match="damaged"):
        victim.start()
    assert path in victim.disk.files


# --- The watch alone ------------------------------------------------------------------------------


class Watch:
    def __init__(self, server_id: int = 1) -> None:
        self.now = 100.0
        self.tasks: list[Any] = []
        self.watch = DigestWatch(
            server_id, run=self.tasks.append, clock=lambda: self.now, entries=10, seconds=1.0
        )

    def take(self, index: int, root: Root) -> bytes:
        self.watch.asked(index, root)
        while self.tasks:
            self.tasks.pop(0)()
        return digest(root)


def test_a_majority_of_the_voters_decides_and_nobody_else() -> None:
    bench = Watch()
    own = bench.take(20, Root.empty())
    other = b"x" * 16
    assert bench.watch.verdict((1, 2, 3)) is None
    bench.watch.reported(9, DigestFound(20, own))  # no voter
    assert bench.watch.verdict((1, 2, 3)) is None
    bench.watch.reported(2, DigestFound(20, other))
    assert bench.watch.verdict((1, 2, 3)) is None
    bench.watch.reported(3, DigestFound(20, other))
    assert bench.watch.verdict((1, 2, 3)) == DigestAgreed(20, other)
    assert bench.watch.verdict((1, 2, 3)) is None  # said once; again after a while
    bench.now += 10.0
    assert bench.watch.verdict((1, 2, 3)) == DigestAgreed(20, other)


def test_a_verdict_may_come_before_the_own_digest() -> None:
    bench = Watch()
    bench.watch.asked(20, Root.empty())
    bench.watch.agreed(DigestAgreed(20, b"x" * 16), 22)
    assert bench.watch.divergence() is None
    bench.tasks.pop()()
    divergence = bench.watch.divergence()
    assert divergence is not None and (divergence.index, divergence.since) == (20, 22)
    assert bench.watch.divergence() is None


def test_roots_that_wait_are_overtaken_by_newer_ones() -> None:
    bench = Watch()
    for index in (10, 20, 30):
        bench.watch.asked(index, Root.empty())
    assert len(bench.tasks) == 1
    bench.tasks.pop()()
    assert set(bench.watch._found) == {30}


def test_after_a_snapshot_nothing_found_before_counts() -> None:
    bench = Watch()
    bench.take(20, Root.empty())
    bench.watch.reset()
    bench.watch.agreed(DigestAgreed(20, b"x" * 16), 22)
    assert bench.watch.divergence() is None
    assert bench.watch.report() is None


def test_when_the_next_comparison_is_due() -> None:
    bench = Watch()
    bench.now += 0.5
    assert not bench.watch.due(50)  # entries enough, but not the time
    bench.now += 1.0
    assert bench.watch.due(50) and not bench.watch.due(9)
    found = bench.take(50, Root.empty())
    bench.now += 2.0
    assert not bench.watch.due(80)  # the last one is open
    bench.watch.agreed(DigestAgreed(50, found), 52)
    assert bench.watch.due(80)


def test_restart_is_not_divergence() -> None:
    assert not issubclass(Restart, Diverged)


def test_show_servers_tells_what_is_the_matter() -> None:
    cluster, victim = quarantined()
    leader = cluster.leader()
    leader.machine._send_image = lambda peer, wanted: None  # it stays as it is
    victim.start()
    cluster.pass_time(3.0)
    assert "diverged" in leader.machine.ailing()[victim.id]
    other = next(s for s in cluster.servers.values() if s is not victim and s is not leader)
    other.disk.free = 1 << 20
    cluster.pass_time(3.0)
    assert "nearly full" in leader.machine.ailing()[other.id]
    reply = cluster.ask(Op.ADMINISTER, "SHOW SERVERS")
    (fields, rows), _ = unpack(reply.body, 0, RESULTS)
    notes = {row[fields.index("id")]: row[fields.index("note")] for row in rows}
    assert "diverged" in notes[victim.id] and "nearly full" in notes[other.id]
    other.disk.free = 1 << 40
    victim.die()
    cluster.pass_time(10.0)
    assert leader.machine.ailing() == {}


def test_a_snapshot_that_raft_sends_meanwhile_does_as_well() -> None:
    """While it was away the others have cut their logs: it is behind like any other server."""
    cluster = cluster_with_data(log_size_snapshot_threshold=20)
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    corrupt(victim)
    assert write_until(cluster, lambda: not victim.alive)
    last = victim.core.last_index
    assert write_until(cluster, lambda: leader.core.status().first_index > last + 1)
    leader.machine._send_image = lambda peer, wanted: None
    victim.start()
    heal(cluster, victim)
    assert_equal(cluster)


def test_an_image_must_reach_the_log_that_is_there() -> None:
    """The own digest came late: a snapshot was taken, and the log cut, past the verdict."""
    cluster = cluster_with_data(log_size_snapshot_threshold=20)
    leader = cluster.leader()
    victim = next(s for s in cluster.servers.values() if s is not leader)
    assert write_until(cluster, lambda: leader.assembly.snapshots.newest() is not None)
    verdict = mark_of(leader.assembly.snapshots.newest())[0]
    leader.assembly.machine_thread._compaction._due = 1 << 40  # no snapshot unless it is asked for
    assert write_until(cluster, lambda: victim.core.status().first_index > verdict + 5)
    corrupt(victim)
    late = Divergence(verdict, verdict, "its digest came late")
    victim.machine.watch.divergence = lambda: late
    cluster.pass_time(1.0)
    assert not victim.alive
    victim.start()
    assert victim.assembly.case.base_index > verdict
    heal(cluster, victim)
    assert_equal(cluster)
