"""The archive, exactly once: through failing disks, crashes, calls given up on, and any mixture of these."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from archive_kit import (
    DAY,
    Clock,
    Died,
    Disk,
    deliver,
    each_once,
    event,
    files,
    ids,
    new_archive,
    running,
)
from gateway_archive.store import ArchiveError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import Event

DAY_FILE = "acme/payment/2026-11-22.jsonl"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def again(*events: Event) -> list[Event]:
    """The same events once more, as the gateway marks them."""
    return [msgspec.structs.replace(one, redelivered=True) for one in events]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "mkdir"])
def test_a_checkpoint_that_fails_says_so_and_its_events_can_come_again(directory: Path, call: str, error: int) -> None:
    """The error reaches the gateway, the files are as at the checkpoint before, and the next attempt keeps all."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        batch = [event(2), event(3, hook="set-status"), event(4)]
        with Disk(fails_at=0, error=error, only=call), pytest.raises(ArchiveError, match=os.strerror(error)):
            deliver(plugin, *batch)
        assert event(1).id in ids(directory)
        deliver(plugin, *again(*batch), event(5))
        assert ids(directory) == each_once(*map(event, range(1, 6)))


def test_a_file_that_may_not_grow_keeps_whole_lines(directory: Path) -> None:
    """The real thing, without a stand-in: the system takes a part of a write and refuses the rest."""
    first, second = [event(n) for n in range(10)], [event(n) for n in range(10, 30)]
    with running(directory) as plugin:
        deliver(plugin, *first)
        before = (directory / DAY_FILE).read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, hard))
        try:
            with pytest.raises(ArchiveError, match=os.strerror(errno.EFBIG)):
                deliver(plugin, *second)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (directory / DAY_FILE).read_bytes() == before
        deliver(plugin, *again(*second))
    assert ids(directory) == each_once(*first, *second)


def test_every_call_of_a_checkpoint_may_fail(tmp_path: Path) -> None:
    """First batch of an archive, several files and folders to make: whatever fails, the next attempt is whole."""
    batch = [event(n, hook=f"hook-{n % 3}", day=n % 2) for n in range(12)]
    for point in range(200):
        with running(tmp_path / str(point)) as plugin:
            with Disk(fails_at=point, error=errno.ENOSPC) as disk, suppress(ArchiveError):
                deliver(plugin, *batch)
            if not disk.happened:
                break
            deliver(plugin, *again(*batch))
            assert ids(tmp_path / str(point)) == each_once(*batch), f"after {point} of {disk.calls}"
    assert point > 30


def test_every_call_of_a_checkpoint_may_be_the_last_one(tmp_path: Path) -> None:
    """The same for a process that dies there, also within a write, and starts again."""
    first, second = [event(n, day=n % 2) for n in range(6)], [event(n, day=n % 3) for n in range(6, 12)]
    for point in range(200):
        directory = tmp_path / str(point)
        with running(directory) as plugin:
            deliver(plugin, *first)
            with Disk(dies_at=point) as disk, suppress(Died):
                deliver(plugin, *second)
        if not disk.happened:
            break
        assert all(ids(directory, torn=True)[one.id] == 1 for one in first)
        with running(directory) as plugin:
            deliver(plugin, *again(*second))
        assert ids(directory) == each_once(*first, *second), f"after dying at {point} of {disk.calls}"
    assert point > 8


def test_a_file_is_brought_back_to_its_last_checkpoint(directory: Path) -> None:
    """After a failed fsync the page cache is not believed: what was not checkpointed is taken back at once."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        before = (directory / DAY_FILE).read_bytes()
        with Disk(fails_at=0, only="fdatasync"), pytest.raises(ArchiveError, match=f"{DAY_FILE}: Input/output error"):
            deliver(plugin, event(2))
        assert (directory / DAY_FILE).read_bytes() == before


def test_nothing_is_written_to_a_file_that_could_not_be_brought_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While even the taking back fails, so does every checkpoint; then all goes on."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        with monkeypatch.context() as patched:

            def broken(*_: object) -> None:
                raise OSError(errno.EIO, "Input/output error")

            patched.setattr(os, "fdatasync", broken)
            patched.setattr(os, "ftruncate", broken)
            for _ in range(3):
                with pytest.raises(ArchiveError, match="Input/output error"):
                    deliver(plugin, *again(event(2)))
        deliver(plugin, *again(event(2)))
    assert ids(directory) == each_once(event(1), event(2))


def test_a_file_that_cannot_be_opened_loses_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking back concerns what this process wrote, never what stood there before."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
    with running(directory) as plugin:
        real = os.open

        def refused(path: object, *args: int) -> int:
            if str(path).endswith(".jsonl"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refused)
            with pytest.raises(ArchiveError, match=f"{DAY_FILE}: Permission denied"):
                deliver(plugin, event(2))
        deliver(plugin, *again(event(2)))
    assert ids(directory) == each_once(event(1), event(2))


def test_a_write_that_fails_before_the_checkpoint_fails_the_checkpoint(directory: Path) -> None:
    """Lines of a large batch that were written early and taken back again are not forgotten."""
    large = [event(n, raw=b'{"pad": "%s"}' % (b"x" * 2**20)) for n in range(12)]
    with running(directory) as plugin:
        failed = []
        with Disk(fails_at=1, error=errno.ENOSPC, only="write"):
            for one in large:
                try:
                    plugin.on_event(one)
                except ArchiveError:
                    failed.append(one)
        assert failed == [large[7], large[11]]
        with pytest.raises(ArchiveError, match="a write failed since the last checkpoint"):
            plugin.checkpoint()
        deliver(plugin, *again(*large))
    assert ids(directory) == each_once(*large)


class Gate:
    """A system call that hangs until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError | None = None) -> None:
        self.hanging, self.go_on = threading.Event(), threading.Event()
        real = getattr(os, name)

        def call(*args: object) -> object:
            monkeypatch.setattr(os, name, real)
            self.hanging.set()
            assert self.go_on.wait(10)
            if error is not None:
                raise error
            return real(*args)

        monkeypatch.setattr(os, name, call)


