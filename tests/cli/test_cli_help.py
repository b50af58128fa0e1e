"""The command line as a whole: its help, its exit codes, and that an error is a sentence, not a traceback."""

from __future__ import annotations

import errno
import importlib
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_process import GATEWAY, run_cli
from click.testing import CliRunner
from running import write_config

from gateway.cli import SECTIONS, cli
from gateway.config.convert import ConfigError, Problem

COMMANDS = [name for section in SECTIONS.values() for name in section]
HEAVY = {"litestar", "sqlalchemy", "rich", "httpx", "uvicorn", "apsw", "asyncio", "jwt", "gateway.config.load"}


def every_command() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = importlib.import_module(f"gateway.cli.{name.replace('-', '_')}").command
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", command.commands[sub]) for sub in command.commands]
    return found


def test_help_lists_every_command() -> None:
    """In its section, with what it does."""
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    for section, commands in SECTIONS.items():
        assert section in result.output
        for name in commands:
            assert f"\n  {name} " in result.output


@pytest.mark.parametrize(("name", "command"), every_command())
def test_every_command_teaches_by_example(name: str, command: click.Command) -> None:
    """Its help has examples that begin with the command itself, and -c and -h."""
    result = CliRunner().invoke(cli, [*name.split(), "--help"])

    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"  gateway {name}" in result.output
    assert "-c, --config" in result.output
    assert name in ("token", "journal", "completion") or "--json" in result.output


