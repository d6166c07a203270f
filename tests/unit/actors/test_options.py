"""The command line: every mistake ends with status 2, a message that helps, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.config import SEED_RAFT, ConfigurationError, local_coordination
from actors.identity import DataDirectory
from actors.options import LaunchPlan, check, parse, plan_launch

ROOT = Path(__file__).parents[3]
SEED_RAFT_TEXT = (ROOT / "raft.json").read_text()
LOCAL_TEXT = (ROOT / "coordination.json").read_text()
REMOTE_TEXT = json.dumps([[i, f"10.0.0.{i}", 7001] for i in (1, 2, 3)])
PUBLIC = "--insecure-bolt-without-authentication"
FILES = ["--coordination_config_file=c.json", "--raft_config_file=r.json"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory but for two good files, c.json and r.json."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text(LOCAL_TEXT)
    (tmp_path / "r.json").write_text(SEED_RAFT_TEXT)
    return tmp_path


def plan(*argv: str) -> LaunchPlan:
    return check(parse(argv))


def contents(directory: Path) -> dict[str, bytes | None]:
    """Every name below ``directory``, with what files hold."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def refusal(capsys: pytest.CaptureFixture[str], directory: Path, *argv: str) -> str:
    """What a command says that must end with status 2, having started and written nothing."""
    before = contents(directory)
    with pytest.raises(SystemExit) as end:
        plan(*argv)
    output = capsys.readouterr()
    assert end.value.code == 2
    assert output.out == ""
    assert contents(directory) == before
    return output.err


