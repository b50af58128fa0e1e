"""The bundled plugin `archive`: every event as received, once, in JSON Lines."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from archive_kit import DAY, deliver, each_once, event, files, ids, new_archive, records, running
from gateway_archive import ArchivePlugin
from gateway_archive.store import ArchiveError

from gateway import Reject
from gateway.testing import make_context


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def test_a_line_holds_the_event_and_its_body_as_received(directory: Path) -> None:
    """The body is the JSON text itself: number spelling, key order and repeated keys stay."""
    body = b'{"amount": 12.50, "big": 123456789012345678901234567890, "a": 1, "a": 2, "t": "\\u00e9 \xc3\xa9"}'
    with running(directory) as plugin:
        deliver(plugin, event(1, raw=body))
    assert (directory / "acme/payment/2026-11-22.jsonl").read_bytes() == (
        b'{"id":"01935498-0000-7000-8000-000000000001","received_at":"2026-11-22T15:54:24.124456Z",'
        b'"organisation":"acme","hook":"payment","body":' + body + b"}\n"
    )


def test_a_body_of_several_lines_is_brought_onto_one(directory: Path) -> None:
    """Line breaks between tokens become spaces, so that a line of the file is one event."""
    with running(directory) as plugin:
        deliver(plugin, event(1, raw=b'{\r\n  "a": "x\\ny",\n  "b": 2\n}\n'))
    [record] = records(directory)
    assert record["body"] == {"a": "x\ny", "b": 2}


@pytest.mark.parametrize(
    ("received_at", "name", "text"),
    [
        (datetime(2026, 1, 2, tzinfo=DAY.tzinfo), "2026-01-02", "2026-01-02T00:00:00.000000Z"),
        (
            datetime(2026, 1, 1, 23, 30, 0, 5, tzinfo=timezone(timedelta(hours=-2))),
            "2026-01-02",
            "2026-01-02T01:30:00.000005Z",
        ),
    ],
)
def test_the_file_is_that_of_the_utc_day_of_receipt(
    directory: Path, received_at: datetime, name: str, text: str
) -> None:
    """`received_at` always has microseconds and `Z`, and its day names the file."""
    with running(directory) as plugin:
        deliver(plugin, event(1, received_at=received_at))
    [record] = records(directory)
    assert list(files(directory)) == [f"acme/payment/{name}.jsonl"]
    assert record["received_at"] == text


def test_unknown_and_unreadable_events_are_archived_too(directory: Path) -> None:
    """What the gateway says 200 to, the archive keeps."""
    with running(directory) as plugin:
        deliver(plugin, event(1, hook="unknown"), event(2, hook="payment", readable=False))
    assert [record["hook"] for record in records(directory)] == ["payment", "unknown"]


@pytest.mark.parametrize("umask", [0, 0o077, 0o377])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Files 0600, folders 0700, the archive's own folder and its lock included."""
    directory = tmp_path / "var" / "archive"
    before = os.umask(umask)
    try:
        with running(directory) as plugin:
            deliver(plugin, event(1))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "var").rglob("*")}
    assert {path.name for path in modes} == {"archive", ".lock", "acme", "payment", "2026-11-22.jsonl"}
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_modes_of_what_is_there_already_stay(directory: Path) -> None:
    """An operator's own choice of modes is neither loosened nor tightened."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
    day = directory / "acme/payment/2026-11-22.jsonl"
    directory.chmod(0o750)
    day.chmod(0o640)
    with running(directory) as plugin:
        deliver(plugin, event(2))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert stat.S_IMODE(day.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["", ".", "..", "../acme", "a/b", "a\0b", "-a", ".hidden", "é", "a\n", "x" * 65])
def test_a_name_that_is_not_fit_for_a_path_is_rejected(directory: Path, name: str) -> None:
    """Neither organisation nor hook can lead out of the archive's folder."""
    with running(directory) as plugin:
        with pytest.raises(Reject, match="the organisation's name cannot be a folder"):
            plugin.on_event(event(1, organisation=name))
        with pytest.raises(Reject, match="the hook's name cannot be a folder"):
            plugin.on_event(event(1, hook=name))
        plugin.checkpoint()
    assert files(directory) == {}


