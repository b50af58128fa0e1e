"""Async code of a plugin runs on a loop of its own: what blocks it holds up nothing else, and is named."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import RunningGateway, eventually, running

from gateway import simulate

BLOCKS = """
import asyncio, threading, time
from gateway import hookimpl

class Plugin:
    '''Blocks its loop over each event while the file `block` exists, one step deeper than the hook.'''

    @hookimpl
    async def startup(self, context):
        self.directory = context.directory

    @hookimpl
    async def on_event(self, event):
        self.wait_for_the_driver()
        with (self.directory / 'taken').open('a') as file:
            file.write(event.id + '\\n')

    @hookimpl
    async def custom_values(self, request):
        if 'slow' in request.fields:
            self.wait_for_the_driver()
            return {'slow': '1'}
        return {}

    @hookimpl
    def custom_value_fields(self):
        return ['slow']

    def wait_for_the_driver(self):
        while (self.directory / 'block').exists():
            time.sleep(0.01)
"""
GOOD = """
import threading
from gateway import hookimpl

class Plugin:
    @hookimpl
    async def startup(self, context):
        self.file = (context.directory / 'good').open('a')
        self.thread = threading.current_thread()

    @hookimpl
    async def on_event(self, event):
        self.file.write(event.id + '\\n')
        self.file.flush()

    @hookimpl
    async def custom_values(self, request):
        return {'balance': '120.50'}

    @hookimpl
    def custom_value_fields(self):
        return ['balance']

    @hookimpl
    async def shutdown(self):
        self.file.close()
"""
PLUGINS = {"crm": BLOCKS, "good": GOOD}
TEXT = """
[delivery]
backoff = "20ms"
backoff_max = "50ms"
[values]
deadline = "1s"
[plugins.crm]
timeout = "{timeout}"
max_attempts = 2
[plugins.good]
"""
PLACE = re.compile(r"plugin_crm\.py:3[01] in wait_for_the_driver")


def health(gateway: RunningGateway) -> dict[str, Any]:
    with urllib.request.urlopen(f"{gateway.admin_url}/health/ready", timeout=5) as response:
        found: dict[str, Any] = json.load(response)
    return found


def plugin_health(gateway: RunningGateway, name: str) -> dict[str, Any]:
    [found] = [one for one in health(gateway)["plugins"] if one["name"] == name]
    return dict(found)


def metric(gateway: RunningGateway, start: str) -> list[str]:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=5) as response:
        return [line for line in response.read().decode().splitlines() if line.startswith(start)]


def blocked_seconds(gateway: RunningGateway) -> float:
    """For how long `crm` has not answered."""
    [sample] = metric(gateway, 'gateway_plugin_blocked_seconds{plugin="crm"')
    return float(sample.rpartition(" ")[2])


def taken(gateway: RunningGateway, name: str) -> list[str]:
    path = gateway.directory / name
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway in which `crm` has blocked its loop with an event, for longer than its timeout."""
    (tmp_path / "block").touch()
    with running(tmp_path, TEXT.format(timeout="1s"), plugins=PLUGINS) as gateway, gateway.client() as client:
        client.post(simulate.encode(simulate.body("payment")))
        gateway.wait_for_line("plugin crm: its event loop has not answered for 1 s, blocked at plugin_crm.py:")
        yield gateway
        (tmp_path / "block").unlink(missing_ok=True)


def test_a_hook_that_blocks_holds_up_nothing_else(blocked: RunningGateway) -> None:
    """Webhooks, values of another provider, health, metrics and another plugin go on meanwhile."""
    ids = []
    with blocked.client() as client:
        for _ in range(5):
            ids.append(client.post(simulate.encode(simulate.body("payment"))).document["id"])
            answer = client.ask(["balance"], "123456")
            assert (answer.status, answer.document) == (200, {"balance": "120.50"})
            assert health(blocked)["ready"]
            assert metric(blocked, "gateway_answer_seconds")
    eventually(lambda: set(ids) <= set(taken(blocked, "good")))
    assert taken(blocked, "taken") == []
    assert (blocked.directory / "block").exists(), "all of this happened meanwhile"


