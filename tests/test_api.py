"""The API of the admin listener, through its paths."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from asgi import Answer, InProcess, in_process
from running import running, write_plugin

from gateway.events import HOOKS
from gateway.http import reading
from gateway.http.api import pages

PICKY = """
    from gateway import Reject, hookimpl

    state = {"rejecting": True}

    class Plugin:
        @hookimpl
        async def on_event(self, event):
            if state["rejecting"]:
                raise Reject(f"no room on disk {event.id} for 'Ann', code {len(event.id)}")
"""
PHONE = "447700900123"
CUSTOMER = "7777123"


@pytest.fixture
def picky(site: Path) -> Iterator[dict[str, bool]]:
    """A plugin named picky that rejects every event until `rejecting` is false."""
    write_plugin(site, "picky", PICKY)
    yield importlib.import_module("plugin_picky").state


def message(number: int, **fields: object) -> bytes:
    body: dict[str, object] = {
        "type": "inboundMessage",
        "conversationId": str(number % 3),
        "communicationActionId": str(number),
        "customerUID": CUSTOMER if number % 2 else "other",
        "outboundChannelAddress": f"+{PHONE}",
        "inboundChannelAddress": "50100",
        "dateCreated": f"2026-01-31 12:00:{number:02}.000",
        "body": f"hello number {number}",
    }
    return json.dumps(body | fields).encode()


@asynccontextmanager
async def with_events(directory: Path, count: int, text: str = "") -> AsyncIterator[tuple[InProcess, list[str]]]:
    """A gateway with `count` messages, and their ids."""
    async with in_process(directory, text) as gateway, asyncio.timeout(60):
        ids = [(await gateway.post(message(number))).document["id"] for number in range(count)]
        yield gateway, ids


async def look(gateway: InProcess, path: str, **query: object) -> Any:
    answer = await gateway.manage("GET", path, query=urlencode(query).encode())
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    return answer.document


async def look_until(gateway: InProcess, path: str, holds: Any) -> Any:
    while not holds(found := await look(gateway, path)):
        await asyncio.sleep(0.005)
    return found


async def all_dead(gateway: InProcess, count: int) -> None:
    while sum(row.deliveries.get("picky") == "dead" for row in gateway.events()) < count:
        await asyncio.sleep(0.005)


async def done(gateway: InProcess, started: Answer) -> Any:
    assert started.status == 202, started.body
    return await look_until(gateway, f"/api/operations/{started.document['number']}", lambda found: found["finished"])


# Status


async def test_all_is_well(tmp_path: Path) -> None:
    """The first thing that the status says, with plugins, providers and the journal."""
    text = '[node]\nname = "east-1"\n[plugins.archive]\ndirectory = "a"\n[plugins.static_values]\n'
    async with in_process(tmp_path, text) as gateway:
        status = await look(gateway, "/api/status")
        assert (status["ok"], status["sentence"], status["problems"]) == (True, "All is well", [])
        assert [plugin["name"] for plugin in status["plugins"]] == ["archive"]
        assert [provider["name"] for provider in status["providers"]] == ["static_values"]
        assert status["journal"]["refusing"] is None
        assert status["journal"]["bytes"] > 0
        assert status["node"] == "east-1"
        assert (await look(gateway, "/health/ready"))["node"] == "east-1"


async def test_the_sentence_names_what_waits(tmp_path: Path, site: Path) -> None:
    """How many events wait for which plugin, since when, and why; in UTC."""
    source = """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            async def on_event(self, event):
                raise RuntimeError("no 447700900123 here")
    """
    write_plugin(site, "sick", source)
    text = '[plugins.sick]\nordered = false\nbackoff = "50ms"\nbackoff_max = "50ms"\nmax_attempts = 100000\n'
    async with with_events(tmp_path, 3, text) as (gateway, _):
        form = r"sick: 3 events wait since \d\d:\d\d: RuntimeError,? at plugin_sick.py:\d+"
        status = await look_until(
            gateway, "/api/status", lambda found: re.fullmatch(form, found["sentence"]) is not None
        )
        assert status["ok"] is False
        assert PHONE not in json.dumps(status)


async def test_the_sentence_names_dead_letters_and_a_full_journal(tmp_path: Path, picky: dict[str, bool]) -> None:
    """A refusing journal comes first."""
    async with with_events(tmp_path / "1", 2, "[plugins.picky]\n") as (gateway, _):
        dead = "picky: 2 dead letters wait for a decision"
        await look_until(gateway, "/api/status", lambda found: found["sentence"] == dead)
    async with in_process(tmp_path / "2", '[journal]\nmin_free = "1000 TiB"\n') as gateway:
        status = await look(gateway, "/api/status")
        assert status["sentence"].startswith("New events are refused: the journal has ")


# Events


async def test_events_newest_first_in_pages(tmp_path: Path) -> None:
    """Every event is in one page, also when more come meanwhile; an entry is that of `gateway events --json`."""
    async with with_events(tmp_path, 7) as (gateway, ids):
        seen: list[str] = []
        page: dict[str, Any] = {"next": ""}
        numbers = []
        while page["next"] is not None:
            page = await look(gateway, "/api/events", limit=3, cursor=page["next"])
            numbers.append(len(page["items"]))
            seen += [item["id"] for item in page["items"]]
            await gateway.post(message(50 + len(seen)))
        assert seen == ids[::-1]
        assert numbers == [3, 3, 1]
        [row] = [row for row in gateway.events() if row.id == ids[0]]
        [item] = (await look(gateway, "/api/events", text="number 0"))["items"]
        assert item == msgspec.json.decode(msgspec.json.encode(row))
        assert item["body"]["body"] == "hello number 0"


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"hook": "inboundMessage"}, [5, 4, 3, 2, 1, 0]),
        ({"hook": "payment"}, []),
        ({"organisation": "acme"}, [5, 4, 3, 2, 1, 0]),
        ({"conversation": "1"}, [4, 1]),
        ({"customer": CUSTOMER}, [5, 3, 1]),
        ({"address": "+44 7700 900123"}, [5, 4, 3, 2, 1, 0]),
        ({"address": "+44 7700 900124"}, []),
        ({"text": "num* 4"}, [4]),
        ({"state": "dead"}, []),
        ({"state": "no-taker"}, [5, 4, 3, 2, 1, 0]),
        ({"since": "1h"}, [5, 4, 3, 2, 1, 0]),
        ({"until": "1h"}, []),
        ({"customer": CUSTOMER, "conversation": "0"}, [3]),
    ],
    ids=str,
)
async def test_the_filters_of_events(tmp_path: Path, query: dict[str, str], numbers: list[int]) -> None:
    """Every condition must hold."""
    async with with_events(tmp_path, 6) as (gateway, ids):
        found = await look(gateway, "/api/events", **query)
        assert [ids.index(item["id"]) for item in found["items"]] == numbers
        assert found["next"] is None


@pytest.mark.parametrize(
    ("path", "query", "field", "why"),
    [
        ("events", "limit=0", "limit", 'expected a number from 1 to 500, found "0"'),
        ("events", "limit=many", "limit", 'expected a number from 1 to 500, found "many"'),
        ("events", "hooks=payment", "hooks", "unknown parameter; use hook, organisation, "),
        ("events", "hook=paymant", "hook", 'unknown hook "paymant"; did you mean "payment"?'),
        ("events", "state=ded", "state", 'unknown state "ded"; use one of: dead, retrying, '),
        ("events", "since=lunch", "since", "expected a time such as 2026-01-31, "),
        ("events", "since=1h&until=2h", "until", "expected a time after since, so nothing can match"),
        ("events", "plugin=archive", "plugin", "needs state: "),
        ("events", "plugin=nope&state=dead", "plugin", 'unknown plugin "nope"'),
        ("events", "organisation=nope", "organisation", 'unknown organisation "nope"'),
        ("events", "text=%21", "text", "expected a word, found a text without a letter or a digit"),
        ("events", "address=+", "address", "expected an address such as +353861234567, "),
        ("events", "cursor=1", "cursor", "expected the next of the page before, "),
        ("events", "hook=payment&hook=payment", "hook", "expected once, found twice"),
        ("events", "text=" + "a" * 1001, "text", "expected at most 1000 characters, found 1001"),
        ("timeline", "", "customer", "expected either customer or conversation"),
        ("timeline", "customer=1&conversation=1", "customer", "expected either customer or conversation"),
        ("timeline", "customer=1&cursor=x", "cursor", "expected the next of the page before, "),
        ("values", "status=9", "status", 'expected a number from 100 to 599, found "9"'),
        ("dead/groups", "plugin=nope", "plugin", 'unknown plugin "nope"'),
        ("dead/groups", "organisation=nope", "organisation", 'unknown organisation "nope"'),
    ],
)
async def test_a_fault_names_its_parameter(tmp_path: Path, path: str, query: str, field: str, why: str) -> None:
    """As a problem document, whose `field` is the parameter."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.manage("GET", f"/api/{path}", query=query.encode())
        assert (answer.status, answer.document["field"]) == (400, field)
        assert answer.problem.startswith(f"{field}: {why}")


