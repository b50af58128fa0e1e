"""The archive's days that are over: compressed without a moment in which a crash could lose or double an event."""

from __future__ import annotations

import errno
import os
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from archive_kit import DAY, Clock, Died, Disk, deliver, each_once, event, files, ids, new_archive, running, text_of

DAY_FILE = "acme/payment/2026-11-22.jsonl"
AFTER = DAY.replace(hour=0) + timedelta(days=1, minutes=15)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_day_that_is_over_is_compressed(directory: Path, clock: Clock) -> None:
    """The same lines, byte for byte, in a private `.jsonl.zst` instead of the `.jsonl`."""
    with running(directory, clock) as plugin:
        deliver(plugin, *(event(n, raw=b'{"pad": "%s"}' % (b"x" * 1000)) for n in range(3000)))
        plain = (directory / DAY_FILE).read_bytes()
        clock.now = AFTER
        plugin.compress()
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    compressed = directory / f"{DAY_FILE}.zst"
    assert text_of(compressed) == plain
    assert compressed.stat().st_size < len(plain) / 5
    assert stat.S_IMODE(compressed.stat().st_mode) == 0o600


def test_a_day_is_left_alone_until_ten_minutes_after_its_end(directory: Path, clock: Clock) -> None:
    """Events received just before midnight are still on their way then."""
    with running(directory, clock) as plugin:
        deliver(plugin, event(1), event(2, day=1))
        clock.now = DAY.replace(hour=0, minute=9, second=59) + timedelta(days=1)
        plugin.compress()
        assert list(files(directory)) == [DAY_FILE, "acme/payment/2026-11-23.jsonl"]
        clock.now = DAY.replace(hour=0, minute=10, second=0) + timedelta(days=1)
        plugin.compress()
        assert list(files(directory)) == [f"{DAY_FILE}.zst", "acme/payment/2026-11-23.jsonl"]


