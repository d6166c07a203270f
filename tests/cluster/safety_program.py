"""A program that embeds the database and spoils one server's memory; ``test_safety.py`` runs it.

    python safety_program.py DIRECTORY PORT

It runs in a process of its own, so that Ray never lives inside the process of the tests. The last
line is ``ok`` if all went as it should.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

import rayft
from rayft import Database

NODES = 500
SECONDS = 150.0


def eventually(probe: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)
    return answer


def call(server_id: int, function: Callable[[Any], Any]) -> Any:
    """Run a function in the server's process; the newest life of it."""
    names = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]
    name = max(n for n in names if n.startswith(f"server-{server_id}-"))
    actor = ray.get_actor(name, namespace="rayft")
    return ray.get(actor.__ray_call__.remote(function), timeout=30)


def compare_often(server: Any) -> None:
    server._assembly.machine.watch._entries = 10
    server._assembly.machine.watch._seconds = 0.5


def spoil(server: Any) -> None:
    """A bit of one node's property flips, in memory that nobody writes to."""
    machine = server._assembly.machine

    def flip() -> None:
        root = machine.replica.head
        column = next(c for c in root.node_columns if c.count)
        own = column.own(0)[1] if column.epoch is root.epoch else None
        cells = own if own is not None else column.chunks[0].arrays[1]
        cells.setflags(write=True)
        cells[7] ^= 1 << 20
        column.chunks[0].digest = None
        machine.replica._view = None

    server._assembly.machine_thread.worker.submit(flip)


def found(server: Any) -> tuple[int, str, str]:
    from graph.digest import digest

    machine = server._assembly.machine
    replica = machine.replica
    return replica.applied_index, digest(replica.view()).hex(), machine.health


def folders(directory: Path) -> list[Path]:
    return sorted(directory.glob("server_*/diverged-*"))


def main(directory: str, port: int) -> None:
    with rayft.connect(directory=directory, port=port) as db:
        db.query(f"UNWIND range(1, {NODES}) AS x CREATE (:N {{x: x}})")
        outcomes(db)
        leader = eventually(lambda: leader_of(db), "a leader")
        for server_id in (1, 2, 3):
            call(server_id, compare_often)
        for victim in (leader % 3 + 1, leader):
            diverge(db, victim, Path(directory))
    print("ok", flush=True)


def outcomes(db: Database) -> None:
    before = db.bookmark
    db.query("CREATE (:Named)", transaction_id="one")
    again = db.query("CREATE (:Named)", transaction_id="one")
    assert again.all() == [] and again.summary["repeated"] is True
    with db.transaction(transaction_id="two") as tx:
        tx.query("CREATE (:Named)")
    assert db.query("MATCH (n:Named) RETURN count(n)").single()[0] == 2
    assert db.outcome("one")["outcome"] == db.outcome("two")["outcome"] == "committed"
    assert db.outcome("three", since=before)["outcome"] == "not committed"


def leader_of(db: Database) -> int:
    return next((s["leader"] for s in db.raft_info() if s["role"] == "LEADER"), 0)


def diverge(db: Database, victim: int, directory: Path) -> None:
    before = len(folders(directory))
    call(victim, spoil)

    def set_aside() -> bool:
        db.query("CREATE (:More)")
        return len(folders(directory)) > before

    eventually(set_aside, f"server {victim} has noticed")

    def equal() -> bool:
        db.query("CREATE (:More)")
        time.sleep(0.5)
        try:
            states = [call(server_id, found) for server_id in (1, 2, 3)]
        except Exception:  # it is just being started again
            return False
        return len(set(states)) == 1 and not states[0][2]

    eventually(equal, f"server {victim} has the state of the others")
    total = db.query("MATCH (n:N) RETURN sum(n.x)").single()[0]
    assert total == NODES * (NODES + 1) // 2, total
    for server_id in (1, 2, 3):
        call(server_id, compare_often)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
