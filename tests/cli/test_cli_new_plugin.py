"""`gateway new-plugin`: a package with a plugin to start from."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli_process import run_cli
from running import running

pytestmark = pytest.mark.timeout(400)  # on a busy machine

EVENTS, VALUES = ["ledger"], ["call-list", "--values"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def make(place: Path, *arguments: str) -> Path:
    result = run_cli(["new-plugin", *arguments], directory=place)
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        assert Path(place / line.removeprefix("wrote ")).is_file()
    return place / arguments[0]


@pytest.mark.parametrize("arguments", [EVENTS, VALUES])
def test_its_tests_pass(place: Path, arguments: list[str]) -> None:
    """Without an installation, a network or a running gateway, and with warnings as errors."""
    folder = make(place, *arguments)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "failed" not in result.stdout


@pytest.mark.parametrize("arguments", [EVENTS, VALUES])
def test_its_entry_point_leads_to_the_plugin(
    place: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the name that was given, which the snippet uses, too."""
    folder = make(place, *arguments)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    [(name, value)] = project["entry-points"]["gateway.plugins"].items()
    module, _, attribute = value.partition(":")
    monkeypatch.syspath_prepend(str(folder))
    try:
        kind = getattr(importlib.import_module(module), attribute)
    finally:
        sys.modules.pop(module, None)
    assert name == arguments[0]
    assert kind.contract == (1, 0)
    assert list(tomllib.loads((folder / "config-snippet.toml").read_text())["plugins"]) == [name]


@pytest.mark.parametrize("arguments", [EVENTS, VALUES])
def test_it_is_formatted(place: Path, arguments: list[str]) -> None:
    """A linter has nothing to say, whatever the name is."""
    folder = make(place, *arguments)
    for check in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--isolated", "--line-length", "120", "--no-cache", "."],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout


def test_the_plugin_of_events_works_in_a_gateway(place: Path) -> None:
    """With its snippet and nothing else, from its file."""
    import sqlite3

    folder = make(place, *EVENTS)
    text = (folder / "config-snippet.toml").read_text() + 'file = "ledger/gateway_ledger/__init__.py"\n'
    (place / "var").mkdir(mode=0o700)
    for path in (folder, folder / "gateway_ledger"):
        path.chmod(0o755)
    with running(place, text) as gateway, gateway.client() as client:
        assert client.post(b'{"type":"payment","amount":12.50}').status == 200
        gateway.wait_for_line("payments are written to")
        gateway.stop()
    connection = sqlite3.connect(place / "var" / "ledger.db")
    assert connection.execute("SELECT body FROM payments").fetchall() == [('{"type":"payment","amount":12.50}',)]
    connection.close()


def test_the_plugin_of_values_works_in_a_gateway(place: Path) -> None:
    """With its snippet and a file of customers."""
    folder = make(place, *VALUES)
    text = (folder / "config-snippet.toml").read_text() + 'file = "call-list/gateway_call_list/__init__.py"\n'
    (place / "var").mkdir(mode=0o700)
    (place / "var" / "call-list.csv").write_text("customer_uid,balance\n7,12.50\n")
    with running(place, text) as gateway:
        gateway.wait_for_line("1 customers are in")
        result = gateway.cli("ask", "balance", "--customer", "7", "--json")
    assert json.loads(result.stdout)["values"] == {"balance": "12.50"}


def test_nothing_is_overwritten(place: Path) -> None:
    """An existing folder, file or link of the name stays as it is."""
    (place / "ledger").mkdir()
    (place / "till").write_text("mine")
    (place / "shop").symlink_to("nowhere")
    for name in ("ledger", "till", "shop"):
        result = run_cli(["new-plugin", name], directory=place)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"{name} exists already; nothing was written\n"
    assert list((place / "ledger").iterdir()) == []
    assert (place / "till").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Ledger", "1st", "a/b", "..", "a__b", "a-", "é", "x" * 41, "a b"])
def test_a_name_that_cannot_be_one(place: Path, name: str) -> None:
    """Wrong usage, and nothing is written."""
    result = run_cli(["new-plugin", name], directory=place)
    assert result.returncode == 2
    assert "expected at most 40 lower-case letters and digits" in result.stderr
    assert list(place.iterdir()) == []


def test_a_name_that_is_taken(place: Path) -> None:
    """The gateway would refuse to load two plugins of one name."""
    result = run_cli(["new-plugin", "archive"], directory=place)
    assert result.returncode == 1
    assert result.stderr == "a plugin archive is installed already, by webio-gateway; choose another name\n"


def test_what_was_written_as_json(place: Path) -> None:
    """The folder and its files."""
    document = json.loads(run_cli(["new-plugin", "ledger", "--json"], directory=place).stdout)
    assert (document["plugin"], document["folder"]) == ("ledger", "ledger")
    assert sorted(document["files"]) == sorted(
        str(path.relative_to(place / "ledger")) for path in (place / "ledger").rglob("*") if path.is_file()
    )
