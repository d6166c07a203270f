"""What the configuration files may say, and what is wrong when they say something else.

Two JSON files describe a cluster. The *coordination file* lists the servers, one
``[server_id, host, rpc_port]`` each; the *raft file* is an object with the five constants of the
protocol. Both become frozen dataclasses here. Everything in this module is pure but
:func:`read_text`, the one door to the file system, and nothing here is slow to import, so that
a mistake is answered before anything heavy is loaded.

Checking has two layers. Parsing knows the *shape* (a list of triples, an object with exactly these
keys) and can point at a line and column. ``validate()`` knows the *values*, and is run on
configurations built in Python as well as on those read from files. Both raise
:class:`ConfigurationError`, which always says where (file and entry), what, and what to do. The
first mistake found ends the check. What is legal but unwise is not an error: it is returned in
``Coordination.warnings`` for the caller to show.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any, NoReturn

__all__ = [
    "FILE_BYTES_MAX",
    "PORT_MAX",
    "SEED_RAFT",
    "SERVERS_MAX",
    "SERVER_ID_MAX",
    "ConfigurationError",
    "Coordination",
    "Member",
    "RaftConfig",
    "host_key",
    "host_problem",
    "is_loopback",
    "is_whole_number",
    "load_coordination",
    "load_raft",
    "local_coordination",
    "parse_coordination",
    "parse_raft",
    "read_text",
    "shown",
]

# A cluster of nine needs some 300 bytes; a file beyond this was named by mistake (a log, a device).
FILE_BYTES_MAX = 1 << 20

# Nine servers survive four failures. Each further one makes the leader send every entry once more
# and wait for a larger majority, and buys no availability that anybody has asked for.
SERVERS_MAX = 9

# Each id is used once: enough for a server replaced every day for 27 years. Larger ones are ports
# or years typed in the wrong place, and would use up all ids below them.
SERVER_ID_MAX = 9_999

# Raft section 5.6 asks for broadcast time << election timeout: with fewer than three heartbeats in
# one timeout, a single one that is late would depose a healthy leader.
HEARTBEATS_PER_TIMEOUT_MIN = 3

# An hour. A longer timer is a unit mistaken (microseconds, say), not a wish.
TIMEOUT_MS_MAX = 3_600_000

# Fewer entries than this between two snapshots, and the server does nothing but write snapshots.
LOG_THRESHOLD_MIN = 10

# The log since the last snapshot is held in memory and replayed at start.
LOG_THRESHOLD_MAX = 10_000_000

NO_COMPACTION = -1
PORT_MAX = 65_535
HOST_LENGTH_MAX = 253  # RFC 1035 section 2.3.4, in the textual form
SHOWN_CHARACTERS_MAX = 80

COORDINATION_EXAMPLE = '[[1, "10.0.0.1", 7001], [2, "10.0.0.2", 7001], [3, "10.0.0.3", 7001]]'

# RFC 1123 section 2.1, and the underscore besides: container runtimes hand out such names.
_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class ConfigurationError(Exception):
    """A configuration cannot be used. Nothing was started and nothing was written.

    ``file`` is the file, or "command line"; ``entry`` the place in it, "" if it is all of it;
    ``message`` what is wrong there; ``remedy`` what to do about it.
    """

    def __init__(self, file: str, entry: str, message: str, remedy: str) -> None:
        super().__init__(file, entry, message, remedy)
        self.file = file
        self.entry = entry
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.file}: {self.entry}" if self.entry else self.file
        return f"{place}: {self.message}\n  To fix this, {self.remedy}."


def shown(value: object) -> str:
    """``value`` as its JSON text, escaped and cut to what fits on a line."""
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "(deeply nested)"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


def is_whole_number(value: object) -> bool:
    """True for an integer. ``True`` is no integer here, although Python holds that it is."""
    return isinstance(value, int) and not isinstance(value, bool)


# --- Addresses ------------------------------------------------------------------------------------

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> _Address | None:
    """The address that ``host`` spells, an IPv4-mapped one as IPv4; None if it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def host_problem(host: object, *, listening: bool = False) -> str | None:
    """Why ``host`` cannot be used as an address, or None if it can.

    With ``listening`` it is an address to bind to, so 0.0.0.0 and :: are welcome; without, it is
    one that others must be able to reach.
    """
    if not isinstance(host, str):
        return f"the address {shown(host)} is not a string"
    if not host or len(host) > HOST_LENGTH_MAX:
        return f"the address has {len(host)} characters; 1 to {HOST_LENGTH_MAX} are allowed"
    address = _address(host)
    if address is None:
        return None if _is_host_name(host) else f"{shown(host)} is neither an address nor a name"
    if "%" in host:
        return f"{host} names a network interface, which means something else on each host"
    if address.is_multicast:
        return f"{host} is a multicast address, on which no single server can be reached"
    if host_key(host) == "255.255.255.255":
        return f"{host} is the broadcast address, on which no single server can be reached"
    if address.is_unspecified and not listening:
        return f"{host} means every address of this host; other servers cannot connect to it"
    return None


