"""Scripts with expected output: the protocol as text that a reviewer can read.

A script is a file of commands, each with what it did written under it:

    # What this shows.
    > campaign 1
    1 at 100 ms
      becomes  pre-candidate, term 0
      sends    1->2 PreVoteRequest term 1: log ends at 0/0

Lines that begin with ``>`` are commands, lines that begin with ``#`` are for the reader, and what
stands between a command and the next one, or the next comment or empty line, is its output.
``run`` carries the commands out in a world of their own (``script_world.py``) and gives the script
back with the output as it is; the test compares the two, and REWRITE=1 writes the new one.

Servers are named by number, several as ``1,2,3``; a route is ``1->2``, ``*->2``, ``1->*`` or
``1--2`` for both ways. A command may be preceded by ``quiet``, which shows what servers become,
commit, serve and refuse, and leaves out what was sent and written, or by ``silent``, which shows
nothing. The table at the end names all commands; each function's first line says what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import script_text as text
from script_world import Disk, ScriptError, Server, World

from actors.raft.config import CoreConfig
from actors.raft.membership import MemberRole
from actors.raft.messages import (
    AddMember,
    ChangeMembership,
    Entry,
    EntryKind,
    MembershipChange,
    Message,
    PeerDown,
    PeerMessage,
    PeerReset,
    Propose,
    ReadIndex,
    RemoveMember,
    SetRole,
    TransferLeadership,
    Unreachable,
)
from actors.raft.ready import HardState, SnapshotMark

_DEFAULTS: dict[str, Any] = {
    "election_timeout_min_ms": 100,
    "election_timeout_max_ms": 200,
    "heartbeat_interval_ms": 50,
    "commit_notice_ms": 0,
    "snapshot_chunk_bytes": 40,
    "snapshot_retry_ms": 100,
    "persist_stall_max_ms": 300,
}
_SETTINGS = {setting.name: setting for setting in fields(CoreConfig)}


@dataclass
class Arguments:
    """The words after a command: plain ones, and those with ``=``."""

    words: list[str]
    options: dict[str, str]

    def ids(self, position: int = 0) -> list[int]:
        """Servers at this place; none if there is no such word."""
        if position >= len(self.words):
            return []
        return [_number(word) for word in self.words[position].split(",")]

    def id(self, position: int = 0) -> int:
        """The one server at this place."""
        found = self.ids(position)
        if len(found) != 1:
            raise ScriptError("give one server")
        return found[0]

    def option(self, name: str, default: str = "") -> str:
        """Take an option."""
        return self.options.pop(name, default)

    def number(self, name: str, default: int) -> int:
        """Take an option that is a number."""
        return _number(self.options.pop(name, str(default)))


def _number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ScriptError(f"{word!r} is not a number") from None


def _mark(word: str) -> SnapshotMark:
    index, _, term = word.partition("/")
    return SnapshotMark(_number(index), _number(term))


def _terms(word: str) -> list[int]:
    """``1*3,4`` is 1, 1, 1, 4."""
    terms: list[int] = []
    for part in filter(None, word.split(",")):
        term, _, count = part.partition("*")
        terms += [_number(term)] * _number(count or "1")
    return terms


def _data(word: str) -> bytes:
    """``a*500`` is 500 times a."""
    letter, star, count = word.partition("*")
    return (letter * _number(count) if star else word).encode()


class Script:
    """A world and the commands that act on it."""

    def __init__(self) -> None:
        self.world = World()
        self.requests = 0

    def command(self, line: str) -> list[str]:
        """Carry out one command; what to write under it.

        Raises:
            ScriptError: the command is not known, or makes no sense now.
            AssertionError: the run breaks Raft's safety.
        """
        first, _, rest = line.partition(" ")
        self.world.quiet, self.world.silent = first == "quiet", first == "silent"
        words = (rest if first in ("quiet", "silent") else line).split()
        handler = COMMANDS.get(words[0]) if words else None
        if handler is None:
            raise ScriptError(f"unknown command; there are {', '.join(sorted(COMMANDS))}")
        plain = [word for word in words[1:] if "=" not in word]
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        arguments = Arguments(plain, options)
        self.world.lines = []
        handler(self, arguments)
        if arguments.options:
            raise ScriptError(f"unknown option {', '.join(arguments.options)}")
        return self.world.lines

    def token(self) -> int:
        """Number of the next request of a client."""
        self.requests += 1
        return self.requests

    def local(self, server_id: int, event: str, message: Message) -> None:
        """Something happens at a server that is no message of a peer."""
        server, _ = self.world.running(server_id)
        self.world.event(event)
        self.world.step(server, message)

    def chosen(self, arguments: Arguments) -> list[PeerMessage]:
        """Messages under way on a route (default: all), of a kind, and ``first`` or ``last``."""
        words = list(arguments.words)
        route = words.pop(0) if words and ("->" in words[0] or "--" in words[0]) else None
        found = [m for m in self.world.flight if route is None or _on_route(m, route)]
        for word in words:
            if word in ("first", "last"):
                found = found[:1] if word == "first" else found[-1:]
            else:
                found = [m for m in found if type(m).__name__ == word]
        if not found:
            raise ScriptError("no such message is under way; 'network' shows them")
        return found


def _pairs(route: str, everyone: Iterable[int]) -> list[tuple[int, int]]:
    both = "--" in route
    left, _, right = route.partition("--" if both else "->")
    ids = sorted(everyone)
    senders = ids if left == "*" else [_number(word) for word in left.split(",")]
    receivers = ids if right == "*" else [_number(word) for word in right.split(",")]
    pairs = [(a, b) for a in senders for b in receivers if a != b]
    return pairs + [(b, a) for a, b in pairs] if both else pairs


def _on_route(message: PeerMessage, route: str) -> bool:
    pair = (message.sender, message.receiver)
    return pair in _pairs(route, pair)


# Servers


def _add_server(script: Script, arguments: Arguments) -> None:
    """add-server IDS [voters=IDS] [log=TERMS] [snapshot=I/T] [term=T] [vote=N] [SETTING=VALUE]"""
    ids = arguments.ids()
    voters = arguments.option("voters", ",".join(map(str, ids)))
    snapshot = _mark(arguments.option("snapshot", "0/0"))
    terms = _terms(arguments.option("log"))
    term = arguments.number("term", max((*terms, snapshot.term)))
    hard_state = HardState(term, arguments.number("vote", 0))
    settings = dict(_DEFAULTS)
    for name in set(arguments.options) & set(_SETTINGS):
        settings[name] = _number(arguments.option(name))
    for server_id in ids:
        entries = [
            Entry(index, term, EntryKind.COMMAND, b"%c%d" % (96 + term, index))
            for index, term in enumerate(terms, snapshot.index + 1)
        ]
        config = CoreConfig(server_id, tuple(_voters(voters)), **settings)
        disk = Disk(hard_state, snapshot, entries, snapshot)
        if snapshot.index:
            disk.image = (b"%d %d 0" % snapshot).ljust(100)
        script.world.add(Server(config, disk))


def _voters(word: str) -> list[int]:
    return [] if word == "none" else [_number(part) for part in word.split(",")]


def _crash(script: Script, arguments: Arguments) -> None:
    """crash IDS [written=N]: end servers; of the writes under way the first N are on disk"""
    written = arguments.number("written", 0)
    for server_id in arguments.ids():
        server, _ = script.world.running(server_id)
        script.world.crash(server, written)


def _restart(script: Script, arguments: Arguments) -> None:
    """restart IDS: start servers with what their disks hold"""
    for server_id in arguments.ids():
        server = script.world.server(server_id)
        if server.core is not None:
            raise ScriptError(f"server {server_id} is running: crash it first")
        core = server.start(script.world.now_ms)
        script.world.event(text.status_lines(core)[0])


def _wipe(script: Script, arguments: Arguments) -> None:
    """wipe ID: empty the disk of a server that is down"""
    server = script.world.server(arguments.id())
    if server.core is not None:
        raise ScriptError(f"server {server.id} is running: crash it first")
    server.disk = Disk()


def _busy(script: Script, arguments: Arguments) -> None:
    """busy ID: until 'ready' the server does nothing about the messages that it is given; only
    'deliver', 'tick' and requests give it any"""
    script.world.running(arguments.id())[0].busy = True


def _ready(script: Script, arguments: Arguments) -> None:
    """ready ID: a busy server does what there is to do"""
    server, _ = script.world.running(arguments.id())
    server.busy = False
    script.world.event(f"{server.id} is free")
    script.world.drain(server)


def _stall(script: Script, arguments: Arguments) -> None:
    """stall ID disk|machine: its writes, or its state machine, get nowhere until 'resume'"""
    script.world.server(arguments.id()).stalled.add(_part(arguments))


def _resume(script: Script, arguments: Arguments) -> None:
    """resume ID disk|machine: end of 'stall'; the state machine takes what waits for it"""
    server, _ = script.world.running(arguments.id())
    server.stalled.discard(_part(arguments))
    script.world.event(f"{server.id} goes on")
    script.world.apply(server)
    script.world.drain(server)


def _part(arguments: Arguments) -> str:
    part = arguments.words[1] if len(arguments.words) > 1 else ""
    if part not in ("disk", "machine"):
        raise ScriptError("give disk or machine")
    return part


# Time


def _campaign(script: Script, arguments: Arguments) -> None:
    """campaign ID: time moves on until this server's election time-out; only it is told"""
    server, core = script.world.running(arguments.id())
    script.world.now_ms = max(script.world.now_ms, core.deadline_ms)
    script.world.tick(server)