async def test_a_page_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has fewer events than asked for where they are large, and one at least."""
    monkeypatch.setattr(pages, "PAGE_BYTES", 700)
    async with with_events(tmp_path, 4) as (gateway, ids):
        first = await look(gateway, "/api/events", limit=4)
        assert [item["id"] for item in first["items"]] == ids[:1:-1]
        second = await look(gateway, "/api/events", limit=4, cursor=first["next"])
        assert [item["id"] for item in second["items"]] == ids[1::-1]


async def test_one_event(tmp_path: Path, picky: dict[str, bool]) -> None:
    """With the states of its deliveries, and the error of the last attempt."""
    async with with_events(tmp_path, 1, "[plugins.picky]\n") as (gateway, [event_id]):
        await all_dead(gateway, 1)
        event = await look(gateway, f"/api/events/{event_id}")
        assert (event["id"], event["deliveries"]) == (event_id, {"picky": "dead"})
        assert "no room on disk" in event["attempts"]["picky"][-1]["error"]
        for unknown in ("nope", event_id[:-4] + "0000", "../status"):
            assert (await gateway.manage("GET", f"/api/events/{unknown}")).status == 404


async def test_an_event_is_delivered_again(tmp_path: Path, picky: dict[str, bool], site: Path) -> None:
    """A dead letter as a retry, one that the plugin took as a replay; not one that it has still to take."""
    async with with_events(tmp_path, 1, '[plugins.picky]\n[plugins.archive]\ndirectory = "a"\n') as (gateway, [one]):
        await all_dead(gateway, 1)
        path = f"/api/events/{one}/deliver"
        picky["rejecting"] = False
        retried = await done(gateway, await gateway.manage("POST", path, {"plugin": "picky"}))
        assert (retried["kind"], retried["matched"], retried["done"]) == ("retry", 1, 1)
        await look_until(gateway, f"/api/events/{one}", lambda event: event["deliveries"]["picky"] == "delivered")
        replayed = await done(gateway, await gateway.manage("POST", path, {"plugin": "archive"}))
        assert (replayed["kind"], replayed["matched"], replayed["done"]) == ("replay", 1, 1)
        for document, status in (({"plugin": "nope"}, 409), ({"plug": "picky"}, 400), ([], 400)):
            answer = await gateway.manage("POST", path, document)
            assert answer.status == status
            assert answer.problem


async def test_a_search_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence that says what helps, since a search must not keep others from theirs."""
    monkeypatch.setattr(reading, "SECONDS", 0.0)
    monkeypatch.setattr("gateway.journal.sqlite.reader.STEPS", 1)
    async with with_events(tmp_path, 3) as (gateway, _):
        answer = await gateway.manage("GET", "/api/events", query=b"state=waiting")
        assert answer.status == 503
        assert answer.problem.startswith("the search took too long; give it fewer events to read")


