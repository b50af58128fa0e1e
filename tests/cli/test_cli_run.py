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

import psutil
import pytest
from machine import free_ports
from running import GATEWAY, RunningGateway, eventually, run_cli, write_config, write_plugin

from gateway.cli.init import init
from gateway.events import HOOKS

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


def test_a_line_per_listener_once_it_accepts_connections(running_gateway: RunningGateway) -> None:
    """With the address to use, and nothing else on the way."""
    url, admin_url = running_gateway.url, running_gateway.admin_url

    assert running_gateway.text == f"gateway: webhooks at {url}\ngateway: admin at {admin_url}/\n"


def test_idle_it_needs_less_than_120_mb(running_gateway: RunningGateway) -> None:
    """Supervisor and worker together; pages that they share count once."""
    supervisor = psutil.Process(running_gateway.process.pid)
    family = [supervisor, *supervisor.children(recursive=True)]

    assert len(family) == 2
    assert sum(process.memory_full_info().pss for process in family) < 120e6


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_exit_0(start_gateway: StartGateway, stop: signal.Signals) -> None:
    """SIGTERM from a service manager, SIGINT from Ctrl-C; quietly."""
    gateway = start_gateway()

    gateway.process.send_signal(stop)

    assert gateway.process.wait(10) == 0
    assert "Traceback" not in gateway.text


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_its_processes_stops_it_with_exit_0(start_gateway: StartGateway, stop: signal.Signals) -> None:
    """A terminal and systemd send it to the worker as well."""
    gateway = start_gateway()

    os.killpg(gateway.process.pid, stop)

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


def test_a_second_gateway_on_the_journal_is_refused(running_gateway: RunningGateway) -> None:
    """Exit 1 at once, with a sentence that names the first one's process."""
    other = running_gateway.directory / "other.toml"
    text = running_gateway.config_path.read_text()
    for port, free in zip(
        (running_gateway.config.server.port, running_gateway.config.admin.port), free_ports(2), strict=True
    ):
        text = text.replace(f"port = {port}", f"port = {free}")
    other.write_text(text)

    result = run_cli(["run", "-c", other])

    assert (result.returncode, result.stdout) == (1, "")
    assert f"is in use by the gateway with process id {running_gateway.process.pid}" in result.stderr


def test_a_port_in_use_is_a_sentence(running_gateway: RunningGateway) -> None:
    """The port is named; no second gateway, with a journal of its own, shares it silently."""
    other = running_gateway.directory / "other.toml"
    other.write_text(running_gateway.config_path.read_text() + '\n[journal]\npath = "other.db"\n')
    result = run_cli(["run", "-c", other])

    assert (result.returncode, result.stdout) == (1, "")
    assert f"127.0.0.1:{running_gateway.config.server.port} is in use" in result.stderr


def test_faults_of_fields_and_wiring_are_told_before_anything_starts(tmp_path: Path) -> None:
    """Exit 78, all of them at once, and no journal made."""
    config = write_config(tmp_path, "body_timeout = 5\n[plugins.crm]\n[plugins.archive]\ncompres = true\n")

    result = run_cli(["run", "-c", config])

    assert (result.returncode, result.stdout) == (78, "")
    assert f"{config}: server.body_timeout: expected a duration" in result.stderr
    assert f"{config}: plugins.crm: no plugin 'crm' is installed; installed: " in result.stderr
    assert f"{config}: plugins.archive.directory: is missing" in result.stderr
    assert f'{config}: plugins.archive.compres: unknown key; did you mean "compress"?' in result.stderr
    assert not (tmp_path / "var").exists()


def test_a_plugin_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    """Named, with what it said; exit 1, no traceback."""
    source = """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def startup(self, context):
                raise RuntimeError("the queue is gone")
        """
    write_plugin(tmp_path / "site", "sad", source)
    config = write_config(tmp_path, "[plugins.sad]\n")

    result = subprocess.run(
        [GATEWAY, "run", "-c", str(config)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (result.returncode, result.stdout) == (1, "")
    assert "sad" in result.stderr
    assert "the queue is gone" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [[], ["--no-copy"]])
def test_a_journal_of_an_older_version_is_upgraded_after_a_copy(tmp_path: Path, options: list[str]) -> None:
    """`gateway check` warns of it before; --no-copy leaves the copy out."""
    config = write_config(tmp_path)
    journal = tmp_path / "var" / "journal.db"
    journal.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(journal)) as database:
        database.executescript((Path(__file__).parents[1] / "journal" / "layout_1.sql").read_text())
    checked = run_cli(["check", "-c", config])
    gateway = subprocess.Popen([GATEWAY, "run", "-c", str(config), *options], stdout=subprocess.PIPE, text=True)
    try:
        assert gateway.stdout is not None
        assert gateway.stdout.readline().startswith("gateway: webhooks at ")
    finally:
        gateway.terminate()
        assert gateway.wait(20) == 0
        gateway.communicate()

    assert checked.returncode == 0
    assert "`gateway run` brings it to layout 2" in " ".join(checked.stdout.split())
    assert journal.with_name("journal.db.before-2").exists() is not bool(options)
