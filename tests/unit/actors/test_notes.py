"""Notes between servers: there and back, told from Raft's messages, and damage is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_cluster import LittleCluster

from actors.notes import (
    DigestFound,
    DiskNearlyFull,
    ImageChunk,
    ImageWanted,
    Note,
    decode_note,
    encode_note,
    is_note,
)
from actors.raft import codec
from actors.raft.messages import VoteRequest
from actors.server import FromPeer

U64 = st.integers(0, 2**64 - 1)
NOTES = st.one_of(
    st.builds(DigestFound, U64, st.binary(min_size=16, max_size=16)),
    st.builds(ImageWanted, U64, U64, U64, U64),
    st.builds(ImageChunk, U64, U64, U64, U64, st.binary(max_size=40)),
    st.builds(DiskNearlyFull, U64),
)


@given(NOTES)
def test_there_and_back(note: Note) -> None:
    data = encode_note(note)
    assert is_note(data)
    assert decode_note(data) == note


@given(NOTES)
def test_cut_short_is_refused(note: Note) -> None:
    data = encode_note(note)
    whole = 33 if isinstance(note, ImageChunk) else len(data)
    for size in range(whole):
        with pytest.raises(ValueError, match="damaged"):
            decode_note(data[:size])


@given(st.binary(max_size=60))
def test_noise_is_refused_or_is_a_note(data: bytes) -> None:
    try:
        assert encode_note(decode_note(data)) == data
    except ValueError:
        pass


def test_rafts_messages_are_none() -> None:
    assert not is_note(codec.encode(VoteRequest(1, 2, 3, 4, 5)))
    assert not is_note(b"")


def test_a_server_drops_what_it_cannot_read() -> None:
    cluster = LittleCluster()
    leader = cluster.leader()
    other = next(s for s in cluster.servers.values() if s is not leader)
    dropped = leader.core.dropped
    leader.inbox.post(FromPeer(other.assembly.sender.seal([b"\xd1 cut short", b"\xd2"])))
    cluster.settle()
    assert leader.core.dropped == dropped + 2
    assert leader.leads