def _is_host_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    # A name whose last label is a number would be an IPv4 address with a slip in it (RFC 3696).
    return not labels[-1].isdigit() and all(_HOST_LABEL.fullmatch(label) for label in labels)


def host_key(host: str) -> str:
    """One spelling for all spellings of an address: by it two servers are compared."""
    address = _address(host)
    if address is not None:
        return address.compressed
    name = host.lower().removesuffix(".")
    return "127.0.0.1" if name == "localhost" else name


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from its own machine only."""
    address = _address(host_key(host))
    return address is not None and address.is_loopback


# --- The coordination file ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """One server of the cluster: one entry of the coordination file."""

    server_id: int  # from 1 on
    host: str  # IPv4 or IPv6 address, or a host name, by which its peers reach it
    rpc_port: int  # what peers connect to; never Bolt's port

    def validate(self, file: str, entry: str) -> None:
        """Check this entry by itself. Raises :class:`ConfigurationError`."""
        if not is_whole_number(self.server_id):
            message = f"the server id {shown(self.server_id)} is not an integer"
            raise ConfigurationError(file, entry, message, "number the servers 1, 2, 3 and so on")
        problem = host_problem(self.host)
        if problem is not None:
            remedy = (
                "write the address by which the other servers reach this one, such as "
                '"10.0.0.1", "fd00::1" or a host name, without brackets and without a port'
            )
            raise ConfigurationError(file, entry, problem, remedy)
        if not is_whole_number(self.rpc_port) or not 1 <= self.rpc_port <= PORT_MAX:
            message = f"the RPC port {shown(self.rpc_port)} is not an integer from 1 to {PORT_MAX}"
            remedy = "write a free port of that host as a number without quotes, such as 7001"
            raise ConfigurationError(file, entry, message, remedy)


@dataclass(frozen=True, slots=True)
class Coordination:
    """Who belongs to the cluster: the contents of the coordination file."""

    members: tuple[Member, ...]  # in the order of the file; by id once loaded
    # Whether ids may be missing, as they are once servers have been added to and removed from a
    # running cluster. Without, they are 1 to the number of servers.
    gaps: bool = False

    def validate(self, file: str = "coordination") -> None:
        """Check every entry, then all of them together. Raises :class:`ConfigurationError`."""
        _check_cluster_size(file, len(self.members))
        for position, member in enumerate(self.members, 1):
            member.validate(file, _member_entry(position, member))
        self._check_ids(file)
        self._check_places(file)

    def _check_ids(self, file: str) -> None:
        size = len(self.members)
        highest = SERVER_ID_MAX if self.gaps else size
        remedy = f"number the {size} servers 1 to {size}, each number once"
        if self.gaps:
            remedy = f"give each server a number of its own, from 1 to {SERVER_ID_MAX}"
        first_use: dict[int, int] = {}
        for position, member in enumerate(self.members, 1):
            earlier = first_use.setdefault(member.server_id, position)
            if earlier != position:
                message = f"the server id {member.server_id} is already used by entry {earlier}"
                raise ConfigurationError(file, _member_entry(position, member), message, remedy)
        missing = ", ".join(str(i) for i in range(1, size + 1) if i not in first_use)
        for position, member in enumerate(self.members, 1):
            if not 1 <= member.server_id <= highest:
                message = f"the server id {shown(member.server_id)} is not from 1 to {highest}"
                if not self.gaps:
                    message += f", the number of servers, and nobody has id {missing}"
                    remedy += "; or, to start a server that was added to a running cluster, --join"
                raise ConfigurationError(file, _member_entry(position, member), message, remedy)

    def _check_places(self, file: str) -> None:
        first_use: dict[tuple[str, int], int] = {}
        for position, member in enumerate(self.members, 1):
            place = (host_key(member.host), member.rpc_port)
            earlier = first_use.setdefault(place, position)
            if earlier != position:
                message = (
                    f"the address {member.host} with port {member.rpc_port} is already that of "
                    f"entry {earlier}"
                )
                remedy = "give each server an address or an RPC port of its own"
                raise ConfigurationError(file, _member_entry(position, member), message, remedy)

    def member(self, server_id: int) -> Member | None:
        """The server with that id; None if the cluster has none."""
        return next((m for m in self.members if m.server_id == server_id), None)

    @property
    def all_loopback(self) -> bool:
        """Whether all servers live on one machine and can be reached from nowhere else."""
        return all(is_loopback(member.host) for member in self.members)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but probably not what was meant, one sentence or two each."""
        found = []
        size = len(self.members)
        if self.gaps:
            pass  # who belongs to the cluster is in its log
        elif size == 1:
            found.append("a cluster of one server has no spare: it stops whenever that one stops")
        elif size % 2 == 0:
            found.append(
                f"a cluster of {size} servers survives {(size - 1) // 2} failures, no more than "
                f"one of {size - 1} would: use an odd number of servers"
            )
        loopback = [m for m in self.members if is_loopback(m.host)]
        if loopback and not self.all_loopback:
            ids = ", ".join(str(m.server_id) for m in loopback)
            found.append(
                f"server {ids} has a loopback address while others have not: from other hosts it "
                "cannot be reached"
            )
        return tuple(found)


