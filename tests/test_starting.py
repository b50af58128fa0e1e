"""Receiving needs no plugin: what `gateway run` does while a plugin's startup fails, hangs or takes long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_process import run_cli
from raw_http import EVENT
from running import RunningGateway, eventually, write_config, write_plugin

StartGateway = Callable[..., RunningGateway]

THIRD_TRY = """
    import time
    from pathlib import Path
    from gateway import hookimpl

    class Plugin:
        tries = 0

        @hookimpl
        def startup(self, context):
            self.notes = context.directory / "notes"
            self.note("startup")
            Plugin.tries += 1
            if Plugin.tries < 3 or not (context.directory / "up").exists():
                {fails}

        @hookimpl
        def shutdown(self):
            self.note("shutdown")

        @hookimpl
        def on_event(self, event):
            self.note(event.id)

        @hookimpl
        def custom_values(self, request):
            return {{"balance": "120.50"}}

        def note(self, text):
            with self.notes.open("a") as file:
                file.write(text + "\\n")
"""
RAISES = THIRD_TRY.format(fails='raise ConnectionRefusedError("nothing answers, said 447700900123 to bob@example.org")')
BLOCKS = THIRD_TRY.format(fails="time.sleep(3600)")
BLOCKS_ASYNC = THIRD_TRY.replace("        def startup", "        async def startup").format(
    fails="await __import__('asyncio').sleep(3600)"
)
TAKES = """
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        def startup(self, context):
            self.file = context.directory / "taken"

        @hookimpl
        def on_event(self, event):
            self.file.write_text(event.id)
"""
QUICK = 'backoff = "50ms"\nbackoff_max = "100ms"\n'


def ready(gateway: RunningGateway, query: str = "") -> tuple[int, Any]:
    answer = httpx.get(f"{gateway.admin_url}/health/ready{query}")
    return answer.status_code, answer.json()


def metrics(gateway: RunningGateway) -> str:
    return httpx.get(f"{gateway.admin_url}/metrics").text


def notes(directory: Path) -> list[str]:
    file = directory / "notes"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (RAISES, "ConnectionRefusedError at plugin_crm.py:15"),
        (BLOCKS, "CallTimeout: no answer within 0.2 s"),
        (BLOCKS_ASYNC, "CallTimeout: no answer within 0.2 s"),
    ],
    ids=["raises", "blocks", "waits"],
)
def test_a_plugin_that_starts_late(start_gateway: StartGateway, tmp_path: Path, source: str, reason: str) -> None:
    """Events are kept meanwhile, and delivered once it has started; its values are 502 until then. The journal's
    readiness does not depend on it, the strict one does. Each failed startup is cleaned up."""
    text = f'[plugins.crm]\nconcurrency = 64\nstartup_timeout = "200ms"\n{QUICK}[plugins.other]\n'
    gateway = start_gateway(text, plugins={"crm": source, "other": TAKES})
    with gateway.client() as client:
        answer = client.post(EVENT)
        assert answer.status == 200
        assert client.ask(["balance"], "123456").status == 502
        explained = json.loads(gateway.cli("ask", "balance", "--customer", "123456", "--explain", "--json").stdout)
        assert explained["fields"]["balance"] == {"outcome": "starting", "provider": "crm", "ms": 0.0}
        eventually(lambda: (tmp_path / "taken").exists() and (tmp_path / "taken").read_text() == answer.document["id"])

        gateway.wait_for_line(f"plugin crm: startup failed: {reason}; its events wait in the journal, and it is tried")
        assert "447700900123" not in gateway.text
        assert "bob@example.org" not in gateway.text
        status, health = ready(gateway)
        crm, other = health["plugins"]
        assert (status, health["ready"], health["journal"]) == (200, True, "ok")
        assert (crm["state"], crm["healthy"], crm["behind"]) == ("starting", False, 1)
        assert (other["state"], other["healthy"], other["error"]) == ("started", True, None)
        assert [(provider["name"], provider["state"]) for provider in health["providers"]] == [("crm", "starting")]
        status, health = ready(gateway, "?plugins=strict")
        assert (status, health["ready"], health["journal"]) == (503, False, "ok")
        assert 'gateway_plugin_starting{plugin="crm"} 1.0' in metrics(gateway)
        assert 'gateway_plugin_healthy{plugin="crm"} 0.0' in metrics(gateway)

        (tmp_path / "up").touch()
        gateway.wait_for_line("plugin crm: started after ")
        eventually(lambda: answer.document["id"] in notes(tmp_path))
        eventually(lambda: ready(gateway, "?plugins=strict")[0] == 200)
        asked = client.ask(["balance"], "123456")
        assert (asked.status, asked.document) == (200, {"balance": "120.50"})
    assert 'gateway_plugin_starting{plugin="crm"} 0.0' in metrics(gateway)
    failures = re.search(r'gateway_startup_failures_total\{plugin="crm"\} (\d+)', metrics(gateway))
    assert failures is not None
    count = int(failures[1])
    assert count >= 2
    assert gateway.stop() == 0
    *failed, began, event, ended = notes(tmp_path)
    assert (began, event, ended) == ("startup", answer.document["id"], "shutdown")
    assert failed.count("shutdown") == count
    assert 1 <= failed.count("startup") <= count  # a busy machine may call one too late to begin


def test_the_message_is_logged_only_where_the_config_says_so(start_gateway: StartGateway) -> None:
    """With `plugin_messages = true` the reason includes what the exception says."""
    gateway = start_gateway("[log]\nplugin_messages = true\n[plugins.crm]\n", plugins={"crm": RAISES})
    line = gateway.wait_for_line("plugin crm: startup failed: ")
    assert "ConnectionRefusedError at plugin_crm.py:15: nothing answers, said … to bob@example.org" in line


def test_a_startup_that_hangs(start_gateway: StartGateway, tmp_path: Path) -> None:
    """The log says every 5 s what is being waited for, the plugins after it start, commands answer, and SIGTERM ends
    the gateway cleanly and in time."""
    gateway = start_gateway("[plugins.crm]\n[plugins.other]\n", plugins={"crm": BLOCKS, "other": TAKES})
    assert "still starting: crm" in gateway.wait_for_line("ready after ")
    with gateway.client() as client:
        assert client.post(EVENT).status == 200
    eventually((tmp_path / "taken").exists)
    dead = gateway.cli("dead", "retry", "--plugin", "crm", "--yes", "--json")
    assert (dead.returncode, json.loads(dead.stdout)) == (0, {"matched": 0, "done": 0})
    [event] = gateway.cli("events", "--json").stdout.splitlines()
    assert re.search(r'"crm": ?"waiting"', event)
    gateway.wait_for_line("still waiting for plugin crm: its startup has taken 5 s")
    assert gateway.stop() == 0
    assert "did not stop within" not in gateway.text
    assert notes(tmp_path) == ["startup", "shutdown"]
    assert "shutdown failed" not in gateway.text
    assert re.search(r"stopped after \d+\.\d s$", gateway.output[-1])


BLOCKS_ITS_LOOP = """
    import time
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        async def startup(self, context):
            print("starting", flush=True)
            if not (context.directory / "up").exists():
                time.sleep({seconds})

        @hookimpl
        async def shutdown(self):
            pass

        @hookimpl
        async def on_event(self, event):
            print("took", event.id, flush=True)
