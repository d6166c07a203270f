"""Snapshot images: what comes back, and what damage is called."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import zstandard
from storage_model import same

from graph import snapshot
from graph.digest import digest
from graph.errors import CorruptionError
from graph.indexes import ConstraintSpec, IndexSpec
from graph.snapshot import VERSION, read_snapshot, write_snapshot
from graph.store import Root
from graph.vector import Vector
from graph.write_set import WriteSet


def sample(nodes: int = 9000) -> Root:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("P", ("k",), name="unique k"))
    write_set.create_index(IndexSpec("Q", ("s", "k")))
    write_set.create_index(IndexSpec("Q", kind="label"))
    root.apply(write_set)
    write_set = WriteSet()
    ids = np.arange(nodes)
    mixed = [None if i % 3 else (i if i % 2 else [i, "x"]) for i in range(nodes)]
    properties = {
        "k": Vector.from_values(list(range(nodes))),
        "s": Vector.from_values([f"s{i % 50}" for i in range(nodes)]),
        "m": Vector.from_values(mixed),
        "f": Vector.from_values([i / 7 for i in range(nodes)]),
        "b": Vector.from_values([i % 2 == 0 for i in range(nodes)]),
    }
    write_set.create_nodes(ids, ("P", "Q"), properties)
    weights = {"w": Vector.from_values([None, 1.5, "x"] * (nodes // 3))}
    write_set.create_relationships(ids, "R", ids, ids[::-1], weights)
    write_set.create_relationships(ids + nodes, "S", ids, ids, {})
    root.apply(write_set)
    write_set = WriteSet()
    write_set.create_nodes([nodes + 100_000], ("Far",), {})
    write_set.delete_relationships(np.arange(10, nodes // 2))
    write_set.remove_label(np.arange(nodes // 3), "Q")
    root.apply(write_set)
    return root


def sections(image: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each frame."""
    position = 12
    while position < len(image):
        stored = struct.unpack_from("<I", image, position + 6)[0]
        end = position + 14 + stored
        yield position, end
        position = end


def test_all_of_a_root_comes_back() -> None:
    root = sample()
    restored = read_snapshot(write_snapshot(root))
    assert digest(restored) == digest(root)
    assert restored.indexes() == root.indexes()
    assert restored.constraints() == root.constraints()
    assert (restored.next_node_id, restored.next_relationship_id) == (
        root.next_node_id,
        root.next_relationship_id,
    )
    ids = np.arange(0, 9000, 7)
    for key in ("k", "s", "m", "f", "b"):
        left, right = restored.node_property(ids, key), root.node_property(ids, key)
        assert left.kind == right.kind
        assert same(left.to_list(), right.to_list())
    for direction in ("out", "in", "both"):
        for left_part, right_part in zip(
            restored.expand(ids, direction), root.expand(ids, direction), strict=True
        ):
            assert left_part.tolist() == right_part.tolist()
    index = restored.find_index("P", ("k",))
    assert index is not None
    assert restored.index_lookup_one(index, (8000,)) == [8000]
    assert restored.labels_of(9000 + 100_000) == ("Far",)


def test_both_go_on_alike_after_a_restore() -> None:
    root = sample(900)
    restored = read_snapshot(write_snapshot(root))
    write_set = WriteSet()
    write_set.create_nodes([root.next_node_id], ("New", "P"), {"z": Vector.from_values(["a"])})
    write_set.set_node_property(np.arange(50), "m", Vector.from_values(["s1"] * 50))
    write_set.delete_relationships(root.expand(np.array([100]), "both")[1])
    write_set.delete_nodes([100])
    root.apply(write_set)
    restored.apply(write_set)
    assert digest(restored) == digest(root)
    assert restored.labels() == root.labels()


def test_an_empty_root() -> None:
    restored = read_snapshot(write_snapshot(Root.empty()))
    assert digest(restored) == digest(Root.empty())


def test_a_section_of_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_FRAME_BYTES_MAX", 1000)
    root = sample(900)
    image = list(write_snapshot(root))
    assert max(map(len, image)) <= 1100
    assert digest(read_snapshot(image)) == digest(root)


def test_a_fork_is_written_while_its_parent_goes_on() -> None:
    root = sample(900)
    before = digest(root)
    image = []
    for number, part in enumerate(write_snapshot(root.fork())):
        image.append(part)
        write_set = WriteSet()
        write_set.set_node_property(np.arange(5), "s", Vector.from_values([f"new {number}"] * 5))
        write_set.create_nodes([root.next_node_id], ("P",), {})
        root.apply(write_set)
    assert digest(read_snapshot(image)) == before != digest(root)


