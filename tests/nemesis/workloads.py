"""What the clients do while the cluster is hurt, and the checker that judges what they saw.

A workload owns the graph while it runs. ``setup`` makes it, ``step`` is one operation of one
client, ``final`` the reads after everything has healed, once at each server, and ``check`` the
verdict on the whole history. Writes go through any gateway; reads are linearizable (write access,
answered by the leader after a round of its majority) or local (read access, any server), with the
session's bookmarks or without.

=========  ========================================  ==============================================
workload   operations                                checkers
=========  ========================================  ==============================================
register   read, write, compare-and-set of one key   register (linearizable), and sessions: own
           (autocommit and transactions); versions   writes and causality through bookmarks, at
           written and read with bookmarks           any server
append     several reads of and appends to lists in  append: autocommit is strictly serializable,
           one transaction or one query              transactions strong snapshot isolation
bank       transfers, reads of all balances          bank, for leader's and for local reads
set        unique elements added; reads of all, and  set, and long fork over local reads
           of the newest at any server
upsert     MERGE under a uniqueness constraint       upsert
=========  ========================================  ==============================================
"""

from __future__ import annotations

import itertools
import random
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import neo4j

from tests.checkers.append import check_append
from tests.checkers.bank import check_bank
from tests.checkers.history import Operation, Verdict, combined
from tests.checkers.long_fork import check_long_fork
from tests.checkers.register import check_register
from tests.checkers.sessions import check_sessions
from tests.checkers.set import check_set
from tests.checkers.upsert import check_upsert

from .clients import Client, Refused, merged, tupled

#: Answers a query as one server has it, at least as of the end of the run.
Ask = Callable[..., list[list[Any]]]
Transaction = neo4j.Transaction | neo4j.ManagedTransaction


class Workload(ABC):
    """See the module. ``step`` is called by several threads, each with a client of its own."""

    name: ClassVar[str]

    @abstractmethod
    def setup(self, run: Ask) -> None:
        """Make the graph. The database is empty; nothing else runs."""

    @abstractmethod
    def step(self, client: Client) -> None:
        """One operation."""

    @abstractmethod
    def final(self, client: Client, ask: Ask) -> None:
        """Read everything at one server, after all else."""

    @abstractmethod
    def check(self, history: Sequence[Operation]) -> Verdict:
        """What the history shows."""


def _only(history: Sequence[Operation], actions: Mapping[str, str]) -> list[Operation]:
    """The operations of some actions, under the names that a checker knows."""
    return [replace(op, action=actions[op.action]) for op in history if op.action in actions]


