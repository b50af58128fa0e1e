"""The two passwords of the admin listener: `password` may change things, `viewer_password` may look, masked."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from asgi import Answer, InProcess, in_process
from running import running, write_plugin
from test_admin import basic
from test_dashboard import HOST, Page, cookie_of, submit

from gateway import simulate

PASSWORD = b"the operator's password"
VIEWER = b"the viewer's password"
OPERATES, LOOKS = basic(b"ann:" + PASSWORD), basic(b"vic:" + VIEWER)
PHONE = "447700900987"
CUSTOMER = "CUSTOMER-778899"
TEXT = "Kanarienvogel am Morgen"
CANARIES = (PHONE, CUSTOMER, TEXT)
ADMIN = 'password = { file = "password" }\nviewer_password = { file = "viewer" }\n'
TALKATIVE = """
    from gateway import Reject, Retry, hookimpl

    state = {"rejecting": True}

    class Plugin:
        @hookimpl
        async def on_event(self, event):
            said = f"no account of {event.customer_uid}: {event.fields()}"
            if event.hook == "payment":
                raise RuntimeError(said)
            if state["rejecting"]:
                raise Reject(said)

        @hookimpl
        def forget(self, selector):
            raise RuntimeError("Kanarienvogel has no account")
"""
CONFIG = """
    [values]
    audit = true
    [log]
    plugin_messages = true
    [plugins.talkative]
    [plugins.static_values.values]
    balance = "120.50"