def _tick(script: Script, arguments: Arguments) -> None:
    """tick IDS: tell these servers the time"""
    for server_id in arguments.ids():
        script.world.tick(script.world.running(server_id)[0])


def _wait(script: Script, arguments: Arguments) -> None:
    """wait MS: time passes; every server is told when it wants to be; nothing is delivered"""
    until_ms = script.world.now_ms + _number(arguments.words[0])
    script.world.move_clock(until_ms, settle=False)


def _run(script: Script, arguments: Arguments) -> None:
    """run MS: time passes, and everything is written and delivered at once"""
    script.world.stabilize(None)
    until_ms = script.world.now_ms + _number(arguments.words[0])
    script.world.move_clock(until_ms, settle=True)


# Requests


def _propose(script: Script, arguments: Arguments) -> None:
    """propose ID DATA...: one proposal; several pieces make one command"""
    server_id, pieces = arguments.id(), [_data(word) for word in arguments.words[1:]]
    token = script.token()
    kinds = [EntryKind.FRAGMENT] * (len(pieces) - 1) + [EntryKind.COMMAND]
    shown = " ".join(arguments.words[1:])
    event = f"{server_id} is asked to append {shown} (request {token})"
    script.local(server_id, event, Propose(token, tuple(zip(kinds, pieces, strict=True))))


