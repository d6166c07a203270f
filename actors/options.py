"""The command line of ``memgraph_ha``: from arguments to a plan of what to start.

Three steps, each a value that can be printed and tested::

    parse(argv) -> Options        the flags alone: spelling, types, which flags go together
    check(options) -> LaunchPlan  with the files and directories they name
    (the caller starts what the plan says)

``parse`` and ``check`` are for a command: a mistake is printed on stderr and ends the process with
status 2. ``plan_launch`` is ``check`` for programs and raises
:class:`~actors.config.ConfigurationError` instead. Up to the end of ``check`` nothing is started,
created or written, and neither Ray nor NumPy is imported, so a mistake is answered at once.

There are three modes. *local-default* (no files): three servers on this machine. *all* (both files,
no id): every server of the coordination file. *one* (both files and ``--server_id``): that server,
on this host; its peers are started elsewhere in the same way.

The file says who belongs to a *new* cluster; once there is one, its log does. So where all servers
are on this machine, those are started too that have a data directory here because they were added
while the cluster ran, and those that were removed are not. A single server that was added is
started with ``--join``: the file then need not list all, only that server and the first one, whose
host is Ray's head.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import click

from actors.addresses import join_host_port
from actors.config import (
    PORT_MAX,
    SEED_RAFT,
    ConfigurationError,
    Coordination,
    Member,
    RaftConfig,
    host_key,
    host_problem,
    is_loopback,
    load_coordination,
    load_raft,
    local_coordination,
    shown,
)
from actors.errors import DirectoryRefused
from actors.identity import DataDirectory

__all__ = [
    "BAD_CONFIGURATION_STATUS",
    "LaunchPlan",
    "Options",
    "ServerPlan",
    "check",
    "parse",
    "plan_launch",
]

Mode = Literal["local-default", "all", "one"]

BAD_CONFIGURATION_STATUS = 2  # what shells and click use for a command that was called wrongly
COMMAND_LINE = "command line"
LOCAL_SERVERS = 3  # the smallest cluster that survives a failure
LOCAL_RPC_PORT = 7001
LOCAL_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Options:
    """The flags as given, converted to their types; not yet checked against any file."""

    server_id: int | None  # the one server to start; None: all of them
    coordination_config_file: Path | None
    raft_config_file: Path | None
    port: int  # Bolt's port; of several servers on one machine the first one's
    durability_directory: Path  # absolute; holds one directory for each server
    bolt_address: str  # where Bolt listens
    insecure_bolt_without_authentication: bool  # whether bolt_address may be a public one
    join: bool = False  # the server waits until a running cluster adds it

    def validate(self) -> None:
        """Check what can be checked without a file. Raises :class:`ConfigurationError`."""
        self._check_files_go_together()
        if not 1 <= self.port <= PORT_MAX:
            message = f"{self.port} is not a port"
            _fail("--port", message, f"choose a free port from 1 to {PORT_MAX}, such as 7687")
        problem = host_problem(self.bolt_address, listening=True)
        if problem is not None:
            remedy = "name an address of this host, such as 127.0.0.1 or ::1, without a port"
            _fail("--bolt_address", problem, remedy)
        if not is_loopback(self.bolt_address) and not self.insecure_bolt_without_authentication:
            message = (
                f"{self.bolt_address} can be reached from other hosts, and Bolt does not ask "
                "clients for a password yet"
            )
            remedy = (
                "leave it at 127.0.0.1, or, if everybody who can reach that address may read and "
                "change all data, add --insecure-bolt-without-authentication"
            )
            _fail("--bolt_address", message, remedy)

    def _check_files_go_together(self) -> None:
        if self.join and self.server_id is None:
            remedy = "add --server_id with an id that was never used in that cluster"
            _fail("--join", "--join needs the id of the server that is to join", remedy)
        coordination = self.coordination_config_file is not None
        raft = self.raft_config_file is not None
        if coordination and raft:
            return
        missing = "--raft_config_file" if coordination else "--coordination_config_file"
        if self.server_id is not None:
            needs = missing
            if not coordination and not raft:
                needs = "--coordination_config_file and --raft_config_file"
            remedy = f"add {needs}, or leave --server_id out to start three servers on this machine"
            _fail("--server_id", f"--server_id needs {needs}", remedy)
        if coordination or raft:
            given = "--coordination_config_file" if coordination else "--raft_config_file"
            remedy = f"add {missing}, or leave both out to start three servers on this machine"
            _fail(given, f"{given} needs {missing}", remedy)


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """One server that this command starts."""

    member: Member
    directory: Path  # absolute, on the server's own host, and nobody else's
    bolt_port: int
    # It is no member of a new cluster: it waits until the log makes it a member, or has done so.
    joins: bool = False
    address: str = ""  # host:rpc_port that it tells the others; "" leaves what they know


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All that is to be known before anything is started."""

    mode: Mode
    coordination: Coordination  # the whole cluster, by id
    raft: RaftConfig
    servers: tuple[ServerPlan, ...]  # what this command starts of it, by id
    bolt_address: str  # where Bolt listens on each host
    warnings: tuple[str, ...]  # to be shown to whoever started the command
    port: int = 7687  # as in Options
    durability_directory: Path = Path("rayft_data")
    removed: tuple[int, ...] = ()  # servers that are not started, since they were removed

    def added(self, server_id: int, host: str, rpc_port: int) -> ServerPlan:
        """A server that joins while this command runs, on this machine if that has all others."""
        member = Member(server_id, host, rpc_port)
        return ServerPlan(
            member,
            _directory_of(self.durability_directory, server_id),
            _added_bolt_port(self.port, server_id),
            joins=True,
            address=join_host_port(host, rpc_port),
        )

    def validate(self) -> None:
        """Check that no two servers would meet at a port or in a directory.

        Raises :class:`ConfigurationError`.
        """
        highest = max(server.bolt_port for server in self.servers)
        if highest > PORT_MAX:
            count = highest - min(server.bolt_port for server in self.servers) + 1
            message = (
                f"{count} servers on one machine take consecutive ports, and the last would get "
                f"{highest}"
            )
            _fail("--port", message, f"choose a port of at most {PORT_MAX + 1 - count}")
        for server in self.servers:
            self._check_bolt_port(server)
        for directory, uses in Counter(_real_places(self.servers)).items():
            if uses > 1:
                message = f"{directory[1]} would be the data directory of {uses} servers"
                _fail("--durability_directory", message, "remove the symbolic links in it")

    def _check_bolt_port(self, server: ServerPlan) -> None:
        for member in self.coordination.members:
            same = _machine(member.host) == _machine(server.member.host)
            if same and member.rpc_port == server.bolt_port:
                message = (
                    f"{server.bolt_port}, the Bolt port of server {server.member.server_id}, is "
                    f"the RPC port of server {member.server_id} on the same machine"
                )
                _fail("--port", message, "choose another --port, or another RPC port in the file")


