"""Where a client's request goes: to the state machine's thread, or to a reader thread.

Called by the one thread that takes messages from gateways. A query is parsed here (or found in the
plan cache), because whether it reads or writes decides its way:

    write, COMMIT            state machine, executed on the head, answered when committed
    read on the leader       after a majority has confirmed the leadership (ReadIndex)
    read in read mode        here, as soon as the bookmark has been applied
    inside a transaction     a reader thread, on the transaction's own root
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from actors import limits
from actors.administration_server import AdminRequest
from actors.machine import StateMachine
from actors.protocol import Op, Reply, Request, Status
from actors.service import ACCESS_MODE, Item, QueryService
from graph.errors import GraphError

__all__ = ["Dispatcher"]

Run = Callable[[Callable[[], None]], None]


class Dispatcher:
    """See the module.

    Args:
        machine: the state machine; touched only through ``run_machine``.
        run_machine: runs a function in the state machine's thread, in order.
        run_reads: runs a function in a reader thread.
        inform: answers RAFT_INFO and STORAGE_INFO.
        administer: puts a statement about the cluster into the server loop's inbox.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        service: QueryService,
        machine: StateMachine,
        *,
        run_machine: Run,
        run_reads: Run,
        inform: Callable[[Request], Reply],
        administer: Callable[[AdminRequest], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._machine = machine
        self._run_machine = run_machine
        self._run_reads = run_reads
        self._inform = inform
        self._administer = administer
        self._clock = clock

    def submit(self, gateway: int, requests: Sequence[Request]) -> None:
        """Take a batch of requests of one gateway, in their order."""
        now = self._clock()
        writes: list[Item] = []
        leader_reads: list[Item] = []
        local_reads: list[Item] = []
        replies: list[tuple[Item, Reply]] = []
        for request in requests:
            item = Item(gateway, request, now + _seconds(request), now)
            try:
                self._sort(item, writes, leader_reads, local_reads, replies)
            except Exception as error:
                replies.append((item, self._service.failed(item, error)))
        if replies:
            self._service.reply_all(replies)
        if writes:
            self._run_machine(lambda: self._machine.submit_writes(writes))
        if leader_reads:
            self._run_machine(lambda: self._machine.submit_leader_reads(leader_reads))
        if local_reads:
            self._run_machine(lambda: self._machine.submit_local_reads(local_reads))

    def _sort(
        self,
        item: Item,
        writes: list[Item],
        leader_reads: list[Item],
        local_reads: list[Item],
        replies: list[tuple[Item, Reply]],
    ) -> None:
        request = item.request
        match request.op:
            case Op.RUN if request.tx:
                self._later(item, self._service.run_inside)
            case Op.RUN:
                self._service.prepare(item)
                if not _writes(item):
                    (local_reads if request.read else leader_reads).append(item)
                elif request.read:
                    raise GraphError(
                        "Writing in read access mode is not allowed. Use a session or "
                        "transaction with write access.",
                        code=ACCESS_MODE,
                    )
                else:
                    self._write(item, writes, replies)
            case Op.PULL | Op.DISCARD:
                self._later(item, self._service.pull)
            case Op.BEGIN:
                (local_reads if request.read else leader_reads).append(item)
            case Op.COMMIT:
                self._commit(item, writes, replies)
            case Op.ROLLBACK:
                replies.append((item, self._service.rollback(item)))
            case Op.OUTCOME:
                leader_reads.append(item)
            case Op.SETTLE:
                self._write(item, writes, replies)
            case Op.BACKUP:
                local_reads.append(item)
            case Op.RESTORE:
                self._service.decode(item)
                self._run_machine(lambda: self._machine.submit_restore([item]))
            case Op.CANCEL:
                self._service.sessions.drop_owner((item.gateway, request.cursor))
            case Op.ADMINISTER:
                self._administer(AdminRequest(item.gateway, request, item.deadline))
            case Op.RAFT_INFO | Op.STORAGE_INFO:
                replies.append((item, self._inform(request)))

    def _write(self, item: Item, writes: list[Item], replies: list[tuple[Item, Reply]]) -> None:
        if self._machine.backlog.offer(item):
            writes.append(item)
            return
        if item.request.op is Op.COMMIT:
            self._service.sessions.remove_transaction(item.gateway, item.request.tx)
        replies.append((item, Reply(item.request.id, Status.OVERLOADED)))

    def _commit(self, item: Item, writes: list[Item], replies: list[tuple[Item, Reply]]) -> None:
        """A transaction that has written nothing has nothing to replicate."""
        request = item.request
        opened = self._service.sessions.transaction(item.gateway, request.tx)
        if opened is None or opened.cancelled:
            self._write(item, writes, replies)  # refused there
        elif opened.read_only or (opened.transaction.write_set.empty and not opened.name):
            self._service.sessions.remove_transaction(item.gateway, request.tx)
            replies.append((item, Reply(request.id, Status.DONE, opened.index)))
        else:
            self._write(item, writes, replies)

    def _later(self, item: Item, run: Callable[[Item], Reply]) -> None:
        self._run_reads(lambda: self._service.reply(item, run(item)))


def _writes(item: Item) -> bool:
    prepared = item.prepared
    assert prepared is not None
    return prepared.kind in ("write", "schema") and prepared.mode.name != "EXPLAIN"


def _seconds(request: Request) -> float:
    if not request.timeout_ms:
        return limits.QUERY_SECONDS_MAX
    return min(request.timeout_ms / 1000, limits.QUERY_SECONDS_MAX)
