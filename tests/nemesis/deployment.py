"""A running cluster to be hurt: who leads, which process a server is, what died that nobody killed.

Two kinds. ``OneCommand``: ``memgraph_ha`` starts three servers on the machine's own loopback, which
is all that killing, pausing and changes of membership need. ``Hosts``: a command for each server,
on hosts of their own (``network.py``), between which links can be cut.

Every process belongs to the ``Place`` of the deployment and is ended with it. The deployment keeps
count of what it killed; a server or gateway that ends otherwise is a finding, and so is each line
of a log that says that something went wrong inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import neo4j

from tests.cluster import running
from tests.cluster.running import Command, Place, eventually, free_ports

from .network import Network

sys.path[:0] = [str(running.ROOT / "benchmarks")]

from local_cluster import RaftInfo, kill_server, raft_infos, server_pid  # noqa: E402

BOLT_PORT = 7687  # on a host of its own
RPC_PORT = 7001
WHOLE_SECONDS = 90.0
IDS_MAX = 60  # servers that one cluster may see in its life; each has a Bolt port of its own

_DEATH = re.compile(r"^(server|gateway) (\d+) has died")
# In the logs of Ray's processes, where our own code writes what nobody caught.
_TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|Task exception was never retrieved|AssertionError"
    r"|Exception in thread|Exception in callback|Fatal Python error|was never awaited"
)
_BAD_LEVELS = ("error", "critical")
_STAMP = re.compile(r'"timestamp": "[^"]*",? ?')  # taken out, so that like lines can be counted


class Deployment(ABC):
    """See the module. A context manager; ``start`` first."""

    def __init__(self, **raft: int) -> None:
        """``raft``: constants that differ from those of raft.json."""
        self.raft = raft
        self.members: list[int] = [1, 2, 3]  # the servers that should be there
        self.commands: dict[int, Command] = {}  # by server, or by the first one it started
        self._stack = ExitStack()
        self.place = self._stack.enter_context(Place())
        self._paused: set[int] = set()
        self._read: dict[Path, int] = {}  # how much of each log was looked at
        self._seen_deaths: Counter[tuple[str, int]] = Counter()
        self._our_deaths: Counter[tuple[str, int]] = Counter()
        self._earlier: list[str] = []  # trouble of commands that are gone

    # ----------------------------------------------------------------- what each kind knows

    @abstractmethod
    def start(self) -> None:
        """Start all members and wait until they are whole."""

    @abstractmethod
    def address(self, server: int) -> str:
        """Where clients find the server's gateway: host:port."""

    # ----------------------------------------------------------------- state

    @property
    def addresses(self) -> list[str]:
        return [self.address(server) for server in self.members]

    def infos(self) -> dict[int, RaftInfo | None]:
        """What each member says of itself, asked at once, 2 s at most."""
        members = list(self.members)
        answers = asyncio.run(raft_infos([self.address(server) for server in members]))
        return dict(zip(members, answers, strict=True))

    def leader(self) -> int:
        """The leader in the newest term, 0 if nobody says that he is."""
        leading = [(info.term, s) for s, info in self.infos().items() if info and info.is_leader]
        return max(leading)[1] if leading else 0

    def wait_for_leader(self, seconds: float = WHOLE_SECONDS) -> int:
        return eventually(self.leader, "a server leads", seconds)

    def is_whole(self) -> int:
        """The leader, if all members answer in one term; else 0."""
        infos = self.infos()
        leaders = [server for server, info in infos.items() if info and info.is_leader]
        terms = {info.term for info in infos.values() if info}
        whole = None not in infos.values() and len(terms) == 1 and len(leaders) == 1
        return leaders[0] if whole else 0

    def wait_until_whole(self, seconds: float = WHOLE_SECONDS) -> int:
        """Until all members answer and one of them leads; its id."""
        return eventually(self.is_whole, f"{self.members} are whole: {self.infos()}", seconds)

    def driver(self, server: int, scheme: str = "bolt", **options: object) -> neo4j.Driver:
        return running.connect(f"{scheme}://{self.address(server)}", **options)

    def pid(self, server: int) -> int | None:
        return server_pid(self.place.data, server)

    # ----------------------------------------------------------------- harm

    def kill(self, server: int) -> bool:
        """SIGKILL a server's process, which its command starts again. Whether there was one."""
        if kill_server(self.place.data, server) is None:
            return False
        self._our_deaths["server", server] += 1
        return True

    def pause(self, servers: Collection[int]) -> list[int]:
        """SIGSTOP the servers' processes; their ids."""
        return [p for server in servers if (p := self.pid(server)) and self._signal_pause(p)]

    def _signal_pause(self, process: int) -> bool:
        try:
            os.kill(process, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        self._paused.add(process)
        return True

    def resume(self) -> None:
        """SIGCONT whatever is paused."""
        while self._paused:
            try:
                os.kill(self._paused.pop(), signal.SIGCONT)
            except ProcessLookupError:
                continue

    # ----------------------------------------------------------------- what went wrong inside

    def trouble(self, caused: str = "") -> list[str]:
        """What the logs and commands have said since the last call that nobody caused.

        ``caused``: in the lines for which the faults themselves are the reason; none if empty.
        """
        told = Counter(
            _STAMP.sub("", line)
            for line in self._lines_of_trouble()
            if not caused or caused not in line
        )
        earlier, self._earlier = self._earlier, []
        lines = [f"{n} times {line}" for line, n in told.most_common()]
        return [*earlier, *self._deaths(), *lines]

    def _deaths(self) -> list[str]:
        died = Counter(
            (match[1], int(match[2]))
            for command in self.commands.values()
            for line in command.lines
            if (match := _DEATH.match(line))
        )
        excess = died - self._our_deaths - self._seen_deaths
        self._seen_deaths += excess
        found = [
            f"{kind} {server} died by itself ({n} times)" for (kind, server), n in excess.items()
        ]
        for server, command in self.commands.items():
            if command.process.poll() is not None:
                found.append(f"command {server} has ended:\n{command.output[-2000:]}")
        return found

    def _lines_of_trouble(self) -> Iterator[str]:
        for path in sorted(self._logs()):
            try:
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    text = file.read()
                    self._read[path] = file.tell()
            except OSError:  # rotated, or its node is gone
                continue
            lines = text.decode(errors="replace").splitlines()
            own = path.is_relative_to(self.place.data)
            yield from _troubled(path.relative_to(self.place.path), lines, own)

    def _logs(self) -> Iterator[Path]:
        yield from self.place.data.glob("server_*/log/*.log")
        for pattern in ("worker-*.err", "worker-*.out", "python-core-driver-*.log"):
            yield from self.place.path.glob(f"**/session_2*/logs/{pattern}")

    def keep_logs(self, directory: Path) -> None:
        """Copy the servers' own logs and what the commands said."""
        for path in self.place.data.glob("server_*/log/*"):
            target = directory / path.relative_to(self.place.data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        for server, command in self.commands.items():
            (directory / f"command_{server}.txt").write_text(command.output)

    # ----------------------------------------------------------------- end

    def close(self) -> None:
        """End every process, and remove everything."""
        self.resume()
        self._stack.close()

    def __enter__(self) -> Deployment:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _troubled(name: Path, lines: Sequence[str], own: bool) -> Iterator[str]:
    for number, line in enumerate(lines):
        if own:
            try:
                event = json.loads(line)
            except ValueError:
                yield f"{name}: not JSON: {line[:300]}"
                continue
            if event.get("level") in _BAD_LEVELS or "exception" in event:
                yield f"{name}: {line[:1500]}"
        elif _TROUBLE.search(line):
            yield f"{name}: " + " | ".join(lines[number : number + 12])[:1500]


class OneCommand(Deployment):
    """Three servers of one command, on the machine's loopback; and those that join them."""

    def __init__(self, **raft: int) -> None:
        super().__init__(**raft)
        self._port = free_ports(IDS_MAX)
        self._flags: list[str] = []

    def start(self) -> None:
        files = running.write_configuration(self.place, **self.raft)
        self._flags = [*files, f"--port={self._port}"]
        self.run()
        self.wait_until_whole()

    def run(self) -> None:
        """Start the command, and wait until it says that it is ready."""
        self.commands[1] = self.place.run(*self._flags)
        self.commands[1].wait_for("^ready: ")

    def cut_power(self) -> None:
        """SIGKILL everything: the command, Ray, servers and gateways."""
        self._earlier += self._deaths()
        self.place.kill_everything()
        del self.commands[1]
        self._seen_deaths.clear()
        self._our_deaths.clear()

    def address(self, server: int) -> str:
        return f"127.0.0.1:{self._port + server - 1}"


class Hosts(Deployment):
    """A command for each server, in a network namespace of its own."""

    def __init__(self, **raft: int) -> None:
        super().__init__(**raft)
        # Removed after the place's processes have ended: exits run backwards.
        place = self._stack.pop_all()
        self.network = self._stack.enter_context(Network(self.place.path))
        self._stack.push(place)

    def start(self) -> None:
        for server in self.members:
            self.network.add(server)
        for server in self.members:
            self.run(server)
        for server in self.members:
            self.commands[server].wait_for("^ready: ")
        self.wait_until_whole()
        eventually(self._have_met, "all servers have met one another")

    def _have_met(self) -> bool:
        """Whether each has met all others, as its log says. A leader may be there before that."""
        for server in self.members:
            path = self.place.data / f"server_{server}" / "log" / "server.log"
            met = set(
                re.findall(r'"kind": "server", "id": (\d+).*"event": "met"', path.read_text())
            )
            if len(met) < len(self.members) - 1:
                return False
        return True

    def address(self, server: int) -> str:
        return f"{self.network.address(server)}:{BOLT_PORT}"

    def run(self, server: int) -> Command:
        """Start a server's command, on its host, in a folder of its own."""
        command = self.place.run_program(
            [
                *self.network.prefix(server),
                str(Path(sys.executable).parent / "memgraph_ha"),
                f"--server_id={server}",
                *self._files(),
                f"--port={BOLT_PORT}",
                f"--bolt_address={self.network.address(server)}",
                "--insecure-bolt-without-authentication",
                f"--durability_directory={self.place.data}",
            ],
            f"host_{server}",
        )
        self.commands[server] = command
        return command

    def _files(self) -> list[str]:
        """Both files for the members, with this run's constants; the flags."""
        coordination, raft = self.place.path / "coordination.json", self.place.path / "raft.json"
        members = [[server, self.network.address(server), RPC_PORT] for server in self.members]
        coordination.write_text(json.dumps(members))
        constants = json.loads((running.ROOT / "raft.json").read_text())
        raft.write_text(json.dumps({**constants, **self.raft}))
        return [f"--coordination_config_file={coordination}", f"--raft_config_file={raft}"]
