"""Chunks and messages.

A message travels as chunks, each a 16-bit length and as many bytes, and ends with a chunk of length
zero. A zero chunk where no message has begun is a NOOP, sent to keep a connection alive. One
chunk never holds parts of two messages.

Bytes are kept only as they arrive: a length that a peer declares reserves nothing. The size of
a message is checked against the limit when a chunk's header is read, before its body is accepted.

Source: https://neo4j.com/docs/bolt/current/bolt/message/#chunking.
"""

from __future__ import annotations

from bolt.errors import RemoteProtocolError

__all__ = ["CHUNK_BYTES_MAX", "Deframer", "frame"]

CHUNK_BYTES_MAX = 0xFFFF
_END = b"\x00\x00"


def frame(message: bytes) -> bytes:
    """One message as chunks of at most 65,535 bytes and the end marker."""
    size = len(message)
    if size <= CHUNK_BYTES_MAX:
        return size.to_bytes(2, "big") + message + _END
    parts: list[bytes] = []
    for start in range(0, size, CHUNK_BYTES_MAX):
        chunk = message[start : start + CHUNK_BYTES_MAX]
        parts.append(len(chunk).to_bytes(2, "big"))
        parts.append(chunk)
    parts.append(_END)
    return b"".join(parts)


class Deframer:
    """Bytes in, whole messages out. ``message_bytes_max`` may be changed between calls.

    A violation stops the deframer for good and is kept in ``failure``; the messages before it are
    still handed out, so that their answers go out before the connection is closed.
    """

    __slots__ = ("_buffer", "_message", "failure", "message_bytes_max")

    def __init__(self, message_bytes_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        self.failure: RemoteProtocolError | None = None
        # Bytes of an incomplete chunk: at most one chunk and its header after each call.
        self._buffer = bytearray()
        # Chunks of an incomplete message.
        self._message = bytearray()

    @property
    def mid_message(self) -> bool:
        """Whether bytes of an unfinished message are held."""
        return bool(self._buffer or self._message)

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes, in order."""
        messages: list[bytes] = []
        if self.failure is not None:
            return messages
        if not self._buffer:
            used = self._split(data, messages)
            self._buffer += data[used:] if used else data
        else:
            self._buffer += data
            used = self._split(self._buffer, messages)
            del self._buffer[:used]
        return messages

    def _split(self, data: bytes | bytearray, messages: list[bytes]) -> int:
        """Take whole chunks off ``data``; return how many bytes were used."""
        at, end = 0, len(data)
        partial = self._message
        with memoryview(data) as view:
            while end - at >= 2:
                size = (view[at] << 8) | view[at + 1]
                if size == 0:
                    at += 2
                    if partial:
                        messages.append(bytes(partial))
                        partial.clear()
                    continue
                if len(partial) + size > self.message_bytes_max:
                    self._fail(len(partial) + size)
                    return end
                stop = at + 2 + size
                if stop > end:
                    break
                if not partial and end - stop >= 2 and view[stop] == 0 and view[stop + 1] == 0:
                    # The usual case, one chunk and its end marker: a single copy.
                    messages.append(bytes(view[at + 2 : stop]))
                    at = stop + 2
                else:
                    partial += view[at + 2 : stop]
                    at = stop
        return at

    def _fail(self, size: int) -> None:
        self.failure = RemoteProtocolError(
            f"a message of at least {size} bytes exceeds the limit of "
            f"{self.message_bytes_max} bytes: send the work in smaller batches "
            "(before authentication the limit is lower)"
        )
        self._message.clear()