"""


@pytest.fixture
def talkative(site: Path) -> Iterator[dict[str, bool]]:
    """A plugin that says everything in its exceptions; it rejects messages until `rejecting` is false."""
    write_plugin(site, "talkative", TALKATIVE)
    yield importlib.import_module("plugin_talkative").state


@asynccontextmanager
async def with_a_customer(directory: Path) -> AsyncIterator[tuple[InProcess, str]]:
    """A gateway that has had events and a question of one customer, and the id of a dead letter."""
    (directory / "password").write_bytes(PASSWORD)
    (directory / "viewer").write_bytes(VIEWER)
    body: dict[str, Any] = {
        "type": "inboundMessage",
        "conversationId": "97847",
        "communicationActionId": "1",
        "customerUID": CUSTOMER,
        "outboundChannelAddress": f"+{PHONE}",
        "body": TEXT,
    }
    async with in_process(directory, CONFIG, admin=ADMIN) as gateway, asyncio.timeout(60):
        event = str((await gateway.post(json.dumps(body).encode())).document["id"])
        for more in (
            {"type": f"type of {PHONE}"},
            {"communicationActionId": {"of": CUSTOMER}},
            {"details": {"text": TEXT}, "list": [TEXT], "number": int(PHONE), "communicationActionId": "2"},
        ):
            assert (await gateway.post(json.dumps(body | more).encode())).status == 200
        asked = urlencode({"customerUID": CUSTOMER, "outboundChannelAddress": PHONE, "param1": "balance"})
        assert (await gateway.request("GET", query=asked.encode())).status == 200
        while sum(row.state == "dead" for row in gateway.events()) < 4:
            await asyncio.sleep(0.01)
        await gateway.post(json.dumps(body | {"type": "payment"}).encode())
        while gateway.gateway.monitor.all_well():
            await asyncio.sleep(0.01)
        yield gateway, event


async def ask(
    gateway: InProcess, path: str, who: tuple[bytes, bytes] = LOOKS, *, accept: bytes = b"*/*", query: Any = ()
) -> Answer:
    return await gateway.manage("GET", path, None, [HOST, (b"accept", accept), who], query=urlencode(query).encode())


async def test_a_viewer_sees_every_answer_of_the_api_masked(tmp_path: Path, talkative: dict[str, bool]) -> None:
    """Each path of `/api/openapi.json` that has a GET, whatever was looked for, and health and metrics."""
    async with with_a_customer(tmp_path) as (gateway, event):
        described = (await ask(gateway, "/api/openapi.json")).document
        paths = [path for path, methods in described["paths"].items() if "get" in methods and path != "/changes"]
        assert {"/api/events", "/api/events/{id}", "/api/timeline", "/api/dead/groups", "/api/values"} <= set(paths)
        queries: dict[str, list[dict[str, str]]] = {
            "/api/events": [{}, {"customer": CUSTOMER}, {"address": PHONE}, {"text": TEXT}, {"state": "dead"}],
            "/api/timeline": [{"customer": CUSTOMER}, {"conversation": "97847"}],
            "/api/dead/groups": [{}, {"customer": CUSTOMER}],
            "/api/values": [{}, {"customer": CUSTOMER}],
        }
        replay = {"kind": "replay", "filter": {"plugin": "talkative"}}
        begun = await gateway.manage("POST", "/api/operations", replay, [HOST, OPERATES])
        seen: dict[str, str] = {}
        told: dict[str, str] = {}
        for path in (*paths, "/health/ready", "/metrics", "/api/operations"):
            where = path.replace("{id}", event).replace("{number}", str(begun.document["number"]))
            for query in queries.get(path, [{}]):
                for who, found in ((LOOKS, seen), (OPERATES, told)):
                    answer = await ask(gateway, where, who, query=query)
                    assert answer.status == 200, (where, answer.body)
                    found[f"{path} {query}"] = answer.body.decode()
        assert [(name, one) for name, text in seen.items() for one in CANARIES if one in text] == []
        assert all(any(one in text for text in told.values()) for one in CANARIES)  # else nothing would be shown
        for name, text in told.items():
            if name.startswith("/api/events"):
                assert json.loads(text).keys() == json.loads(seen[name]).keys()


async def test_a_viewer_does_not_see_whom_an_erasure_failed_for(tmp_path: Path, talkative: dict[str, bool]) -> None:
    """What a plugin said of the customer is for operators; that it failed is for a viewer, too."""
    async with with_a_customer(tmp_path) as (gateway, _):
        erasure = {"kind": "forget", "filter": {"customer": CUSTOMER}}
        begun = await gateway.manage("POST", "/api/operations", erasure, [HOST, OPERATES])
        where = f"/api/operations/{begun.document['number']}"
        while not (told := await ask(gateway, where, OPERATES)).document["finished"]:
            await asyncio.sleep(0.01)
        assert "Kanarienvogel" in told.document["failed"]["talkative"]
        seen = await ask(gateway, where)
        assert "Kanarienvogel" not in seen.body.decode()
        assert seen.document["failed"]["talkative"].startswith("RuntimeError")


async def test_a_masked_event_keeps_its_shape(tmp_path: Path, talkative: dict[str, bool]) -> None:
    """The keys of an event and of its body are those that an operator gets."""
    async with with_a_customer(tmp_path) as (gateway, event):
        whole = (await ask(gateway, f"/api/events/{event}", OPERATES)).document
        masked = (await ask(gateway, f"/api/events/{event}")).document
        assert whole["body"]["body"] == TEXT
        assert masked.keys() == whole.keys()
        assert masked["body"] == {
            "type": "inboundMessage",
            "conversationId": "97847",
            "communicationActionId": "1",
            "customerUID": "…99",
            "outboundChannelAddress": "…87",
            "body": f"… ({len(TEXT)} characters)",
        }
        assert (masked["customer_uid"], masked["deliveries"]) == ("…99", {"talkative": "dead"})
        [line, *_] = (await ask(gateway, "/api/timeline", query={"conversation": "97847"})).document["items"]
        assert (line["kind"], line["customer_uid"], line["body"]["customerUID"]) == ("event", "…99", "…99")


async def test_a_viewer_sees_every_page_masked(tmp_path: Path, talkative: dict[str, bool]) -> None:
    """And no button that changes or reveals something; also with `[log] plugin_messages`. So is the export of a
    timeline, which is without personal data for everyone."""
    async with with_a_customer(tmp_path) as (gateway, event):
        seen: dict[str, str] = {}
        for path, query in (
            *((path, {}) for path in ("/", "/find", "/trouble", "/values", "/drift", "/config", f"/events/{event}")),
            *(("/find", {"q": q}) for q in (PHONE, CUSTOMER, TEXT, "state:dead", "97847")),
            *(("/timeline", q) for q in ({"customer": CUSTOMER}, {"conversation": "97847"}, {"event": event})),
        ):
            answer = await ask(gateway, path, accept=b"text/html", query=query)
            assert answer.status == 200
            html = seen[f"{path} {query}"] = answer.body.decode()
            actions = [(one.get("method"), one.get("action")) for one in Page(html).all("form")]
            assert [one for one in actions if one not in (("get", "/find"), ("post", "/sign-out"))] == [], path
        session = await sign_in(gateway, VIEWER)
        token = Page((await see(gateway, "/", session)).body.decode()).token
        for name, value in (("customer", CUSTOMER), ("conversation", "97847"), ("event", event)):
            fields, asked = {"token": token, "do": "export"}, urlencode({name: value}).encode()
            exported = await submit(gateway, "/timeline", fields, session, query=asked)
            lines = [json.loads(line) for line in exported.body.splitlines()]
            assert {line["kind"] for line in lines} == {"event", "value"} if name != "conversation" else {"event"}
            seen[f"export of {name}"] = exported.body.decode()
        assert [(name, one) for name, text in seen.items() for one in CANARIES if one in text] == []


async def test_a_viewer_changes_nothing(tmp_path: Path, talkative: dict[str, bool]) -> None:
    """Each change gets 403 and says which password it needs: of the API, of the pages, and of the commands."""
    async with with_a_customer(tmp_path) as (gateway, event):
        described = (await ask(gateway, "/api/openapi.json")).document["paths"]
        changes = {
            (method.upper(), path.replace("{id}", event).replace("{number}", "1"))
            for path, methods in described.items()
            for method in methods
            if method != "get"
        }
        assert ("POST", "/api/operations") in changes
        commands = ("operations", "reload", "log-level")
        changes |= {("POST", f"/api/{name}") for name in commands}
        before = [row.deliveries for row in gateway.events()]
        for method, path in sorted(changes):
            answer = await gateway.manage(method, path, {}, [HOST, LOOKS])
            assert (answer.status, "admin.password" in answer.problem) == (403, True), path
        query = {"organisation": "acme", "param1": "balance", "customerUID": CUSTOMER}
        asked = await ask(gateway, "/api/values", query=query)
        assert (asked.status, "admin.password" in asked.problem) == (403, True)
        session = await sign_in(gateway, VIEWER)
        token = Page((await see(gateway, "/", session)).body.decode()).token
        for path, do in (
            *((path, {"do": "reveal"}) for path in ("/find", "/timeline", "/values", f"/events/{event}")),
            (f"/events/{event}", {"plugin": "talkative"}),
            *(("/trouble", {"do": do, "group": "x"}) for do in ("retry", "in order", "discard")),
            ("/operations/1", {}),
        ):
            refused = await submit(gateway, path, {"token": token, **do}, session, query=b"customer=1")
            assert (refused.status, b"admin.password" in refused.body) == (403, True), path
        assert [row.deliveries for row in gateway.events()] == before


async def see(gateway: InProcess, path: str, *headers: tuple[bytes, bytes]) -> Answer:
    return await gateway.manage("GET", path, None, [HOST, (b"accept", b"text/html"), *headers])


async def sign_in(gateway: InProcess, password: bytes) -> tuple[bytes, bytes]:
    """The cookie of a browser that gave this password."""
    token = Page((await see(gateway, "/sign-in")).body.decode()).token
    return cookie_of(await submit(gateway, "/sign-in", {"token": token, "password": password.decode()}))


async def test_a_session_has_the_role_of_its_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A viewer's pages say so; an operator's session reveals, which the audit log has."""
    async with with_a_customer_of_no_plugin(tmp_path) as (gateway, event):
        viewer, operator = await sign_in(gateway, VIEWER), await sign_in(gateway, PASSWORD)
        assert b"signed in as a viewer" in (await see(gateway, "/", viewer)).body
        assert b"signed in as a viewer" not in (await see(gateway, "/", operator)).body
        token = Page((await see(gateway, "/", operator)).body.decode()).token
        with caplog.at_level(logging.INFO, "gateway.audit"):
            shown = await submit(gateway, f"/events/{event}", {"token": token, "do": "reveal"}, operator)
        assert (shown.status, TEXT in shown.body.decode()) == (200, True)
        assert any(": reveal of an event (" in line for line in caplog.messages)
        token = Page((await see(gateway, "/", viewer)).body.decode()).token
        older = await submit(gateway, "/find", {"token": token, "do": "page", "cursor": event}, viewer)
        assert older.status == 200
        assert (await submit(gateway, "/sign-out", {"token": token}, viewer)).status == 303
        assert (await see(gateway, "/", viewer)).status == 303
        assert (await see(gateway, "/", operator)).status == 200