def test_help_imports_nothing_heavy() -> None:
    """No server, no database, no table drawing: `gateway --help` is there at once."""
    code = (
        "import sys\nfrom gateway.cli import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted({HEAVY!r} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "heavy: []"


def test_help_takes_less_than_half_a_second() -> None:
    """Of processor time, which does not depend on what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([GATEWAY, "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version() -> None:
    """`gateway --version` names the program and its version."""
    result = run_cli(["--version"])

    assert result.returncode == 0
    assert result.stdout.startswith("gateway 0.")


def test_an_unknown_command_is_wrong_usage() -> None:
    """Exit 2, and a way to the help."""
    result = run_cli(["serve"])

    assert result.returncode == 2
    assert "No such command 'serve'" in result.stderr
    assert re.search(r"gateway (-h|--help)", result.stderr)


def test_a_misspelt_command_is_told_which_was_meant() -> None:
    """Where one is close."""
    result = CliRunner().invoke(cli, ["evnts"])

    assert result.exit_code == 2
    assert "No such command 'evnts'; did you mean 'events'?" in result.output


@pytest.mark.parametrize("arguments", [["check", "-c"], ["-c", "CONFIG", "check"], ["check", "--config"]])
def test_the_config_may_be_named_before_and_after_the_command(tmp_path: Path, arguments: list[str]) -> None:
    """`gateway -c x check` and `gateway check -c x` are the same."""
    config = str(write_config(tmp_path))
    given = [config if argument == "CONFIG" else argument for argument in arguments]
    if config not in given:
        given.append(config)

    result = CliRunner().invoke(cli, [*given, "--offline"])

    assert (0, f"{config}: no errors, 1 warning") == (result.exit_code, result.output.splitlines()[-1])


def test_the_config_after_the_command_wins(tmp_path: Path) -> None:
    """Over the one before it, which wins over the environment's."""
    config = str(write_config(tmp_path))
    environment = {"GATEWAY_CONFIG": "environment.toml"}

    inner = CliRunner().invoke(cli, ["-c", "outer.toml", "check", "--offline", "-c", config], env=environment)
    outer = CliRunner().invoke(cli, ["-c", config, "check", "--offline"], env=environment)
    neither = CliRunner().invoke(cli, ["check", "--offline"], env={"GATEWAY_CONFIG": config})

    assert [inner.exit_code, outer.exit_code, neither.exit_code] == [0, 0, 0]


def test_a_command_of_a_group_takes_the_groups_config(tmp_path: Path) -> None:
    """`gateway token -c x mint`, too."""
    config = str(write_config(tmp_path))

    assert CliRunner().invoke(cli, ["token", "-c", config, "mint"]).exit_code == 0


@pytest.mark.parametrize("command", [["run"], ["send", "payment"], ["ask", "ID"], ["events"], ["token", "mint"]])
def test_a_bad_configuration_exits_78_with_every_fault(tmp_path: Path, command: list[str]) -> None:
    """Each fault on a line of its own on standard error: file, dotted path, sentence."""
    config = tmp_path / "config.toml"
    config.write_text("[server]\nport = 0\nprot = 1\n")

    result = run_cli([*command, "-c", config])

    assert result.returncode == 78
    assert result.stdout == ""
    for path in ("server.port", "server.prot", "organisations"):
        assert f"{config}: {path}: " in result.stderr


READERS = [
    *(["check"], ["plugins"], ["token", "mint"], ["send", "payment"], ["ask", "balance"], ["events"]),
    *(["values"], ["dead"], ["dead", "retry", "--all"], ["replay", "--plugin", "archive"]),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_config_that_cannot_be_read_is_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """A file that this user may not read, and one whose name is too long: exit 78, and a sentence."""
    path = write_config(tmp_path)
    nowhere = tmp_path / ("x" * 300)
    access, read_bytes = os.access, Path.read_bytes
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda file, *mode: file != path and access(file, *mode))
        patched.setattr(Path, "read_bytes", lambda file: refuse() if file == path else read_bytes(file))
        closed = CliRunner().invoke(cli, [*command, "-c", str(path)])

    away = CliRunner().invoke(cli, [*command, "-c", str(nowhere)])

    assert (closed.exit_code, away.exit_code) == (78, 78)
    for result, place, reason in ((closed, path, "Permission denied"), (away, nowhere, "File name too long")):
        message = f"cannot be read: {reason}"
        assert message in result.output
        assert command == ["check"] or result.output == f"{place}: config: {message}\n"


def refuse() -> bytes:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_no_configuration_says_what_to_do(tmp_path: Path) -> None:
    """`gateway run` in an empty folder names the command that helps."""
    result = run_cli(["run", "-c", tmp_path / "config.toml"])
    unreadable = run_cli(["run", "-c", tmp_path / ("x" * 300)])

    assert (result.returncode, unreadable.returncode) == (78, 78)
    assert "the file does not exist; make one with `gateway init`" in result.stderr


def test_an_unexpected_error_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1, the error's type and text, how to learn more, and no traceback."""
    monkeypatch.setattr("gateway.config.load.load_config", _broken)

    result = CliRunner().invoke(cli, ["token", "mint"])

    assert result.exit_code == 1
    assert "unexpected error: ZeroDivisionError: something broke\n" in result.output
    assert "gateway --debug" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("arguments", "environment"), [(["--debug"], {}), ([], {"GATEWAY_DEBUG": "1"})])
def test_debug_lets_an_unexpected_error_through(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str]
) -> None:
    """With its traceback."""
    monkeypatch.setattr("gateway.config.load.load_config", _broken)

    result = CliRunner().invoke(cli, [*arguments, "token", "mint"], env=environment)

    assert isinstance(result.exception, ZeroDivisionError)


def test_debug_leaves_an_expected_error_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the config is shown without a traceback."""

    def refuse(path: Path) -> None:
        raise ConfigError(path, [Problem("server.port", "is odd")])

    monkeypatch.setattr("gateway.config.load.load_config", refuse)

    result = CliRunner().invoke(cli, ["--debug", "token", "mint"])

    assert (result.exit_code, result.output) == (78, "config.toml: server.port: is odd\n")


@pytest.mark.parametrize("arguments", [["plugins", "--json"], ["plugins"], ["--help"]])
def test_a_reader_that_leaves_early_is_no_error_message(tmp_path: Path, arguments: list[str]) -> None:
    """`gateway ... | head -1` ends quietly, whatever is left to say."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [GATEWAY, "-c", write_config(tmp_path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=20)

    assert errors == ""
    assert process.returncode == 1


def _broken(path: Path) -> None:
    raise ZeroDivisionError("something broke")
