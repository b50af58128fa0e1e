"""The archive's folder: locked for one process, with at most 128 files open."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gateway_archive.compression import (
    Stopped,
    discard,
    finished_days,
    replace,
    settle_all,
    write_compressed,
)
from gateway_archive.day_file import DayFile
from gateway_archive.durable import create_file, make_folder, open_file
from gateway_archive.erasing import Matches, Rewriting, rewrite_compressed, rewrite_lines
from gateway_archive.lines import Item
from gateway_archive.reading import Unreadable, read_lines

_MOST_OPEN = 128


class ArchiveError(Exception):
    """The archive cannot be used, or not now; the message is a sentence for the operator."""

    loggable = True


class Store:
    """An open archive. Callers hold `lock` around `write` and `sync`. `rollbacks` counts the failures after which lines
    were, or may have been, removed."""

    def __init__(self, root: Path, log: logging.Logger) -> None:
        """Make the folder and lock it; `ArchiveError` where that fails or another process has the lock."""
        self.lock = threading.Lock()
        self.rollbacks = 0
        self._root = root
        self._log = log
        self._files: OrderedDict[str, DayFile] = OrderedDict()
        try:
            make_folder(root)
            self._lock_fd = _lock(root / ".lock")
        except OSError as error:
            raise ArchiveError(f"the archive {root} cannot be opened: {error.strerror}") from error
        try:
            settle_all(root)
        except OSError as error:
            os.close(self._lock_fd)
            raise ArchiveError(f"the archive {root} cannot be repaired: {error}") from error

    def close(self) -> None:
        """Close all files and release the lock. This does not sync."""
        with self.lock:
            while self._files:
                self._files.popitem()[1].close()
            os.close(self._lock_fd)

    def write(self, place: str, items: list[Item], suspects: bool) -> None:
        """Append to `organisation/hook/YYYY-MM-DD`. After an `ArchiveError` the file is as it was at the last
        `sync`; the caller then writes every item since that again, as a suspect."""
        file = self._file(place)
        with self._guard(file):
            file.write(items, suspects)

    def sync(self) -> None:
        """Make everything written durable; `ArchiveError` as in `write`."""
        for file in self._files.values():
            if file.unsynced:
                with self._guard(file):
                    file.sync()
            file.forget_idle_index()

    def compress_days_before(self, now: datetime, stop: Callable[[], bool]) -> None:
        """Compress past days. A day that fails is logged and left as it is. Holds `lock` for short moments only."""
        try:
            with self.lock:
                settle_all(self._root)
        except OSError as error:
            self._log.warning("the archive %s could not be repaired: %s", self._root, error)
            return
        for path in finished_days(self._root, now):
            if stop():
                return
            try:
                self._compress(path, stop)
            except Stopped:
                return
            except Exception as error:
                self._log.warning("the archive file %s could not be compressed, and stays: %s", path, error)

    def _compress(self, path: Path, stop: Callable[[], bool]) -> None:
        place = path.relative_to(self._root).with_suffix("").as_posix()
        with self.lock:
            before = self._state(place, path)
            if before is not None and not before.st_size:
                self._files.pop(place).close()
                path.unlink()
        if before is None or not before.st_size:
            return
        write_compressed(path, before.st_size, stop)
        with self.lock:
            after = self._state(place, path)
            if after is None or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                discard(path)
                return
            self._files.pop(place).close()
            replace(path)

    def forget(self, matches: Matches) -> int:
        """Write every file anew that has lines of a body that `matches`; returns how many lines were erased. Files that
        fail are left as they are: `ArchiveError` at the end names them. Holds `lock` for short moments only; nothing
        must compress meanwhile."""
        erased, failed = 0, []
        for path in sorted(self._root.glob("*/*/*.jsonl*")):
            try:
                if path.name.endswith(".jsonl"):
                    erased += self._forget_lines(path, matches)
                elif path.name.endswith(".jsonl.zst"):
                    erased += rewrite_compressed(path, matches)
                elif path.name.endswith(".jsonl.damaged"):
                    erased += rewrite_lines(path, matches)
            except FileNotFoundError:
                continue
            except (OSError, Unreadable, ArchiveError) as error:
                failed.append(path)
                self._log.error("the archive file %s could not be written anew, and stays: %s", path, error)
        if failed:
            raise ArchiveError(
                f"{len(failed)} files could not be written anew, the first one {failed[0]}; {erased} lines of others"
                " were erased"
            )
        return erased

    def _forget_lines(self, path: Path, matches: Matches) -> int:
        place = path.relative_to(self._root).with_suffix("").as_posix()
        with self.lock:
            size = self._size(place)
        if size is None:
            return 0
        rewriting = Rewriting(path, matches)
        try:
            rewriting.add(read_lines(path, 0, size))
            with self.lock:
                now = self._size(place)
                if now is None or now < size:
                    raise ArchiveError(f"{path} has lost lines meanwhile")
                rewriting.add(read_lines(path, size, now))
                if rewriting.erased:
                    self._files.pop(place).close()
                rewriting.finish()
        except BaseException:
            rewriting.discard()
            raise
        return rewriting.erased

    def _size(self, place: str) -> int | None:
        """The size of a `.jsonl`, all of it durable; None where there is none."""
        file = self._file(place)
        with self._guard(file):
            return file.size()

    def _state(self, place: str, path: Path) -> os.stat_result | None:
        """The state of a `.jsonl`, after making all of it durable; None where there is none."""
        file = self._file(place)
        with self._guard(file):
            return None if file.size() is None else path.stat()

    def _file(self, place: str) -> DayFile:
        file = self._files.get(place)
        if file is None:
            file = self._files[place] = DayFile(self._root / f"{place}.jsonl", self._log)
        self._files.move_to_end(place)
        if len(self._files) > _MOST_OPEN:
            self._close_one()
        return file

    def _close_one(self) -> None:
        oldest = next((place for place, file in self._files.items() if not file.rolling_back), None)
        if oldest is not None:
            file = self._files[oldest]
            if file.unsynced:
                with self._guard(file):
                    file.sync()
            self._files.pop(oldest).close()

    @contextmanager
    def _guard(self, file: DayFile) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.rollbacks += 1
            file.roll_back()
            if isinstance(error, OSError):
                raise ArchiveError(f"{error.filename or file.path}: {error.strerror or error}") from error
            raise


def _lock(path: Path) -> int:
    """Lock the folder for this process. The system releases the lock when the process ends."""
    try:
        fd = create_file(path)
    except FileExistsError:
        fd = open_file(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise ArchiveError(
            f"another archive writes to {path.parent} (process {owner}); give each its own directory"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return fd
