"""PackStream version 1: the format, and reading it. Writing is in :mod:`bolt.packer`.

A value begins with a marker byte that holds its type and, for small ones, its size or itself:

    00..7F, F0..FF  integer -16..127      80..8F, D0 D1 D2  string
    C8 C9 CA CB     integer, 8..64 bits   CC CD CE          bytes
    C1              float                 90..9F, D4 D5 D6  list
    C0 C2 C3        null, false, true     A0..AF, D8 D9 DA  map
                                          B0..BF            structure: field count, tag byte, fields

Reading goes over one whole message held in ``bytes``, so that every check is a comparison with its
length. A declared size is believed only if that many bytes (elements take at least one each) are
still there; nothing is allocated by it. Depth and the number of elements are counted against
:class:`~bolt.limits.Limits`. :func:`skip` makes the same checks as :func:`unpack`, UTF-8 included,
and builds nothing: the gateway validates parameters which only a server turns into values.

Source: https://neo4j.com/docs/bolt/current/packstream/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any

from bolt.errors import PackStreamError
from bolt.limits import AUTHENTICATED, Limits

__all__ = ["Structure", "StructureHook", "skip", "unpack", "unpack_message"]


@dataclass(frozen=True, slots=True)
class Structure:
    """A tagged tuple of fields, whose meaning is Bolt's affair. At most 15 fields."""

    tag: int
    fields: tuple[Any, ...]


# Called with a tag and its fields; makes the value that stands for the structure.
StructureHook = Callable[[int, list[Any]], Any]

_read_i8 = Struct(">b").unpack_from
_read_i16 = Struct(">h").unpack_from
_read_i32 = Struct(">i").unpack_from
_read_i64 = Struct(">q").unpack_from
_read_f64 = Struct(">d").unpack_from
_read_u16 = Struct(">H").unpack_from
_read_u32 = Struct(">I").unpack_from

_INTS: dict[int, tuple[Callable[..., tuple[Any, ...]], int]] = {
    0xC8: (_read_i8, 1),
    0xC9: (_read_i16, 2),
    0xCA: (_read_i32, 4),
    0xCB: (_read_i64, 8),
}
# The low two bits of a sized marker give the width of its size: 1, 2 or 4 bytes.
_STRINGS = (0xD0, 0xD1, 0xD2)
_BYTES = (0xCC, 0xCD, 0xCE)
_LISTS = (0xD4, 0xD5, 0xD6)
_MAPS = (0xD8, 0xD9, 0xDA)


class _Reading:
    """What one call of ``unpack`` or ``skip`` carries through its recursion."""

    __slots__ = ("elements", "elements_max", "end", "hook")

    def __init__(self, end: int, limits: Limits, hook: StructureHook | None) -> None:
        self.end = end
        self.elements_max = self.elements = limits.elements_max
        self.hook = hook

    def take(self, count: int, least_bytes: int, at: int, depth: int) -> None:
        """Account for a container of ``count`` elements that need ``least_bytes`` or more."""
        if least_bytes > self.end - at:
            raise PackStreamError(
                f"a container of {count} elements is declared at byte {at}, but only "
                f"{self.end - at} bytes follow"
            )
        if depth <= 0:
            raise PackStreamError(f"values are nested too deeply at byte {at}")
        self.elements -= count
        if self.elements < 0:
            raise PackStreamError(
                f"a message may hold {self.elements_max} elements: send the work in smaller batches"
            )


def unpack(
    data: bytes, start: int = 0, limits: Limits = AUTHENTICATED, hook: StructureHook | None = None
) -> tuple[Any, int]:
    """Read one value at ``start``; return it and the offset behind it.

    Structures are given to ``hook``, or become :class:`Structure`. What ``hook`` raises passes
    through. Raises ``PackStreamError``.
    """
    try:
        return _unpack(data, start, limits.depth_max, _Reading(len(data), limits, hook))
    except (IndexError, StructError):
        raise PackStreamError("a value is cut short") from None
    except UnicodeDecodeError as error:
        raise PackStreamError(f"a string is not UTF-8: {error.reason}") from None