def _member_entry(position: int, member: Member) -> str:
    return f"entry {position} {shown(astuple(member))}"


def _check_cluster_size(file: str, size: int) -> None:
    if size == 0:
        message = "the list of servers is empty"
        remedy = f"list each server as [id, address, RPC port], for instance {COORDINATION_EXAMPLE}"
        raise ConfigurationError(file, "", message, remedy)
    if size > SERVERS_MAX:
        message = f"{size} servers are listed, and {SERVERS_MAX} are the most that are allowed"
        remedy = (
            "use 3 or 5 servers: every write waits for a majority of them, so more servers make "
            "it slower and hardly safer"
        )
        raise ConfigurationError(file, f"entry {SERVERS_MAX + 1}", message, remedy)


def local_coordination(n: int = 3, host: str = "127.0.0.1", rpc_port: int = 7001) -> Coordination:
    """``n`` servers on one machine, with RPC ports from ``rpc_port`` on, checked."""
    members = (Member(i, host, rpc_port + i - 1) for i in range(1, n + 1))
    coordination = Coordination(tuple(members))
    coordination.validate("local cluster")
    return coordination


def parse_coordination(
    text: str, file: str = "coordination", *, gaps: bool = False
) -> Coordination:
    """The cluster that ``text`` describes, its members ordered by id; ``gaps``: ids may be missing.

    Raises :class:`ConfigurationError`, with ``file`` as the name of the source.
    """
    document = _parse_json(text, file)
    if not isinstance(document, list):
        message = f"the file is not a list of servers but {_kind(document)}"
        remedy = f"list each server as [id, address, RPC port], for instance {COORDINATION_EXAMPLE}"
        raise ConfigurationError(file, "", message, remedy)
    _check_cluster_size(file, len(document))
    for position, entry in enumerate(document, 1):
        if not isinstance(entry, list) or len(entry) != 3:
            count = f" of {len(entry)}" if isinstance(entry, list) else ""
            message = f"{_kind(entry)}{count}, not a list of server id, address and RPC port"
            remedy = 'write it like [1, "10.0.0.1", 7001]'
            raise ConfigurationError(file, f"entry {position} {shown(entry)}", message, remedy)
    unordered = Coordination(tuple(Member(*entry) for entry in document), gaps)
    unordered.validate(file)
    members = sorted(unordered.members, key=lambda member: member.server_id)
    return Coordination(tuple(members), gaps)


