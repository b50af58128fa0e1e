"""Proof 2: after a loss of power at any moment, all that was acknowledged is there, and the journal is sound."""

from __future__ import annotations

import os
import random
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from power_loss import Verdict, lose_power
from recorded_disk import Images, RecordedDisk

from gateway.journal.sqlite.connection import open_writer
from gateway.journal.sqlite.layout import LAYOUT

SEED = os.environ.get("TORTURE_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"


@pytest.mark.parametrize("number", range(3))
def test_nothing_acknowledged_is_lost_with_the_power(tmp_path: Path, number: int) -> None:
    """A hundred crash images of a journal at work: none has lost an event, a cursor or a dead letter; all are sound."""
    verdict = Verdict()
    lose_power(tmp_path / "power", f"{SEED}-{number}", verdict, 100)
    print(verdict)
    assert (verdict.images, verdict.lossy, verdict.corrupt) == (100, 0, 0), verdict.examples[:5]


def test_without_a_sync_per_commit_events_are_lost(tmp_path: Path) -> None:
    """The negative control: with `synchronous=NORMAL` the same images show the loss, so they would show it."""
    verdict = Verdict()
    lose_power(tmp_path / "power", f"{SEED}-normal", verdict, 100, normal=True)
    print(verdict)
    assert verdict.images == 100
    assert verdict.lossy > 20
    assert verdict.corrupt == 0, verdict.examples[:5]


def test_an_upgrade_that_loses_power_leaves_a_sound_journal_of_one_layout_or_the_other(tmp_path: Path) -> None:
    """At whatever moment, the next start finds everything and finishes the upgrade."""
    disk, path = RecordedDisk(f"recorded-upgrade-{os.getpid()}"), tmp_path / "journal.db"
    with closing(apsw.Connection(str(path), vfs=disk.name)) as first:
        first.pragma("journal_mode", "wal")
        first.execute((Path(__file__).parents[1] / "journal" / "layout_1.sql").read_text())
    begins = len(disk.record)
    open_writer(path, disk.name, copy=False).close()
    chance, images = random.Random(SEED), Images(list(disk.record))
    layouts = set()
    ends = begins, len(disk.record)
    for moment in sorted((*ends, *(chance.randint(*ends) for _ in range(60)))):
        folder = tmp_path / str(moment)
        folder.mkdir(exist_ok=True)
        for name, data in images.at(moment, chance).items():
            (folder / name).write_bytes(data)
        with closing(apsw.Connection(str(folder / "journal.db"))) as found:
            layouts.add(found.pragma("user_version"))
            assert found.pragma("integrity_check") == "ok"
        with closing(open_writer(folder / "journal.db", copy=False)) as upgraded:
            counts = [
                next(upgraded.execute(f"SELECT count(*) FROM {table}")) for table in ("events", "parked", "cursors")
            ]
            assert counts == [(10,), (5,), (3,)]
            assert list(upgraded.execute("SELECT count(*) FROM parked WHERE state = 'held'")) == [(0,)]
        for file in folder.iterdir():
            file.unlink()
    assert {1, LAYOUT} <= layouts <= set(range(1, LAYOUT + 1))
