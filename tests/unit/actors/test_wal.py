"""The write-ahead log: what survives, what is cut, and what must not be started from."""

from __future__ import annotations

from pathlib import Path

import pytest
from actor_fakes import MemoryDisk

from actors import wal
from actors.disk import FileDisk
from actors.errors import DirectoryRefused, DiskFailure
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, SnapshotMark
from actors.wal import Recovered, WriteAheadLog

FIRST = "raft/0000000000000001.wal"
# A frame: magic u32, bytes u32, number u64, crc u32, crc of these u32, and the body.
HEADER_BYTES = 24


def entry(index: int, term: int = 1, data: bytes = b"payload") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [entry(index, term, b"entry %d" % index) for index in range(first, last + 1)]


def opened(disk: MemoryDisk) -> tuple[WriteAheadLog, Recovered]:
    log = WriteAheadLog(disk)
    return log, log.open()


def reread(disk: MemoryDisk) -> Recovered:
    return opened(disk.copy())[1]


def segments(disk: MemoryDisk) -> list[str]:
    return sorted(disk.files)


def frame_starts(data: bytes) -> list[int]:
    starts, offset = [], 0
    while offset < len(data):
        starts.append(offset)
        offset += HEADER_BYTES + int.from_bytes(data[offset + 4 : offset + 8], "little")
    return starts


def three_frames() -> MemoryDisk:
    """(term, vote) (0, 0); entries 1 and 2 with (3, 2); entry 3 with (4, 1): one frame each."""
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(3, 2), entries(1, 2))
    log.append(HardState(4, 1), entries(3, 3))
    log.sync()
    return disk


# --- Append, sync, open ---------------------------------------------------------------------------


def test_an_empty_directory_becomes_an_empty_log() -> None:
    disk = MemoryDisk()
    _, recovered = opened(disk)
    assert recovered == Recovered()
    assert reread(disk) == Recovered()


def test_what_was_synced_is_there_after_a_power_cut() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(3, 2), entries(1, 4))
    log.append(None, [Entry(5, 3, EntryKind.NOOP, b""), Entry(6, 3, EntryKind.FRAGMENT, b"x" * 9)])
    log.sync()
    log.append(HardState(9, 9), entries(7, 7))
    recovered = reread(disk.crash())
    assert recovered.hard_state == (3, 2)
    assert recovered.entries == [
        *entries(1, 4),
        Entry(5, 3, EntryKind.NOOP, b""),
        Entry(6, 3, EntryKind.FRAGMENT, b"x" * 9),
    ]
    assert recovered.torn_bytes == 0


def test_append_goes_on_where_the_last_life_ended() -> None:
    disk = MemoryDisk()
    for first in (1, 4, 7):
        log, recovered = opened(disk)
        assert recovered.entries == entries(1, first - 1)
        log.append(None, entries(first, first + 2))
        log.sync()
        log.close()
    assert reread(disk).entries == entries(1, 9)
    assert segments(disk) == [FIRST]


def test_a_real_disk_holds_it_too(tmp_path: Path) -> None:
    log = WriteAheadLog(FileDisk(tmp_path))
    log.open()
    log.append(HardState(2, 1), entries(1, 3))
    log.sync()
    assert log.bytes_on_disk() == (tmp_path / FIRST).stat().st_size
    log.close()
    with (tmp_path / FIRST).open("ab") as file:
        file.write(b"RFT1, then no power")
    again = WriteAheadLog(FileDisk(tmp_path))
    recovered = again.open()
    assert (recovered.hard_state, recovered.entries) == ((2, 1), entries(1, 3))
    assert recovered.torn_bytes == 19
    again.append(None, entries(4, 4))
    again.sync()
    again.close()
    assert WriteAheadLog(FileDisk(tmp_path)).open().entries == entries(1, 4)


