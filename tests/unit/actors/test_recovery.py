"""A lost majority: a cluster of one from what one server has left, and never by accident."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from little_cluster import LittleCluster

from actors import recovery
from actors.disk import FileDisk
from actors.divergence import Divergence
from actors.errors import DirectoryRefused, DiskFailure
from actors.identity import DataDirectory, Identity
from actors.protocol import Status
from actors.quarantine import open_case
from actors.raft.membership import MemberRole
from actors.recovery import Recovery
from actors.recovery_command import recover
from graph.digest import digest

SURVIVOR = 2


class Ground:
    """Three servers on real directories, of which one survives."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.paths = {i: root / f"server-{i}" for i in (1, 2, 3)}
        for path in self.paths.values():
            path.mkdir()
        disks = {i: FileDisk(path) for i, path in self.paths.items()}
        self.cluster = LittleCluster(3, disks=disks, **settings)
        for number in range(30):
            self.cluster.write(f"CREATE (:N {{x: {number}}})", name=b"write %d" % number)
        self.cluster.pass_time(1.0)
        self.digest = digest(self.cluster.servers[SURVIVOR].view())
        for server in self.cluster.servers.values():
            server.die()
            text = json.dumps(asdict(server.identity))
            (self.paths[server.id] / "identity.json").write_text(text)
        self.path = self.paths[SURVIVOR]
        self.cluster_id = self.cluster.servers[SURVIVOR].identity.cluster_id

    def files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                file = Path(folder) / name
                found[str(file.relative_to(self.path))] = file.read_bytes()
        found.pop("lock", None)
        return found

    def identity(self) -> Identity:
        identity = DataDirectory.inspect(self.path, SURVIVOR)
        assert identity is not None
        return identity

    def start(self) -> LittleCluster:
        """The survivor, with the configuration of before."""
        cluster = LittleCluster.__new__(LittleCluster)
        disks = {i: FileDisk(self.path) for i in (1, 2, 3)}
        cluster.__init__(0, disks=disks, voters=(1, 2, 3))  # type: ignore[misc]
        from little_cluster import Server

        server = Server(cluster, SURVIVOR)
        server.disk = FileDisk(self.path)
        server.identity = self.identity()
        server.lives = server.identity.incarnation
        cluster.servers[SURVIVOR] = server
        server.start()
        return cluster


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_one_survivor_goes_on_alone_with_all_that_it_had(ground: Ground) -> None:
    assert recover([str(ground.path), "--yes-lose-data", ground.cluster_id]) == 0
    identity = ground.identity()
    assert identity.cluster_id not in ("", ground.cluster_id)
    assert identity.peers == {} and not identity.removed
    cluster = ground.start()
    leader = cluster.leader()
    assert leader.id == SURVIVOR
    assert digest(leader.view()) == ground.digest
    membership = leader.core.membership
    assert [(m.server_id, m.role) for m in membership.members] == [(SURVIVOR, MemberRole.VOTER)]
    assert membership.last_used_id == 3  # no id is used twice
    assert leader.machine.replica.cluster_id == identity.cluster_id
    assert cluster.write("CREATE (:After)").status is Status.DONE
    found = leader.machine.replica.outcomes.names.find(b"write 7")
    assert found is not None and found[1]  # what clients may ask about is still known


def test_the_others_are_of_another_cluster_for_ever(ground: Ground) -> None:
    recover([str(ground.path), "--yes-lose-data", ground.cluster_id])
    cluster = ground.start()
    leader = cluster.leader()
    old = ground.cluster.servers[1]
    old.disk = FileDisk(ground.paths[1])
    old.start()
    old.core.advance_clock(10**9)
    from actors.raft import codec
    from actors.raft.messages import PreVoteRequest

    sealed = old.assembly.sender.seal([codec.encode(PreVoteRequest(99, 1, SURVIVOR, 999, 98))])
    refusals: dict[int, str] = {}
    assert leader.assembly.sender.open(sealed, refusals) == []
    assert "belongs to cluster" in refusals[1] or "member" in refusals[1]


