"""A database is opened only with its own write-ahead log, and only where nothing in the log is lost by damage."""

from __future__ import annotations

import shutil
import struct
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from journal_kit import config_of, fill, ids_in, opened

from gateway.cli import cli
from gateway.config.tables import Config
from gateway.journal import check_journal, open_reader
from gateway.journal.interface import JournalError
from gateway.journal.sqlite.connection import open_writer
from gateway.journal.sqlite.journal import SqliteJournal

FRAME = 24 + 4096


def files(config: Config) -> tuple[Path, Path]:
    path = config.journal.path
    return path, path.with_name("journal.db-wal")


@pytest.fixture
async def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """What a gateway leaves that is killed after ten commits that were not moved into the database. `stopped.db` is a
    copy of the database made while the gateway was stopped, `backup.db` one made by SQLite while it ran."""
    monkeypatch.setattr("gateway.journal.sqlite.writer.HOUSEKEEPING", 60)
    config = config_of(tmp_path)
    path, log = files(config)
    async with opened(config) as journal:
        await fill(journal, 5)
    shutil.copyfile(path, tmp_path / "stopped.db")
    async with opened(config) as journal:
        await fill(journal, 1)
        with closing(apsw.Connection(str(path))) as source:
            source.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
            with (
                closing(apsw.Connection(str(tmp_path / "online.db"))) as target,
                target.backup("main", source, "main") as to,
            ):
                to.step()
        for _ in range(9):
            await fill(journal, 1)
        for file in (path, log):
            shutil.copyfile(file, tmp_path / file.name)
    for file in (path, log):
        shutil.move(tmp_path / file.name, file)
    return config


def refused(config: Config) -> str:
    """The sentence with which a writer, a reader and the check refuse; nothing changes."""
    path, log = files(config)
    before = path.read_bytes(), log.read_bytes()
    sentences = set()
    for attempt in (lambda: open_writer(path), lambda: open_reader(config), lambda: check_journal(config)):
        with pytest.raises(JournalError) as error:
            attempt()
        sentences.add(str(error.value))
    assert (path.read_bytes(), log.read_bytes()) == before
    [sentence] = sentences
    return sentence


@pytest.mark.parametrize("backup", ["stopped.db", "backup.db", "online.db"])
async def test_a_backup_beside_the_log_of_what_it_replaced_is_refused(
    killed: Config, tmp_path: Path, backup: str
) -> None:
    """However it was made; with what to do, and it starts once that is done."""
    path, log = files(killed)
    shutil.copyfile(tmp_path / backup, path)
    sentence = refused(killed)
    assert sentence.startswith(f"journal.db-wal does not belong to {path}: its ")
    assert "move journal.db-wal to another folder and start again" in sentence
    log.unlink()
    async with opened(killed) as journal:
        assert len(await journal.read(0, 100)) == (5 if backup == "stopped.db" else 6)


async def test_a_log_without_its_database_is_refused(killed: Config) -> None:
    """SQLite would make a new database, and delete the log with all that is in it."""
    path, log = files(killed)
    path.write_bytes(b"")
    assert "is missing or empty, but journal.db-wal beside it holds" in refused(killed)
    path.unlink()
    with pytest.raises(JournalError, match="is missing or empty"):
        await SqliteJournal(killed).start()
    assert log.stat().st_size > 10 * FRAME


async def test_the_log_of_another_journal_is_refused(killed: Config, tmp_path: Path) -> None:
    """Although both are of one version and begin alike."""
    (tmp_path / "other").mkdir()
    other = config_of(tmp_path / "other")
    async with opened(other):
        pass
    shutil.copyfile(files(other)[0], files(killed)[0])
    assert "does not belong to" in refused(killed)


async def test_a_killed_journal_and_its_copies_open(killed: Config, tmp_path: Path) -> None:
    """Also where a part of the log, or all of it, has been moved into the database, or the database was torn by that;
    and again after each kill."""
    path, log = files(killed)
    parts = path.read_bytes(), log.read_bytes()
    assert len(ids_in(killed)) == 15
    with closing(apsw.Connection(str(path))) as moving:
        moving.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        moving.execute("SELECT 1 FROM events")
        moving.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    moved = path.read_bytes()
    assert moved != parts[0]
    for torn in (20, 26, 50, 70, 94, 100, 4096):
        for database in (parts[0][:torn] + moved[torn:], moved[:torn] + parts[0][torn:]):
            path.write_bytes(database)
            log.write_bytes(parts[1])
            path.with_name("journal.db-shm").unlink(missing_ok=True)
            async with opened(killed) as journal:
                assert len(await journal.read(0, 100)) == 15