def _fail(entry: str, message: str, remedy: str) -> NoReturn:
    raise ConfigurationError(COMMAND_LINE, entry, message, remedy)


def _machine(host: str) -> str:
    """Equal for hosts that are surely one machine: all loopback addresses are this one."""
    return "this machine" if is_loopback(host) else host_key(host)


def _real_places(servers: Sequence[ServerPlan]) -> list[tuple[str, str]]:
    return [(_machine(s.member.host), os.path.realpath(s.directory)) for s in servers]


# --- Flags ----------------------------------------------------------------------------------------

_HELP = """Start a highly available graph database, or one server of it.

Without any flag, three servers start on this machine; clients connect to
bolt://127.0.0.1:7687. Ctrl-C stops them, and the data is there again at the next start.

\b
To run each server on a host of its own, list the servers in coordination.json,
    [[1, "10.0.0.1", 7001], [2, "10.0.0.2", 7001], [3, "10.0.0.3", 7001]]
and start this on the first host, with 2 and 3 in place of 1 on the others:
    memgraph_ha --server_id 1 --coordination_config_file coordination.json
                --raft_config_file raft.json

\b
Commands about a running cluster, each with a --help of its own:
    memgraph_ha servers | add-server | remove-server | replace-server
                | promote-server | demote-server | transfer-leadership
                | backup | restore
and about the directory of a stopped server, when a majority is lost for good:
    memgraph_ha recover

Flags may be written with dashes in place of underscores, and with a space or = before the value.
"""


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib import metadata  # costs more than the rest of this module, and is rarely needed

    try:
        version = metadata.version("rayft")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"memgraph_ha of rayft {version}")
    context.exit()


