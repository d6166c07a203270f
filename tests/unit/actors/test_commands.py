"""Log entries' payloads: round trips, damage, and pieces of large ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import commands
from actors.commands import (
    DIGEST_ASKED,
    FRAGMENT_BYTES,
    ClusterNamed,
    Command,
    DigestAgreed,
    DigestAsked,
    Named,
    TransactionId,
    Transactions,
)
from actors.raft.messages import EntryKind
from graph.errors import CorruptionError

U64 = st.integers(0, 2**64 - 1)
IDS = st.lists(st.builds(TransactionId, U64, U64, U64), max_size=4)
WRITE_SETS = st.lists(st.binary(max_size=30), max_size=4)
CLUSTER = "0123456789abcdef" * 2


NAMES = st.lists(st.builds(Named, st.binary(min_size=1, max_size=255), st.booleans()), max_size=4)


def encode(command: Command) -> bytes:
    match command:
        case ClusterNamed():
            return commands.encode_cluster(command.cluster_id)
        case DigestAsked():
            return DIGEST_ASKED
        case DigestAgreed():
            return commands.encode_digest(command.index, command.digest)
        case Transactions():
            return commands.encode_transactions(command.ids, command.write_sets, command.names)


@given(IDS, WRITE_SETS, NAMES)
def test_transactions_there_and_back(
    ids: list[TransactionId], write_sets: list[bytes], names: list[Named]
) -> None:
    payload = commands.encode_transactions(ids, write_sets, names)
    assert commands.decode(payload) == Transactions(tuple(ids), tuple(write_sets), tuple(names))


def test_transactions_without_names_are_written_as_ever() -> None:
    payload = commands.encode_transactions([TransactionId(1, 2, 3)], [b"w"])
    assert payload[:2] == b"\1\1"


@given(U64, st.binary(min_size=16, max_size=16))
def test_digests_there_and_back(index: int, digest: bytes) -> None:
    assert commands.decode(DIGEST_ASKED) == DigestAsked()
    payload = commands.encode_digest(index, digest)
    assert commands.decode(payload) == DigestAgreed(index, digest)
    for damaged in (payload[:-1], payload + b"x", DIGEST_ASKED + b"x"):
        with pytest.raises(CorruptionError):
            commands.decode(damaged)


def test_cluster_there_and_back() -> None:
    assert commands.decode(commands.encode_cluster(CLUSTER)) == ClusterNamed(CLUSTER)


@given(
    st.binary(max_size=80)
    | st.builds(
        lambda kind, data: bytes((1, kind)) + data, st.integers(1, 5), st.binary(max_size=80)
    )
)
def test_what_is_decoded_is_what_was_encoded(payload: bytes) -> None:
    try:
        command = commands.decode(payload)
    except CorruptionError:
        return
    assert encode(command) == payload


@given(st.lists(st.builds(TransactionId, U64, U64, U64), min_size=1, max_size=3), WRITE_SETS)
def test_a_payload_cut_short_is_refused(ids: list[TransactionId], write_sets: list[bytes]) -> None:
    names = [Named(b"a", True), Named(b"bc", False)][: len(ids) - 1]
    payload = commands.encode_transactions(ids, write_sets, names)
    ends = {len(commands.encode_transactions(ids, write_sets[:n], names)) for n in range(5)}
    for size in set(range(len(payload))) - ends:
        with pytest.raises(CorruptionError):
            commands.decode(payload[:size])


@pytest.mark.parametrize(
    "name", ["", "0123", CLUSTER + "0", CLUSTER[:-1] + "g", CLUSTER[:-1] + " ", CLUSTER.upper()]
)
def test_a_cluster_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(CorruptionError, match="names no cluster"):
        commands.decode(commands.encode_cluster(name))


@pytest.mark.parametrize("payload", [b"\2\1\0\0\0\0", b"\1\x63", b"\0\0"])
def test_a_newer_form_says_what_to_do(payload: bytes) -> None:
    with pytest.raises(CorruptionError, match="upgrade this server"):
        commands.decode(payload)


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (0, 1),
        (1, 1),
        (FRAGMENT_BYTES, 1),
        (FRAGMENT_BYTES + 1, 2),
        (2 * FRAGMENT_BYTES, 2),
        (3 * FRAGMENT_BYTES - 1, 3),
    ],
)
def test_a_large_payload_becomes_several_entries(size: int, pieces: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    entries = commands.split(payload)
    assert len(entries) == pieces
    assert [kind for kind, _ in entries[:-1]] == [EntryKind.FRAGMENT] * (pieces - 1)
    assert entries[-1][0] is EntryKind.COMMAND
    assert b"".join(data for _, data in entries) == payload
    assert max(len(data) for _, data in entries) <= FRAGMENT_BYTES