# Timeline and values


async def test_a_timeline_in_pages(tmp_path: Path) -> None:
    """In order, each line once, with what the bot asked for."""
    text = '[values]\naudit = true\n[plugins.static_values]\nvalues.balance = "1"\n'
    async with with_events(tmp_path, 5, text) as (gateway, ids):
        for _ in range(3):
            await gateway.request("GET", query=f"customerUID={CUSTOMER}&param1=balance".encode())
        await look_until(gateway, "/api/values", lambda found: len(found["items"]) == 3)
        whole = (await look(gateway, "/api/timeline", customer=CUSTOMER))["items"]
        assert [line["kind"] for line in whole] == ["event", "event", "value", "value", "value"]
        assert [line["id"] for line in whole[:2]] == [ids[1], ids[3]]
        assert whole[2]["fields"]["balance"]["outcome"] == "value"
        lines: list[Any] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            page = await look(gateway, "/api/timeline", customer=CUSTOMER, limit=2, cursor=page["next"])
            lines += page["items"]
        assert lines == whole
        assert len((await look(gateway, "/api/timeline", conversation="1"))["items"]) >= 2


def test_entries_of_one_moment_are_each_in_one_page() -> None:
    """A place in a list by time counts those of its moment that were passed."""
    from datetime import UTC, datetime

    from gateway.journal.search import ValueRecord

    at = datetime(2026, 1, 31, tzinfo=UTC)
    entries = [
        ValueRecord(at=at, organisation="acme", customer_uid=str(number), address=None, fields={}, status=200)
        for number in range(7)
    ]
    seen: list[ValueRecord] = []
    place: pages.PagePlace | None = None
    while True:
        page = pages._page(entries, 2, place)
        seen += page.items
        if page.next is None:
            break
        place = pages.PagePlace.of(page.next)
    assert seen == entries


