"""Writes that are executed together keep their own deadlines."""

from __future__ import annotations

import time
from typing import Any

from actors.machine import StateMachine
from actors.protocol import Op, Reply, Request, Status
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import Role, SoftState
from actors.replica import Replica
from actors.server import Proposal
from actors.service import Item, QueryService
from graph.engine import Engine

CREATE = b"CREATE (:N)"


def test_an_impatient_write_does_not_time_out_the_others() -> None:
    posted: list[Any] = []
    replies: list[Reply] = []
    service = QueryService(Engine(), lambda _, batch: replies.extend(batch))
    machine = StateMachine(
        Replica(),
        service,
        post=posted.append,
        applied=lambda index: None,
        run_reads=lambda task: task(),
        new_cluster_id=lambda: "ab" * 16,
        on_cluster=lambda name: None,
        replication_timeout_ms=60_000,
    )
    machine.role_changed(SoftState(Role.LEADER, 1, 1))
    machine.apply([Entry(1, 1, EntryKind.NOOP, b"")])
    machine.apply([Entry(2, 1, *posted.pop().payloads[0])])
    now = time.monotonic()
    late, early = now + 600.0, now - 1.0
    items = [
        Item(7, Request(number, Op.RUN, term=1, query=CREATE), deadline, now)
        for number, deadline in enumerate((late, early, late), 1)
    ]
    for item in items:
        service.prepare(item)
    machine.submit_writes(items)
    machine.turn()
    (proposal,) = (event for event in posted if isinstance(event, Proposal))
    machine.apply([Entry(3, 1, *proposal.payloads[0])])
    assert {reply.id: reply.status for reply in replies} == {
        1: Status.DONE,
        2: Status.FAILED,
        3: Status.DONE,
    }
    assert machine.replica.view().node_count == 2
