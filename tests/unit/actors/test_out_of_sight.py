"""A broken connection is no death: who is behind a partition is looked for until it is over.

Ray answers a pending call with ``ActorUnavailableError`` when the connection to a process breaks,
and with ``ActorDiedError`` when it knows that the process has ended. The handles here do the same
on demand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from actors import gateway_actor, transport
from actors.gateway_actor import Gateway
from actors.router import Router
from actors.transport import Introduction, Transport


class Method:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.remote = call


class Handle:
    """An actor's handle; each call waits until the test says how it ends."""

    def __init__(self, new_call: Callable[[], Any] = Future) -> None:
        self.watches: list[Any] = []
        self.looks: list[Any] = []
        self.watch = Method(lambda: self._call(self.watches, new_call))
        self.describe = Method(lambda: self._call(self.looks, new_call))

    @staticmethod
    def _call(calls: list[Any], new_call: Callable[[], Any]) -> Any:
        calls.append(new_call())
        return calls[-1]


def unavailable() -> ActorUnavailableError:
    return ActorUnavailableError("the connection broke", None)


class Watcher(Transport):
    """A transport whose thread is the test, one turn at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[str] = []
        super().__init__(
            1,
            on_down=lambda peer: self.heard.append(f"down {peer}"),
            on_unreachable=lambda peer: self.heard.append(f"unreachable {peer}"),
            on_gateway_down=lambda key: self.heard.append(f"gateway down {key}"),
            on_gateway_back=lambda: self.heard.append("gateway back"),
        )
        monkeypatch.setattr(transport, "LOOK_AGAIN_SECONDS", 0.0)
        monkeypatch.setattr(transport, "ray", self)

    @staticmethod
    def wait(calls: list[Future[Any]], num_returns: int, timeout: float) -> Any:
        done = [call for call in calls if call.done()]
        return done[:num_returns], calls

    @staticmethod
    def get(call: Future[Any]) -> Any:
        return call.result()

    def turn(self) -> None:
        self._look_again()
        for call in [c for c in (*self._watches, *self._looks) if c.done()]:
            self._ended(call)


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return Watcher(monkeypatch)


def test_a_server_behind_a_partition_is_kept_and_watched_again(watcher: Watcher) -> None:
    handle = Handle()
    watcher.meet(Introduction("server", 2, 1, handle))
    handle.watches[0].set_exception(unavailable())
    watcher.turn()
    assert watcher.heard == ["unreachable 2"]
    assert watcher._peers[2].handle is handle

    watcher.turn()
    handle.looks[0].set_exception(unavailable())
    watcher.turn()
    watcher.turn()
    assert watcher.heard == ["unreachable 2"], "it is said once"
    handle.looks[1].set_result({"kind": "server"})
    watcher.turn()
    assert len(handle.watches) == 2

    handle.watches[1].set_exception(ActorDiedError())
    watcher.turn()
    assert watcher.heard == ["unreachable 2", "down 2"]
    assert 2 not in watcher._peers


def test_a_server_that_died_behind_a_partition_is_down(watcher: Watcher) -> None:
    handle = Handle()
    watcher.meet(Introduction("server", 2, 1, handle))
    handle.watches[0].set_exception(unavailable())
    watcher.turn()
    watcher.turn()
    handle.looks[0].set_exception(ActorDiedError())
    watcher.turn()
    assert watcher.heard == ["unreachable 2", "down 2"]


def test_the_late_news_of_an_older_life_is_not_about_the_new_one(watcher: Watcher) -> None:
    old, new = Handle(), Handle()
    watcher.meet(Introduction("server", 2, 1, old))
    watcher.meet(Introduction("server", 2, 2, new))
    old.watches[0].set_exception(ActorDiedError())
    watcher.turn()
    assert watcher.heard == []
    assert watcher._peers[2].handle is new


def test_nobody_looks_for_a_life_that_was_replaced(watcher: Watcher) -> None:
    old, new = Handle(), Handle()
    watcher.meet(Introduction("server", 2, 1, old))
    old.watches[0].set_exception(unavailable())
    watcher.turn()
    watcher.meet(Introduction("server", 2, 2, new))
    watcher.turn()
    assert old.looks == []
    assert watcher._peers[2].handle is new


def test_a_gateway_that_is_back_is_told_who_leads(watcher: Watcher) -> None:
    handle = Handle()
    watcher.meet(Introduction("gateway", 2, 1, handle, key=77))
    handle.watches[0].set_exception(unavailable())
    watcher.turn()
    assert watcher.heard == []
    watcher.turn()
    handle.looks[0].set_result({"kind": "gateway"})
    watcher.turn()
    assert watcher.heard == ["gateway back"]
    assert 77 in watcher._gateways


# --- The gateway's side ---------------------------------------------------------------------------


def in_gateway(
    monkeypatch: pytest.MonkeyPatch, test: Callable[[Gateway], Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr(gateway_actor, "LOOK_AGAIN_SECONDS", 0.0)

    async def run() -> None:
        await test(Gateway(1, str(Path()), 0, 1_000))

    asyncio.run(run())


async def settle(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so; it never takes time, only turns."""
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not happen")


def test_a_gateway_finds_a_server_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(gateway: Gateway) -> None:
        router, handle = gateway._router, Handle(asyncio.Future)
        await gateway.introduce([Introduction("server", 2, 1, handle)])
        router.announced(2, 5, 2)
        await settle(lambda: len(handle.watches) == 1)
        handle.watches[0].set_exception(unavailable())
        await settle(lambda: len(handle.looks) == 1)
        assert not router.alive(2)
        assert router.leader == 0
        handle.looks[0].set_exception(unavailable())
        await settle(lambda: len(handle.looks) == 2)
        handle.looks[1].set_result({"kind": "server"})
        await settle(lambda: len(handle.watches) == 2)
        assert router.alive(2)
        assert (router.leader, router.term) == (2, 5)
        handle.watches[1].set_exception(ActorDiedError())
        await settle(lambda: not router.alive(2))
        assert len(handle.looks) == 2

    in_gateway(monkeypatch, test)


def test_a_gateway_forgets_a_life_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(gateway: Gateway) -> None:
        old, new = Handle(asyncio.Future), Handle(asyncio.Future)
        await gateway.introduce([Introduction("server", 2, 1, old)])
        await settle(lambda: len(old.watches) == 1)
        old.watches[0].set_exception(unavailable())
        await settle(lambda: len(old.looks) == 1)
        await gateway.introduce([Introduction("server", 2, 2, new)])
        old.looks[0].set_result({"kind": "server"})
        await settle(lambda: len(gateway._tasks) == 1)
        assert gateway._router._servers[2].introduction.incarnation == 2
        assert len(old.watches) == 1

    in_gateway(monkeypatch, test)


def test_a_new_life_of_a_lost_leader_does_not_lead() -> None:
    router = Router(1, lambda _server, _data: None, replication_timeout_s=1.0)
    first = Introduction("server", 2, 1, None)

    async def test() -> None:
        router.meet(first)
        router.announced(2, 5, 2)
        router.lost(first)
        router.meet(Introduction("server", 2, 2, None))
        assert router.leader == 0

    asyncio.run(test())
