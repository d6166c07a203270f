"""Messages between servers besides Raft's own: digests, and images for a server that diverged.

A note travels in the same envelope as Raft's messages (``envelope.py``), and its first byte tells
it from them::

    0xD1 digest        index u64, digest 16 bytes
    0xD2 image wanted  at least u64, index u64, term u64, offset u64
    0xD3 image chunk   index u64, term u64, offset u64, total u64, then data
    0xD4 disk          nearly full: free bytes u64

Notes may be lost, doubled or late, as all messages between servers; whoever needs one asks again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = [
    "DigestFound",
    "DiskNearlyFull",
    "ImageChunk",
    "ImageWanted",
    "Note",
    "PeerNote",
    "decode_note",
    "encode_note",
    "is_note",
]

_DIGEST, _WANTED, _CHUNK, _DISK = 0xD1, 0xD2, 0xD3, 0xD4
_DIGEST_FORM = struct.Struct("<BQ16s")
_WANTED_FORM = struct.Struct("<BQQQQ")
_CHUNK_FORM = struct.Struct("<BQQQQ")
_DISK_FORM = struct.Struct("<BQ")


@dataclass(frozen=True, slots=True)
class DigestFound:
    """The sender's graph as of log index ``index`` has this digest."""

    index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ImageWanted:
    """Send a piece of the snapshot (index, term) from ``offset`` on, if it is still there.

    If not, and where index is 0, the newest one from its beginning; it must stand for the log up to
    ``at_least`` or more.
    """

    at_least: int
    index: int
    term: int
    offset: int


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """A piece of the file of a snapshot; ``total`` is the size of the file."""

    index: int
    term: int
    offset: int
    total: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DiskNearlyFull:
    """The sender's disk is nearly full."""

    free_bytes: int


Note = DigestFound | ImageWanted | ImageChunk | DiskNearlyFull


@dataclass(frozen=True, slots=True)
class PeerNote:
    """Event for the server loop: send this note."""

    peer: int
    note: Note


def is_note(data: bytes) -> bool:
    """Whether a message between servers is one of these, and not one of Raft's."""
    return _DIGEST <= data[0] <= _DISK if data else False


def encode_note(note: Note) -> bytes:
    match note:
        case DigestFound():
            return _DIGEST_FORM.pack(_DIGEST, note.index, note.digest)
        case ImageWanted():
            return _WANTED_FORM.pack(_WANTED, note.at_least, note.index, note.term, note.offset)
        case ImageChunk():
            head = _CHUNK_FORM.pack(_CHUNK, note.index, note.term, note.offset, note.total)
            return head + note.data
        case DiskNearlyFull():
            return _DISK_FORM.pack(_DISK, note.free_bytes)


def decode_note(data: bytes) -> Note:
    """Raises ``ValueError`` for what is no note of ours."""
    try:
        if data[0] == _DIGEST and len(data) == _DIGEST_FORM.size:
            return DigestFound(*_DIGEST_FORM.unpack(data)[1:])
        if data[0] == _WANTED and len(data) == _WANTED_FORM.size:
            return ImageWanted(*_WANTED_FORM.unpack(data)[1:])
        if data[0] == _DISK and len(data) == _DISK_FORM.size:
            return DiskNearlyFull(_DISK_FORM.unpack(data)[1])
        if data[0] == _CHUNK:
            _, index, term, offset, total = _CHUNK_FORM.unpack_from(data)
            return ImageChunk(index, term, offset, total, data[_CHUNK_FORM.size :])
    except (struct.error, IndexError) as error:
        raise ValueError(f"a note of a server is damaged: {error}") from error
    raise ValueError("a note of a server is damaged or of a newer version")
