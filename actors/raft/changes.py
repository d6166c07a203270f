"""A leader's part in changes of membership (dissertation, chapter 4).

One server is added, removed or given another role at a time, by an entry that holds the whole new
membership and is in force as soon as it is appended. What makes that safe:

* The next change begins only when the one before is committed, so that each two memberships that
  can be in use at once differ by one server, and their majorities meet.
* A leader changes nothing before its own first entry is committed. Otherwise two leaders, each
  with a change of its own that the other one has not seen, could both find a majority (the bug
  published after the dissertation).

What makes it useful: a new server begins without a vote and gets one when it has caught up; no
change is begun after which too few live voters would be left to commit it; and everything that a
leader does by itself (``drive``) follows from the log, so the next leader carries it on.
"""

from __future__ import annotations

from actors.raft import handover
from actors.raft.config import VOTERS_MAX
from actors.raft.membership import (
    ADDRESS_BYTES_MAX,
    MEMBERS_MAX,
    SERVER_ID_MAX,
    MemberEntry,
    MemberRole,
    Membership,
)
from actors.raft.messages import (
    AddMember,
    ChangeMembership,
    Entry,
    EntryKind,
    MembershipChange,
    RemoveMember,
    SetAddress,
    SetRole,
)
from actors.raft.progress import Progress
from actors.raft.quorum import majority
from actors.raft.ready import ProgressState, Proposed, RefusalReason, Refused
from actors.raft.state import Leadership, State

__all__ = ["drive", "forget_removed", "handle_change", "is_live", "sync_members"]


# On request


def handle_change(state: State, message: ChangeMembership) -> None:
    """Append the changed membership, or say at once why not."""
    leadership = state.leadership
    if leadership is None:
        state.refused.append(Refused(message.token, RefusalReason.NOT_LEADER))
        return
    changed = _gate(state, leadership) or _changed(state, leadership, message.change)
    if isinstance(changed, RefusalReason):
        state.refused.append(Refused(message.token, changed))
        return
    index = _append(state, leadership, changed)
    state.proposed.append(Proposed(message.token, state.term, index, index))


def _gate(state: State, leadership: Leadership) -> RefusalReason | None:
    """Why no change at all may begin now."""
    log = state.log
    if leadership.handover is not None:
        return RefusalReason.TRANSFERRING
    if log.commit_index < leadership.term_start:
        return RefusalReason.NOT_READY
    if log.configuration.index > log.commit_index:
        return RefusalReason.CHANGE_IN_PROGRESS
    uncommitted = log.bytes_between(log.commit_index, log.last_index)
    if uncommitted >= state.config.uncommitted_bytes_max:
        return RefusalReason.OVERLOADED
    return None


def _append(state: State, leadership: Leadership, membership: Membership) -> int:
    index = state.log.last_index + 1
    state.log.append((Entry(index, state.term, EntryKind.CONFIG, membership.encode()),))
    sync_members(state, leadership)
    return index


def _changed(
    state: State, leadership: Leadership, change: MembershipChange
) -> Membership | RefusalReason:
    membership = state.membership
    if isinstance(change, AddMember):
        return _added(membership, change)
    member = membership.get(change.server_id)
    if member is None:
        return RefusalReason.UNKNOWN_MEMBER
    match change:
        case RemoveMember():
            return _removed(state, leadership, member)
        case SetRole():
            return _in_role(state, leadership, member, change.role)
        case SetAddress():
            if not _is_address(change.address):
                return RefusalReason.IMPOSSIBLE
            return membership.with_address(member.server_id, change.address)


def _is_address(address: str) -> bool:
    return len(address.encode(errors="replace")) <= ADDRESS_BYTES_MAX and address.isprintable()


def _added(membership: Membership, change: AddMember) -> Membership | RefusalReason:
    if change.server_id <= membership.last_used_id:
        return RefusalReason.ID_USED
    if change.role is MemberRole.VOTER:
        # It has nothing yet: as a voter it would only be in the way until it has everything.
        return RefusalReason.NOT_CAUGHT_UP
    if (
        change.server_id > SERVER_ID_MAX
        or not _is_address(change.address)
        or (change.replaces and change.role is not MemberRole.JOINING)
    ):
        return RefusalReason.IMPOSSIBLE
    if change.replaces and membership.get(change.replaces) is None:
        return RefusalReason.UNKNOWN_MEMBER
    if len(membership.members) >= MEMBERS_MAX:
        return RefusalReason.TOO_MANY
    member = MemberEntry(change.server_id, change.role, change.address, change.replaces)
    changed = membership.with_added(member)
    return RefusalReason.TOO_MANY if _voters_to_be(changed) > VOTERS_MAX else changed


def _voters_to_be(membership: Membership) -> int:
    """How many will vote when all that join have joined and all that are replaced have gone."""
    wanted = {m.server_id for m in membership.members if m.role is not MemberRole.LEARNER}
    return len(wanted - {m.replaces for m in membership.members})


def _removed(
    state: State, leadership: Leadership, member: MemberEntry
) -> Membership | RefusalReason:
    changed = state.membership.with_removed(member.server_id)
    if member.role is not MemberRole.VOTER:
        return changed
    return _if_votable(state, leadership, changed)


