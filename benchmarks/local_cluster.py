"""A cluster of three servers on this machine, to be measured or to be hurt.

``LocalCluster`` runs ``memgraph_ha`` without a configuration in a directory of its own, on free
ports, and stops it. The rest looks at a running cluster from outside, as an operator would: who
leads (``SHOW RAFT INFO`` on each server's own gateway), which process a server is
(``<durability_directory>/server_<id>/server.pid``, rewritten by each incarnation), whether all
are well; and ``kill_server`` kills one. Killing works on this machine only and refuses a process
that is no Ray worker: a stale file must not cost somebody else's process its life.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bolt_client import BoltError, Connection, Statement, split_address

SERVERS = 3
START_SECONDS = 120.0
STOP_SECONDS = 30.0
PROBE_SECONDS = 2.0

_RAFT_INFO = Statement("SHOW RAFT INFO")
_LOOPBACK = ("127.", "::1", "localhost")


class ClusterError(Exception):
    """The cluster does not start, does not stop, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class RaftInfo:
    """One server's own view: does it lead, and in which term."""

    is_leader: bool
    term: int


def gateways(first: str, count: int = SERVERS) -> list[str]:
    """The gateways of ``count`` servers on one host: consecutive ports from the first."""
    host, port = split_address(first)
    host = f"[{host}]" if ":" in host else host
    return [f"{host}:{port + position}" for position in range(count)]


async def raft_info(address: str) -> RaftInfo | None:
    """What the server behind ``address`` says of itself; ``None`` if it does not answer."""
    connection = None
    try:
        connection = await Connection.connect(address, PROBE_SECONDS)
        rows = await connection.run(_RAFT_INFO, timeout=PROBE_SECONDS)
        return RaftInfo(bool(rows[0][0]), int(rows[0][1]))
    except (OSError, BoltError, IndexError, TypeError):
        return None
    finally:
        if connection is not None:
            connection.close()


async def raft_infos(addresses: Sequence[str]) -> list[RaftInfo | None]:
    """All servers' views, asked at the same time."""
    return await asyncio.gather(*map(raft_info, addresses))


def leader_of(infos: Sequence[RaftInfo | None]) -> int | None:
    """The id of the leader of the highest term (server 1 is the first), ``None`` without one."""
    leading = [(info.term, i) for i, info in enumerate(infos, 1) if info and info.is_leader]
    return max(leading)[1] if leading else None


def healthy(infos: Sequence[RaftInfo | None]) -> bool:
    """Do all servers answer, in one term, with one leader?"""
    answered = [info for info in infos if info is not None]
    return (
        len(answered) == len(infos)
        and len({info.term for info in answered}) == 1
        and sum(info.is_leader for info in answered) == 1
    )


async def wait_until_healthy(addresses: Sequence[str], seconds: float = START_SECONDS) -> int:
    """Wait for ``healthy`` and return the leader's id. ClusterError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        infos = await raft_infos(addresses)
        if healthy(infos):
            leader = leader_of(infos)
            assert leader is not None
            return leader
        if time.monotonic() > deadline:
            raise ClusterError(f"not healthy after {seconds:.0f} s: {infos}; see the servers' log")
        await asyncio.sleep(0.1)


def server_pid(directory: Path, server_id: int) -> int | None:
    """The process id of a server's present incarnation, ``None`` if there is none to be read."""
    try:
        text = (directory / f"server_{server_id}" / "server.pid").read_text()
        return int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return None


def check_can_kill(directory: Path, addresses: Sequence[str]) -> None:
    """Raise ``ClusterError`` unless the servers run here and their process ids can be read."""
    for address in addresses:
        host, _ = split_address(address)
        if not host.startswith(_LOOPBACK):
            raise ClusterError(
                f"{host} is not this machine: its servers cannot be killed from here"
            )
    for server_id in range(1, len(addresses) + 1):
        if server_pid(directory, server_id) is None:
            raise ClusterError(
                f"no process id in {directory}/server_{server_id}/server.pid; "
                "give the data directory of the running servers"
            )


def kill_server(directory: Path, server_id: int) -> int | None:
    """SIGKILL the server's process; its id, or ``None`` if it is dead already.

    Raises ``ClusterError`` when the process of that id is no Ray worker.
    """
    pid = server_pid(directory, server_id)
    if pid is None or pid <= 1:
        return None
    command = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            words = command.read_bytes()
        except OSError:
            return None
        if not words:
            return None  # a zombie
        if b"ray" not in words.lower():
            raise ClusterError(f"process {pid} is no server of ours: {words[:80]!r}")
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return pid


# Below the range from which the kernel takes ports for outgoing connections.
PORTS = range(20000, 32000)


def free_ports(count: int = SERVERS, among: range = PORTS) -> int:
    """The first of ``count`` consecutive ports that are free on 127.0.0.1."""
    for _ in range(200):
        first = random.randrange(among.start, among.stop - count)
        if all(_is_free(first + position) for position in range(count)):
            return first
    raise ClusterError(f"found no {count} consecutive free ports in {among}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class LocalCluster:
    """Three fresh servers; a context manager. ``keep`` leaves the directory for inspection.

    ``constants`` are put in place of those of ``raft.json``.
    """

    def __init__(self, keep: bool = False, constants: Mapping[str, int] | None = None) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rayft-"))
        self.directory = self.root / "data"
        self.log = self.root / "memgraph_ha.log"
        self.addresses = gateways(f"127.0.0.1:{free_ports()}")
        self._keep = keep
        self._constants = dict(constants or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until all servers answer and one leads. ClusterError if they do not."""
        program = Path(sys.executable).parent / "memgraph_ha"
        if program.exists():
            command = [str(program)]
        else:
            command = [sys.executable, "-c", "from actors.cli import main; main()"]
        port = split_address(self.addresses[0])[1]
        command += [f"--port={port}", f"--durability_directory={self.directory}"]
        if self._constants:
            seed = json.loads((Path(__file__).resolve().parent.parent / "raft.json").read_text())
            raft, members = self.root / "raft.json", self.root / "coordination.json"
            raft.write_text(json.dumps({**seed, **self._constants}))
            servers = [[server, "127.0.0.1", 7000 + server] for server in range(1, SERVERS + 1)]
            members.write_text(json.dumps(servers))
            command += [f"--raft_config_file={raft}", f"--coordination_config_file={members}"]
        environment = dict(os.environ)
        here = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [here, environment.get("PYTHONPATH")])
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self._wait_for_ports()
        asyncio.run(wait_until_healthy(self.addresses))

    def _wait_for_ports(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        for address in self.addresses:
            while not _listens(address):
                if self._process.poll() is not None:
                    raise ClusterError(
                        f"memgraph_ha ended with status {self._process.returncode}:\n{self.tail()}"
                    )
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"nothing listens at {address} after {START_SECONDS:.0f} s:\n{self.tail()}"
                    )
                time.sleep(0.1)

    def tail(self) -> str:
        """The last lines of the servers' log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        except OSError:
            return f"(no log at {self.log})"

    def stop(self) -> None:
        """Ask it to stop, insist after ``STOP_SECONDS``, and remove the directory."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not self._keep:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> LocalCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(split_address(address), timeout=1.0):
            return True
    except OSError:
        return False