@asynccontextmanager
async def with_a_customer_of_no_plugin(directory: Path) -> AsyncIterator[tuple[InProcess, str]]:
    (directory / "password").write_bytes(PASSWORD)
    (directory / "viewer").write_bytes(VIEWER)
    async with in_process(directory, admin=ADMIN) as gateway:
        body = {"type": "inboundMessage", "customerUID": CUSTOMER, "body": TEXT}
        yield gateway, str((await gateway.post(json.dumps(body).encode())).document["id"])


async def test_wrong_passwords_count_for_both(tmp_path: Path) -> None:
    """A guess at one of them makes the other wait, too."""
    now = [1000.0]
    (tmp_path / "password").write_bytes(PASSWORD)
    (tmp_path / "viewer").write_bytes(VIEWER)
    async with in_process(tmp_path, admin=ADMIN, clock=lambda: now[0]) as gateway:
        assert (await ask(gateway, "/metrics", basic(b"x:guess"))).status == 401
        assert [(await ask(gateway, "/metrics", who)).status for who in (OPERATES, LOOKS)] == [429, 429]
        now[0] += 1
        assert [(await ask(gateway, "/metrics", who)).status for who in (OPERATES, LOOKS)] == [200, 200]


async def test_a_browser_of_another_machine_signs_in_by_tls(tmp_path: Path) -> None:
    """At a trusted proxy, whose word counts that it was TLS; or on this machine. Programs are not browsers."""
    (tmp_path / "password").write_bytes(PASSWORD)
    keys = 'host = "0.0.0.0"\npassword = { file = "password" }\ntrusted_proxies = ["10.1.0.0/16"]\n'
    tls = (b"x-forwarded-proto", b"https")
    async with in_process(tmp_path, admin=keys) as gateway:
        token = Page((await see(gateway, "/sign-in")).body.decode()).token
        form = urlencode({"token": token, "password": PASSWORD.decode()}).encode()
        sent = [HOST, (b"accept", b"text/html"), (b"content-type", b"application/x-www-form-urlencoded")]
        for client, headers, status, secure in (
            ("127.0.0.1", [], 303, False),
            ("10.2.0.1", [], 403, False),
            ("10.2.0.1", [tls], 403, False),
            ("10.1.0.1", [], 303, False),
            ("10.1.0.1", [tls], 303, True),
        ):
            answer = await gateway.manage("POST", "/sign-in", form, [*sent, *headers], client=client)
            assert (answer.status, "; Secure" in answer.headers.get("set-cookie", "")) == (status, secure)
            path = (await gateway.manage("POST", "/api/sign-in-link", {}, [HOST, OPERATES])).document["path"]
            followed = await gateway.manage("GET", path, None, [HOST, *headers], client=client)
            assert (followed.status, "; Secure" in followed.headers.get("set-cookie", "")) == (status, secure)
        assert (await gateway.manage("GET", "/metrics", None, [HOST, OPERATES], client="10.2.0.1")).status == 200