def test_an_id_that_could_break_a_line_is_rejected(directory: Path) -> None:
    """Ids are the gateway's own; anything else never reaches a file."""
    with running(directory) as plugin, pytest.raises(Reject, match="the event's id is not made of letters, digits"):
        plugin.on_event(msgspec.structs.replace(event(1), id='x","organisation":"other'))


def test_an_event_that_came_before_and_stands_there_is_not_written_again(directory: Path) -> None:
    """After a crash between writing and the cursor's move, the same event comes once more."""
    with running(directory) as plugin:
        deliver(plugin, event(1), event(2))
    with running(directory) as plugin:
        deliver(plugin, event(1, redelivered=True), event(2, redelivered=True), event(3))
    assert ids(directory) == each_once(event(1), event(2), event(3))


def test_an_event_that_came_before_but_was_not_kept_is_written(directory: Path) -> None:
    """What the crash took is made good by the delivery that follows."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        plugin.on_event(event(2))
    with running(directory) as plugin:
        deliver(plugin, event(1, redelivered=True), event(2, redelivered=True))
    assert ids(directory) == each_once(event(1), event(2))


def test_the_same_event_several_times_in_one_batch_stands_once(directory: Path) -> None:
    """Whether each of them came as new or as a repetition."""
    with running(directory) as plugin:
        again = event(1, redelivered=True)
        deliver(plugin, again, again, event(2), event(2, redelivered=True), event(3, redelivered=True), event(3))
        deliver(plugin, again, event(2, redelivered=True), event(3, redelivered=True))
    assert ids(directory) == each_once(event(1), event(2), event(3))


def test_new_events_queue_behind_those_that_must_be_looked_up(directory: Path) -> None:
    """Within a file the order is that of delivery, looked up or not."""
    with running(directory) as plugin:
        deliver(plugin, event(2))
        deliver(plugin, event(1, redelivered=True), event(3), event(2, redelivered=True), event(4))
    assert [record["body"]["number"] for record in records(directory)] == [2, 1, 3, 4]


@pytest.mark.parametrize("most", [1024, 3])
def test_ids_that_do_not_grow_with_time_are_found_too(
    directory: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The look-up is fast because ids grow, and right when they do not, in a day of any size."""
    monkeypatch.setattr("gateway_archive.seen._MOST", most)
    numbers = [(n * 7919) % 5000 for n in range(5000)]
    with running(directory) as plugin:
        deliver(plugin, *(event(n, received_at=DAY, raw=b'{"pad": "%s"}' % (b"x" * 200)) for n in numbers[::2]))
        for start in range(0, 5000, 1000):
            batch = numbers[start : start + 1000]
            deliver(plugin, *(event(n, received_at=DAY, redelivered=True) for n in batch))
    assert ids(directory) == each_once(*map(event, range(5000)))


