"""Elections: time-outs, pre-votes, votes (paper, 5.2 and 5.4.1; dissertation, 4.2.3 and 9.6).

A server that hears no leader first asks whether it could win (pre-vote, which changes no term),
then raises its term and asks for votes. Its requests leave, and its own vote counts, only when
term and vote are on its disk: otherwise a crash in between would let it campaign twice in one
term, the second time with a shorter log and the first time's votes.

Who votes is what the newest membership in the own log says. Servers answer requests of anyone: a
candidate may know a newer membership than they do (dissertation, 4.2.2).
"""

from __future__ import annotations

from actors.raft import follower, leader
from actors.raft.messages import (
    PreVoteReply,
    PreVoteRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from actors.raft.quorum import VoteResult, vote_result
from actors.raft.ready import HardState, Role
from actors.raft.state import State

__all__ = [
    "campaign",
    "handle_pre_vote_reply",
    "handle_pre_vote_request",
    "handle_timeout_now",
    "handle_vote_reply",
    "handle_vote_request",
    "in_lease",
    "leader_down",
    "own_vote_persisted",
]


def _may_campaign(state: State) -> bool:
    """Whether this server has a vote, or could still be needed because it had one.

    While its removal is not committed, it may be the only server left with a log that others
    accept (dissertation, 4.2.2): it asks for votes, but does not count its own.
    """
    if not state.config.campaign:
        return False
    log = state.log
    index, membership = log.configuration
    if state.id in membership.voters:
        return True
    return index > log.commit_index and (
        state.id in log.configuration_at(index - 1).membership.voters
    )


def campaign(state: State) -> None:
    """The election time-out has passed."""
    if state.installing is not None:
        # The log is about to be replaced by a snapshot; nothing to offer until then.
        state.reset_election_deadline()
        return
    if not _may_campaign(state):
        state.become_follower(state.term, 0)
        return
    if not state.config.pre_vote:
        _stand(state)
        return
    state.become_follower(state.term, 0)
    state.role = Role.PRE_CANDIDATE
    state.votes = {state.id: True}
    if _result(state) is VoteResult.WON:
        _stand(state)
        return
    log = state.log
    for peer in state.other_voters:
        state.outbox.append(
            PreVoteRequest(state.term + 1, state.id, peer, log.last_index, log.last_term)
        )


def _stand(state: State, *, transfer: bool = False) -> None:
    state.become_follower(state.term + 1, 0)
    state.role = Role.CANDIDATE
    state.vote = state.id
    log = state.log
    for peer in state.other_voters:
        state.after_persist.append(
            VoteRequest(state.term, state.id, peer, log.last_index, log.last_term, transfer)
        )


def _result(state: State) -> VoteResult:
    return vote_result(state.votes, state.membership.voters)


def own_vote_persisted(state: State) -> None:
    """A write completed: if it holds this candidate's vote for itself, the vote counts."""
    if state.role is Role.CANDIDATE and state.persistence.durable == HardState(
        state.term, state.id
    ):
        _count_vote(state, state.id, granted=True)


def _count_vote(state: State, voter: int, *, granted: bool) -> None:
    # The first answer counts; a duplicate says the same.
    state.votes.setdefault(voter, granted)
    result = _result(state)
    if result is VoteResult.LOST:
        state.become_follower(state.term, 0)
    elif result is VoteResult.WON:
        if state.role is Role.PRE_CANDIDATE:
            _stand(state)
        else:
            leader.become_leader(state)


def in_lease(state: State) -> bool:
    """Whether a live leader makes requests for votes pointless (dissertation, 4.2.3)."""
    if not state.config.check_quorum:
        return False
    if state.role is Role.LEADER:
        contact_ms = leader.quorum_contact_ms(state)
    elif state.leader != 0:
        contact_ms = state.leader_heard_ms
    else:
        return False
    return state.now_ms - contact_ms < state.config.election_timeout_min_ms


# Short time-outs after a leader's death. The first candidate may ask before its peers have heard
# the news, and votes may split; pre-votes cost nothing, so asking again soon is cheap.
_HURRIED_CAMPAIGNS = 8


def leader_down(state: State, peer: int) -> None:
    """The process of ``peer`` has ended: if it led, campaign soon, and again soon if that fails.

    The delay grows with this server's place among the survivors, so that one of them is first. A
    false report costs an election at most.
    """
    if peer != state.leader:
        return
    state.leader = 0
    if not _may_campaign(state):
        return
    state.hurried_campaigns = _HURRIED_CAMPAIGNS
    interval_ms = state.config.heartbeat_interval_ms
    before = [voter for voter in state.membership.voters if voter != peer and voter < state.id]
    place_ms = len(before) * interval_ms // 2
    soon_ms = state.now_ms + place_ms + state.random.randint(1, max(1, interval_ms // 4))
    state.election_deadline_ms = min(state.election_deadline_ms, soon_ms)


def handle_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader wants this server to take over: stand at once, without a pre-vote."""
    if not follower.heard_leader(state, message.sender):
        return
    if (
        state.installing is None
        and _may_campaign(state)
        and state.log.last_index == message.last_index
    ):
        _stand(state, transfer=True)


def handle_pre_vote_request(state: State, message: PreVoteRequest) -> None:
    """Say whether this server would vote so. Changes nothing and promises nothing."""
    granted = message.term > state.term and state.log.is_up_to_date(
        message.last_index, message.last_term
    )
    term = message.term if granted else state.term
    state.outbox.append(PreVoteReply(term, state.id, message.sender, granted))


def handle_pre_vote_reply(state: State, message: PreVoteReply) -> None:
    """Count a pre-vote; grants are for the term after this one."""
    if state.role is not Role.PRE_CANDIDATE:
        return
    if message.granted and message.term != state.term + 1:
        return
    _count_vote(state, message.sender, granted=message.granted)


def handle_vote_request(state: State, message: VoteRequest) -> None:
    """Vote at most once in a term, and only for a log as new as this one (paper, 5.2, 5.4.1)."""
    free = state.vote == message.sender or (state.vote == 0 and state.leader == 0)
    granted = free and state.log.is_up_to_date(message.last_index, message.last_term)
    if granted:
        state.become_follower(state.term, 0)
        state.vote = message.sender
    state.after_persist.append(VoteReply(state.term, state.id, message.sender, granted))


def handle_vote_reply(state: State, message: VoteReply) -> None:
    """Count a vote of this term."""
    if state.role is Role.CANDIDATE:
        _count_vote(state, message.sender, granted=message.granted)