"""


def test_an_async_startup_that_blocks(start_gateway: StartGateway, tmp_path: Path) -> None:
    """It holds up nothing but its plugin, which starts once its event loop answers again."""
    text = f'[plugins.crm]\nstartup_timeout = "500ms"\n{QUICK}[plugins.other]\n'
    gateway = start_gateway(text, plugins={"crm": BLOCKS_ITS_LOOP.format(seconds=4), "other": TAKES})
    with gateway.client() as client:
        gateway.wait_for_line("starting")
        (tmp_path / "up").touch()
        received = client.post(EVENT).document["id"]
    eventually((tmp_path / "taken").exists)
    assert ready(gateway)[1]["plugins"][0]["state"] == "starting"
    gateway.wait_for_line(f"took {received}")


def test_a_signal_while_an_async_startup_blocks(start_gateway: StartGateway) -> None:
    """The gateway says where, and ends in time."""
    gateway = start_gateway("[plugins.crm]\n", plugins={"crm": BLOCKS_ITS_LOOP.format(seconds=3600)})
    gateway.wait_for_line("starting")
    assert gateway.stop() == 0
    assert "did not stop within" not in gateway.text
    assert "plugin crm: its event loop did not end: blocked at plugin_crm.py:10 in startup" in gateway.text


def test_a_replay_waits_with_the_events(start_gateway: StartGateway, tmp_path: Path) -> None:
    """What an operator asks for while the plugin is starting is delivered after it has started."""
    gateway = start_gateway(f"[plugins.crm]\n{QUICK}", plugins={"crm": RAISES})
    with gateway.client() as client:
        received = client.post(EVENT).document["id"]
    gateway.wait_for_line("plugin crm: startup failed")
    with ThreadPoolExecutor(1) as pool:
        replay = pool.submit(gateway.cli, "replay", "--plugin", "crm", "--yes", "--json")
        eventually(lambda: (tmp_path / "notes").read_text().count("startup") > 4)
        assert not replay.done()
        (tmp_path / "up").touch()
        assert json.loads(replay.result().stdout) == {"matched": 1, "done": 1}
    assert notes(tmp_path).count(received) == 2


def test_a_plugin_that_takes_events_from_now_on_misses_none(start_gateway: StartGateway, tmp_path: Path) -> None:
    """A new plugin begins with the first event after the gateway's start, not after its own, also where the gateway
    was stopped meanwhile."""
    gateway = start_gateway(f"[plugins.crm]\n{QUICK}", plugins={"crm": RAISES})
    with gateway.client() as client:
        answer = client.post(EVENT)
    gateway.wait_for_line("plugin crm: startup failed")
    assert gateway.stop() == 0
    (tmp_path / "up").touch()
    gateway.start()
    eventually(lambda: answer.document["id"] in notes(tmp_path))


def test_a_wrong_config_opens_nothing(tmp_path: Path) -> None:
    """Exit code 78 and the fault, before a plugin starts."""
    write_plugin(tmp_path / "site", "crm", RAISES)
    config = write_config(tmp_path, '[plugins.crm]\nstartup_timeout = "soon"\n')
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    fault = 'expected a duration such as "30s", "5m" or "24h", found "soon"'
    ran = run_cli(["run", "-c", config], environment=environment)
    assert (ran.returncode, ran.stdout) == (78, "")
    assert ran.stderr == f"{config}: plugins.crm.startup_timeout: {fault}\n"
    checked = run_cli(["check", "--json", "-c", config], environment=environment)
    assert checked.returncode == 78
    assert json.loads(checked.stdout)["errors"] == [{"path": "plugins.crm.startup_timeout", "message": fault}]
    assert notes(tmp_path) == []


@pytest.mark.parametrize("query", ["?plugins=stict", "?plugins="])
def test_a_misspelt_readiness_is_refused(start_gateway: StartGateway, query: str) -> None:
    """It must not look like the strict one that succeeds."""
    gateway = start_gateway()
    status, problem = ready(gateway, query)
    assert (status, problem["detail"]) == (400, "plugins can only be strict")