def test_the_admin_listener_by_tls(tmp_path: Path, certificate: Path) -> None:
    """Commands and browsers reach it so; the cookie is for TLS only."""
    keys = f'tls = {{ certificate = "{certificate}/certificate.pem", key = "{certificate}/key.pem" }}'
    (tmp_path / "password").write_bytes(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    with running(tmp_path, admin=f'{keys}\npassword = {{ file = "password" }}') as gateway:
        assert "gateway: admin at https://127.0.0.1:" in gateway.text
        assert gateway.cli("log-level", "info").returncode == 0
        url = gateway.cli("open", "--print").stdout.strip()
        assert url.startswith("https://127.0.0.1:")
        answer = httpx.get(url, verify=simulate.trust(gateway.config.admin.tls))
        assert answer.status_code == 303
        assert answer.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "header",
    [
        (b"origin", b"https://evil.example"),
        (b"origin", b"null"),
        (b"origin", b"http://127.0.0.1:9999"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
    ],
)
async def test_a_page_of_another_site_changes_nothing(tmp_path: Path, header: tuple[bytes, bytes]) -> None:
    """Neither with the browser's session nor with its password: as JSON, as a form with the right token, or as DELETE.
    A program sends no such header, and the gateway's own pages send theirs."""
    async with with_a_customer_of_no_plugin(tmp_path) as (gateway, event):
        session = await sign_in(gateway, PASSWORD)
        token = Page((await see(gateway, "/", session)).body.decode()).token
        own = ((b"origin", b"http://127.0.0.1"), (b"sec-fetch-site", b"same-origin"))
        for who in (session, OPERATES):
            for headers, status in (((header,), 403), (own, 200), ((), 200)):
                sent = await gateway.manage("POST", "/api/reload", {}, [HOST, who, *headers])
                assert sent.status == status
            deleted = await gateway.manage("DELETE", "/api/operations/1", None, [HOST, who, header])
            assert deleted.status == 403
        form = {"token": token, "do": "reveal"}
        assert (await submit(gateway, f"/events/{event}", form, session, header)).status == 403
        assert (await submit(gateway, f"/events/{event}", form, session, *own)).status == 200
        assert (await submit(gateway, f"/events/{event}", {"do": "reveal"}, session, *own)).status == 403
