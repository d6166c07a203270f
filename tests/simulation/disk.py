"""A disk that keeps two images of each file: what was written, and what would survive.

``SimulatedDisk`` is an ``actors.disk.Disk``. It promises what ``FileDisk`` promises and not a byte
more: a file's contents survive a power cut up to its last ``sync``; that a file exists, its name
and its removal survive once the call has returned. What was written and not synced comes back from
``power_cut`` as chance will have it, sector by sector. The death of a process alone loses nothing
that was written, but does not make it durable either.

A *trap* is set for the n-th operation from now: the power goes, before or after it had its effect,
or it fails. After a failed sync the data that it should have written is clean in the cache and will
never reach the disk, whatever later syncs say (PostgreSQL's lesson of 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from actors.disk import FileDisk
from actors.errors import DiskFailure

__all__ = ["PowerCut", "SimulatedDisk", "Trap"]

SECTOR = 512
ROOM = 1 << 40


class PowerCut(BaseException):
    """The process is gone in the middle of a disk operation."""


@dataclass(slots=True)
class Trap:
    """``fault`` (power, eio, enospc) happens at the ``countdown``-th operation in ``at``."""

    fault: str
    at: tuple[str, ...]
    countdown: int


@dataclass(slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0  # bytes
    lost: list[tuple[int, int]] = field(default_factory=list)  # what a failed sync gave up

    def durable(self) -> bytearray:
        image = self.data[: self.synced]
        for start, end in self.lost:
            image[start:end] = bytes(min(end, len(image)) - start)
        return image


class _Handle:
    """An open file; writes go to its end."""

    def __init__(self, disk: SimulatedDisk, file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        disk, file = self._disk, self._file
        fault = disk.operation("write")
        if fault:
            file.data += data[: disk.random.randint(0, len(data))]
            disk.fail(fault, "write")
        if disk.full:
            file.data += data[: disk.random.randint(0, len(data) - 1)]
            disk.fail("enospc", "write")
        file.data += data

    def sync(self) -> None:
        disk, file = self._disk, self._file
        fault = disk.operation("sync")
        if fault == "eio":
            file.lost.append((file.synced, len(file.data)))
        if not fault or disk.random.random() < 0.5:
            file.synced = len(file.data)
        if fault:
            disk.fail(fault, "sync")

    def size(self) -> int:
        return len(self._file.data)

    def close(self) -> None:
        pass


class SimulatedDisk:
    """See the module. ``count`` counts operations and the faults that happened."""

    def __init__(self, random: Random, count: Counter[str]) -> None:
        self.random = random
        self.count = count
        self.full = False
        self.free = ROOM  # what it says, which may be a lie
        self.trap: Trap | None = None
        self.on_operation: Callable[[str], None] | None = None
        self.read_fault = 0  # fail this read from now; 0: none
        self._files: dict[str, _File] = {}
        self._directories: set[str] = set()

    # ----------------------------------------------------------------- faults

    def operation(self, what: str) -> str:
        """Count one operation; the fault that happens in it."""
        self.count[what] += 1
        if self.on_operation is not None:
            self.on_operation(what)
        trap = self.trap
        if trap is None or what not in trap.at:
            return ""
        trap.countdown -= 1
        if trap.countdown > 0:
            return ""
        self.trap = None
        return trap.fault

    def fail(self, fault: str, what: str) -> None:
        self.count[f"{fault} in {what}"] += 1
        self.count[f"disk {fault}"] += 1
        if fault == "power":
            raise PowerCut(what)
        raise DiskFailure(f"{what} failed: {fault}, as the simulation wants")

    def power_cut(self) -> int:
        """Keep what is durable, and chance's part of the rest; sectors lost of what was kept."""
        torn = 0
        for path in sorted(self._files):
            file = self._files[path]
            image = file.durable()
            torn += self._survivors(file, image)
            self._files[path] = _File(image, len(image))
        self.count["lost sectors"] += torn
        return torn

    def _survivors(self, file: _File, image: bytearray) -> int:
        """Extend the durable image by some of the unsynced sectors; how many others were lost."""
        end = len(file.data)
        if end == len(image):
            return 0
        fate = self.random.random()
        if fate < 0.25:  # nothing of it
            return (end - len(image) + SECTOR - 1) // SECTOR
        if fate < 0.5:  # all of it
            image += file.data[len(image) :]
            return 0
        if fate < 0.75:  # the beginning, to any byte
            cut = self.random.randint(len(image), end)
            image += file.data[len(image) : cut]
            return (end - cut + SECTOR - 1) // SECTOR
        lost = 0
        position = len(image)
        kept_end = position
        pieces = bytearray()
        while position < end:
            stop = min((position // SECTOR + 1) * SECTOR, end)
            if self.random.random() < 0.6:
                pieces += file.data[position:stop]
                kept_end = stop
            else:
                pieces += bytes(stop - position)
                lost += 1
            position = stop
        image += pieces[: kept_end - len(image)]
        return lost

    def flip(self, path: str) -> int:
        """Flip one bit of what is durable of a file; its byte's offset, -1 if there is none."""
        file = self._files[path]
        if not file.synced:
            return -1
        offset = self.random.randrange(file.synced)
        file.data[offset] ^= 1 << self.random.randrange(8)
        self.count["flipped bits"] += 1
        return offset

    def all_synced(self, directory: str) -> bool:
        """Whether everything written in ``directory`` would survive."""
        return all(
            file.synced == len(file.data) and not file.lost
            for path, file in self._files.items()
            if path.startswith(directory + "/")
        )

    def paths(self) -> list[str]:
        return sorted(self._files)

    # ----------------------------------------------------------------- disk.Disk

    def free_bytes(self) -> int:
        return self.free

    def make_directory(self, path: str) -> None:
        self._directories.add(path)

    def names(self, directory: str) -> list[str]:
        prefix = directory + "/"
        return sorted(p[len(prefix) :] for p in self._files if p.startswith(prefix))

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        file = self._existing(path)
        if self.read_fault:
            self.read_fault -= 1
            if not self.read_fault:
                self.count["eio in read"] += 1
                raise OSError(5, "Input/output error, as the simulation wants")
        return bytes(file.data[offset:] if size < 0 else file.data[offset : offset + size])

    def size(self, path: str) -> int:
        return len(self._existing(path).data)

    def append(self, path: str) -> _Handle:
        file = self._files.get(path)
        if file is None:
            fault = self.operation("create")
            if not fault or self.random.random() < 0.5:
                file = self._files[path] = _File()
            if fault:
                self.fail(fault, "create")
            assert file is not None
        return _Handle(self, file)

    def truncate(self, path: str, size: int) -> None:
        fault = self.operation("truncate")
        if not fault or self.random.random() < 0.5:
            file = self._existing(path)
            del file.data[size:]
            file.lost = [(start, end) for start, end in file.lost if start < size]
            file.synced = len(file.data)
        if fault:
            self.fail(fault, "truncate")

    def rename(self, source: str, target: str) -> None:
        fault = self.operation("rename")
        if not fault or self.random.random() < 0.5:
            self._files[target] = self._files.pop(source)
        if fault:
            self.fail(fault, "rename")

    def remove(self, path: str) -> None:
        if path not in self._files:
            return
        fault = self.operation("remove")
        if not fault or self.random.random() < 0.5:
            del self._files[path]
        if fault:
            self.fail(fault, "remove")

    replace = FileDisk.replace

    def _existing(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            raise FileNotFoundError(path)
        return file
