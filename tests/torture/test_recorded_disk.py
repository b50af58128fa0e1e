"""The recorded disk of the power-loss proof does what it says: a proof is worth what its instrument is."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
from recorded_disk import DELETE, OPEN, SECTOR, SYNC, TRUNCATE, WRITE, Images, Operation, RecordedDisk

OLD, NEW = b"o" * 4 * SECTOR, b"n" * 4 * SECTOR


def images(*record: Operation, count: int = 300) -> list[dict[str, bytes]]:
    """So many ends of a record."""
    return [Images(record).at(len(record), random.Random(seed)) for seed in range(count)]


def synced(data: bytes = OLD) -> list[Operation]:
    return [Operation(OPEN, "f"), Operation(WRITE, "f", 0, data), Operation(SYNC, "f", covers=2)]


def test_what_was_synced_is_always_there() -> None:
    """Whatever else was going on, also in other files."""
    assert images(*synced(), Operation(WRITE, "other", 0, NEW)) != [{"f": OLD}] * 300
    assert {image["f"] for image in images(*synced(), Operation(WRITE, "other", 0, NEW))} == {OLD}


def test_what_was_not_synced_is_there_or_not_sector_by_sector() -> None:
    """All of it, nothing of it, a part at the end without the one at the start, and torn sectors."""
    found = {image["f"] for image in images(*synced(), Operation(WRITE, "f", 0, NEW))}
    assert {OLD, NEW} <= found
    assert any(image.startswith(OLD[:SECTOR]) and image.endswith(NEW[:SECTOR]) for image in found)
    assert any(0 < image[:SECTOR].count(b"n"[0]) < SECTOR for image in found)


def test_a_write_that_began_during_a_sync_is_not_covered_by_it() -> None:
    """Only what was there when the sync began is on the disk when it ends."""
    record = [*synced(), Operation(WRITE, "f", 0, NEW), Operation(SYNC, "f", covers=3)]
    assert OLD in {image["f"] for image in images(*record)}


def test_a_file_may_be_longer_or_shorter_until_it_is_synced() -> None:
    """Truncated or not, grown or not."""
    lengths = {len(image["f"]) for image in images(*synced(), Operation(TRUNCATE, "f", SECTOR))}
    assert lengths == {SECTOR, 4 * SECTOR}
    lengths = {len(image["f"]) for image in images(*synced(), Operation(WRITE, "f", 4 * SECTOR, NEW))}
    assert {4 * SECTOR, 8 * SECTOR} <= lengths


def test_a_deleted_file_may_be_back_until_its_folder_is_synced() -> None:
    """By the deletion itself, or by the first sync of another file's new name."""
    assert {"f" in image for image in images(*synced(), Operation(DELETE, "f"))} == {True, False}
    assert {"f" in image for image in images(*synced(), Operation(DELETE, "f", covers=4, folder=True))} == {False}
    later = [Operation(DELETE, "f"), Operation(OPEN, "g"), Operation(SYNC, "g", covers=5, folder=True)]
    assert {"f" in image for image in images(*synced(), *later)} == {False}


def test_sqlite_on_a_recorded_disk_leaves_the_files_that_the_record_tells(tmp_path: Path) -> None:
    """Every write of a database in WAL mode goes through it: replayed in full, the record gives the same bytes."""
    disk = RecordedDisk("recorded-check")
    connection = apsw.Connection(str(tmp_path / "some.db"), vfs=disk.name)
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE t (x)")
    for number in range(200):
        connection.execute("INSERT INTO t VALUES (?)", (str(number) * 100,))
    everything = Operation(SYNC, "some.db", covers=10**9), Operation(SYNC, "some.db-wal", covers=10**9)
    [image] = images(*disk.record, *everything, count=1)
    for name in ("some.db", "some.db-wal"):
        assert image[name] == (tmp_path / name).read_bytes()
    connection.close()
