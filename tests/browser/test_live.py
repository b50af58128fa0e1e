"""Pages that are open, in a real Chromium: they show what is new, and are steered with keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsing import Tab, chromium
from playwright.sync_api import Browser
from running import RunningGateway, eventually, running

pytestmark = pytest.mark.timeout(400)  # on a busy machine

CONFIG = """
    [plugins.archive]
    directory = "archive"
    [plugins.static_values.values]
    balance = "120.50"
"""
HIDE = """(hidden) => { Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange")); }"""
OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the file: while it runs, no other test of the worker can have an event loop of its own."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("live"), CONFIG) as gateway:
        assert gateway.cli("send", "--all").returncode == 0
        yield gateway


@pytest.fixture
def open_tab(browser: Browser, gateway: RunningGateway) -> Iterator[OpenTab]:
    """Opens a tab at a path, with the arguments of `Tab` after its URL."""
    with ExitStack() as stack:

        def opened(path: str, **options: Any) -> Tab:
            tab = Tab(browser, gateway.admin_url, **options)
            stack.callback(tab.close)
            tab.go(path)
            return tab

        yield opened


def received(tab: Tab) -> int:
    return int(tab.page.locator("#events-received").inner_text())


def send(gateway: RunningGateway, conversation: str) -> None:
    sent = gateway.cli("send", "payment", "--field", f"conversationId={conversation}")
    assert sent.returncode == 0, sent.stderr


def test_an_event_shows_itself(gateway: RunningGateway, open_tab: OpenTab) -> None:
    """On Now and on Find, without loading the page again, and without losing the focus or what is open."""
    now, find = open_tab("/"), open_tab("/find")
    for tab in (now, find):
        tab.page.get_by_text("Live.").wait_for()
        tab.page.evaluate("window.same = true")
    now.page.get_by_text("As a table").first.click()
    find.page.locator("a[data-row]").first.focus()
    row = find.page.evaluate("document.activeElement.getAttribute('href')")
    before = received(now)
    send(gateway, "live-1")
    find.wait_for("live-1")
    eventually(lambda: received(now) == before + 1, within=90)
    assert now.page.locator("details[open]").count() == 1
    assert find.page.evaluate("document.activeElement.getAttribute('href')") == row
    for tab in (now, find):
        assert tab.page.evaluate("window.same") is True
        assert tab.faults == []


def test_a_hidden_tab_rests(gateway: RunningGateway, open_tab: OpenTab) -> None:
    """It has no stream and asks for nothing until it is seen again; then it shows what came meanwhile."""
    tab = open_tab("/find")
    tab.page.get_by_text("Live.").wait_for()
    tab.page.evaluate(HIDE, True)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    send(gateway, "hidden-1")
    shown = open_tab("/find")
    shown.wait_for("hidden-1")
    assert asked == []
    assert tab.page.get_by_text("hidden-1").count() == 0
    tab.page.evaluate(HIDE, False)
    tab.wait_for("hidden-1")


def test_a_tab_without_a_stream_asks(gateway: RunningGateway, open_tab: OpenTab) -> None:
    """Every few seconds, where a stream is refused, as it is for too many tabs."""
    tab = open_tab("/values")
    tab.page.route("**/changes", lambda route: route.fulfill(status=204))
    tab.go("/find")
    tab.page.get_by_text("Asks for news every 5 s.").wait_for()
    send(gateway, "polled-1")
    tab.wait_for("polled-1")


def test_a_page_waits_for_a_restart_of_the_gateway(gateway: RunningGateway, open_tab: OpenTab) -> None:
    """It says so; then it goes on, without being loaded again."""
    tab = open_tab("/find")
    tab.page.get_by_text("Live.").wait_for()
    assert gateway.stop() == 0
    tab.page.get_by_text("The gateway does not answer").wait_for()
    gateway.start()
    tab.page.get_by_text("Live.").wait_for()
    send(gateway, "restarted-1")
    tab.wait_for("restarted-1")


def test_charts_are_drawn(gateway: RunningGateway, open_tab: OpenTab) -> None:
    """In the colours of the page, for those who see them; the same is in a table for those who do not."""
    for dark in (False, True):
        tab = open_tab("/?span=day", dark=dark)
        tab.page.locator("#events canvas").wait_for()
        drawn = "document.querySelector('#events canvas').toDataURL().length"
        assert tab.page.evaluate(drawn) > 2000
        tab.page.get_by_text("As a table").first.click()
        assert tab.page.get_by_role("columnheader", name="payment").count() >= 1
        assert tab.faults == []


def test_keys_go_everywhere(open_tab: OpenTab) -> None:
    """`g` and a letter to a page, `j` and `k` through rows, Enter into one, `?` to a list of all of them."""
    tab = open_tab("/")
    keyboard = tab.page.keyboard
    for letter, path in (
        ("t", "/trouble"),
        ("v", "/values"),
        ("d", "/drift"),
        ("c", "/config"),
        ("n", "/"),
        ("f", "/find"),
    ):
        keyboard.press("g")
        keyboard.press(letter)
        tab.page.wait_for_url(f"**{path}")
    rows = tab.page.locator("a[data-row]")
    links = [rows.nth(number).get_attribute("href") for number in range(3)]

    def focused() -> str | None:
        found = tab.page.evaluate("document.activeElement.getAttribute('href')")
        return None if found is None else str(found)

    seen = []
    for key in "jjjkk":
        keyboard.press(key)
        seen.append(focused())
    assert seen == [*links, links[1], links[0]]
    keyboard.press("?")
    dialog = tab.page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    assert tab.unusable() == []
    keyboard.press("g")
    keyboard.press("n")
    keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    keyboard.press("j")
    here = focused()
    keyboard.press("Enter")
    tab.page.wait_for_url(f"**{here}")
    keyboard.press("/")
    keyboard.type("jgn?")
    assert tab.page.get_by_label("Find").input_value() == "jgn?"
    assert tab.faults == []


def test_a_timeline_is_copied_and_downloaded(gateway: RunningGateway, open_tab: OpenTab, tmp_path: Path) -> None:
    """As lines of text, and as a file without personal data."""
    send(gateway, "copied-1")
    tab = open_tab("/timeline?conversation=copied-1")
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.page.get_by_role("button", name="Copy as text").click()
    tab.page.get_by_role("button", name="Copied").wait_for()
    text = tab.page.evaluate("navigator.clipboard.readText()")
    assert text.count("\n") == 0
    assert text.endswith("a payment came in")
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Download without personal data").click()
    download.value.save_as(tmp_path / "lines")
    [line] = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert (line["hook"], line["conversation"]) == ("payment", "conversation 1")


def test_a_value_is_tried(open_tab: OpenTab) -> None:
    """Masked, until it is revealed."""
    tab = open_tab("/values")
    tab.page.get_by_label("Fields").fill("balance")
    tab.page.get_by_label("Customer UID").fill("123456")
    tab.page.get_by_role("button", name="Ask", exact=True).click()
    tab.wait_for("would get 200")
    assert "120.50" not in tab.page.content()
    tab.page.get_by_role("button", name="Ask again and reveal").click()
    tab.wait_for("120.50")
    assert (tab.unusable(), tab.faults) == ([], [])