def test_damage_names_its_section() -> None:
    image = b"".join(write_snapshot(sample(300)))
    frames = list(sections(image))
    assert len(frames) > 10
    for number, (start, end) in enumerate(frames):
        for position in (start, start + 1, start + 3, start + 11, start + 14, end - 1):
            damaged = bytearray(image)
            damaged[position] ^= 0x10
            with pytest.raises(CorruptionError, match=f"section {number}|ends too early"):
                read_snapshot([bytes(damaged)])
        with pytest.raises(CorruptionError, match=f"section {number}"):
            read_snapshot([image[: end - 1]])


def test_missing_repeated_and_further_sections() -> None:
    image = b"".join(write_snapshot(sample(300)))
    frames = list(sections(image))
    for start, end in frames[1:-1]:
        with pytest.raises(CorruptionError):
            read_snapshot([image[:start], image[end:]])
        with pytest.raises(CorruptionError):
            read_snapshot([image[:end], image[start:end], image[end:]])
    with pytest.raises(CorruptionError, match="must be META"):
        read_snapshot([image[:12], image[frames[1][0] :]])
    with pytest.raises(CorruptionError, match="after the end"):
        read_snapshot([image, b"x"])
    with pytest.raises(CorruptionError, match="header: the image ends too early"):
        read_snapshot([])


def test_foreign_bytes_and_another_version() -> None:
    image = b"".join(write_snapshot(Root.empty()))
    with pytest.raises(CorruptionError, match="not a snapshot"):
        read_snapshot([b"x" * 100])
    newer = image[:8] + struct.pack("<H", VERSION + 1) + image[10:]
    with pytest.raises(CorruptionError, match=f"version {VERSION + 1}.*upgrade"):
        read_snapshot([newer])


def framed(tag: int, flags: int, raw_length: int, stored: bytes) -> bytes:
    head = struct.pack("<BBII", tag, flags, raw_length, len(stored))
    return head + struct.pack("<I", zlib.crc32(stored, zlib.crc32(head))) + stored


def test_an_image_of_version_1_is_read() -> None:
    """It had zlib's compression, under another flag; nothing else was different."""
    root = sample(900)
    header, *frames = write_snapshot(root)
    old = [header[:8] + struct.pack("<HH", 1, 0)]
    for frame in frames:
        tag, flags, raw_length, _ = struct.unpack_from("<BBII", frame)
        raw = zstandard.decompress(frame[14:]) if flags & 4 else frame[14:]
        packed = zlib.compress(raw, 1)
        small = len(packed) < raw_length
        flags = flags & 2 | (1 if small else 0)
        old.append(framed(tag, flags, raw_length, packed if small else raw))
    assert digest(read_snapshot(old)) == digest(root)


@pytest.mark.parametrize("declared", [0, 99, 101, 2**20])
def test_a_compressed_frame_has_the_length_that_it_declares(declared: int) -> None:
    header, *_ = write_snapshot(Root.empty())
    for flags, packed in ((1, zlib.compress(bytes(100))), (4, zstandard.compress(bytes(100)))):
        with pytest.raises(CorruptionError, match="section 0"):
            read_snapshot([header, framed(1, flags, declared, packed)])


def test_compressed_bytes_that_are_none() -> None:
    header, *_ = write_snapshot(Root.empty())
    for flags in (1, 4):
        with pytest.raises(CorruptionError, match="section 0"):
            read_snapshot([header, framed(1, flags, 100, b"x" * 20)])


def test_damage_under_a_good_checksum_is_corruption_too() -> None:
    """A writer with a bug, not a disk: what a section says is checked, not only its sum."""
    frames = list(write_snapshot(sample(60)))
    for number, frame in enumerate(frames[1:], 1):
        tag, flags, raw_length, _ = struct.unpack_from("<BBII", frame)
        raw = zstandard.decompress(frame[14:]) if flags & 4 else frame[14:]
        for position in range(0, raw_length, max(1, raw_length // 40)):
            damaged = bytearray(raw)
            damaged[position] ^= 0xFF
            head = struct.pack("<BBII", tag, 0, raw_length, raw_length)
            crc = struct.pack("<I", zlib.crc32(damaged, zlib.crc32(head)))
            forged = [*frames[:number], head + crc + bytes(damaged), *frames[number + 1 :]]
            try:
                digest(read_snapshot(forged))
            except CorruptionError:
                pass
