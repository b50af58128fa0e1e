"""Proof 3: a sync that fails and a disk that is full give no 2xx for what was not kept, and what was kept stays."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from senders import ORGANISATION, Senders
from verdict import judge
from victim import Victim, alive

from gateway import simulate

MIB = 2**20


class Disk:
    """A small file system of its own, which can be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave not a byte of room."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096, 512, 1):
                try:
                    while filler.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """Give all of that room back."""
        self._filler.unlink()


MakeDisk = Callable[[Path], Disk]


@pytest.fixture
def small_disk() -> Iterator[MakeDisk]:
    """Makes file systems of 32 MiB, where the machine lets us."""
    mounted: list[Path] = []

    def make(folder: Path) -> Disk:
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return Disk(folder)

    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """Makes gateways that are killed at the end, whatever state they are in."""
    made: list[Victim] = []

    def make(text: str = "") -> Victim:
        made.append(Victim(tmp_path / "victim", text))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def post(victim: Victim) -> tuple[int, str | None]:
    """The status of one more event, and its `Retry-After`."""
    request = urllib.request.Request(
        simulate.url_of(victim.config.server),
        data=simulate.encode(simulate.body("inbound-message") | {"communicationActionId": "n-1"}),
        headers={"x-webio-token": simulate.token(victim.config.organisations[ORGANISATION])},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, None
    except urllib.error.HTTPError as error:
        return error.code, error.headers["retry-after"]


def refusing(victim: Victim, senders: Senders) -> float:
    """Wait until events are refused; how many seconds later the gateway says that it is not ready."""
    victim.wait(lambda: senders.answers[503] > 0, "refusing", 20)
    return victim.wait(lambda: victim.ready()[0] == 503, "saying that it is not ready", 5)


def traced(pid: int, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """strace on all threads of a process; returns once it is attached, and skips where that is not allowed."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    words = log.with_suffix(".err")
    with words.open("wb") as stderr:
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", str(log), "-p", str(pid), *options], stderr=stderr)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            pytest.skip(f"processes cannot be traced here: {words.read_text().strip()}")
        status = Path(f"/proc/{pid}/status").read_text()
        if "TracerPid:\t0" not in status:
            return tracer
        time.sleep(0.01)
    raise AssertionError("strace did not attach")


@pytest.mark.parametrize("file", ["journal.db-wal", "journal.db"])
def test_a_failing_sync_ends_the_gateway_and_nothing_acknowledged_is_lost(
    tmp_path: Path, victim: Callable[..., Victim], file: str
) -> None:
    """EIO from the log's sync in the midst of load, or from the database's at a checkpoint: exit 1, and the next
    start has every event that was acknowledged, and goes on."""
    gateway = victim()
    gateway.start()
    [worker] = gateway.workers()
    assert gateway.process is not None
    with Senders(gateway.config, 8, pause=0.005) as senders:
        gateway.wait(lambda: len(senders.acknowledged) > 50, "acknowledging", 10)
        when = "30" if file == "journal.db-wal" else "1"
        tracer = traced(
            worker,
            tmp_path / "strace.log",
            *("-P", str(gateway.config.journal.path.with_name(file))),
            *("-e", "trace=fdatasync,fsync", "-e", f"inject=fdatasync,fsync:error=EIO:when={when}"),
        )
        try:
            code = gateway.process.wait(40)
        finally:
            tracer.terminate()
            tracer.wait()
        assert "(INJECTED)" in (tmp_path / "strace.log").read_text()
        assert not alive(worker)
        gateway.start()
        senders.finish(30)
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert code == 1
    findings = judge(gateway, senders.acknowledged)
    assert findings.faults() == []
    assert senders.unexpected == []
    assert "Traceback" not in gateway.words()
    assert "stopping: " in gateway.words()


def test_a_full_disk_is_answered_503_until_there_is_room(
    tmp_path: Path, small_disk: MakeDisk, victim: Callable[..., Victim]
) -> None:
    """ENOSPC: `Retry-After`, not ready within a second, and by itself back again with everything acknowledged."""
    disk = small_disk(tmp_path / "victim" / "var")
    gateway = victim('[journal]\nmin_free = "0 B"\n')
    gateway.start()
    with Senders(gateway.config, 8, pause=0.002) as senders:
        for _ in range(3):
            gateway.wait_ready()
            before = len(senders.acknowledged)
            gateway.wait(lambda: len(senders.acknowledged) > before + 100, "acknowledging", 10)  # noqa: B023
            senders.answers.clear()
            disk.fill()
            assert refusing(gateway, senders) < 1
            assert post(gateway) == (503, "5")
            assert gateway.ready()[1]["journal"].startswith("the journal cannot be written (")
            disk.empty()
            assert gateway.wait_ready() < 5
        senders.finish(30)
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert judge(gateway, senders.acknowledged).faults() == []
    assert senders.unexpected == []
    assert "Traceback" not in gateway.words()


def test_below_the_low_water_mark_delivery_goes_on(
    tmp_path: Path, small_disk: MakeDisk, victim: Callable[..., Victim]
) -> None:
    """New events are refused while there is still room to deliver the others, to discard and to stop cleanly."""
    disk = small_disk(tmp_path / "victim" / "var")
    gateway = victim('[journal]\nmin_free = "12 MiB"\n')
    gateway.start()
    with Senders(gateway.config, 8, pause=0.002) as senders:
        gateway.wait(lambda: len(senders.acknowledged) > 200, "acknowledging", 10)
        (disk.folder / "filler").write_bytes(b"\0" * 20 * MIB)
        assert refusing(gateway, senders) < 1
        assert post(gateway) == (503, "5")
        sentence = gateway.ready()[1]["journal"]
        assert re.fullmatch(r"the journal has \d+ MiB free, \d+ MiB less than journal.min_free", sentence)
        gateway.wait(
            lambda: not any(plugin["behind"] for plugin in gateway.ready()[1]["plugins"]), "delivered while full", 10
        )
        code, _ = gateway.terminate()
        assert code == 0
        disk.empty()
        gateway.start()
        senders.finish(30)
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert judge(gateway, senders.acknowledged).faults() == []
    assert "Traceback" not in gateway.words()


def test_a_gateway_on_a_full_disk_can_be_stopped_and_says_why_it_does_not_start(
    tmp_path: Path, small_disk: MakeDisk, victim: Callable[..., Victim]
) -> None:
    """SIGTERM works without room; a start without room ends with a sentence; with room all is as it was."""
    disk = small_disk(tmp_path / "victim" / "var")
    gateway = victim('[journal]\nmin_free = "0 B"\n')
    gateway.start()
    with Senders(gateway.config, 8, pause=0.002) as senders:
        gateway.wait(lambda: len(senders.acknowledged) > 200, "acknowledging", 10)
        disk.fill()
        refusing(gateway, senders)
        code, seconds = gateway.terminate()
        assert (code, seconds < 10) == (0, True)
        disk.empty()
        disk.fill()
        gateway.spawn()
        assert gateway.process is not None
        failed = gateway.process.wait(20)
        disk.empty()
        gateway.start()
        senders.finish(30)
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert failed == 1
    assert gateway.words().count("gateway: the journal ") == 1
    assert judge(gateway, senders.acknowledged).faults() == []
    assert "Traceback" not in gateway.words()


def test_a_full_disk_of_the_archive_delays_nothing_else(
    tmp_path: Path, small_disk: MakeDisk, victim: Callable[..., Victim]
) -> None:
    """Events are acknowledged all the while; the archive is named as the one in trouble, and has each of them once
    when there is room again (though what came while its checkpoint failed may stand before what comes again)."""
    disk = small_disk(tmp_path / "victim" / "archive")
    gateway = victim('[delivery]\nbackoff = "50ms"\nbackoff_max = "200ms"\n')
    gateway.start()
    with Senders(gateway.config, 8, pause=0.005) as senders:
        gateway.wait(lambda: len(senders.acknowledged) > 200, "acknowledging", 10)
        disk.fill()

        def in_trouble() -> bool:
            status, details = gateway.ready()
            return status == 200 and not details["plugins"][0]["healthy"]

        gateway.wait(in_trouble, "naming the archive", 20)
        before = len(senders.acknowledged)
        gateway.wait(lambda: len(senders.acknowledged) > before + 200, "acknowledging all the while", 10)
        assert senders.answers[503] == 0
        disk.empty()
        senders.finish(30)
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert judge(gateway, senders.acknowledged, ordered=False).faults() == []
    assert "Traceback" not in gateway.words()