def test_the_plugin_is_named_with_the_place_that_blocks_it(blocked: RunningGateway) -> None:
    """In the log, in health and in the metrics, for as long as it lasts."""
    line = blocked.wait_for_line("has not answered")
    assert re.search(f"plugin crm: its event loop has not answered for 1 s, blocked at {PLACE.pattern}", line), line
    assert any("in on_event" in line for line in blocked.output), "the calls that led there"
    found = plugin_health(blocked, "crm")
    assert not found["healthy"]
    assert PLACE.search(found["error"]), found
    [provider] = [one for one in health(blocked)["providers"] if one["name"] == "crm"]
    assert PLACE.search(provider["blocked"]), provider
    [sample] = metric(blocked, 'gateway_plugin_blocked_seconds{plugin="crm",at="')
    assert PLACE.search(sample), sample
    assert blocked_seconds(blocked) >= 1
    assert metric(blocked, 'gateway_plugin_blocked_seconds{plugin="good"') == [
        'gateway_plugin_blocked_seconds{plugin="good"} 0.0'
    ]
    (blocked.directory / "block").unlink()
    blocked.wait_for_line("plugin crm: its event loop answers again after ")
    eventually(lambda: bool(plugin_health(blocked, "crm")["healthy"]))
    assert metric(blocked, 'gateway_plugin_blocked_seconds{plugin="crm"') == [
        'gateway_plugin_blocked_seconds{plugin="crm"} 0.0'
    ]


def test_events_behind_a_blocked_loop_wait_without_an_attempt(blocked: RunningGateway) -> None:
    """With two attempts and several timeouts of a second, none of them is a dead letter: they are delivered once the
    loop answers again."""
    with blocked.client() as client:
        ids = [client.post(simulate.encode(simulate.body("payment"))).document["id"] for _ in range(6)]
    blocked.wait_for_line("plugin crm failed: CallTimeout")
    eventually(lambda: blocked_seconds(blocked) >= 6, within=60)
    found = plugin_health(blocked, "crm")
    assert (found["dead"], found["healthy"]) == (0, False)
    (blocked.directory / "block").unlink()
    eventually(lambda: set(ids) <= set(taken(blocked, "taken")), within=60)
    eventually(lambda: plugin_health(blocked, "crm")["parked"] == 0)
    assert blocked.cli("dead", "--json").stdout == ""
    attempts = [json.loads(line)["deliveries"]["crm"] for line in blocked.cli("events", "--json").stdout.splitlines()]
    assert set(attempts) == {"delivered"}


def test_the_deadline_of_a_value_holds_beside_a_blocked_provider(blocked: RunningGateway) -> None:
    """The provider whose loop is blocked answers nothing; the bot gets its failure in time."""
    with blocked.client() as client:
        assert client.ask(["slow"], "123456").status == 504
    line = blocked.wait_for_line("provider crm failed")
    assert re.search(f"its event loop is blocked at {PLACE.pattern}", line), line


def test_a_value_whose_look_up_blocks_is_late(tmp_path: Path) -> None:
    """Also where the look-up itself blocks, and not something before it."""
    (tmp_path / "block").touch()
    with running(tmp_path, TEXT.format(timeout="1s"), plugins=PLUGINS) as gateway, gateway.client() as client:
        assert client.ask(["slow"], "123456").status == 504
        assert client.ask(["balance"], "123456").document == {"balance": "120.50"}
        (tmp_path / "block").unlink()
        eventually(lambda: client.ask(["slow"], "123456").status == 200)


def test_a_blocked_loop_does_not_hold_up_the_shutdown(blocked: RunningGateway) -> None:
    """SIGTERM ends it within its deadline, in order, and the event comes again at the next start."""
    assert blocked.stop() == 0
    assert "killing it" not in blocked.text
    assert re.search(f"plugin crm: its event loop did not end: blocked at {PLACE.pattern}", blocked.text)
    assert "gateway.server: stopped after" in blocked.text
    (blocked.directory / "block").unlink()
    blocked.start()
    eventually(lambda: len(taken(blocked, "taken")) == 1)
