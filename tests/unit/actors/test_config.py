"""Each mistake in a configuration file gets its own message: what, where, and what to do."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from actors.config import (
    FILE_BYTES_MAX,
    SEED_RAFT,
    ConfigurationError,
    Coordination,
    Member,
    host_key,
    host_problem,
    is_loopback,
    load_coordination,
    load_raft,
    local_coordination,
    parse_coordination,
    parse_raft,
)

ROOT = Path(__file__).parents[3]
SEED = dataclasses.asdict(SEED_RAFT)
THREE: list[Any] = [[1, "1.0.0.1", 7001], [2, "2.0.0.2", 7002], [3, "3.0.0.3", 7003]]


def servers(*entries: object) -> str:
    return json.dumps(list(entries))


def three_with(position: int, entry: object) -> str:
    return servers(*THREE[:position], entry, *THREE[position + 1 :])


def raft_with(**changes: object) -> str:
    return json.dumps({**SEED, **changes})


def raft_without(key: str) -> str:
    return json.dumps({name: value for name, value in SEED.items() if name != key})


# name: (text, what the entry contains, what the message contains, what the remedy contains)
BAD_COORDINATION: dict[str, tuple[str, str, str, str]] = {
    "empty file": ("", "line 1, column 1", "not JSON", "correct the JSON"),
    "not JSON": ('[\n  [1, "a", 7001],\n]', "line 3, column 1", "not JSON", "correct the JSON"),
    "JSON and more": ("[] []", "line 1, column 4", "not JSON", "correct the JSON"),
    "an object": ('{"1": []}', "", "not a list of servers but an object", "[1, "),
    "a string": ('"servers"', "", "not a list of servers but a string", "[1, "),
    "a number": ("7", "", "not a list of servers but a number", "[1, "),
    "a truth value": ("true", "", "not a list of servers but a truth value", "[1, "),
    "null": ("null", "", "not a list of servers but null", "[1, "),
    "duplicate key": ('[{"a": 1, "a": 2}]', '"a"', "there twice", "remove one"),
    "empty list": ("[]", "", "empty", "[1, "),
    "nested without end": ("[" * 100_000, "", "nested too deeply", "configuration file"),
    "number without end": (f"[{'9' * 5000}]", "", "too many digits", "ports"),
    "entry is an object": (three_with(1, {"id": 2}), "entry 2", "an object, not a list", "[1, "),
    "entry is null": (three_with(2, None), "entry 3", "null, not a list", "[1, "),
    "entry of two": (three_with(0, [1, "1.0.0.1"]), "entry 1", "a list of 2, not", "[1, "),
    "entry of four": (three_with(0, [1, "1.0.0.1", 1, 2]), "entry 1", "a list of 4, not", "[1, "),
    "id is a string": (three_with(0, ["1", "1.0.0.1", 1]), "entry 1", '"1" is not an int', "1, 2"),
    "id is true": (three_with(0, [True, "1.0.0.1", 1]), "entry 1", "true is not an int", "1, 2"),
    "id is a float": (three_with(0, [1.0, "1.0.0.1", 1]), "entry 1", "1.0 is not an int", "1, 2"),
    "id is null": (three_with(0, [None, "1.0.0.1", 1]), "entry 1", "null is not an int", "1, 2"),
    "id is NaN": ('[[NaN, "a", 7001]]', "entry 1", "NaN is not an int", "1, 2"),
    "id twice": (
        three_with(2, [1, "3.0.0.3", 1]),
        "entry 3",
        "1 is already used by entry 1",
        "to 3",
    ),
    "ids from zero": (three_with(2, [0, "3.0.0.3", 1]), "entry 3", "nobody has id 3", "1 to 3"),
    "id negative": (three_with(0, [-1, "3.0.0.4", 1]), "entry 1", "nobody has id 1", "1 to 3"),
    "a gap in ids": (three_with(2, [4, "3.0.0.3", 1]), "entry 3", "nobody has id 3", "1 to 3"),
    "two gaps in ids": (
        servers([7, "a", 1], [9, "b", 1], [1, "c", 1]),
        "entry 1",
        "nobody has id 2, 3",
        "1 to 3",
    ),
    "ten servers": (
        servers(*([i, f"10.0.0.{i}", 7001] for i in range(1, 11))),
        "entry 10",
        "9 are the most",
        "3 or 5",
    ),
    "address a number": (three_with(0, [1, 10, 7001]), "entry 1", "10 is not a string", "10.0.0.1"),
    "address empty": (three_with(0, [1, "", 7001]), "entry 1", "0 characters", "10.0.0.1"),
    "address too long": (three_with(0, [1, "a" * 300, 1]), "entry 1", "300 characters", "10.0.0.1"),
    "port not a number": (three_with(1, [2, "a", "7001"]), "entry 2", '"7001" is not', "7001"),
    "port true": (three_with(1, [2, "a", True]), "entry 2", "true is not an integer", "7001"),
    "port a float": (three_with(1, [2, "a", 7001.0]), "entry 2", "7001.0 is not", "7001"),
    "port null": (three_with(1, [2, "a", None]), "entry 2", "null is not an integer", "7001"),
    "port 0": (three_with(1, [2, "a", 0]), "entry 2", "0 is not an integer from 1", "7001"),
    "port 65536": (three_with(1, [2, "a", 65536]), "entry 2", "65536 is not", "7001"),
    "port negative": (three_with(1, [2, "a", -1]), "entry 2", "-1 is not", "7001"),
    "address and port twice": (
        three_with(2, [3, "1.0.0.1", 7001]),
        "entry 3",
        "already that of entry 1",
        "of its own",
    ),
    "one IPv6 address spelled twice": (
        servers([1, "fd00::1", 1], [2, "fd00:0:0::0001", 1], [3, "c", 1]),
        "entry 2",
        "already that of entry 1",
        "of its own",
    ),
    "localhost is 127.0.0.1": (
        servers([1, "127.0.0.1", 1], [2, "LocalHost.", 1], [3, "127.0.0.1", 3]),
        "entry 2",
        "already that of entry 1",
        "of its own",
    ),
    "one name in two cases": (
        servers([1, "db1.example", 1], [2, "DB1.example.", 1], [3, "db3.example", 1]),
        "entry 2",
        "already that of entry 1",
        "of its own",
    ),
}

BAD_HOSTS: dict[str, str] = {
    "0.0.0.0": "every address",
    "::": "every address",
    "::ffff:0.0.0.0": "every address",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "broadcast",
    "fe80::1%eth0": "network interface",
    "1.0.0.256": "neither",
    "1.0.0": "neither",
    "01.02.03.04": "neither",
    "1.0.0.1:7001": "neither",
    "[::1]": "neither",
    "http://db1": "neither",
    "db1/24": "neither",
    "db 1": "neither",
    "db1\n": "neither",
    "-db1": "neither",
    "db1-.example": "neither",
    "db1..example": "neither",
    ".": "neither",
    "a" * 64: "neither",
    "dätenbank": "neither",
    "\ud800": "neither",
}

GOOD_HOSTS = ["10.0.0.1", "fd00::1", "::1", "localhost", "db1", "db-1.example.com.", "db_1", "4db"]

BAD_RAFT: dict[str, tuple[str, str, str, str]] = {
    "empty file": ("", "line 1, column 1", "not JSON", "correct"),
    "not JSON": (
        '{\n  "election_timeout_min" 750\n}',
        "line 2, column 26",
        "not JSON",
        "correct the JSON there",
    ),
    "a list": ("[750, 1000]", "", "not a JSON object but a list", "election_timeout_min"),
    "null": ("null", "", "not a JSON object but null", "election_timeout_min"),
    "duplicate key": (
        raft_with()[:-1] + ', "heartbeat_interval": 5}',
        '"heartbeat_interval"',
        "there twice",
        "remove one",
    ),
    "a key misspelled": (
        raft_with(heartbeat_intervall=100),
        '"heartbeat_intervall"',
        "not known",
        "write heartbeat_interval",
    ),
    "a key nobody knows": (raft_with(zzz=1), '"zzz"', "not known", "remove it"),
    "min above max": (
        raft_with(election_timeout_min=1001),
        "election_timeout_min",
        "1001 is above election_timeout_max",
        "(1000) larger",
    ),
    "min equal to max": (
        raft_with(election_timeout_min=1000),
        "election_timeout_min",
        "1000 is equal to election_timeout_max",
        "split the vote",
    ),
    "heartbeat too slow": (
        raft_with(heartbeat_interval=251),
        "heartbeat_interval",
        "not well below election_timeout_min (750)",
        "at most 250",
    ),
    "replication shorter than an election": (
        raft_with(replication_timeout=999),
        "replication_timeout",
        "below election_timeout_max (1000)",
        "at least 1000",
    ),
    "time above an hour": (
        raft_with(replication_timeout=3_600_001),
        "replication_timeout",
        "more than an hour",
        "milliseconds",
    ),
    "time of 400 digits": (
        raft_with(replication_timeout=10**400),
        "replication_timeout",
        "more than an hour",
        "milliseconds",
    ),
    "threshold -2": (
        raft_with(log_size_snapshot_threshold=-2),
        "log_size_snapshot_threshold",
        "out of range",
        "-1 for no compaction",
    ),
    "threshold 0": (
        raft_with(log_size_snapshot_threshold=0),
        "log_size_snapshot_threshold",
        "out of range",
        "-1 for no compaction",
    ),
    "threshold 9": (
        raft_with(log_size_snapshot_threshold=9),
        "log_size_snapshot_threshold",
        "out of range",
        "from 10",
    ),
    "threshold without end": (
        raft_with(log_size_snapshot_threshold=10_000_001),
        "log_size_snapshot_threshold",
        "out of range",
        "-1 for no compaction",
    ),
}

NO_NUMBERS = ["true", "null", '"750"', "[750]", "{}", "NaN", "Infinity", "-Infinity", "1e999"]


def assert_says(error: ConfigurationError, entry: str, message: str, remedy: str) -> None:
    assert entry in error.entry
    assert bool(entry) == bool(error.entry)
    assert message in error.message
    assert remedy in error.remedy
    for part in (error.file, error.entry, error.message, error.remedy):
        assert part in str(error)
    assert len(str(error).splitlines()) == 2


@pytest.mark.parametrize("case", BAD_COORDINATION)
def test_bad_coordination(case: str) -> None:
    text, entry, message, remedy = BAD_COORDINATION[case]
    with pytest.raises(ConfigurationError) as caught:
        parse_coordination(text, "c.json")
    assert caught.value.file == "c.json"
    assert_says(caught.value, entry, message, remedy)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_host(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_coordination(three_with(1, [2, host, 7002]), "c.json")
    assert_says(caught.value, "entry 2", BAD_HOSTS[host], "by which the other servers reach")


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_good_host(host: str) -> None:
    assert parse_coordination(three_with(1, [2, host, 7002])).members[1].host == host


@pytest.mark.parametrize("case", BAD_RAFT)
def test_bad_raft(case: str) -> None:
    text, entry, message, remedy = BAD_RAFT[case]
    with pytest.raises(ConfigurationError) as caught:
        parse_raft(text, "r.json")
    assert caught.value.file == "r.json"
    assert_says(caught.value, entry, message, remedy)


@pytest.mark.parametrize("key", SEED)
def test_raft_key_missing(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_raft(raft_without(key), "r.json")
    assert_says(caught.value, key, "missing", f'"{key}": {SEED[key]}')


@pytest.mark.parametrize("key", SEED)
@pytest.mark.parametrize("literal", NO_NUMBERS)
def test_raft_value_is_no_number(key: str, literal: str) -> None:
    text = raft_with(**{key: "@"}).replace('"@"', literal)
    with pytest.raises(ConfigurationError) as caught:
        parse_raft(text, "r.json")
    assert_says(caught.value, key, "is not a number", "whole number of")


@pytest.mark.parametrize("key", SEED)
@pytest.mark.parametrize("value", [0.5, 750.0, 1e300])
def test_raft_value_is_not_whole(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_raft(raft_with(**{key: value}), "r.json")
    assert_says(caught.value, key, "is not a whole number", "whole number of")


@pytest.mark.parametrize("key", list(SEED)[:4])
@pytest.mark.parametrize("value", [0, -1, -750])
def test_raft_time_is_not_positive(key: str, value: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_raft(raft_with(**{key: value}), "r.json")
    assert_says(caught.value, key, f"{value} is not positive", "milliseconds")


def test_raft_boundaries_are_allowed() -> None:
    config = parse_raft(
        raft_with(
            election_timeout_min=999,
            heartbeat_interval=333,
            replication_timeout=1000,
            log_size_snapshot_threshold=10,
        )
    )
    assert config.heartbeat_interval == 333
    assert config.compacts


def test_no_compaction() -> None:
    assert not parse_raft(raft_with(log_size_snapshot_threshold=-1)).compacts


def test_values_built_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="heartbeat_interval"):
        dataclasses.replace(SEED_RAFT, heartbeat_interval=500).validate()
    with pytest.raises(ConfigurationError, match="already used by entry 1"):
        Coordination((Member(1, "a", 1), Member(1, "b", 1))).validate()
    with pytest.raises(ConfigurationError, match="9 are the most"):
        local_coordination(10)
    with pytest.raises(ConfigurationError, match="65536"):
        local_coordination(3, rpc_port=65534)


def test_members_are_ordered_by_id() -> None:
    coordination = parse_coordination(servers(*reversed(THREE)))
    assert [tuple(entry) for entry in THREE] == [
        dataclasses.astuple(member) for member in coordination.members
    ]
    assert coordination.member(2) == Member(2, "2.0.0.2", 7002)
    assert coordination.member(4) is None
    assert coordination.warnings == ()


@pytest.mark.parametrize(
    ("hosts", "warning"),
    [
        (["a", "b"], "a cluster of 2 servers survives 0 failures, no more than one of 1"),
        (["a", "b", "c", "d"], "a cluster of 4 servers survives 1 failures, no more than one of 3"),
        (["a"], "no spare"),
        (["a", "b", "127.0.0.1"], "server 3 has a loopback address"),
    ],
)
def test_warnings(hosts: list[str], warning: str) -> None:
    coordination = parse_coordination(servers(*([i, h, 1] for i, h in enumerate(hosts, 1))))
    assert len(coordination.warnings) == 1
    assert warning in coordination.warnings[0]


def test_loopback() -> None:
    assert local_coordination().all_loopback
    assert not parse_coordination(servers(*THREE)).all_loopback
    assert is_loopback("127.9.9.9") and is_loopback("::1") and is_loopback("LOCALHOST.")
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("0.0.0.0") and not is_loopback("db1")
    assert host_key("FD00::0:1") == "fd00::1"
    assert host_problem("0.0.0.0", listening=True) is None
    assert host_problem("224.0.0.1", listening=True) is not None


@pytest.mark.parametrize("load", [load_coordination, load_raft])
class TestFiles:
    """What can be wrong with a file before its text is looked at."""

    def error(self, load: Any, path: Path) -> ConfigurationError:
        with pytest.raises(ConfigurationError) as caught:
            load(path)
        assert caught.value.file == str(path)
        assert str(path) in str(caught.value)
        assert caught.value.remedy in str(caught.value)
        return caught.value

    def test_missing(self, load: Any, tmp_path: Path) -> None:
        assert "does not exist" in self.error(load, tmp_path / "none.json").message

    def test_in_a_missing_directory(self, load: Any, tmp_path: Path) -> None:
        assert "does not exist" in self.error(load, tmp_path / "none" / "c.json").message

    def test_below_a_file(self, load: Any, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot be read" in self.error(load, tmp_path / "file" / "c.json").message

    def test_a_directory(self, load: Any, tmp_path: Path) -> None:
        assert "a directory" in self.error(load, tmp_path).message

    def test_a_pipe_does_not_block(self, load: Any, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in self.error(load, tmp_path / "pipe").message

    def test_a_link_to_itself(self, load: Any, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        assert "cannot be read" in self.error(load, tmp_path / "loop").message

    def test_a_name_no_file_can_have(self, load: Any, tmp_path: Path) -> None:
        assert "cannot be read" in self.error(load, tmp_path / ("x" * 300)).message
        assert "cannot be read" in self.error(load, Path(f"{tmp_path}/a\0b")).message

    def test_unreadable(self, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "c.json").touch()
        monkeypatch.setattr("builtins.open", refuse)  # file modes do not stop root
        error = self.error(load, tmp_path / "c.json")
        assert "cannot be read: Permission denied" in error.message
        assert "can read" in error.remedy

    def test_too_large(self, load: Any, tmp_path: Path) -> None:
        (tmp_path / "c.json").write_bytes(b" " * (FILE_BYTES_MAX + 1))
        assert "larger than 1048576 bytes" in self.error(load, tmp_path / "c.json").message

    def test_not_utf8(self, load: Any, tmp_path: Path) -> None:
        (tmp_path / "c.json").write_bytes(b'[\n[1, "\xff", 7001]]')
        error = self.error(load, tmp_path / "c.json")
        assert "not UTF-8" in error.message
        assert error.entry == "line 2"

    def test_utf16(self, load: Any, tmp_path: Path) -> None:
        (tmp_path / "c.json").write_text("[]", encoding="utf-16")
        assert "not UTF-8" in self.error(load, tmp_path / "c.json").message


def test_byte_order_mark_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(raft_with(), encoding="utf-8-sig")
    assert load_raft(tmp_path / "r.json") == SEED_RAFT


def test_the_files_of_the_project_are_the_defaults() -> None:
    assert load_raft(ROOT / "raft.json") == SEED_RAFT
    assert load_coordination(ROOT / "coordination.json") == local_coordination()
