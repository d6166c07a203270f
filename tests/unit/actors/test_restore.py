"""Backup and restore against real state machines over a log in memory: all of it, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from machines import GATEWAY, Machines

from actors import limits
from actors import restore as restore_module
from actors.backup import BackupResult
from actors.backup_file import MAGIC, load_backup, read_backup, read_backup_head
from actors.commands import RestorePart, decode, encode_restore
from actors.protocol import Op, Reply, Request, Status
from actors.raft.messages import EntryKind
from actors.raft.ready import RefusalReason
from actors.service import Item, QueryService
from actors.snapshot_file import FileReader, read_parts
from actors.spool import Spool
from bolt.limits import RESULTS
from bolt.packstream import unpack
from bolt.records import decode_records
from graph.digest import digest
from graph.errors import CorruptionError

CLUSTER = "ab" * 16


@pytest.fixture
def machines() -> Machines:
    found = Machines(2)
    found.lead(1)
    return found


def backup_of(nodes: int) -> tuple[bytes, bytes]:
    """A backup file of a graph with so many nodes, and the graph's digest."""
    source = Machines(1)
    source.lead(1)
    source.done(source.write("CREATE INDEX FOR (n:Old) ON (n.x)"))
    source.done(source.write(f"UNWIND range(1, {nodes}) AS x CREATE (:Old {{x: x}})"))
    root = source.leader.machine.replica.view()
    result = BackupResult(root, 9, 2, CLUSTER, "2024-02-29T12:00:00Z")
    data = b"".join(row for _, columns in result.chunks() for row in columns[0])
    return data, digest(root)