def _if_votable(
    state: State, leadership: Leadership, changed: Membership
) -> Membership | RefusalReason:
    """``changed``, in which other members vote than now, if those can commit anything."""
    if not changed.voters:
        return RefusalReason.LAST_VOTER
    live = sum(is_live(state, leadership, voter) for voter in changed.voters)
    return changed if live >= majority(len(changed.voters)) else RefusalReason.NO_MAJORITY


def _in_role(
    state: State, leadership: Leadership, member: MemberEntry, role: MemberRole
) -> Membership | RefusalReason:
    changed = state.membership.with_role(member.server_id, role)
    if role is member.role:
        return changed
    if role is MemberRole.VOTER:
        return _promoted(state, leadership, member)
    if member.role is MemberRole.VOTER:
        if role is MemberRole.JOINING:
            return RefusalReason.IMPOSSIBLE
        return _if_votable(state, leadership, changed)
    return RefusalReason.TOO_MANY if _voters_to_be(changed) > VOTERS_MAX else changed


def _promoted(
    state: State, leadership: Leadership, member: MemberEntry
) -> Membership | RefusalReason:
    changed = state.membership.with_role(member.server_id, MemberRole.VOTER)
    if len(changed.voters) > VOTERS_MAX + (member.replaces in changed.voters):
        return RefusalReason.TOO_MANY
    if not _has_caught_up(state, leadership.progress[member.server_id]):
        return RefusalReason.NOT_CAUGHT_UP
    return _if_votable(state, leadership, changed)


# What a leader knows of the members


def is_live(state: State, leadership: Leadership, server_id: int) -> bool:
    """Whether that member is this leader, or answers it and takes what it sends."""
    if server_id == state.id:
        return True
    progress = leadership.progress[server_id]
    silent = progress.is_silent(state.now_ms, state.config)
    return progress.state is not ProgressState.PROBE and not silent


def _has_caught_up(state: State, progress: Progress) -> bool:
    """Whether it follows closely enough that a majority may wait for it. Entries pipelined count
    as missing; those of a working follower are few."""
    log, config, match = state.log, state.config, progress.match_index
    return (
        progress.state is ProgressState.REPLICATE
        and not progress.is_silent(state.now_ms, state.config)
        and log.last_index - match <= config.caught_up_entries_max
        and log.bytes_between(match, log.last_index) <= config.inflight_bytes_max
    )


def sync_members(state: State, leadership: Leadership) -> None:
    """Keep a Progress for each other member, now that the membership may be another one.

    Removed servers stay until they have had a chance to hear of it: see ``forget_removed``.
    """
    progress, log = leadership.progress, state.log
    members = set(state.peers)
    # A new leader may have inherited a removal that is not committed yet.
    before = log.configuration_at(log.commit_index).membership
    for peer in sorted({*members, *before.ids} - {state.id, *progress}):
        progress[peer] = Progress(peer, log.last_index + 1, state.now_ms)
    for peer in progress:
        if peer not in members:
            leadership.removed.setdefault(peer, 0)
    leadership.errands = state.id not in state.membership.voters or any(
        member.role is MemberRole.JOINING or member.replaces for member in state.membership.members
    )
    leadership.recount = True


def forget_removed(state: State, leadership: Leadership) -> None:
    """Stop sending to servers whose removal has been committed for an election time-out.

    One that has heard of its removal can end; one that has not would ask for votes in vain.
    """
    log = state.log
    if log.configuration.index > log.commit_index:
        return
    for peer, deadline_ms in list(leadership.removed.items()):
        if not deadline_ms:
            leadership.removed[peer] = state.now_ms + state.config.election_timeout_max_ms
        elif state.now_ms >= deadline_ms:
            del leadership.removed[peer], leadership.progress[peer]


# By itself


def drive(state: State, leadership: Leadership) -> None:
    """Do what the membership asks for next: promote who has caught up, remove who is replaced, and
    hand over if this server itself has no vote any more."""
    log = state.log
    configuration = log.configuration
    if configuration.index > log.commit_index or leadership.handover is not None:
        return
    if state.id not in configuration.membership.voters:
        handover.leave(state, leadership)
        return
    if not leadership.errands or log.commit_index < leadership.term_start:
        return
    for member in configuration.membership.members:
        changed = _errand(state, leadership, member)
        if isinstance(changed, Membership):
            _append(state, leadership, changed)
            return


def _errand(
    state: State, leadership: Leadership, member: MemberEntry
) -> Membership | RefusalReason | None:
    """What is to be done about one member now, if anything, or why it has to wait.

    The server to be replaced goes last, so that no vote is missing in between; but if it is
    dead, first: then no majority ever counts both it and a newcomer that may fail as well.
    """
    replaced = state.membership.get(member.replaces) if member.replaces else None
    if member.role is MemberRole.VOTER:
        return _removed(state, leadership, replaced) if replaced is not None else None
    if member.role is not MemberRole.JOINING:
        return None
    if (
        replaced is not None
        and replaced.role is MemberRole.VOTER
        and replaced.server_id != state.id
        and leadership.progress[replaced.server_id].is_silent(state.now_ms, state.config)
        and _has_caught_up(state, leadership.progress[member.server_id])
    ):
        return _removed(state, leadership, replaced)
    return _promoted(state, leadership, member)