def unpack_message(
    data: bytes, limits: Limits = AUTHENTICATED, raw_field: int = -1
) -> tuple[int, list[Any]]:
    """Read a message, which is one structure: its tag and its fields.

    The field numbered ``raw_field`` (from 0) is checked and given as bytes. Raises
    ``PackStreamError``, also if anything follows the structure.
    """
    reading = _Reading(len(data), limits, None)
    depth = limits.depth_max
    fields: list[Any] = []
    try:
        count, tag = data[0] - 0xB0, data[1]
        if not 0 <= count < 16:
            raise PackStreamError(f"a message must be a structure, not begin with {data[0]:02x}")
        reading.take(count, count, 2, depth)
        at = 2
        for number in range(count):
            if number == raw_field:
                stop = _skip(data, at, depth - 1, reading)
                fields.append(data[at:stop])
                at = stop
            else:
                field, at = _unpack(data, at, depth - 1, reading)
                fields.append(field)
    except (IndexError, StructError):
        raise PackStreamError("a message is cut short") from None
    except UnicodeDecodeError as error:
        raise PackStreamError(f"a string is not UTF-8: {error.reason}") from None
    if at != len(data):
        raise PackStreamError(
            f"a message of {len(data)} bytes holds a structure of {at} bytes: they must be equal"
        )
    return tag, fields


def skip(data: bytes, start: int = 0, limits: Limits = AUTHENTICATED) -> int:
    """Check one value at ``start`` and return the offset behind it. Raises ``PackStreamError``."""
    reading = _Reading(len(data), limits, None)
    try:
        stop = _skip(data, start, limits.depth_max, reading)
    except IndexError:
        raise PackStreamError("a value is cut short") from None
    except UnicodeDecodeError as error:
        raise PackStreamError(f"a string is not UTF-8: {error.reason}") from None
    if stop > reading.end:
        raise PackStreamError("a value is cut short")
    return stop


def _unpack(data: bytes, at: int, depth: int, reading: _Reading) -> tuple[Any, int]:
    marker = data[at]
    if marker < 0x80:
        return marker, at + 1
    if marker < 0x90:
        stop = at + marker - 0x7F
        if stop > reading.end:
            raise IndexError
        return data[at + 1 : stop].decode(), stop
    if marker >= 0xF0:
        return marker - 0x100, at + 1
    if marker < 0xA0:
        return _unpack_list(data, at + 1, marker & 15, depth, reading)
    if marker < 0xB0:
        return _unpack_map(data, at + 1, marker & 15, depth, reading)
    if marker < 0xC0:
        return _unpack_structure(data, at + 1, marker & 15, depth, reading)
    return _unpack_marked(data, at + 1, marker, depth, reading)


def _unpack_marked(
    data: bytes, at: int, marker: int, depth: int, reading: _Reading
) -> tuple[Any, int]:
    """Values behind the markers C0 to EF."""
    if marker in _INTS:
        read, width = _INTS[marker]
        return read(data, at)[0], at + width
    if marker == 0xC1:
        return _read_f64(data, at)[0], at + 8
    if marker == 0xC0:
        return None, at
    if marker == 0xC3:
        return True, at
    if marker == 0xC2:
        return False, at
    if marker in _STRINGS or marker in _BYTES:
        start, stop = _sized(data, at, marker, reading.end)
        raw = data[start:stop]
        return (raw if marker in _BYTES else raw.decode()), stop
    if marker in _LISTS:
        count, at = _size(data, at, marker)
        return _unpack_list(data, at, count, depth, reading)
    if marker in _MAPS:
        count, at = _size(data, at, marker)
        return _unpack_map(data, at, count, depth, reading)
    raise _reserved(marker, at)


def _reserved(marker: int, at: int) -> PackStreamError:
    return PackStreamError(f"marker {marker:02x} at byte {at - 1} is reserved in PackStream 1")


def _size(data: bytes, at: int, marker: int) -> tuple[int, int]:
    """The size behind a sized marker, and the offset behind the size."""
    width = marker & 3
    if width == 0:
        return data[at], at + 1
    if width == 1:
        return _read_u16(data, at)[0], at + 2
    return _read_u32(data, at)[0], at + 4


def _sized(data: bytes, at: int, marker: int, end: int) -> tuple[int, int]:
    """Start and stop of a string's or byte array's content."""
    size, start = _size(data, at, marker)
    if size > end - start:
        raise PackStreamError(
            f"{size} bytes of content are declared at byte {at}, but only {end - start} follow"
        )
    return start, start + size


def _unpack_list(
    data: bytes, at: int, count: int, depth: int, reading: _Reading
) -> tuple[list[Any], int]:
    reading.take(count, count, at, depth)
    items: list[Any] = []
    append = items.append
    below = depth - 1
    for _ in range(count):
        marker = data[at]
        if marker < 0x80:
            append(marker)
            at += 1
        else:
            item, at = _unpack(data, at, below, reading)
            append(item)
    return items, at


