"""Ray underneath: an embedded instance, a cluster that is there, or this host's own node.

Everything that starts, joins or stops Ray is here, with the settings that a database needs of it:

* it must be *patient*: a node that cannot reach Ray's head for a while must not kill the servers on
  it (Ray's defaults do, after 60 s);
* the head's tables must survive the head, so that it can come back (``gcs_storage``);
* no dashboard, a small object store, no memory monitor that shoots servers.

Ray replaces 127.0.0.1 by the machine's outward address when it starts. An embedded instance is
told not to; nodes of a cluster on loopback addresses use 127.0.0.2, which Ray leaves alone.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.config import Member, is_loopback
from actors.errors import RayftError

__all__ = [
    "NAMESPACE",
    "RayNode",
    "connect_ray",
    "is_running",
    "node_of_host",
    "start_embedded",
    "stop_ray",
    "this_node",
    "wait_for_head",
]

NAMESPACE = "rayft"
# Ray's own objects are few here: results travel as bytes inside messages. Ray's minimum is 75 MB.
OBJECT_STORE_BYTES = 100 * 2**20
# A loopback address that Ray does not replace.
LOOPBACK = "127.0.0.2"
NODE_START_SECONDS_MAX = 60.0
NODE_START_TRIES = 3
TIMED_OUT = "timed out during startup"  # Ray's words
_PR_SET_PDEATHSIG = 1  # prctl(2)

_COMMON = {
    "RAY_memory_monitor_refresh_ms": "0",
    # Ray runs its workers at niceness 15; a database is no background job.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
_PATIENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    "RAY_health_check_failure_threshold": "1200",
    # Patient with nodes, not with connections: after a partition a connection that was kept waits
    # for TCP's next retransmission, which may be as far off as the partition was long (measured:
    # 13 s after 40 s). One that was given up is made anew at once (0.8 s). Both ends need the same
    # interval, or a server takes its clients' pings for an attack.
    "RAY_grpc_keepalive_time_ms": "2000",
    "RAY_grpc_keepalive_timeout_ms": "3000",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "3000",
}


def start_embedded(servers: int) -> None:
    """Ray inside this process tree, on 127.0.0.1 only, gone when the process ends.

    Raises:
        RayftError: it does not start.
    """
    _set(_COMMON)
    _set({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
    import ray
    from ray._private import ray_constants

    # What the variable says, where Ray has read it already: the caller's program imported it.
    ray_constants.ENABLE_RAY_CLUSTER = False
    for tries_left in reversed(range(NODE_START_TRIES)):
        try:
            _init_embedded(servers)
            return
        except Exception as error:  # Ray raises nothing more specific
            ray.shutdown()
            if not tries_left or TIMED_OUT not in str(error):
                raise RayftError(f"Ray did not start on this host: {error}") from error


def _init_embedded(servers: int) -> None:
    import ray

    ray.init(
        num_cpus=max(2, servers),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        _node_ip_address="127.0.0.1",
    )


def connect_ray(address: str | None = None, **options: Any) -> None:
    """Join a Ray cluster that is there: ``address`` host:port, or the one Ray finds by itself.

    Raises:
        RayftError: there is none, or it cannot be joined.
    """
    _set(_COMMON)
    _use_token()
    import ray

    try:
        ray.init(
            address=address or "auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RayftError(
            f"No Ray cluster can be joined at {address or 'this host'}: {error}. Start it first "
            "(ray up cluster.yaml, or memgraph_ha --server_id on each host)."
        ) from error


def is_running() -> bool:
    """Whether this process is attached to Ray."""
    import ray

    return bool(ray.is_initialized())


def stop_ray() -> None:
    import ray

    ray.shutdown()


def this_node() -> str:
    """Id of the Ray node that this process is attached to."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def node_of_host(host: str) -> str:
    """Id of the living Ray node with an address.

    Raises:
        RayftError: there is none; it names the host and those that are there.
    """
    import ray

    wanted = {host, *_addresses(host)}
    alive = [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    for node in alive:
        if node["NodeManagerAddress"] in wanted:
            return str(node["NodeID"])
    there = ", ".join(sorted({n["NodeManagerAddress"] for n in alive})) or "none"
    raise RayftError(
        f"No Ray node runs on {host}, which the coordination file names (nodes are on: {there}). "
        "Start Ray on that host, or correct the address."
    )


class _TooSlow(RayftError):
    """Ray gave up waiting for its own processes."""


@dataclass(slots=True)
class RayNode:
    """This host's Ray node, started as a child process for one server (``--server_id N``).

    Server 1's host is Ray's head and its RPC port is the port of Ray's GCS; on the other hosts the
    RPC port is that of Ray's node manager.
    """

    process: subprocess.Popen[bytes]
    temporary: Path
    node_id: str

    @staticmethod
    def start(member: Member, head: Member, gcs_directory: Path) -> RayNode:
        """Start the node, join it as a driver, and return when it is part of the cluster.

        Ray gives up after 30 s, which a busy host may well take; then it is tried again.

        Raises:
            RayftError: it ended instead of starting; the message has Ray's last words.
        """
        for _ in range(NODE_START_TRIES - 1):
            try:
                return RayNode._start(member, head, gcs_directory)
            except _TooSlow:
                continue
        return RayNode._start(member, head, gcs_directory)

    @staticmethod
    def _start(member: Member, head: Member, gcs_directory: Path) -> RayNode:
        environment = {**os.environ, **_COMMON, **_PATIENT}
        _use_token(environment)
        _set(_PATIENT)
        mark = f"rayft_{uuid.uuid4().hex}"
        temporary = Path(tempfile.mkdtemp(prefix="rayft-"))
        output = temporary / "ray-start.log"
        command = _command(member, head, temporary, mark)
        if member.server_id == head.server_id:
            gcs_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            environment["RAY_gcs_storage"] = "rocksdb"
            environment["RAY_gcs_storage_path"] = str(gcs_directory)
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603  # our own argument list, no shell
                command,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # the main thread, before any other
            )
        node = RayNode(process, temporary, "")
        try:
            node._join(head, mark, output)
        except BaseException:
            node.stop()
            raise
        return node

    def _join(self, head: Member, mark: str, output: Path) -> None:
        address = f"{_ray_host(head.host)}:{head.rpc_port}"
        deadline = time.monotonic() + NODE_START_SECONDS_MAX
        while b"Ray runtime started" not in output.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = output.read_text("utf-8", "replace").strip().splitlines()[-8:]
                slow = self.process.poll() is None or any(TIMED_OUT in word for word in words)
                kind = _TooSlow if slow else RayftError
                raise kind("Ray did not start on this host:\n  " + "\n  ".join(words))
            time.sleep(0.1)
        connect_ray(address, _temp_dir=str(self.temporary))
        import ray

        while not self.node_id:
            for node in ray.nodes():  # type: ignore[no-untyped-call]
                if node["Alive"] and mark in node["Resources"]:
                    self.node_id = str(node["NodeID"])
            if time.monotonic() > deadline:
                raise RayftError("this host's Ray node did not appear in the cluster in time")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the node and everything on it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=8)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shutil.rmtree(self.temporary, ignore_errors=True)


