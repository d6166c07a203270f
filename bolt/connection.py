"""One connection, seen from the server: bytes in, events out; responses in, bytes out.

    connection.receive_data(data)          # what the socket gave; b"" when the peer closed
    event = connection.next_event()        # a request, NEED_DATA, PAUSED, or RemoteProtocolError
    data = connection.send(response)       # what to write to the socket

Requests are answered one at a time and in order: after an event that wants an answer,
``next_event`` says PAUSED until ``send`` has been called for it. Looking ahead is possible all
the same: ``peek`` shows the requests that have arrived behind it, so that RUN and PULL, or BEGIN,
RUN and PULL, can travel to the server that executes them as one.

Two things do not wait in the queue. ``interrupt_pending`` tells as soon as a RESET has arrived,
and ``peer_gone`` as soon as a GOODBYE or the end of the stream has; work in progress should be
stopped. The request concerned is still answered after an interrupt (Ignored is then legal for any
request), and everything between it and the RESET comes out as ``IgnoredRequest``.

A violation by the peer is raised by ``next_event`` when its turn comes, that is after the valid
requests before it have been answered. The connection is DEFUNCT then: write the error's
``farewell``, close.

What must never happen: a request handed out in a state that does not allow it; an answer to the
wrong request; READY without authentication; memory that a peer decides (``queue_full`` says when
to stop reading, every message is bounded by :mod:`bolt.limits`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from bolt import handshake
from bolt.errors import LocalProtocolError, RemoteProtocolError
from bolt.framing import Deframer
from bolt.limits import (
    AUTHENTICATED,
    QUEUED_MESSAGE_OVERHEAD_BYTES,
    STREAMS_MAX,
    UNAUTHENTICATED,
)
from bolt.messages import (
    NEED_DATA,
    PAUSED,
    RESET_BYTES,
    ConnectionClosed,
    Discard,
    Event,
    Failure,
    Goodbye,
    Handshake,
    HandshakeReply,
    Hello,
    Ignored,
    IgnoredRequest,
    Pull,
    Request,
    RequestTag,
    Reset,
    Response,
    Run,
    Signal,
    Success,
    decode_request,
    request_tag,
)
from bolt.records import encode_message
from bolt.states import IGNORING, INTERRUPTIBLE, States, Transition, initial, transition
from bolt.versions import PREFERENCE, PROTOCOLS, Dialect, Protocol

__all__ = ["ServerConnection"]

_GOODBYE_BYTES = bytes((0xB0, RequestTag.GOODBYE))


class _Queued:
    """A message that waits, decoded at most once."""

    __slots__ = ("body", "request")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.request: Request | None = None


class ServerConnection:
    """The server's side of one Bolt connection. Not for use by two threads at a time."""

    def __init__(self, *, preference: Sequence[tuple[int, int]] = PREFERENCE) -> None:
        """``preference``: versions to agree to, best first; all that are known, unless told."""
        self._preference = preference
        self._state = States.HANDSHAKE
        self._protocol: Protocol | None = None
        self._dialect: Dialect | None = None
        self._limits = UNAUTHENTICATED
        self._opening = bytearray()
        self._deframer = Deframer(UNAUTHENTICATED.message_bytes_max)
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._resets = 0
        self._goodbye = False
        self._ended = False
        self._clean = True
        self._violation: RemoteProtocolError | None = None
        self._in_flight: Handshake | Request | IgnoredRequest | None = None
        self._row: Transition | None = None
        self._streams: set[int] = set()
        self._last_qid = -1

    # --- what is known about the connection ---------------------------------------------------

    @property
    def state(self) -> States:
        """Where the connection stands. While a request is unanswered: where it was received."""
        return self._state

    @property
    def version(self) -> tuple[int, int] | None:
        """The version agreed on, as (major, minor); None before the handshake."""
        return None if self._protocol is None else self._protocol.version

    @property
    def dialect(self) -> Dialect:
        """How values are written for this client. Final once HELLO has been answered."""
        if self._dialect is None:
            raise LocalProtocolError("the handshake has not been completed yet")
        return self._dialect

    @property
    def interrupt_pending(self) -> bool:
        """A RESET has been received and not been reached: stop the request in progress."""
        return self._resets > 0

    @property
    def peer_gone(self) -> bool:
        """The peer has said GOODBYE or closed its side: nobody waits for lengthy work any more."""
        return self._goodbye or self._ended

    @property
    def queue_full(self) -> bool:
        """Enough is waiting: read no more from the socket until requests have been answered."""
        return self._queued_bytes > self._limits.queue_bytes_max

    # --- bytes in -----------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take what the socket gave; ``b""`` means that the peer will send no more.

        Never raises for what a peer sends. Raises ``LocalProtocolError`` if called with data after
        the end, or while ``queue_full``.
        """
        if not data:
            self._ended = True
            return
        if self._ended:
            raise LocalProtocolError("data received after the end of the stream")
        if self._state is States.DEFUNCT or self._violation is not None:
            return
        if self.queue_full:
            raise LocalProtocolError("the queue is full: answer requests before reading more data")
        if self._protocol is None:
            self._opening += data
            data = self._open()
        for body in self._deframer.receive(data):
            self._queue.append(_Queued(body))
            self._queued_bytes += len(body) + QUEUED_MESSAGE_OVERHEAD_BYTES
            if body == RESET_BYTES:
                self._resets += 1
            elif body == _GOODBYE_BYTES:
                self._goodbye = True
        if self._deframer.failure is not None:
            self._violation = self._deframer.failure
        self._interrupt()

    def _open(self) -> bytes:
        """Look at the client's handshake; return the bytes behind it once it is complete."""
        opening = bytes(self._opening)
        try:
            handshake.check_magic(opening)
        except RemoteProtocolError as error:
            self._violation = error
            return b""
        if len(opening) < handshake.HANDSHAKE_BYTES:
            return b""
        slots = opening[len(handshake.MAGIC) : handshake.HANDSHAKE_BYTES]
        version = handshake.choose(slots, self._preference)
        if version is None:
            known = ", ".join(f"{major}.{minor}" for major, minor in self._preference)
            self._violation = RemoteProtocolError(
                f"the client offers no version of Bolt that this server speaks ({known}): "
                f"offered {slots.hex(' ', 4)}",
                farewell=handshake.NO_VERSION,
            )
            return b""
        self._protocol = PROTOCOLS[version]
        self._dialect = self._protocol.dialect
        self._opening.clear()
        return opening[handshake.HANDSHAKE_BYTES :]

    # --- events out ---------------------------------------------------------------------------

    def next_event(self) -> Event | Signal:
        """The next request, ``NEED_DATA``, or ``PAUSED`` while the last one is unanswered.

        Raises ``RemoteProtocolError`` for a violation by the peer: send its ``farewell`` and close.
        """
        if self._in_flight is not None:
            return PAUSED
        if self._state is States.DEFUNCT:
            return ConnectionClosed(self._clean)
        if self._state is States.HANDSHAKE and self._protocol is not None:
            self._in_flight = Handshake(self._protocol.version)
            return self._in_flight
        if self._queue:
            return self._dispatch(self._dequeue())
        if self._violation is not None:
            raise self._defunct(self._violation)
        if self._ended:
            self._clean = not (self._deframer.mid_message or self._opening)
            self._state = States.DEFUNCT
            return ConnectionClosed(self._clean)
        return NEED_DATA

    def peek(self, index: int = 0) -> Request | None:
        """The request that waits at ``index`` behind the present one, without taking it.

        None if it has not arrived, if a RESET is waiting (then it will be ignored), or if it is
        malformed. Whether it is legal depends on answers not yet given: it is only a hint.
        """
        if self._protocol is None or self._resets or not 0 <= index < len(self._queue):
            return None
        item = self._queue[index]
        if item.request is None:
            try:
                item.request = decode_request(item.body, self._protocol, self._limits)
            except RemoteProtocolError:
                return None
        return item.request

    def _dequeue(self) -> _Queued:
        item = self._queue.popleft()
        self._queued_bytes -= len(item.body) + QUEUED_MESSAGE_OVERHEAD_BYTES
        if item.body == RESET_BYTES:
            self._resets -= 1
        return item

    def _dispatch(self, item: _Queued) -> Event:
        assert self._protocol is not None
        try:
            tag = request_tag(item.body, self._protocol)
            if self._state in IGNORING and tag not in _NEVER_IGNORED:
                self._in_flight = IgnoredRequest(tag)
                return self._in_flight
            row = transition(self._state, tag)
            if row is None and tag is not RequestTag.GOODBYE:
                raise RemoteProtocolError(f"{tag.name} is not allowed in state {self._state.value}")
            request = item.request or decode_request(item.body, self._protocol, self._limits)
            if isinstance(request, Goodbye):
                self._discard_rest()
                return request
            request = self._number(request)
        except RemoteProtocolError as error:
            raise self._defunct(error) from None
        self._in_flight, self._row = request, row
        return request

    def _number(self, request: Request) -> Request:
        """Put the number of the result that a request makes or reads, and check that it is open."""
        in_transaction = self._state in (States.TX_READY, States.TX_STREAMING)
        if isinstance(request, Run):
            if not in_transaction:
                return request
            if len(self._streams) >= STREAMS_MAX:
                raise RemoteProtocolError(
                    f"a transaction may have {STREAMS_MAX} results open: read or discard some first"
                )
            return replace(request, qid=self._last_qid + 1)
        if not isinstance(request, _READS):
            return request
        if not in_transaction:
            if request.qid > 0:
                raise RemoteProtocolError(f"there is no open result with qid {request.qid}")
            return replace(request, qid=-1) if request.qid == 0 else request
        qid = self._last_qid if request.qid == -1 else request.qid
        if qid not in self._streams:
            raise RemoteProtocolError(f"there is no open result with qid {request.qid}")
        return replace(request, qid=qid) if request.qid == -1 else request

    # --- responses in, bytes out --------------------------------------------------------------

    def send(self, response: Response) -> bytes:
        """Answer the request last handed out; return the bytes to write.

        For a RUN in an explicit transaction the result's number, for HELLO the accepted patches,
        are added to the metadata. Raises ``LocalProtocolError`` if the answer is not legal now,
        and ``EncodingError`` if its metadata cannot be sent; the request then still waits for its
        answer.
        """
        asked = self._in_flight
        if asked is None:
            raise LocalProtocolError(f"there is no request to answer with {_name(response)}")
        if isinstance(asked, Handshake):
            data = self._answer_handshake(asked, response)
        elif isinstance(asked, IgnoredRequest):
            if not isinstance(response, Ignored):
                raise _illegal(response, f"an ignored {asked.tag.name}")
            data = encode_message(response, self.dialect)
        else:
            data = self._answer(asked, response)
        self._in_flight = self._row = None
        self._interrupt()
        return data

    def records_written(self) -> None:
        """Say that RECORD messages made elsewhere go to the socket before the answer to a PULL.

        Raises ``LocalProtocolError`` unless a PULL is waiting for its answer.
        """
        if not isinstance(self._in_flight, Pull):
            raise LocalProtocolError("records are sent in answer to a PULL only")

    def send_encoded(self, data: bytes) -> bytes:
        """Answer RUN, PULL or DISCARD with a SUCCESS that was encoded elsewhere.

        ``data`` is ``encode_message(Success(...))`` in this connection's dialect: for RUN with the
        ``qid`` the request carries, for the others without ``has_more``. Returns ``data``. Raises
        ``LocalProtocolError`` if another request, or none, is waiting for its answer.
        """
        asked, row = self._in_flight, self._row
        if not isinstance(asked, Run | Pull | Discard) or row is None:
            raise LocalProtocolError("only RUN, PULL and DISCARD are answered with encoded bytes")
        self._state = self._follow_streams(asked, row.success, has_more=False)
        self._in_flight = self._row = None
        self._interrupt()
        return data

    def _answer_handshake(self, asked: Handshake, response: Response) -> bytes:
        if not isinstance(response, HandshakeReply):
            raise _illegal(response, "a handshake")
        assert self._protocol is not None
        self._state = initial(self._protocol)
        return handshake.encode_version(asked.version)

    def _answer(self, asked: Request, response: Response) -> bytes:
        row = self._row
        assert row is not None
        if isinstance(response, Success):
            return self._succeed(asked, response, row)
        if isinstance(response, Failure):
            data = encode_message(response, self.dialect)
            self._streams.clear()
            self._state = row.failure
            if row.failure is States.DEFUNCT:
                self._discard_rest()
            return data
        if isinstance(response, Ignored) and self._may_ignore(asked):
            return encode_message(response, self.dialect)
        raise _illegal(response, asked.tag.name)

    def _may_ignore(self, asked: Request) -> bool:
        """A request overtaken by a RESET may be ignored where the RESET has power already."""
        return self._resets > 0 and self._state in INTERRUPTIBLE and not isinstance(asked, Reset)

    def _succeed(self, asked: Request, response: Success, row: Transition) -> bytes:
        metadata = response.metadata
        has_more = metadata.get("has_more") is True
        if has_more and row.more is None:
            raise LocalProtocolError(f"{asked.tag.name} has no result that could have more")
        state = row.more if has_more and row.more is not None else row.success
        dialect = self.dialect
        if isinstance(asked, Hello) and self._wants_utc(asked):
            metadata = {**metadata, "patch_bolt": ["utc"]}
            dialect = replace(dialect, utc=True)
        elif isinstance(asked, Run) and asked.qid >= 0:
            metadata = {**metadata, "qid": asked.qid}
        if metadata is not response.metadata:
            response = Success(metadata)
        data = encode_message(response, dialect)
        self._dialect = dialect
        self._state = self._follow_streams(asked, state, has_more)
        if self._limits is UNAUTHENTICATED and state is States.READY:
            self._limits = AUTHENTICATED
            self._deframer.message_bytes_max = AUTHENTICATED.message_bytes_max
        return data

    def _wants_utc(self, hello: Hello) -> bool:
        assert self._protocol is not None
        patches = hello.extra.get("patch_bolt")
        return self._protocol.utc_patch and isinstance(patches, list) and "utc" in patches

    def _follow_streams(self, asked: Request, state: States, has_more: bool) -> States:
        """Keep the open results of a transaction; the last one read leads back to TX_READY."""
        if isinstance(asked, Run) and asked.qid >= 0:
            self._last_qid = asked.qid
            self._streams.add(asked.qid)
        elif isinstance(asked, _READS) and not has_more:
            self._streams.discard(asked.qid)
            if self._streams:
                return States.TX_STREAMING
        elif state is States.READY or state is States.TX_READY:
            # BEGIN, COMMIT, ROLLBACK, RESET: numbering starts anew.
            self._streams.clear()
            self._last_qid = -1
        return state

    # --- interrupts and the end ---------------------------------------------------------------

    def _interrupt(self) -> None:
        if self._resets and self._in_flight is None and self._state in INTERRUPTIBLE:
            self._state = States.INTERRUPTED
            self._streams.clear()

    def _defunct(self, error: RemoteProtocolError) -> RemoteProtocolError:
        """Close for good; give ``error`` the bytes that tell the client why."""
        if self._state is not States.HANDSHAKE:
            error.farewell = encode_message(Failure(error.code, error.message), self.dialect)
        self._clean = False
        self._discard_rest()
        return error

    def _discard_rest(self) -> None:
        self._state = States.DEFUNCT
        self._queue.clear()
        self._queued_bytes = 0
        self._resets = 0


# A tuple, because ``Pull | Discard`` would be made anew for every request.
_READS = (Pull, Discard)
_NEVER_IGNORED = frozenset({RequestTag.HELLO, RequestTag.RESET, RequestTag.GOODBYE})


def _name(response: Response) -> str:
    return type(response).__name__


def _illegal(response: Response, asked: str) -> LocalProtocolError:
    return LocalProtocolError(f"{_name(response)} is no answer to {asked}")
