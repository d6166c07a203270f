"""What SHOW SERVERS shows, and in which words a change of membership is refused.

Plain functions over the core's state and over whom this server has met; used by the leader alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.addresses import Place
from actors.administration import (
    SERVER_COLUMNS,
    AddServer,
    DemoteServer,
    PromoteServer,
    RemoveServer,
    ReplaceServer,
    Statement,
)
from actors.raft.core import RaftCore
from actors.raft.membership import MemberEntry, MemberRole
from actors.raft.ready import ProgressState, ProgressStatus, RefusalReason
from bolt import status as codes

__all__ = ["Acquaintance", "refusal_text", "server_rows"]


@dataclass(slots=True)
class Acquaintance:
    """A server that has introduced itself, in this life of ours."""

    place: Place = field(default_factory=Place)
    alive: bool = False  # its process had not ended when we last heard of it
    bolt_address: str = ""
    note: str = ""  # why a server with this id is refused


def server_rows(
    core: RaftCore,
    met: Mapping[int, Acquaintance],
    silent_ms: int,
    now_ms: int,
    ailing: Mapping[int, str],
) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows): the members by id, then servers that run and are no members.

    ``ailing``: what is the matter with a server, by id.
    """
    membership, status = core.membership, core.status()
    progress = {p.peer: p for p in status.progress}
    rows = []
    for member in membership.members:
        known = met.get(member.server_id, Acquaintance())
        if member.server_id == core.server_id:
            numbers: list[Any] = ["up", status.last_index, 0, 0]
        else:
            seen = progress.get(member.server_id)
            numbers = _follower(seen, status.last_index, silent_ms, now_ms)
        address = Place.of(member.address).address or known.place.address
        rows.append(
            [
                member.server_id,
                address or None,
                known.bolt_address or None,
                _role(member, core),
                *numbers,
                known.note or _member_note(member, progress.get(member.server_id), ailing),
            ]
        )
    for server_id, known in sorted(met.items()):
        if membership.get(server_id) is None and known.alive:
            rows.append(_outsider(server_id, known, membership.last_used_id))
    return list(SERVER_COLUMNS), rows


def _role(member: MemberEntry, core: RaftCore) -> str:
    if member.role is not MemberRole.VOTER:
        return member.role.name.lower()
    return "leader" if member.server_id == core.server_id else "follower"


def _follower(
    progress: ProgressStatus | None, last_index: int, silent_ms: int, now_ms: int
) -> list[Any]:
    """Health, match index, lag in entries, milliseconds since it was heard."""
    if progress is None:
        return ["unknown", None, None, None]
    silence = max(0, now_ms - progress.heard_ms)
    health = "up" if silence <= silent_ms else "down"
    lag = max(0, last_index - progress.match_index)
    return [health, progress.match_index, lag, silence]


def _member_note(
    member: MemberEntry, progress: ProgressStatus | None, ailing: Mapping[int, str]
) -> str:
    notes = [ailing[member.server_id]] if member.server_id in ailing else []
    if member.replaces:
        notes.append(f"replaces server {member.replaces}")
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        notes.append(f"is being sent a snapshot, {progress.snapshot_offset} bytes so far")
    return "; ".join(notes)


def _outsider(server_id: int, known: Acquaintance, last_used_id: int) -> list[Any]:
    if server_id <= last_used_id:
        role, note = "removed", "runs, and is no member any more: stop it"
    else:
        role = "waiting"
        note = f"runs and waits for ADD SERVER {server_id} AT '{known.place.address}'"
    address, bolt = known.place.address or None, known.bolt_address or None
    return [server_id, address, bolt, role, "up", None, None, None, known.note or note]


# --- Refusals -------------------------------------------------------------------------------------

_NOTHING = " Nothing was changed."


def refusal_text(
    statement: Statement,
    reason: RefusalReason | None,
    core: RaftCore,
    met: Mapping[int, Acquaintance],
) -> tuple[str, str]:
    """(status code, message) of a statement that was certainly not done.

    Without a reason the server to be added did not come in time.
    """
    code = codes.DATABASE_UNAVAILABLE if reason in _PASSING else codes.STATEMENT_ARGUMENT_ERROR
    return code, _refusal(statement, reason, core, met) + _NOTHING


