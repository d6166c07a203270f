"""Three servers inside a Python program: what ``rayft.connect(directory=...)`` starts."""

from __future__ import annotations

import threading
from pathlib import Path

from actors import cluster
from actors.options import parse, plan_launch
from actors.supervisor import Supervisor

__all__ = ["EmbeddedCluster"]


class EmbeddedCluster:
    """Servers on Ray that is there already, or on an embedded one.

    Raises:
        ConfigurationError: the directory cannot be used.
        RayftError: a server refuses to start.
    """

    def __init__(self, directory: str | Path, port: int = 7687) -> None:
        arguments = ["--durability_directory", str(directory), "--port", str(port)]
        plan = plan_launch(parse(arguments))
        self._own_ray = not cluster.is_running()
        if self._own_ray:
            cluster.start_embedded(len(plan.servers))
        here = cluster.this_node()
        nodes = {server.member.server_id: here for server in plan.servers}
        self._supervisor = Supervisor(plan, nodes, lambda line: None, local=True)
        try:
            self._supervisor.start()
        except BaseException:
            if self._own_ray:
                cluster.stop_ray()
            raise
        self._supervisor.wait_for_leader(30.0)
        self._thread = threading.Thread(
            target=self._supervisor.run, args=((0, 0),), name="supervisor", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the servers, and Ray if it was started here."""
        self._supervisor.stop()
        self._thread.join(timeout=10)
        if self._own_ray:
            cluster.stop_ray()
