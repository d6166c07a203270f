"""Fakes for the ports of ``actors/``: a disk in memory that can lose, tear and refuse writes.

``MemoryDisk`` keeps two sizes for each file, written and synced, so a test can say "the power went
here" and open what is left. It follows ``disk.Disk``; renames and removals are durable at once, as
``FileDisk`` makes them.
"""

from __future__ import annotations

from actors.errors import DiskFailure


class MemoryFile:
    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk = disk
        self._path = path
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self._disk.operation("write")
        self._disk.files[self._path] += data

    def sync(self) -> None:
        assert not self.closed
        self._disk.operation("sync")
        self._disk.synced[self._path] = len(self._disk.files[self._path])

    def size(self) -> int:
        return len(self._disk.files[self._path])

    def close(self) -> None:
        self.closed = True


class MemoryDisk:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.synced: dict[str, int] = {}
        self.directories: set[str] = set()
        self.log: list[str] = []
        self.fail_at = -1  # number of the operation that fails
        self.free = 1 << 40

    def operation(self, what: str) -> None:
        if len(self.log) == self.fail_at:
            raise DiskFailure(f"{what} failed, as the test wants")
        self.log.append(what)

    def crash(self, unsynced_bytes_kept: int = 0) -> MemoryDisk:
        """What a power cut leaves: of each file what was synced, and some bytes more."""
        left = MemoryDisk()
        left.directories = set(self.directories)
        for path, data in self.files.items():
            kept = min(len(data), self.synced[path] + unsynced_bytes_kept)
            left.files[path] = data[:kept]
            left.synced[path] = kept
        return left

    def copy(self) -> MemoryDisk:
        twin = MemoryDisk()
        twin.files, twin.synced = dict(self.files), dict(self.synced)
        twin.directories = set(self.directories)
        return twin

    def overwrite(self, path: str, data: bytes) -> None:
        self.files[path] = data
        self.synced[path] = len(data)

    # ----------------------------------------------------------------- disk.Disk

    def free_bytes(self) -> int:
        return self.free

    def make_directory(self, path: str) -> None:
        self.directories.add(path)

    def names(self, directory: str) -> list[str]:
        assert directory in self.directories
        return sorted(p.partition("/")[2] for p in self.files if p.startswith(directory + "/"))

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        data = self.files[path][offset:]
        return data if size < 0 else data[:size]

    def size(self, path: str) -> int:
        if path not in self.files:
            raise FileNotFoundError(path)
        return len(self.files[path])

    def append(self, path: str) -> MemoryFile:
        self.files.setdefault(path, b"")
        self.synced.setdefault(path, 0)
        return MemoryFile(self, path)

    def truncate(self, path: str, size: int) -> None:
        self.operation("truncate")
        self.overwrite(path, self.files[path][:size])

    def rename(self, source: str, target: str) -> None:
        self.operation("rename")
        self.files[target] = self.files.pop(source)
        self.synced[target] = self.synced.pop(source)

    def remove(self, path: str) -> None:
        self.operation("remove")
        self.files.pop(path, None)
        self.synced.pop(path, None)

    def replace(self, path: str, data: bytes) -> None:
        self.operation("replace")
        self.overwrite(path, data)