def _read(script: Script, arguments: Arguments) -> None:
    """read ID: ask for an index at which a read is linearizable"""
    token = script.token()
    event = f"{arguments.id()} is asked to read (read {token})"
    script.local(arguments.id(), event, ReadIndex(token))


def _role(arguments: Arguments) -> MemberRole:
    names = {role.name.lower(): role for role in MemberRole}
    word = arguments.words[2] if len(arguments.words) > 2 else ""
    if word not in names:
        raise ScriptError(f"give {', '.join(names)}")
    return names[word]


def _change(script: Script, arguments: Arguments, what: str, change: MembershipChange) -> None:
    token, server_id = script.token(), arguments.id()
    event = f"{server_id} is asked to {what} (request {token})"
    script.local(server_id, event, ChangeMembership(token, change))


def _add_member(script: Script, arguments: Arguments) -> None:
    """add-member LEADER ID learner|joining [replaces=ID] [address=TEXT]"""
    member, role = arguments.id(1), _role(arguments)
    replaces = arguments.number("replaces", 0)
    for_whom = f" for {replaces}" if replaces else ""
    change = AddMember(member, role, arguments.option("address"), replaces)
    _change(script, arguments, f"add {member} as {role.name.lower()}{for_whom}", change)


def _remove_member(script: Script, arguments: Arguments) -> None:
    """remove-member LEADER ID"""
    _change(script, arguments, f"remove {arguments.id(1)}", RemoveMember(arguments.id(1)))