@click.command(
    help=_HELP,
    context_settings={
        "token_normalize_func": lambda flag: flag.replace("-", "_"),
        "max_content_width": 100,
    },
)
@click.option(
    "--server_id",
    metavar="N",
    help="Start only server N of the coordination file, on this host. Needs both files. "
    "Without it, all servers are started.",
)
@click.option(
    "--coordination_config_file",
    metavar="FILE",
    help="JSON list of the cluster's servers, an [id, address, RPC port] each, with ids from 1 on. "
    "The same file on every host.",
)
@click.option(
    "--raft_config_file",
    metavar="FILE",
    help="JSON object with election_timeout_min, election_timeout_max, heartbeat_interval and "
    "replication_timeout in milliseconds, and log_size_snapshot_threshold in log entries "
    "(-1: never compact the log).",
)
@click.option(
    "--port",
    metavar="PORT",
    default="7687",
    show_default=True,
    help="Port on which Bolt clients are served. Several servers started together on one machine "
    "take this one and the next ones.",
)
@click.option(
    "--durability_directory",
    metavar="DIRECTORY",
    default="rayft_data",
    show_default=True,
    help="Where data is kept: server N writes to DIRECTORY/server_N. Created if need be.",
)
@click.option(
    "--join",
    is_flag=True,
    help="The server is no member of the cluster yet, or was added to it later: it waits until it "
    "is added (ADD SERVER, REPLACE SERVER). The coordination file must list it and the first "
    "server; who else is a member is known from the cluster.",
)
@click.option(
    "--bolt_address",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address on which Bolt clients are served. Another than this machine's own loopback "
    "address is refused, because clients are not asked for a password yet.",
)
@click.option(
    "--insecure-bolt-without-authentication",
    is_flag=True,
    help="Serve Bolt on a public --bolt_address all the same: everybody who can reach it can read, "
    "change and delete all data.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def _command(
    server_id: str | None,
    coordination_config_file: str | None,
    raft_config_file: str | None,
    port: str,
    durability_directory: str,
    bolt_address: str,
    insecure_bolt_without_authentication: bool,
    join: bool,
) -> Options:
    options = Options(
        server_id=None if server_id is None else _integer("--server_id", server_id),
        coordination_config_file=_file("--coordination_config_file", coordination_config_file),
        raft_config_file=_file("--raft_config_file", raft_config_file),
        port=_integer("--port", port),
        durability_directory=_directory(durability_directory),
        bolt_address=bolt_address,
        insecure_bolt_without_authentication=insecure_bolt_without_authentication,
        join=join,
    )
    options.validate()
    return options


def _integer(flag: str, text: str) -> int:
    # int() would also take "1_000", " 7" and digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(PORT_MAX)):
        usual = 7687 if flag == "--port" else 1
        _fail(flag, f"{shown(text)} is not a number in range", f"write a number, such as {usual}")
    return int(text)