def test_term_vote_and_entries_of_one_append_stand_or_fall_together() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(1, 1), entries(1, 1))
    log.sync()
    whole = len(disk.files[FIRST])
    log.append(HardState(2, 3), entries(2, 3))
    added = len(disk.files[FIRST]) - whole
    for kept in range(added):
        recovered = reread(disk.crash(kept))
        assert recovered.hard_state == (1, 1)
        assert recovered.entries == entries(1, 1)
        assert recovered.torn_bytes == kept


def test_a_large_append_is_several_frames_and_begins_with_its_term_and_vote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wal, "APPEND_BYTES", 14)  # two of these entries
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(1, 1), entries(1, 1))
    log.sync()
    whole = len(disk.files[FIRST])
    log.append(HardState(2, 3), entries(4, 9), SnapshotMark(3, 1))
    data = disk.files[FIRST]
    starts = frame_starts(data)
    assert len([start for start in starts if start >= whole]) == 3
    assert max(b - a for a, b in zip(starts, [*starts[1:], len(data)], strict=True)) < 150
    for kept in range(len(data) - whole):
        recovered = reread(disk.crash(kept))
        count = sum(whole + kept >= end for end in [*starts[3:], len(data)]) if kept else 0
        if not count:
            assert (recovered.hard_state, recovered.entries) == ((1, 1), entries(1, 1))
        else:
            assert (recovered.hard_state, recovered.reset) == ((2, 3), (3, 1))
            assert recovered.entries == entries(4, 3 + 2 * count)
    log.sync()
    assert reread(disk).entries == entries(4, 9)


# --- Truncation and reset -------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [1, 3, 5])
def test_an_entry_that_is_there_already_truncates_from_there(overlap: int) -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(None, entries(1, 5))
    log.append(HardState(2, 0), entries(overlap, overlap + 1, term=2))
    log.sync()
    expected = [*entries(1, overlap - 1), *entries(overlap, overlap + 1, term=2)]
    assert reread(disk).entries == expected


def test_a_truncation_reaches_over_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 1)
    disk = MemoryDisk()
    log, _ = opened(disk)
    for index in range(1, 6):
        log.append(None, entries(index, index))
        log.sync()
    log.append(HardState(2, 0), entries(2, 2, term=2))
    log.sync()
    assert reread(disk).entries == [entry(1, data=b"entry 1"), *entries(2, 2, term=2)]


def test_a_reset_takes_the_place_of_all_entries() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(2, 1), entries(1, 5))
    log.append(None, entries(101, 102, term=7), reset=SnapshotMark(100, 6))
    log.sync()
    recovered = reread(disk)
    assert recovered.reset == (100, 6)
    assert recovered.entries == entries(101, 102, term=7)
    assert recovered.hard_state == (2, 1)


def test_a_gap_in_the_entries_is_refused() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(None, [entry(1), entry(3)])
    log.sync()
    with pytest.raises(DirectoryRefused, match="jumps from entry 1 to entry 3"):
        reread(disk)


# --- Segments -------------------------------------------------------------------------------------


def rolled(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch, count: int) -> WriteAheadLog:
    """A log with one entry in each segment, and an empty newest one."""
    monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 60)
    log, _ = opened(disk)
    for index in range(1, count + 1):
        log.append(HardState(index, 1), entries(index, index))
        log.sync()
    assert len(segments(disk)) == count + 1
    return log


def test_a_full_segment_is_followed_by_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    log = rolled(disk, monkeypatch, 4)
    assert log.bytes_on_disk() == sum(map(len, disk.files.values()))
    assert disk.crash().files == disk.files
    recovered = reread(disk)
    assert recovered.entries == entries(1, 4)
    assert recovered.hard_state == (4, 1)


def test_compaction_removes_segments_below_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    log = rolled(disk, monkeypatch, 5)
    before = segments(disk)
    log.compact(1)
    assert segments(disk) == before
    log.compact(3)
    assert segments(disk) == before[2:]
    assert reread(disk).entries == entries(3, 5)
    assert reread(disk).hard_state == (5, 1)