def _end_with_parent() -> None:
    """In the child: be terminated when this command is killed, and so free the node's port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for_head(head: Member, stopped: Any, report: Any) -> bool:
    """Until the head's port answers; False if ``stopped`` was set first."""
    said = False
    while not stopped.is_set():
        try:
            with socket.create_connection((_ray_host(head.host), head.rpc_port), timeout=2):
                return True
        except OSError:
            if not said:
                report(
                    f"waiting for server {head.server_id} at {head.host}:{head.rpc_port}, whose "
                    "host is Ray's head: start it there with --server_id "
                    f"{head.server_id}"
                )
                said = True
            stopped.wait(0.5)
    return False


def _command(member: Member, head: Member, temporary: Path, mark: str) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--disable-usage-stats",
        "--include-log-monitor=false",
        f"--node-ip-address={_ray_host(member.host)}",
        f"--temp-dir={temporary}",
        "--num-cpus=1",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--resources={json.dumps({mark: 1})}",
        # Any free port for workers and Ray Client: an RPC port in Ray's default ranges for these
        # (10001 to 19999) would be refused.
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]
    if member.server_id == head.server_id:
        return [*command, "--head", f"--port={member.rpc_port}", "--include-dashboard=false"]
    address = f"{_ray_host(head.host)}:{head.rpc_port}"
    return [*command, f"--address={address}", f"--node-manager-port={member.rpc_port}"]


def _ray_host(host: str) -> str:
    if is_loopback(host):
        return LOOPBACK
    return _addresses(host)[0]


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RayftError(f"the host name {host} cannot be resolved: {error}") from error
    return [str(entry[4][0]) for entry in found]


def _set(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _use_token(environment: dict[str, str] | None = None) -> None:
    """Ray's token authentication: whoever reaches Ray's ports could run code on this host."""
    target = os.environ if environment is None else environment
    if target.get("RAY_AUTH_MODE"):
        os.environ.setdefault("RAY_AUTH_MODE", target["RAY_AUTH_MODE"])
        return
    target["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_MODE"] = "token"
    if "ray" in sys.modules:  # it read its environment when the caller's program imported it
        import ray

        raylet: Any = ray._raylet
        raylet.Config.initialize("")  # reads it again, as Ray's own ``ray.init`` does
    given = target.get("RAY_AUTH_TOKEN") or target.get("RAY_AUTH_TOKEN_PATH")
    default = Path.home() / ".ray" / "auth_token"
    if not given and not default.exists():
        default.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(default, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(uuid.uuid4().hex + uuid.uuid4().hex)
