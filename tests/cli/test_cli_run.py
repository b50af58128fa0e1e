"""`gateway run`: it says when it is ready, stops when told to, and what was answered 200 is there afterwards."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import GATEWAY, run_cli
from machine import free_ports
from running import RunningGateway, eventually, write_config

from gateway.cli.init import init
from gateway.events import HOOKS
from gateway.journal.sqlite.layout import LAYOUT

StartGateway = Callable[..., RunningGateway]


def lines(process: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """What `gateway init` writes, on free ports and otherwise as it is."""
    init(tmp_path / "config.toml")
    text = (tmp_path / "config.toml").read_text()
    for usual, free in zip((8080, 8081), free_ports(2), strict=True):
        text = text.replace(f"#port = {usual}", f"port = {free}")
    (tmp_path / "config.toml").write_text(text)
    return tmp_path / "config.toml"


def test_the_example_runs_and_everything_shows_what_was_sent(example: Path) -> None:
    """`send --all`, `ask balance ID`, `events` and the archive's files: the first minute of a stranger."""
    gateway = RunningGateway(example)
    try:
        sent = lines(gateway.cli("send", "--all", "--json"))
        asked = gateway.cli("ask", "balance", "ID", "--customer", "123456")

        assert [answer["status"] for answer in sent] == [200] * 8
        assert asked.stdout == "balance  120.50\nID       ID-4711\n"
        explained = gateway.cli("ask", "balance", "--customer", "123456", "--explain")
        assert "sql_values" in explained.stdout
        gateway.wait_for_line("look-up of custom values (organisation acme, customer …56): 1 field, status 200")
        assert gateway.cli("dead", "retry", "--all").returncode == 0
        gateway.wait_for_line("retry of dead letters (everything): number 1, no events matched")
        assert "config: admin.password" not in gateway.text
        listed = lines(gateway.cli("events", "--json"))
        assert [event["id"] for event in listed] == [answer["id"] for answer in sent]
        folder = example.parent / "var" / "archive" / "acme"
        eventually(lambda: len(list(folder.glob("*/*.jsonl"))) == len(HOOKS))
        archived = [json.loads(path.read_text()) for path in folder.glob("*/*.jsonl")]
        assert {line["id"] for line in archived} == {answer["id"] for answer in sent}
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.text
    finally:
        gateway.kill()


def test_a_config_without_an_admin_password_works_with_a_warning(start_gateway: StartGateway) -> None:
    """On loopback only, where every user of the machine reaches the listener."""
    gateway = start_gateway()

    gateway.wait_for_line(" warning  gateway.server: config: admin.password: is missing: every user and every program")
    assert gateway.cli("dead", "retry", "--all").returncode == 0


def test_ctrl_c_stops_it_with_exit_0(start_gateway: StartGateway) -> None:
    """SIGINT, as well as SIGTERM, with which every other test stops its gateway; quietly."""
    gateway = start_gateway()

    gateway.process.send_signal(signal.SIGINT)

    assert gateway.process.wait(10) == 0
    assert "Traceback" not in gateway.text


def test_a_signal_to_all_its_processes_stops_it_with_exit_0(start_gateway: StartGateway) -> None:
    """A terminal and systemd send it to the worker as well."""
    gateway = start_gateway()

    os.killpg(gateway.process.pid, signal.SIGTERM)

    assert gateway.process.wait(10) == 0


def test_killed_in_the_middle_of_sending_nothing_answered_200_is_lost(running_gateway: RunningGateway) -> None:
    """`kill -9` during `send --count 1000`: each 200 is in the journal and, once it runs again, in the archive."""
    sender = subprocess.Popen(
        [GATEWAY, "send", "payment", "--count", "1000", "--json", "-c", str(running_gateway.config_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sender.stdout is not None
    answered = []
    with sender, sender.stdout:
        for number, line in enumerate(sender.stdout):
            answer = json.loads(line)
            if answer["status"] == 200:
                answered.append(answer["id"])
            if number == 150:
                running_gateway.kill()
    assert sender.returncode == 1
    assert 150 <= len(answered) < 1000

    running_gateway.start()

    kept = [event["id"] for event in lines(running_gateway.cli("events", "--json"))]
    assert set(answered) <= set(kept)
    eventually(lambda: len(archived(running_gateway)) >= len(kept))
    assert sorted(archived(running_gateway)) == sorted(kept)


def archived(gateway: RunningGateway) -> list[str]:
    files = (gateway.directory / "archive" / "acme" / "payment").glob("*.jsonl")
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines() if line.endswith("}")]


def test_faults_of_fields_and_wiring_are_told_before_anything_starts(tmp_path: Path) -> None:
    """Exit 78, all of them at once, and no journal made."""
    config = write_config(tmp_path, "body_timeout = 5\n[plugins.crm]\n[plugins.archive]\ncompres = true\n")

    result = run_cli(["run", "-c", config])

    assert (result.returncode, result.stdout) == (78, "")
    assert f"{config}: server.body_timeout: expected a duration" in result.stderr
    assert f'{config}: plugins.crm: no plugin "crm" is installed; installed: ' in result.stderr
    assert f"{config}: plugins.archive.directory: is missing" in result.stderr
    assert f'{config}: plugins.archive.compres: unknown key; did you mean "compress"?' in result.stderr
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("options", [[], ["--no-copy"]])
def test_a_journal_of_an_older_version_is_upgraded_after_a_copy(tmp_path: Path, options: list[str]) -> None:
    """`gateway check` warns of it before; --no-copy leaves the copy out. With --json the listeners' lines are JSON."""
    config = write_config(tmp_path)
    journal = tmp_path / "var" / "journal.db"
    journal.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(journal)) as database:
        database.executescript((Path(__file__).parents[1] / "journal" / "layout_1.sql").read_text())
    checked = run_cli(["check", "-c", config])
    command = [GATEWAY, "run", "--json", "-c", str(config), *options]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert gateway.stdout is not None
        webhooks, admin = (json.loads(gateway.stdout.readline()) for _ in range(2))
    finally:
        gateway.terminate()
        assert gateway.wait(20) == 0
        gateway.communicate()

    assert (webhooks["listener"], admin["listener"]) == ("webhooks", "admin")
    assert webhooks["url"].endswith("/webio")
    assert checked.returncode == 0
    assert f"`gateway run` brings it to layout {LAYOUT}" in " ".join(checked.stdout.split())
    assert journal.with_name(f"journal.db.before-{LAYOUT}").exists() is not bool(options)