def test_a_segment_far_from_full_is_removed_by_the_second_compaction_after_it() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    for first in range(1, 100, 10):
        log.append(None, entries(first, first + 9))
        log.sync()
        log.compact(first + 5)  # as the server does: a part of what the snapshot has is kept
        assert len(segments(disk)) <= 3
    assert FIRST not in disk.files
    assert reread(disk.crash()).entries[-10:] == entries(91, 100)


def test_compaction_of_everything_keeps_term_and_vote() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(7, 3), entries(1, 9))
    log.sync()
    log.compact(10)
    assert len(segments(disk)) == 1
    assert FIRST not in disk.files
    recovered = reread(disk.crash())
    assert (recovered.hard_state, recovered.entries) == ((7, 3), [])
    log.append(None, entries(10, 11))
    log.sync()
    assert reread(disk).entries == entries(10, 11)


def test_compaction_keeps_a_segment_whose_entries_were_cut_but_reach_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(None, entries(1, 10))
    log.sync()
    monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 1)
    log.sync()
    log.append(HardState(2, 0), entries(6, 6, term=2))
    log.sync()
    log.compact(6)
    assert reread(disk).entries == [*entries(1, 5), *entries(6, 6, term=2)]


def test_a_segment_that_compaction_leaves_behind_is_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(None, entries(1, 10))
    monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 1)
    log.sync()
    log.append(HardState(2, 0), entries(6, 6, term=2))
    log.compact(7)
    assert len(segments(disk)) == 3
    assert reread(disk.crash()).entries == [*entries(1, 5), *entries(6, 6, term=2)]


def test_the_same_segments_can_be_compacted_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    rolled(disk, monkeypatch, 5)
    before = segments(disk)
    log, _ = opened(disk)
    log.compact(4)
    assert segments(disk) == before[3:]


def test_a_crash_anywhere_in_compaction_leaves_a_sound_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 60)
    for fail_at in range(100):
        disk = MemoryDisk()
        log = rolled(disk, monkeypatch, 3)
        log.append(HardState(8, 2), entries(4, 4))
        monkeypatch.setattr(wal, "SEGMENT_BYTES_MAX", 10_000)
        log.sync()
        disk.fail_at = len(disk.log) + fail_at
        try:
            log.compact(5)
        except DiskFailure:
            recovered = reread(disk.crash())
            assert recovered.hard_state == (8, 2)
            assert recovered.entries in [entries(first, 4) for first in range(1, 6)]
        else:
            assert fail_at > 3
            return


def test_term_and_vote_survive_a_crash_while_a_segment_is_begun() -> None:
    """A segment that a crash left empty must get them, or compaction would lose the vote."""
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(7, 3), entries(1, 3))
    log.sync()
    disk.append("raft/0000000000000003.wal")  # made, and then the power went
    log, recovered = opened(disk)
    assert recovered.hard_state == (7, 3)
    log.append(None, entries(4, 4))
    log.sync()
    log.compact(4)
    assert FIRST not in disk.files
    recovered = reread(disk.crash())
    assert (recovered.hard_state, recovered.entries) == ((7, 3), entries(4, 4))


def test_a_torn_first_frame_of_a_segment_is_cut_and_written_anew() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(7, 3), entries(1, 3))
    log.sync()
    log.compact(1)
    second = "raft/0000000000000003.wal"
    disk.overwrite(second, b"RFT1 torn")
    log, recovered = opened(disk)
    assert (recovered.torn_bytes, recovered.hard_state) == (9, (7, 3))
    log.append(None, entries(4, 4))
    log.sync()
    log.compact(4)
    assert FIRST not in disk.files
    assert segments(disk)[0] == second
    assert reread(disk).hard_state == (7, 3)