def test_a_long_replay_reads_a_day_not_once_per_checkpoint(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a whole day in many batches reads it about twice, not once per batch."""
    pad = b'{"pad": "%s"}' % (b"x" * 900)
    with running(directory) as plugin:
        deliver(plugin, *(event(n, raw=pad) for n in range(4000)))
    size = (directory / "acme/payment/2026-11-22.jsonl").stat().st_size
    read = 0
    pread = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, length, offset)
        read += len(data)
        return data

    with running(directory) as plugin:
        monkeypatch.setattr(os, "pread", counted)
        for start in range(0, 4000, 100):
            deliver(plugin, *(event(n, raw=pad, redelivered=True) for n in range(start, start + 100)))
    assert ids(directory) == each_once(*map(event, range(4000)))
    assert read < 6 * size


@pytest.mark.parametrize("torn", [b"x", b'{"id":"01935498-0000-7000-80', b"\0" * 5000])
def test_a_torn_last_line_is_cut_off(directory: Path, torn: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What a crash or a loss of power left of a line goes when the file is opened next, and that is logged."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
    day = directory / "acme/payment/2026-11-22.jsonl"
    with day.open("ab") as file:
        file.write(torn)
    with running(directory) as plugin:
        deliver(plugin, event(2))
    assert ids(directory) == each_once(event(1), event(2))
    assert caplog.messages == [f"cut a torn last line off the archive file {day} (bytes: {len(torn)})"]


def test_lines_behind_a_hole_are_put_aside(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Zeros within a file are no line; whole lines after them leave the file, but not the disk."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
    day = directory / "acme/payment/2026-11-22.jsonl"
    for _ in range(2):
        with day.open("ab") as file:
            file.write(b'{"id":"a\0\0\n{"id":"b"}\n')
        with running(directory) as plugin:
            deliver(plugin, event(1, redelivered=True))
    assert ids(directory) == each_once(event(1))
    damaged = day.with_name("2026-11-22.jsonl.damaged")
    assert damaged.read_bytes() == b'{"id":"a\0\0\n{"id":"b"}\n' * 2
    assert stat.S_IMODE(damaged.stat().st_mode) == 0o600
    assert f"lines after damage in the archive file {day} were moved to {damaged.name}" in caplog.messages


def test_a_last_line_that_lacks_only_its_end_is_kept(directory: Path) -> None:
    """A whole event is never cut off: it gets its line break, and counts as being there."""
    with running(directory) as plugin:
        deliver(plugin, event(1), event(2))
    day = directory / "acme/payment/2026-11-22.jsonl"
    os.truncate(day, day.stat().st_size - 1)
    with running(directory) as plugin:
        deliver(plugin, event(2, redelivered=True), event(3))
    assert [record["body"]["number"] for record in records(directory)] == [1, 2, 3]


def test_a_file_that_was_moved_away_is_made_again(directory: Path) -> None:
    """An operator who deletes or replaces a file does not make later events vanish with it."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        (directory / "acme/payment/2026-11-22.jsonl").unlink()
        deliver(plugin, event(2))
        (directory / "acme/payment/2026-11-22.jsonl").write_bytes(b"")
        deliver(plugin, event(3))
    assert ids(directory) == each_once(event(3))


def test_a_folder_that_was_deleted_is_made_again(directory: Path) -> None:
    """So is one whose folder went too."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
        shutil.rmtree(directory / "acme")
        deliver(plugin, event(2))
    assert ids(directory) == each_once(event(2))


def test_a_checkpoint_syncs_the_file_and_the_names_that_lead_to_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When `checkpoint` returns, content and directory entries are on the disk; later ones sync content only."""
    synced: list[str] = []

    def recorded(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().relative_to(directory).as_posix())

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell which file a descriptor is")
    with running(directory) as plugin:
        monkeypatch.setattr(os, "fdatasync", recorded)
        monkeypatch.setattr(os, "fsync", recorded)
        plugin.on_event(event(1))
        plugin.checkpoint()
        assert {"acme/payment/2026-11-22.jsonl", "acme/payment", "acme", "."} <= set(synced)
        synced.clear()
        deliver(plugin, event(2))
        assert synced == ["acme/payment/2026-11-22.jsonl"]
        synced.clear()
        deliver(plugin)
        assert synced == []


def test_what_a_dead_process_left_unsynced_is_synced_before_it_counts(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line found in the page cache is not yet one on the disk."""
    with running(directory) as plugin:
        deliver(plugin, event(1))
    synced: list[int] = []
    with running(directory) as plugin:
        monkeypatch.setattr(os, "fdatasync", synced.append)
        deliver(plugin, event(1, redelivered=True))
        assert len(synced) == 1


def test_large_batches_do_not_gather_in_memory(directory: Path) -> None:
    """Long before the checkpoint the lines are written, once the batch has some megabytes."""
    with running(directory) as plugin:
        for number in range(20):
            plugin.on_event(event(number, raw=b'{"pad": "%s"}' % (b"x" * 2**20)))
        written = (directory / "acme/payment/2026-11-22.jsonl").stat().st_size
        assert written >= 14 * 2**20
        plugin.checkpoint()
    assert ids(directory) == each_once(*map(event, range(20)))


def test_many_organisations_hooks_and_days_need_few_open_files(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files a batch touches, the number of open ones is bounded, and all are durable in the end."""
    fdatasync = os.fdatasync
    durable: dict[int, int] = {}

    def recorded(fd: int) -> None:
        fdatasync(fd)
        durable[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fdatasync", recorded)
    batch = [event(n, hook=f"hook-{n % 20}", day=n % 7, organisation=f"org-{n % 5}") for n in range(700)]
    with running(directory) as plugin:
        deliver(plugin, *batch)
        if Path("/proc/self/fd").is_dir():
            links = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
            assert sum(link.startswith(str(directory)) for link in links) < 140
        deliver(plugin, *(event(n + 700, hook=f"hook-{n % 20}", day=n % 7, organisation="org-1") for n in range(700)))
    assert len(files(directory)) > 128
    assert durable == {path.stat().st_ino: path.stat().st_size for path in files(directory).values()}
    assert ids(directory) == each_once(*map(event, range(1400)))


def test_four_threads_at_once_lose_and_double_nothing(directory: Path) -> None:
    """Lanes call the same instance in parallel."""
    with running(directory) as plugin:
        for start in range(0, 4000, 1000):

            def lane(first: int) -> None:
                for number in range(first, first + 250):
                    plugin.on_event(event(number, hook=f"hook-{number % 3}", redelivered=number % 5 == 0))

            lanes = [threading.Thread(target=lane, args=(start + 250 * n,)) for n in range(4)]
            for thread in lanes:
                thread.start()
            for thread in lanes:
                thread.join()
            plugin.checkpoint()
    assert ids(directory) == each_once(*map(event, range(4000)))


def test_two_archives_in_one_folder_are_refused(directory: Path) -> None:
    """The second one says whose it is; once the first has stopped, it may."""
    with running(directory), pytest.raises(ArchiveError) as refused:
        new_archive(directory)
    assert str(refused.value) == (
        f"another archive writes to {directory} (process {os.getpid()}); give each its own directory"
    )
    with running(directory) as plugin:
        deliver(plugin, event(1))


def test_the_lock_does_not_outlive_its_process(directory: Path) -> None:
    """A process that was killed leaves the archive free."""
    script = (
        "import sys, archive_kit, pathlib\n"
        "plugin = archive_kit.new_archive(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ArchiveError, match=rf"\(process {other.pid}\)"):
            new_archive(directory)
        other.kill()
    with running(directory) as plugin:
        deliver(plugin, event(1))


def test_an_archive_whose_folder_cannot_be_made_does_not_start(tmp_path: Path) -> None:
    """The reason is a sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match=f"the archive {tmp_path}/file/archive cannot be opened: Not a directory"):
        new_archive(tmp_path / "file" / "archive")


def test_an_archive_that_has_stopped_takes_no_events_for_granted(directory: Path) -> None:
    """A checkpoint after `shutdown` fails, so that the cursor does not move."""
    plugin = new_archive(directory)
    plugin.shutdown()
    plugin.on_event(event(1))
    with pytest.raises(ArchiveError, match="the archive is not open"):
        plugin.checkpoint()


def check(directory: Path) -> None:
    ArchivePlugin(ArchivePlugin.Config(directory=directory)).check()


def test_check_accepts_a_folder_that_can_be_made_and_makes_nothing(tmp_path: Path) -> None:
    """`gateway check` changes nothing."""
    check(tmp_path / "var" / "archive")
    check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a folder should be, a folder that is not writable, a full disk."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "archive"):
        with pytest.raises(ArchiveError, match=f"^directory: {tmp_path}/file is not a directory$"):
            check(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(ArchiveError, match=f"^directory: {tmp_path} is not writable for this user$"):
            check(tmp_path / "archive")
    room = os.statvfs_result((4096, 4096, 10**6, 9, 9, 10**6, 10**6, 10**6, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: room)
    with pytest.raises(ArchiveError, match=f"^directory: the disk of {tmp_path} has less than 64 MiB free$"):
        check(tmp_path / "archive")


def test_a_plugin_that_was_only_made_has_touched_nothing(tmp_path: Path) -> None:
    """`__init__` has no side effects."""
    ArchivePlugin(ArchivePlugin.Config(directory=tmp_path / "archive", compress=True))
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("gateway.plugins.archive").handlers == []


def test_each_gateway_on_a_shared_journal_has_a_folder(directory: Path) -> None:
    """Named as the gateway, so that folders of several hosts can be brought together."""
    plugin = ArchivePlugin(ArchivePlugin.Config(directory=directory))
    plugin.startup(msgspec.structs.replace(make_context(directory), node="east-1"))
    try:
        deliver(plugin, event(1))
    finally:
        plugin.shutdown()
    assert [path.relative_to(directory).as_posix() for path in directory.rglob("*.jsonl")] == [
        "east-1/acme/payment/2026-11-22.jsonl"
    ]
