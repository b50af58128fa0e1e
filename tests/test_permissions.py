"""What other users of the machine could read, write, or lead the gateway to."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cli_process import run_cli
from click.testing import CliRunner
from running import running, write_config

from gateway.cli import cli


def warnings_of(config: Path) -> dict[str, str]:
    result = CliRunner().invoke(cli, ["check", "--json", "-c", str(config)])
    return {problem["path"]: problem["message"] for problem in json.loads(result.output)["warnings"]}


def test_what_the_gateway_makes_is_for_its_user_only(tmp_path: Path) -> None:
    """The journal with all that is beside it, the archive and the log of events have the mode 0600, folders 0700,
    and `check` has nothing to say."""
    text = '[plugins.archive]\ndirectory = "archive"\n[plugins.logging]\noutput = "log/events.log"\n'
    with running(tmp_path, '[journal]\npath = "data/journal.db"\n' + text) as gateway, gateway.client() as client:
        assert client.post(b'{"type":"payment"}').status == 200
        beside = sorted((tmp_path / "data").iterdir())
        assert {path.name for path in beside} >= {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in beside} == {0o600}
        assert not {"config", "journal.path"} & warnings_of(gateway.config_path).keys()
        assert stat.S_IMODE((tmp_path / "log" / "events.log").stat().st_mode) == 0o600
    places = [*(tmp_path / "archive").rglob("*"), tmp_path / "data", tmp_path / "log"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in places if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in places if path.is_file()} == {0o600}


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db.damaged"])
def test_a_journal_that_others_may_read_is_a_warning(tmp_path: Path, name: str) -> None:
    """So is its log, and a copy beside it."""
    config = write_config(tmp_path, '[journal]\npath = "journal.db"\n')
    (tmp_path / name).touch(0o640)
    (tmp_path / name).chmod(0o640)
    wanted = f"{tmp_path / name} can be read by others (mode 0640); `chmod 600` it"
    assert warnings_of(config)["journal.path"] == wanted


def test_a_folder_that_others_may_write_is_a_warning(tmp_path: Path) -> None:
    """In `check`, and in the log of a start: the folder of the config, of the journal, and of a secret."""
    (tmp_path / "data").mkdir()
    with running(tmp_path, '[journal]\npath = "data/journal.db"\n') as gateway:
        assert not {"config", "journal.path"} & warnings_of(gateway.config_path).keys()
        (tmp_path / "data").chmod(0o777)
        tmp_path.chmod(0o720)
        found = warnings_of(gateway.config_path)
        assert found["journal.path"] == (
            f"others may put files into the folder {tmp_path / 'data'}, or replace those in it (mode 0777);"
            " `chmod go-w` it"
        )
        assert "(mode 0720)" in found["config"]
        assert gateway.stop() == 0
        gateway.start()
        gateway.wait_for_line(f"config: journal.path: others may put files into the folder {tmp_path / 'data'}")


@pytest.mark.parametrize("name", ["journal.db", "journal.db.lock", "journal.db-wal"])
def test_a_journal_behind_a_link_is_refused(tmp_path: Path, name: str) -> None:
    """A link at the journal, its lock or its log ends the start; what it leads to is left as it is."""
    config = write_config(tmp_path, '[journal]\npath = "journal.db"\n')
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / name).symlink_to(tmp_path / "victim")

    run = run_cli(["run", "-c", config], directory=tmp_path)

    assert run.returncode == 1
    assert "it is a symbolic link, which may lead to any file" in run.stderr
    assert str(tmp_path / name) in run.stderr
    assert (tmp_path / "victim").read_bytes() == b""


def test_an_archive_and_a_log_behind_a_link_are_refused(tmp_path: Path) -> None:
    """The plugin of each fails with a sentence; what the link leads to is left as it is."""
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / "events.log").symlink_to(tmp_path / "victim")
    (tmp_path / "archive").mkdir(0o700)
    (tmp_path / "archive" / ".lock").symlink_to(tmp_path / "victim")
    text = '[plugins.archive]\ndirectory = "archive"\n[plugins.logging]\noutput = "events.log"\n'
    with running(tmp_path, text) as gateway:
        gateway.wait_for_line("events.log cannot be opened: is a symbolic link, which may lead to any file; remove it")
        assert (tmp_path / "victim").read_bytes() == b""
