"""``memgraph_ha`` in processes of its own, and databases as their operators see them.

A ``Place`` is a directory below which everything of one test happens: data, Ray's session, the
home directory with Ray's token. Each command runs *in* it, and so does every process that comes of
it (a process inherits its working directory), which is how a test finds them all, whoever their
parent is by now: to see that nothing was left behind, and to end what a failed test leaves. No
process is ever ended by name. Nothing of another Ray on this machine is seen or touched: Ray's own
variables are taken out of the environment, and its directory is the place.

Everything here that waits has a deadline, and says what it waited for when that passes.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

from local_cluster import free_ports, kill_server, server_pid  # noqa: E402

__all__ = [
    "SERVERS",
    "START_SECONDS",
    "Cluster",
    "Command",
    "Place",
    "Servers",
    "connect",
    "eventually",
    "free_ports",
    "kill_server",
    "server_pid",
    "values",
    "write_configuration",
]

START_SECONDS = 180.0  # a start takes 5 to 10 s on an idle machine, and far longer on a busy one
STOP_SECONDS = 90.0
PATIENCE_SECONDS = 90.0
SERVERS = (1, 2, 3)

T = TypeVar("T")


def eventually(probe: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """The first true answer of ``probe``. Fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last answer: {answer!r})")
        time.sleep(0.05)


class Place:
    """A directory of a test's own, and the processes that run in it; a context manager."""

    def __init__(self) -> None:
        # Not pytest's directories: Ray's socket paths below them would be too long.
        self.path = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp")).resolve()
        (self.path / "home").mkdir()
        self._commands: list[Command] = []

    @property
    def data(self) -> Path:
        return self.path / "data"

    def environment(self) -> dict[str, str]:
        """Ours without Ray's variables; home and temporary directories are in the place."""
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith("RAY_")}
        search = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
        here = str(self.path)
        return {**kept, "PYTHONPATH": search, "HOME": f"{here}/home", "TMPDIR": here} | {
            "RAY_TMPDIR": here,
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *flags: str, data: Path | None = None, folder: str = "") -> Command:
        """Start ``memgraph_ha`` with ``flags``, its data in ``data`` (the place's own), in a folder

        of the place (so that what comes of this command can be told from what comes of others).
        """
        script = Path(sys.executable).parent / "memgraph_ha"
        program = [str(script)] if script.exists() else [sys.executable, "-m", "actors.cli"]
        directory = f"--durability_directory={data or self.data}"
        return self.run_program([*program, *flags, directory], folder)

    def run_program(self, arguments: Sequence[str], folder: str = "") -> Command:
        """Start any program in the place, or in a folder of it."""
        (self.path / folder).mkdir(exist_ok=True)
        command = Command(arguments, self.path / folder, self.environment())
        self._commands.append(command)
        return command

    def processes(self, folder: str = "") -> dict[int, str]:
        """Living processes that run in the place, or in a folder of it: command line by id."""
        found, wanted = {}, self.path / folder
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                where = Path(os.readlink(entry / "cwd"))
                words = (entry / "cmdline").read_bytes()
            except OSError:  # gone meanwhile, a zombie, or somebody else's
                continue
            if where == wanted or wanted in where.parents:
                found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
        found.pop(os.getpid(), None)
        return found

    def kill_everything(self) -> None:
        """SIGKILL every process in the place, by its id, and wait until all are gone."""

        def kill_once() -> bool:
            processes = self.processes()
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for command in self._commands:
                command.process.poll()
            return not processes

        eventually(kill_once, "the killed processes are gone")

    def wait_until_empty(self, folder: str = "") -> None:
        """Nothing runs there any more, though Ray's helpers may take a moment to end."""
        eventually(lambda: not self.processes(folder), "no process is left behind")

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.kill_everything()
        finally:
            shutil.rmtree(self.path, ignore_errors=True)


