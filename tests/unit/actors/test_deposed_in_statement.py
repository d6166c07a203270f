"""A leader is deposed while a statement of an open transaction runs: the client may begin again."""

from __future__ import annotations

from typing import Any

import pytest
from machines import GATEWAY, Machines

from actors.protocol import Op, Status
from actors.service import Item


def test_a_statement_whose_leader_is_deposed_can_be_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by the nemesis, paused leaders: "terminated", which drivers take for a decision."""
    machines = Machines(1)
    machines.lead(1)
    service, replica = machines.leader.service, machines.leader.machine.replica
    begin = machines.request(Op.BEGIN)
    service.begin(
        Item(GATEWAY, begin, machines.now + 600, machines.now),
        replica.view().fork(),
        replica.allocator,
        replica.view_version,
        replica.applied_index,
    )
    opened = service.sessions.transaction(GATEWAY, begin.id)
    assert opened is not None
    run = type(opened.transaction).run

    def deposed(*arguments: Any) -> Any:
        service.sessions.drop_writing_transactions()
        return run(*arguments)

    monkeypatch.setattr(type(opened.transaction), "run", deposed)
    inside = machines.request(Op.RUN, "UNWIND range(1, 10) AS i CREATE (:A {i: i})", tx=begin.id)
    reply = service.run_inside(Item(GATEWAY, inside, machines.now + 600, machines.now))
    code = "Neo.TransientError.Transaction.LeaderSwitch"
    assert (reply.status, reply.head.decode()) == (Status.FAILED, code)