def cut(data: bytes, frame: int) -> bytes:
    return data[: 32 + (frame - 1) * FRAME + 500]


def flip(data: bytes, frame: int, place: int = 1000) -> bytes:
    made = bytearray(data)
    made[32 + (frame - 1) * FRAME + place] ^= 4
    return bytes(made)


async def test_a_torn_end_of_the_log_passes(killed: Config) -> None:
    """Cut short anywhere, or with the last commit in pieces: a loss of power does that to what was not acknowledged."""
    path, log = files(killed)
    database, data = path.read_bytes(), log.read_bytes()
    ends = commits(data)
    for torn in (
        *(cut(data, frame) for frame in range(1, ends[-1] + 1)),
        *(flip(data, frame) for frame in range(ends[-2] + 1, ends[-1] + 1)),
    ):
        path.write_bytes(database)
        log.write_bytes(torn)
        path.with_name("journal.db-shm").unlink(missing_ok=True)
        async with opened(killed) as journal:
            assert 5 <= len(await journal.read(0, 100)) <= 15


def commits(data: bytes) -> list[int]:
    """The numbers of the frames that end commits, of the log's current round."""
    found = []
    for number in range(1, (len(data) - 32) // FRAME + 1):
        _, pages, *salts = struct.unpack_from(">4I", data, 32 + (number - 1) * FRAME)
        if struct.pack(">2I", *salts) != data[16:24]:
            break
        if pages:
            found.append(number)
    return found


@pytest.mark.parametrize("place", [0, 5, 10, 17, 1000])
async def test_damage_before_the_end_of_the_log_is_refused(killed: Config, place: int) -> None:
    """Wherever in a frame: SQLite would drop all commits from there on without a word. `gateway journal check` names
    it, and its repair goes on without them, after a copy."""
    path, log = files(killed)
    data = log.read_bytes()
    frame = commits(data)[4]
    log.write_bytes(flip(data, frame, place))
    assert refused(killed).startswith(f"the journal {path} is damaged: frame {frame} of journal.db-wal is not what was")
    arguments = ["journal", "check", "-c", str(killed.source)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 1
    assert f"frame {frame} of journal.db-wal" in shown.output
    repaired = CliRunner().invoke(cli, [*arguments, "--repair"])
    assert repaired.exit_code == 0, repaired.output
    assert path.with_name("journal.db.damaged-wal").read_bytes() == flip(data, frame, place)
    async with opened(killed) as journal:
        assert 5 <= len(await journal.read(0, 100)) < 15


async def test_a_damaged_header_of_the_log_is_refused(killed: Config) -> None:
    """SQLite would ignore the whole log. Where the database has all of it, nothing is lost."""
    path, log = files(killed)
    database, data = path.read_bytes(), log.read_bytes()
    for place in (0, 10, 17, 30):
        made = bytearray(data)
        made[place] ^= 1
        log.write_bytes(made)
        assert "is damaged: the header of journal.db-wal is not what was written" in refused(killed)
    path.write_bytes(database)
    log.write_bytes(data)
    with closing(apsw.Connection(str(path))) as moving:
        moving.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        moving.execute("SELECT 1 FROM events")
        moving.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    path.with_name("journal.db-shm").unlink(missing_ok=True)
    log.write_bytes(made)
    assert len(ids_in(killed)) == 15


async def test_a_header_without_a_page_size_is_read_as_usual(killed: Config) -> None:
    """Where the headers of both files are damaged, the log is still found to hold what would be lost."""
    path, log = files(killed)
    for file, place in ((path, 17), (log, 0)):
        made = bytearray(file.read_bytes())
        made[place] ^= 1
        file.write_bytes(made)
    assert "is damaged: the header of journal.db-wal is not what was written" in refused(killed)