async def test_custom_value_requests_newest_first(tmp_path: Path) -> None:
    """Without the values; filtered by field, customer and status; in pages."""
    text = '[values]\naudit = true\n[values.fields.balance]\naliases = ["saldo"]\n[plugins.static_values]\n'
    async with in_process(tmp_path, text + 'values.balance = "120.50"\n') as gateway, asyncio.timeout(30):
        for number, field in enumerate(("balance", "saldo", "nothing")):
            await gateway.request("GET", query=f"customerUID={number}&param1={field}".encode())
        await look_until(gateway, "/api/values", lambda found: len(found["items"]) == 3)
        found = await look(gateway, "/api/values")
        assert [item["customer_uid"] for item in found["items"]] == ["2", "1", "0"]
        assert "120.50" not in json.dumps(found)
        first = await look(gateway, "/api/values", limit=2)
        rest = await look(gateway, "/api/values", limit=2, cursor=first["next"])
        assert first["items"] + rest["items"] == found["items"]
        for query, customers in (
            ({"field": "balance"}, ["1", "0"]),
            ({"status": 404}, ["2"]),
            ({"customer": 1}, ["1"]),
        ):
            items = (await look(gateway, "/api/values", **query))["items"]
            assert [item["customer_uid"] for item in items] == customers


# Dead letters and operations


async def test_dead_letters_are_grouped_by_cause(tmp_path: Path, picky: dict[str, bool]) -> None:
    """Numbers, ids and quoted texts of their errors make no difference, and are not shown."""
    async with with_events(tmp_path, 3, "[plugins.picky]\n") as (gateway, ids):
        await all_dead(gateway, 3)
        [group] = await look(gateway, "/api/dead/groups")
        assert (group["plugin"], group["count"], group["sample"]) == ("picky", 3, ids[-1])
        assert group["first"] <= group["last"]
        assert re.fullmatch(r"Reject at plugin_picky.py:\d+: no room on disk … for …, code …", group["error"])
        assert [group["count"] for group in await look(gateway, "/api/dead/groups", conversation="0")] == [1]
        assert await look(gateway, "/api/dead/groups", hook="payment") == []


