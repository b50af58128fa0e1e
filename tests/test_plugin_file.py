"""A plugin in one file beside the config: `file = "ledger.py"`."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cli_process import run_cli
from click.testing import CliRunner
from running import eventually, running, write_config

from gateway.cli import cli

LEDGER = """
from __future__ import annotations

import msgspec
from gateway import Context, Duration, Event, Payment, hookimpl

class Ledger:
    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        account: str
        wait: Duration = Duration(5)

    def __init__(self, config: Config) -> None:
        self.config = config

    @hookimpl
    async def on_payment(self, event: Event, payload: Payment) -> None:
        print("ledger", self.config.account, self.config.wait, payload.extra["amount"], flush=True)
"""
TABLE = '[plugins.ledger]\nfile = "ledger.py"\n'


def write(folder: Path, source: str, name: str = "ledger.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source))
    path.chmod(0o644)
    return path


def check(config: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The errors and the warnings of `gateway check`."""
    result = CliRunner().invoke(cli, ["check", "--offline", "--json", "-c", str(config)])
    assert "Traceback" not in result.output
    document = json.loads(result.stdout)
    errors, warnings = ([(one["path"], one["message"]) for one in document[key]] for key in ("errors", "warnings"))
    assert result.exit_code == (78 if errors else 0)
    return errors, warnings


def faults(folder: Path, source: str, table: str = TABLE) -> list[tuple[str, str]]:
    write(folder, source)
    return check(write_config(folder, table))[0]


def row(config: Path, name: str) -> dict[str, Any]:
    output = CliRunner().invoke(cli, ["plugins", "--json", "-c", str(config)]).stdout
    [found] = [one for one in map(json.loads, output.splitlines()) if one["name"] == name]
    return dict(found)


def test_a_file_takes_events_like_an_installed_plugin(tmp_path: Path) -> None:
    """Its settings are typed, it is listed with its file, and `check` has nothing to say."""
    write(tmp_path, LEDGER)
    with running(tmp_path, f'{TABLE}account = "sales"\nwait = "2m"\n') as gateway, gateway.client() as client:
        assert client.post(b'{"type":"payment","amount":"12.50"}').status == 200
        gateway.wait_for_line("ledger sales 120.0 12.50")
        listed = [json.loads(line) for line in gateway.cli("plugins", "--json").stdout.splitlines()]
    found = listed[0]
    assert (found["name"], found["plugin"], found["distribution"], found["version"]) == (
        "ledger",
        "ledger",
        "ledger.py",
        "",
    )
    assert (found["enabled"], found["hooks"], list(found["settings"])) == (True, ["on_payment"], ["account", "wait"])
    assert "ledger.py" in CliRunner().invoke(cli, ["plugins", "-c", str(gateway.config_path)]).stdout
    errors, warnings = check(gateway.config_path)
    assert errors == []
    assert [path for path, _ in warnings if path.startswith("plugins")] == []


def test_its_settings_are_checked(tmp_path: Path) -> None:
    """Every fault of the table has its path."""
    assert faults(tmp_path, LEDGER, f"{TABLE}wait = 5\nacount = 1\n") == [
        ("plugins.ledger.acount", 'unknown key; did you mean "account"?'),
        ("plugins.ledger.account", "is missing"),
        ("plugins.ledger.wait", 'expected a duration such as "30s", "5m" or "24h", found 5 (a number)'),
    ]


def test_two_tables_may_name_one_file(tmp_path: Path) -> None:
    """Each is an instance with its own settings."""
    table = f'{TABLE}account = "a"\n[plugins.other]\nfile = "./ledger.py"\naccount = "b"\n'
    assert faults(tmp_path, LEDGER, table) == []
    assert row(tmp_path / "config.toml", "other")["enabled"] is True


