"""The client's side of backup and restore: rows to a file, a file to requests.

Knows files, not connections: whoever calls gives the rows of ``BACKUP DATABASE``, or a function
that runs one step of ``RESTORE DATABASE``. A backup is written beside its place, synced, checked as
a whole, and only then renamed; a file is checked before anything of it is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from actors import limits
from actors.backup_file import MAGIC, BackupHead, read_backup, read_backup_head
from actors.errors import RayftError
from actors.snapshot_file import FileReader
from graph.errors import CorruptionError

__all__ = ["BackupRefused", "inspect_backup", "receive_backup", "send_backup", "verify_backup"]

FILE_MODE = 0o600

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)
RunStep = Callable[[str, dict[str, Any]], list[list[Any]]]  # (statement, parameters) to its rows


class BackupRefused(RayftError):
    """The file cannot be used, or not be written; nothing was changed."""


def receive_backup(
    path: Path, rows: Iterable[bytes], progress: Progress = lambda done, size: None
) -> BackupHead:
    """Write a backup durably and whole, or not at all; what it holds.

    A file that was there is replaced. Raises ``BackupRefused``, and what ``rows`` raises.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
            size = 0
            for row in rows:
                file.write(row)
                size += len(row)
                progress(size, 0)
            file.flush()
            os.fsync(file.fileno())
        head = inspect_backup(temporary)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return head


def inspect_backup(path: Path) -> BackupHead:
    """What a file holds, after all its checksums were compared. Raises ``BackupRefused``."""
    with _opened(path) as reader:
        head = read_backup_head(reader)
        for _ in reader.stream():
            pass
    return head


def verify_backup(path: Path) -> BackupHead:
    """``inspect_backup``, and the graph in it is loaded and its digest compared: takes memory."""
    with _opened(path) as reader:
        return read_backup(reader)[0]


def send_backup(
    path: Path,
    run: RunStep,
    *,
    replace: bool,
    progress: Progress = lambda done, size: None,
) -> BackupHead:
    """Restore a file; what it held. Returns when the file is the graph.

    Raises ``BackupRefused`` (the file is damaged), and what ``run`` raises.
    """
    head = inspect_backup(path)
    size = path.stat().st_size
    if size > limits.RESTORE_BYTES_MAX:
        raise BackupRefused(
            f"{path} has {size} bytes, and a restore at most {limits.RESTORE_BYTES_MAX}"
        )
    ((restore,),) = run("RESTORE DATABASE BEGIN", {"size": size, "replace": replace})
    ended = False
    try:
        with path.open("rb") as file:
            for offset, data in _pieces(file):
                step = {"restore": restore, "offset": offset, "data": data}
                run("RESTORE DATABASE PART", step)
                progress(offset + len(data), size)
        ended = True
        run("RESTORE DATABASE END", {"restore": restore})
    except BaseException:
        if not ended:
            _cancel(run, restore)
        raise
    return head


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while data := file.read(limits.RESTORE_PART_BYTES_MAX):
        yield offset, data
        offset += len(data)


def _cancel(run: RunStep, restore: str) -> None:
    """So that the next one need not wait for this one's time-out."""
    try:
        run("RESTORE DATABASE CANCEL", {"restore": restore})
    except Exception:  # noqa: S110  # the error that led here is the one to show
        pass


@contextmanager
def _opened(path: Path) -> Iterator[FileReader]:
    """A reader; what is wrong with the file is raised as ``BackupRefused``."""
    try:
        with path.open("rb") as file:

            def read(offset: int, size: int) -> bytes:
                file.seek(offset)
                return file.read(size)

            yield FileReader(read, os.fstat(file.fileno()).st_size, MAGIC)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be read: {error.strerror or error}") from error
    except CorruptionError as error:
        raise BackupRefused(f"{path} is no sound backup: {error.message}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
