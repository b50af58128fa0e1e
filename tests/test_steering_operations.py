"""Operations: they outlive a crash, and can be cancelled while plugins work on them."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from asgi import InProcess, in_process
from journal_kit import message, put_together, take
from running import RunningGateway, eventually, running, write_plugin

from gateway.config.tables import Config
from gateway.journal import open_journal, open_reader
from gateway.journal.interface import DEAD, Filter, Parked, Settlement, Track
from gateway.journal.operator import StoredOperation
from gateway.journal.sqlite.journal import SqliteJournal

COUNT = 6000
CUSTOMER = "uid-5551905"
SHOP = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    def on_event(self, event):
        pass

    @hookimpl
    def forget(self, selector):
        return 2
"""


async def fill(config: Config) -> None:
    """Many events, half of them about one customer, and each a dead letter of the plugin shop."""
    journal = open_journal(config)
    assert isinstance(journal, SqliteJournal)
    await journal.start()
    try:
        customers = [CUSTOMER, "other"]
        await put_together(journal, [message(customerUID=customers[n % 2], n=str(n)) for n in range(COUNT)])
        standing = await take(journal, "shop")
        parked = [Parked(seq=seq, state=DEAD, attempts=12, error="OSError") for seq in range(1, COUNT + 1)]
        track, epoch = Track("shop"), standing.epoch
        await journal.settle(Settlement(track=track, epoch=epoch, cursor=COUNT, park=parked))
        await journal.release_cursor(track, epoch, clean=True)
    finally:
        await journal.close()


def ask(gateway: RunningGateway, method: str, path: str, document: Any = None) -> Any:
    return httpx.request(method, gateway.admin_url + path, json=document, timeout=60).json()


def kept(gateway: RunningGateway, number: int) -> StoredOperation:
    with closing(open_reader(gateway.config)) as reader:
        found = reader.operation(number)
        assert found is not None
        return found


@pytest.mark.parametrize("kind", ["retry", "discard", "forget", "replay"])
def test_an_operation_goes_on_after_a_kill(tmp_path: Path, kind: str) -> None:
    """By itself, to its end, with true counts; what it changes is changed for all that matched."""
    with running(tmp_path, "[plugins.shop]\n", plugins={"shop": SHOP}) as gateway:
        gateway.stop()
        asyncio.run(fill(gateway.config))
        gateway.start()
        which = {"forget": {"customer": CUSTOMER}, "replay": {"plugin": "shop"}}.get(kind, {})
        matched = COUNT // 2 if kind == "forget" else COUNT
        started = ask(gateway, "POST", "/api/operations", {"kind": kind, "filter": which})
        assert started["matched"] == matched
        gateway.kill()
        gateway.start()
        path = f"/api/operations/{started['number']}"
        eventually(lambda: ask(gateway, "GET", path)["finished"], within=120)
        told = ask(gateway, "GET", path)
        assert (told["state"], told["matched"], told["done"]) == ("finished", matched, matched)
        with closing(open_reader(gateway.config)) as reader:
            assert reader.count_dead(Filter()) == (0 if kind == "replay" else COUNT - matched)
            assert reader.count(Filter()) == (COUNT - matched if kind == "forget" else COUNT)
        if kind == "forget":
            assert (told["filter"], told["plugins"]) == ("erased", {"shop": 2})
            files = [file for file in tmp_path.rglob("journal*") if CUSTOMER.encode() in file.read_bytes()]
            assert files == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_without_a_gateway_an_operation_goes_on_with_the_next_start(tmp_path: Path) -> None:
    """What a command has begun is carried out by the gateway."""
    with running(tmp_path, "[plugins.shop]\n", plugins={"shop": SHOP}) as gateway:
        gateway.stop()
        asyncio.run(fill(gateway.config))

        async def begin() -> int:
            journal = open_journal(gateway.config)
            await journal.start()
            number = (await journal.begin("discard", Filter())).number
            await journal.advance(number)
            await journal.close()
            return number

        number = asyncio.run(begin())
        assert kept(gateway, number).done == 1000
        assert f"discard  running  1000  {COUNT}" in gateway.cli("operations").stdout
        gateway.start()
        eventually(lambda: kept(gateway, number).state == "finished", within=60)
        assert kept(gateway, number).done == COUNT


