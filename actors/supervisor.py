"""Sees to it that this command's servers and gateways run: creates, watches and replaces them.

Ray places and connects; restarts are ours. When a server's process dies a new *incarnation* of it
is created on the same host; it opens the same data directory, and is introduced to all
others, which forget the older one. Servers started by other commands on other hosts are found by
name, at start and from time to time; nothing on the path of a query depends on that.

A server that says that it must not take part any more (it was removed, or it lost its directory) is
*retired*: it is not started again, its gateway goes too, and the operator is told why. Where this
command runs all servers of the cluster, it also starts those that ``ADD SERVER`` asks for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import structlog
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import cluster
from actors.addresses import parse_address
from actors.config import is_loopback
from actors.errors import RayftError, ServerRemoved
from actors.gateway_actor import GatewayActor
from actors.options import LaunchPlan, ServerPlan
from actors.server_actor import ServerActor, ServerSettings
from actors.transport import Introduction

__all__ = ["Supervisor"]

log = structlog.get_logger()

START_SECONDS_MAX = 120.0
# A leader hands over before it stops; then what is queued is finished.
STOP_SECONDS_MAX = 10.0
# What runs in the background waits for one gateway to stop, or for other servers' answers.
BACKGROUND_SECONDS_MAX = 15.0
# Waits between two tries to start a server that dies at once.
BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)
# A life this long shows that the server works: the next death is not counted with the earlier ones.
GOOD_LIFE_SECONDS = 3.0
# How often servers of other hosts are looked for: while some are missing, and otherwise.
SEARCH_SECONDS = 1.0
SEARCH_IDLE_SECONDS = 5.0
# Calls that a caller may have queued for an actor that does not take them.
PENDING_CALLS_MAX = 5_000

# Ray's threads for each kind of call. A ``watch`` holds its thread for as long as both ends live,
# a handle's request until it is answered.
_SERVER_GROUPS = {"control": 2, "peer": 1, "client": 1, "tick": 1, "watch": 64}
_GATEWAY_GROUPS = {"control": 2, "server": 1, "handle": 64, "watch": 64}


@dataclass(slots=True)
class _Child:
    """A living server or gateway of this command."""

    plan: ServerPlan
    introduction: Introduction
    watch: Any
    born_at: float


class Supervisor:
    """See the module.

    Args:
        plan: what to start.
        nodes: Ray node id for each server id.
        report: takes a line for the operator.
        local: whether the servers run on this host (then they end when this process does).
    """

    def __init__(
        self,
        plan: LaunchPlan,
        nodes: dict[int, str],
        report: Callable[[str], None],
        *,
        local: bool,
    ) -> None:
        self._plan = plan
        self._nodes = nodes
        self._report = report
        self._pid = os.getpid() if local else 0
        self._servers: dict[int, _Child] = {}
        self._gateways: dict[int, _Child] = {}
        self._others: dict[str, Introduction] = {}  # of other commands, by actor name
        self._deaths: dict[tuple[str, int], int] = {}
        self._pending = 0  # children that are being started again, or ended
        self._search = plan.mode == "one"
        self._members = len(plan.coordination.members)  # of the cluster, as far as is known
        self._said: set[str] = set()  # refusals that the operator has been told of
        self._starting: set[int] = set()  # servers that ADD SERVER asked for
        self.verdicts: dict[int, dict[str, str]] = {}  # why servers of ours were retired
        self._lock = threading.Lock()
        self._unborn: list[Any] = []  # handles of children that are being started
        self._threads: list[threading.Thread] = []
        self.stopping = threading.Event()

    # ----------------------------------------------------------------- life

    def start(self) -> None:
        """Start all servers and gateways of the plan and introduce them to one another.

        Raises:
            RayftError: one refuses to start; all others are stopped again.
        """
        makers = [(self._new_server, p) for p in self._plan.servers]
        makers += [(self._new_gateway, p) for p in self._plan.servers]
        errors: list[Exception] = []

        def make(maker: Callable[[ServerPlan], None], plan: ServerPlan) -> None:
            try:
                maker(plan)
            except ServerRemoved as error:
                self._report(str(error))
                self.verdicts[plan.member.server_id] = {"kind": "removed", "reason": str(error)}
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=make, args=pair, daemon=True) for pair in makers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            self.stop()
            raise errors[0]
        for server_id in self.verdicts:
            gateway = self._gateways.pop(server_id, None)
            if gateway is not None:
                ray.kill(gateway.introduction.handle)
        if self._search:
            self._find_others()
            self._look_at_members()
            self._in_background(self._keep_searching)

    def run(self, leader: tuple[int, int]) -> None:
        """Watch and replace until ``stopping`` is set. ``leader``: the last one reported."""
        while not self.stopping.is_set():
            children = {c.watch: c for c in self._children()}
            if not self.serves:
                return  # all of them are retired
            done, _ = ray.wait(list(children), num_returns=1, timeout=0.5) if children else ([], [])
            if not children:
                self.stopping.wait(0.5)
            for reference in done:
                if not self.stopping.is_set():
                    self._ended(children[reference])
            leader = self._report_leader(leader)
            if not self._search:
                self._start_wanted(leader[0])

    def wait_for_leader(self, seconds: float) -> tuple[int, int]:
        """(leader, term) as a gateway of ours knows it; (0, term) if there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            known = self._leadership()
            if known[0] or time.monotonic() > deadline or self.stopping.wait(0.05):
                return known

    def stop(self) -> None:
        """Stop all children cleanly.

        A server of this command alone hands its leadership to one of another command; where this
        command runs all of them there is nobody to hand it to. Gateways end after the servers,
        because they may have clients that wait for the next leader. When this returns nothing here
        calls Ray any more: a call after ``ray.shutdown`` would start another Ray.
        """
        self.stopping.set()
        self._end_children()
        deadline = time.monotonic() + BACKGROUND_SECONDS_MAX
        with self._lock:
            threads, unborn = list(self._threads), list(self._unborn)
        for handle in unborn:
            ray.kill(handle)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._end_children()  # those that came to life meanwhile

    def _end_children(self) -> None:
        with self._lock:
            servers, gateways = list(self._servers.values()), list(self._gateways.values())
            self._servers.clear()
            self._gateways.clear()
        _wait_for([c.introduction.handle.stop.remote(self._search) for c in servers])
        _wait_for([c.introduction.handle.stop.remote(self._search) for c in gateways])
        for child in (*servers, *gateways):
            ray.kill(child.introduction.handle)

    def _in_background(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run what may take long in a thread that ``stop`` waits for."""
        thread = threading.Thread(target=work, args=arguments, name=work.__name__, daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()

    @property
    def serves(self) -> bool:
        """Whether there is a child to be stopped."""
        return bool(self._children() or self._pending)

    def _children(self) -> list[_Child]:
        with self._lock:
            return [*self._servers.values(), *self._gateways.values()]

    # ----------------------------------------------------------------- creating

    def _new_server(self, plan: ServerPlan) -> None:
        raft, server_id = self._plan.raft, plan.member.server_id
        voters = tuple(m.server_id for m in self._plan.coordination.members)
        settings = ServerSettings(
            server_id=server_id,
            voters=() if plan.joins else voters,
            address=plan.address,
            directory=str(plan.directory),
            supervisor_pid=self._pid,
            election_timeout_min_ms=raft.election_timeout_min,
            election_timeout_max_ms=raft.election_timeout_max,
            heartbeat_interval_ms=raft.heartbeat_interval,
            replication_timeout_ms=raft.replication_timeout,
            log_size_snapshot_threshold=raft.log_size_snapshot_threshold,
        )
        actor: Any = ray.remote(concurrency_groups=_SERVER_GROUPS)(ServerActor)  # type: ignore[call-overload]
        handle = actor.options(**self._placement("server", server_id)).remote(settings)
        started = self._started(handle, f"server {server_id}")
        self._adopt(self._servers, plan, Introduction(handle=handle, **started))

    def _new_gateway(self, plan: ServerPlan) -> None:
        server_id = plan.member.server_id
        actor: Any = ray.remote(concurrency_groups=_GATEWAY_GROUPS)(GatewayActor)  # type: ignore[call-overload]
        handle = actor.options(**self._placement("gateway", server_id)).remote(
            server_id, str(plan.directory), self._pid, self._plan.raft.replication_timeout
        )
        start = handle.start.remote(self._plan.bolt_address, plan.bolt_port, self._advertised(plan))
        started = self._started(handle, f"the Bolt gateway of server {server_id}", start)
        self._adopt(self._gateways, plan, Introduction(handle=handle, **started))

    def _placement(self, kind: str, server_id: int) -> dict[str, Any]:
        node = self._nodes[server_id]
        return {
            "name": f"{kind}-{server_id}-{time.time_ns()}",
            "num_cpus": 0,
            "max_restarts": 0,
            # Ray's own record of every call is worth nothing here, and costs a tenth of each.
            "enable_task_events": False,
            "max_pending_calls": PENDING_CALLS_MAX,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }

    def _started(self, handle: Any, what: str, call: Any = None) -> dict[str, Any]:
        with self._lock:
            self._unborn.append(handle)
        try:
            answer = ray.get(call or handle.start.remote(), timeout=START_SECONDS_MAX)
        except RayError as error:
            ray.kill(handle)
            raise RayftError(f"{what} could not be started: {error}") from error
        finally:
            with self._lock:
                self._unborn.remove(handle)
        if "refused" in answer:
            ray.kill(handle)
            if answer.get("removed"):
                raise ServerRemoved(answer["refused"])
            raise RayftError(f"{what} refused to start. {answer['refused']}")
        return dict(answer)

    def _advertised(self, plan: ServerPlan) -> str:
        """The address under which clients find a gateway: not 0.0.0.0, which is nobody's."""
        address = self._plan.bolt_address
        return plan.member.host if address in ("0.0.0.0", "::") else address  # noqa: S104

    def _adopt(
        self, table: dict[int, _Child], plan: ServerPlan, introduction: Introduction
    ) -> None:
        """Watch a new child, and make it and all others known to one another."""
        handle = introduction.handle
        with self._lock:
            known = [c.introduction for c in (*self._servers.values(), *self._gateways.values())]
            known = [k for k in known if (k.kind, k.server_id) != self._key(introduction)]
            known += self._others.values()
            child = _Child(plan, introduction, handle.watch.remote(), time.monotonic())
            table[plan.member.server_id] = child
        handle.introduce.remote([*known, introduction])
        for other in known:
            other.handle.introduce.remote([introduction])

    # ----------------------------------------------------------------- replacing

    def _ended(self, child: _Child) -> None:
        """A child has died, or ended because it must not go on."""
        try:
            verdict: Any = ray.get(child.watch, timeout=1)
        except RayError:
            verdict = None
        if verdict is None:
            self._replace(child)
        else:
            self._retire(child, verdict)

    def _retire(self, child: _Child, verdict: dict[str, str]) -> None:
        server_id = child.introduction.server_id
        self._report(f"server {server_id} has ended: {verdict['reason']}")
        self.verdicts[server_id] = verdict
        with self._lock:
            gateway = self._gateways.pop(server_id, None)
            self._servers.pop(server_id, None)
            self._pending += 1
        self._in_background(self._bury, child, gateway)

    def _bury(self, server: _Child, gateway: _Child | None) -> None:
        """End what a retired server leaves, its clients first."""
        ray.kill(server.introduction.handle)
        if gateway is not None:
            _wait_for([gateway.introduction.handle.stop.remote(True)])
            ray.kill(gateway.introduction.handle)
        with self._lock:
            self._pending -= 1

    def _replace(self, dead: _Child) -> None:
        kind, server_id = self._key(dead.introduction)
        key = (kind, server_id)
        lived = time.monotonic() - dead.born_at
        deaths = 0 if lived > GOOD_LIFE_SECONDS else self._deaths.get(key, 0)
        self._deaths[key] = deaths + 1
        wait = BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS) - 1)]
        later = f" in {wait} s" if wait else ""
        self._report(f"{kind} {server_id} has died; starting it again{later}")
        table = self._servers if kind == "server" else self._gateways
        with self._lock:
            table.pop(server_id, None)
            self._pending += 1
        maker = self._new_server if kind == "server" else self._new_gateway
        self._in_background(self._make_again, maker, dead.plan, wait)

    def _make_again(
        self, maker: Callable[[ServerPlan], None], plan: ServerPlan, wait: float
    ) -> None:
        try:
            self._try_to_make(maker, plan, wait)
        finally:
            with self._lock:
                self._pending -= 1

    def _try_to_make(
        self, maker: Callable[[ServerPlan], None], plan: ServerPlan, wait: float
    ) -> None:
        attempt = 0
        while not self.stopping.wait(wait) and plan.member.server_id not in self.verdicts:
            try:
                maker(plan)
                return
            except RayftError as error:
                attempt += 1
                wait = BACKOFF_SECONDS[min(attempt + 1, len(BACKOFF_SECONDS) - 1)]
                if not self.stopping.is_set():
                    self._report(f"{error}")
            except Exception as error:
                log.exception("cannot start a child", exc_info=error)
                wait = BACKOFF_SECONDS[-1]

    @staticmethod
    def _key(introduction: Introduction) -> tuple[str, int]:
        return introduction.kind, introduction.server_id

    # ----------------------------------------------------------------- leadership, for the operator

    def _leadership(self) -> tuple[int, int]:
        for child in list(self._gateways.values()):
            try:
                leader, term = ray.get(child.introduction.handle.leadership.remote(), timeout=2)
            except RayError:
                continue
            if leader:
                return leader, term
        return 0, 0

    def _report_leader(self, before: tuple[int, int]) -> tuple[int, int]:
        now = self._leadership()
        if now[0] and now != before:
            self._report(f"server {now[0]} leads (term {now[1]})")
            return now
        return before

    # ----------------------------------------------------------------- membership

    def _status(self, server_id: int) -> dict[str, Any] | None:
        """What a server of ours says about itself."""
        child = self._servers.get(server_id)
        if child is None:
            return None
        try:
            status: dict[str, Any] = ray.get(child.introduction.handle.status.remote(), timeout=2)
        except RayError:
            return None
        return status

    def _look_at_members(self) -> None:
        """The log says who belongs to the cluster; tell where the file says something else."""
        for plan in self._plan.servers:
            status = self._status(plan.member.server_id)
            if status is None:
                continue
            self._members = max(1, len(status["members"]))
            members = {server_id for server_id, _, _ in status["members"]}
            listed = {m.server_id for m in self._plan.coordination.members}
            if not members and plan.joins:
                self._report(
                    f"server {plan.member.server_id} waits until it is added: "
                    f"ADD SERVER {plan.member.server_id} AT '{plan.address}'"
                )
            elif members != listed and not plan.joins:
                self._report(
                    f"the cluster has the servers {_listing(members)}, as its log says; the "
                    f"coordination file lists {_listing(listed)}"
                )

    def _start_wanted(self, leader: int) -> None:
        """Start servers that ADD SERVER asks for and that belong on the hosts of this command."""
        status = self._status(leader)
        for server_id, address in (status or {}).get("wanted", {}).items():
            if server_id in self._starting or server_id in self._servers:
                continue
            host, rpc_port = parse_address(address)
            node = self._node_for(host)
            if node is None:
                continue
            plan = self._plan.added(server_id, host, rpc_port)
            self._nodes[server_id] = node
            self._starting.add(server_id)
            self._report(f"starting server {server_id}, which is to be added")
            self._in_background(self._start_added, plan)

    def _node_for(self, host: str) -> str | None:
        if self._plan.coordination.all_loopback:
            return next(iter(self._nodes.values())) if is_loopback(host) else None
        try:
            return cluster.node_of_host(host)
        except RayftError:
            return None

    def _start_added(self, plan: ServerPlan) -> None:
        server_id = plan.member.server_id
        try:
            self._new_server(plan)
            self._new_gateway(plan)
            bolt = f"{self._plan.bolt_address}:{plan.bolt_port}"
            self._report(f"server {server_id}: Bolt on {bolt}, data in {plan.directory}")
        except Exception as error:  # the statement that asked for it will say that it did not come
            log.exception("cannot start an added server", exc_info=error)
            self._report(f"server {server_id} cannot be started: {error}")
        finally:
            self._starting.discard(server_id)

    # ----------------------------------------------------------------- other commands' servers

    def _keep_searching(self) -> None:
        while True:
            complete = len(self._servers) + self._servers_elsewhere() >= self._members
            if self.stopping.wait(SEARCH_IDLE_SECONDS if complete else SEARCH_SECONDS):
                return
            self._find_others()
            for plan in self._plan.servers:
                status = self._status(plan.member.server_id)
                if status is not None:
                    self._members = max(1, len(status["members"]))
                    self._report_refusals(plan.member.server_id, status["refused_by"])

    def _report_refusals(self, server_id: int, refused_by: dict[int, str]) -> None:
        """Other servers take nothing from one of ours: say why, once."""
        for other, reason in refused_by.items():
            line = f"server {server_id} is refused by server {other}: it {reason}"
            if line not in self._said:
                self._said.add(line)
                self._report(line)

    def _servers_elsewhere(self) -> int:
        mine = set(self._servers)
        return len({o.server_id for o in self._others.values() if o.kind == "server"} - mine)

    def _find_others(self) -> None:
        """Look for actors of other commands; introduce them to ours and ours to them."""
        try:
            names = {
                str(n["name"])
                for n in ray.util.list_named_actors(all_namespaces=True)
                if n["namespace"] == "rayft"
            }
        except Exception as error:  # Ray's head is away: what is known stays known
            log.info("cannot look for other servers", error=repr(error))
            return
        mine = {c.introduction.server_id for c in self._children()}
        with self._lock:
            self._others = {n: i for n, i in self._others.items() if n in names}
        for name in sorted(names - set(self._others)):
            kind, server_id = name.split("-")[:2]
            if int(server_id) in mine or kind not in ("server", "gateway"):
                continue
            self._meet(name)

    def _meet(self, name: str) -> None:
        try:
            handle = ray.get_actor(name, namespace="rayft")
            described: Any = ray.get(handle.describe.remote(), timeout=5)
        except Exception as error:
            log.info("cannot meet", name=name, error=repr(error))
            return
        if described is None:
            return  # it has not started yet
        other = Introduction(handle=handle, **described)
        with self._lock:
            self._others[name] = other
            ours = [c.introduction for c in (*self._servers.values(), *self._gateways.values())]
        self._report(f"found {other.kind} {other.server_id}")
        handle.introduce.remote(ours)
        for mine in ours:
            mine.handle.introduce.remote([other])


def _wait_for(calls: list[Any]) -> None:
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=STOP_SECONDS_MAX)


def _listing(ids: set[int]) -> str:
    return ", ".join(str(server_id) for server_id in sorted(ids))
