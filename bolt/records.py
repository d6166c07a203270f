"""Messages in bulk: rows to RECORD messages, parameters to values, and the way back for our
clients.

Records are made where the rows are, by the server that ran the query, and pass through the gateway
as bytes. Packing goes by columns, since values of a column tend to be of one type, and rows are put
together at the end by one ``join`` each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bolt.errors import LocalProtocolError, PackStreamError
from bolt.framing import CHUNK_BYTES_MAX, Deframer, frame
from bolt.hydration import graph_hook, packer_for, parameter_hook
from bolt.limits import AUTHENTICATED, RESULTS, Limits
from bolt.messages import Failure, Ignored, Record, ResponseTag, Success
from bolt.packer import list_header
from bolt.packstream import Structure, unpack
from bolt.versions import Dialect

__all__ = [
    "decode_messages",
    "decode_parameters",
    "decode_records",
    "encode_message",
    "encode_records",
    "unpack_message",
]

_RECORD = bytes((0xB1, ResponseTag.RECORD))
_SUCCESS = bytes((0xB1, ResponseTag.SUCCESS))
_FAILURE = bytes((0xB1, ResponseTag.FAILURE))
_IGNORED = bytes((0xB0, ResponseTag.IGNORED))
_END = b"\x00\x00"


def encode_records(columns: Sequence[Sequence[Any]], count: int, dialect: Dialect) -> bytes:
    """RECORD messages for ``count`` rows given as columns, framed and ready for the socket.

    A column may be a list or a NumPy array; its values are the engine's. Raises ``EncodingError``
    if a value has no form in PackStream; no bytes exist then.
    """
    pack_column = packer_for(dialect).pack_column
    cells = [pack_column(column) for column in columns]
    if any(len(column) != count for column in cells):
        lengths = [len(column) for column in cells]
        raise LocalProtocolError(f"columns of {lengths} values cannot make {count} rows")
    head = _RECORD + list_header(len(cells))
    if not cells:
        return frame(head) * count
    head_bytes = len(head)
    parts: list[bytes] = []
    append = parts.append
    join = b"".join
    for row in zip(*cells, strict=True):
        body = join(row)
        size = head_bytes + len(body)
        if size <= CHUNK_BYTES_MAX:
            append(size.to_bytes(2, "big") + head)
            append(body)
            append(_END)
        else:
            append(frame(head + body))
    return join(parts)


def encode_message(message: Success | Failure | Ignored, dialect: Dialect) -> bytes:
    """One summary message, framed. Raises ``EncodingError`` for metadata that cannot be sent."""
    if type(message) is Success:
        return frame(_SUCCESS + packer_for(dialect).pack(message.metadata))
    if type(message) is Failure:
        metadata = {"code": message.code, "message": message.message}
        return frame(_FAILURE + packer_for(dialect).pack(metadata))
    return frame(_IGNORED)


def decode_parameters(
    raw: bytes, dialect: Dialect, limits: Limits = AUTHENTICATED
) -> dict[str, Any]:
    """A query's parameters as values of the engine.

    ``raw`` is ``Run.parameters``, or any PackStream map. Raises ``ParameterError`` for structures
    that cannot be parameters and ``PackStreamError`` for bytes that are no such map.
    """
    value, end = unpack(raw, 0, limits, parameter_hook(dialect))
    if type(value) is not dict or end != len(raw):
        raise PackStreamError("parameters must be one map and nothing else")
    return value


def unpack_message(body: bytes, dialect: Dialect) -> Success | Failure | Ignored | Record:
    """One message from a server, unframed. Raises ``PackStreamError`` or ``ParameterError``."""
    hook = graph_hook(dialect)

    def message_hook(tag: int, fields: list[Any]) -> Any:
        return Structure(tag, tuple(fields)) if tag in _RESPONSE_TAGS else hook(tag, fields)

    value, end = unpack(body, 0, RESULTS, message_hook)
    if type(value) is not Structure or end != len(body):
        raise PackStreamError("a message must be one structure and nothing else")
    tag, fields = value.tag, value.fields
    if tag == ResponseTag.IGNORED and not fields:
        return Ignored()
    if len(fields) == 1:
        content = fields[0]
        if tag == ResponseTag.RECORD and type(content) is list:
            return Record(content)
        if tag == ResponseTag.SUCCESS and type(content) is dict:
            return Success(content)
        if tag == ResponseTag.FAILURE and type(content) is dict:
            return Failure(str(content.get("code")), str(content.get("message")))
    raise PackStreamError(f"structure {tag:02x} with {len(fields)} fields is not a response")


_RESPONSE_TAGS = frozenset(tag.value for tag in ResponseTag)


def decode_messages(data: bytes, dialect: Dialect) -> list[Success | Failure | Ignored | Record]:
    """All framed messages in ``data``, which must hold nothing incomplete. Errors as above."""
    return [unpack_message(body, dialect) for body in _bodies(data)]


def decode_records(data: bytes, dialect: Dialect) -> list[list[Any]]:
    """The rows of framed RECORD messages: what :func:`encode_records` made, as values again.

    Nodes, relationships and paths come back as ``graph.values``. Raises ``PackStreamError`` if
    there is anything else in ``data``, and ``ParameterError`` for a structure unknown to
    ``dialect``.
    """
    hook = graph_hook(dialect)
    rows: list[list[Any]] = []
    for body in _bodies(data):
        if body[:2] != _RECORD:
            raise PackStreamError(
                f"expected a RECORD, got a message that begins {body[:2].hex(' ')}"
            )
        row, end = unpack(body, 2, RESULTS, hook)
        if type(row) is not list or end != len(body):
            raise PackStreamError("a RECORD must hold one list and nothing else")
        rows.append(row)
    return rows


def _bodies(data: bytes) -> list[bytes]:
    deframer = Deframer(RESULTS.message_bytes_max)
    bodies = deframer.receive(data)
    if deframer.failure is not None:
        raise deframer.failure
    if deframer.mid_message:
        raise PackStreamError("the last message is cut short")
    return bodies