def load_coordination(path: str | os.PathLike[str], *, gaps: bool = False) -> Coordination:
    """Read and check a coordination file. Raises :class:`ConfigurationError`."""
    return parse_coordination(read_text(path), os.fspath(path), gaps=gaps)


# --- The raft file --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """The constants of the protocol: the contents of the raft file. Times in milliseconds."""

    # A follower that hears nothing campaigns after a time drawn anew from min to max, both
    # included (Raft section 5.2).
    election_timeout_min: int
    election_timeout_max: int
    # A leader lets its followers hear from it at least this often.
    heartbeat_interval: int
    # A client waits this long for its write to reach a majority, then learns: outcome unknown.
    replication_timeout: int
    # So many log entries are kept before a snapshot takes their place; -1: never.
    log_size_snapshot_threshold: int

    def validate(self, file: str = "raft configuration") -> None:
        """Check each value, then how they stand to one another.

        Raises :class:`ConfigurationError`.
        """
        for name in _TIMES:
            _check_time_ms(file, name, getattr(self, name))
        _check_threshold(file, self.log_size_snapshot_threshold)
        low, high = self.election_timeout_min, self.election_timeout_max
        if low >= high:
            message = f"{low} is {'equal to' if low == high else 'above'} election_timeout_max"
            remedy = (
                f"make election_timeout_max ({high}) larger than election_timeout_min ({low}), as "
                "750 and 1000 are: servers that draw the same timeout split the vote"
            )
            raise ConfigurationError(file, "election_timeout_min", message, remedy)
        if self.heartbeat_interval * HEARTBEATS_PER_TIMEOUT_MIN > low:
            message = (
                f"{self.heartbeat_interval} is not well below election_timeout_min ({low}): one "
                "late heartbeat would depose a healthy leader"
            )
            remedy = (
                f"set it to at most {low // HEARTBEATS_PER_TIMEOUT_MIN}, a third of "
                "election_timeout_min, or raise the election timeouts"
            )
            raise ConfigurationError(file, "heartbeat_interval", message, remedy)
        if self.replication_timeout < high:
            message = (
                f"{self.replication_timeout} is below election_timeout_max ({high}): writes would "
                "give up before a new leader can be elected"
            )
            remedy = f"set it to at least {high}; 20000 is usual"
            raise ConfigurationError(file, "replication_timeout", message, remedy)

    @property
    def compacts(self) -> bool:
        """Whether the log is ever compacted."""
        return self.log_size_snapshot_threshold != NO_COMPACTION


_KEYS = tuple(field.name for field in fields(RaftConfig))
_TIMES = _KEYS[:4]

# The values of the page from which this project started; in force when no file is given.
SEED_RAFT = RaftConfig(
    election_timeout_min=750,
    election_timeout_max=1000,
    heartbeat_interval=100,
    replication_timeout=20_000,
    log_size_snapshot_threshold=50_000,
)


def _check_whole(file: str, name: str, value: Any, remedy: str) -> None:
    if is_whole_number(value):
        return
    finite = isinstance(value, float) and math.isfinite(value)
    what = "a whole number" if finite else "a number"
    raise ConfigurationError(file, name, f"{shown(value)} is not {what}", remedy)


def _check_time_ms(file: str, name: str, value: Any) -> None:
    usual = getattr(SEED_RAFT, name)
    remedy = f"write a whole number of milliseconds from 1 to {TIMEOUT_MS_MAX}; {usual} is usual"
    _check_whole(file, name, value, remedy)
    if value < 1:
        raise ConfigurationError(file, name, f"{shown(value)} is not positive", remedy)
    if value > TIMEOUT_MS_MAX:
        message = f"{shown(value)} milliseconds are more than an hour"
        raise ConfigurationError(file, name, message, remedy)


