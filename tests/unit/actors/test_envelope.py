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


# --- Directories ----------------------------------------------------------------------------------

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


def member(server_id: int = 1, **options: object) -> Sender:
    """A server of a cluster of three, which has met nobody yet."""
    sender = Sender(server_id, 1, ONE, "aa" * 8, **options)  # type: ignore[arg-type]
    sender.set_members({1: "", 2: "", 3: ""})
    return sender


def test_a_member_that_lost_its_directory_is_refused() -> None:
    kept: dict[int, str] = {}
    receiver = member(on_met=kept.__setitem__)
    assert opened(receiver, Sender(2, 5, ONE, FIRST).seal([b"x"])) == [b"x"]
    assert kept == {2: FIRST}
    refusals: dict[int, str] = {}
    # It may know the cluster already or not, and count its lives anew or not.
    for incarnation, cluster in [(1, ""), (6, ""), (1, ONE), (6, ONE)]:
        emptied = Sender(2, incarnation, cluster, SECOND)
        assert receiver.open(emptied.seal([b"y"]), refusals) == []
        assert "REPLACE SERVER 2" in refusals.pop(2)
        assert "REPLACE SERVER 2" in receiver.objection(2, incarnation, SECOND, cluster)
        assert not receiver.met(2, incarnation, SECOND)
    assert opened(receiver, Sender(2, 6, ONE, FIRST).seal([b"z"])) == [b"z"]
    assert kept == {2: FIRST}


def test_a_directory_is_durable_before_its_first_message_counts() -> None:
    order: list[str] = []
    receiver = member(on_met=lambda server, directory: order.append("kept"))
    order += [m.decode() for m in opened(receiver, Sender(2, 1, ONE, FIRST).seal([b"taken"]))]
    assert order == ["kept", "taken"]


def test_what_was_remembered_holds_after_a_restart() -> None:
    receiver = member(peers={2: FIRST})
    assert opened(receiver, Sender(2, 1, "", SECOND).seal([b"x"])) == []
    assert opened(receiver, Sender(2, 1, ONE, FIRST).seal([b"x"])) == [b"x"]


def test_an_introduction_tells_of_directories_of_others() -> None:
    first, second = member(1), member(3)
    first.met(2, 4, FIRST)
    # Server 3 never met server 2; server 1 tells it whose directory is the right one.
    second.met(1, 1, first.directory, first.known_directories.items())
    assert opened(second, Sender(2, 1, "", SECOND).seal([b"x"])) == []
    assert second.known_directories == {1: first.directory, 2: FIRST}


def test_hearsay_changes_nothing_that_is_known() -> None:
    receiver = member(peers={2: FIRST})
    receiver.met(3, 1, SECOND, [(2, SECOND), (1, SECOND)])
    assert receiver.known_directories == {2: FIRST, 3: SECOND}


def test_the_membership_says_which_directory_an_added_server_has() -> None:
    receiver = member()
    receiver.set_members({1: "", 2: "", 3: "", 4: FIRST})
    assert opened(receiver, Sender(4, 1, "", SECOND).seal([b"x"])) == []
    assert opened(receiver, Sender(4, 1, "", FIRST).seal([b"x"])) == [b"x"]
    receiver.set_members({1: "", 2: "", 3: ""})  # the entry was truncated: nothing is known
    assert opened(receiver, Sender(4, 1, "", SECOND).seal([b"x"])) == [b"x"]


def test_who_is_no_member_is_not_remembered() -> None:
    kept: dict[int, str] = {}
    receiver = member(on_met=kept.__setitem__)
    assert opened(receiver, Sender(4, 9, "", FIRST).seal([b"x"])) == [b"x"]
    # Its directory was emptied before it was ever added: no harm, and its lives count anew.
    assert opened(receiver, Sender(4, 1, "", SECOND).seal([b"x"])) == [b"x"]
    assert receiver.met(4, 2, SECOND)
    assert kept == {}