async def test_a_group_is_counted_retried_and_discarded(tmp_path: Path, picky: dict[str, bool]) -> None:
    """By its plugin and error: those of another cause stay."""
    async with with_events(tmp_path, 4, "[plugins.picky]\n") as (gateway, ids):
        await all_dead(gateway, 4)
        [group] = await look(gateway, "/api/dead/groups")
        which = {"plugin": "picky", "error": group["error"]}
        other = {"plugin": "picky", "error": "another"}
        operation = {"kind": "retry", "filter": which, "dry_run": True}
        counted = await gateway.manage("POST", "/api/operations", operation)
        assert counted.document == {"number": None, "matched": 4}
        nothing = await gateway.manage("POST", "/api/operations", {"kind": "discard", "filter": other})
        assert (await done(gateway, nothing))["done"] == 0
        one = {"kind": "discard", "filter": which | {"ids": [ids[0]]}}
        discarded = await done(gateway, await gateway.manage("POST", "/api/operations", one))
        assert (discarded["matched"], discarded["done"]) == (1, 1)
        picky["rejecting"] = False
        started = await gateway.manage("POST", "/api/operations", operation | {"dry_run": False, "in_order": True})
        assert (await done(gateway, started))["done"] == 3
        states = [None, "delivered", "delivered", "delivered"]
        while [row.deliveries.get("picky") for row in gateway.events()] != states:
            await asyncio.sleep(0.005)


async def test_a_replay_is_an_operation(tmp_path: Path) -> None:
    """Its end has what was delivered."""
    async with with_events(tmp_path, 3, '[plugins.archive]\ndirectory = "a"\n') as (gateway, _):
        await look_until(
            gateway, "/api/events", lambda page: all(item["state"] == "delivered" for item in page["items"])
        )
        started = await gateway.manage(
            "POST", "/api/operations", {"kind": "replay", "filter": {"plugin": "archive", "customer": CUSTOMER}}
        )
        assert started.document["matched"] == 1
        assert (await done(gateway, started))["done"] == 1


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        ({"kind": "forget", "filter": {}}, 400, "filter"),
        ({"kind": "forget", "filter": {"customer": "1", "hook": "payment"}}, 400, "filter"),
        ({"kind": "erase", "filter": {}}, 400, None),
        ({"kind": "retry"}, 400, None),
        ({"kind": "retry", "filter": {"colour": "red"}}, 400, None),
        ({"kind": "retry", "filter": {"state": "delivered"}}, 400, "filter.state"),
        ({"kind": "replay", "filter": {"state": "ded"}}, 400, "filter.state"),
        ({"kind": "retry", "filter": {"since": "2026-01-31T12:00:00"}}, 400, "filter.since"),
        ({"kind": "retry", "filter": {"ids": ["a"] * 10_001}}, 400, "filter.ids"),
        ({"kind": "replay", "filter": {"plugin": "archive", "error": "x"}}, 400, "filter.error"),
        ({"kind": "discard", "filter": {}, "in_order": True}, 400, "in_order"),
        ({"kind": "replay", "filter": {}}, 409, None),
        ({"kind": "retry", "filter": {"plugin": "nope"}}, 409, None),
    ],
)
async def test_an_operation_that_is_none(
    tmp_path: Path, document: dict[str, Any], status: int, field: str | None
) -> None:
    """Nothing is begun, and the answer says why."""
    async with in_process(tmp_path, '[plugins.archive]\ndirectory = "a"\n') as gateway:
        answer = await gateway.manage("POST", "/api/operations", document)
        assert (answer.status, answer.document.get("field")) == (status, field)
        assert answer.problem
        for number in ("0", "1", "x", "9" * 18, "9" * 30, "-1"):
            assert (await gateway.manage("GET", f"/api/operations/{number}")).status == 404


# Drift, config, OpenAPI


async def test_drift_names_unknown_types_and_unreadable_bodies(tmp_path: Path) -> None:
    """With their number, time and an example."""
    async with in_process(tmp_path) as gateway, asyncio.timeout(30):
        await gateway.post(b'{"type":"somethingNew"}')
        await gateway.post(b'{"type":"inboundMessage"}')
        sample = (await gateway.post(b'{"type":"inboundMessage","x":1}')).document["id"]
        drift = await look_until(gateway, "/api/drift", lambda found: found["unknown"])
        assert [(one["name"], one["count"]) for one in drift["unknown"]] == [("somethingNew", 1)]
        [unreadable] = drift["unreadable"]
        assert (unreadable["hook"], unreadable["count"], unreadable["sample"]) == ("inbound-message", 2, sample)


