"""`gateway init`: what is needed to run, and never anything overwritten."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.cli.init import example
from gateway.config.load import load_config

EXAMPLE = Path(__file__).parents[2] / "config.toml"


FILES = ("config.toml", "var/webio.secret", "var/admin.password", "var/customers.db")


def init(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["init", *map(str, arguments)])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_writes_four_files_and_says_what_comes_next(tmp_path: Path) -> None:
    """A config, a secret, a password and a database, each named in a line."""
    folder = tmp_path / "new" / "folder"
    result = init(folder)

    assert result.exit_code == 0
    made = [f"made  {folder / name}" for name in FILES]
    assert made == result.output.splitlines()[:4]
    assert f"Next: gateway check -c {folder / 'config.toml'}" in result.output


def test_json_lists_the_files(tmp_path: Path) -> None:
    """One document: each file, and whether it is new."""
    first, second = (json.loads(init(tmp_path, "--json").output)["files"] for _ in range(2))

    paths = [str(tmp_path / name) for name in FILES]
    assert first == [{"path": path, "new": True} for path in paths]
    assert second == [{"path": path, "new": False} for path in paths]


def test_what_comes_next_can_be_pasted(tmp_path: Path) -> None:
    """Into a shell, whatever the folder is called."""
    folder = tmp_path / "a b"

    assert f"Next: gateway check -c '{folder / 'config.toml'}'   then: " in init(folder).output


def test_init_writes_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, and then the next commands need no option."""
    monkeypatch.chdir(tmp_path)

    result = init()

    assert (tmp_path / "config.toml").exists()
    assert "Next: gateway check   then: gateway run\n" in result.output


def test_init_writes_beside_the_config_that_is_named(tmp_path: Path) -> None:
    """`-c` names the file itself."""
    init("-c", tmp_path / "mine.toml")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml", "var"]


def test_the_config_is_the_repositorys_example(tmp_path: Path) -> None:
    """Byte for byte: one source."""
    init(tmp_path)

    assert EXAMPLE.read_bytes() == (tmp_path / "config.toml").read_bytes() == example()


def test_the_config_loads(tmp_path: Path) -> None:
    """As it is, with the secret that was made for it."""
    init(tmp_path)

    config = load_config(tmp_path / "config.toml")

    assert list(config.organisations) == ["acme"]
    assert [plugin.name for plugin in config.plugins] == ["logging", "archive", "sql_values"]


def test_the_secret_is_48_random_bytes_that_only_its_owner_can_read(tmp_path: Path) -> None:
    """As text that can be pasted, in a file of mode 0600 in a folder of mode 0700; another one each time."""
    init(tmp_path / "one")
    init(tmp_path / "two")
    one, two = (tmp_path / name / "var" / "webio.secret" for name in ("one", "two"))

    text = one.read_text()
    assert len(base64.urlsafe_b64decode(text)) == 48
    assert text != two.read_text()
    assert (mode(one), mode(one.parent)) == (0o600, 0o700)


def test_the_admin_password_is_24_random_bytes_in_a_file_that_the_config_names(tmp_path: Path) -> None:
    """Mode 0600; another one each time, and no warning about it."""
    for name in ("one", "two"):
        init(tmp_path / name)
    one, two = (load_config(tmp_path / name / "config.toml").admin.password for name in ("one", "two"))
    assert one is not None and two is not None
    assert len(base64.urlsafe_b64decode(one.value)) == 24
    assert one != two
    assert mode(tmp_path / "one" / "var" / "admin.password") == 0o600


def test_a_config_that_only_mentions_a_file_in_a_comment_gets_none(tmp_path: Path) -> None:
    """As the example did before it had a password."""
    (tmp_path / "config.toml").write_text('[admin]\n#password = { file = "var/admin.password" }\n')
    init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_the_sample_database_has_the_founding_example(tmp_path: Path) -> None:
    """Customer 123456 at 44777777777, with a balance and an ID."""
    init(tmp_path)

    with sqlite3.connect(tmp_path / "var" / "customers.db") as connection:
        row = connection.execute(
            "SELECT phone, balance, id_number FROM customers WHERE customer_uid = '123456'"
        ).fetchone()
    connection.close()

    assert row == ("44777777777", "120.50", "ID-4711")
    assert mode(tmp_path / "var" / "customers.db") == 0o600


def test_two_sample_customers_share_a_phone_number(tmp_path: Path) -> None:
    """So that the answer to an ambiguous request can be tried."""
    init(tmp_path)

    with sqlite3.connect(tmp_path / "var" / "customers.db") as connection:
        shared = connection.execute(
            "SELECT phone, count(*) FROM customers GROUP BY phone HAVING count(*) > 1"
        ).fetchall()
    connection.close()

    assert shared == [("447700900200", 2)]


def test_init_again_changes_nothing(tmp_path: Path) -> None:
    """It says what was there, and exits 0, so that `make run` may always call it."""
    init(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    result = init(tmp_path)

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[:4]] == ["kept"] * 4
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_init_makes_only_what_is_missing(tmp_path: Path) -> None:
    """A secret that was deleted is made anew; the database beside it stays."""
    init(tmp_path)
    (tmp_path / "var" / "webio.secret").unlink()

    result = init(tmp_path)

    assert [line.split()[0] for line in result.output.splitlines()[:4]] == ["kept", "made", "kept", "kept"]


def test_a_config_that_names_other_files_gets_none(tmp_path: Path) -> None:
    """A secret and a database in other places are not made again beside the config."""
    (tmp_path / "config.toml").write_text('[organisations.acme]\nsecrets = [{ env = "WEBIO" }]\n')

    result = init(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    assert result.output.startswith("kept  ")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """Exit 1, naming what was in the way."""
    (tmp_path / "file").write_text("")

    result = init(tmp_path / "file" / "folder")

    assert result.exit_code == 1
    assert "Not a directory; nothing more was written\n" in result.output
