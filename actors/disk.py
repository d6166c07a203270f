"""The disk seam: every byte that must survive goes through here.

The write-ahead log, the snapshots and the identity file use nothing but a ``Disk``, so a test can
put a simulated one in its place (lost and torn writes, full disk, failing sync). ``FileDisk`` is
the real one. Any failure to write or to sync raises ``DiskFailure``; it is never retried.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from actors.errors import DiskFailure

__all__ = ["AppendFile", "Disk", "FileDisk"]

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class AppendFile(Protocol):
    """A file that only grows."""

    def write(self, data: bytes) -> None:
        """Append; not durable before ``sync``."""

    def sync(self) -> None:
        """Return only when everything written so far survives a power cut."""

    def size(self) -> int:
        """Bytes in the file, written ones included."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree; paths are relative to its root."""

    def make_directory(self, path: str) -> None: ...

    def names(self, directory: str) -> list[str]:
        """Names in a directory, sorted."""

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes: ...

    def size(self, path: str) -> int: ...

    def append(self, path: str) -> AppendFile:
        """Open for appending; created (and its directory entry synced) if missing."""

    def truncate(self, path: str, size: int) -> None:
        """Cut to ``size`` bytes, durably."""

    def rename(self, source: str, target: str) -> None:
        """Atomic and durable."""

    def remove(self, path: str) -> None:
        """Durable; a missing file is no error."""

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file anew, atomically and durably (temporary file, sync, rename)."""

    def free_bytes(self) -> int:
        """What can still be written here; asking changes nothing and is cheap."""


class _File:
    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise DiskFailure(f"write failed: {error}") from error
        self._size += len(data)

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise DiskFailure(f"sync failed: {error}") from error

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        try:
            os.close(self._descriptor)
        except OSError as error:
            raise DiskFailure(f"close failed: {error}") from error


class FileDisk:
    """``Disk`` over a real directory, which must exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, path: str) -> Path:
        return self.root / path

    def make_directory(self, path: str) -> None:
        target = self._path(path)
        if not target.is_dir():
            try:
                target.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            except OSError as error:
                raise DiskFailure(f"cannot make the directory {target}: {error}") from error
            self._sync_directory(target.parent)

    def names(self, directory: str) -> list[str]:
        return sorted(os.listdir(self._path(directory)))

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        with self._path(path).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def size(self, path: str) -> int:
        return self._path(path).stat().st_size

    def append(self, path: str) -> AppendFile:
        target = self._path(path)
        created = not target.exists()
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        except OSError as error:
            raise DiskFailure(f"cannot open {target}: {error}") from error
        if created:
            self._sync_directory(target.parent)
        return _File(descriptor, os.fstat(descriptor).st_size)

    def truncate(self, path: str, size: int) -> None:
        try:
            descriptor = os.open(self._path(path), os.O_WRONLY)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DiskFailure(f"truncate failed: {error}") from error

    def rename(self, source: str, target: str) -> None:
        try:
            os.rename(self._path(source), self._path(target))
        except OSError as error:
            raise DiskFailure(f"rename failed: {error}") from error
        self._sync_directory(self._path(target).parent)

    def remove(self, path: str) -> None:
        target = self._path(path)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise DiskFailure(f"remove failed: {error}") from error
        self._sync_directory(target.parent)

    def replace(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        self.remove(temporary)
        file = self.append(temporary)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()
        self.rename(temporary, path)

    def free_bytes(self) -> int:
        try:
            found = os.statvfs(self.root)
        except OSError as error:
            raise DiskFailure(f"cannot look at the disk of {self.root}: {error}") from error
        return found.f_bavail * found.f_frsize

    @staticmethod
    def _sync_directory(directory: Path) -> None:
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DiskFailure(f"cannot sync directory {directory}: {error}") from error
