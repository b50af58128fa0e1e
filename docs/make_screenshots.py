"""Makes the pictures in docs/screenshots, of a gateway that runs in this process with sample data and a clock that is
moved through an hour: `make screenshots`. Also prints how long an event takes from its 200 until an open page shows it.
Needs Chromium, on the path or named by `WEBIO_GATEWAY_CHROMIUM`."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import Page, async_playwright

from gateway import simulate
from gateway.config.tables import Config
from gateway.http.access import Access
from gateway.http.admin import create_admin
from gateway.http.app import create_app
from gateway.preflight import sound_config
from gateway.reload import Reloader
from gateway.service import Gateway
from gateway.serving.listener import Listener, connection_limits, obtain

FOLDER: Final = Path(__file__).parent / "screenshots"
MOST: Final = 150_000
"""Bytes of a picture."""
WITHIN: Final = 60.0
MINUTES: Final = 55
WIDTH: Final = 1200
CONFIG: Final = """
[server]
port = {public}
[admin]
port = {admin}
[node]
name = "gateway-1"
[values]
audit = true
[organisations.acme]
secrets = [{{ file = "webio.secret" }}]
[plugins.archive]
directory = "archive"
[plugins.crm]
file = "crm.py"
[plugins.static_values.values]
balance = "120.50"
"""
CRM: Final = """
from gateway import Reject, hookimpl


class Crm:
    @hookimpl
    async def on_event(self, event):
        if event.hook == "payment" and event.customer_uid in ("100003", "100017", "100031"):
            raise Reject("the account is closed")
"""


class Clock:
    """A clock that is behind, until it has caught up."""

    def __init__(self, behind: float) -> None:
        self.behind = behind

    def __call__(self) -> float:
        return time.time() - self.behind


@asynccontextmanager
async def serving(folder: Path, clock: Clock) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway with this clock, and the address of its dashboard."""
    for name, text in (("webio.secret", "a secret of the pictures, 32 bytes long\n"), ("crm.py", CRM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    public, admin = _free_ports()
    (folder / "config.toml").write_text(CONFIG.format(public=public, admin=admin))
    examined = sound_config(folder / "config.toml")
    config = examined.config
    gateway = Gateway(config, examined.plugins, clock=clock)
    await gateway.start(lambda failure: sys.exit(str(failure)))
    limits, access = connection_limits(), Access(config.admin, time.monotonic)
    webhooks = Listener(create_app(gateway), limits[0], gateway.metrics, take=gateway.receiver.take)
    operators = Listener(create_admin(gateway, Reloader(gateway), access), limits[1], gateway.metrics)
    await webhooks.start(obtain(-1, config.server), None)
    await operators.start(obtain(-1, config.admin), None)
    try:
        yield gateway, f"http://127.0.0.1:{admin}"
    finally:
        gateway.drain()
        await asyncio.gather(webhooks.drain(), operators.drain())
        await gateway.stop()


async def fill(gateway: Gateway, url: str, clock: Clock) -> None:
    """An hour of conversations, some in each minute."""
    customer = 100_000
    for minute in range(MINUTES - 1):
        for _ in range((minute * minute // 3 + minute) % 4 // 2 + minute % 5 // 4):
            customer += 1
            await asyncio.to_thread(_converse, gateway.config, f"{customer}")
        clock.behind -= 60
        gateway.rates.close_minute()
    clock.behind = 0.0
    await asyncio.to_thread(_converse, gateway.config, "100003")
    await _wait(lambda: "dead letters wait for a decision" in " ".join(_ask(url, "/api/status")["problems"]))
    await _wait(lambda: not any(plugin["waiting"] for plugin in _ask(url, "/api/status")["plugins"]))
    asked = {"kind": "replay", "filter": {"plugin": "archive", "hook": "payment"}}
    answer = await asyncio.to_thread(httpx.post, f"{url}/api/operations", json=asked)
    answer.raise_for_status()
    await _wait(lambda: _ask(url, "/api/operations")["items"][0]["finished"])


def _converse(config: Config, customer: str) -> None:
    with simulate.Client(config, "acme") as client:
        for hook, body in simulate.conversation(customer_uid=customer):
            client.post(simulate.encode(body), hook)
        client.ask(["balance"], customer)


async def take(page: Page, url: str) -> None:
    """The pictures. Each begins on its page, not on where the last one led."""
    event = (await asyncio.to_thread(_ask, url, "/api/events?state=dead"))["items"][-1]["id"]
    for name, path, height in (
        ("now", "/", 1060),
        ("find", "/find?q=customer:100003", 640),
        ("event", f"/events/{event}", 800),
        ("timeline", f"/timeline?event={event}", 640),
        ("trouble", "/trouble", 640),
    ):
        await page.set_viewport_size({"width": WIDTH, "height": height})
        await page.goto(url + path)
        await page.wait_for_load_state("load")
        await page.evaluate("document.fonts.ready")
        picture = await page.screenshot(animations="disabled", caret="hide")
        if len(picture) > MOST:
            sys.exit(f"{name}.png has {len(picture)} bytes; expected at most {MOST}: make the window smaller")
        (FOLDER / f"{name}.png").write_bytes(picture)
        sys.stdout.write(f"{name}.png: {len(picture)} bytes\n")


async def time_news(page: Page, gateway: Gateway, url: str) -> None:
    """Print how long an event takes from its 200 until the page Find, open in a browser, shows it."""
    await page.goto(f"{url}/find")
    await page.get_by_text("Live.").wait_for()
    body = simulate.encode(simulate.body("payment", conversation_id="just-now"))

    def send() -> float:
        with simulate.Client(gateway.config, "acme") as client:
            answer = client.post(body)
            if answer.status != 200:
                sys.exit(f"the gateway answered {answer.status}")
            return time.monotonic()

    answered = await asyncio.to_thread(send)
    await page.get_by_text("just-now").first.wait_for()
    sys.stdout.write(f"from the 200 until Find shows the event: {1000 * (time.monotonic() - answered):.0f} ms\n")


def _ask(url: str, path: str) -> Any:
    return httpx.get(url + path).raise_for_status().json()


async def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not await asyncio.to_thread(holds):
        if time.monotonic() > deadline:
            sys.exit(f"the sample data was not delivered within {WITHIN:g} s")
        await asyncio.sleep(0.1)


def _free_ports() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return [int(listening.getsockname()[1]) for listening in (one, two)]


async def main() -> None:
    """Write all pictures anew."""
    chromium = os.environ.get("WEBIO_GATEWAY_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium on the path, and WEBIO_GATEWAY_CHROMIUM names none")
    FOLDER.mkdir(exist_ok=True)
    clock = Clock(MINUTES * 60)
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), clock) as (gateway, url), async_playwright() as playwright:
            await fill(gateway, url, clock)
            browser = await playwright.chromium.launch(executable_path=chromium)
            page = await browser.new_page(color_scheme="light")
            await take(page, url)
            await time_news(page, gateway, url)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