def in_thread(call: object, *args: object) -> threading.Thread:
    def run() -> None:
        with suppress(ArchiveError):
            call(*args)  # type: ignore[operator]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")])
def test_a_checkpoint_that_was_given_up_on_does_no_harm_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """A disk hangs for longer than the gateway waits; the events come again while the first call still runs."""
    with running(directory) as plugin:
        gate = Gate(monkeypatch, "fdatasync", error)
        plugin.on_event(event(1))
        given_up = in_thread(plugin.checkpoint)
        assert gate.hanging.wait(10)
        for one in [*again(event(1)), event(2)]:
            plugin.on_event(one)
        gate.go_on.set()
        plugin.checkpoint()
        given_up.join()
        deliver(plugin, *again(event(1), event(2)))
    assert ids(directory) == each_once(event(1), event(2))


class LastFirst:
    """A lock that the thread gets that began to wait last: the worst order for calls that were given up."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._held = False
        self.waiting: list[object] = []

    def __enter__(self) -> None:
        with self._changed:
            me = object()
            self.waiting.append(me)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._held and self.waiting[-1] is me)
            self.waiting.pop()
            self._held = True

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        """Return when `number` threads wait."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.waiting) == number, 10)


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")])
def test_event_calls_that_were_given_up_on_do_no_harm_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """Calls that write early hang, then the checkpoint behind them; all are overtaken by the next batch."""
    events = [event(n, raw=b'{"pad": "%s"}' % (b"x" * 2**20)) for n in range(8)]
    disk = LastFirst()
    monkeypatch.setattr("gateway_archive.store.threading", SimpleNamespace(Lock=lambda: disk))
    plugin = new_archive(directory)
    for one in events[:3]:
        plugin.on_event(one)
    gate = Gate(monkeypatch, "write", error)
    given_up = [in_thread(plugin.on_event, events[3])]
    assert gate.hanging.wait(10)
    for one in events[4:7]:
        plugin.on_event(one)
    given_up.append(in_thread(plugin.on_event, events[7]))
    disk.wait_for(1)
    given_up.append(in_thread(plugin.checkpoint))
    disk.wait_for(2)
    for one in again(events[0], events[4], events[7]):
        plugin.on_event(one)
    given_up.append(in_thread(plugin.checkpoint))
    disk.wait_for(3)
    gate.go_on.set()
    for thread in given_up:
        thread.join(10)
    deliver(plugin, *again(*events))
    assert ids(directory) == each_once(*events)
    plugin.shutdown()


# Delivers as the gateway does: the cursor moves after the checkpoint, and what may have been delivered says so.
DELIVERING = """
import os, pathlib, sys
import archive_kit as kit

directory, marks, end = pathlib.Path(sys.argv[1]), os.open(sys.argv[2], os.O_RDWR), int(sys.argv[3])
cursor, reached = map(int, os.pread(marks, 100, 0).split())
plugin = kit.new_archive(directory)
while cursor < end:
    batch = range(cursor, cursor + 20)
    again, reached = reached, max(reached, batch.stop)
    os.pwrite(marks, b"%20d %20d" % (cursor, reached), 0)
    for number in batch:
        plugin.on_event(kit.event(number, hook=f"hook-{number % 2}", redelivered=number < again))
    plugin.checkpoint()
    cursor = batch.stop
    os.pwrite(marks, b"%20d %20d" % (cursor, reached), 0)
    print(cursor, flush=True)
"""