def _unpack_map(
    data: bytes, at: int, count: int, depth: int, reading: _Reading
) -> tuple[dict[str, Any], int]:
    """A key given twice takes its last value, as the specification leaves open and drivers do."""
    reading.take(count, 2 * count, at, depth)
    entries: dict[str, Any] = {}
    below = depth - 1
    for _ in range(count):
        marker = data[at]
        if 0x80 <= marker < 0x90:
            stop = at + marker - 0x7F
            if stop > reading.end:
                raise IndexError
            key = data[at + 1 : stop].decode()
            at = stop
        elif marker in _STRINGS:
            start, at = _sized(data, at + 1, marker, reading.end)
            key = data[start:at].decode()
        else:
            raise PackStreamError(f"a map key at byte {at} is not a string (marker {marker:02x})")
        entries[key], at = _unpack(data, at, below, reading)
    return entries, at


def _unpack_structure(
    data: bytes, at: int, count: int, depth: int, reading: _Reading
) -> tuple[Any, int]:
    reading.take(count, count + 1, at, depth)
    tag = data[at]
    at += 1
    fields: list[Any] = []
    below = depth - 1
    for _ in range(count):
        field, at = _unpack(data, at, below, reading)
        fields.append(field)
    hook = reading.hook
    return (Structure(tag, tuple(fields)) if hook is None else hook(tag, fields)), at


# Length of a value by its marker, where the marker alone tells and there is no content to check.
_FIXED = bytes(
    1
    if marker < 0x80 or marker >= 0xF0 or marker in (0x80, 0xC0, 0xC2, 0xC3)
    else {0xC1: 9, 0xC8: 2, 0xC9: 3, 0xCA: 5, 0xCB: 9}.get(marker, 0)
    for marker in range(256)
)


def _skip(data: bytes, at: int, depth: int, reading: _Reading) -> int:
    """May step over the end behind a fixed-length value: the next read, or ``skip``, notices."""
    marker = data[at]
    length = _FIXED[marker]
    if length:
        return at + length
    at += 1
    if marker < 0x90 or marker in _STRINGS:
        return _skip_string(data, at, marker, reading.end)
    if marker < 0xA0 or marker in _LISTS:
        count, at = (marker & 15, at) if marker < 0xA0 else _sized_count(data, at, marker)
        reading.take(count, count, at, depth)
    elif marker < 0xB0 or marker in _MAPS:
        count, at = (marker & 15, at) if marker < 0xB0 else _sized_count(data, at, marker)
        return _skip_entries(data, at, count, depth, reading)
    elif marker < 0xC0:
        count = marker & 15
        reading.take(count, count + 1, at, depth)
        at += 1
    elif marker in _BYTES:
        return _sized_content(data, at, marker, reading.end)[1]
    else:
        raise _reserved(marker, at)
    below = depth - 1
    for _ in range(count):
        length = _FIXED[data[at]]
        at = at + length if length else _skip(data, at, below, reading)
    return at


def _skip_entries(data: bytes, at: int, count: int, depth: int, reading: _Reading) -> int:
    reading.take(count, 2 * count, at, depth)
    end = reading.end
    below = depth - 1
    for _ in range(count):
        marker = data[at]
        if not 0x80 <= marker < 0x90 and marker not in _STRINGS:
            raise PackStreamError(f"a map key at byte {at} is not a string (marker {marker:02x})")
        at = _skip_string(data, at + 1, marker, end)
        length = _FIXED[data[at]]
        at = at + length if length else _skip(data, at, below, reading)
    return at


def _skip_string(data: bytes, at: int, marker: int, end: int) -> int:
    if marker < 0x90:
        stop = at + (marker & 15)
        if stop > end:
            raise IndexError
    else:
        at, stop = _sized_content(data, at, marker, end)
    content = data[at:stop]
    if not content.isascii():
        content.decode()
    return stop


def _sized_count(data: bytes, at: int, marker: int) -> tuple[int, int]:
    try:
        return _size(data, at, marker)
    except StructError:
        raise IndexError from None


def _sized_content(data: bytes, at: int, marker: int, end: int) -> tuple[int, int]:
    try:
        return _sized(data, at, marker, end)
    except StructError:
        raise IndexError from None
