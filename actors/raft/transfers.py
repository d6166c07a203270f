"""Sending snapshots: a chunk at a time, at the follower's pace (paper, 7).

    wanted -> (server reads) -> chunk in flight -> reply -> wanted ... -> complete -> AppendReply

Whatever is lost on the way, a read included, is asked for again when its deadline has passed. The
follower's reply says where to go on, so a transfer resumes where it was, and begins anew where
the follower lost it. A snapshot superseded during the transfer is finished if the server still
has it; else the newest one begins at offset 0.
"""

from __future__ import annotations

from actors.raft.messages import SnapshotChunk, SnapshotChunkRead, SnapshotReply
from actors.raft.progress import Progress, Transfer
from actors.raft.ready import ProgressState, SnapshotMark, SnapshotWanted
from actors.raft.state import State

__all__ = ["expire", "handle_chunk_read", "handle_snapshot_reply", "proceed"]


def proceed(state: State, progress: Progress) -> None:
    """Ask for the next chunk, unless one is under way or the follower is silent.

    A server keeps a snapshot, and the log behind it, for whoever is being sent it: not for one
    that is down.
    """
    transfer = progress.transfer
    assert transfer is not None
    if transfer.busy or progress.is_silent(state.now_ms, state.config):
        return
    transfer.busy = True
    transfer.deadline_ms = state.now_ms + state.config.snapshot_retry_ms
    mark = transfer.mark
    if transfer.complete:
        _send_chunk(state, progress, transfer, b"", last=True)
        return
    state.snapshot_requests.append(
        SnapshotWanted(
            progress.peer,
            mark.index,
            mark.term,
            transfer.offset,
            state.config.snapshot_chunk_bytes,
        )
    )


def expire(progress: Progress, now_ms: int) -> None:
    """Give a chunk up for lost when its deadline has passed."""
    transfer = progress.transfer
    if transfer is not None and transfer.busy and now_ms >= transfer.deadline_ms:
        transfer.busy = False


def _transfer(state: State, peer: int) -> tuple[Progress, Transfer] | None:
    if state.leadership is None:
        return None
    progress = state.leadership.progress.get(peer)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return None
    assert progress.transfer is not None
    return progress, progress.transfer


def _send_chunk(
    state: State, progress: Progress, transfer: Transfer, data: bytes, *, last: bool
) -> None:
    mark = transfer.mark
    state.outbox.append(
        SnapshotChunk(
            state.term,
            state.id,
            progress.peer,
            mark.index,
            mark.term,
            transfer.offset,
            data,
            last,
            transfer.total,
        )
    )


def handle_chunk_read(state: State, message: SnapshotChunkRead) -> None:
    """Send what the server has read, if it is what the follower needs next."""
    found = _transfer(state, message.peer)
    if found is None:
        return
    progress, transfer = found
    mark = SnapshotMark(message.index, message.term)
    if mark != transfer.mark:
        if mark < transfer.mark:
            return
        transfer = progress.transfer = Transfer(mark)
    if message.offset != transfer.offset:
        transfer.busy = False
        return
    end = message.offset + len(message.data)
    assert message.last == (end == message.total), f"chunk read ends at {end}: {message.total}"
    assert message.data or message.last, "an empty chunk was read before the snapshot's end"
    transfer.total = message.total
    transfer.busy = True
    transfer.deadline_ms = state.now_ms + state.config.snapshot_retry_ms
    _send_chunk(state, progress, transfer, message.data, last=message.last)


def handle_snapshot_reply(state: State, message: SnapshotReply) -> None:
    """Go on where the follower says. One that is busy still counts as alive."""
    if state.leadership is not None:
        state.leadership.progress[message.sender].heard_ms = state.now_ms
    found = _transfer(state, message.sender)
    if found is None:
        return
    _, transfer = found
    if transfer.mark != SnapshotMark(message.index, message.snapshot_term):
        return
    if message.offset > max(transfer.total, 0):
        state.drop()
        return
    if message.offset == transfer.offset:
        # The chunk under way began there: an old answer, or a follower that is not ready.
        return
    transfer.offset = message.offset
    transfer.busy = transfer.complete
    if transfer.complete:
        transfer.deadline_ms = state.now_ms + state.config.snapshot_retry_ms