def _set_role(script: Script, arguments: Arguments) -> None:
    """set-role LEADER ID voter|learner|joining"""
    member, role = arguments.id(1), _role(arguments)
    _change(script, arguments, f"make {member} a {role.name.lower()}", SetRole(member, role))


def _transfer(script: Script, arguments: Arguments) -> None:
    """transfer LEADER [ID]: hand leadership over, to the best voter if none is named"""
    token, server_id = script.token(), arguments.id()
    target = arguments.id(1) if len(arguments.words) > 1 else 0
    event = f"{server_id} is asked to hand over to {target or 'the best'} (request {token})"
    script.local(server_id, event, TransferLeadership(token, target))


def _news(kind: type[PeerDown | PeerReset | Unreachable], phrase: str) -> Handler:
    def handle(script: Script, arguments: Arguments) -> None:
        peer = arguments.id(1)
        for server_id in arguments.ids():
            script.local(server_id, f"{server_id} hears that {peer} {phrase}", kind(peer))

    return handle


# Network


def _deliver(script: Script, arguments: Arguments) -> None:
    """deliver [ROUTE] [KIND] [first|last]: what is under way now, in the order it was sent"""
    for message in script.chosen(arguments):
        script.world.deliver(message)


def _drop(script: Script, arguments: Arguments) -> None:
    """drop [ROUTE] [KIND] [first|last]: lose messages"""
    for message in script.chosen(arguments):
        script.world.lose(message)


def _duplicate(script: Script, arguments: Arguments) -> None:
    """duplicate [ROUTE] [KIND] [first|last]: put copies behind all that is under way"""
    for message in script.chosen(arguments):
        script.world.duplicate(message)


def _detain(script: Script, arguments: Arguments) -> None:
    """detain [ROUTE] [KIND] [first|last]: set messages aside until 'release'"""
    for message in script.chosen(arguments):
        script.world.detain(message)


def _release(script: Script, arguments: Arguments) -> None:
    """release: put the messages that were set aside back into the network"""
    script.world.release()


def _network(script: Script, arguments: Arguments) -> None:
    """network: show what is under way"""
    for message in script.world.flight:
        script.world.event(text.message_text(message))


def _cut(script: Script, arguments: Arguments) -> None:
    """cut ROUTE: what is under way there is lost, and so is what will be sent, until 'heal'"""
    world = script.world
    world.cut |= set(_pairs(arguments.words[0], world.servers))
    for message in list(world.flight):
        if (message.sender, message.receiver) in world.cut:
            world.lose(message)


def _heal(script: Script, arguments: Arguments) -> None:
    """heal [ROUTE]: end of 'cut'"""
    if arguments.words:
        script.world.cut -= set(_pairs(arguments.words[0], script.world.servers))
    else:
        script.world.cut.clear()


def _stabilize(script: Script, arguments: Arguments) -> None:
    """stabilize [IDS]: write and deliver until all (those) servers are quiet; no time passes"""
    script.world.stabilize(set(arguments.ids()) or None)


# Disks


def _persist(script: Script, arguments: Arguments) -> None:
    """persist IDS [writes=N]: complete the oldest N writes under way at each (default: all)"""
    count = arguments.number("writes", 1 << 30)
    servers = [script.world.running(server_id)[0] for server_id in arguments.ids()]
    writing = [server for server in servers if server.pending]
    if not writing:
        raise ScriptError("none of them has a write under way")
    for server in writing:
        script.world.complete_writes(server, count)


def _snapshot(script: Script, arguments: Arguments) -> None:
    """snapshot ID [keep=N]: save one and compact the log, N of the entries it covers stay"""
    script.world.save_snapshot(script.world.running(arguments.id())[0], arguments.number("keep", 0))


