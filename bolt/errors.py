"""What can go wrong in Bolt, and whose fault it is.

::

    BoltError                  carries the Neo4j status code a client is shown
    ├── LocalProtocolError     we tried what the protocol forbids: a bug of ours; nothing was sent
    ├── RemoteProtocolError    the peer broke the protocol; send ``farewell`` and close
    │   └── PackStreamError    its bytes are not PackStream, or exceed our limits
    ├── ParameterError         a parameter that we cannot take; answer FAILURE
    └── EncodingError          a value of ours cannot be sent to a client; answer FAILURE

In every case the request concerned was *not done*: all of these are raised before a request reaches
whoever would carry it out, or, for ``EncodingError``, before the bytes of an answer exist.
"""

from __future__ import annotations

from bolt import status

__all__ = [
    "BoltError",
    "EncodingError",
    "LocalProtocolError",
    "PackStreamError",
    "ParameterError",
    "RemoteProtocolError",
]


class BoltError(Exception):
    """Base of all errors of this package. ``code`` is a Neo4j status code."""

    code = status.UNKNOWN_ERROR

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class LocalProtocolError(BoltError):
    """The caller asked for something the protocol does not allow in the present state."""


class RemoteProtocolError(BoltError):
    """The peer broke the protocol. ``farewell`` is what to send before closing; it may be empty."""

    code = status.REQUEST_INVALID

    def __init__(self, message: str, *, code: str | None = None, farewell: bytes = b"") -> None:
        super().__init__(message, code=code)
        self.farewell = farewell


class PackStreamError(RemoteProtocolError):
    """Bytes that are not PackStream version 1, are cut short, or exceed the limits in force."""

    code = status.REQUEST_INVALID_FORMAT


class ParameterError(BoltError):
    """A query parameter of a kind or range that cannot be used. The connection lives on."""

    code = status.STATEMENT_TYPE_ERROR


class EncodingError(BoltError):
    """A value that PackStream, or the client's protocol version, has no form for."""

    code = status.STATEMENT_EXECUTION_FAILED
