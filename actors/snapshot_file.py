"""The container of snapshot and backup files: a head and a stream, checked as they are read.

::

    magic 8 bytes | head bytes u32 | crc32 of the head u32 | head (JSON) | section ... | end
    section: length u32 | crc32 u32 | bytes        (sections are pieces of one stream)
    end:     length 0 u32 | crc32 of the whole stream u32

A snapshot and a backup differ in their magic and their heads. Writing and reading hold one section
at a time. Nothing is allocated by a length that a damaged file declares.
"""

from __future__ import annotations

import json
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from graph.errors import CorruptionError

__all__ = ["HEAD_BYTES_MAX", "SECTION_BYTES_MAX", "FileReader", "file_pieces", "read_parts"]

# A piece of the stream in the file; also what is held in memory while reading.
SECTION_BYTES_MAX = 16 * 2**20
# Of a snapshot nearly all of it is the outcome table, 32 digits for each of at most
# outcomes.IDS_MAX.
HEAD_BYTES_MAX = 64 * 2**20

_MAGIC_BYTES = 8
_SECTION = struct.Struct("<II")


def file_pieces(magic: bytes, head: Mapping[str, Any], stream: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file, piece by piece; a piece has at most ``SECTION_BYTES_MAX`` and a bit."""
    text = json.dumps(head).encode()
    assert len(magic) == _MAGIC_BYTES and len(text) <= HEAD_BYTES_MAX
    yield magic + _SECTION.pack(len(text), zlib.crc32(text)) + text
    total = 0
    for part in stream:
        for start in range(0, len(part), SECTION_BYTES_MAX):
            piece = part[start : start + SECTION_BYTES_MAX]
            total = zlib.crc32(piece, total)
            yield _SECTION.pack(len(piece), zlib.crc32(piece)) + piece
    yield _SECTION.pack(0, total)


class FileReader:
    """Reads what ``file_pieces`` made.

    Args:
        read: (offset, size) to bytes; fewer at the end.
        size: bytes in the file.
        magic: what it must begin with.

    All methods raise ``CorruptionError`` that says where the file is damaged.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, magic: bytes) -> None:
        self._read = read
        self._size = size
        self._magic = magic
        self._stream_at = 0

    def head(self) -> dict[str, Any]:
        """Must be called before ``stream``."""
        start = _MAGIC_BYTES + _SECTION.size
        begin = self._read(0, start)
        if len(begin) < start or not begin.startswith(self._magic):
            raise CorruptionError("it does not begin as such a file does")
        length, crc = _SECTION.unpack_from(begin, _MAGIC_BYTES)
        text = self._read(start, min(length, HEAD_BYTES_MAX))
        if len(text) < length or zlib.crc32(text) != crc:
            raise CorruptionError("its head does not check")
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise CorruptionError("its head cannot be read") from error
        if not isinstance(fields, dict):
            raise CorruptionError("its head cannot be read")
        self._stream_at = start + length
        return fields

    def stream(self) -> Iterator[bytes]:
        """The stream; raises where it does not check, at the latest at its end."""
        assert self._stream_at, "the head comes first"
        offset, total = self._stream_at, 0
        while True:
            head = self._read(offset, _SECTION.size)
            if len(head) < _SECTION.size:
                raise CorruptionError("it ends too early")
            length, crc = _SECTION.unpack(head)
            offset += _SECTION.size
            if length == 0:
                if crc != total:
                    raise CorruptionError("its checksum does not match")
                if self._size != offset:
                    raise CorruptionError("it goes on after its end")
                return
            data = self._read(offset, min(length, SECTION_BYTES_MAX))
            offset += length
            if len(data) < length or zlib.crc32(data) != crc:
                raise CorruptionError(f"the section before byte {offset} does not check")
            total = zlib.crc32(data, total)
            yield data


def read_parts(parts: Sequence[bytes | memoryview]) -> tuple[Callable[[int, int], bytes], int]:
    """(read, size) for a ``FileReader`` over a file in consecutive parts."""
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))

    def read(offset: int, size: int) -> bytes:
        found: list[bytes | memoryview] = []
        number = bisect_right(starts, offset) - 1
        while size > 0 and number < len(parts):
            start = offset - starts[number]
            piece = parts[number][start : start + size]
            found.append(piece)
            offset += len(piece)
            size -= len(piece)
            number += 1
        return b"".join(found)

    return read, starts[-1]