def _install(script: Script, arguments: Arguments) -> None:
    """install ID: a snapshot that has arrived is durable and loaded"""
    script.world.finish_install(script.world.running(arguments.id())[0], good=True)


def _refuse(script: Script, arguments: Arguments) -> None:
    """refuse ID: a snapshot that has arrived cannot be loaded"""
    script.world.finish_install(script.world.running(arguments.id())[0], good=False)


# What there is to see


def _status(script: Script, arguments: Arguments) -> None:
    """status [IDS]: each server, and a leader's view of its followers"""
    for _, core in _shown(script, arguments):
        script.world.lines += text.status_lines(core)


def _log(script: Script, arguments: Arguments) -> None:
    """log [IDS]: the terms of the entries of each log"""
    for _, core in _shown(script, arguments):
        script.world.lines.append(text.log_text(core))


def _entries(script: Script, arguments: Arguments) -> None:
    """entries [IDS]: what is in each log"""
    for server, core in _shown(script, arguments):
        log = core.log
        inside = [log.entry(i) for i in range(log.first_index, log.last_index + 1)]
        script.world.lines.append(f"{server.id}: {text.entries_text(inside) or 'empty'}")


def _members(script: Script, arguments: Arguments) -> None:
    """members [IDS]: the membership that each server goes by"""
    for _, core in _shown(script, arguments):
        script.world.lines.append(text.membership_text(core))


def _shown(script: Script, arguments: Arguments) -> list[Any]:
    wanted = arguments.ids()
    return [pair for pair in script.world.up() if not wanted or pair[0].id in wanted]


Handler = Callable[[Script, Arguments], None]

COMMANDS: dict[str, Handler] = {
    "add-server": _add_server,
    "add-member": _add_member,
    "busy": _busy,
    "campaign": _campaign,
    "crash": _crash,
    "cut": _cut,
    "deliver": _deliver,
    "detain": _detain,
    "drop": _drop,
    "duplicate": _duplicate,
    "entries": _entries,
    "heal": _heal,
    "install": _install,
    "log": _log,
    "members": _members,
    "network": _network,
    "peer-down": _news(PeerDown, "has ended"),
    "peer-reset": _news(PeerReset, "is a new incarnation"),
    "persist": _persist,
    "propose": _propose,
    "read": _read,
    "ready": _ready,
    "refuse": _refuse,
    "release": _release,
    "restart": _restart,
    "remove-member": _remove_member,
    "resume": _resume,
    "run": _run,
    "set-role": _set_role,
    "snapshot": _snapshot,
    "stabilize": _stabilize,
    "stall": _stall,
    "status": _status,
    "tick": _tick,
    "transfer": _transfer,
    "unreachable": _news(Unreachable, "cannot be reached"),
    "wait": _wait,
    "wipe": _wipe,
}


def run(source: str, name: str) -> str:
    """Carry out a script; the script with its output as it is now.

    Raises:
        ScriptError: a command is wrong; the message begins with ``name`` and the line.
        AssertionError: a run breaks Raft's safety; the message does so too.
    """
    script = Script()
    result: list[str] = []
    in_output = False
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith(">"):
            result.append(line)
            try:
                result += script.command(line[1:].strip())
            except (ScriptError, AssertionError, ValueError, IndexError) as error:
                shown = "\n".join(script.world.lines[-20:])
                kind = ScriptError if isinstance(error, ScriptError) else AssertionError
                raise kind(f"{name}:{number}: {line}\n{shown}\n{error!r}") from error
            in_output = True
        elif not line.strip() or line.startswith("#"):
            result.append(line)
            in_output = False
        elif not in_output:
            raise ScriptError(f"{name}:{number}: output that belongs to no command: {line}")
    return "\n".join(result) + "\n"


def run_file(path: Path) -> tuple[str, str]:
    """A script as it is, and with its output as it is now."""
    source = path.read_text()
    return source, run(source, path.name)
