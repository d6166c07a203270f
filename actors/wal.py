"""The write-ahead log: entries and the (term, vote) record, in segments of checksummed frames.

Theory of operation. One ``append`` is one *frame*, whatever number of records it holds (only a very
large one is several): term, vote and entries that belong together become durable together. ``sync``
makes all frames so far durable, so many appends can share one sync. A frame is

    magic u32 | body bytes u32 | number 40 bits | unsynced 24 bits
    | crc32 of the body, seeded with the frame before u32 | crc32 of these fields u32 | body

The header has its own checksum, so that a damaged length is not taken for a short file. It also
says how many frames before it were not synced when it was written. A body is a run of records: type
u8, length u32, payload.

Recovery reads the segments in order. A frame that does not check is *torn* if a crash can have left
it so: it stands in the last segment, the file ends in it or a disk sector of it holds nothing but
zeros, and no frame behind it says that it had been synced. Then nobody was told of it, nor of
anything behind it, and the log is cut there. (The sectors of several unsynced frames reach the disk
in any order.) Otherwise the log is damaged, and we refuse to start: the server must then rejoin
from its peers, not pretend. So it is with a frame or a segment that is missing: frames are numbered
without gaps, and a segment is named after its first.

What was read may be in the page cache alone: of a process that was killed before its sync, or after
a sync failed, when the cache calls lost pages clean. Opening therefore writes the last segment
anew and syncs it, before anybody relies on it; all others were synced before it was begun.

An entry record with an index that is there already truncates the log from that index on. A reset
record (after a snapshot came from the leader) empties it. A segment is removed when a later one
exists and all its entries lie below the compaction point; each segment therefore begins with the
newest (term, vote), and one that a crash left empty is given it when the log is opened.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.disk import AppendFile, Disk
from actors.errors import DAMAGED, DirectoryRefused
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, SnapshotMark

__all__ = ["SEGMENT_BYTES_MAX", "Recovered", "WriteAheadLog"]

# A new segment is begun when this is passed: etcd's size. Smaller ones free disk space sooner.
SEGMENT_BYTES_MAX = 64 * 2**20
# Frames are counted to 2**40: at 10,000 a second for three years. A sync takes fewer than 2**24.
_NUMBER_BITS = 40
_UNSYNCED_MAX = 2**24 - 1
# What a disk writes whole or not at all. A part of a sector that is shorter than this and holds
# zeros may hold them by right: frames end in a record's last bytes, which are often zeros.
_SECTOR = 512
_ZEROS_MIN = 8
# No single frame may be larger: a damaged length must not make recovery read gigabytes.
FRAME_BYTES_MAX = 512 * 2**20
# A frame is put together in memory, during which no other thread of the process runs.
APPEND_BYTES = 8 * 2**20

_MAGIC = 0x31544652  # "RFT1"
_HEADER = struct.Struct("<IIQI")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CRC.size
_RECORD = struct.Struct("<BI")
_ENTRY = struct.Struct("<QQB")
_PAIR = struct.Struct("<QQ")

_TYPE_ENTRY = 1
_TYPE_HARD_STATE = 2
_TYPE_RESET = 3


@dataclass(slots=True)
class Recovered:
    """What the log held when it was opened."""

    hard_state: HardState = field(default_factory=lambda: HardState(0, 0))
    reset: SnapshotMark = field(default_factory=lambda: SnapshotMark(0, 0))  # newest one
    entries: list[Entry] = field(default_factory=list)
    torn_bytes: int = 0  # cut off the end of the last segment


@dataclass(slots=True)
class _Segment:
    name: str
    last_index: int = 0


class WriteAheadLog:
    """Append frames, sync, compact. One thread at a time.

    Raises:
        DirectoryRefused: the log on disk is damaged elsewhere than at its very end.
        DiskFailure: a write or sync failed; the process must end.
    """

    def __init__(self, disk: Disk, directory: str = "raft") -> None:
        self._disk = disk
        self._directory = directory
        self._segments: list[_Segment] = []
        self._file: AppendFile | None = None
        self._number = 0
        self._unsynced = 0  # frames since the last sync
        self._crc = 0
        self._hard_state = HardState(0, 0)

    def open(self) -> Recovered:
        """Read everything, cut a torn tail, and make ready to append. What it found is durable."""
        self._disk.make_directory(self._directory)
        recovered = Recovered()
        names = [n for n in self._disk.names(self._directory) if n.endswith(".wal")]
        sound = b""
        for position, name in enumerate(names):
            self._expect_segment(name)
            self._segments.append(_Segment(name))
            sound = self._read_segment(name, recovered, last=position == len(names) - 1)
        self._hard_state = recovered.hard_state
        if not self._segments:
            self._begin_segment()
        else:
            self._disk.replace(self._path(self._segments[-1].name), sound)
            self._reopen_segment()
        return recovered

    def follow(self, snapshot: SnapshotMark, recovered: Recovered) -> None:
        """Make the log go on after ``snapshot``, from which the server starts, if it does not yet.

        A snapshot from the leader is durable before the reset that goes with it. After a crash in
        between, the entries end before it or contradict it. The core is not given them
        (``Restored.from_disk``), and at the next start they must not be taken for what comes
        before the entries that are appended now: those would be left out with them.
        """
        entries = recovered.entries
        if not entries:
            return
        place = snapshot.index - entries[0].index
        # At -1 the first entry is the one after the snapshot.
        if place == -1 or (0 <= place < len(entries) and entries[place].term == snapshot.term):
            return
        self.append(None, (), snapshot)
        self.sync()

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        reset: SnapshotMark | None = None,
    ) -> None:
        """Write one frame: ``reset`` first, then the rest. Not durable before ``sync``.

        ``reset`` says that a snapshot up to there is durable and takes the place of all entries.
        Entries of more than ``APPEND_BYTES`` are written in several frames, the first of which has
        all the rest: less of a large append may survive a crash, as of several small ones.
        """
        parts: list[bytes] = []
        if reset is not None:
            parts.append(_RECORD.pack(_TYPE_RESET, _PAIR.size) + _PAIR.pack(*reset))
        if hard_state is not None:
            self._hard_state = hard_state
            parts.append(_hard_state_record(hard_state))
        size = 0
        for entry in entries:
            if size >= APPEND_BYTES:
                self._write_frame(b"".join(parts))
                parts, size = [], 0
            parts.append(_RECORD.pack(_TYPE_ENTRY, _ENTRY.size + len(entry.data)))
            parts.append(_ENTRY.pack(entry.index, entry.term, entry.kind))
            parts.append(entry.data)
            size += len(entry.data)
        if entries:
            self._segments[-1].last_index = entries[-1].index
        self._write_frame(b"".join(parts))

    def sync(self) -> None:
        """Make every frame so far durable; begin a new segment if this one is full."""
        assert self._file is not None
        self._file.sync()
        self._unsynced = 0
        if self._file.size() >= SEGMENT_BYTES_MAX:
            self._begin_segment()

    def compact(self, keep_from: int) -> None:
        """Remove segments that hold only entries below ``keep_from``.

        Another segment is begun, so that the next compaction can remove the one that is open now:
        what stays on the disk is bounded by the distance of two snapshots, not by the segment size.
        """
        if self._segments[-1].last_index:
            self._begin_segment()
        while len(self._segments) > 1 and self._segments[0].last_index < keep_from:
            self._disk.remove(self._path(self._segments[0].name))
            self._segments.pop(0)

    def bytes_on_disk(self) -> int:
        return sum(self._disk.size(self._path(segment.name)) for segment in self._segments)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # ----------------------------------------------------------------- writing

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _write_frame(self, body: bytes) -> None:
        assert self._file is not None
        assert len(body) <= FRAME_BYTES_MAX
        self._number += 1
        self._crc = zlib.crc32(body, self._crc)
        number = self._number | min(self._unsynced, _UNSYNCED_MAX) << _NUMBER_BITS
        self._unsynced += 1
        header = _HEADER.pack(_MAGIC, len(body), number, self._crc)
        self._file.write(header + _CRC.pack(zlib.crc32(header)) + body)

    def _begin_segment(self) -> None:
        if self._file is not None:
            self._file.sync()
            self._file.close()
        self._unsynced = 0
        name = f"{self._number + 1:016d}.wal"
        self._file = self._disk.append(self._path(name))
        self._segments.append(_Segment(name))
        self._write_first_frame(self._file)

    def _reopen_segment(self) -> None:
        self._file = self._disk.append(self._path(self._segments[-1].name))
        if self._file.size():
            return
        if len(self._segments) == 1 and self._number:
            raise DirectoryRefused(
                f"the log segment {self._path(self._segments[0].name)} holds nothing that is "
                f"sound, and frames 1 to {self._number} came before it: the vote of this server is "
                "lost. " + DAMAGED
            )
        self._write_first_frame(self._file)  # the crash came before its first frame was durable

    def _write_first_frame(self, file: AppendFile) -> None:
        self._crc = 0  # the chain of checksums begins anew, so a segment can be read alone
        self._write_frame(_hard_state_record(self._hard_state))
        file.sync()
        self._unsynced = 0

    # ----------------------------------------------------------------- reading

    def _expect_segment(self, name: str) -> None:
        """A segment is named after its first frame, so a missing one is noticed."""
        first = int(name[:-4]) if name[:-4].isdecimal() else 0
        if first < 1 or (self._segments and first != self._number + 1):
            raise DirectoryRefused(
                f"the log segment {self._path(name)} does not follow frame {self._number}: a "
                "segment is missing. " + DAMAGED
            )
        self._number = first - 1

    def _read_segment(self, name: str, recovered: Recovered, *, last: bool) -> bytes:
        """Take the records of a segment; the sound part of it."""
        data = self._disk.read(self._path(name))
        offset = 0
        self._crc = 0
        while offset < len(data):
            body = self._check_frame(data, offset)
            if body is None:
                self._refuse_unless_torn(name, data, offset, last=last)
                recovered.torn_bytes += len(data) - offset
                break
            self._read_records(name, body, recovered)
            offset += _HEADER_BYTES + len(body)
        return data[:offset]

    def _check_frame(self, data: bytes, offset: int) -> bytes | None:
        """The body of a sound frame at ``offset``, else None. Advances the checksum chain."""
        header = _parse_header(data, offset)
        if header is None:
            return None
        length, number, _, crc = header
        if number != self._number + 1:  # no torn write leaves a sound header
            raise DirectoryRefused(
                f"the log holds frame {number} where frame {self._number + 1} belongs: frames are "
                "missing. " + DAMAGED
            )
        body = data[offset + _HEADER_BYTES : offset + _HEADER_BYTES + length]
        if len(body) < length or zlib.crc32(body, self._crc) != crc:
            return None
        self._number = number
        self._crc = crc
        return body

    def _refuse_unless_torn(self, name: str, data: bytes, offset: int, *, last: bool) -> None:
        if last and self._may_be_torn(data, offset):
            return
        raise DirectoryRefused(
            f"the log segment {self._path(name)} is damaged at byte {offset}. This is not the "
            "trace of a crash, so starting from it could lose acknowledged writes. " + DAMAGED
        )

    def _may_be_torn(self, data: bytes, offset: int) -> bool:
        """Whether a crash can have left the bad frame at ``offset``, and it was never synced."""
        header = _parse_header(data, offset)
        # What a sound header's body holds is a client's data, and may look like anything.
        end = offset + 1 if header is None else offset + _HEADER_BYTES + header[0]
        behind = _find_header(data, end)
        first_behind = behind
        while behind is not None:
            found = _parse_header(data, behind)
            assert found is not None
            length, number, unsynced, _ = found
            if self._number + 1 < number - unsynced:
                return False
            behind = _find_header(data, behind + _HEADER_BYTES + length)
        if header is None:
            if len(data) - offset < _HEADER_BYTES:
                return True
            end = len(data) if first_behind is None else first_behind
        return end > len(data) or _lost_sector(data, offset, end)

    def _read_records(self, name: str, body: bytes, recovered: Recovered) -> None:
        offset = 0
        while offset < len(body):
            kind, length = _RECORD.unpack_from(body, offset)
            offset += _RECORD.size
            try:
                self._take_record(kind, body[offset : offset + length], recovered)
            except (struct.error, ValueError) as error:
                raise DirectoryRefused(
                    f"{self._path(name)} holds a record of type {kind} that this version does not "
                    f"know ({error}). It was written by a newer version: start that one."
                ) from error
            offset += length

    def _take_record(self, kind: int, payload: bytes, recovered: Recovered) -> None:
        if kind == _TYPE_ENTRY:
            index, term, entry_kind = _ENTRY.unpack_from(payload)
            _put(recovered, Entry(index, term, EntryKind(entry_kind), payload[_ENTRY.size :]))
            self._segments[-1].last_index = index
        elif kind == _TYPE_HARD_STATE:
            recovered.hard_state = HardState(*_PAIR.unpack(payload))
        elif kind == _TYPE_RESET:
            recovered.reset = SnapshotMark(*_PAIR.unpack(payload))
            recovered.entries.clear()
        else:
            raise ValueError("no such type")


def _put(recovered: Recovered, entry: Entry) -> None:
    entries = recovered.entries
    if entries and entry.index <= entries[-1].index:
        del entries[max(0, entry.index - entries[0].index) :]
    if entries and entry.index != entries[-1].index + 1:
        raise DirectoryRefused(
            f"the log jumps from entry {entries[-1].index} to entry {entry.index}: it is damaged. "
            + DAMAGED
        )
    entries.append(entry)


def _parse_header(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """(body bytes, number, unsynced before it, crc) if a sound header stands at ``offset``."""
    if offset + _HEADER_BYTES > len(data):
        return None
    magic, length, number, crc = _HEADER.unpack_from(data, offset)
    (header_crc,) = _CRC.unpack_from(data, offset + _HEADER.size)
    if magic != _MAGIC or length > FRAME_BYTES_MAX:
        return None
    if zlib.crc32(data[offset : offset + _HEADER.size]) != header_crc:
        return None
    return length, number & (1 << _NUMBER_BITS) - 1, number >> _NUMBER_BITS, crc


def _find_header(data: bytes, start: int) -> int | None:
    """Offset of the next sound frame header at or after ``start``."""
    magic = _MAGIC.to_bytes(4, "little")
    offset = data.find(magic, start)
    while offset != -1:
        if _parse_header(data, offset) is not None:
            return offset
        offset = data.find(magic, offset + 1)
    return None


def _lost_sector(data: bytes, start: int, end: int) -> bool:
    """Whether the part of some sector within ``start`` to ``end`` was never written."""
    position = start
    while position < end:
        stop = min((position // _SECTOR + 1) * _SECTOR, end)
        if (position == start or stop - position >= _ZEROS_MIN) and not any(data[position:stop]):
            return True
        position = stop
    return False


def _hard_state_record(state: HardState) -> bytes:
    return _RECORD.pack(_TYPE_HARD_STATE, _PAIR.size) + _PAIR.pack(state.term, state.vote)