def test_the_class_named_plugin_is_the_plugin(tmp_path: Path) -> None:
    """Where the file has several classes with hooks; `startup` and `check` alone do not make a plugin."""
    helper = "class Client:\n    def check(self): ...\n    def startup(self): ...\n"
    base = "class Base:\n    def on_event(self, event): ...\n"
    assert faults(tmp_path, f"{helper}{base}class Plugin(Base):\n    def on_payment(self, event, payload): ...\n") == []
    assert row(tmp_path / "config.toml", "ledger")["hooks"] == ["on_event", "on_payment"]
    assert faults(tmp_path, f"{helper}{base}") == []
    assert row(tmp_path / "config.toml", "ledger")["hooks"] == ["on_event"]


EXPECTED = "expected a class named Plugin, or one class with a hook such as on_event or custom_values"


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ("x = 1", ".file", f"ledger.py has no plugin class: {EXPECTED}"),
        ("class Ledger:\n    def pay(self): ...", ".file", f"ledger.py has no plugin class: {EXPECTED}"),
        ("from gateway import Event", ".file", f"ledger.py has no plugin class: {EXPECTED}"),
        (
            "class A:\n    def on_event(self, event): ...\nclass B(A): ...",
            ".file",
            "ledger.py has several classes with hooks (A, B); name the plugin's class Plugin",
        ),
        ("Plugin = 5", ".file", "ledger.py: Plugin is not a class"),
        ("def f(:", ".file", "ledger.py cannot be imported: SyntaxError: invalid syntax (ledger.py, line 1)"),
        (
            "import json\nimport nothing_at_all",
            ".file",
            "ledger.py cannot be imported: ModuleNotFoundError: No module named 'nothing_at_all' at ledger.py:2",
        ),
        ("raise SystemExit(3)", ".file", "ledger.py cannot be imported: SystemExit: 3 at ledger.py:1"),
        (
            "class A:\n    def on_paymnt(self, event): ...",
            "",
            'ledger.py: unknown hook on_paymnt; did you mean "on_payment"?; names that begin with on_ are reserved for'
            " hooks",
        ),
        (
            "class Plugin:\n    Config = dict",
            ".file",
            "ledger.py: Config must be a msgspec.Struct",
        ),
        (
            "class Plugin:\n    def __init__(self, config): raise ValueError('no host')",
            "",
            "ledger.py: ValueError: no host",
        ),
    ],
)
def test_a_file_that_is_not_a_plugin(tmp_path: Path, source: str, path: str, message: str) -> None:
    """One sentence, in `check` and in `plugins`."""
    assert faults(tmp_path, source) == [(f"plugins.ledger{path}", message)]
    assert message in row(tmp_path / "config.toml", "ledger")["error"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Nor a folder, nor a pipe, nor another type of value; a table cannot name an installed plugin as well."""
    config = write_config(tmp_path, TABLE)
    missing = f"the file {tmp_path / 'ledger.py'} does not exist; the path is relative to the config file"
    assert check(config)[0] == [("plugins.ledger.file", missing)]
    (tmp_path / "ledger.py").mkdir(0o700)
    folder = "ledger.py is a folder: expected a file with the plugin's class"
    assert check(config)[0] == [("plugins.ledger.file", folder)]
    (tmp_path / "ledger.py").rmdir()
    os.mkfifo(tmp_path / "ledger.py", 0o600)
    pipe = "ledger.py is not a file: expected a file with the plugin's class"
    assert check(config)[0] == [("plugins.ledger.file", pipe)]
    number = check(write_config(tmp_path, "[plugins.ledger]\nfile = 5\n"))[0]
    assert number == [("plugins.ledger.file", "expected a path, found 5 (a number)")]
    (tmp_path / "ledger.py").unlink()
    both = "names an installed plugin, and `file` a plugin in a file; leave one of them out"
    found = faults(tmp_path, LEDGER, f'{TABLE}use = "archive"\naccount = "a"\n')
    assert found == [("plugins.ledger.use", both)]


def test_it_is_not_taken_for_a_secret(tmp_path: Path) -> None:
    """`check` warns of a secret that others may read; a plugin's code is none, but its settings may name one. Tables
    with a fault do not stop the check of the machine."""
    write(tmp_path, "class Plugin:\n    def on_event(self, event): ...\n")
    write(tmp_path, "secret", "key")
    faulty = '[plugins]\narchive = 3\n[plugins.ledger]\nfile = "ledger.py"\n[plugins.x]\nkey = { file = "key" }\n'
    result = CliRunner().invoke(cli, ["check", "--json", "-c", str(write_config(tmp_path, faulty))])
    document = json.loads(result.stdout)
    assert "plugins.archive" in [one["path"] for one in document["errors"]]
    readable = [one["path"] for one in document["warnings"] if "can be read by others" in one["message"]]
    assert readable == ["plugins.x.key"]


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Its code would run with the rights of the gateway; it is not even imported."""
    path = write(tmp_path, "raise AssertionError('it was imported')")
    path.chmod(mode)
    config = write_config(tmp_path, TABLE)
    message = f"others may write the file {path} (mode {mode:04o}), and so run code in the gateway; `chmod go-w` it"
    assert check(config)[0] == [("plugins.ledger.file", message)]
    result = run_cli(["run", "-c", config])
    assert (result.returncode, result.stdout) == (78, "")
    assert message in result.stderr
    assert "it was imported" not in result.stderr


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_in_a_folder_that_others_may_write_is_refused(tmp_path: Path, linked: bool) -> None:
    """They could put another file in its place: in the folder of the file, and in that of a link to it."""
    (tmp_path / "own").mkdir(0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    write(tmp_path / "own", LEDGER)
    if linked:
        (tmp_path / "open" / "ledger.py").symlink_to("../own/ledger.py")
    else:
        write(tmp_path / "open", LEDGER)
    config = write_config(tmp_path, '[plugins.ledger]\nfile = "open/ledger.py"\naccount = "a"\n')
    place = f"the folder {tmp_path / 'open'} (mode 0770)"
    message = f"others may write {place}, and so run code in the gateway; `chmod go-w` it"
    assert check(config)[0] == [("plugins.ledger.file", message)]


def test_a_changed_file_needs_a_restart(tmp_path: Path) -> None:
    """The old code goes on until then; a new file that is faulty is told at once."""
    path = write(tmp_path, LEDGER)
    with running(tmp_path, f'{TABLE}account = "sales"\n') as gateway, gateway.client() as client:

        def reload() -> dict[str, Any]:
            document: dict[str, Any] = json.loads(gateway.cli("reload", "--json").stdout)
            return document

        assert reload() == {"applied": True, "needs_restart": [], "errors": []}
        write(tmp_path, LEDGER.replace('"ledger"', '"changed"'))
        assert reload() == {"applied": True, "needs_restart": ["plugins.ledger.file"], "errors": []}
        assert client.post(b'{"type":"payment","amount":"1"}').status == 200
        gateway.wait_for_line("ledger sales")
        path.write_text("def f(:")
        [fault] = reload()["errors"]
        assert fault["path"] == "plugins.ledger.file"
        assert "SyntaxError" in fault["message"]
        write(tmp_path, LEDGER.replace('"ledger"', '"changed"'))
        assert gateway.stop() == 0
        gateway.start()
        assert client.post(b'{"type":"payment","amount":"2"}').status == 200
        gateway.wait_for_line("changed sales")
        eventually(lambda: gateway.cli("events", "--state", "waiting", "--json").stdout == "")


def test_an_exception_of_its_hooks_has_its_place_in_the_file(tmp_path: Path) -> None:
    """As the log has it for every plugin."""
    write(tmp_path, "class Plugin:\n    def on_event(self, event):\n        raise KeyError('x')\n")
    with running(tmp_path, f"{TABLE}max_attempts = 1\n") as gateway, gateway.client() as client:
        assert client.post(b'{"type":"payment"}').status == 200
        gateway.wait_for_line("KeyError at ledger.py:3")