def test_the_old_files_are_kept(ground: Ground) -> None:
    before = ground.files()
    recover([str(ground.path), "--yes-lose-data", ground.cluster_id])
    after = ground.files()
    (folder,) = {name.split("/")[0] for name in after if name.startswith("before-recovery-")}
    for name, data in before.items():
        assert after[f"{folder}/{name}"] == data
    assert not (ground.path / "recovering").exists()


def test_a_snapshot_and_the_log_behind_it_make_the_state(tmp_path: Path) -> None:
    ground = Ground(tmp_path, log_size_snapshot_threshold=16)
    assert any(name.startswith("snapshots/") for name in ground.files())
    recover([str(ground.path), "--yes-lose-data", ground.cluster_id])
    assert digest(ground.start().leader().view()) == ground.digest


def test_without_the_clusters_id_nothing_is_changed(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ground.files()
    assert recover([str(ground.path), "--yes-lose-data", "yes"]) == 1
    shown = capsys.readouterr()
    assert "Nothing was changed" in shown.err
    assert ground.cluster_id in shown.out
    assert "acknowledged and never reached this server are lost" in shown.out
    assert "2 voter" in shown.out
    assert ground.files() == before


def test_a_running_server_is_left_alone(ground: Ground) -> None:
    lock = DataDirectory.lock(ground.path)
    try:
        assert recover([str(ground.path), "--yes-lose-data", ground.cluster_id]) == 1
    finally:
        os.close(lock)


def test_what_is_no_directory_of_ours_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert recover([str(tmp_path)]) == 1
    assert "not a data directory of rayft" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_damaged_log_is_refused(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = (ground.path / "raft").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    before = ground.files()
    assert recover([str(ground.path), "--yes-lose-data", ground.cluster_id]) == 1
    assert "damaged" in capsys.readouterr().err
    assert ground.files() == before


def test_a_state_that_was_found_wrong_is_no_ground_to_build_on(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    open_case(FileDisk(ground.path), Divergence(1, 1, "it differs"), "20260101T000000Z")
    assert recover([str(ground.path), "--yes-lose-data", ground.cluster_id]) == 1
    assert "found wrong" in capsys.readouterr().err


def test_interrupted_anywhere_it_can_be_finished(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename, removal and replacement fails once; then the command is run again."""
    identity = ground.identity()
    operations = 0
    fail_at = 1

    def counted(name: str) -> Any:
        real = getattr(recovery.FileDisk, name)

        def operation(self: FileDisk, *args: Any) -> Any:
            nonlocal operations
            operations += 1
            if operations == fail_at:
                raise DiskFailure("the power is gone")
            return real(self, *args)

        return operation

    for name in ("rename", "remove", "replace", "make_directory"):
        monkeypatch.setattr(recovery.FileDisk, name, counted(name))
    pristine = ground.path.with_name("pristine")
    shutil.copytree(ground.path, pristine)
    refused = 0
    while True:
        operations = 0
        shutil.rmtree(ground.path)
        shutil.copytree(pristine, ground.path)
        attempt = Recovery(ground.path, SURVIVOR)
        try:
            attempt.run("20260101T000000Z")
            break
        except DiskFailure:
            fail_at += 1
        finally:
            attempt.close()
        if (ground.path / "recovering" / "plan.json").exists():
            refused += 1
            with pytest.raises(DirectoryRefused, match="interrupted"):
                DataDirectory.open(ground.path, SURVIVOR)
        operations = 1_000_000
        again = Recovery(ground.path, SURVIVOR)
        new_id = again.run("20260101T000000Z")
        again.close()
        assert ground.identity().cluster_id == new_id != identity.cluster_id
        assert digest(ground.start().leader().view()) == ground.digest
    assert fail_at > 10 and refused > 3