def test_killed_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    """Rounds of `kill -9` at random moments: what was checkpointed stands, what comes again stands once."""
    directory, marks = tmp_path / "archive", tmp_path / "marks"
    marks.write_text("0 0")
    seed = random.randrange(2**32)
    chance = random.Random(seed)

    def process(end: int) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", DELIVERING, str(directory), str(marks), str(end)]
        return subprocess.Popen(arguments, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)

    for _ in range(8):
        with process(10**9) as killed:
            assert killed.stdout is not None
            for _ in range(chance.randrange(1, 100)):
                assert killed.stdout.readline()
            killed.kill()
        cursor = int(marks.read_text().split()[0])
        found = ids(directory, torn=True)
        assert set(found.values()) == {1}, f"seed {seed}"
        assert all(event(number).id in found for number in range(cursor)), f"seed {seed}"
    end = cursor + 1000
    with process(end) as last:
        last.communicate()
    assert ids(directory) == each_once(*map(event, range(end))), f"seed {seed}"


class ArchiveMachine(RuleBasedStateMachine):
    """Any sequence of deliveries, failures, crashes, days and compressions, against a set of ids."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.directory = self.folder / "archive"
        self.clock = Clock()
        self.day = 0
        self.known: list[Event] = []
        self.kept: set[str] = set()
        self.owed: list[Event] = []
        self.batch: list[Event] = []
        self.torn = False
        self.plugin = new_archive(self.directory, self.clock)

    def teardown(self) -> None:
        try:
            self.give(again(*self.owed))
            self.plugin.checkpoint()
            self.plugin.compress()
            assert ids(self.directory, torn=self.torn) == each_once(*self.known)
            self.give(again(*self.known))
            self.plugin.checkpoint()
            self.plugin.shutdown()
            assert ids(self.directory) == each_once(*self.known)
            assert {path.suffix for path in files(self.directory).values()} <= {".jsonl", ".zst"}
        finally:
            shutil.rmtree(self.folder)

    def give(self, events: list[Event]) -> None:
        for one in events:
            self.plugin.on_event(one)
        self.batch += events
        self.owed = [one for one in self.owed if one.id not in {given.id for given in events}]

    @rule(count=st.integers(1, 4), hook=st.sampled_from(["payment", "unknown"]), back=st.integers(0, 2))
    def deliver_new(self, count: int, hook: str, back: int) -> None:
        first = len(self.known)
        events = [event(first + n, hook=hook, day=max(0, self.day - back)) for n in range(count)]
        self.known += events
        self.give(events)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.known))), min_size=1, max_size=6))
        self.give(again(*(self.known[index] for index in chosen)))

    @precondition(lambda self: self.owed)
    @rule()
    def deliver_what_is_owed(self) -> None:
        self.give(again(*self.owed))

    @rule()
    def checkpoint(self) -> None:
        self.plugin.checkpoint()
        self.kept |= {one.id for one in self.batch}
        self.batch = []

    @rule(point=st.integers(0, 12), error=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def checkpoint_with_an_error(self, point: int, error: int) -> None:
        try:
            with Disk(fails_at=point, error=error):
                self.plugin.checkpoint()
        except ArchiveError:
            self.owed += self.batch
            self.batch = []
        else:
            self.kept |= {one.id for one in self.batch}
            self.batch = []

    def start_again(self) -> None:
        """What the process held is gone: what was not checkpointed comes again some time."""
        self.owed += self.batch
        self.batch = []
        self.plugin.shutdown()
        self.plugin = new_archive(self.directory, self.clock)

    @rule(torn=st.sampled_from([b"", b'{"id":"01935498', b"\0\0\0"]), data=st.data())
    def crash(self, torn: bytes, data: st.DataObject) -> None:
        days = [path for name, path in files(self.directory).items() if name.endswith(".jsonl")]
        self.plugin.shutdown()
        if torn and days:
            self.torn = True
            with data.draw(st.sampled_from(days)).open("ab") as file:
                file.write(torn)
        self.plugin = new_archive(self.directory, self.clock)
        self.owed += self.batch
        self.batch = []

    @rule(point=st.integers(0, 12))
    def crash_in_a_checkpoint(self, point: int) -> None:
        try:
            with Disk(dies_at=point):
                self.plugin.checkpoint()
        except Died:
            self.torn = True
            self.start_again()
        else:
            self.kept |= {one.id for one in self.batch}
            self.batch = []

    @rule(days=st.integers(1, 2))
    def days_pass(self, days: int) -> None:
        self.day += days
        self.clock.now = DAY + timedelta(days=self.day)

    @rule()
    def compress(self) -> None:
        self.plugin.compress()

    @rule(point=st.integers(0, 14), error=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def compress_with_an_error(self, point: int, error: int) -> None:
        with Disk(fails_at=point, error=error):
            self.plugin.compress()

    @rule(point=st.integers(0, 14))
    def crash_in_a_compression(self, point: int) -> None:
        try:
            with Disk(dies_at=point):
                self.plugin.compress()
        except Died:
            self.start_again()

    @invariant()
    def what_was_checkpointed_stands_once(self) -> None:
        found = ids(self.directory, torn=self.torn)
        settling = any(name.endswith(".ready") for name in files(self.directory))
        assert set(found.values()) <= ({1, 2} if settling else {1})
        assert self.kept <= found.keys()


ArchiveMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestArchiveMachine = ArchiveMachine.TestCase