def test_with_compress_it_happens_by_itself(directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's own thread does it, from the start on, and ends with the plugin."""
    clock.now = AFTER
    with running(directory, clock) as plugin:
        deliver(plugin, event(1))
    done = threading.Event()
    replace = os.replace

    def seen(source: Path, target: Path) -> None:
        replace(source, target)
        if str(target).endswith(".zst"):
            done.set()

    monkeypatch.setattr(os, "replace", seen)
    with running(directory, clock, compress=True):
        assert done.wait(10)
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    assert [thread.name for thread in threading.enumerate() if "compress" in thread.name] == []


def test_without_compress_days_stay_as_they_are(directory: Path, clock: Clock) -> None:
    """Compression is asked for, never a surprise."""
    clock.now = AFTER
    with running(directory, clock) as plugin:
        deliver(plugin, event(1))
        assert [thread.name for thread in threading.enumerate() if "compress" in thread.name] == []
    with running(directory, clock):
        pass
    assert list(files(directory)) == [DAY_FILE]


def test_an_event_that_stands_in_a_compressed_day_is_not_written_again(directory: Path, clock: Clock) -> None:
    """A replay of a compressed day finds all of it, and adds no file."""
    with running(directory, clock) as plugin:
        deliver(plugin, *map(event, range(3000)))
        clock.now = AFTER
        plugin.compress()
        for start in range(0, 3000, 500):
            deliver(plugin, *(event(n, redelivered=True) for n in range(start, start + 500)))
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    assert ids(directory) == each_once(*map(event, range(3000)))


def test_late_events_stand_beside_a_compressed_day_until_they_are_merged(directory: Path, clock: Clock) -> None:
    """A retry days later, or a replay that finds one missing, opens a new `.jsonl`; the next compression adds it."""
    with running(directory, clock) as plugin:
        deliver(plugin, event(1), event(2))
        clock.now = AFTER
        plugin.compress()
        first = text_of(directory / f"{DAY_FILE}.zst")
        deliver(plugin, event(2, redelivered=True), event(3, redelivered=True), event(4))
        assert list(files(directory)) == [DAY_FILE, f"{DAY_FILE}.zst"]
        late = text_of(directory / DAY_FILE)
        deliver(plugin, *(event(n, redelivered=True) for n in range(1, 5)))
        assert text_of(directory / DAY_FILE) == late
        plugin.compress()
        assert list(files(directory)) == [f"{DAY_FILE}.zst"]
        assert text_of(directory / f"{DAY_FILE}.zst") == first + late
        deliver(plugin, *(event(n, redelivered=True) for n in range(1, 5)))
    assert ids(directory) == each_once(*map(event, range(1, 5)))


def test_lines_that_stand_in_the_compressed_file_already_are_not_merged_again(directory: Path, clock: Clock) -> None:
    """Wherever a `.jsonl` came from, merging it doubles nothing."""
    with running(directory, clock) as plugin:
        deliver(plugin, *map(event, range(100)))
        plain = (directory / DAY_FILE).read_bytes()
        clock.now = AFTER
        plugin.compress()
        (directory / DAY_FILE).write_bytes(plain)
        deliver(plugin, event(100))
        plugin.compress()
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    assert ids(directory) == each_once(*map(event, range(101)))


def test_a_day_with_no_line_leaves_no_file(directory: Path, clock: Clock) -> None:
    """What a rolled back write left empty goes."""
    with running(directory, clock) as plugin:
        deliver(plugin, event(1, day=-1))
        (directory / DAY_FILE).write_bytes(b"")
        clock.now = AFTER
        plugin.compress()
    assert list(files(directory)) == ["acme/payment/2026-11-21.jsonl.zst"]


def test_a_compressed_file_of_one_frame_is_understood_too(directory: Path, clock: Clock) -> None:
    """An operator who compressed a day with another tool keeps exactly-once for it."""
    with running(directory, clock) as plugin:
        deliver(plugin, *map(event, range(20_000)))
    plain = (directory / DAY_FILE).read_bytes()
    middle = len(plain) // 2 + 7  # frames that end within a line
    compressor = zstandard.ZstdCompressor(level=1)
    (directory / f"{DAY_FILE}.zst").write_bytes(
        compressor.compress(plain[:middle]) + compressor.compress(plain[middle:])
    )
    (directory / DAY_FILE).unlink()
    with running(directory, clock) as plugin:
        deliver(plugin, *(event(n, redelivered=True) for n in range(20_001)), event(20_001))
        clock.now = AFTER
        plugin.compress()
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    assert ids(directory) == each_once(*map(event, range(20_002)))


def test_a_compressed_file_that_cannot_be_added_to_stays(
    directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the merged file would not hold exactly the lines of both, both are left as they are."""
    with running(directory, clock) as plugin:
        deliver(plugin, event(1))
        without_end = (directory / DAY_FILE).read_bytes()[:-1]
        (directory / f"{DAY_FILE}.zst").write_bytes(zstandard.ZstdCompressor().compress(without_end))
        (directory / DAY_FILE).unlink()
        deliver(plugin, event(1, redelivered=True), event(2))
        clock.now = AFTER
        plugin.compress()
    assert list(files(directory)) == [DAY_FILE, f"{DAY_FILE}.zst"]
    assert text_of(directory / f"{DAY_FILE}.zst") == without_end
    assert text_of(directory / DAY_FILE).count(b"\n") == 1
    assert "does not read back as it was written" in caplog.text


@pytest.mark.parametrize("late", [False, True])
def test_a_crash_at_any_point_of_a_compression_loses_and_doubles_nothing(
    tmp_path: Path, clock: Clock, late: bool
) -> None:
    """Every call that changes the disk is once the last one of the process, with and without a merge."""
    expected = each_once(*map(event, range(20)))
    survived = 0
    for point in range(100):
        clock.now = DAY
        directory = tmp_path / str(point)
        plugin = new_archive(directory, clock)
        deliver(plugin, *map(event, range(20)))
        if late:
            clock.now = AFTER
            plugin.compress()
            expected = each_once(*map(event, range(40)))
            deliver(plugin, *map(event, range(20, 40)))
        clock.now = AFTER
        with Disk(dies_at=point) as disk:
            try:
                plugin.compress()
                survived += 1
            except Died:
                pass
        plugin.shutdown()
        with running(directory, clock) as plugin:
            assert set(files(directory)) <= {DAY_FILE, f"{DAY_FILE}.zst"}
            assert ids(directory) == expected, f"after dying at {point} of {disk.calls}"
            deliver(plugin, *(event(n, redelivered=True) for n in range(len(expected))))
            assert ids(directory) == expected
            plugin.compress()
            assert list(files(directory)) == [f"{DAY_FILE}.zst"]
            assert ids(directory) == expected
        if survived:
            break
    assert survived == 1
    assert point > 6


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_an_error_at_any_point_of_a_compression_leaves_a_day_that_is_whole(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, late: bool, between: bool
) -> None:
    """It is logged, delivery goes on beside it, and the next attempt succeeds."""
    expected = each_once(event(1), event(2)) if late else each_once(event(1))
    for point in range(100):
        clock.now = DAY
        directory = tmp_path / str(point)
        with running(directory, clock) as plugin:
            deliver(plugin, event(1))
            clock.now = AFTER
            if late:
                plugin.compress()
                deliver(plugin, event(2))
            caplog.clear()
            with Disk(fails_at=point, error=errno.ENOSPC) as disk:
                plugin.compress()
            if not disk.happened:
                break
            assert caplog.messages[-1].startswith(f"the archive file {directory / DAY_FILE} could not be compressed")
            assert caplog.messages[-1].endswith(os.strerror(errno.ENOSPC))
            assert ids(directory).keys() == expected.keys()
            if between:
                expected = each_once(event(1), event(2), event(3))
                deliver(plugin, event(1, redelivered=True), event(2, redelivered=True), event(3))
                assert ids(directory) == expected
            plugin.compress()
            assert list(files(directory)) == [f"{DAY_FILE}.zst"]
            assert ids(directory) == expected
            expected = each_once(event(1), event(2)) if late else each_once(event(1))
    assert point > 6


def test_what_does_not_read_back_does_not_take_the_place_of_the_day(
    directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A compressed file whose bytes went wrong on their way is thrown away, the day stays."""
    with running(directory, clock) as plugin:
        deliver(plugin, *map(event, range(100)))
        clock.now = AFTER
        fdatasync = os.fdatasync

        def damaging(fd: int) -> None:
            fdatasync(fd)
            path = Path(f"/proc/self/fd/{fd}").readlink() if Path("/proc/self/fd").is_dir() else Path("/")
            if path.name.endswith(".tmp"):
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 0xFF
                path.write_bytes(data)

        monkeypatch.setattr(os, "fdatasync", damaging)
        plugin.compress()
    assert list(files(directory)) == [DAY_FILE]
    assert ids(directory) == each_once(*map(event, range(100)))
    assert "could not be compressed, and stays: " in caplog.text
    assert ".zst.tmp is damaged" in caplog.text


def test_events_of_a_damaged_compressed_day_are_written_again(
    directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What can no longer be read does not stand there; the damaged file is reported, and left as it is."""
    with running(directory, clock) as plugin:
        deliver(plugin, *map(event, range(10)))
        clock.now = AFTER
        plugin.compress()
    compressed = directory / f"{DAY_FILE}.zst"
    damaged = compressed.read_bytes()[:-9]
    compressed.write_bytes(damaged)
    with running(directory, clock) as plugin:
        deliver(plugin, *(event(n, redelivered=True) for n in range(10)))
        plugin.compress()
    assert compressed.read_bytes() == damaged
    assert text_of(directory / DAY_FILE).count(b"\n") == 10
    assert f"its events are written again where they come again: {compressed} ends too early" in caplog.text
    assert f"could not be compressed, and stays: {compressed} ends too early" in caplog.text


def test_late_events_that_come_during_a_compression_are_not_lost_with_it(
    directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that grew meanwhile is compressed another time."""
    with running(directory, clock) as plugin:
        deliver(plugin, event(1))
        clock.now = AFTER
        fdatasync = os.fdatasync

        def late(fd: int) -> None:
            fdatasync(fd)
            monkeypatch.setattr(os, "fdatasync", fdatasync)
            deliver(plugin, event(2), event(1, redelivered=True))

        monkeypatch.setattr(os, "fdatasync", late)
        plugin.compress()
        assert list(files(directory)) == [DAY_FILE]
        assert ids(directory) == each_once(event(1), event(2))
        plugin.compress()
        deliver(plugin, event(1, redelivered=True), event(2, redelivered=True))
    assert list(files(directory)) == [f"{DAY_FILE}.zst"]
    assert ids(directory) == each_once(event(1), event(2))


def test_stopping_does_not_wait_for_a_large_day(directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compression that `shutdown` interrupts leaves the day as it was."""
    with running(directory, clock) as plugin:
        deliver(plugin, *(event(n, raw=b'{"pad": "%s"}' % (b"x" * 10_000)) for n in range(1000)))
    clock.now = AFTER
    begun, stopping = threading.Event(), threading.Event()
    pread, join = os.pread, threading.Thread.join

    def read(fd: int, length: int, offset: int) -> bytes:
        if "compress" in threading.current_thread().name:
            begun.set()
            assert stopping.wait(10)
        return pread(fd, length, offset)

    def joined(thread: threading.Thread, timeout: float | None = None) -> None:
        stopping.set()
        join(thread, timeout)

    monkeypatch.setattr(os, "pread", read)
    monkeypatch.setattr(threading.Thread, "join", joined)
    with running(directory, clock, compress=True):
        assert begun.wait(10)
    assert list(files(directory)) == [DAY_FILE]
    assert ids(directory) == each_once(*map(event, range(1000)))