def _file(flag: str, text: str | None) -> Path | None:
    if text is None:
        return None
    if not text:
        _fail(flag, "the name of the file is empty", "name a file")
    return Path(os.path.expanduser(text))  # bash leaves the tilde of --flag=~/file alone


def _directory(text: str) -> Path:
    if not text:
        _fail("--durability_directory", "the name of the directory is empty", "name a directory")
    return Path(os.path.abspath(os.path.expanduser(text)))


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options that ``argv`` (without the command's name; None: this process's) asks for.

    Ends the process, by ``SystemExit``: with status 0 after ``--help`` and ``--version``, with
    status 2 and a message on stderr if the flags are wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _command.make_context("memgraph_ha", arguments) as context:
            options = _command.invoke(context)
    except click.exceptions.Exit as end:
        raise SystemExit(end.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(BAD_CONFIGURATION_STATUS) from None
    except ConfigurationError as error:
        _end(error)
    assert isinstance(options, Options)
    return options


def check(options: Options) -> LaunchPlan:
    """The plan for ``options``; see :func:`plan_launch`.

    Ends the process, by ``SystemExit`` with status 2 and a message on stderr, if there is none.
    """
    try:
        return plan_launch(options)
    except (ConfigurationError, DirectoryRefused) as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    click.echo(f"memgraph_ha: {error}", err=True)
    raise SystemExit(BAD_CONFIGURATION_STATUS) from None


# --- The plan -------------------------------------------------------------------------------------


def plan_launch(options: Options) -> LaunchPlan:
    """Read the files that ``options`` names and decide what is started, where and with which data.

    Reads, and writes nothing. Raises :class:`ConfigurationError`, or
    :class:`~actors.errors.DirectoryRefused` for a directory that is none of ours.
    """
    options.validate()
    mode, coordination, raft = _cluster(options)
    members = _members_to_start(options, coordination)
    servers = _place(members, options)
    # The servers of mode "all" may live on other hosts, whose directories cannot be seen from here.
    if mode == "one" or coordination.all_loopback:
        for server in servers:
            _check_directory(server.directory)
    removed: tuple[int, ...] = ()
    if mode != "one" and coordination.all_loopback:
        servers, removed = _as_the_directories_say(servers, options)
    warnings = list(coordination.warnings)
    if not is_loopback(options.bolt_address):
        warnings.append(
            f"everybody who can reach {options.bolt_address} can read, change and delete all data: "
            "Bolt does not ask clients for a password"
        )
    plan = LaunchPlan(
        mode,
        coordination,
        raft,
        servers,
        options.bolt_address,
        tuple(warnings),
        options.port,
        options.durability_directory,
        removed,
    )
    plan.validate()
    return plan


def _cluster(options: Options) -> tuple[Mode, Coordination, RaftConfig]:
    if options.coordination_config_file is None or options.raft_config_file is None:
        return "local-default", _local_cluster(options.port), SEED_RAFT
    coordination = load_coordination(options.coordination_config_file, gaps=options.join)
    raft = load_raft(options.raft_config_file)
    return ("all" if options.server_id is None else "one"), coordination, raft


def _local_cluster(bolt_port: int) -> Coordination:
    """Three servers here. Nobody chose their RPC ports, so these make way for Bolt's."""
    rpc_port = LOCAL_RPC_PORT
    if abs(bolt_port - rpc_port) < LOCAL_SERVERS:
        rpc_port += 2 * LOCAL_SERVERS
    return local_coordination(LOCAL_SERVERS, rpc_port=rpc_port)


def _members_to_start(options: Options, coordination: Coordination) -> tuple[Member, ...]:
    if options.server_id is None:
        return coordination.members
    member = coordination.member(options.server_id)
    if member is None:
        file = str(options.coordination_config_file)
        message = f"{file} lists no server {options.server_id}"
        remedy = f"use an id from 1 to {len(coordination.members)}, or add the server to the file"
        if options.join:
            remedy = "add an entry for it, with the address by which the others reach it"
        _fail(f"--server_id {options.server_id}", message, remedy)
    _check_head(options, coordination)
    return (member,)


def _check_head(options: Options, coordination: Coordination) -> None:
    """A server that joins must know whom: the first server of the file, Ray's head."""
    if not options.join or len(coordination.members) > 1:
        return
    assert options.server_id is not None
    directory = _directory_of(options.durability_directory, options.server_id)
    if DataDirectory.inspect(directory, options.server_id) is None:
        message = f"{options.coordination_config_file} lists no other server than the one to join"
        remedy = "add the entry of the cluster's first server, whose host is the head of the others"
        _fail("--join", message, remedy)


def _place(members: Sequence[Member], options: Options) -> tuple[ServerPlan, ...]:
    """A directory and a Bolt port for each: on one machine, consecutive ports in order of id."""
    started: Counter[str] = Counter()
    servers = []
    for member in members:
        machine = _machine(member.host)
        directory = _directory_of(options.durability_directory, member.server_id)
        port = options.port + started[machine]
        address = join_host_port(member.host, member.rpc_port)
        servers.append(ServerPlan(member, directory, port, options.join, address))
        started[machine] += 1
    return tuple(servers)


def _directory_of(root: Path, server_id: int) -> Path:
    return root / f"server_{server_id}"


def _added_bolt_port(port: int, server_id: int) -> int:
    """Bolt's port of a server that joins others on one machine: as if all ids below were there."""
    return port + server_id - 1


def _as_the_directories_say(
    servers: tuple[ServerPlan, ...], options: Options
) -> tuple[tuple[ServerPlan, ...], tuple[int, ...]]:
    """What is to be started on this machine, given what ran here before; and who was removed.

    Raises ``DirectoryRefused``: a directory is none of ours, or damaged.
    """
    plans = {server.member.server_id: server for server in servers}
    for server_id in _ids_of_directories(options.durability_directory):
        if server_id not in plans:
            member = Member(server_id, LOCAL_HOST, LOCAL_RPC_PORT)
            directory = _directory_of(options.durability_directory, server_id)
            port = _added_bolt_port(options.port, server_id)
            plans[server_id] = ServerPlan(member, directory, port, joins=True)
    removed = []
    for server_id, plan in sorted(plans.items()):
        identity = DataDirectory.inspect(plan.directory, server_id)
        if identity is not None and identity.removed:
            removed.append(server_id)
            del plans[server_id]
    if not plans:
        message = (
            f"all servers below {options.durability_directory} were removed from their cluster"
        )
        _fail("--durability_directory", message, "name a new directory to begin a new cluster")
    return tuple(plans[server_id] for server_id in sorted(plans)), tuple(removed)


def _ids_of_directories(root: Path) -> list[int]:
    """Of the servers that have run with their data below ``root``."""
    ids = []
    for directory in root.glob("server_*"):
        number = directory.name.removeprefix("server_")
        if number.isascii() and number.isdigit() and DataDirectory.holds_identity(directory):
            ids.append(int(number))
    return ids


def _check_directory(directory: Path) -> None:
    """Check, without creating it, that ``directory`` can be created or else written to."""
    flag = "--durability_directory"
    remedy = "name a directory that the user who starts the database can create or write to"
    place = directory
    while True:
        try:
            mode = os.stat(place).st_mode
            break
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                _fail(flag, f"{place} is a symbolic link that leads nowhere", remedy)
            place = place.parent  # ends at the root, which exists
        except OSError as error:
            _fail(flag, f"{place} cannot be used: {error.strerror}", remedy)
    if not stat.S_ISDIR(mode):
        _fail(flag, f"{place} is a file, not a directory", remedy)
    if not os.access(place, os.W_OK | os.X_OK):
        what = "it is" if place == directory else f"{place} is"
        _fail(flag, f"{directory} cannot be written to: {what} not writable", remedy)