_PASSING = (
    RefusalReason.CHANGE_IN_PROGRESS,
    RefusalReason.NOT_READY,
    RefusalReason.TRANSFERRING,
    RefusalReason.NOT_CAUGHT_UP,
    RefusalReason.NO_MAJORITY,
)


def _refusal(
    statement: Statement,
    reason: RefusalReason | None,
    core: RaftCore,
    met: Mapping[int, Acquaintance],
) -> str:
    server_id = getattr(statement, "server_id", 0)
    match reason:
        case None:
            return _not_running(statement, met)
        case RefusalReason.CHANGE_IN_PROGRESS:
            return (
                "Another change of the membership is not committed yet, and there is one at a "
                "time. Try again; if it stays so, SHOW SERVERS shows whether a majority is up."
            )
        case RefusalReason.NOT_READY:
            return "The leader was elected just now and has not committed anything yet. Try again."
        case RefusalReason.TRANSFERRING:
            return "The leadership is being handed over. Try again."
        case RefusalReason.ID_USED:
            return _id_used(server_id, core)
        case RefusalReason.UNKNOWN_MEMBER:
            return _unknown(statement, core)
        case RefusalReason.LAST_VOTER:
            return (
                f"Server {server_id} is the only one that votes: without it there would be no "
                "cluster. Add another server and wait until it votes (SHOW SERVERS)."
            )
        case RefusalReason.TOO_MANY:
            return (
                "The cluster has as many servers as it may have. Remove one first, or use REPLACE "
                "SERVER."
            )
        case RefusalReason.NOT_CAUGHT_UP:
            return _behind(statement, server_id)
        case RefusalReason.NO_MAJORITY:
            return _no_majority(statement, server_id)
        case _:
            return _impossible(statement, server_id, core)


def _not_running(statement: Statement, met: Mapping[int, Acquaintance]) -> str:
    assert isinstance(statement, AddServer | ReplaceServer)
    server_id, address = statement.server_id, statement.address
    known = met.get(server_id)
    was = "has ended again" if known is not None and known.place.directory else "did not come"
    return (
        f"Server {server_id} {was}: a server must run before it is added. Start it at {address} "
        f"with memgraph_ha --server_id {server_id} --join, with entries for server 1 and for "
        f"itself in its coordination file, and run this again."
    )


def _id_used(server_id: int, core: RaftCore) -> str:
    membership = core.membership
    free = membership.last_used_id + 1
    if membership.get(server_id) is not None:
        return f"Server {server_id} is a member already. A new server needs an id from {free} on."
    return (
        f"The id {server_id} has been used, or passed over, and ids are never used again. Take one "
        f"from {free} on, and an empty data directory."
    )


def _unknown(statement: Statement, core: RaftCore) -> str:
    server_id = statement.old_id if isinstance(statement, ReplaceServer) else 0
    server_id = server_id or getattr(statement, "server_id", 0)
    if core.membership.get(server_id) is not None:  # asked to lead
        return f"Server {server_id} does not vote, so it cannot lead: PROMOTE SERVER {server_id}."
    there = ", ".join(str(i) for i in core.membership.ids)
    was = "is not" if server_id > core.membership.last_used_id else "is no longer"
    return f"Server {server_id} {was} a member of the cluster; its members are {there}."


def _behind(statement: Statement, server_id: int) -> str:
    if not server_id:
        return "No other server that votes is up and has the whole log. SHOW SERVERS shows them."
    what = "vote" if isinstance(statement, PromoteServer) else "lead"
    return (
        f"Server {server_id} lacks too much of the log to {what}, or does not answer. Wait until "
        "SHOW SERVERS shows it up with little lag, and run this again."
    )


def _no_majority(statement: Statement, server_id: int) -> str:
    return (
        f"Without server {server_id} too few of the others that vote are up: nothing could be "
        "committed any more. Bring them back or add servers first (SHOW SERVERS shows them)."
        if isinstance(statement, RemoveServer | DemoteServer)
        else "Too few of the servers that vote are up. Bring them back first (SHOW SERVERS)."
    )


def _impossible(statement: Statement, server_id: int, core: RaftCore) -> str:
    member = core.membership.get(server_id)
    role = member.role.name.lower() if member is not None else "no member"
    return f"Server {server_id} is {role}, for which {str(statement)!r} means nothing."
