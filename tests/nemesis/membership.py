"""The nemesis that changes who is a member: leaders hand over, servers come, go and are replaced.

Each fault is one change, asked for by a statement through any gateway, in the middle of the
clients' work; every third time the leader is killed while it is under way. A change has happened
when all members show the new membership. Its statement may be refused (one change at a time, no
leader) or have an unknown outcome; then what ``SHOW SERVERS`` says decides, and it is asked for
again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, ClassVar

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from tests.cluster.running import connect, eventually

from .deployment import Deployment, OneCommand
from .faults import Nemesis

MEMBERS_MIN, MEMBERS_MAX = 3, 5
CHANGE_SECONDS = 90.0
VOTES = ("leader", "follower")
NO_MEMBERS = ("waiting", "removed")  # servers that run and are known


class Membership(Nemesis):
    """See the module."""

    name = "membership"
    causes = '"kind": "removed"'  # what a server says that was
    harm_seconds: ClassVar[tuple[float, float]] = (0.5, 2.0)
    rest_seconds: ClassVar[tuple[float, float]] = (0.5, 3.0)
    deployment: OneCommand

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        super().__init__(deployment, chance)
        self._last_id = max(deployment.members)

    def inject(self) -> None:
        count = len(self.deployment.members)
        changes: list[Callable[[], str]] = [self._transfer, self._replace]
        changes += [self._add] * (count < MEMBERS_MAX) * 2
        changes += [self._remove, self._remove_leader] * (count > MEMBERS_MIN)
        self.happened.append(self.chance.choice(changes)())

    def heal(self) -> None:
        """A change that has been made stays made."""

    # ----------------------------------------------------------------- changes

    def _transfer(self) -> str:
        target = self.chance.choice(self.deployment.members)

        def leads() -> bool:
            return self.roles().get(target) == "leader"

        self._change(f"SET SERVER {target} TO LEADER", leads)
        return f"server {target} made leader"

    def _add(self) -> str:
        new = self._new_id()
        self._change(f"ADD SERVER {new} AT '{_rpc_address(new)}'", lambda: self._votes(new))
        self.deployment.members = sorted([*self.deployment.members, new])
        return f"added {new}"

    def _remove(self) -> str:
        return self._without(self.chance.choice(self.deployment.members))

    def _remove_leader(self) -> str:
        return self._without(self.deployment.wait_for_leader())

    def _without(self, victim: int) -> str:
        # First for the clients, who would otherwise knock at a door that is gone.
        self.deployment.members = [s for s in self.deployment.members if s != victim]
        self._change(f"REMOVE SERVER {victim}", lambda: victim not in self.roles())
        return f"removed {victim}"

    def _replace(self) -> str:
        """A server that is dead, as far as anybody can tell, by a new one."""
        old, new = self.chance.choice(self.deployment.members), self._new_id()
        self.deployment.members = [s for s in self.deployment.members if s != old]
        self.deployment.pause([old])
        self._change(
            f"REPLACE SERVER {old} BY {new} AT '{_rpc_address(new)}'",
            lambda: self._votes(new) and old not in self.roles(),
        )
        self.deployment.members = sorted([*self.deployment.members, new])
        self.deployment.resume()
        return f"replaced {old} by {new}"

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # ----------------------------------------------------------------- asking

    def _change(self, statement: str, is_done: Callable[[], bool]) -> None:
        """Ask until it is done. Fails after ``CHANGE_SECONDS``."""
        kill = self.chance.random() < 1 / 3
        refusals: list[str] = []

        def probe() -> bool:
            nonlocal kill
            if _is(is_done):
                return True
            refused = self._say(statement)
            if refused:
                refusals.append(refused)
            if kill:
                kill = False
                leader = self.deployment.leader()
                if leader:
                    self.deployment.kill(leader)
            deadline = time.monotonic() + 10
            while not _is(is_done) and time.monotonic() < deadline and not refused:
                time.sleep(0.2)
            if refused:
                time.sleep(0.5)
            return _is(is_done)

        try:
            eventually(probe, statement, CHANGE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; refusals: {refusals[-5:]}") from None

    def _say(self, statement: str) -> str:
        """Why it was refused; empty if it was not."""
        try:
            self._ask(statement)
        except (Neo4jError, DriverError, OSError) as error:
            return str(error)[:300]
        return ""

    def _ask(self, statement: str) -> list[neo4j.Record]:
        server = self.chance.choice(self.deployment.members)
        url = f"bolt://{self.deployment.address(server)}"
        with connect(url) as driver, driver.session() as session:
            return list(session.run(statement))  # type: ignore[arg-type]

    def roles(self) -> dict[int, str]:
        """Of all members, as the leader says through any gateway."""
        rows: list[dict[str, Any]] = [record.data() for record in self._ask("SHOW SERVERS")]
        return {row["id"]: row["role"] for row in rows if row["role"] not in NO_MEMBERS}

    def _votes(self, server: int) -> bool:
        return self.roles().get(server) in VOTES


def _is(condition: Callable[[], bool]) -> bool:
    """False also while nobody can tell."""
    try:
        return condition()
    except (Neo4jError, DriverError, OSError):
        return False


def _rpc_address(server: int) -> str:
    return f"127.0.0.1:{7000 + server}"