def test_a_missing_segment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    rolled(disk, monkeypatch, 4)
    names = segments(disk)
    for missing in names[1:-1]:
        damaged = disk.copy()
        del damaged.files[missing]
        with pytest.raises(DirectoryRefused, match="segment is missing"):
            opened(damaged)


def test_only_segment_without_its_vote_is_refused() -> None:
    """Compaction synced the first frame before it removed what came before: this is no crash."""
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(HardState(7, 3), entries(1, 3))
    log.sync()
    log.compact(4)
    (name,) = segments(disk)
    for content in (b"", disk.files[name][:-1], b"\0" * 50):
        damaged = disk.copy()
        damaged.overwrite(name, content)
        with pytest.raises(DirectoryRefused, match="the vote of this server is lost"):
            opened(damaged)


def test_a_file_that_is_no_segment_is_refused() -> None:
    disk = three_frames()
    disk.overwrite("raft/backup.wal", b"")
    with pytest.raises(DirectoryRefused, match=r"backup\.wal"):
        opened(disk)


# --- Damage ---------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_at_every_offset() -> None:
    disk = three_frames()
    data = disk.files[FIRST]
    last = frame_starts(data)[-1]
    for size in range(last, len(data)):
        torn = disk.copy()
        torn.overwrite(FIRST, data[:size])
        log, recovered = opened(torn)
        assert recovered.entries == entries(1, 2)
        assert recovered.hard_state == (3, 2)
        assert recovered.torn_bytes == size - last
        assert torn.files[FIRST] == data[:last]
        log.append(HardState(5, 1), entries(3, 4))
        log.sync()
        again = reread(torn)
        assert (again.hard_state, again.entries) == ((5, 1), entries(1, 4))


def unsynced_frames(disk: MemoryDisk) -> tuple[bytes, int]:
    """The first segment after three more frames that were never synced; where those begin.

    Entry 4 fills several sectors, 5 shares one with its neighbours, 6 ends in the file's last one.
    """
    log, _ = opened(disk)
    synced = len(disk.files[FIRST])
    log.append(None, [entry(4, data=b"x" * 1_500)])
    log.append(HardState(9, 1), [entry(5)])
    log.append(None, [entry(6, data=b"y" * 700)])
    return disk.files[FIRST], synced


def without_sectors(data: bytes, synced: int, lost: set[int]) -> bytes:
    """What a disk holds that wrote all sectors but ``lost``; the synced part was there before."""
    image = bytearray(data)
    for sector in lost:
        start, end = max(sector * 512, synced), min((sector + 1) * 512, len(data))
        image[start:end] = bytes(end - start)
    return bytes(image)


