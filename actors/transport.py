"""All Ray calls that a server makes to others: peers' and gateways' handles, one-way messages.

Nothing here waits. A message that cannot be sent is dropped: Raft repeats it, and a gateway whose
reply is lost asks again. A peer's death is noticed by its ``watch`` call, which ends in an error
when the process goes, some milliseconds later. When only the connection breaks the error is
another one: the peer may live beyond a partition. It is kept then and looked for, because nobody
will introduce it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayError

from actors.protocol import Reply, encode_replies

__all__ = ["FOREIGN", "LOST", "REMOVED", "Introduction", "Transport"]

log = structlog.get_logger()

WATCH_POLL_SECONDS = 0.25
# Between two looks for a peer to which the connection broke.
LOOK_AGAIN_SECONDS = 0.5
# Replies to a gateway that has met this server, which has not met it yet; see ``_Early``.
EARLY_SECONDS = 30.0
EARLY_BYTES_MAX = 16 * 2**20

# Why a server is refused: it was removed from the cluster; it comes without the data directory that
# it had; it belongs to another cluster. The first two end it.
REMOVED, LOST, FOREIGN = "removed", "lost", "foreign"


@dataclass(frozen=True, slots=True)
class Introduction:
    """A server or a gateway, in one life of it, and how to reach it."""

    kind: str  # "server" or "gateway"
    server_id: int  # the server it is, or belongs to
    incarnation: int
    handle: Any
    # Gateway: where Bolt clients reach it; server: where its Ray node listens. host:port
    address: str = ""
    key: int = 0  # gateway: names this life of it in requests
    # Of a server alone; see ``envelope.py``.
    directory: str = ""
    cluster_id: str = ""
    peers: tuple[tuple[int, str], ...] = ()  # directories that it knows of others, by server id


class _Early:
    """Replies to gateways that are not known here yet, or not any more.

    A gateway that is introduced to this server may ask before this server is introduced to it. A
    reply that were dropped then would be waited for until the request's deadline.
    """

    def __init__(self) -> None:
        self._messages: dict[int, list[Sequence[Reply]]] = {}
        self._since: dict[int, float] = {}
        self._bytes = 0

    def keep(self, gateway: int, replies: Sequence[Reply]) -> None:
        """Remember them, unless that would be too much: then none are kept for that gateway."""
        size = sum(map(_size, replies))
        if self._bytes + size > EARLY_BYTES_MAX:
            self.take(gateway)
            log.warning("replies to an unknown gateway are dropped", replies=len(replies))
            return
        self._bytes += size
        self._since.setdefault(gateway, time.monotonic())
        self._messages.setdefault(gateway, []).append(replies)

    def take(self, gateway: int) -> list[Sequence[Reply]]:
        """What was kept for a gateway, message by message; it is forgotten here."""
        self._since.pop(gateway, None)
        messages = self._messages.pop(gateway, [])
        self._bytes -= sum(_size(reply) for replies in messages for reply in replies)
        return messages

    def sweep(self) -> None:
        """Forget what nobody came for."""
        oldest = time.monotonic() - EARLY_SECONDS
        for gateway in [g for g, since in self._since.items() if since < oldest]:
            self.take(gateway)


def _size(reply: Reply) -> int:
    return len(reply.head) + len(reply.body) + len(reply.tail) + 64


class Transport:
    """See the module. ``send``, ``reply`` and ``announce`` may be called by any thread."""

    def __init__(
        self,
        server_id: int,
        *,
        on_down: Callable[[int], None],
        on_unreachable: Callable[[int], None],
        on_gateway_down: Callable[[int], None],
        on_gateway_back: Callable[[], None],
    ) -> None:
        self._server_id = server_id
        self._on_down = on_down
        self._on_unreachable = on_unreachable
        self._on_gateway_down = on_gateway_down
        self._on_gateway_back = on_gateway_back
        self._peers: dict[int, Introduction] = {}
        self._gateways: dict[int, Introduction] = {}  # by key
        self._early = _Early()
        self._watches: dict[Any, Introduction] = {}
        self._looks: dict[Any, Introduction] = {}  # calls to those that are looked for
        self._out_of_sight: list[tuple[float, Introduction]] = []  # when to look for whom
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def meet(self, newcomer: Introduction) -> bool:
        """Remember a newcomer in place of its older life; whether it is news."""
        early: list[Sequence[Reply]] = []
        with self._lock:
            if newcomer.kind == "server":
                if newcomer.server_id == self._server_id:
                    return False
                known = self._peers.get(newcomer.server_id)
                if (
                    known is not None
                    and known.directory == newcomer.directory
                    and known.incarnation >= newcomer.incarnation
                ):
                    return False
                self._peers[newcomer.server_id] = newcomer
            else:
                if newcomer.key in self._gateways:
                    return False
                self._gateways[newcomer.key] = newcomer
                early = self._early.take(newcomer.key)
            self._watches[newcomer.handle.watch.remote()] = newcomer
        log.info("met", kind=newcomer.kind, id=newcomer.server_id, life=newcomer.incarnation)
        for replies in early:
            self.reply(newcomer.key, replies)
        return True

    def send(self, peer: int, data: bytes) -> None:
        known = self._peers.get(peer)
        if known is None:
            return
        try:
            known.handle.deliver.remote(data)
        except RayError:
            self._on_unreachable(peer)

    def reply(self, gateway: int, replies: Sequence[Reply]) -> None:
        known = self._gateways.get(gateway)
        if known is None:
            with self._lock:
                known = self._gateways.get(gateway)
                if known is None:
                    self._early.keep(gateway, replies)
                    return
        try:
            known.handle.deliver.remote(self._server_id, encode_replies(replies))
        except RayError:
            log.warning("a reply could not be sent", gateway=known.server_id)

    def announce(self, server_id: int, incarnation: int, term: int, leader: int, role: int) -> None:
        """Tell all gateways who leads, as far as this server knows."""
        for known in list(self._gateways.values()):
            try:
                known.handle.announce.remote(server_id, incarnation, term, leader, role)
            except RayError:
                continue

    def announce_readers(self, term: int, readers: tuple[int, ...]) -> None:
        """Tell all gateways which members may answer reads on their own."""
        for known in list(self._gateways.values()):
            try:
                known.handle.announce_readers.remote(term, readers)
            except RayError:
                continue

    def refuse(self, newcomer: Introduction, kind: str, reason: str) -> None:
        """Tell a server why it must not take part; see ``ServerActor.refused``."""
        log.warning("refused", id=newcomer.server_id, life=newcomer.incarnation, reason=reason)
        try:
            newcomer.handle.refused.remote(self._server_id, kind, reason)
        except RayError:
            return

    def dismiss(self, peer: int, reason: str) -> None:
        """Tell a server that is known here that it was removed."""
        known = self._peers.get(peer)
        if known is not None:
            self.refuse(known, REMOVED, reason)

    def _watch(self) -> None:
        while True:
            self._look_again()
            with self._lock:
                self._early.sweep()
                calls = [*self._watches, *self._looks]
            if not calls:
                threading.Event().wait(WATCH_POLL_SECONDS)
                continue
            done, _ = ray.wait(calls, num_returns=1, timeout=WATCH_POLL_SECONDS)
            for reference in done:
                self._ended(reference)

    def _ended(self, reference: Any) -> None:
        """A watch call ended, or a look did, with an answer or without."""
        with self._lock:
            found = self._looks.pop(reference, None)
            peer = found or self._watches.pop(reference)
        try:
            ray.get(reference)
        except ActorUnavailableError:
            self._lost_sight(peer, news=found is None)
        except RayError:
            self._gone(peer)
        else:
            if found is None:
                self._gone(peer)
            else:
                self._found_again(peer)

    def _lost_sight(self, peer: Introduction, *, news: bool) -> None:
        """The connection broke. The peer may be dead, or on the other side of a partition."""
        self._out_of_sight.append((time.monotonic() + LOOK_AGAIN_SECONDS, peer))
        if news:
            log.info("out of sight", kind=peer.kind, id=peer.server_id, life=peer.incarnation)
            if peer.kind == "server":
                self._on_unreachable(peer.server_id)

    def _look_again(self) -> None:
        """Look for those that are out of sight, and have not been replaced meanwhile."""
        due = [peer for at, peer in self._out_of_sight if at <= time.monotonic()]
        if not due:
            return
        self._out_of_sight = [entry for entry in self._out_of_sight if entry[1] not in due]
        for peer in due:
            if self._is_known(peer):
                look = peer.handle.describe.remote()
                with self._lock:
                    self._looks[look] = peer

    def _is_known(self, peer: Introduction) -> bool:
        if peer.kind == "gateway":
            return self._gateways.get(peer.key) is peer
        return self._peers.get(peer.server_id) is peer

    def _found_again(self, peer: Introduction) -> None:
        log.info("in sight again", kind=peer.kind, id=peer.server_id, life=peer.incarnation)
        watch = peer.handle.watch.remote()
        with self._lock:
            self._watches[watch] = peer
        if peer.kind == "gateway":
            self._on_gateway_back()

    def _gone(self, gone: Introduction) -> None:
        """The process is dead, or has stopped on purpose."""
        with self._lock:
            known = self._is_known(gone)
            if known and gone.kind == "gateway":
                del self._gateways[gone.key]
            elif known:
                del self._peers[gone.server_id]
        log.info("gone", kind=gone.kind, id=gone.server_id, life=gone.incarnation)
        if gone.kind == "gateway":
            self._on_gateway_down(gone.key)
        elif known:  # else its next life is here already
            self._on_down(gone.server_id)
