"""`gateway backup`, `gateway restore` and `gateway check --backup`."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from cli_process import run_cli
from journal_kit import fill, opened
from running import RunningGateway, running

from gateway.config.load import load_config

FIRST_LAYOUT = Path(__file__).parents[1] / "journal" / "layout_1.sql"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path / "site") as started:
        yield started


def send(gateway: RunningGateway, *numbers: int) -> list[str]:
    with gateway.client() as client:
        answers = [client.post(b'{"type":"payment","n":%d}' % number) for number in numbers]
    assert {answer.status for answer in answers} == {200}
    return [str(answer.document["id"]) for answer in answers]


def ids(gateway: RunningGateway) -> list[str]:
    return [json.loads(line)["id"] for line in gateway.cli("events", "--json").stdout.splitlines()]


def printed(gateway: RunningGateway, *arguments: str | Path) -> dict[str, Any]:
    result = gateway.cli(*map(str, arguments), "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def refused(gateway: RunningGateway, *arguments: str | Path) -> str:
    result = gateway.cli(*map(str, arguments))
    assert (result.returncode, result.stdout) == (1, "")
    return result.stderr.strip()


def test_back_up_and_restore(gateway: RunningGateway, tmp_path: Path) -> None:
    """The journal is as it was at the backup; what came later is in the journal that was put aside."""
    file = tmp_path / "backup.db"
    first = send(gateway, 1, 2, 3)
    made = printed(gateway, "backup", file)
    assert made == {"events": 3, "bytes": file.stat().st_size, "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob("backup.db*")) == [file]
    assert printed(gateway, "check", "--backup", file)["ok"]
    later = send(gateway, 4)
    assert ids(gateway) == [*first, *later]
    gateway.stop()

    restored = printed(gateway, "restore", file)
    aside = Path(restored["replaced"])
    assert restored == {**made, "file": str(gateway.config.journal.path), "replaced": str(aside)}
    assert ids(gateway) == first
    with apsw.Connection(str(aside)) as before:
        assert [row[0] for row in before.execute("SELECT id FROM events ORDER BY seq")] == [*first, *later]

    gateway.start()
    newest = send(gateway, 5)
    assert ids(gateway) == [*first, *newest]
    assert printed(gateway, "journal", "check")["ok"]


def test_a_backup_while_events_arrive(gateway: RunningGateway, tmp_path: Path) -> None:
    """It has every event that was answered before the command began, and nothing twice."""
    done, sent = threading.Event(), send(gateway, *range(50))

    def load() -> None:
        number = 1000
        while not done.is_set():
            send(gateway, *range(number, number + 10))
            number += 10

    sender = threading.Thread(target=load)
    sender.start()
    try:
        made = printed(gateway, "backup", tmp_path / "backup.db")
    finally:
        done.set()
        sender.join()
    gateway.stop()
    printed(gateway, "restore", tmp_path / "backup.db")
    kept = ids(gateway)
    assert len(kept) == len(set(kept)) == made["events"]
    assert kept[: len(sent)] == sent


def test_a_backup_replaces_no_file(gateway: RunningGateway, tmp_path: Path) -> None:
    """Nor follows a link to one."""
    there = tmp_path / "there"
    there.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for file in (there, link):
        assert refused(gateway, "backup", file) == (f"{file} exists; name another file, or move that one away")
    assert there.read_text() == "precious"


def test_a_backup_into_a_folder_that_is_not_there(gateway: RunningGateway, tmp_path: Path) -> None:
    """The sentence has both paths and the reason."""
    file = tmp_path / "nowhere" / "backup.db"
    assert refused(gateway, "backup", file).endswith(f"cannot be copied to {file}: No such file or directory")


def test_restoring_needs_the_gateway_stopped(gateway: RunningGateway, tmp_path: Path) -> None:
    send(gateway, 1)
    printed(gateway, "backup", tmp_path / "backup.db")
    assert "is in use by the gateway with process id" in refused(gateway, "restore", tmp_path / "backup.db")


@pytest.mark.parametrize("fault", ["missing", "text", "another database", "truncated", "flipped", "with a log"])
def test_what_is_not_a_sound_backup_is_not_restored(gateway: RunningGateway, tmp_path: Path, fault: str) -> None:
    """`check --backup` says so, too; the journal stays as it is."""
    file = tmp_path / "backup.db"
    kept = send(gateway, *range(20))
    printed(gateway, "backup", file)
    gateway.stop()
    data = bytearray(file.read_bytes())
    match fault:
        case "missing":
            file.unlink()
        case "text":
            file.write_text("not a database at all, but long enough to have a header" * 20)
        case "another database":
            file.unlink()
            apsw.Connection(str(file)).execute("CREATE TABLE other (x)")
        case "truncated":
            file.write_bytes(data[: len(data) // 2])
        case "flipped":
            place = data.index(b'{"type":"payment","n":7}')
            data[place + 22] ^= 1
            file.write_bytes(data)
        case _:
            file.with_name("backup.db-wal").write_bytes(b"\0" * 100)

    sentence = refused(gateway, "restore", file)
    assert str(file) in sentence
    checked = json.loads(gateway.cli("check", "--backup", str(file), "--json").stdout)
    assert [error["path"] for error in checked["errors"]] == ["backup"]
    assert checked["errors"][0]["message"] in sentence
    assert ids(gateway) == kept


def test_restoring_where_there_is_no_journal(gateway: RunningGateway, tmp_path: Path) -> None:
    """On a new machine: the folder is made, and nothing is put aside."""
    kept = send(gateway, 1, 2)
    printed(gateway, "backup", tmp_path / "backup.db")
    gateway.stop()
    for file in gateway.config.journal.path.parent.iterdir():
        file.unlink()
    gateway.config.journal.path.parent.rmdir()
    assert printed(gateway, "restore", tmp_path / "backup.db")["replaced"] is None
    assert ids(gateway) == kept


def test_a_backup_of_an_older_layout(gateway: RunningGateway, tmp_path: Path) -> None:
    """It is restored as it is, and the next start brings it up to date."""
    file = tmp_path / "old.db"
    apsw.Connection(str(file)).execute(FIRST_LAYOUT.read_text())
    gateway.stop()
    assert printed(gateway, "restore", file)["events"] == 10
    gateway.start()
    assert printed(gateway, "journal", "check")["ok"]


def test_the_journal_is_not_a_backup_of_itself(gateway: RunningGateway) -> None:
    send(gateway, 1)
    gateway.stop()
    path = gateway.config.journal.path
    assert refused(gateway, "restore", path) == f"{path}: is the journal itself"
    assert len(ids(gateway)) == 1


async def test_a_damaged_journal_is_not_backed_up(tmp_path: Path) -> None:
    """The command says where the damage is, and leaves no file."""
    with running(tmp_path / "site") as gateway:
        config_path = gateway.config_path
    config = load_config(config_path)
    async with opened(config) as journal:
        await fill(journal, 3)
    with apsw.Connection(str(config.journal.path)) as connection:
        connection.execute("UPDATE events SET raw = x'7b7d' WHERE seq = 2")
    result = run_cli(["backup", str(tmp_path / "backup.db"), "-c", config_path])
    assert result.returncode == 1
    assert "is damaged (the event at position 2)" in result.stderr
    assert not list(tmp_path.glob("backup.db*"))
