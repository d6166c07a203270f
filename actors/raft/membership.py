"""Who belongs to a cluster and in what role: a value, its stored form, and what makes it sound.

A membership is the content of a CONFIG entry. The one in force is the newest in a server's log,
committed or not (dissertation, 4.1), so it changes when an entry is appended and falls back when
that entry is truncated; ``log.py`` keeps the few that matter. Any two consecutive ones differ by
one server, hence each majority of one shares a server with each majority of the other: that is
all that makes the change safe, and ``leader.py`` and ``changes.py`` see to it.

Stored form, big-endian::

    version u8 = 1 | last_used_id u32 | count u16 | members, by ascending id
    member: server_id u32 | role u8 | replaces u32 | length u16 | address (UTF-8)

An id belongs to one server with one history. Those up to ``last_used_id`` that are not members
have been members, or have been passed over, and never become one again: a server that returns
under an old id without its disk would break promises that it no longer remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from struct import Struct

from actors.raft.config import VOTERS_MAX
from actors.raft.errors import CodecError

__all__ = [
    "ADDRESS_BYTES_MAX",
    "MEMBERS_MAX",
    "SERVER_ID_MAX",
    "MemberEntry",
    "MemberRole",
    "Membership",
]

# Learners cost the leader a stream each; more of them belong behind other learners.
MEMBERS_MAX = 32
ADDRESS_BYTES_MAX = 255
SERVER_ID_MAX = (1 << 32) - 1

_VERSION = 1
_HEAD = Struct(">BIH")
_MEMBER = Struct(">IBIH")


class MemberRole(IntEnum):
    """What a member takes part in."""

    # Counts in every majority: votes, commits, reads.
    VOTER = 1
    # Gets everything and counts nowhere.
    LEARNER = 2
    # A learner that the leader makes a voter by itself as soon as it has caught up.
    JOINING = 3


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """One member. ``address`` is opaque text for the layers above.

    ``replaces``: the member that is to go once this one, which begins as JOINING, is a voter; 0
    if none, and again as soon as that member has gone.
    """

    server_id: int
    role: MemberRole
    address: str = ""
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """All members, by ascending id. See the module about ``last_used_id``."""

    members: tuple[MemberEntry, ...]
    last_used_id: int
    # Ids of those who vote, and of all others. Kept, because every acknowledgement asks.
    voters: tuple[int, ...] = field(init=False, repr=False, compare=False)
    learners: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        votes = MemberRole.VOTER
        voters = tuple(m.server_id for m in self.members if m.role is votes)
        learners = tuple(m.server_id for m in self.members if m.role is not votes)
        object.__setattr__(self, "voters", voters)
        object.__setattr__(self, "learners", learners)

    @classmethod
    def of_voters(cls, ids: Iterable[int]) -> Membership:
        """The membership that a cluster begins with. It may be empty: nobody is known yet."""
        ordered = sorted(ids)
        members = tuple(MemberEntry(server_id, MemberRole.VOTER) for server_id in ordered)
        return cls(members, max(ordered, default=0))

    # Reading

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of all members."""
        return tuple(member.server_id for member in self.members)

    def get(self, server_id: int) -> MemberEntry | None:
        """The member of that id, if it is one."""
        for member in self.members:
            if member.server_id == server_id:
                return member
        return None

    def validate(self) -> None:
        """Check every rule that a stored membership keeps.

        Raises:
            ValueError: names the member, what is wrong with it and what would be right.
        """
        ids = self.ids
        if list(ids) != sorted(set(ids)):
            raise ValueError(f"member ids {ids} are not ascending and distinct")
        if not 1 <= len(self.voters) <= VOTERS_MAX + 1:
            # One more than may stay: while a voter is replaced, both vote.
            raise ValueError(f"{len(self.voters)} members vote: let 1 to {VOTERS_MAX} vote")
        if len(ids) > MEMBERS_MAX:
            raise ValueError(f"{len(ids)} members: at most {MEMBERS_MAX} are possible")
        if ids[0] < 1 or not ids[-1] <= self.last_used_id <= SERVER_ID_MAX:
            raise ValueError(
                f"member ids {ids} with last_used_id {self.last_used_id}: ids are positive, at "
                f"most last_used_id, and that at most {SERVER_ID_MAX}"
            )
        for member in self.members:
            self._validate_member(member)

    def _validate_member(self, member: MemberEntry) -> None:
        if len(member.address.encode()) > ADDRESS_BYTES_MAX:
            raise ValueError(
                f"the address of server {member.server_id} is longer than {ADDRESS_BYTES_MAX} bytes"
            )
        if member.replaces and (
            member.role is MemberRole.LEARNER
            or member.replaces == member.server_id
            or self.get(member.replaces) is None
        ):
            raise ValueError(
                f"server {member.server_id} ({member.role.name}) replaces {member.replaces}: only "
                "a joining server replaces, and only another member"
            )

    # Changing, by one server each

    def with_added(self, member: MemberEntry) -> Membership:
        """With one more member, whose id is above all that were ever used."""
        assert member.server_id > self.last_used_id, member
        return Membership((*self.members, member), member.server_id)

    def with_removed(self, server_id: int) -> Membership:
        """Without that member; whoever was to replace it has done so."""
        members = tuple(
            replace(member, replaces=0) if member.replaces == server_id else member
            for member in self.members
            if member.server_id != server_id
        )
        return Membership(members, self.last_used_id)

    def with_role(self, server_id: int, role: MemberRole) -> Membership:
        """With that member in another role. A voter to be still has to replace whom it was to."""
        return self._with(server_id, lambda member: _in_role(member, role))

    def with_address(self, server_id: int, address: str) -> Membership:
        """With that member at another address."""
        return self._with(server_id, lambda member: replace(member, address=address))

    def _with(self, server_id: int, change: Callable[[MemberEntry], MemberEntry]) -> Membership:
        members = tuple(
            change(member) if member.server_id == server_id else member for member in self.members
        )
        return Membership(members, self.last_used_id)

    # Stored form

    def encode(self) -> bytes:
        """Stored form; the data of a CONFIG entry."""
        parts = [_HEAD.pack(_VERSION, self.last_used_id, len(self.members))]
        for member in self.members:
            address = member.address.encode()
            parts.append(_MEMBER.pack(member.server_id, member.role, member.replaces, len(address)))
            parts.append(address)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """The membership that ``encode`` made these bytes from.

        Raises:
            CodecError: another version, bytes missing or left over, or not a sound membership.
        """
        if len(data) < _HEAD.size:
            raise CodecError(f"a membership of {len(data)} bytes ends within its head")
        version, last_used_id, count = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise CodecError(
                f"membership version {version} is not {_VERSION}: upgrade the older server"
            )
        members = []
        position = _HEAD.size
        for _ in range(count):
            member, position = _decode_member(data, position)
            members.append(member)
        if position != len(data):
            raise CodecError(f"a membership has {len(data) - position} bytes left over")
        membership = cls(tuple(members), last_used_id)
        try:
            membership.validate()
        except ValueError as error:
            raise CodecError(f"not a sound membership: {error}") from error
        return membership


def _in_role(member: MemberEntry, role: MemberRole) -> MemberEntry:
    replaces = 0 if role is MemberRole.LEARNER else member.replaces
    return replace(member, role=role, replaces=replaces)


_ROLES = {int(role): role for role in MemberRole}


def _decode_member(data: bytes, position: int) -> tuple[MemberEntry, int]:
    start = position + _MEMBER.size
    if start > len(data):
        raise CodecError(f"a membership ends within a member, after {len(data)} bytes")
    server_id, number, replaces, length = _MEMBER.unpack_from(data, position)
    role = _ROLES.get(number)
    if role is None:
        raise CodecError(f"server {server_id} has an unknown role, {number}")
    end = start + length
    if end > len(data):
        raise CodecError(f"the address of server {server_id} ends after {len(data)} bytes")
    try:
        address = data[start:end].decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"the address of server {server_id} is not UTF-8") from error
    return MemberEntry(server_id, role, address, replaces), end
