"""Operations on the page Trouble: what goes on and what ended lately."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from asgi import InProcess, in_process
from running import write_plugin
from test_api import message
from test_dashboard import page, see, submit

from gateway.http.dashboard.operation_pages import SHOWN

HOLDING = """
    import asyncio

    from gateway import Reject, hookimpl

    class Plugin:
        taken = 0

        @hookimpl
        async def startup(self, context):
            self.most = context.directory / "most"

        @hookimpl
        async def on_event(self, event):
            while self.taken >= (most := int(self.most.read_text())):
                if most < 0:
                    raise Reject("none")
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # so slow that it gets one event at a time, and each counts at once
            self.taken += 1
"""
CONFIG = "[plugins.holding]\nconcurrency = 1\n"
COUNT = 5
EVERY = 1000
FRAGMENT = (b"hx-request", b"true")


class Holding:
    """The plugin `holding`, which since its start takes at most so many events, and then holds the next one; with
    a number below 0 it rejects them."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "most"
        self.take_at_most(EVERY)

    def take_at_most(self, most: int) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(str(most))
        written.rename(self._file)


@pytest.fixture
def holding(site: Path, tmp_path: Path) -> Holding:
    write_plugin(site, "holding", HOLDING)
    return Holding(tmp_path)


async def begin_replay(gateway: InProcess, holding: Holding) -> int:
    """A replay of `COUNT` delivered events, none of which the plugin takes; its number."""
    for number in range(COUNT):
        assert (await gateway.post(message(number))).status == 200
    while {row.deliveries.get("holding") for row in gateway.events()} != {"delivered"}:
        await asyncio.sleep(0.01)
    holding.take_at_most(COUNT)
    asked = {"kind": "replay", "filter": {"plugin": "holding"}}
    return int((await gateway.manage("POST", "/api/operations", asked)).document["number"])


def line_of(html: str, number: int) -> str:
    """What the page says of an operation, without tags; empty where it says nothing."""
    found = re.search(rf'<li id="operation-{number}".*?</li>', html, re.DOTALL)
    return "" if found is None else " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


async def test_an_operation_is_shown_with_its_progress(tmp_path: Path, holding: Holding) -> None:
    """While it goes on the page asks for it again each second; at its end the page is loaded again. Then it is told
    under what waits for a decision."""
    async with in_process(tmp_path, CONFIG) as gateway, asyncio.timeout(60):
        number = await begin_replay(gateway, holding)
        document, html = await page(gateway, "/trouble")
        assert line_of(html, number).startswith(
            f"{number}: replay running Cancel 0 of {COUNT} done; {COUNT} still to be delivered; it goes on"
        )
        assert "Of plugin holding; begun" in line_of(html, number)
        [asks] = [one["data-hx-get"] for one in document.all("div") if "data-hx-get" in one]
        assert asks == "/operations"
        holding.take_at_most(COUNT + 2)
        while "2 of 5 done; 3 still" not in line_of((found := await see(gateway, asks)).body.decode(), number):
            await asyncio.sleep(0.01)
        assert "hx-refresh" not in found.headers
        holding.take_at_most(EVERY)
        while "hx-refresh" not in (found := await see(gateway, asks, FRAGMENT)).headers:
            await asyncio.sleep(0.01)
        document, html = await page(gateway, "/trouble")
        assert f"{number}: replay finished {COUNT} of {COUNT} done." in line_of(html, number)
        assert not [one for one in document.all("div") if "data-hx-get" in one]
        assert html.index("There is no trouble") < html.index(f"operation-{number}")


async def test_an_operation_is_cancelled_from_the_page(tmp_path: Path, holding: Holding) -> None:
    """With its button; the page then says so. A number that no operation has is not found."""
    async with in_process(tmp_path, CONFIG) as gateway, asyncio.timeout(60):
        number = await begin_replay(gateway, holding)
        document, _ = await page(gateway, "/trouble")
        assert f"/operations/{number}" in [form.get("action") for form in document.all("form")]
        fields = {"token": document.token}
        sending = asyncio.create_task(submit(gateway, f"/operations/{number}", fields))
        while (await gateway.manage("GET", f"/api/operations/{number}")).document["state"] != "cancelled":
            await asyncio.sleep(0.01)
        holding.take_at_most(EVERY)
        sent = await sending
        assert (sent.status, sent.headers["location"]) == (303, f"/trouble?operation={number}")
        document, html = await page(gateway, "/trouble", operation=str(number))
        assert f"{number}: replay cancelled " in line_of(html, number)
        assert f"/operations/{number}" not in [form.get("action") for form in document.all("form")]
        assert (await submit(gateway, "/operations/77", fields)).status == 404
        assert (await submit(gateway, f"/operations/{number}", {"token": "x"})).status == 403


async def test_an_operation_is_shown_again_after_a_restart(tmp_path: Path, holding: Holding) -> None:
    """It goes on, and the page says how far it is."""
    async with asyncio.timeout(100):
        holding.take_at_most(-1)
        async with in_process(tmp_path, CONFIG) as gateway:
            for number in range(COUNT):
                assert (await gateway.post(message(number))).status == 200
            while {row.deliveries.get("holding") for row in gateway.events()} != {"dead"}:
                await asyncio.sleep(0.01)
            holding.take_at_most(0)
            asked = {"kind": "retry", "filter": {"plugin": "holding"}}
            number = int((await gateway.manage("POST", "/api/operations", asked)).document["number"])
        async with in_process(tmp_path, CONFIG) as gateway:
            shown = line_of((await page(gateway, "/trouble"))[1], number)
            assert f"retry of dead letters delivering Cancel {COUNT} of {COUNT} done; {COUNT} still" in shown
            holding.take_at_most(EVERY)
            while f"finished {COUNT} of {COUNT} done." not in line_of((await page(gateway, "/trouble"))[1], number):
                await asyncio.sleep(0.01)


async def test_the_newest_operations_are_shown(tmp_path: Path, holding: Holding) -> None:
    """And every older one that goes on, and the one that the address names; each is awaited by that page only."""
    async with in_process(tmp_path, CONFIG) as gateway, asyncio.timeout(60):
        number = await begin_replay(gateway, holding)
        for _ in range(SHOWN + 2):
            await gateway.manage("POST", "/api/operations", {"kind": "discard", "filter": {}})
        document, html = await page(gateway, "/trouble", operation=str(number + 1))
        shown = [int(one) for one in re.findall(r'id="operation-(\d+)"', html)]
        assert shown == [*range(number + SHOWN + 2, number + 2, -1), number + 1, number]
        [asks] = [one["data-hx-get"] for one in document.all("div") if "data-hx-get" in one]
        assert asks == "/operations"
        document, _ = await page(gateway, "/trouble", operation=str(number))
        [asks] = [one["data-hx-get"] for one in document.all("div") if "data-hx-get" in one]
        assert asks == f"/operations?operation={number}"
        holding.take_at_most(EVERY)
