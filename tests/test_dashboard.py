"""The pages of the dashboard, as a browser without a script sees them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import importlib
import json
import logging
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from asgi import Answer, InProcess, in_process
from running import running, write_plugin
from test_api import CUSTOMER, PHONE, PICKY, all_dead, message, with_events

from gateway.http.dashboard import find_pages, rendering

HOST = (b"host", b"127.0.0.1")
PAGES = ("/", "/find", "/trouble", "/values", "/drift", "/config", "/sign-in")
VOID = {"meta", "link", "input", "br"}
STYLES = ["style.css", "uplot.min.css"]
SCRIPTS = ["app.js", "live.js", "charts.js", "htmx.min.js", "uplot.min.js"]
PASSWORD = "correct horse"


@pytest.fixture
def picky(site: Path) -> Iterator[dict[str, bool]]:
    """A plugin named picky that rejects every event until `rejecting` is false."""
    write_plugin(site, "picky", PICKY)
    yield importlib.import_module("plugin_picky").state


class Page(HTMLParser):
    """A page's elements, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def token(self) -> str:
        return next(str(one["value"]) for one in self.all("input") if one.get("name") == "token")


async def see(gateway: InProcess, path: str, *headers: tuple[bytes, bytes], **query: str) -> Answer:
    accept = (b"accept", b"text/html,*/*;q=0.8")
    return await gateway.manage("GET", path, None, [HOST, accept, *headers], query=urlencode(query).encode())


async def page(gateway: InProcess, path: str, *headers: tuple[bytes, bytes], **query: str) -> tuple[Page, str]:
    answer = await see(gateway, path, *headers, **query)
    assert answer.status == 200, answer.body
    html = answer.body.decode()
    return Page(html), html


async def submit(
    gateway: InProcess,
    path: str,
    fields: dict[str, str] | list[tuple[str, str]],
    *headers: tuple[bytes, bytes],
    query: bytes = b"",
) -> Answer:
    sent = [HOST, (b"accept", b"text/html"), (b"content-type", b"application/x-www-form-urlencoded"), *headers]
    return await gateway.manage("POST", path, urlencode(fields).encode(), sent, query=query)


# Every page


async def test_pages_are_sound(tmp_path: Path) -> None:
    """Balanced, with one heading, a title, a language and a label for each input, and nothing from elsewhere."""
    async with with_events(tmp_path, 3, '[plugins.archive]\ndirectory = "a"\n') as (gateway, ids):
        for path in (*PAGES[:-1], f"/events/{ids[0]}", "/timeline?conversation=1", "/find?q=hello"):
            name, _, query = path.partition("?")
            fields = dict([query.split("=")]) if query else {}
            document, html = await page(gateway, name, **fields)
            assert len(document.all("h1")) == 1
            assert document.all("html")[0]["lang"] == "en"
            labels = {label["for"] for label in document.all("label")}
            shown = [one for one in document.all("input") if one.get("type") != "hidden"]
            assert {one["id"] for one in shown} <= labels
            assert not re.search(r"""(src|href|action)="(https?:|//)|style=|\son\w+=|<script>""", html)