GATED = """
    import threading
    from gateway import Reject, hookimpl

    rejects, gate, got = [True], threading.Event(), []

    class Plugin:
        @hookimpl
        def on_event(self, event):
            if rejects:
                raise Reject("not now")
            got.append(event.id)
            gate.wait(60)
"""


@pytest.fixture
def gated(site: Path) -> Iterator[ModuleType]:
    """A plugin that rejects every event, and once `rejects` is empty, keeps each until its gate is open."""
    write_plugin(site, "gated", GATED)
    module = importlib.import_module("plugin_gated")
    yield module
    module.gate.set()


async def dead_letters(gateway: InProcess, count: int) -> None:
    for number in range(count):
        body = f'{{"type":"payment","conversationId":"7","n":{number}}}'
        assert (await gateway.post(body.encode())).status == 200
    async with asyncio.timeout(30):
        while await gateway.gateway.journal.count_dead(Filter()) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_cancelled_retry_hands_out_no_more(tmp_path: Path, gated: ModuleType, in_order: bool) -> None:
    """What the plugin has stays with it, and is delivered; the rest are dead letters as before."""
    text = "[plugins.gated]\nconcurrency = 1\ntimeout = '60s'\n"
    async with in_process(tmp_path, text) as gateway, asyncio.timeout(60):
        await dead_letters(gateway, 300)
        gated.rejects.clear()
        asked = {"kind": "retry", "filter": {"plugin": "gated"}, "in_order": in_order}
        number = (await gateway.manage("POST", "/api/operations", asked)).document["number"]
        while not gated.got:
            await asyncio.sleep(0.01)
        answer = await gateway.manage("DELETE", f"/api/operations/{number}")
        told = answer.document
        assert (answer.status, told["state"], told["matched"], told["finished"]) == (200, "cancelled", 300, True)
        assert told["done"] < 300
        if in_order:
            assert told["done"] == 1
        gated.gate.set()
        while True:
            states = [row.deliveries["gated"] for row in gateway.events()]
            if states.count("delivered") == told["done"]:
                break
            await asyncio.sleep(0.01)
        assert states.count("dead") == 300 - told["done"]
        if in_order:
            assert states[0] == "delivered"
        assert len(gated.got) == told["done"]
        reader = open_reader(gateway.config)
        assert {row.attempts for row in reader.dead(Filter())} == {1}
        reader.close()
        again = await gateway.manage("DELETE", f"/api/operations/{number}")
        assert (again.status, again.document) == (200, {**told, "left": 0})
        assert (await gateway.operate("retry", {}))["done"] == 300 - told["done"]


async def test_a_cancelled_replay_hands_out_no_more(tmp_path: Path, gated: ModuleType) -> None:
    """The answer waits for what the plugin has, and says how many it has got."""
    text = "[plugins.gated]\nconcurrency = 1\ntimeout = '60s'\n"
    async with in_process(tmp_path, text) as gateway, asyncio.timeout(60):
        await dead_letters(gateway, 300)
        gated.rejects.clear()
        asked = {"kind": "replay", "filter": {"plugin": "gated"}}
        numbers = [(await gateway.manage("POST", "/api/operations", asked)).document["number"] for _ in range(2)]
        while not gated.got:
            await asyncio.sleep(0.01)
        second = (await gateway.manage("DELETE", f"/api/operations/{numbers[1]}")).document
        assert (second["state"], second["done"]) == ("cancelled", 0)
        cancelling = asyncio.create_task(gateway.manage("DELETE", f"/api/operations/{numbers[0]}"))
        await asyncio.sleep(0.05)
        gated.gate.set()
        told = (await cancelling).document
        assert (told["state"], told["matched"], told["finished"]) == ("cancelled", 300, True)
        assert 0 < told["done"] < 300
        assert told["done"] == len(gated.got)
        listed = (await gateway.manage("GET", "/api/operations")).document["items"]
        assert [one["number"] for one in listed] == numbers[::-1]
        assert (await gateway.operate("replay", {"plugin": "gated"}))["done"] == 300


