"""`gateway run` with its journal in a database that goes away and comes back."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

from cli_process import CliProcess
from clusters import clusters
from journal_kit import message
from machine import free_ports, watch_group
from running import RunningGateway, eventually, running, write_config


def status_of(gateway: RunningGateway, raw: bytes) -> int:
    """What the gateway answers to an event."""
    with gateway.client(timeout=60) as client:
        return client.post(raw).status


def delivered(directory: Path) -> list[str]:
    lines = [line for file in directory.rglob("*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line)["body"]["note"] for line in lines]


def test_it_goes_on_by_itself_when_its_database_is_back(tmp_path: Path) -> None:
    """Meanwhile 503, and the log says why; what was answered 200 is delivered. No person is needed."""
    with clusters(1) as (server,):
        server.make()
        server.start()
        text = f'[journal]\nurl = "{server.url}"\n[plugins.archive]\ndirectory = "archive"\nfrom = "start"\n'
        with running(tmp_path, text) as gateway:
            assert status_of(gateway, message(note="before")) == 200
            eventually(lambda: delivered(tmp_path / "archive") == ["before"])

            server.stop(signal.SIGQUIT)
            raw = message(note="after")
            eventually(lambda: status_of(gateway, raw) == 503)
            gateway.wait_for_line("the database cannot be reached")

            server.start()
            eventually(lambda: status_of(gateway, raw) == 200)
            eventually(lambda: sorted(set(delivered(tmp_path / "archive"))) == ["after", "before"])
        assert "the database cannot be reached" in gateway.text


@contextlib.contextmanager
def starting(config: Path, output: Path) -> Iterator[CliProcess]:
    """`gateway run` whose start is not waited for; what it writes is in the file `output`."""
    with output.open("wb") as file:
        process = CliProcess(
            ["run", "-c", config], stdout=file.fileno(), stderr=file.fileno(), directory=config.parent, new_session=True
        )
    watch_group(process.pid)
    try:
        yield process
    finally:
        process.kill()


def test_a_start_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    """As after a power cut, when the database comes up later; the log says what it waits for."""
    with clusters(1) as (server,):
        server.make()
        server.start()
        server.stop()
        config, output = write_config(tmp_path, f'[journal]\nurl = "{server.url}"\n'), tmp_path / "output"
        with starting(config, output) as process:
            eventually(lambda: "cannot be reached (Connection refused); trying again" in output.read_text())
            server.start()
            eventually(lambda: "gateway: admin at " in output.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_start_that_waits_can_be_stopped(tmp_path: Path) -> None:
    """Without being killed for it."""
    url = f"postgresql://gateway@127.0.0.1:{free_ports(1)[0]}/gateway"
    config, output = write_config(tmp_path, f'[journal]\nurl = "{url}"\n'), tmp_path / "output"
    with starting(config, output) as process:
        eventually(lambda: "trying again" in output.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "stopping before it was ready" in output.read_text()