async def test_a_page_runs_nothing_but_its_own_script(tmp_path: Path) -> None:
    """The policy allows no inline script, no other site and no frame. A page is not stored."""
    async with in_process(tmp_path) as gateway:
        for path in (*PAGES, "/nope", "/static/app.js"):
            answer = await see(gateway, path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == ("max-age=600" if path.startswith("/static") else "no-store")


async def test_what_pages_load_is_small(tmp_path: Path) -> None:
    """All styles, scripts and the icon together are at most 70 KB, compressed; and no other file is served."""
    async with in_process(tmp_path) as gateway:
        sizes = {}
        for name in rendering.STATIC:
            answer = await see(gateway, f"/static/{name}")
            kind = "text/css" if name in STYLES else "text/javascript" if name in SCRIPTS else "image/svg+xml"
            assert answer.headers["content-type"].partition(";")[0] == kind
            sizes[name] = len(gzip.compress(answer.body))
        assert min(sizes.values()) > 0
        assert sum(sizes.values()) <= 70_000, sizes
        loaded: set[str] = set()
        for path in PAGES[:-1]:
            document, _ = await page(gateway, path)
            loaded |= {str(one["src"]) for one in document.all("script")}
            loaded |= {str(one["href"]) for one in document.all("link")}
        assert loaded == {f"/static/{name}" for name in rendering.STATIC}
        for name in ("nope.css", "..%2Frendering.py", "base.html", "vendored.toml"):
            assert (await see(gateway, f"/static/{name}")).status == 404


def test_vendored_files_are_those_of_their_packages() -> None:
    """Each has the SHA-256 that is written beside its package, version and licence; and there is no other one."""
    static = Path(rendering.__file__).parent / "static"
    packages = tomllib.loads((static / "vendored.toml").read_text(encoding="utf-8"))["package"]
    found: dict[str, str] = {}
    for package in packages:
        assert package["version"] in package["source"]
        assert "WARRANT" in package["license"]
        found |= {name: file["sha256"] for name, file in package["files"].items()}
    minified = sorted(name for name in rendering.STATIC if ".min." in name)
    assert found == {name: hashlib.sha256((static / name).read_bytes()).hexdigest() for name in minified}


async def test_a_fault_is_a_page_for_a_browser(tmp_path: Path) -> None:
    """And a problem document for a program."""
    async with in_process(tmp_path) as gateway:
        answer = await see(gateway, "/events/<script>")
        assert answer.status == 404
        assert b"the journal has no event with this id" in answer.body
        assert b"<script>" not in answer.body
        assert (await gateway.manage("GET", "/events/nope")).problem == "the journal has no event with this id"
        assert (await see(gateway, "/api/events", limit="0")).problem.startswith("limit: ")


async def test_a_link_from_another_site_is_followed_in_two_steps(tmp_path: Path) -> None:
    """Such as one in a colleague's message: the answer leads to the page by a link of the gateway's own, and to no
    other site."""
    cross = (b"sec-fetch-site", b"cross-site")
    async with in_process(tmp_path) as gateway:
        answer = await see(gateway, "/find", cross, q='hook:payment"<b>')
        assert answer.status == 403
        [link] = Page(answer.body.decode()).all("a")
        assert link["href"] == "/find?q=hook%3Apayment%22%3Cb%3E"
        for path in ("//evil.example", "/\\evil.example"):
            assert b"evil" not in (await see(gateway, path, cross)).body
        assert (await submit(gateway, "/find", {}, cross)).status == 403


# What pages show


async def test_now_says_how_it_is(tmp_path: Path, picky: dict[str, bool]) -> None:
    """In one sentence, which is the title, too."""
    async with with_events(tmp_path / "1", 1) as (gateway, _):
        document, html = await page(gateway, "/")
        assert "<h1>All is well</h1>" in html
        assert "data-live" in document.all("main")[0]
        assert "<dt>inbound-message</dt><dd>1</dd>" in html
    async with with_events(tmp_path / "2", 2, "[plugins.picky]\n") as (gateway, _):
        sentence = "picky: 2 dead letters wait for a decision"
        while f"<h1>{sentence}</h1>" not in (await page(gateway, "/"))[1]:
            await asyncio.sleep(0.01)
        assert "retry them in Trouble" in (await page(gateway, "/"))[1]
        assert f"<title>{sentence}" in (await page(gateway, "/"))[1]


async def test_hostile_content_is_text(tmp_path: Path) -> None:
    """Also where it is revealed: in messages, names, conversations and organisations."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    async with in_process(tmp_path) as gateway:
        body = message(1, body=evil, conversationId=evil, customerUID=evil, **{evil: evil})
        event = (await gateway.post(body)).document["id"]
        await gateway.post(body.replace(b"inboundMessage", b"<b>evil</b>"))
        document, _ = await page(gateway, f"/events/{event}")
        places: list[tuple[str, bytes]] = [
            (f"/events/{event}", b""),
            ("/find", b""),
            ("/timeline", f"event={event}".encode()),
        ]
        places.append(("/find", urlencode({"q": evil}).encode()))
        for path, query in places:
            answer = await submit(gateway, path, {"token": document.token, "do": "reveal"}, query=query)
            assert answer.status == 200
            elements = Page(answer.body.decode())
            assert {one["src"] for one in elements.all("script")} <= {f"/static/{name}" for name in SCRIPTS}
            assert not elements.all("img")
            assert not elements.all("b")
        assert b"&lt;script&gt;" in answer.body
        for path in ("/", "/drift", "/trouble"):
            assert not (await page(gateway, path))[0].all("b")


async def test_masks_hold_until_reveal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither number, UID nor text is in a page, not even in a link; what reveals them leaves a line."""
    secret = "the customer's words"
    async with in_process(tmp_path, '[plugins.archive]\ndirectory = "a"\n[values]\naudit = true\n') as gateway:
        event = (await gateway.post(message(1, body=secret, note=secret, account=CUSTOMER))).document["id"]
        await gateway.request("GET", query=f"customerUID={CUSTOMER}&param1=balance".encode())
        while "<tbody><tr>" not in (await page(gateway, "/values"))[1]:
            await asyncio.sleep(0.01)
        places: list[tuple[str, dict[str, str]]] = [
            ("/find", {}),
            *(("/find", {"q": query}) for query in (PHONE, f"+{PHONE}", CUSTOMER, f"customer:{CUSTOMER}", secret, "1")),
            (f"/events/{event}", {}),
            *(("/timeline", query) for query in ({"customer": CUSTOMER}, {"event": event}, {"conversation": "1"})),
            ("/values", {}),
        ]
        for path, query in places:
            document, html = await page(gateway, path, **query)
            assert not [one for one in (PHONE, CUSTOMER, secret, secret.replace("'", "&#39;")) if one in html], path
            assert "balance" in html or event in html
        with caplog.at_level(logging.INFO, "gateway.audit"):
            fields = {"token": document.token, "do": "reveal"}
            for path, text in ((f"/events/{event}", PHONE), ("/timeline", "words"), ("/values", CUSTOMER)):
                about = f"event={event}".encode() if path == "/timeline" else b""
                answer = await submit(gateway, path, fields, query=about)
                assert text in answer.body.decode()
            assert secret.replace("'", "&#39;") in (await submit(gateway, "/find", fields)).body.decode()
        lines = [record.getMessage() for record in caplog.records if record.name == "gateway.audit"]
        assert len([line for line in lines if ": reveal of " in line]) == 4
        assert not any(PHONE in line or CUSTOMER in line or secret in line for line in lines)


async def test_a_revealed_body_is_exact(tmp_path: Path) -> None:
    """To the digit, as received."""
    raw = b'{"type":"payment","amount":12.50,"reference":123456789012345678901234567890}'
    async with in_process(tmp_path) as gateway:
        event = (await gateway.post(raw)).document["id"]
        document, html = await page(gateway, f"/events/{event}")
        assert "12.50" in html
        assert "123456789012345678901234567890" not in html
        answer = await submit(gateway, f"/events/{event}", {"token": document.token, "do": "reveal"})
        assert raw.decode().replace('"', "&#34;") in answer.body.decode()


async def test_find_takes_what_an_operator_has(tmp_path: Path) -> None:
    """An id, a conversation, a customer, a phone number in any notation, words, or filters."""
    async with with_events(tmp_path, 6) as (gateway, ids):

        async def found(query: str) -> list[int]:
            document, _ = await page(gateway, "/find", q=query)
            links = [str(link["href"]) for link in document.all("a")]
            return [ids.index(link.removeprefix("/events/")) for link in links if link.startswith("/events/")]

        assert (await see(gateway, "/find", q=ids[3].upper())).headers["location"] == f"/events/{ids[3]}"
        assert await found("") == [5, 4, 3, 2, 1, 0]
        assert await found(CUSTOMER) == [5, 3, 1]
        assert await found("+44 7700 900123") == [5, 4, 3, 2, 1, 0]
        assert await found("number 4") == [4]
        assert await found("hook:payment") == []
        assert await found(f"conversation:0 customer:{CUSTOMER}") == [3]
        assert await found('text:"number 2" since:1h') == [2]
        assert await found("'") == [] or (await see(gateway, "/find", q="'")).status == 400
        for query, fault in (
            ("hook:paymant", "unknown hook"),
            ("state:dead state:dead", "expected once"),
            ("text:!", "a word"),
        ):
            answer = await see(gateway, "/find", q=query)
            assert answer.status == 400
            assert fault in answer.body.decode()


async def test_find_has_older_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a button, so that what was looked for is in no link."""
    monkeypatch.setattr(find_pages, "LIMIT", 2)
    async with with_events(tmp_path, 3) as (gateway, ids):
        query = {"q": f"address:{PHONE}"}
        document, html = await page(gateway, "/find", **query)
        [cursor] = [str(one["value"]) for one in document.all("input") if one.get("name") == "cursor"]
        assert (cursor, ids[0] in html) == (ids[1], False)
        fields = {"token": document.token, "do": "page", "cursor": cursor}
        older = await submit(gateway, "/find", fields, query=urlencode(query).encode())
        assert ids[0] in older.body.decode()
        assert ids[1] not in older.body.decode()


async def test_pages_of_events_have_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing of a customer is in the query, so that a page can be sent to a colleague."""
    monkeypatch.setattr(find_pages, "LIMIT", 2)
    async with with_events(tmp_path, 3) as (gateway, ids):
        document, html = await page(gateway, "/find", q="hook:inbound-message")
        assert "data-live" in html
        [older] = [str(link["href"]) for link in document.all("a") if link.get("rel") == "next"]
        assert older == f"/find?q=hook%3Ainbound-message&cursor={ids[1]}"
        document, html = await page(gateway, "/find", q="hook:inbound-message", cursor=ids[1])
        assert f"/events/{ids[0]}" in html
        assert f"/events/{ids[1]}" not in html
        assert "data-live" not in html
        assert "/find?q=hook%3Ainbound-message" in [link["href"] for link in document.all("a")]
        assert (await see(gateway, "/find", cursor="nope")).status == 400


async def test_an_event_tells_of_its_deliveries(tmp_path: Path, picky: dict[str, bool]) -> None:
    """The verdict first; what the exception said is masked; it is delivered again by a button."""
    async with with_events(tmp_path, 1, "[plugins.picky]\n") as (gateway, [event]):
        await all_dead(gateway, 1)
        document, html = await page(gateway, f"/events/{event}")
        assert "<h1>picky gave it up, and it waits for a decision</h1>" in html
        assert re.search(r"failed.*: Reject at plugin_picky.py:\d+<", html)
        assert "no room" not in html
        picky["rejecting"] = False
        sent = await submit(gateway, f"/events/{event}", {"token": document.token, "plugin": "picky"})
        assert sent.status == 303
        path, _, number = sent.headers["location"].partition("?operation=")
        assert "retry: 1 of 1 done" in (await page(gateway, path, operation=number))[1]
        for unknown in ("0", "²", "x", "9" * 30):
            assert 'role="status"' not in (await page(gateway, path, operation=unknown))[1]
        while "<h1>Delivered to picky</h1>" not in (await page(gateway, path))[1]:
            await asyncio.sleep(0.01)


async def test_config_tells_what_is_in_effect_and_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    """The plugins with versions and settings, and the file's faults, also those since the start; with a button those
    of the environment."""
    text = '[plugins.archive]\ndirectory = "a"\n[plugins.static_values.values]\nbalance = "1"\n'
    async with in_process(tmp_path, text) as gateway:
        document, html = await page(gateway, "/config")
        assert "<h3>archive</h3>" in html
        assert re.search(r"webio-gateway \d[\w.+]+; hooks: \w+", html)
        assert "<code>values.balance</code></dt><dd>1</dd>" in html
        assert "Warning: <code>admin.password</code> is missing" in html
        assert "were not checked" in html
        config = gateway.config.source
        config.write_text(config.read_text().replace('directory = "a"', "directory = 5"))
        assert "Error: <code>plugins.archive.directory</code> expected a path" in (await page(gateway, "/config"))[1]
        config.write_text(config.read_text().replace("directory = 5", 'directory = "config.toml"'))
        assert "Error" not in (await page(gateway, "/config"))[1]
        checked = (await submit(gateway, "/config", {"token": document.token})).body.decode()
        assert "Error: <code>plugins.archive.directory</code>" in checked
        assert "were checked, too" in checked
        config.write_text("= nonsense")
        assert "Error: <code>config</code>" in (await page(gateway, "/config"))[1]


async def test_a_timeline_without_personal_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a file: who is who can be followed, but numbers, identifiers and texts are placeholders, also in fields that
    nobody knows; it leaves a line in the audit log."""
    text = "[values]\naudit = true\n[plugins.static_values.values]\nbalance = 1\n"
    extra = {"note": "Ann owes 77", "account": 30012345, "list": [{"iban": "IE29"}], "dateCreated": f"+{PHONE}"}
    async with in_process(tmp_path, text) as gateway:
        await gateway.post(message(1, customerUID=CUSTOMER))
        await gateway.post(message(4, customerUID=CUSTOMER, **extra))
        await gateway.request("GET", query=f"customerUID={CUSTOMER}&param1=balance".encode())
        while "the bot asked" not in (await page(gateway, "/timeline", customer=CUSTOMER))[1]:
            await asyncio.sleep(0.01)
        document, _ = await page(gateway, "/timeline", customer=CUSTOMER)
        fields = {"token": document.token, "do": "export"}
        with caplog.at_level(logging.INFO, "gateway.audit"):
            answer = await submit(gateway, "/timeline", fields, query=f"customer={CUSTOMER}".encode())
        assert answer.status == 200
        assert answer.headers["content-disposition"] == 'attachment; filename="timeline.jsonl"'
        sent = answer.body.decode()
        assert not [one for one in (PHONE, CUSTOMER, "hello", "Ann", "30012345", "IE29", "50100") if one in sent]
        first, second, asked = map(json.loads, sent.splitlines())
        assert (first["conversation"], first["customer"]) == ("conversation 1", "customer 1")
        assert first["body"]["type"] == "inboundMessage"
        assert first["body"]["dateCreated"] == "2026-01-31 12:00:01.000"
        assert first["body"]["outboundChannelAddress"] == second["body"]["outboundChannelAddress"] == "address 1"
        assert (first["body"]["body"], second["body"]["body"]) == ("text 1", "text 3")
        assert second["body"]["account"].startswith("number ")
        assert second["body"]["list"] == [{"iban": "text 5"}]
        assert second["body"]["dateCreated"].startswith("text ")
        assert asked["fields"]["balance"]["provider"] == "static_values"
        assert asked["customer"] == "customer 1"
        [line] = [one.getMessage() for one in caplog.records if "export of a timeline" in one.getMessage()]
        assert CUSTOMER not in line
        assert "3 lines" in line


async def test_a_value_is_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is masked until it is asked for once more with a reveal; both leave a line, and none is among the
    requests of bots."""
    text = '[values]\naudit = true\n[plugins.static_values.values]\nbalance = "120.50"\n'
    async with in_process(tmp_path, text) as gateway:
        document, _ = await page(gateway, "/values")
        fields = {"token": document.token, "organisation": "acme", "customer": CUSTOMER, "fields": "balance"}
        with caplog.at_level(logging.INFO, "gateway.audit"):
            while b"would get 200" not in (answer := await submit(gateway, "/values/try", fields | {"do": "ask"})).body:
                await asyncio.sleep(0.01)
        html = answer.body.decode()
        assert "120.50" not in html
        assert "… (6 characters)" in html
        assert "look-up of custom values (organisation acme, customer …23): 1 field, status 200" in caplog.text
        assert CUSTOMER not in caplog.text
        with caplog.at_level(logging.INFO, "gateway.audit"):
            shown = (await submit(gateway, "/values/try", fields | {"do": "reveal"})).body.decode()
        assert "120.50" in shown
        assert "reveal of custom values" in caplog.text
        failed = (await submit(gateway, "/values/try", fields | {"fields": "balance, shoe_size", "do": "ask"})).body
        assert b"would get 404: no provider knows this customer or this field." in failed
        assert b"known, but not given, because another field failed" in failed
        assert "No request matches." in (await page(gateway, "/values"))[1]
        assert (await submit(gateway, "/values/try", fields | {"organisation": "x"})).status == 400
        assert (await submit(gateway, "/values/try", fields | {"token": "x"})).status == 403


# Changes


@pytest.mark.parametrize(("do", "state"), [("retry", "delivered"), ("in order", "delivered"), ("discard", None)])
async def test_trouble_is_dealt_with(tmp_path: Path, picky: dict[str, bool], do: str, state: str | None) -> None:
    """A group is retried, retried in order or discarded by a button, and the page tells what came of it."""
    async with with_events(tmp_path, 3, "[plugins.picky]\n") as (gateway, _):
        await all_dead(gateway, 3)
        document, html = await page(gateway, "/trouble")
        assert "picky: 3 dead letters" in html
        assert "no room" not in html
        [group] = {str(one["value"]) for one in document.all("input") if one.get("name") == "group"}
        picky["rejecting"] = False
        sent = await submit(gateway, "/trouble", {"token": document.token, "group": group, "do": do})
        assert sent.status == 303
        path, _, number = sent.headers["location"].partition("?operation=")
        kind = "discard" if do == "discard" else "retry"
        html = (await page(gateway, path, operation=number))[1]
        assert f"<h3>{number}: {kind} of dead letters{', in order' if do == 'in order' else ''}</h3>" in html
        assert "<p>3 of 3 done" in html
        while {row.deliveries.get("picky") for row in gateway.events()} != {state}:
            await asyncio.sleep(0.01)
        gone = await submit(gateway, "/trouble", {"token": document.token, "group": group, "do": do})
        assert (gone.status, b"no dead letters of this group" in gone.body) == (409, True)


@pytest.mark.parametrize(
    ("do", "left"), [("retry", {"delivered": 2, "dead": 1}), ("discard", {"discarded": 2, "dead": 1})]
)
async def test_some_of_a_group_are_chosen(
    tmp_path: Path, picky: dict[str, bool], do: str, left: dict[str, int]
) -> None:
    """With check boxes; the others are left alone. None, and what is not an id, is refused."""
    async with with_events(tmp_path, 3, "[plugins.picky]\n") as (gateway, ids):
        await all_dead(gateway, 3)
        document, _ = await page(gateway, "/trouble")
        [choose] = [str(link["href"]) for link in document.all("a") if str(link["href"]).startswith("/trouble/")]
        document, html = await page(gateway, choose.partition("?")[0])
        boxes = [str(one["value"]) for one in document.all("input") if one.get("name") == "choice"]
        assert sorted(boxes) == ids
        assert PHONE not in html
        hidden = {str(one["name"]): str(one["value"]) for one in document.all("input") if one.get("type") == "hidden"}
        picky["rejecting"] = False
        for chosen, why in (([], b"expected at least one"), (["x"], b"ids of events")):
            answer = await submit(
                gateway, "/trouble", [*(hidden | {"do": do}).items(), *(("choice", one) for one in chosen)]
            )
            assert (answer.status, why in answer.body) == (400, True)
        sent = await submit(
            gateway, "/trouble", [*(hidden | {"do": do}).items(), *(("choice", one) for one in ids[:2])]
        )
        path, _, number = sent.headers["location"].partition("?operation=")
        assert "<p>2 of 2 done" in (await page(gateway, path, operation=number))[1]

        def states() -> Counter[str]:
            return Counter(row.deliveries.get("picky", "discarded") for row in gateway.events())

        while states() != left:
            await asyncio.sleep(0.01)
        gone = await see(gateway, f"/operations/{number}", (b"hx-request", b"true"))
        assert (gone.status, gone.headers["hx-refresh"]) == (200, "true")
        assert (await see(gateway, "/operations/0")).status == 404


async def test_trouble_has_a_window(tmp_path: Path, picky: dict[str, bool]) -> None:
    """It is stated, and what is done from a page is about its window."""
    async with with_events(tmp_path, 2, "[plugins.picky]\n") as (gateway, _):
        await all_dead(gateway, 2)
        document, html = await page(gateway, "/trouble", window="hour")
        assert "2 dead letters wait for a decision" in html
        since = next(str(one["value"]) for one in document.all("input") if one.get("name") == "since")
        assert since.endswith("+00:00")
        group = next(str(one["value"]) for one in document.all("input") if one.get("name") == "group")
        fields = {"token": document.token, "group": group, "do": "discard", "since": "2100-01-01T00:00:00Z"}
        assert (await submit(gateway, "/trouble", fields)).status == 409
        assert (await submit(gateway, "/trouble", fields | {"since": "nonsense"})).status == 400
        assert (await see(gateway, "/trouble", window="year")).status == 400
        other = (await see(gateway, "/trouble", plugin="other", window="day")).body.decode()
        assert "There is no trouble" in other
        assert "/trouble?window=hour&amp;plugin=other" in other
        assert [row.deliveries for row in gateway.events()] == [{"picky": "dead"}] * 2


async def test_a_form_of_another_page_is_refused(tmp_path: Path, picky: dict[str, bool]) -> None:
    """Without the page's token, with another one, by a page of another site or port, or as JSON; nothing is changed."""
    async with with_events(tmp_path, 1, "[plugins.picky]\n") as (gateway, [event]):
        await all_dead(gateway, 1)
        document, _ = await page(gateway, "/trouble")
        [group] = {str(one["value"]) for one in document.all("input") if one.get("name") == "group"}
        fields = {"group": group, "do": "discard"}
        good = fields | {"token": document.token}
        for sent in (fields, fields | {"token": ""}, fields | {"token": "0" * 64}, fields | {"token": "é"}):
            assert (await submit(gateway, "/trouble", sent)).status == 403
        for site in (b"cross-site", b"same-site"):
            assert (await submit(gateway, "/trouble", good, (b"sec-fetch-site", site))).status == 403
        assert (await gateway.manage("POST", "/trouble", good)).status == 415
        for path in (f"/events/{event}", "/find", "/timeline", "/values", "/sign-in", "/sign-out"):
            assert (await submit(gateway, path, fields)).status == 403
        assert [row.deliveries for row in gateway.events()] == [{"picky": "dead"}]


# Sign-in


def cookie_of(answer: Answer) -> tuple[bytes, bytes]:
    return b"cookie", answer.headers["set-cookie"].partition(";")[0].encode()


async def test_signing_in(tmp_path: Path) -> None:
    """A browser is sent to the form and back to its page; its session ends when it signs out."""
    (tmp_path / "password").write_text(PASSWORD)
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        for path in PAGES[:-1]:
            answer = await see(gateway, path)
            where = "/sign-in" if path == "/" else f"/sign-in?next={path}"
            assert (answer.status, answer.headers["location"]) == (303, where)
        assert (await see(gateway, "/find", q="a&b")).headers["location"] == "/sign-in?next=/find%3Fq%3Da%2526b"
        document, _ = await page(gateway, "/sign-in", next="/find?q=a%26b")
        fields = {"token": document.token, "password": PASSWORD, "next": "/find?q=a%26b"}
        answer = await submit(gateway, "/sign-in", fields)
        assert (answer.status, answer.headers["location"]) == (303, "/find?q=a%26b")
        attributes = {part.strip() for part in answer.headers["set-cookie"].split(";")[1:]}
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= attributes
        session = cookie_of(answer)
        document, html = await page(gateway, "/", session)
        assert "Sign out" in html
        assert (await see(gateway, "/api/status", session)).status == 200
        assert (await see(gateway, "/sign-in", session)).headers["location"] == "/"
        assert (await submit(gateway, "/sign-out", {"token": "x"}, session)).status == 403
        assert (await submit(gateway, "/sign-out", {"token": document.token}, session)).status == 303
        assert (await see(gateway, "/", session)).status == 303
        for forged in (b"gateway_session=", b"gateway_session=x", b"gateway_session", b"=;;\xff"):
            assert (await see(gateway, "/", (b"cookie", forged))).status == 303


async def test_a_token_is_of_one_session(tmp_path: Path) -> None:
    """That of a page before the sign-in, or of another session, is not taken."""
    (tmp_path / "password").write_text(PASSWORD)
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        token = (await page(gateway, "/sign-in"))[0].token
        sessions = [
            cookie_of(await submit(gateway, "/sign-in", {"token": token, "password": PASSWORD})) for _ in range(2)
        ]
        others = (await page(gateway, "/", sessions[1]))[0].token
        for wrong in (token, others):
            assert (await submit(gateway, "/find", {"token": wrong, "do": "reveal"}, sessions[0])).status == 403


async def test_wrong_passwords_slow_the_form_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As they do basic authentication, and both count together."""
    (tmp_path / "password").write_text(PASSWORD)
    now = [1000.0]
    async with in_process(tmp_path, admin='password = { file = "password" }\n', clock=lambda: now[0]) as gateway:
        token = (await page(gateway, "/sign-in"))[0].token
        with caplog.at_level(logging.INFO, "gateway.audit"):
            wrong = await submit(gateway, "/sign-in", {"token": token, "password": "guess"})
        assert (wrong.status, b"the password is wrong" in wrong.body) == (401, True)
        assert "set-cookie" not in wrong.headers
        assert "guess" not in caplog.text
        right = {"token": token, "password": PASSWORD}
        assert (await submit(gateway, "/sign-in", right)).status == 429
        basic = (b"authorization", b"Basic " + base64.b64encode(b"x:" + PASSWORD.encode()))
        assert (await gateway.manage("GET", "/metrics", None, [HOST, basic])).status == 429
        now[0] += 1
        session = cookie_of(await submit(gateway, "/sign-in", right))
        assert (await see(gateway, "/", session)).status == 200
        now[0] += 12 * 3600
        assert (await see(gateway, "/", session)).status == 303


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\nx: y"])
async def test_signing_in_leads_to_no_other_site(tmp_path: Path, following: str) -> None:
    """The page to go on to is one of this listener."""
    (tmp_path / "password").write_text(PASSWORD)
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        token = (await page(gateway, "/sign-in", next=following))[0].token
        answer = await submit(gateway, "/sign-in", {"token": token, "password": PASSWORD, "next": following})
        assert (answer.status, answer.headers["location"]) == (303, "/")


# The real thing


def test_jinja_waits_for_the_first_page() -> None:
    """A gateway whose pages nobody opens does not import it."""
    code = "import sys, gateway.http.admin; print('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_dashboard_of_a_running_gateway(tmp_path: Path) -> None:
    """Over real connections: an event is found, revealed, and no page is on the public listener."""
    with running(tmp_path) as gateway, httpx.Client(base_url=gateway.admin_url) as browser:
        assert gateway.cli("send", "inbound-message").returncode == 0
        assert "All is well" in browser.get("/").text
        document = Page(browser.get("/find").text)
        [path] = [str(link["href"]) for link in document.all("a") if str(link["href"]).startswith("/events/")]
        shown: Any = browser.post(path, data={"token": document.token, "do": "reveal"})
        assert (shown.status_code, "&#34;type&#34;" in shown.text) == (200, True)
        assert httpx.get(gateway.url.replace("/webio", "/find")).status_code == 404