def test_sectors_that_never_reached_the_disk_are_a_torn_tail() -> None:
    """Whichever of several unsynced frames they belong to, and whatever did reach it."""
    disk = three_frames()
    data, synced = unsynced_frames(disk)
    sectors = list(range(synced // 512, (len(data) + 511) // 512))
    for pattern in range(1, 2 ** len(sectors)):
        lost = {sector for bit, sector in enumerate(sectors) if pattern >> bit & 1}
        torn = disk.copy()
        torn.overwrite(FIRST, without_sectors(data, synced, lost))
        log, recovered = opened(torn)
        assert recovered.entries[:3] == entries(1, 3)
        assert len(recovered.entries) < 6
        assert recovered.torn_bytes
        log.append(HardState(10, 1), [entry(recovered.entries[-1].index + 1)])
        log.sync()
        assert reread(torn).hard_state == (10, 1)


def test_sectors_lost_after_a_sync_are_damage() -> None:
    """A frame behind says that they had been synced: no crash takes them any more."""
    disk = three_frames()
    data, synced = unsynced_frames(disk)
    log, recovered = opened(disk)
    assert len(recovered.entries) == 6
    log.append(None, [entry(7)])
    log.sync()
    data = disk.files[FIRST]
    for sector in range(synced // 512 + 1, 4):
        damaged = disk.copy()
        damaged.overwrite(FIRST, without_sectors(data, synced, {sector}))
        with pytest.raises(DirectoryRefused, match="damaged at byte"):
            opened(damaged)


def test_a_flipped_bit_is_refused_wherever_it_is() -> None:
    """In the last frame too: it may have been acknowledged, and no crash flips bits."""
    disk = three_frames()
    data = disk.files[FIRST]
    for offset in range(len(data)):
        damaged = disk.copy()
        flipped = bytes([data[offset] ^ 1 << offset % 8])
        damaged.overwrite(FIRST, data[:offset] + flipped + data[offset + 1 :])
        before = dict(damaged.files)
        with pytest.raises(DirectoryRefused, match="damaged at byte"):
            opened(damaged)
        assert damaged.files == before


def test_what_a_log_was_opened_with_is_durable() -> None:
    """A killed process leaves frames in the page cache; the next one answers for what it reads."""
    disk = three_frames()
    unsynced_frames(disk)
    _, recovered = opened(disk)
    assert len(recovered.entries) == 6
    assert reread(disk.crash()).entries == recovered.entries


def test_damage_in_an_earlier_segment_is_refused_even_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    rolled(disk, monkeypatch, 2)
    data = disk.files[FIRST]
    for size in range(frame_starts(data)[-1] + 1, len(data)):
        damaged = disk.copy()
        damaged.overwrite(FIRST, data[:size])
        with pytest.raises(DirectoryRefused):
            opened(damaged)
        assert damaged.files[FIRST] == data[:size]
    damaged = disk.copy()
    damaged.overwrite(FIRST, data[: frame_starts(data)[-1]])  # a whole frame is missing
    with pytest.raises(DirectoryRefused):
        opened(damaged)


def test_a_frame_in_the_place_of_another_is_refused() -> None:
    disk = three_frames()
    data = disk.files[FIRST]
    first, second, third = frame_starts(data)
    for changed in (
        data[:second] + data[third:],
        data[:third] + data[second:third],
        data[second:],
        data + data[first:second],
    ):
        damaged = disk.copy()
        damaged.overwrite(FIRST, changed)
        with pytest.raises(DirectoryRefused, match="frames are missing"):
            opened(damaged)


def test_a_torn_frame_is_cut_whatever_its_data_look_like() -> None:
    """A client may store what looks like a frame; it must not keep a server from starting."""
    disk = three_frames()
    lookalike = disk.files[FIRST]
    log, _ = opened(disk)
    log.append(None, [entry(4, data=lookalike * 2), entry(5, data=b"the end")])
    log.sync()
    whole = disk.files[FIRST]
    for cut in (1, 10, len(lookalike)):
        torn = disk.copy()
        torn.overwrite(FIRST, whole[:-cut])
        assert opened(torn)[1].entries == entries(1, 3)


def test_records_of_a_newer_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = three_frames()
    log, _ = opened(disk)
    log._write_frame(wal._RECORD.pack(77, 3) + b"new")
    log.sync()
    with pytest.raises(DirectoryRefused, match="type 77"):
        reread(disk)


def test_entries_of_a_kind_unknown_here_are_refused() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    log.append(None, [Entry(1, 1, 99, b"")])  # type: ignore[arg-type]
    log.sync()
    with pytest.raises(DirectoryRefused, match="newer version"):
        reread(disk)


# --- A failing disk -------------------------------------------------------------------------------


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_failing_write_or_sync_is_told_and_not_tried_again(fail_at: int) -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    disk.fail_at = len(disk.log) + fail_at
    with pytest.raises(DiskFailure):
        log.append(None, entries(1, 1))
        log.sync()
    assert len(disk.log) == disk.fail_at


def test_sync_of_many_appends_is_one() -> None:
    disk = MemoryDisk()
    log, _ = opened(disk)
    before = disk.log.count("sync")
    for index in range(1, 20):
        log.append(None, entries(index, index))
    log.sync()
    assert disk.log.count("sync") == before + 1
