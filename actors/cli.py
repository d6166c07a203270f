"""The ``memgraph_ha`` command: check, start, watch, stop.

A first word that is a name of ``SUBCOMMANDS`` makes it a command about a cluster, or about a
directory, that is there already: its module is imported then, and does the rest.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from actors.config import is_loopback
from actors.errors import DirectoryRefused, RayftError
from actors.options import BAD_CONFIGURATION_STATUS, LaunchPlan, check, parse

__all__ = ["main"]

FIRST_LEADER_SECONDS = 30.0
FAILURE_STATUS = 1

# First word -> "module:function"; the function gets the arguments after the word, and its value is
# the exit status.
SUBCOMMANDS: dict[str, str] = {
    "servers": "actors.administration_commands:servers",
    "add-server": "actors.administration_commands:add_server",
    "remove-server": "actors.administration_commands:remove_server",
    "replace-server": "actors.administration_commands:replace_server",
    "promote-server": "actors.administration_commands:promote_server",
    "demote-server": "actors.administration_commands:demote_server",
    "transfer-leadership": "actors.administration_commands:transfer_leadership",
    "recover": "actors.recovery_command:recover",
    "backup": "actors.backup_commands:backup",
    "restore": "actors.backup_commands:restore",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point.

    Exits with 0 after a clean stop, also that of a server that was removed from its cluster; with 2
    for a bad configuration, also if the server was removed before; with 1 otherwise.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in SUBCOMMANDS:
        module, function = SUBCOMMANDS[arguments[0]].split(":")
        sys.exit(getattr(importlib.import_module(module), function)(arguments[1:]))
    plan = check(parse(arguments))
    for warning in plan.warnings:
        report(f"warning: {warning}")
    try:
        _inspect_directories(plan)
    except DirectoryRefused as error:
        print(f"memgraph_ha: {error}", file=sys.stderr)
        sys.exit(BAD_CONFIGURATION_STATUS)
    stopped = threading.Event()
    _on_signals(stopped)
    try:
        lost = launch(plan, stopped)
    except RayftError as error:
        print(f"memgraph_ha: {error}", file=sys.stderr)
        sys.exit(FAILURE_STATUS)
    # Ray's threads may still be winding down; everything of ours is stopped.
    os._exit(FAILURE_STATUS if lost else 0)


_STDOUT = sys.stdout


def report(line: str) -> None:
    """A line for the operator."""
    print(line, file=_STDOUT, flush=True)


def launch(plan: LaunchPlan, stopped: threading.Event) -> bool:
    """Start everything in the plan, stay until ``stopped`` is set, and stop it again.

    Returns whether a server ended because it must not take part any more without its directory.
    """
    from actors import cluster

    node: cluster.RayNode | None = None
    lost = False
    for server_id in plan.removed:
        report(f"server {server_id} was removed from the cluster: it is not started")
    report("starting " + _how_many(plan) + " ...")
    # Ray prints a paragraph about each process that dies; the supervisor says it in a line.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        if plan.mode == "one":
            head = plan.coordination.members[0]
            member = plan.servers[0].member
            if member != head and not cluster.wait_for_head(head, stopped, report):
                return False
            directory = plan.servers[0].directory.parent / "ray"
            node = cluster.RayNode.start(member, head, directory)
            nodes = {member.server_id: node.node_id}
        elif all(is_loopback(m.host) for m in plan.coordination.members) and not os.environ.get(
            "RAY_ADDRESS"
        ):
            cluster.start_embedded(len(plan.servers))
            here = cluster.this_node()
            nodes = {s.member.server_id: here for s in plan.servers}
        else:
            cluster.connect_ray(os.environ.get("RAY_ADDRESS"))
            nodes = {s.member.server_id: cluster.node_of_host(s.member.host) for s in plan.servers}
        _on_signals(stopped)  # Ray has installed its own
        if not stopped.is_set() and not _only_head(plan):
            lost = _supervise(plan, nodes, stopped)
        if plan.mode == "one" and member == head and not stopped.is_set():
            report(
                f"server {member.server_id} is not part of the cluster any more; this command goes "
                "on as Ray's head for the others (Ctrl-C stops)"
            )
            stopped.wait()
    finally:
        cluster.stop_ray()
        if node is not None:
            node.stop()
    report("stopped")
    return lost


def _only_head(plan: LaunchPlan) -> bool:
    """Whether the one server was removed, and its host is needed all the same, as Ray's head."""
    return plan.mode == "one" and _is_removed(plan)


def _supervise(plan: LaunchPlan, nodes: dict[int, str], stopped: threading.Event) -> bool:
    """Returns whether a server had lost its directory, and this command served no other one."""
    from actors import cluster
    from actors.supervisor import Supervisor

    local = set(nodes.values()) == {cluster.this_node()}
    supervisor = Supervisor(plan, nodes, report, local=local)
    supervisor.stopping = stopped
    supervisor.start()
    try:
        for server in plan.servers:
            bolt = f"{plan.bolt_address}:{server.bolt_port}"
            report(f"server {server.member.server_id}: Bolt on {bolt}, data in {server.directory}")
        leader, term = supervisor.wait_for_leader(FIRST_LEADER_SECONDS)
        if leader:
            report(f"server {leader} leads (term {term})")
        else:
            report("no server leads yet: a majority of the servers must be running")
        report(f"ready: bolt://{plan.bolt_address}:{plan.servers[0].bolt_port} (Ctrl-C stops)")
        supervisor.run((leader, term))
    finally:
        if supervisor.serves:  # else all servers ended, because they must not take part any more
            report("stopping ...")
            supervisor.stop()
    lost = [s for s, verdict in supervisor.verdicts.items() if verdict["kind"] == "lost"]
    return len(lost) == len(plan.servers)


def _how_many(plan: LaunchPlan) -> str:
    if len(plan.servers) == 1:
        return f"server {plan.servers[0].member.server_id} of {len(plan.coordination.members)}"
    return f"{len(plan.servers)} servers"


def _inspect_directories(plan: LaunchPlan) -> None:
    """Refuse wrong directories before anything is started (those on this host)."""
    if plan.mode == "all" and not all(is_loopback(s.member.host) for s in plan.servers):
        return
    from actors.identity import DataDirectory, removed_text

    for server in plan.servers:
        DataDirectory.inspect(server.directory, server.member.server_id)
    if plan.mode == "one" and _is_removed(plan):
        server = plan.servers[0]
        if server.member != plan.coordination.members[0]:
            raise DirectoryRefused(removed_text(server.member.server_id, server.directory))


def _is_removed(plan: LaunchPlan) -> bool:
    from actors.identity import DataDirectory

    server = plan.servers[0]
    identity = DataDirectory.inspect(server.directory, server.member.server_id)
    return identity is not None and identity.removed


def _on_signals(stopped: threading.Event) -> None:
    def handle(number: int, frame: Any) -> None:
        if stopped.is_set():
            os._exit(128 + number)  # asked twice: at once
        stopped.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


if __name__ == "__main__":
    main()