class Client:
    """Sends the steps of a restore to the leader, as its dispatcher would."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.name = ""

    def send(self, verb: str, **parameters: Any) -> Request:
        request = self.machines.request(
            Op.RESTORE, f"RESTORE DATABASE {verb}", parameters=parameters
        )
        item = Item(GATEWAY, request, self.machines.now + 600.0, self.machines.now)
        QueryService.decode(item)
        self.machines.leader.machine.submit_restore([item])
        return request

    def ask(self, verb: str, **parameters: Any) -> Reply:
        request = self.send(verb, **parameters)
        self.machines.settle()
        reply = self.machines.leader.take()[request.id]
        if reply.body and reply.status is Status.DONE:
            (_, ((self.name,),)), _ = unpack(reply.body, 0, RESULTS)
        return reply

    def begin(self, size: int, *, replace: bool = False) -> Reply:
        return self.ask("BEGIN", size=size, replace=replace)

    def upload(self, data: bytes, size: int = 1_000) -> None:
        for offset in range(0, len(data), size):
            part = data[offset : offset + size]
            reply = self.ask("PART", restore=self.name, offset=offset, data=part)
            assert reply.status is Status.DONE, reply

    def restore(self, data: bytes, *, replace: bool = False) -> Reply:
        reply = self.begin(len(data), replace=replace)
        if reply.status is not Status.DONE:
            return reply
        self.upload(data)
        return self.ask("END", restore=self.name)


def digests(machines: Machines) -> set[bytes]:
    return {digest(server.machine.replica.view()) for server in machines.servers.values()}


def said(reply: Reply) -> str:
    assert reply.status is Status.FAILED, reply
    return reply.body.decode()


# --- The whole of it ------------------------------------------------------------------------------


def test_the_same_graph_on_every_server(machines: Machines) -> None:
    data, found = backup_of(500)
    assert Client(machines).restore(data).status is Status.DONE
    assert digests(machines) == {found}
    assert {s.machine.replica.cluster_id for s in machines.servers.values()} == {CLUSTER}


def test_the_graph_is_untouched_until_the_last_entry(machines: Machines) -> None:
    machines.done(machines.write("CREATE (:Mine)"))
    before = digests(machines)
    data, found = backup_of(100)
    client = Client(machines)
    client.begin(len(data), replace=True)
    client.upload(data)
    assert digests(machines) == before
    client.send("END", restore=client.name)
    machines.leader.machine.turn()
    assert digests(machines) == before, "shown before it is committed"
    machines.settle()
    assert digests(machines) == {found}


def test_writing_goes_on_before_and_after(machines: Machines) -> None:
    data, _ = backup_of(100)
    client = Client(machines)
    machines.done(machines.write("CREATE (:Mine)"))
    client.begin(len(data), replace=True)
    half = len(data) // 2
    client.ask("PART", restore=client.name, offset=0, data=data[:half])
    assert machines.done(machines.write("CREATE (:Mine)")) == [Status.DONE]
    client.ask("PART", restore=client.name, offset=half, data=data[half:])
    assert client.ask("END", restore=client.name).status is Status.DONE
    assert machines.nodes() == 100
    assert machines.done(machines.write("CREATE (:New)-[:R]->(:New)")) == [Status.DONE]
    assert machines.done(machines.write("MATCH (n:Old {x: 7}) DELETE n")) == [Status.DONE]
    assert machines.nodes() == machines.nodes(2) == 101
    assert len(digests(machines)) == 1


def test_a_part_of_many_entries_is_answered_once(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_module, "ENTRY_BYTES", 100)
    data, found = backup_of(300)
    client = Client(machines)
    client.begin(len(data))
    before = len(machines.log)
    request = client.send("PART", restore=client.name, offset=0, data=data)
    machines.settle()
    assert len(machines.log) - before == -(-len(data) // 100)
    assert [reply.id for reply in machines.leader.replies] == [request.id]
    machines.leader.take()
    assert client.ask("END", restore=client.name).status is Status.DONE
    assert digests(machines) == {found}


def test_an_open_transaction_conflicts(machines: Machines) -> None:
    machines.done(machines.write("CREATE (:Mine)"))
    begin = machines.request(Op.BEGIN)
    machines.leader.machine.submit_local_reads([Item(GATEWAY, begin, machines.now + 60, 0.0)])
    run = machines.request(Op.RUN, "CREATE (:Late)", tx=begin.id)
    machines.leader.service.run_inside(Item(GATEWAY, run, machines.now + 60, 0.0))
    data, found = backup_of(10)
    assert Client(machines).restore(data, replace=True).status is Status.DONE
    commit = machines.request(Op.COMMIT, tx=begin.id)
    machines.submit(commit)
    machines.settle()
    assert "run it again" in said(machines.leader.take()[commit.id])
    assert digests(machines) == {found}


def test_the_last_request_can_be_asked_about(machines: Machines) -> None:
    data, _ = backup_of(10)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    request = client.send("END", restore=client.name)
    machines.settle()
    for server in machines.servers.values():
        assert server.machine.replica.outcomes.find(GATEWAY, request.id) == len(machines.log)


# --- Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["CREATE (:Mine)", "CREATE INDEX FOR (n:Mine) ON (n.x)"])
def test_what_is_there_is_not_overwritten_unasked(machines: Machines, query: str) -> None:
    machines.done(machines.write(query))
    before = digests(machines)
    data, found = backup_of(10)
    assert "--replace" in said(Client(machines).restore(data))
    assert digests(machines) == before
    assert Client(machines).restore(data, replace=True).status is Status.DONE
    assert digests(machines) == {found}


def test_what_was_written_meanwhile_is_not_overwritten_unasked(machines: Machines) -> None:
    data, _ = backup_of(10)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    machines.done(machines.write("CREATE (:Mine)"))
    assert "not empty" in said(client.ask("END", restore=client.name))
    assert machines.nodes() == 1
    assert not machines.leader.machine.replica.spool.name


@pytest.mark.parametrize("place", [3, 30, 0.5, -3])
def test_a_damaged_backup(machines: Machines, place: float) -> None:
    whole, _ = backup_of(100)
    data = bytearray(whole)
    data[int(len(data) * place) if isinstance(place, float) else int(place)] ^= 1
    before = digests(machines)
    assert "damaged" in said(Client(machines).restore(bytes(data)))
    assert digests(machines) == before
    assert all(not s.machine.replica.spool.name for s in machines.servers.values())
    assert machines.done(machines.write("CREATE (:Mine)")) == [Status.DONE]


def test_another_graph_than_the_head_says(machines: Machines) -> None:
    """Sound by its checksums: made by somebody with a bug, or a purpose."""
    root = Machines(1).leader.machine.replica.view()
    result = BackupResult(root, 9, 2, CLUSTER, "2024-02-29T12:00:00Z")
    head = replace(result._head(), digest="00" * 16)
    result._head = lambda: head  # type: ignore[method-assign]
    data = b"".join(row for _, columns in result.chunks() for row in columns[0])
    assert "digests differ" in said(Client(machines).restore(data))


def test_parts_must_follow_one_another(machines: Machines) -> None:
    data, _ = backup_of(10)
    client = Client(machines)
    client.begin(len(data))
    name = client.name
    assert "do not follow" in said(client.ask("PART", restore=name, offset=5, data=b"x"))
    assert "do not follow" in said(
        client.ask("PART", restore=name, offset=0, data=bytes(len(data) + 1))
    )
    assert "0 of" in said(client.ask("END", restore=name))
    assert "begin it again" in said(client.ask("PART", restore="cd" * 16, offset=0, data=b"x"))
    client.upload(data)
    assert client.ask("END", restore=name).status is Status.DONE


@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("BEGIN", {"size": "1", "replace": False}),
        ("BEGIN", {"size": 1}),
        ("BEGIN", {"size": 0, "replace": False}),
        ("BEGIN", {"size": limits.RESTORE_BYTES_MAX + 1, "replace": False}),
        ("BEGIN", {"size": True, "replace": False}),
        ("PART", {"restore": "x", "offset": 0, "data": "text"}),
        ("PART", {"restore": "x", "offset": 0, "data": b""}),
        ("PART", {"restore": "x", "offset": 0, "data": bytes(limits.RESTORE_PART_BYTES_MAX + 1)}),
        ("END", {}),
        ("FINISH", {}),
    ],
)
def test_wrong_steps(machines: Machines, verb: str, parameters: dict[str, Any]) -> None:
    reply = Client(machines).ask(verb, **parameters)
    assert said(reply)
    assert reply.head.startswith(b"Neo.ClientError.Statement.")


# --- Lost -----------------------------------------------------------------------------------------


def test_another_leader_knows_nothing_of_it(machines: Machines) -> None:
    machines.done(machines.write("CREATE (:Mine)"))
    before = digests(machines)
    data, found = backup_of(50)
    client = Client(machines)
    client.begin(len(data), replace=True)
    client.upload(data[:300])
    machines.lead(2)
    assert all(not s.machine.replica.spool.name for s in machines.servers.values())
    reply = client.ask("PART", restore=client.name, offset=300, data=data[300:])
    assert "Nothing of it was done" in said(reply)
    assert reply.head == b"Neo.TransientError.Transaction.LeaderSwitch"
    assert digests(machines) == before
    assert Client(machines).restore(data, replace=True).status is Status.DONE
    assert digests(machines) == {found}


def test_the_end_is_lost_with_the_leader(machines: Machines) -> None:
    """Proposed, shown to nobody, and not in the next leader's log."""
    machines.done(machines.write("CREATE (:Mine)"))
    before = digests(machines)
    data, _ = backup_of(50)
    client = Client(machines)
    client.begin(len(data), replace=True)
    client.upload(data)
    request = client.send("END", restore=client.name)
    machines.leader.machine.turn()
    machines.leader.machine.turn()
    assert machines.leader.machine.replica.pending
    old = machines.leader
    machines.lead(2)
    assert digests(machines) == before
    assert request.id not in old.take(), "its outcome is the next leader's to tell"
    assert machines.done(machines.write("CREATE (:Mine)")) == [Status.DONE]
    machines.lead(1)
    assert machines.done(machines.write("CREATE (:Mine)")) == [Status.DONE]
    assert len(digests(machines)) == 1


