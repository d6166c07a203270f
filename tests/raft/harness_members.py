"""Changes of membership in the harness: what is asked for, and what must hold.

The chain of memberships (dissertation, 4.1 and 4.2; the bug published after it): each CONFIG entry
is appended by a leader that has committed an entry of its own term and the CONFIG entry before;
it differs from that one so little that any majority of one meets any majority of the other; ids
never come back. At one commit index all servers know the same membership. Only who votes, or had
a vote that may still be needed, campaigns.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import combinations
from random import Random

from actors.raft.core import RaftCore
from actors.raft.log import Configuration
from actors.raft.membership import MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    ChangeMembership,
    MembershipChange,
    RemoveMember,
    SetAddress,
    SetRole,
    TransferLeadership,
)
from actors.raft.quorum import majority
from actors.raft.ready import Role

MEMBERS_MAX = 7
SERVERS_MAX = 12


def check_majorities_meet(old: Membership, new: Membership) -> None:
    for group in combinations(old.voters, majority(len(old.voters))):
        others = set(new.voters) - set(group)
        assert len(others) < majority(len(new.voters)), (
            f"a majority of {old.voters} and one of {new.voters} do not meet"
        )


class MembershipChecks:
    """Remembers each membership when it is first seen, which is where it was appended."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Membership] = {}
        # Indexes of committed CONFIG entries, and the memberships in them.
        self._indexes: list[int] = []
        self._committed: list[Membership] = []

    def committed(self, configuration: Configuration) -> None:
        """A leader has committed so far; this is what is in force there."""
        if configuration.index and configuration.index not in self._indexes[-1:]:
            self._indexes.append(configuration.index)
            self._committed.append(configuration.membership)

    def check(self, core: RaftCore) -> None:
        log = core.log
        place_in_chain = bisect_right(self._indexes, log.commit_index) - 1
        if place_in_chain >= 0:
            known = log.configuration_at(log.commit_index).membership
            assert known == self._committed[place_in_chain], f"{core} knows {known}"
        configuration = log.configuration
        if configuration.index <= log.base_index:
            return
        place = (configuration.index, log.term_at(configuration.index))
        found = self.seen.get(place)
        if found is None:
            self.seen[place] = configuration.membership
            self._check_appended(core, configuration)
        else:
            assert found == configuration.membership, f"two memberships at {place}"

    def _check_appended(self, core: RaftCore, new: Configuration) -> None:
        log = core.log
        assert core.role is Role.LEADER, f"{core} appended {new}"
        old = log.configuration_at(new.index - 1)
        assert old.index <= log.commit_index, f"{new} was begun before {old} was committed"
        assert log.term_at(log.commit_index) == core.term, f"{new} before an own commit"
        new.membership.validate()
        check_majorities_meet(old.membership, new.membership)
        assert new.membership.last_used_id >= old.membership.last_used_id
        for added in set(new.membership.ids) - set(old.membership.ids):
            assert added > old.membership.last_used_id, f"id {added} was used before"
        behind_max = core._state.config.caught_up_entries_max + 1
        for promoted in set(new.membership.voters) - set(old.membership.voters):
            match = next(p.match_index for p in core.status().progress if p.peer == promoted)
            assert log.last_index - match <= behind_max, f"{promoted} votes and lacks entries"

    def check_campaign(self, core: RaftCore) -> None:
        log = core.log
        index, membership = log.configuration
        if index > log.commit_index and core.server_id not in membership.voters:
            membership = log.configuration_at(index - 1).membership
        assert core.server_id in membership.voters, f"{core} campaigns without a vote"


def draw_request(
    random: Random, token: int, membership: Membership, new_id: int
) -> ChangeMembership | TransferLeadership:
    """Something to ask of a leader with this membership; ``new_id`` is a server to be added."""
    member = random.choice(membership.members)
    dice = random.random()
    if dice < 0.25:
        return TransferLeadership(token, random.choice((0, member.server_id, *membership.voters)))
    change: MembershipChange
    grows = len(membership.members) < MEMBERS_MAX
    if dice < 0.45 and grows:
        if random.random() < 0.1:
            new_id = random.randint(1, membership.last_used_id)
        change = AddMember(new_id, random.choice((MemberRole.LEARNER, MemberRole.JOINING)), "a:1")
    elif dice < 0.6 and grows:
        change = AddMember(new_id, MemberRole.JOINING, "", replaces=member.server_id)
    elif dice < 0.75:
        change = RemoveMember(member.server_id)
    elif dice < 0.95:
        change = SetRole(member.server_id, random.choice(list(MemberRole)))
    else:
        change = SetAddress(member.server_id, f"b:{token}")
    return ChangeMembership(token, change)
