"""The dashboard of a running gateway in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from browsing import Session, Tab, chromium
from playwright.sync_api import Browser
from running import RunningGateway, eventually, running

from gateway import simulate

pytestmark = pytest.mark.timeout(400)  # on a busy machine

PASSWORD = "a password of the tests"
VIEWER = "the viewer's password"
PHONE = "447700900987"
CUSTOMER = "CUSTOMER-778899"
TEXT = "the customer's own words"
CONVERSATION = "97847"
PAGES = ("/", "/find", "/trouble", "/values", "/drift", "/config")
PICKY = """
    import asyncio

    from gateway import Reject, hookimpl

    class Plugin:
        @hookimpl
        async def startup(self, context):
            self.shut, self.held = context.directory / "shut", context.directory / "held"

        @hookimpl
        async def on_event(self, event):
            if self.shut.exists():
                raise Reject("no room on disk")
            while self.held.exists() and event.id not in self.held.read_text():
                await asyncio.sleep(0.05)
"""
CONFIG = """
    [values]
    audit = true

    [plugins.archive]
    directory = "archive"
    [plugins.picky]
    [plugins.static_values.values]
    balance = "120.50"
"""
NewTab = Callable[..., Tab]


class Site(NamedTuple):
    """A gateway with an event of each kind. The plugin picky takes none while the file `shut` is there, and while the
    file `held` is there only those that it names."""

    gateway: RunningGateway
    event: str

    @property
    def shut(self) -> Path:
        return self.gateway.directory / "shut"

    @property
    def held(self) -> Path:
        return self.gateway.directory / "held"

    def send(self, hook: str = "inbound-message", **fields: Any) -> str:
        """Send an event of the customer; its id."""
        body = simulate.body(hook, conversation_id=CONVERSATION, customer_uid=CUSTOMER)
        sent = {**body, "outboundChannelAddress": PHONE, "body": TEXT, **fields}
        with self.gateway.client() as client:
            answer = client.post(simulate.encode(sent))
        assert answer.status == 200
        return str(answer.document["id"])

    def ask(self, path: str) -> Any:
        """An answer of the API."""
        return httpx.get(f"{self.gateway.admin_url}{path}", auth=("", PASSWORD)).raise_for_status().json()

    def compares_passwords(self) -> bool:
        """Whether a password is looked at: after a wrong one, no other is for a second."""
        return httpx.get(f"{self.gateway.admin_url}/api/status", auth=("", PASSWORD)).status_code == 200

    def dead(self) -> list[str]:
        """The ids of the dead letters."""
        return [row["id"] for row in self.ask("/api/events?state=dead")["items"]]

    def send_delivered(self) -> str:
        """Send an event that every plugin takes; its id."""
        event = self.send()
        eventually(lambda: set(self.ask(f"/api/events/{event}")["deliveries"].values()) == {"delivered"}, within=30)
        return event

    def send_dead(self) -> str:
        """Send an event that becomes a dead letter; its id."""
        self.shut.touch()
        event = self.send()
        eventually(lambda: event in self.dead(), within=30)
        self.shut.unlink()
        return event

    def audited(self, what: str) -> int:
        """How many lines of the log have these words."""
        return sum(what in line for line in list(self.gateway.output))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the file: while it runs, no other test of the worker can have an event loop of its own."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("browser")
    for name, text in (("password", PASSWORD), ("viewer", VIEWER)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    admin = 'password = { file = "password" }\nviewer_password = { file = "viewer" }'
    with running(directory, CONFIG, plugins={"picky": PICKY}, admin=admin) as gateway:
        site = Site(gateway, "")
        site.send("payment", amount="120.50")
        site.send(type="brandNew")
        site.send(communicationActionId={"not": "a text"})
        with gateway.client() as client:
            assert client.ask(["balance"], CUSTOMER, PHONE).status == 200
        site.send_dead()
        yield site._replace(event=site.send_delivered())


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    """What a browser keeps of its sign-in, by the password."""
    return {}


@pytest.fixture
def new_tab(browser: Browser, site: Site, sessions: dict[str, Session]) -> Iterator[NewTab]:
    """Opens tabs of a browser that has signed in, once with each password, with the arguments of `Tab` after its
    URL."""
    with ExitStack() as stack:

        def open_tab(password: str = PASSWORD, **options: Any) -> Tab:
            tab = Tab(browser, site.gateway.admin_url, session=sessions.get(password), **options)
            stack.callback(tab.close)
            if password not in sessions:
                tab.sign_in(password)
                sessions[password] = tab.session()
            return tab

        yield open_tab


def every_page(site: Site) -> list[str]:
    return [*PAGES, f"/events/{site.event}", f"/timeline?conversation={CONVERSATION}", "/find?q=state:dead"]


# Every page


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 320)])
def test_no_page_complains(site: Site, new_tab: NewTab, dark: bool, width: int) -> None:
    """Nothing in the console, no failed script or request, no report of the content security policy; axe finds nothing
    serious or critical, in light and in dark; and no page scrolls sideways, on a phone, either."""
    tab = new_tab(dark=dark, width=width)
    for path in every_page(site):
        tab.go(path)
        assert tab.page.get_by_role("heading", level=1).count() == 1, path
        assert (path, tab.unusable()) == (path, [])
        assert (path, tab.overflow()) == (path, 0)
        assert (path, tab.faults) == (path, [])


def test_a_tab_notices_what_a_page_complains_of(new_tab: NewTab) -> None:
    """Else the test above would prove nothing: an inline script is not run, and a page without a label is found."""
    tab = new_tab()
    tab.go("/config")  # a page that does not make itself anew
    script = """() => { const one = document.createElement("script");
        one.textContent = "document.title = 'it ran'"; document.body.append(one); }"""
    tab.page.evaluate(script)
    assert tab.page.title() != "it ran"
    eventually(lambda: tab.page.title() != "" and any("CSP script-src" in fault for fault in tab.faults))
    tab.page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert any(one.startswith("label: <input>") for one in tab.unusable())


def test_the_sign_in_page(site: Site, browser: Browser) -> None:
    """Is sound as well, narrow and in the dark; a wrong password is said."""
    tab = Tab(browser, site.gateway.admin_url, dark=True, width=320)
    try:
        tab.go("/find")
        assert tab.path == "/sign-in?next=/find"
        assert (tab.unusable(), tab.overflow(), tab.faults) == ([], 0, [])
        assert tab.focused.startswith("The password")
        tab.page.keyboard.type("not this one")
        tab.page.keyboard.press("Enter")
        tab.page.get_by_role("alert").wait_for()
        assert tab.page.get_by_role("alert").inner_text() == "the password is wrong"
    finally:
        tab.close()
        eventually(site.compares_passwords, within=30)


def test_a_link_signs_in(site: Site, browser: Browser) -> None:
    """Without a password; it is in neither the address of the page nor its referrer."""
    tab = Tab(browser, site.gateway.admin_url)
    try:
        made = site.gateway.cli("open", "--print")
        assert made.returncode == 0, made.stderr
        tab.page.goto(made.stdout.strip())
        tab.page.get_by_role("button", name="Sign out").wait_for()
        assert (tab.path, tab.page.evaluate("document.referrer")) == ("/", "")
        assert (tab.unusable(), tab.faults) == ([], [])
    finally:
        tab.close()


# What an operator does


def test_the_environment_is_checked(new_tab: NewTab) -> None:
    """With a button of Config."""
    tab = new_tab()
    tab.go("/config")
    tab.page.get_by_role("button", name="Check everything now").click()
    tab.wait_for("Databases, folders and ports were checked, too.")
    assert (tab.unusable(), tab.faults) == ([], [])


def test_a_viewer_may_look_only(site: Site, new_tab: NewTab) -> None:
    """Every page is sound and masked, and has no button for a change."""
    tab = new_tab(VIEWER)
    for path in every_page(site):
        tab.go(path)
        shown = tab.page.content()
        assert [one for one in (PHONE, CUSTOMER, TEXT) if one in shown] == [], path
        buttons = set(tab.page.get_by_role("button").all_inner_texts())
        changes = ("Reveal", "Deliver", "Retry", "Discard", "Cancel", "Check", "Ask")
        assert (path, [one for one in buttons if one.startswith(changes)]) == (path, [])
        assert (path, tab.faults) == (path, [])
    assert "You are signed in as a viewer" in tab.page.content()


def test_a_dead_letter_is_retried(site: Site, new_tab: NewTab) -> None:
    """With the buttons of Trouble; the page tells what came of it."""
    site.send_dead()
    tab = new_tab()
    tab.go("/trouble")
    count = len(site.dead())
    tab.page.get_by_role("button", name=f"Retry all {count}").first.click()
    tab.wait_for(f"{count} of {count} done")
    eventually(lambda: site.dead() == [], within=30)
    assert tab.faults == []


def test_dead_letters_are_chosen(site: Site, new_tab: NewTab) -> None:
    """With check boxes, all or some; without one there is nothing to press. The others wait on."""
    kept, retried = site.send_dead(), site.send_dead()
    tab = new_tab(width=320)
    tab.go("/trouble")
    tab.page.get_by_role("link", name="Choose some").first.click()
    button = tab.page.get_by_role("button", name="Retry the chosen", exact=True)
    assert button.is_disabled()
    assert (tab.unusable(), tab.overflow()) == ([], 0)
    every = tab.page.get_by_label("Choose all of these")
    every.check()
    assert tab.page.locator("input[name=choice]:checked").count() == len(site.dead())
    every.uncheck()
    tab.page.locator(f"input[value='{retried}']").check()
    button.click()
    tab.wait_for("1 of 1 done")
    eventually(lambda: retried not in site.dead(), within=30)
    assert kept in site.dead()
    assert tab.faults == []


def test_an_operation_is_watched_and_cancelled(site: Site, new_tab: NewTab) -> None:
    """Trouble shows how far it is, and what came of it, without being loaded again; only an operator can cancel it."""
    events = [site.send_delivered() for _ in range(3)]
    site.held.write_text("")
    try:
        asked = {"kind": "replay", "filter": {"plugin": "picky", "ids": events}}
        url = f"{site.gateway.admin_url}/api/operations"
        number = httpx.post(url, json=asked, auth=("", PASSWORD)).raise_for_status().json()["number"]
        tab, viewer = new_tab(width=320), new_tab(VIEWER)
        for one in (tab, viewer):
            one.go("/trouble")
            one.wait_for("0 of 3 done; 3 still to be delivered")
        assert viewer.page.get_by_role("button", name="Cancel").count() == 0
        assert (tab.unusable(), tab.overflow()) == ([], 0)
        tab.page.evaluate("window.same = true")
        cancel = tab.page.get_by_role("button", name=f"Cancel {number}: replay")
        cancel.focus()
        site.held.write_text(events[0])
        for one in (tab, viewer):
            one.wait_for("1 of 3 done; 2 still to be delivered")
        assert tab.page.evaluate("window.same") is True
        assert tab.page.evaluate("document.activeElement.innerText") == "Cancel"
        tab.page.keyboard.press("Enter")
        eventually(lambda: site.ask(f"/api/operations/{number}")["state"] == "cancelled", within=30)
    finally:
        site.held.unlink()
    for one in (tab, viewer):
        one.page.locator(f"#operation-{number}").get_by_text("cancelled").wait_for()
        assert one.page.get_by_role("button", name="Cancel").count() == 0
        assert one.faults == []


def test_an_event_is_delivered_again(site: Site, new_tab: NewTab) -> None:
    """To one plugin, with a button of its page; the audit log has a line."""
    tab = new_tab()
    event = site.send_delivered()
    before = site.audited(": replay (ids 1, plugin archive)")
    tab.go(f"/events/{event}")
    tab.page.get_by_role("button", name="Deliver to archive again").click()
    tab.wait_for("replay: 1 of 1 done")
    eventually(lambda: site.audited(": replay (ids 1, plugin archive)") == before + 1)
    assert tab.faults == []


def test_masks_hold_until_a_reveal_that_is_audited(site: Site, new_tab: NewTab) -> None:
    """Neither number, customer UID nor text is in the document, or where it leads; a reveal shows them, once."""
    tab = new_tab()
    for path in every_page(site):
        tab.go(path)
        shown = tab.page.content()
        assert [one for one in (PHONE, CUSTOMER, TEXT) if one in shown] == [], path
    before = site.audited(": reveal of an event")
    tab.go(f"/events/{site.event}")
    tab.page.get_by_role("button", name="Reveal").click()
    tab.wait_for("This is in the audit log")
    shown = tab.main.inner_text()
    assert [one for one in (PHONE, CUSTOMER, TEXT) if one not in shown] == []
    eventually(lambda: site.audited(": reveal of an event") == before + 1)
    tab.page.get_by_role("link", name="Mask again").click()
    tab.page.get_by_role("button", name="Reveal").wait_for()
    assert PHONE not in tab.page.content()


def test_the_keyboard_is_enough(site: Site, new_tab: NewTab) -> None:
    """From one page to another, to an event, and to a delivery of it: Tab, Enter, and / for the find box."""
    tab = new_tab()
    tab.go("/")
    tab.press_until_focused("Tab", "Skip to the content")
    tab.press_until_focused("Tab", "Trouble")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**/trouble")
    tab.page.keyboard.press("/")
    assert tab.focused == "Find"
    tab.page.keyboard.type(site.event)
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url(f"**/events/{site.event}")
    tab.press_until_focused("Tab", "Deliver to archive again")
    tab.page.keyboard.press("Enter")
    tab.wait_for("replay: 1 of 1 done")
    assert tab.faults == []
