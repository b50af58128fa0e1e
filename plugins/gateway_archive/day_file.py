"""One `.jsonl`: appends lines, makes them durable, and truncates to the durable part after a failure."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway_archive.compression import compressed, settle
from gateway_archive.durable import create_file, make_folder, open_file, sync_file, sync_folder, write_all
from gateway_archive.lines import Item
from gateway_archive.seen import SeenIds, seen_in_compressed, seen_in_lines

_TAIL = 4 * 1024 * 1024
_INDEX_IDLE = 60.0


class DayFile:
    """The lines of one organisation, hook and day. Not thread-safe.

    After an exception from `write` or `sync` the caller calls `roll_back`, which removes the lines since the last
    `sync`. Nothing is written before that has succeeded."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path = path
        self.unsynced = False
        self.rolling_back = False
        self._log = log
        self._fd: int | None = None
        self._length = 0
        self._durable = 0
        self._named = False
        self._seen: list[SeenIds] = []
        self._seen_used = 0.0

    def write(self, items: list[Item], suspects: bool) -> None:
        """Append lines in order; with `suspects`, leave out those that are already in this day's files."""
        self._open()
        if suspects:
            items = self._unseen(items)
            if not items:
                return
        fd = self._create() if self._fd is None else self._fd
        data = b"".join([line for _, line, _ in items])
        self.unsynced = True
        write_all(fd, data)
        if self._seen:
            self._seen[0].add([key.encode() for key, _, _ in items], self._length, self._length + len(data))
        self._length += len(data)

    def sync(self) -> None:
        """Make durable what was written, and what an earlier process may have left in the page cache."""
        if self._fd is not None:
            sync_file(self._fd)
            if not self._named:
                for folder in self.path.parents[:3]:
                    sync_folder(folder)
                self._named = True
        self._durable = self._length
        self.unsynced = False

    def roll_back(self) -> None:
        """Remove what was written since the last `sync`: now, or where that fails, before the next write."""
        self.rolling_back |= self._fd is not None  # nothing was written to a file that was never open
        self.close()
        with suppress(OSError):
            self._open()

    def size(self) -> int | None:
        """Bytes of whole lines, all of them durable; None where there is no `.jsonl`."""
        self._open()
        if self.unsynced:
            self.sync()
        return None if self._fd is None else self._length

    def close(self) -> None:
        """Close the file and drop the index of its ids."""
        fd, self._fd = self._fd, None
        self._seen = []
        if fd is not None:
            with suppress(OSError):
                os.close(fd)

    def forget_idle_index(self) -> None:
        if self._seen and time.monotonic() - self._seen_used > _INDEX_IDLE:
            self._seen = []

    def _open(self) -> None:
        if self._fd is not None:
            now = os.fstat(self._fd)
            if now.st_nlink and now.st_size == self._length:
                return
            self._log.warning("the archive file %s was changed by another program", self.path)
            self.close()
        settle(self.path)
        try:
            fd = open_file(self.path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            self._length = self._durable = 0
            self.rolling_back = self.unsynced = False
            return
        try:
            if self.rolling_back and os.fstat(fd).st_size > self._durable:
                os.ftruncate(fd, self._durable)
            length = self._repair(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._length = self._durable = length
        self._named = self.rolling_back = False
        self.unsynced = True

    def _create(self) -> int:
        try:
            fd = create_file(self.path)
        except FileNotFoundError:
            make_folder(self.path.parent)
            fd = create_file(self.path)
        self._fd = fd
        self._named = False
        return fd

    def _repair(self, fd: int) -> int:
        """Remove an incomplete last line (also zeros after a loss of power); return the length."""
        size = os.fstat(fd).st_size
        span = _TAIL
        while True:
            start = max(0, size - span)
            tail = os.pread(fd, size - start, start)
            zero = tail.find(b"\0")
            good = tail if zero < 0 else tail[:zero]
            cut = good.rfind(b"\n") + 1
            if cut or not start:
                break
            span *= 8
        if cut == len(tail):
            return size
        if zero < 0 and _is_json(good[cut:]):
            write_all(fd, b"\n")
            return size + 1
        if b"\n" in tail[cut:]:
            self._put_aside(tail[cut:])
        self._log.warning("cut a torn last line off the archive file %s (bytes: %d)", self.path, len(tail) - cut)
        os.ftruncate(fd, start + cut)
        return start + cut

    def _put_aside(self, text: bytes) -> None:
        """Copy the whole lines after zeros to a `.damaged` file: unless a loss of power made the zeros, the lines are
        still needed."""
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        try:
            fd = create_file(damaged)
        except FileExistsError:
            fd = open_file(damaged, os.O_WRONLY | os.O_APPEND)
        try:
            write_all(fd, text)
            sync_file(fd)
        finally:
            os.close(fd)
        sync_folder(self.path.parent)
        self._log.error("lines after damage in the archive file %s were moved to %s", self.path, damaged.name)

    def _unseen(self, items: list[Item]) -> list[Item]:
        """The items that are not in this day's files, each once."""
        suspects = {key.encode() for key, _, suspect in items if suspect}
        done = {key.decode() for seen in self._index() for key in seen.among(suspects)}
        left = []
        for item in items:
            if item[0] not in done:
                done.add(item[0])
                left.append(item)
        return left

    def _index(self) -> list[SeenIds]:
        if not self._seen:
            indexes = [seen_in_lines(self.path, self._length)]
            with suppress(FileNotFoundError):
                indexes.append(seen_in_compressed(compressed(self.path)))
                if damage := indexes[-1].damage:
                    self._log.error(
                        "a part of the archive cannot be read; its events are written again where they come again: %s",
                        damage,
                    )
            self._seen = indexes
        self._seen_used = time.monotonic()
        return self._seen


def _is_json(text: bytes) -> bool:
    try:
        return type(msgspec.json.decode(text)) is dict
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
