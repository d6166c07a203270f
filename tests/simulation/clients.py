"""Clients: what they ask of the cluster, and the history of what they heard.

Each client is a coroutine that asks a gateway for one thing at a time and records it as an
``Operation`` of ``tests.checkers.history``: registers (read, write, compare-and-set), lists that
are appended to, in single statements and in explicit transactions, elements that are added to a
set, users merged under a uniqueness constraint, acquaintances between users, and blobs, which are
many nodes in one transaction. At the end everything is read, and ``oracle.py`` and the checkers
judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actors.protocol import DIALECTS
from bolt.packer import Packer
from bolt.records import decode_records
from tests.checkers.history import Operation, Outcome
from tests.simulation import oracle, verdicts
from tests.simulation.gateway import GatewayLost, SimulatedGateway
from tests.simulation.operator import operate
from tests.simulation.world import US, SimulationFailure

if TYPE_CHECKING:
    from tests.simulation.simulation import World

__all__ = ["Clients", "Failed", "Unknown"]

REGISTERS = 3
LISTS = 3
USERS = 4
BLOB_NODES = 6
PAUSE_US = 5_000  # before something that must succeed is asked again
ATTEMPTS = 6  # at a write with a name
OPERATIONS_MAX = 250  # more of them find little more

INTERNAL = "Neo.DatabaseError.General.UnknownError"
TIMED_OUT = "Neo.ClientError.Transaction.TransactionTimedOut"

_PACKER = Packer()

SETUP = (
    "CREATE CONSTRAINT user_name IF NOT EXISTS FOR (u:User) REQUIRE u.name IS UNIQUE",
    "CREATE INDEX element_id IF NOT EXISTS FOR (e:Element) ON (e.id)",
    "UNWIND range(0, 2) AS k MERGE (r:Register {key: k}) MERGE (l:List {key: k}) "
    "ON CREATE SET l.items = []",
)
READ = "MATCH (r:Register {key: $key}) RETURN r.value"
WRITE = "MATCH (r:Register {key: $key}) SET r.value = $new"
SWAP = "MATCH (r:Register {key: $key}) WHERE r.value = $old SET r.value = $new RETURN r.key"
APPEND = "MATCH (l:List {key: $key}) SET l.items = l.items + $x"
APPEND_RETURN = APPEND + " RETURN l.items"
ITEMS = "MATCH (l:List {key: $key}) RETURN l.items"
ADD = "CREATE (:Element {id: $id, chance: rand(), at: timestamp()})"
MERGE = (
    "MERGE (u:User {name: $name}) ON CREATE SET u.count = 1, u.by = [$id], u.first = $id "
    "ON MATCH SET u.count = u.count + 1, u.by = u.by + $id SET u.last = $id "
    "RETURN u.first, u.count = 1"
)
MEET = "MATCH (a:User {name: $a}), (b:User {name: $b}) CREATE (a)-[:KNOWS {id: $id}]->(b)"
PART = "MATCH (:User {name: $a})-[k:KNOWS]->() DELETE k"
KNOWN = (  # of every user, from both ends: how many, and their ids
    "MATCH (u:User) OPTIONAL MATCH (u)-[k:KNOWS]->() "
    "WITH u, count(k) AS outs, collect(k.id) AS out OPTIONAL MATCH (u)<-[k:KNOWS]-() "
    "RETURN outs, out, count(k), collect(k.id)"
)
LEAVE = "MATCH (e:Element {id: $id}) DETACH DELETE e"
BLOB = "UNWIND range(1, $count) AS i CREATE (:Blob {id: $id, part: i, text: $text})"

FINAL = {
    "registers": "MATCH (r:Register) RETURN r.key, r.value ORDER BY r.key",
    "lists": "MATCH (l:List) RETURN l.key, l.items ORDER BY l.key",
    "elements": "MATCH (e:Element) RETURN e.id ORDER BY e.id",
    "users": "MATCH (u:User) RETURN u.name, u.count, u.by, u.first, u.last ORDER BY u.name",
    "blobs": "MATCH (b:Blob) RETURN b.id, count(*) ORDER BY b.id",
    "knows": KNOWN,
}


class Failed(Exception):
    """It was not done, says the database."""


class Unknown(Exception):
    """Nobody knows whether it was done."""


class Clients:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history: list[Operation] = []
        self.working = True
        self.ready = False  # the schema and the keys are there
        self._running: dict[str, int] = {}  # what is under way
        self._next = 0
        self._values: dict[int, list[int]] = {}
        self.last_index = 0  # bookmark of the last answer
        self._bookmarks: dict[int, int] = {}  # of each client's last answer about lists

    # ----------------------------------------------------------------- life

    def start(self) -> None:
        self._spawn("setup", self._setup())
        for number in range(self.world.swarm.clients):
            self._spawn(f"client {number}", self._client(number))

    def finish(self) -> None:
        """No more new operations."""
        self.working = False

    def quiet(self) -> bool:
        return not self._running

    def waiting_for(self) -> list[str]:
        return sorted(self._running)

    def operations(self) -> int:
        return len(self.history)

    def operate(self) -> None:
        """Let an operator change who votes, one server at a time."""
        if "operator" not in self._running:
            self._spawn("operator", operate(self.world))

    def probe(self) -> None:
        """Every gateway must be able to write, and soon."""
        for home in sorted(self.world.gateways):
            self._spawn(f"probe at {home}", self._probe(home))

    def scan(self) -> None:
        """Read everything; all that clients heard must agree with it."""
        self._spawn("scan", self._scan())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        loop = self.world.loop
        self._running[name] = self._running.get(name, 0) + 1

        async def guarded() -> None:
            try:
                await work
            except BaseException as error:
                loop.call_soon(_throw, error)
            finally:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

        loop.create_task(guarded())

    async def _sleep(self, longest_us: int) -> None:
        await asyncio.sleep(self.world.random.randint(0, longest_us) / US)

    # ----------------------------------------------------------------- asking

    def _gateway(self) -> SimulatedGateway | None:
        gateways = [self.world.gateways[home] for home in sorted(self.world.gateways)]
        return self.world.random.choice(gateways) if gateways else None

    async def run(
        self,
        query: str,
        gateway: SimulatedGateway | None = None,
        *,
        read: bool = False,
        tx: Any = None,
        bookmark: int = 0,
        called: str | None = None,
        **parameters: Any,
    ) -> list[list[Any]]:
        """Rows. Raises ``Failed`` or ``Unknown``. ``called``: the name of the transaction."""
        gateway = gateway or self._gateway()
        if gateway is None:
            raise Failed("no gateway")
        try:
            answer = await gateway.ask(
                "run",
                session=1,
                query=query.encode(),
                parameters=_PACKER.pack(parameters),
                read=read,
                tx=tx,
                bookmark=bookmark,
                name=called,
                timeout_ms=self.world.swarm.request_timeout_ms,
            )
        except GatewayLost:
            if read or tx is not None:
                raise Failed("gateway lost") from None
            raise Unknown("gateway lost") from None
        _raise_error(answer)
        self.last_index = answer["index"]
        return decode_records(answer["body"], DIALECTS[0])

    async def must(self, query: str, gateway: SimulatedGateway | None = None) -> list[list[Any]]:
        """Ask until it is done."""
        while True:
            try:
                return await self.run(query, gateway)
            except (Failed, Unknown):
                await self._sleep(PAUSE_US)

    async def record(
        self, client: int, action: str, value: Any, work: Callable[[], Awaitable[Any]]
    ) -> None:
        """Do one operation and write down what became of it."""
        world = self.world
        invoked = world.scheduler.now_us
        world.trace.note("ask", client, action, value)
        result, outcome = None, Outcome.OK
        try:
            result = await work()
        except Failed as error:
            outcome = Outcome.FAILED
            world.trace.note("failed", client, str(error)[:60])
        except Unknown:
            outcome = Outcome.UNKNOWN
        now_us = world.scheduler.now_us
        world.trace.count[f"operations {outcome.value}"] += 1
        world.trace.note("answer", client, action, value, outcome.value, result)
        self.history.append(Operation(client, action, value, result, invoked, now_us, outcome))

    # ----------------------------------------------------------------- what clients do

    async def _setup(self) -> None:
        for query in SETUP:
            await self.must(query)
        self.ready = True

    async def _client(self, number: int) -> None:
        random = self.world.random
        # One that never waits for a write is still reading when a leader has lost its majority.
        actions = _READS if number == 0 and self.world.swarm.clients > 2 else _ACTIONS
        while self.working:
            enough = len(self.history) >= OPERATIONS_MAX and not self.world.nemesis.pending()
            if self.ready and not enough:
                await random.choice(actions)(self, number)
            await self._sleep(self.world.swarm.think_us)

    def _new(self) -> int:
        self._next += 1
        return self._next

    async def _read(self, client: int) -> None:
        key = self.world.random.randrange(REGISTERS)

        async def work() -> Any:
            return (await self.run(READ, key=key))[0][0]

        await self.record(client, "read", key, work)

    async def _write(self, client: int) -> None:
        key, new = self.world.random.randrange(REGISTERS), self._new()
        self._values.setdefault(key, []).append(new)

        async def work() -> None:
            await self.run(WRITE, key=key, new=new)

        await self.record(client, "write", (key, new), work)

    async def _swap(self, client: int) -> None:
        random = self.world.random
        key, new = random.randrange(REGISTERS), self._new()
        known = self._values.setdefault(key, [])
        old = random.choice(known[-3:]) if known else 0
        known.append(new)

        async def work() -> bool:
            return bool(await self.run(SWAP, key=key, old=old, new=new))

        await self.record(client, "cas", (key, old, new), work)

    async def _append(self, client: int) -> None:
        key, x = self.world.random.randrange(LISTS), self._new()

        async def work() -> Any:
            if x % 2:
                await self.run(APPEND, key=key, x=x)
                return (("append", key, x),)
            rows = await self.run(APPEND_RETURN, key=key, x=x)
            self._bookmarks[client] = self.last_index
            return (("append", key, x), ("read", key, tuple(rows[0][0])))

        await self.record(client, "transaction", (("append", key, x),), work)

    async def _items(self, client: int) -> None:
        key = self.world.random.randrange(LISTS)

        async def work() -> Any:
            rows = await self.run(ITEMS, key=key)
            self._bookmarks[client] = self.last_index
            return (("read", key, tuple(rows[0][0])),)

        await self.record(client, "transaction", (("read", key, None),), work)

    async def _items_nearby(self, client: int) -> None:
        """What the gateway's own server has, which is no less than this client has seen."""
        key, bookmark = self.world.random.randrange(LISTS), self._bookmarks.get(client, 0)

        async def work() -> Any:
            rows = await self.run(ITEMS, read=True, bookmark=bookmark, key=key)
            self._bookmarks[client] = max(bookmark, self.last_index)
            return tuple(rows[0][0]) if rows else ()  # before the keys are there

        await self.record(client, "local read", key, work)

    async def _transaction(self, client: int) -> None:
        """Reads and appends in one explicit transaction."""
        random = self.world.random
        steps = tuple(
            ("append", random.randrange(LISTS), self._new())
            if random.random() < 0.5
            else ("read", random.randrange(LISTS), None)
            for _ in range(random.randint(2, 3))
        )

        async def work() -> Any:
            return await self._in_transaction(steps)

        await self.record(client, "transaction", steps, work)

    async def _in_transaction(self, steps: tuple[Any, ...]) -> Any:
        gateway = self._gateway()
        if gateway is None:
            raise Failed("no gateway")
        timeout_ms = self.world.swarm.request_timeout_ms
        done = []
        try:
            answer = await gateway.ask("begin", session=1, timeout_ms=timeout_ms)
            _raise_error(answer)
            tx = answer["tx"]
            for action, key, x in steps:
                if action == "append":
                    await self.run(APPEND, gateway, tx=tx, key=key, x=x)
                    done.append((action, key, x))
                else:
                    rows = await self.run(ITEMS, gateway, tx=tx, key=key)
                    done.append((action, key, tuple(rows[0][0])))
            if self.world.random.random() < 0.1:
                await gateway.ask("rollback", session=1, tx=tx)
                raise Failed("rolled back")
        except GatewayLost:
            raise Failed("gateway lost") from None
        try:
            _raise_error(await gateway.ask("commit", session=1, tx=tx))
        except GatewayLost:
            raise Unknown("gateway lost") from None
        return tuple(done)

    async def _add(self, client: int) -> None:
        identity = self._new()

        async def work() -> None:
            await self.run(ADD, id=identity)

        await self.record(client, "add", identity, work)

    async def _add_by_name(self, client: int) -> None:
        """A write with a name is repeated until something is certain: it is done once at most."""
        identity = self._new()
        name = f"element {identity}"

        async def work() -> None:
            uncertain = False
            for _ in range(ATTEMPTS):
                try:
                    await self.run(ADD, called=name, id=identity)
                    return
                except Unknown:
                    uncertain = True
                except Failed:  # this attempt was not done; an earlier one may have been
                    if not uncertain:
                        raise
                await self._sleep(PAUSE_US)
            raise Unknown

        await self.record(client, "add", identity, work)

    async def _add_and_ask(self, client: int) -> None:
        """Who does not know what became of a write with a name asks, and is told for ever."""
        identity = self._new()
        name = f"element {identity}"

        async def work() -> None:
            try:
                await self.run(ADD, called=name, id=identity)
            except Unknown:
                answer = await self._outcome(name)
                self.world.trace.count[f"told: {answer}"] += 1
                if answer == "not committed":
                    raise Failed("told so") from None
                if answer != "committed":
                    raise

        await self.record(client, "add", identity, work)

    async def _outcome(self, name: str) -> str:
        gateway = self._gateway()
        if gateway is None:
            return "unknown"
        try:
            answer = await asyncio.wait_for(gateway.ask("outcome", name=name), 1.0)
        except (GatewayLost, TimeoutError):
            return "unknown"
        return str(answer["rows"][0][1]) if "error" not in answer else "unknown"

    async def _merge(self, client: int) -> None:
        name, identity = self.world.random.randrange(USERS), self._new()

        async def work() -> Any:
            return tuple((await self.run(MERGE, name=name, id=identity))[0])

        await self.record(client, "upsert", (name, identity), work)

    async def _meet(self, client: int) -> None:
        random, identity = self.world.random, self._new()
        a, b = random.randrange(USERS), random.randrange(USERS)

        async def work() -> None:
            if identity % 4:
                await self.run(MEET, a=a, b=b, id=identity)
            else:
                await self.run(PART, a=a)

        await self.record(client, "knows", identity, work)

    async def _known(self, client: int) -> None:
        async def work() -> Any:
            return await self.run(KNOWN)

        await self.record(client, "known", None, work)

    async def _blob(self, client: int) -> None:
        identity = self._new()

        async def work() -> None:
            await self.run(BLOB, id=identity, count=BLOB_NODES, text="blob " * 5)

        await self.record(client, "blob", identity, work)

    # ----------------------------------------------------------------- the end

    async def _probe(self, home: int) -> None:
        while True:
            gateway = self.world.gateways.get(home)
            if gateway is not None:
                try:
                    await self.run("MERGE (p:Probe) SET p.home = 1", gateway)
                    return
                except (Failed, Unknown):
                    pass
            await self._sleep(PAUSE_US)

    async def _scan(self) -> None:
        asked_us = self.world.scheduler.now_us
        found = {name: await self.must(query) for name, query in FINAL.items()}
        oracle.judge(self.history, found)
        verdicts.judge(self.history, found, asked_us, self.world.scheduler.now_us)


_READS: tuple[Callable[[Clients, int], Awaitable[None]], ...] = (
    Clients._read,
    Clients._items,
)
_ACTIONS: tuple[Callable[[Clients, int], Awaitable[None]], ...] = (
    Clients._read,
    Clients._read,
    Clients._write,
    Clients._swap,
    Clients._append,
    Clients._append,
    Clients._items,
    Clients._transaction,
    Clients._items_nearby,
    Clients._add,
    Clients._add_by_name,
    Clients._add_and_ask,
    Clients._merge,
    Clients._meet,
    Clients._known,
    Clients._blob,
)


def _raise_error(answer: dict[str, Any]) -> None:
    if "error" not in answer:
        return
    code, message, outcome = answer["error"]
    if outcome == "unknown":
        raise Unknown(message)
    if code == INTERNAL or (".ClientError." in code and code != TIMED_OUT):
        raise SimulationFailure("crash", "query", f"{code}: {message}")
    raise Failed(f"{code}: {message}")


def _throw(error: BaseException) -> None:
    raise error