def test_the_end_is_committed_though_its_leader_is_lost(machines: Machines) -> None:
    data, found = backup_of(50)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    client.send("END", restore=client.name)
    machines.leader.machine.turn()
    machines.leader.machine.turn()
    (proposal,) = machines.leader.proposals()
    machines.append(*proposal.payloads)
    machines.lead(2)
    assert digests(machines) == {found}


def test_a_refused_end_leaves_the_old_graph(machines: Machines) -> None:
    machines.done(machines.write("CREATE (:Mine)"))
    before = digests(machines)
    data, found = backup_of(50)
    client = Client(machines)
    client.begin(len(data), replace=True)
    client.upload(data)
    request = client.send("END", restore=client.name)
    machines.leader.machine.turn()
    machines.leader.machine.turn()
    (proposal,) = machines.leader.proposals()
    machines.leader.machine.proposal_refused(proposal.token, RefusalReason.OVERLOADED)
    assert machines.leader.take()[request.id].status is Status.OVERLOADED
    assert digests(machines) == before
    machines.leader.machine.sweep(machines.now)
    machines.settle()
    assert all(not s.machine.replica.spool.name for s in machines.servers.values())
    assert machines.done(machines.write("CREATE (:Mine)")) == [Status.DONE]
    assert Client(machines).restore(data, replace=True).status is Status.DONE
    assert digests(machines) == {found}


def test_who_is_silent_for_too_long_is_given_up(machines: Machines) -> None:
    data, found = backup_of(50)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    assert "Another restore" in said(Client(machines).begin(5))
    assert machines.leader.machine.replica.capture() is None
    machines.now += limits.RESTORE_IDLE_SECONDS_MAX + 1
    machines.leader.machine.sweep(machines.now)
    machines.settle()
    assert all(not s.machine.replica.spool.name for s in machines.servers.values())
    assert machines.leader.machine.replica.capture() is not None
    assert "begin it again" in said(client.ask("END", restore=client.name))
    assert Client(machines).restore(data).status is Status.DONE
    assert digests(machines) == {found}