async def test_the_config_in_effect(tmp_path: Path) -> None:
    """With defaults, as the file writes them, and without a secret."""
    text = """
        [journal]
        retention = "36h"
        [plugins.archive]
        directory = "a"
        [plugins.http_values]
        url = "http://user:hunter2@127.0.0.1:9/v?api_key=hunter2"
        headers = { "X-Key" = "hunter2" }
        fields = ["balance"]
        enabled = false
    """
    async with in_process(tmp_path, text) as gateway:
        config = await look(gateway, "/api/config")
        assert (config["journal"]["retention"], config["journal"]["max_size"]) == ("36h", "10 GiB")
        assert config["delivery"]["timeout"] == "30s"
        assert config["organisations"]["acme"]["secrets"] == ["… (file webio.secret)"]
        assert config["plugins"]["archive"]["directory"] == "a"
        assert config["plugins"]["http_values"]["headers"] == {"X-Key": "…"}
        assert config["plugins"]["http_values"]["url"] == "http://…@127.0.0.1:9/v?api_key=…"
        everything = json.dumps(config)
        assert "hunter2" not in everything
        assert "thirty-two bytes" not in everything


async def test_openapi_describes_what_there_is(tmp_path: Path) -> None:
    """Each path of it answers (`/changes` does not end: see test_live_pages), every reference leads somewhere, and
    Webio's nine hooks have their schemas."""
    async with in_process(tmp_path) as gateway:
        document = await look(gateway, "/api/openapi.json")
        assert document["openapi"] == "3.1.0"
        assert sorted(document["webhooks"]) == sorted([*HOOKS, "custom-values"])
        schemas = document["components"]["schemas"]
        references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
        assert references <= schemas.keys()
        assert "communicationActionId" in schemas["InboundMessage"]["properties"]
        for path, methods in document["paths"].items():
            if "get" in methods and "{" not in path and path != "/changes":
                query = b"customer=1" if path == "/api/timeline" else b""
                assert (await gateway.manage("GET", path, query=query)).status == 200
        assert (await gateway.request("GET", "/api/openapi.json")).status == 404


# Access


async def test_the_api_needs_the_password_and_leaves_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every path of it; a look-up of a customer is in the audit log without the number."""
    (tmp_path / "password").write_text("correct horse")
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        paths = ("status", "events", "events/1", "timeline", "values", "drift", "config", "dead/groups", "openapi.json")
        for path in (*paths, "operations/1"):
            assert (await gateway.manage("GET", f"/api/{path}")).status == 401
        for path in ("operations", "events/1/deliver"):
            assert (await gateway.manage("POST", f"/api/{path}", {})).status == 401
    with caplog.at_level(logging.INFO, "gateway.audit"):
        async with with_events(tmp_path / "open", 2) as (gateway, _):
            await look(gateway, "/api/events", customer=CUSTOMER)
            await look(gateway, "/api/timeline", customer=CUSTOMER)
            await look(gateway, "/api/events", address=PHONE)
            await look(gateway, "/api/values", customer=CUSTOMER)
            await look(gateway, "/api/dead/groups", customer=CUSTOMER)
            await look(gateway, "/api/status")
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.audit"]
    assert [line.partition(": ")[2].partition(" (")[0] for line in lines] == [
        "look-up of events",
        "look-up of a timeline",
        "look-up of events",
        "look-up of custom value requests",
        "look-up of dead letters",
    ]
    assert not any(PHONE in line or CUSTOMER in line for line in lines)


def test_the_api_of_a_running_gateway(tmp_path: Path) -> None:
    """Lists what `gateway send` sent, over a real connection, and no path of it is on the public listener."""
    with running(tmp_path) as gateway:
        assert gateway.cli("send", "payment", "--count", "2").returncode == 0
        page = httpx.get(f"{gateway.admin_url}/api/events").json()
        assert [item["hook"] for item in page["items"]] == ["payment", "payment"]
        assert httpx.get(f"{gateway.admin_url}/api/status").json()["sentence"] == "All is well"
        assert httpx.get(gateway.url.replace("/webio", "/api/events")).status_code == 404