# name: (arguments, what the message contains)
BAD_FLAGS: dict[str, tuple[list[str], list[str]]] = {
    "unknown": (["--server_ids", "1"], ["--server_ids", "--server_id"]),
    "no value": (["--port"], ["--port", "requires an argument"]),
    "argument": (["start"], ["unexpected extra argument", "start"]),
    "id without files": (
        ["--server_id", "1"],
        ["--server_id needs --coordination_config_file and --raft_config_file", "leave"],
    ),
    "id without coordination": (
        ["--server_id", "1", "--raft_config_file", "r.json"],
        ["--server_id needs --coordination_config_file", "add --coordination_config_file"],
    ),
    "id without raft": (
        ["--server_id", "1", "--coordination_config_file", "c.json"],
        ["--server_id needs --raft_config_file", "add --raft_config_file"],
    ),
    "coordination without raft": (
        ["--coordination_config_file", "c.json"],
        ["--coordination_config_file needs --raft_config_file", "add --raft_config_file"],
    ),
    "raft without coordination": (
        ["--raft_config_file", "r.json"],
        ["--raft_config_file needs --coordination_config_file", "leave both out"],
    ),
    "coordination empty": (["--coordination_config_file="], ["the name of the file is empty"]),
    "raft empty": (["--raft_config_file", ""], ["the name of the file is empty"]),
    "id not a number": ([*FILES, "--server_id=one"], ["--server_id", '"one"', "write a number"]),
    "id a fraction": ([*FILES, "--server_id=1.0"], ["--server_id", '"1.0"', "write a number"]),
    "id negative": ([*FILES, "--server_id=-1"], ["--server_id", '"-1"', "write a number"]),
    "id with a space": ([*FILES, "--server_id= 1"], ["--server_id", '" 1"', "write a number"]),
    "id in other digits": ([*FILES, "--server_id=١"], ["--server_id", "write a number"]),
    "id huge": ([*FILES, "--server_id", "9" * 5000], ["--server_id", "write a number"]),
    "id 0": ([*FILES, "--server_id=0"], ["--server_id 0", "c.json lists no server 0", "1 to 3"]),
    "id 4": ([*FILES, "--server_id=4"], ["--server_id 4", "c.json lists no server 4", "1 to 3"]),
    "port not a number": (["--port", "bolt"], ["--port", '"bolt"', "7687"]),
    "port 0": (["--port", "0"], ["--port", "0 is not a port", "7687"]),
    "port 65536": (["--port=65536"], ["--port", "65536 is not a port", "7687"]),
    "port without room": (["--port=65534"], ["--port", "3 servers", "65536", "at most 65533"]),
    "port without room, files": ([*FILES, "--port=65535"], ["--port", "65537", "at most 65533"]),
    "port is an RPC port": (
        [*FILES, "--port=6999"],
        ["--port", "7001, the Bolt port of server 3, is the RPC port of server 1", "another"],
    ),
    "port is the own RPC port": (
        [*FILES, "--server_id=2", "--port=7002"],
        ["--port", "7002, the Bolt port of server 2, is the RPC port of server 2", "another"],
    ),
    "bolt address empty": (["--bolt_address="], ["--bolt_address", "0 characters", "127.0.0.1"]),
    "bolt address with port": (["--bolt_address=127.0.0.1:7687"], ["neither", "without a port"]),
    "bolt address multicast": (["--bolt_address=224.0.0.1", PUBLIC], ["multicast", "127.0.0.1"]),
    "bolt address public": (["--bolt_address=10.0.0.1"], ["--bolt_address", "password", PUBLIC]),
    "bolt address any": (["--bolt_address", "0.0.0.0"], ["--bolt_address", "password", PUBLIC]),
    "bolt address any, IPv6": (["--bolt_address", "::"], ["--bolt_address", "password", PUBLIC]),
    "bolt address a name": (["--bolt_address", "db1"], ["--bolt_address", "password", PUBLIC]),
    "directory empty": (["--durability_directory="], ["--durability_directory", "is empty"]),
    "directory is a file": (["--durability_directory=c.json"], ["c.json is a file, not a dir"]),
    "directory below a file": (["--durability_directory=c.json/a/b"], ["c.json is a file"]),
    "directory name too long": (["--durability_directory", "x" * 300], ["cannot be used"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, parts = BAD_FLAGS[case]
    message = refusal(capsys, here, *arguments)
    for part in parts:
        assert part in message


# name: (file that is replaced, its new text (None: removed), what the message contains)
BAD_FILES: dict[str, tuple[str, str | None, list[str]]] = {
    "coordination missing": ("c.json", None, ["does not exist", "create it"]),
    "coordination not JSON": ("c.json", "[1,", ["line 1, column 4", "not JSON", "correct"]),
    "coordination an object": ("c.json", "{}", ["not a list", "list each server"]),
    "coordination empty": ("c.json", "[]", ["empty", "list each server"]),
    "coordination pairs": ("c.json", '[[1, "a"]]', ["entry 1", "a list of 2", "write it like"]),
    "id twice": ("c.json", '[[1,"a",1],[1,"b",1]]', ["entry 2", "already used", "number the 2"]),
    "ids with a gap": ("c.json", '[[1,"a",1],[3,"b",1]]', ["entry 2", "nobody has id 2", "1 to 2"]),
    "id a string": ("c.json", '[["1","a",1]]', ["entry 1", "not an integer", "number the servers"]),
    "bad address": ("c.json", '[[1,"1.2.3.4.5",1]]', ["entry 1", "neither", "write the address"]),
    "unreachable": ("c.json", '[[1,"0.0.0.0",1]]', ["entry 1", "every address", "write the add"]),
    "bad port": ("c.json", '[[1,"a",70000]]', ["entry 1", "70000", "write a free port"]),
    "same place": ("c.json", '[[1,"a",1],[2,"a",1]]', ["entry 2", "already that of", "of its own"]),
    "raft missing": ("r.json", None, ["does not exist", "create it"]),
    "raft not JSON": ("r.json", "{,}", ["line 1, column 2", "not JSON", "correct"]),
    "raft a list": ("r.json", "[]", ["not a JSON object", "write an object"]),
    "raft key missing": ("r.json", "{}", ["election_timeout_min", "missing", "add it"]),
    "raft key unknown": (
        "r.json",
        SEED_RAFT_TEXT.replace("heartbeat_interval", "heartbeat"),
        ['"heartbeat"', "not known", "write heartbeat_interval"],
    ),
    "raft no number": (
        "r.json",
        SEED_RAFT_TEXT.replace("750", '"750"'),
        ["election_timeout_min", '"750" is not a number', "write a whole number"],
    ),
    "raft min above max": (
        "r.json",
        SEED_RAFT_TEXT.replace("750", "1750"),
        ["election_timeout_min", "1750 is above election_timeout_max", "larger than"],
    ),
    "raft heartbeat": (
        "r.json",
        SEED_RAFT_TEXT.replace("100,", "700,"),
        ["heartbeat_interval", "not well below election_timeout_min", "at most 250"],
    ),
    "raft threshold": (
        "r.json",
        SEED_RAFT_TEXT.replace("50000", "-2"),
        ["log_size_snapshot_threshold", "-2 is out of range", "-1 for no compaction"],
    ),
}


@pytest.mark.parametrize("arguments", [FILES, [*FILES, "--server_id", "1"]], ids=["all", "one"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(
    case: str, arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text, parts = BAD_FILES[case]
    (here / name).unlink()
    if text is not None:
        (here / name).write_text(text)
    message = refusal(capsys, here, *arguments)
    for part in [f"memgraph_ha: {name}", "To fix this, ", *parts]:
        assert part in message


class TestDirectories:
    def test_server_directory_is_a_file(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (here / "rayft_data").mkdir()
        (here / "rayft_data" / "server_2").touch()
        assert f"{here}/rayft_data/server_2 is a file" in refusal(capsys, here)
        plan("--server_id=1", *FILES)  # which is none of server 1's business

    def test_dangling_link(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "rayft_data").symlink_to("nowhere")
        assert "rayft_data is a symbolic link that leads nowhere" in refusal(capsys, here)

    def test_link_to_itself(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "rayft_data").symlink_to("rayft_data")
        assert "cannot be used" in refusal(capsys, here)

    def test_shared_by_link(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "rayft_data" / "server_1").mkdir(parents=True)
        (here / "rayft_data" / "server_3").symlink_to("server_1")
        message = refusal(capsys, here)
        assert "rayft_data/server_1 would be the data directory of 2 servers" in message
        assert "remove the symbolic links" in message

    def test_not_writable(
        self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def refuse(path: Path, mode: int) -> bool:
            asked.append((path, mode))
            return False

        monkeypatch.setattr("os.access", refuse)  # file modes do not stop root
        message = refusal(capsys, here, "--durability_directory=a/b")
        assert asked == [(here, os.W_OK | os.X_OK)]  # the nearest one that is there
        assert f"{here}/a/b/server_1 cannot be written to: {here} is not writable" in message

    def test_another_hosts_directories_are_its_own_affair(self, here: Path) -> None:
        (here / "c.json").write_text(REMOTE_TEXT)
        (here / "rayft_data").touch()
        assert plan(*FILES).mode == "all"
        with pytest.raises(SystemExit):
            plan(*FILES, "--server_id=1")

    def test_tilde(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(here))
        options = parse(["--durability_directory=~/data"])
        assert options.durability_directory == here / "data"


def test_no_flags(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    result = plan()
    assert result.mode == "local-default"
    assert result.coordination == local_coordination(3)
    assert result.raft == SEED_RAFT
    assert result.bolt_address == "127.0.0.1"
    assert [server.bolt_port for server in result.servers] == [7687, 7688, 7689]
    assert [server.directory for server in result.servers] == [
        here / "rayft_data" / f"server_{i}" for i in (1, 2, 3)
    ]
    assert result.warnings == ()
    assert contents(here) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("port", range(6997, 7007))
def test_without_files_rpc_ports_make_way(here: Path, port: int) -> None:
    result = plan("--port", str(port))
    ports = [server.bolt_port for server in result.servers]
    ports += [member.rpc_port for member in result.coordination.members]
    assert len(set(ports)) == 6


def test_all_servers_of_a_file(here: Path) -> None:
    (here / "c.json").write_text('[[3, "localhost", 1], [1, "127.0.0.1", 2], [2, "10.0.0.1", 1]]')
    result = plan(*FILES, "--port=9000")
    assert result.mode == "all"
    assert [(s.member.server_id, s.bolt_port) for s in result.servers] == [
        (1, 9000),
        (2, 9000),
        (3, 9001),
    ]


@pytest.mark.parametrize("text", [LOCAL_TEXT, REMOTE_TEXT])
@pytest.mark.parametrize("server_id", [1, 2, 3])
def test_one_server(here: Path, text: str, server_id: int) -> None:
    (here / "c.json").write_text(text)
    result = plan(*FILES, f"--server_id={server_id}", "--port", "9000")
    assert result.mode == "one"
    assert len(result.coordination.members) == 3
    (server,) = result.servers
    assert server.member == result.coordination.member(server_id)
    assert server.bolt_port == 9000
    assert server.directory == here / "rayft_data" / f"server_{server_id}"


def test_every_spelling_of_a_flag(here: Path) -> None:
    values = {
        "server_id": "2",
        "coordination_config_file": "c.json",
        "raft_config_file": "r.json",
        "port": "8000",
        "durability_directory": "data",
        "bolt_address": "::1",
    }
    dashed = {name.replace("_", "-"): value for name, value in values.items()}
    spellings = [
        [word for name, value in names.items() for word in write(name, value)]
        for names in (values, dashed)
        for write in (lambda n, v: [f"--{n}", v], lambda n, v: [f"--{n}={v}"])
    ]
    first, *others = [parse(arguments) for arguments in spellings]
    assert first.server_id == 2
    assert first.port == 8000
    assert first.bolt_address == "::1"
    assert first.durability_directory == here / "data"
    assert others == [first] * 3
    assert parse([PUBLIC.replace("bolt-without", "bolt_without")]) == parse([PUBLIC])


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "::", "db1"])
def test_public_bolt_address_by_name(here: Path, address: str) -> None:
    result = plan("--bolt_address", address, PUBLIC)
    assert result.bolt_address == address
    assert len(result.warnings) == 1
    assert f"everybody who can reach {address}" in result.warnings[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_bolt_address(here: Path, address: str) -> None:
    assert plan("--bolt_address", address).warnings == ()


def test_even_cluster_warns(here: Path) -> None:
    (here / "c.json").write_text('[[1, "10.0.0.1", 1], [2, "10.0.0.2", 1]]')
    (warning,) = plan(*FILES).warnings
    assert "odd number" in warning


def test_plan_launch_raises_for_programs(here: Path) -> None:
    (here / "c.json").write_text("[]")
    with pytest.raises(ConfigurationError) as caught:
        plan_launch(parse(FILES))
    assert caught.value.file == "c.json"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name in ("server_id", "coordination_config_file", "raft_config_file", "port"):
        assert f"--{name}" in text
    for word in ("--durability_directory", "--bolt_address", PUBLIC, "7687", "rayft_data"):
        assert word in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--version", "--port", "nonsense"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("memgraph_ha of rayft ")


def test_arguments_of_the_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memgraph_ha", "--port", "8000"])
    assert parse().port == 8000


def test_a_mistake_is_answered_before_anything_heavy_is_loaded(here: Path) -> None:
    code = (
        "import sys, actors.options; "
        "heavy = {'ray', 'numpy', 'neo4j', 'asyncio', 'rich', 'structlog'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class TestMembersOfARunningCluster:
    """What is started follows the directories, because the log and not the file has the members."""

    @staticmethod
    def ran(here: Path, server_id: int, *, removed: bool = False) -> None:
        directory = DataDirectory.open(here / "rayft_data" / f"server_{server_id}", server_id)
        if removed:
            directory.mark_removed()
        directory.close()

    def test_a_joining_server_needs_its_own_entry_and_another(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (here / "c.json").write_text('[[4, "10.0.0.4", 7001], [1, "10.0.0.1", 7001]]')
        flags = [*FILES, "--join"]
        joining = plan(*flags, "--server_id=4")
        (server,) = joining.servers
        assert (server.joins, server.address, server.bolt_port) == (True, "10.0.0.4:7001", 7687)
        assert joining.coordination.members[0].server_id == 1
        assert joining.warnings == ()
        assert "add an entry" in refusal(capsys, here, *flags, "--server_id=5")
        assert "--join" in refusal(capsys, here, *FILES, "--server_id=4")
        (here / "c.json").write_text('[[4, "10.0.0.4", 7001]]')
        assert "first server" in refusal(capsys, here, *flags, "--server_id=4")
        self.ran(here, 4)
        assert plan(*flags, "--server_id=4").servers[0].member.server_id == 4

    def test_join_needs_an_id(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--join" in refusal(capsys, here, "--join")
        assert "--join" in refusal(capsys, here, *FILES, "--join")

    def test_the_first_servers_do_not_join(self, here: Path) -> None:
        assert [s.joins for s in plan().servers] == [False] * 3
        assert [s.address for s in plan().servers] == [f"127.0.0.1:{p}" for p in (7001, 7002, 7003)]

    def test_added_servers_are_started_and_removed_ones_are_not(self, here: Path) -> None:
        for server_id in (1, 2, 3, 5):
            self.ran(here, server_id)
        self.ran(here, 4, removed=True)
        self.ran(here, 12)
        (here / "rayft_data" / "server_7").mkdir()  # of nobody: no identity
        (here / "rayft_data" / "server_x").mkdir()
        DataDirectory.open(here / "rayft_data" / "server_2", 2).mark_removed()
        for flags in ([], FILES):
            made = plan(*flags)
            assert [(s.member.server_id, s.bolt_port, s.joins) for s in made.servers] == [
                (1, 7687, False),
                (3, 7689, False),
                (5, 7691, True),
                (12, 7698, True),
            ]
            assert made.removed == (2, 4)
            assert [s.address for s in made.servers][2:] == ["", ""]

    def test_a_server_that_is_added_gets_the_place_of_its_number(self, here: Path) -> None:
        added = plan("--port=8000").added(4, "127.0.0.1", 7004)
        assert added.directory == here / "rayft_data" / "server_4"
        assert (added.bolt_port, added.joins, added.address) == (8003, True, "127.0.0.1:7004")

    def test_a_directory_where_all_were_removed_is_refused(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for server_id in (1, 2, 3):
            self.ran(here, server_id, removed=True)
        assert "were removed from their cluster" in refusal(capsys, here)

    def test_a_foreign_directory_is_refused(
        self, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (here / "rayft_data" / "server_2").mkdir(parents=True)
        (here / "rayft_data" / "server_2" / "thesis.tex").write_text("")
        assert "thesis.tex" in refusal(capsys, here)