async def test_a_replay_that_was_cancelled_from_elsewhere_hands_out_no_more(tmp_path: Path, gated: ModuleType) -> None:
    """As with a journal that other gateways use, too: this one looks at it again once something has changed."""
    text = "[plugins.gated]\nconcurrency = 1\ntimeout = '60s'\n"
    async with in_process(tmp_path, text) as gateway, asyncio.timeout(60):
        await dead_letters(gateway, 300)
        gated.rejects.clear()
        asked = {"kind": "replay", "filter": {"plugin": "gated"}}
        number = (await gateway.manage("POST", "/api/operations", asked)).document["number"]
        while not gated.got:
            await asyncio.sleep(0.01)
        await gateway.gateway.journal.cancel(number)
        await gateway.gateway.delivery.refresh()
        gated.gate.set()
        while not gateway.gateway.delivery.consumers["gated"].idle:
            await asyncio.sleep(0.01)
        operation = await gateway.gateway.journal.operation(number)
        assert operation is not None
        assert (operation.state, operation.done) == ("cancelled", len(gated.got))
        assert len(gated.got) < 300


async def test_an_operation_that_there_is_not_cannot_be_cancelled(tmp_path: Path) -> None:
    """404, as for its progress."""
    async with in_process(tmp_path) as gateway:
        for number in ("1", "x", "9" * 30):
            assert (await gateway.manage("DELETE", f"/api/operations/{number}")).status == 404


HANGS = """
import time
from pathlib import Path
from gateway import hookimpl

class Plugin:
    @hookimpl
    def startup(self, context):
        self.directory = Path(context.directory)

    @hookimpl
    def on_event(self, event):
        while not (self.directory / "open").exists():
            time.sleep(0.01)
"""


def test_ctrl_c_says_that_the_operation_goes_on(tmp_path: Path) -> None:
    """And how to cancel it, which then works."""
    from cli_process import CliProcess

    with running(tmp_path, '[plugins.shop]\ntimeout = "10m"\n', plugins={"shop": HANGS}) as gateway:
        with gateway.client() as client:
            assert client.post(message()).status == 200
        (tmp_path / "open").touch()
        eventually(lambda: "delivered" in gateway.cli("events", "--json").stdout)
        (tmp_path / "open").unlink()
        output, theirs = os.pipe()
        process = CliProcess(
            ["replay", "--plugin", "shop", "-c", gateway.config_path],
            stdout=theirs,
            stderr=theirs,
            environment={},
            directory=tmp_path,
            new_session=True,
        )
        os.close(theirs)
        eventually(lambda: '"kind":"replay"' in gateway.cli("operations", "--json").stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        with os.fdopen(output) as read:
            said = read.read()
        assert said.strip() == (
            "operation 1 goes on in the gateway; `gateway operations` shows it, and `gateway operations cancel 1`"
            " cancels it"
        )
        (tmp_path / "open").touch()
        cancelled = gateway.cli("operations", "cancel", "1")
        assert cancelled.returncode == 0
        assert cancelled.stdout.startswith("operation 1 (replay) is ")
        missing = gateway.cli("operations", "cancel", "77")
        assert (missing.returncode, "404" in missing.stderr) == (1, True)


def test_without_a_gateway_operations_are_listed_and_cancelled(tmp_path: Path) -> None:
    """A replay that waits for the next start is not delivered then."""
    with running(tmp_path, "[plugins.shop]\n", plugins={"shop": SHOP}) as gateway:
        with gateway.client() as client:
            assert client.post(message()).status == 200
        gateway.stop()
        assert gateway.cli("operations").stderr == "there are no operations\n"
        assert "after the next start" in gateway.cli("replay", "--plugin", "shop").stdout
        assert gateway.cli("operations", "cancel", "1").stdout == "operation 1 (replay) is cancelled: 0 of 1 done\n"
        missing = gateway.cli("operations", "cancel", "2")
        assert (missing.returncode, missing.stderr) == (
            1,
            "no operation has the number 2; `gateway operations` lists them\n",
        )
        assert "replay  cancelled  0" in gateway.cli("operations").stdout
