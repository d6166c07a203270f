"""Write sets: the builder, the binary form, damage."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from storage_model import same

from graph import write_set as write_set_module
from graph import write_set_codec
from graph.errors import (
    CorruptionError,
    CypherArgumentError,
    CypherTypeError,
    GraphError,
    LimitError,
)
from graph.indexes import ConstraintSpec, IndexSpec
from graph.limits import NAME_BYTES_MAX
from graph.vector import Kind, Vector
from graph.write_set import CreateNodes, SetNodeProperty, WriteSet
from graph.write_set_codec import VERSION, decode, encode


def everything() -> WriteSet:
    write_set = WriteSet()
    write_set.create_nodes(
        [1, 2, 3],
        ("A", "\N{SNOWMAN}"),
        {
            "i": Vector.from_values([1, None, -(2**62)]),
            "f": Vector.from_values([1.5, float("nan"), None]),
            "b": Vector.from_values([True, None, False]),
            "s": Vector.from_values(["x", None, "\N{SNOWMAN}"]),
            "o": Vector.from_values([[1, 2], None, "mixed"]),
        },
    )
    write_set.create_nodes([7], (), {"s": Vector.from_values(["one"])})
    write_set.create_relationships([5, 9], "R", [1, 2], [2, 2**40], {})
    write_set.set_node_property([3, 1], "i", Vector.from_values([None, 4]))
    write_set.set_relationship_property([5], "w", Vector.from_values([0.5]))
    write_set.add_label([1, 5, 2], "B")
    write_set.remove_label([1], "A")
    write_set.delete_relationships([2**33, 5])
    write_set.delete_nodes([2**47, 0])
    return write_set


def schema() -> WriteSet:
    write_set = WriteSet()
    write_set.create_index(IndexSpec("A", ("p", "q"), name="mine"), if_not_exists=True)
    write_set.create_index(IndexSpec("A", kind="label"))
    write_set.create_constraint(ConstraintSpec("A", ("p",)))
    write_set.drop_index("mine", if_exists=True)
    write_set.drop_constraint("c")
    return write_set


def plain(value: Any) -> Any:
    """Operations as comparable Python values."""
    if isinstance(value, Vector):
        return [value.kind, *value.to_list()]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value


def fields(operation: Any) -> list[Any]:
    return [type(operation).__name__] + [
        plain(getattr(operation, name)) for name in operation.__slots__
    ]


def test_what_is_encoded_comes_back() -> None:
    write_set = everything()
    back = decode(encode(write_set))
    for left, right in zip(back, write_set, strict=True):
        assert same(fields(left), fields(right))
    assert encode(back) == encode(write_set)


def test_schema_comes_back_with_names_made_up() -> None:
    back = decode(encode(schema()))
    names = [getattr(op, "spec", op).name for op in back]
    assert names == ["mine", "index_A", "constraint_A_p", "mine", "c"]
    assert back.has_schema
    assert encode(back) == encode(schema())


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("scale", [1, 100, 2**7, 2**15, 2**31, 2**62])
def test_integers_of_every_width(rows: int, scale: int) -> None:
    values = [scale * (1 if row % 2 else -1) for row in range(rows)]
    values[-1] = scale - 1
    write_set = WriteSet()
    write_set.set_node_property(np.arange(rows) * 3, "p", Vector.from_values(values))
    (op,) = decode(encode(write_set)).operations
    assert isinstance(op, SetNodeProperty)
    assert op.values.to_list() == values
    assert op.values.kind is Kind.INT


def test_small_integers_take_little_room() -> None:
    write_set = WriteSet()
    write_set.create_nodes(np.arange(10_000), ("A",), {"p": Vector.of(Kind.INT, [7] * 10_000)})
    assert len(encode(write_set)) < 10_100


def test_every_flipped_byte_and_every_cut_is_corruption() -> None:
    data = encode(everything())
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x41
        with pytest.raises(CorruptionError):
            decode(bytes(damaged))
        with pytest.raises(CorruptionError):
            decode(data[:position])


def test_damage_under_a_good_checksum_is_corruption_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer with a bug, not a disk: every field is checked, not only the sum."""
    monkeypatch.setattr(write_set_codec, "OPERATION_ROWS_MAX", 1000)
    body = encode(everything())[:-4]
    refused = 0
    for position in range(8, len(body)):
        damaged = bytearray(body)
        damaged[position] ^= 0x81
        damaged += zlib.crc32(damaged).to_bytes(4, "little")
        try:
            decode(bytes(damaged))
        except CorruptionError:
            refused += 1
    assert refused > 100


def test_another_version_is_refused_by_name() -> None:
    data = bytearray(encode(everything()))
    data[2] = VERSION + 1
    with pytest.raises(CorruptionError, match=f"version {VERSION + 1}.*upgrade"):
        decode(bytes(data))
    with pytest.raises(CorruptionError, match="not a write set"):
        decode(b"x" * 64)


def test_touched_entities_are_the_existing_ones() -> None:
    write_set = everything()
    assert write_set.touched_nodes().tolist() == [0, 5, 2**40, 2**47]
    assert write_set.touched_relationships().tolist() == [2**33]
    assert WriteSet().touched_nodes().tolist() == []


def test_empty_operations_are_left_out() -> None:
    write_set = WriteSet()
    write_set.create_nodes([], ("A",), {})
    write_set.delete_nodes(np.array([], dtype=np.int64))
    assert write_set.empty
    write_set.extend(everything())
    assert not write_set.empty
    assert not write_set.has_schema
    assert decode(encode(WriteSet())).empty


def test_a_label_given_twice_counts_once() -> None:
    write_set = WriteSet()
    write_set.create_nodes([1], ("A", "B", "A"), {})
    (op,) = write_set.operations
    assert isinstance(op, CreateNodes)
    assert op.labels == ("A", "B")


def test_the_builder_refuses_what_cannot_be() -> None:
    write_set = WriteSet()
    with pytest.raises(CypherTypeError, match="Map"):
        write_set.create_nodes([1], (), {"p": Vector.objects([{"a": 1}])})
    with pytest.raises(CypherTypeError):
        write_set.set_node_property([1], "p", Vector.of(Kind.NODE, [3]))
    with pytest.raises(GraphError, match="2 values for 1 rows"):
        write_set.set_node_property([1], "p", Vector.from_values([1, 2]))
    with pytest.raises(GraphError, match="as many sources"):
        write_set.create_relationships([1, 2], "R", [1], [2, 3], {})
    with pytest.raises(GraphError, match="one-dimensional"):
        write_set.delete_nodes([[1]])
    with pytest.raises(CypherArgumentError, match="must not be empty"):
        write_set.add_label([1], "")
    with pytest.raises(LimitError):
        write_set.add_label([1], "x" * (NAME_BYTES_MAX + 1))
    assert write_set.empty


def test_limits_on_rows_and_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_set_module, "OPERATION_ROWS_MAX", 3)
    monkeypatch.setattr(write_set_module, "WRITE_SET_OPERATIONS_MAX", 2)
    write_set = WriteSet()
    with pytest.raises(LimitError, match="smaller batches"):
        write_set.delete_nodes([1, 2, 3, 4])
    write_set.delete_nodes([1])
    write_set.delete_nodes([2])
    with pytest.raises(LimitError, match="commit earlier"):
        write_set.delete_nodes([3])