class Command:
    """A process that was started, and what it has said so far on both its outputs."""

    def __init__(
        self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self.arguments = list(arguments)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            self.arguments,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_tests,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line from number ``after`` on in which the regular expression is found."""

        def found() -> str | None:
            return next((x for x in self.lines[after:] if re.search(pattern, x)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, timeout=seconds)
            line = found()
        assert line is not None, f"no line with {pattern!r} in what it said:\n{self.output}"
        return line

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status, once it has ended and all that it said is here."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.output}") from None
        with self._news:
            self._news.wait_for(lambda: self._ended, timeout=seconds)
        return status

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(number)
        return self.wait()


def write_configuration(place: Place, rpc_port: int = 7001, **changes: int) -> list[str]:
    """Both files for three servers on this machine, with the seed's constants; the flags."""
    coordination, raft = place.path / "coordination.json", place.path / "raft.json"
    members = [[server, "127.0.0.1", rpc_port + server - 1] for server in SERVERS]
    coordination.write_text(json.dumps(members))
    constants = json.loads((ROOT / "raft.json").read_text())
    raft.write_text(json.dumps({**constants, **changes}))
    return [f"--coordination_config_file={coordination}", f"--raft_config_file={raft}"]


_LIBC = ctypes.CDLL(None)  # looked up here, because little may be done between fork and exec
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _end_with_the_tests() -> None:
    """In the child: be told to stop even if the tests are killed and cannot say so."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Servers:
    """Three servers on this machine, by their Bolt ports and their data directories."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.first_port = free_ports(len(SERVERS))

    def address(self, server: int) -> str:
        return f"127.0.0.1:{self.first_port + server - 1}"

    @property
    def addresses(self) -> list[str]:
        return [self.address(server) for server in SERVERS]

    @contextmanager
    def driver(self, server: int = 1, scheme: str = "bolt", **options: Any) -> Iterator[Any]:
        """The official driver on one server's gateway."""
        with connect(f"{scheme}://{self.address(server)}", **options) as driver:
            yield driver

    def read(self, server: int, query: str, bookmarks: Any = None) -> list[Any]:
        """All rows of a query as ``server`` itself answers it, at least as of the bookmarks."""
        options = {"default_access_mode": neo4j.READ_ACCESS, "bookmarks": bookmarks}
        with self.driver(server) as driver, driver.session(**options) as session:
            return values(session, query)

    def leader(self) -> int:
        """The id of the server that leads in the newest term; 0 if none does."""
        infos = [raft_info(address) for address in self.addresses]
        leading = [(info[1], i) for i, info in enumerate(infos, 1) if info and info[0]]
        return max(leading)[1] if leading else 0

    def wait_until_whole(self) -> int:
        """Wait until all gateways answer and exactly one server leads; its id."""

        def probe() -> int:
            infos = [raft_info(address) for address in self.addresses]
            whole = None not in infos and len({info[1] for info in infos if info}) == 1
            leaders = [i for i, info in enumerate(infos, 1) if info and info[0]]
            return leaders[0] if whole and len(leaders) == 1 else 0

        return eventually(probe, "three servers, one of them the leader")

    def pid(self, server: int) -> int | None:
        return server_pid(self.place.data, server)

    def kill(self, server: int) -> int | None:
        """SIGKILL a server's process (its command will start it again)."""
        return kill_server(self.place.data, server)


class Cluster(Servers):
    """Three servers of one command."""

    def __init__(self, place: Place, *flags: str) -> None:
        super().__init__(place)
        self._flags = [f"--port={self.first_port}", *flags]
        self.command: Command

    def start(self) -> None:
        """Start the command (again), and return when all gateways answer and one server leads."""
        self.command = self.place.run(*self._flags)
        self.command.wait_for(r"^ready: ")
        self.wait_until_whole()

    def stop(self) -> None:
        assert self.command.stop() == 0, self.command.output


def connect(url: str, **options: Any) -> neo4j.Driver:
    """The official driver, with a bound on each of its own waits."""
    defaults: Mapping[str, Any] = {
        "connection_timeout": 10.0,
        "connection_acquisition_timeout": 30.0,
        "max_transaction_retry_time": 60.0,
        "telemetry_disabled": True,
    }
    return neo4j.GraphDatabase.driver(url, **{**defaults, **options})


def raft_info(address: str) -> tuple[bool, int] | None:
    """(leads, term) as the server behind ``address`` says of itself; None: it does not answer."""
    try:
        with connect(f"bolt://{address}", connection_timeout=2.0) as driver, driver.session() as s:
            record = s.run("SHOW RAFT INFO").single(strict=True)
            return bool(record["is_leader"]), int(record["term_id"])
    except (DriverError, Neo4jError, OSError):
        return None


def values(session: Any, query: str, **parameters: Any) -> list[Any]:
    """All rows of a query, each as a list."""
    return [record.values() for record in session.run(query, **parameters)]
