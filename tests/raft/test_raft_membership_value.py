"""Memberships as values: their rules, their stored form, and changes by one server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.raft.errors import CodecError
from actors.raft.membership import (
    ADDRESS_BYTES_MAX,
    MEMBERS_MAX,
    MemberEntry,
    MemberRole,
    Membership,
)

V, L, J = MemberRole.VOTER, MemberRole.LEARNER, MemberRole.JOINING
M = MemberEntry
THREE = Membership.of_voters((1, 2, 3))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    ids = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=8)))
    roles = [V, *(draw(st.sampled_from(MemberRole)) for _ in ids[1:])]
    members = []
    for server_id, role in zip(ids, roles, strict=True):
        others = [0, *(other for other in ids if other != server_id)]
        replaces = 0 if role is L else draw(st.sampled_from(others))
        members.append(M(server_id, role, draw(st.text(max_size=20)), replaces))
    return Membership(tuple(members), draw(st.integers(ids[-1], 2**32 - 1)))


@given(memberships())
@settings(max_examples=200, deadline=None)
def test_a_membership_survives_being_stored(membership: Membership) -> None:
    membership.validate()
    again = Membership.decode(membership.encode())
    assert again == membership
    assert again.voters == membership.voters


@given(memberships(), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_are_a_membership_or_an_error(
    membership: Membership, data: st.DataObject
) -> None:
    stored = membership.encode()
    cut = data.draw(st.integers(0, len(stored) - 1))
    for wrong in (stored[:cut], stored + b"\x00"):
        with pytest.raises(CodecError):
            Membership.decode(wrong)
    damaged = bytearray(stored)
    damaged[cut] = data.draw(st.integers(0, 255))
    try:
        found = Membership.decode(bytes(damaged))
    except CodecError:
        return
    assert found.encode() == bytes(damaged)


def test_the_stored_form_is_what_it_was() -> None:
    """It is in the logs of clusters that exist: another form needs another version."""
    membership = Membership((M(1, V, "a:1"), M(7, J, "", 1)), 9)
    assert membership.encode().hex() == (
        "01" "00000009" "0002"
        "00000001" "01" "00000000" "0003" "613a31"
        "00000007" "03" "00000001" "0000"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "within its head"),
        ("020000000100010000000101000000000000", "version 2"),
        ("010000000100010000000104000000000000", "unknown role, 4"),
        ("010000000100010000000101000000000001", "address of server 1 ends"),
        ("010000000100010000000101000000000001ff", "not UTF-8"),
        ("010000000100020000000101000000000000", "within a member"),
        ("0100000001ffff", "within a member"),
        ("010000000100010000000102000000000000", "let 1 to 9 vote"),
        ("01000000000000", "let 1 to 9 vote"),
    ],
)
def test_what_cannot_be_read_is_named(data: str, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        Membership.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("membership", "text"),
    [
        (Membership((M(2, V), M(1, V)), 2), "ascending"),
        (Membership((M(1, V), M(1, V)), 1), "distinct"),
        (Membership((M(0, V),), 1), "positive"),
        (Membership((M(3, V),), 2), "at most last_used_id"),
        (Membership((M(3, V),), 1 << 32), "last_used_id"),
        (Membership.of_voters(range(1, 12)), "11 members vote"),
        (Membership(tuple(M(i, V if i == 1 else L) for i in range(1, 34)), 33), "33 members"),
        (Membership((M(1, V, "x" * (ADDRESS_BYTES_MAX + 1)),), 1), "longer than 255"),
        (Membership((M(1, V), M(2, J, "", 2)), 2), "replaces 2"),
        (Membership((M(1, V), M(2, J, "", 3)), 3), "replaces 3"),
        (Membership((M(1, V), M(2, L, "", 1)), 2), "only a joining server"),
    ],
)
def test_a_membership_that_cannot_be_is_refused(membership: Membership, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        membership.validate()


def test_who_votes_and_who_learns() -> None:
    membership = Membership((M(1, V), M(4, L), M(5, V), M(9, J)), 9)
    assert (membership.voters, membership.learners) == ((1, 5), (4, 9))
    assert membership.ids == (1, 4, 5, 9)
    assert membership.get(4) == M(4, L)
    assert membership.get(2) is None


def test_nobody_is_a_membership_to_begin_with() -> None:
    assert Membership.of_voters(()) == Membership((), 0)
    assert Membership.of_voters((3, 1)) == Membership((M(1, V), M(3, V)), 3)


def test_an_added_server_uses_up_all_ids_below_its_own() -> None:
    grown = THREE.with_added(M(7, J, "a:1", 3))
    assert (grown.ids, grown.last_used_id) == ((1, 2, 3, 7), 7)
    with pytest.raises(AssertionError):
        grown.with_added(M(5, L))
    assert grown.with_removed(7).last_used_id == 7


def test_a_server_that_replaces_keeps_its_errand_as_a_voter_until_the_other_has_gone() -> None:
    grown = THREE.with_added(M(4, J, "a:1", 3))
    promoted = grown.with_role(4, V)
    assert promoted.get(4) == M(4, V, "a:1", 3)
    assert promoted.with_removed(3).get(4) == M(4, V, "a:1", 0)
    assert grown.with_role(4, L).get(4) == M(4, L, "a:1", 0)


def test_each_change_leaves_the_rest_as_it_was() -> None:
    moved = THREE.with_address(2, "b:2")
    assert moved.members == (M(1, V), M(2, V, "b:2"), M(3, V))
    assert moved.with_role(1, L) == replace(moved, members=(M(1, L), *moved.members[1:]))
    assert THREE.members == (M(1, V), M(2, V), M(3, V))
    assert MEMBERS_MAX > 9