class Register(Workload):
    """Keys rotate, so that each has a short history and much happens to it at once."""

    name = "register"
    KEYS = 600
    ACTIVE = 5
    STEPS_PER_KEY = 60

    def __init__(self) -> None:
        self._steps = itertools.count()
        self._values = itertools.count(1)
        self._bookmarks: dict[int, neo4j.Bookmarks] = {}  # newest of each client, for the others
        self._versions: dict[int, int] = {}

    def setup(self, run: Ask) -> None:
        run("CREATE INDEX FOR (r:Register) ON (r.key)")
        run("UNWIND range(0, $last) AS key CREATE (:Register {key: key})", last=self.KEYS - 1)
        run("UNWIND range(0, 99) AS key CREATE (:Session {key: key, version: 0})")

    def step(self, client: Client) -> None:
        if client.chance.random() < 0.3:
            self._session_step(client)
            return
        oldest = next(self._steps) // self.STEPS_PER_KEY
        key = (oldest + client.chance.randrange(self.ACTIVE)) % self.KEYS
        kind = client.chance.random()
        if kind < 0.4:
            client.read("read", key, lambda: self._value(client, key))
        elif kind < 0.7:
            new = next(self._values)
            query = "MATCH (r:Register {key: $key}) SET r.value = $new"
            client.write("write", (key, new), lambda: client.run(query, key=key, new=new) and None)
        else:
            self._compare_and_set(client, key)

    @staticmethod
    def _value(client: Client, key: int) -> Any:
        query = "MATCH (r:Register {key: $key}) RETURN r.value"
        if client.chance.random() < 0.7:
            return client.run(query, key=key)[0][0]
        return client.explicitly(lambda tx: tx.run(query, key=key).single(strict=True)[0])

    def _compare_and_set(self, client: Client, key: int) -> None:
        seen = client.read("read", key, lambda: self._value(client, key))
        old, new = seen.result, next(self._values)
        if old is None:
            return
        if client.chance.random() < 0.5:
            query = "MATCH (r:Register {key: $key, value: $old}) SET r.value = $new RETURN 1"
            client.write(
                "cas",
                (key, old, new),
                lambda: bool(client.run(query, key=key, old=old, new=new)),
            )
            return

        def work(tx: Transaction) -> bool:
            query = "MATCH (r:Register {key: $key}) RETURN r.value"
            if tx.run(query, key=key).single(strict=True)[0] != old:
                return False
            tx.run("MATCH (r:Register {key: $key}) SET r.value = $new", key=key, new=new)
            return True

        client.write("cas", (key, old, new), lambda: client.transactionally(work))

    def _session_step(self, client: Client) -> None:
        """Each client writes versions of a key of its own, and reads anybody's at any server."""
        if client.chance.random() < 0.5:
            self._write_version(client)
            return
        key = client.chance.choice(sorted(self._versions) or [client.index])
        others = [self._bookmarks[key]] if key in self._bookmarks else []
        sent = merged([client.bookmarks, *others]) if others else client.bookmarks
        query = "MATCH (s:Session {key: $key}) RETURN s.version"

        def read() -> Any:
            rows, received = client.run_locally(query, sent, key=key)
            client.bookmarks = merged([client.bookmarks, received])
            return (rows[0][0] or None, _one(received))

        client.read("session-read", (key, tuple(sorted(sent.raw_values))), read)

    def _write_version(self, client: Client) -> None:
        key = client.index
        version = self._versions[key] = self._versions.get(key, 0) + 1
        # A write that nobody heard of again may come late; it must not undo a newer version.
        query = "MATCH (s:Session {key: $key}) WHERE s.version < $version SET s.version = $version"

        def write() -> Any:
            _, received = client.run_marked(query, key=key, version=version)
            client.bookmarks = merged([client.bookmarks, received])
            return _one(received)

        client.write("session-write", (key, version, ()), write)
        self._bookmarks[key] = client.bookmarks

    def final(self, client: Client, ask: Ask) -> None:
        used = min(self.KEYS, next(self._steps) // self.STEPS_PER_KEY + self.ACTIVE)
        query = "MATCH (r:Register {key: $key}) RETURN r.value"

        def read(key: int) -> Any:
            return ask(query, key=key)[0][0]

        for key in range(used):
            client.read("read", key, partial(read, key))

    def check(self, history: Sequence[Operation]) -> Verdict:
        registers = _only(history, {"read": "read", "write": "write", "cas": "cas"})
        sessions = _only(history, {"session-read": "read", "session-write": "write"})
        return combined([check_register(registers), check_sessions(sessions, chained=False)])


def _one(bookmarks: neo4j.Bookmarks) -> str | None:
    return max(bookmarks.raw_values, default=None)


class Append(Workload):
    """Lists that grow. Those of single queries and those of transactions are apart, because they
    are promised different things."""

    name = "append"
    KEYS = 600
    ACTIVE = 4
    STEPS_PER_KEY = 30
    STEPS_MAX = 4  # of one transaction
    _PROMISES: ClassVar[dict[str, str]] = {
        "query": "strict-serializable",
        "transaction": "strong-snapshot-isolation",
    }

    def __init__(self) -> None:
        self._steps = {kind: itertools.count() for kind in self._PROMISES}
        self._elements = itertools.count(1)

    def setup(self, run: Ask) -> None:
        run("CREATE INDEX FOR (l:List) ON (l.key)")
        for kind in self._PROMISES:
            run(
                "UNWIND range(0, $last) AS x CREATE (:List {key: $kind + toString(x), items: []})",
                kind=kind,
                last=self.KEYS - 1,
            )

    def step(self, client: Client) -> None:
        kind = client.chance.choice(sorted(self._PROMISES))
        oldest = next(self._steps[kind]) // self.STEPS_PER_KEY
        steps = []
        for _ in range(client.chance.randint(1, self.STEPS_MAX)):
            key = f"{kind}{(oldest + client.chance.randrange(self.ACTIVE)) % self.KEYS}"
            if client.chance.random() < 0.5:
                steps.append(("append", key, next(self._elements)))
            else:
                steps.append(("read", key))
        value = tuple(steps)
        if kind == "query":
            client.write("query", value, lambda: self._by_query(client, value))
        else:
            client.write(
                "transaction",
                value,
                lambda: client.transactionally(lambda tx: self._in_transaction(tx, value)),
            )

    @staticmethod
    def _by_query(client: Client, steps: Sequence[tuple[Any, ...]]) -> Any:
        clauses, parameters, names = [], {}, []
        for x, step in enumerate(steps):
            parameters[f"key{x}"] = step[1]
            clauses.append(f"MATCH (n{x}:List {{key: $key{x}}})")
            if step[0] == "append":
                parameters[f"element{x}"] = step[2]
                clauses.append(f"SET n{x}.items = n{x}.items + $element{x}")
                kept = "null"
            else:
                kept = f"n{x}.items"
            clauses.append(f"WITH {', '.join([*names, f'{kept} AS r{x}'])}")
            names.append(f"r{x}")
        query = " ".join([*clauses, "RETURN", ", ".join(names)])
        return tupled(client.run(query, **parameters)[0])

    @staticmethod
    def _in_transaction(tx: Transaction, steps: Sequence[tuple[Any, ...]]) -> Any:
        results: list[Any] = []
        for step in steps:
            if step[0] == "append":
                query = "MATCH (l:List {key: $key}) SET l.items = l.items + $element"
                tx.run(query, key=step[1], element=step[2]).consume()
                results.append(None)
            else:
                query = "MATCH (l:List {key: $key}) RETURN l.items"
                results.append(tupled(tx.run(query, key=step[1]).single(strict=True)[0]))
        return tuple(results)

    def final(self, client: Client, ask: Ask) -> None:
        for kind, count in self._steps.items():
            last = min(self.KEYS, next(count) // self.STEPS_PER_KEY + self.ACTIVE)
            keys = [f"{kind}{x}" for x in range(last)]
            client.read(kind, tuple(("read", key) for key in keys), partial(self._all, ask, keys))

    @staticmethod
    def _all(ask: Ask, keys: list[str]) -> Any:
        query = "UNWIND $keys AS key MATCH (l:List {key: key}) RETURN key, l.items"
        found = dict(ask(query, keys=keys))
        return tuple(tupled(found[key]) for key in keys)

    def check(self, history: Sequence[Operation]) -> Verdict:
        return combined(
            check_append(_only(history, {kind: "txn"}), promise=promise)
            for kind, promise in self._PROMISES.items()
        )


class Bank(Workload):
    """Few accounts, so that transfers meet."""

    name = "bank"
    ACCOUNTS = 8
    BALANCE = 100

    def setup(self, run: Ask) -> None:
        query = "UNWIND range(0, $last) AS id CREATE (:Account {id: id, balance: $balance})"
        run(query, last=self.ACCOUNTS - 1, balance=self.BALANCE)

    def step(self, client: Client) -> None:
        kind = client.chance.random()
        if kind < 0.3:
            client.read("read", None, lambda: tupled(client.run(_BALANCES)))
        elif kind < 0.5:
            client.read("local-read", None, lambda: tupled(self._locally(client)))
        else:
            self._transfer(client)

    @staticmethod
    def _locally(client: Client) -> list[list[Any]]:
        return client.run_locally(_BALANCES, neo4j.Bookmarks())[0]

    def _transfer(self, client: Client) -> None:
        source, target = client.chance.sample(range(self.ACCOUNTS), 2)
        amount = client.chance.randint(1, 20)
        named = {"source": source, "target": target, "amount": amount}

        def query() -> None:
            text = (
                "MATCH (a:Account {id: $source}), (b:Account {id: $target}) "
                "WHERE a.balance >= $amount "
                "SET a.balance = a.balance - $amount, b.balance = b.balance + $amount RETURN 1"
            )
            if not client.run(text, **named):
                raise Refused

        def work(tx: Transaction) -> None:
            text = "MATCH (a:Account {id: $id}) RETURN a.balance"
            balance = tx.run(text, id=source).single(strict=True)[0]
            other = tx.run(text, id=target).single(strict=True)[0]
            if balance < amount:
                raise Refused
            text = "MATCH (a:Account {id: $id}) SET a.balance = $balance"
            tx.run(text, id=source, balance=balance - amount)
            tx.run(text, id=target, balance=other + amount)

        how = query if client.chance.random() < 0.5 else lambda: client.transactionally(work)
        client.write("transfer", (source, target, amount), how)

    def final(self, client: Client, ask: Ask) -> None:
        client.read("read", None, lambda: tupled(ask(_BALANCES)))

    def check(self, history: Sequence[Operation]) -> Verdict:
        initial = dict.fromkeys(range(self.ACCOUNTS), self.BALANCE)
        return check_bank(history, initial)


_BALANCES = "MATCH (a:Account) RETURN a.id, a.balance ORDER BY a.id"


class Set(Workload):
    """Elements that are added for ever; the newest of them are what local readers ask for."""

    name = "set"
    NEWEST = 6

    def __init__(self) -> None:
        self._elements = itertools.count()
        self._newest: list[int] = []
        self._lock = threading.Lock()

    def setup(self, run: Ask) -> None:
        run("CREATE INDEX FOR (i:Item) ON (i.value)")

    def step(self, client: Client) -> None:
        kind = client.chance.random()
        if kind < 0.04:
            client.read("read", None, lambda: _elements(client.run(_ITEMS)))
        elif kind < 0.4:
            self._read_newest(client)
        else:
            self._add(client)

    def _add(self, client: Client) -> None:
        with self._lock:
            element = next(self._elements)
            self._newest = [*self._newest[-self.NEWEST + 1 :], element]
        query = "CREATE (:Item {value: $value})"

        def work(tx: Transaction) -> None:
            tx.run(query, value=element)

        def alone() -> None:
            client.run(query, value=element)

        how = alone if client.chance.random() < 0.6 else lambda: client.transactionally(work)
        client.write("add", element, how)

    def _read_newest(self, client: Client) -> None:
        with self._lock:
            newest = tuple(self._newest)
        query = "MATCH (i:Item) WHERE i.value IN $newest RETURN i.value"

        def read() -> Any:
            rows, _ = client.run_locally(query, neo4j.Bookmarks(), newest=list(newest))
            there = {row[0] for row in rows}
            return tuple((element, True if element in there else None) for element in newest)

        client.read("local-read", newest, read)

    def final(self, client: Client, ask: Ask) -> None:
        client.read("read", None, lambda: _elements(ask(_ITEMS)))

    def check(self, history: Sequence[Operation]) -> Verdict:
        everything = _only(history, {"add": "add", "read": "read"})
        forks = [
            replace(op, value=(op.value, True)) if op.action == "write" else op
            for op in _only(history, {"add": "write", "local-read": "read"})
        ]
        return combined([check_set(everything), check_long_fork(forks)])


_ITEMS = "MATCH (i:Item) RETURN i.value"


def _elements(rows: list[list[Any]]) -> tuple[Any, ...]:
    return tuple(row[0] for row in rows)


class Upsert(Workload):
    """A few clients meet at each key: who comes first creates it, the others find it."""

    name = "upsert"
    STEPS_PER_KEY = 8
    ACTIVE = 3

    def __init__(self) -> None:
        self._steps = itertools.count()
        self._values = itertools.count(1)

    def setup(self, run: Ask) -> None:
        run("CREATE CONSTRAINT ON (u:User) ASSERT u.key IS UNIQUE")

    def step(self, client: Client) -> None:
        key = next(self._steps) // self.STEPS_PER_KEY + client.chance.randrange(self.ACTIVE)
        if client.chance.random() < 0.15:
            query = f"MATCH (u:User {{key: $key}}) {_USER}"
            client.read("read", key, lambda: _users(client.run(query, key=key)))
            return
        name, value = f"p{client.index}", next(self._values)
        node = uuid.UUID(int=client.chance.getrandbits(128)).hex
        query = (
            "MERGE (u:User {key: $key}) ON CREATE SET u.node = $node "
            f"SET u.{name} = $value RETURN u.node"
        )
        named = {"key": key, "node": node, "value": value}

        def alone() -> Any:
            found = client.run(query, **named)[0][0]
            return (found, found == node)

        def work(tx: Transaction) -> Any:
            found = tx.run(query, named).single(strict=True)[0]  # type: ignore[arg-type]
            return (found, found == node)

        how = alone if client.chance.random() < 0.5 else lambda: client.transactionally(work)
        client.write("upsert", (key, name, value), how)

    def final(self, client: Client, ask: Ask) -> None:
        client.read("read", None, lambda: _users(ask(f"MATCH (u:User) {_USER}")))

    def check(self, history: Sequence[Operation]) -> Verdict:
        return check_upsert(history)


_USER = "RETURN u.node, u.key, properties(u)"


def _users(rows: list[list[Any]]) -> tuple[Any, ...]:
    return tuple(
        (node, key, tuple(sorted((n, v) for n, v in found.items() if n not in ("node", "key"))))
        for node, key, found in rows
    )


#: By name, in the order in which they run.
WORKLOADS: dict[str, type[Workload]] = {
    workload.name: workload for workload in (Append, Register, Bank, Set, Upsert)
}


def clients_of(
    workload: Workload, clients: Sequence[Client], stopped: threading.Event, pause: float
) -> Iterator[threading.Thread]:
    """Threads, not started yet, in which the clients take steps until ``stopped``."""

    def work(client: Client) -> None:
        while not stopped.is_set():
            workload.step(client)
            stopped.wait(client.chance.uniform(0, 2 * pause))

    for client in clients:
        yield threading.Thread(target=work, args=(client,), daemon=True)


def new_chance(seed: int, *of: object) -> random.Random:
    """Randomness of its own for each part of a run, from its seed."""
    return random.Random(f"{seed} {of}")