def _check_threshold(file: str, value: Any) -> None:
    name = "log_size_snapshot_threshold"
    remedy = (
        f"write a whole number of log entries from {LOG_THRESHOLD_MIN} to {LOG_THRESHOLD_MAX}, "
        f"or {NO_COMPACTION} for no compaction; {SEED_RAFT.log_size_snapshot_threshold} is usual"
    )
    _check_whole(file, name, value, remedy)
    if value != NO_COMPACTION and not LOG_THRESHOLD_MIN <= value <= LOG_THRESHOLD_MAX:
        raise ConfigurationError(file, name, f"{shown(value)} is out of range", remedy)


def parse_raft(text: str, file: str = "raft configuration") -> RaftConfig:
    """The constants that ``text`` gives.

    Raises :class:`ConfigurationError`, with ``file`` as the name of the source.
    """
    document = _parse_json(text, file)
    if not isinstance(document, dict):
        message = f"the file is not a JSON object but {_kind(document)}"
        remedy = f"write an object with the keys {', '.join(_KEYS)}"
        raise ConfigurationError(file, "", message, remedy)
    unknown = next((key for key in document if key not in _KEYS), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, _KEYS, n=1)
        remedy = f"write {near[0]}" if near else f"remove it; the keys are {', '.join(_KEYS)}"
        raise ConfigurationError(file, shown(unknown), "this key is not known", remedy)
    for name in _KEYS:
        if name not in document:
            remedy = f'add it, for instance "{name}": {getattr(SEED_RAFT, name)}'
            raise ConfigurationError(file, name, "this key is missing", remedy)
    config = RaftConfig(**document)
    config.validate(file)
    return config


def load_raft(path: str | os.PathLike[str]) -> RaftConfig:
    """Read and check a raft file. Raises :class:`ConfigurationError`."""
    return parse_raft(read_text(path), os.fspath(path))


# --- Files and JSON -------------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file: the only place of this module that reads one.

    Raises :class:`ConfigurationError` if it is not a readable regular file of UTF-8 text of at
    most ``FILE_BYTES_MAX`` bytes. A pipe is refused because opening one may wait for ever.
    """
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(name, "", "this is a directory", "name a file in it")
        if not stat.S_ISREG(mode):
            remedy = "name a file with the configuration in it"
            raise ConfigurationError(name, "", "this is not a regular file", remedy)
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        remedy = f"create it or correct its name (it was looked for at {os.path.abspath(path)})"
        raise ConfigurationError(name, "", "the file does not exist", remedy) from None
    except (OSError, ValueError) as error:
        remedy = "make it a file that the user who starts the database can read"
        reason = getattr(error, "strerror", None) or str(error)
        message = f"the file cannot be read: {reason}"
        raise ConfigurationError(name, "", message, remedy) from error
    if len(data) > FILE_BYTES_MAX:
        message = f"the file is larger than {FILE_BYTES_MAX} bytes"
        raise ConfigurationError(name, "", message, "name the configuration file, not another one")
    try:
        return data.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 text ({error.reason})"
        raise ConfigurationError(name, f"line {line}", message, "save it as UTF-8") from None


class _DuplicateKeyError(Exception):
    """Two members of one JSON object have the same name; ``args[0]`` is that name."""


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _DuplicateKeyError(key)
        result[key] = value
    return result


def _parse_json(text: str, file: str) -> Any:
    """The JSON document in ``text``. NaN and Infinity pass: the check of values names them."""

    def fail(entry: str, message: str, remedy: str) -> NoReturn:
        raise ConfigurationError(file, entry, message, remedy) from None

    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fail(place, f"this is not JSON: {error.msg}", "correct the JSON there")
    except _DuplicateKeyError as error:
        fail(shown(error.args[0]), "this key is there twice", "remove one of the two")
    except RecursionError:
        fail("", "lists or objects are nested too deeply", "name the configuration file")
    except ValueError:
        # Python converts no integer of more than some thousand digits.
        fail("", "a number in it has too many digits", "write ports, ids and times as they are")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return "a string"
        case _:
            return "a number"
