"""Transactions that clients name: executed at most once, and their outcome can always be asked.

The same requests against real state machines over a log in memory: retries, questions before and
after, changes of leader, snapshots, lost batches, and names that were forgotten.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import GATEWAY, Machines, metadata

from actors import outcomes
from actors.commands import Named
from actors.outcomes import NameTable, OutcomeTable
from actors.protocol import Op, Request, Status
from actors.raft.ready import RefusalReason
from actors.service import Item
from actors.writer import NEVER
from graph.digest import digest

CREATE = "CREATE (n:N) RETURN n.x AS x"


@pytest.fixture
def machines() -> Machines:
    found = Machines(2)
    found.lead(1)
    return found


def ask(machines: Machines, name: bytes, since: int = 0) -> tuple[Status, int]:
    request = machines.request(Op.SETTLE, name=name, cursor=since)
    machines.submit(request)
    machines.settle()
    reply = machines.leader.take()[request.id]
    return reply.status, reply.index


def begin(machines: Machines, name: bytes) -> Request:
    request = machines.request(Op.BEGIN, name=name)
    leader = machines.leader
    replica = leader.machine.replica
    item = Item(GATEWAY, request, machines.now + 600, machines.now)
    reply = leader.service.begin(
        item, replica.view().fork(), replica.allocator, replica.view_version, replica.applied_index
    )
    assert reply.status is Status.DONE
    inside = machines.request(Op.RUN, CREATE, tx=request.id)
    reply = leader.service.run_inside(Item(GATEWAY, inside, machines.now + 600, machines.now))
    assert reply.status is not Status.FAILED
    return request


def commit(machines: Machines, opened: Request) -> Request:
    request = machines.request(Op.COMMIT, tx=opened.id)
    machines.submit(request)
    return request


# --- Twice ----------------------------------------------------------------------------------------


def test_a_second_write_of_the_same_name_is_not_executed(machines: Machines) -> None:
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    index = machines.leader.machine.replica.applied_index
    again = machines.write(CREATE, name=b"a")
    machines.settle()
    reply = machines.leader.take()[again.id]
    assert (reply.status, reply.index, reply.rows, reply.body) == (Status.DONE, index, 0, b"")
    assert metadata(reply.head)["fields"] == ["x"]
    assert metadata(reply.tail)["repeated"] is True
    assert metadata(reply.tail)["bookmark"] == f"rayft:v1:{index}"
    assert machines.nodes() == 1
    assert machines.leader.machine.replica.applied_index == index  # and costs no entry


def test_two_of_one_name_in_one_batch_are_one(machines: Machines) -> None:
    writes = [machines.write(CREATE, name=name) for name in (b"a", b"b", b"a", b"", b"a")]
    assert machines.done(*writes) == [Status.DONE] * 5
    assert machines.nodes() == 3


def test_a_repeat_of_what_is_pending_is_answered_after_it(machines: Machines) -> None:
    first = machines.write(CREATE, name=b"a")
    machines.leader.machine.turn()
    (pending,) = machines.leader.proposals()
    second = machines.write(CREATE, name=b"a")
    machines.leader.machine._execute([machines.leader.machine._waiting.popleft()])
    assert machines.leader.take() == {}
    machines.append(*pending.payloads)
    machines.feed()
    assert list(machines.leader.take()) == [first.id]
    machines.settle()
    assert machines.leader.take()[second.id].status is Status.DONE
    assert machines.nodes() == 1


def test_a_write_that_failed_may_be_sent_again_under_its_name(machines: Machines) -> None:
    wrong = machines.write("CREATE (n:N {x: 1 / 0})", name=b"a")
    right = machines.write(CREATE, name=b"a")
    assert machines.done(wrong, right) == [Status.FAILED, Status.DONE]
    assert machines.nodes() == 1


def test_an_explicit_transaction_has_its_name_from_its_beginning(machines: Machines) -> None:
    first, second = begin(machines, b"t"), begin(machines, b"t")
    commits = [commit(machines, first), commit(machines, second)]
    assert machines.done(*commits) == [Status.DONE, Status.DONE]
    assert machines.nodes() == 1
    assert ask(machines, b"t")[0] is Status.DONE
    assert machines.done(commit(machines, begin(machines, b"t"))) == [Status.DONE]
    assert machines.nodes() == 1


def test_a_repeat_after_a_change_of_leader(machines: Machines) -> None:
    machines.done(machines.write(CREATE, name=b"a"))
    machines.lead(2)
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    assert machines.nodes(1) == machines.nodes(2) == 1


def test_a_repeat_after_a_snapshot(machines: Machines) -> None:
    machines.done(machines.write(CREATE, name=b"a"))
    ask(machines, b"never")
    machines.servers[2].restore_from(machines.servers[1])
    machines.lead(2)
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    assert machines.done(machines.write(CREATE, name=b"never")) == [Status.FAILED]
    assert machines.nodes() == 1


def test_what_was_lost_with_its_leader_may_be_sent_again(machines: Machines) -> None:
    machines.write(CREATE, name=b"a")
    machines.leader.machine.turn()
    machines.lead(2)  # the batch of server 1 is in nobody's log
    machines.lead(1)
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    assert machines.nodes() == 1


def test_what_was_refused_may_be_sent_again(machines: Machines) -> None:
    lost = machines.write(CREATE, name=b"a")
    machines.leader.machine.turn()
    (proposal,) = machines.leader.proposals()
    machines.leader.machine.proposal_refused(proposal.token, RefusalReason.OVERLOADED)
    assert machines.leader.take()[lost.id].status is Status.OVERLOADED
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    assert machines.nodes() == 1


# --- Asking ---------------------------------------------------------------------------------------


def test_what_was_committed_is_said_with_its_index(machines: Machines) -> None:
    machines.done(machines.write(CREATE, name=b"a"))
    index = machines.leader.machine.replica.applied_index
    assert ask(machines, b"a") == (Status.DONE, index)
    machines.lead(2)
    assert ask(machines, b"a") == (Status.DONE, index)


def test_who_asks_first_settles_it(machines: Machines) -> None:
    assert ask(machines, b"late")[0] is Status.ABSENT
    write = machines.write(CREATE, name=b"late")
    machines.settle()
    reply = machines.leader.take()[write.id]
    assert (reply.status, reply.head.decode()) == (Status.FAILED, NEVER)
    assert b"another rayft.transaction_id" in reply.body
    opened = begin(machines, b"late")
    assert machines.done(commit(machines, opened)) == [Status.FAILED]
    machines.lead(2)
    assert machines.done(machines.write(CREATE, name=b"late")) == [Status.FAILED]
    assert ask(machines, b"late")[0] is Status.ABSENT
    assert machines.nodes(1) == machines.nodes(2) == 0


def test_never_is_said_only_when_it_is_final(machines: Machines) -> None:
    """A tombstone that is lost with its leader has settled nothing, so nobody was told."""
    question = machines.request(Op.SETTLE, name=b"a")
    machines.submit(question)
    machines.leader.machine.turn()
    assert machines.leader.take() == {}
    machines.lead(2)
    assert machines.servers[1].take() == {}
    assert machines.done(machines.write(CREATE, name=b"a")) == [Status.DONE]
    assert ask(machines, b"a")[0] is Status.DONE


def test_question_and_write_in_one_batch_keep_their_order(machines: Machines) -> None:
    first = machines.write(CREATE, name=b"a")
    question = machines.request(Op.SETTLE, name=b"a")
    other = machines.request(Op.SETTLE, name=b"b")
    machines.submit(question, other)
    late = machines.write(CREATE, name=b"b")
    statuses = machines.done(first, question, other, late)
    assert statuses == [Status.DONE, Status.DONE, Status.ABSENT, Status.FAILED]
    assert ask(machines, b"b")[0] is Status.ABSENT
    assert machines.nodes() == 1


def test_followers_know_what_the_leader_knows(machines: Machines) -> None:
    machines.done(machines.write(CREATE, name=b"a"), machines.write(CREATE, name=b"b"))
    ask(machines, b"c")
    one, two = (machines.servers[i].machine.replica for i in (1, 2))
    assert one.outcomes.encode() == two.outcomes.encode()
    assert digest(one.view()) == digest(two.view())


# --- Forgetting -----------------------------------------------------------------------------------


def test_what_may_be_forgotten_is_unknown_unless_it_is_newer(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "NAMES_MAX", 2)
    for name in (b"a", b"b", b"c"):
        machines.done(machines.write(CREATE, name=name))
    table = machines.leader.machine.replica.outcomes.names
    assert ask(machines, b"a") == (Status.FORGOTTEN, 0)
    assert ask(machines, b"new") == (Status.FORGOTTEN, 0)
    assert table.find(b"new") is None  # nothing is settled about what nothing is known of
    since = machines.leader.machine.replica.applied_index
    assert ask(machines, b"new", since)[0] is Status.ABSENT
    assert ask(machines, b"c")[0] is Status.DONE


def test_names_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "NAMES_BYTES_MAX", 100)
    table = NameTable()
    for index in range(1, 50):
        table.record(Named(b"%03d" % index * 10, True), index)
    assert table._bytes == sum(map(len, table._names)) == 90
    assert table.forgotten_to == 46
    assert table.may_be_forgotten(45) and not table.may_be_forgotten(46)


RECORDS = st.lists(
    st.builds(Named, st.sampled_from([b"%d" % i * i for i in range(1, 9)]), st.booleans()),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.integers(0, 40))
def test_the_same_log_gives_the_same_names_whatever_the_snapshot(
    log: list[Named], snapshot_at: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "NAMES_MAX", 4)
        patch.setattr(outcomes, "NAMES_BYTES_MAX", 20)
        whole, restored = OutcomeTable(), OutcomeTable()
        first: dict[bytes, tuple[int, bool]] = {}
        for index, named in enumerate(log, 1):
            if index == snapshot_at:
                restored = OutcomeTable.decode(restored.encode())
            whole.names.record(named, index)
            restored.names.record(named, index)
            if whole.names.find(named.name) == (index, named.done):
                first[named.name] = (index, named.done)
            for name, settled in first.items():
                found = whole.names.find(name)
                assert found == settled or (
                    found is None and whole.names.may_be_forgotten(settled[0] - 1)
                )
        assert restored.encode() == whole.encode()
        assert restored.names._bytes == whole.names._bytes


def test_a_snapshot_of_the_first_version_has_no_names() -> None:
    table = OutcomeTable()
    data = table.encode()
    old = data[: len(data) - len(table.names.encode())]
    assert OutcomeTable.decode(old).names.find(b"a") is None