def test_cancelled(machines: Machines) -> None:
    data, _ = backup_of(50)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    assert client.ask("CANCEL", restore=client.name).status is Status.DONE
    assert machines.nodes() == 0
    assert not machines.leader.machine.replica.spool.name
    assert Client(machines).restore(data).status is Status.DONE


def test_a_request_of_another_term_is_not_the_leaders(machines: Machines) -> None:
    client = Client(machines)
    request = machines.request(
        Op.RESTORE, "RESTORE DATABASE BEGIN", parameters={"size": 9, "replace": False}
    )
    request.term = machines.term + 1
    item = Item(GATEWAY, request, machines.now + 600.0, machines.now)
    machines.leader.machine.submit_restore([item])
    machines.settle()
    assert machines.leader.take()[request.id].status is Status.NOT_LEADER
    waiting = client.send("BEGIN", size=9, replace=False)
    machines.lead(2)
    assert machines.servers[1].take()[waiting.id].status is Status.NOT_LEADER


def test_no_more_requests_wait_than_a_few(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_module, "WAITING_MAX", 2)
    client = Client(machines)
    requests = [client.send("BEGIN", size=9, replace=False) for _ in range(4)]
    statuses = {reply.id: reply.status for reply in machines.leader.take().values()}
    assert statuses == {request.id: Status.OVERLOADED for request in requests[2:]}
    machines.settle()
    assert machines.leader.take()[requests[0].id].status is Status.DONE


def test_a_server_from_a_snapshot_gathers_what_comes_after(machines: Machines) -> None:
    machines.done(machines.write("CREATE (:Mine)"))
    machines.servers[2].restore_from(machines.servers[1])
    data, found = backup_of(50)
    assert Client(machines).restore(data, replace=True).status is Status.DONE
    assert digests(machines) == {found}
    machines.servers[2].restore_from(machines.servers[1])
    assert digests(machines) == {found}


# --- The pieces -----------------------------------------------------------------------------------


def test_a_backup_in_rows_is_a_file(machines: Machines) -> None:
    machines.done(machines.write("UNWIND range(1, 5000) AS x CREATE (:N {x: x, t: toString(x)})"))
    request = machines.request(Op.BACKUP, read=True, count=-1)
    item = Item(GATEWAY, request, machines.now + 60, machines.now)
    machines.leader.machine.submit_local_reads([item])
    reply = machines.leader.take()[request.id]
    assert reply.status is Status.DONE
    parts = [row[0] for row in decode_records(reply.body, item.dialect)]
    read, size = read_parts(parts)
    head, root = read_backup(FileReader(read, size, MAGIC))
    assert digest(root) == digest(machines.leader.machine.replica.view())
    replica = machines.leader.machine.replica
    assert (head.index, head.term) == (replica.applied_index, replica.applied_term)
    assert (head.cluster_id, head.nodes, head.relationships) == (CLUSTER, 5000, 0)


def test_a_head_of_another_format(machines: Machines) -> None:
    data, _ = backup_of(1)
    for old, new in ((b'"format": 1', b'"format": 2'), (b'"nodes": 1', b'"nodes":"1"')):
        text = data.replace(old, new)
        with pytest.raises(CorruptionError):
            read_backup_head(FileReader(*read_parts([text]), MAGIC))


def test_a_file_in_parts_of_any_size() -> None:
    data, found = backup_of(20)
    for size in (1, 7, 100, len(data)):
        parts = [memoryview(data)[i : i + size] for i in range(0, len(data), size)]
        assert digest(load_backup(parts)) == found


def test_a_spool_refuses_a_log_that_makes_no_sense() -> None:
    spool = Spool()
    spool.add(RestorePart(CLUSTER, 0, memoryview(b"abc")))
    for part in (
        RestorePart(CLUSTER, 2, memoryview(b"x")),
        RestorePart(CLUSTER, 4, memoryview(b"x")),
        RestorePart("cd" * 16, 3, memoryview(b"x")),
    ):
        with pytest.raises(CorruptionError):
            spool.add(part)
    spool.add(RestorePart("cd" * 16, 0, memoryview(b"x")))
    assert (spool.name, spool.size) == ("cd" * 16, 1)


def test_a_damaged_end_in_the_log(machines: Machines) -> None:
    data, _ = backup_of(5)
    client = Client(machines)
    client.begin(len(data))
    client.upload(data)
    client.send("END", restore=client.name)
    machines.leader.machine.turn()
    machines.leader.machine.turn()
    (proposal,) = machines.leader.proposals()
    command = decode(proposal.payloads[0][1])
    wrong = replace(command, size=len(data) - 1)  # type: ignore[type-var]
    machines.append((EntryKind.COMMAND, encode_restore(wrong)))  # type: ignore[arg-type]
    with pytest.raises(CorruptionError):
        machines.feed(2)
