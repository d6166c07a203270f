"""Who a server takes messages from: its own cluster, and the newest life of each peer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.envelope import Sender

ONE = "0123456789abcdef" * 2
OTHER = "f" * 32


def opened(receiver: Sender, data: bytes) -> list[bytes]:
    return receiver.open(data, {})


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_messages_there_and_back(messages: list[bytes]) -> None:
    assert opened(Sender(1, 1, ONE), Sender(2, 7, ONE).seal(messages)) == messages


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3), st.data())
def test_of_a_cut_envelope_only_whole_messages_are_taken(
    messages: list[bytes], data: st.DataObject
) -> None:
    sealed = Sender(2, 7, ONE).seal(messages)
    cut = data.draw(st.integers(0, len(sealed) - 1))
    found = opened(Sender(1, 1, ONE), sealed[:cut])
    assert found == messages[: len(found)]


def test_an_older_life_is_refused_once_a_newer_is_known() -> None:
    receiver = Sender(1, 1, ONE)
    refusals: dict[int, str] = {}
    old, new = Sender(2, 3, ONE), Sender(2, 4, ONE)
    assert receiver.open(old.seal([b"a"]), refusals) == [b"a"]
    assert receiver.open(new.seal([b"b"]), refusals) == [b"b"]
    assert receiver.open(old.seal([b"c"]), refusals) == []
    assert refusals == {2: "is incarnation 3; 4 is known already"}
    assert receiver.open(new.seal([b"d"]), refusals) == [b"d"]
    assert refusals == {}


def test_an_introduction_counts_as_being_heard_of() -> None:
    receiver = Sender(1, 1, ONE)
    assert receiver.met(2, 5)
    assert not receiver.met(2, 5)
    assert not receiver.met(2, 4)
    assert opened(receiver, Sender(2, 4, ONE).seal([b"x"])) == []
    assert opened(receiver, Sender(3, 4, ONE).seal([b"x"])) == [b"x"]


def test_another_cluster_is_refused() -> None:
    receiver = Sender(1, 1, ONE)
    refusals: dict[int, str] = {}
    assert receiver.open(Sender(2, 9, OTHER).seal([b"x"]), refusals) == []
    assert OTHER in refusals[2]
    # The stranger's incarnation must not shut out the true peer of that number.
    assert opened(receiver, Sender(2, 1, ONE).seal([b"x"])) == [b"x"]


def test_a_server_without_a_cluster_talks_to_any() -> None:
    newcomer, member = Sender(1, 1, ""), Sender(2, 1, ONE)
    assert newcomer.cluster_id == ""
    assert opened(newcomer, member.seal([b"x"])) == [b"x"]
    assert opened(member, newcomer.seal([b"y"])) == [b"y"]
    newcomer.join(ONE)
    assert newcomer.cluster_id == ONE
    assert opened(newcomer, member.seal([b"x"])) == [b"x"]
    assert opened(newcomer, Sender(3, 1, OTHER).seal([b"x"])) == []


def test_another_format_is_refused_and_noise_ignored() -> None:
    receiver = Sender(1, 1, ONE)
    refusals: dict[int, str] = {}
    sealed = bytearray(Sender(2, 1, ONE).seal([b"x"]))
    sealed[0] = 9
    assert receiver.open(bytes(sealed), refusals) == []
    assert "format 9" in refusals[2]
    assert opened(receiver, b"") == []
    assert opened(receiver, b"noise") == []
