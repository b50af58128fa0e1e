"""The public endpoint, request by request: what is an event, and what its answer says."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from asgi import GONE, chunks, in_process
from click.testing import CliRunner
from running import write_config, write_plugin

from gateway import simulate
from gateway.cli import cli
from gateway.config.load import load_config
from gateway.events import HOOKS
from gateway.unknown import UnknownNames

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NO_EVENTS: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b"  \n ",
    "a list": b"[]",
    "a list of events": b'[{"type":"payment"}]',
    "a text": b'""',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "NaN": b'{"type":"payment","amount":NaN}',
    "Infinity": b'{"type":"payment","amount":-Infinity}',
    "a number no float holds": b'{"type":"payment","amount":1e999}',
    "a whole number of 5,000 digits": b'{"type":"payment","amount":' + b"9" * 5000 + b"}",
    "invalid UTF-8": b'{"type":"payment","note":"\xff"}',
    "half a character": b'{"type":"payment","note":"\xe2\x82"}',
    "UTF-16": '{"type":"payment"}'.encode("utf-16"),
    "lists, 100,000 deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects, 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open brackets": b"[" * 100_000,
    "half an object": b'{"type":"payment"',
    "two objects": b'{"type":"payment"}{"type":"payment"}',
    "a comma too many": b'{"type":"payment",}',
    "single quotes": b"{'type':'payment'}",
    "a raw line break in a text": b'{"type":"pay\nment"}',
    "NUL after it": b'{"type":"payment"}\0',
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"type":"payment"}',
    "a form": b"type=payment&amount=1",
    "XML": b"<type>payment</type>",
}


async def test_the_type_in_the_body_names_the_hook(tmp_path: Path) -> None:
    """POST to the base path: hook from `type`; the answer has these four fields and no other."""
    async with in_process(tmp_path) as gateway:
        for hook in HOOKS:
            answer = await gateway.post(simulate.encode(simulate.body(hook)))
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
            document = answer.document
            assert list(document) == ["id", "hook", "duplicate", "readable"]
            assert ID.fullmatch(document.pop("id"))
            assert document == {"hook": hook, "duplicate": False, "readable": True}


@pytest.mark.parametrize("hook", HOOKS)
async def test_the_path_names_the_hook(tmp_path: Path, hook: str) -> None:
    """POST to a hook's own path: the path decides, whatever `type` says, and without any."""
    async with in_process(tmp_path) as gateway:
        fields = simulate.body(hook)
        for kind in ("somethingElse", "inboundMessage", 7, None):
            answer = await gateway.post(simulate.encode({**fields, "type": kind, "n": str(kind)}), hook)
            assert (answer.status, answer.document["hook"]) == (200, hook)
        del fields["type"]
        slash = await gateway.request("POST", f"/webio/{hook}/", simulate.encode(fields))
        assert (slash.status, slash.document["hook"], slash.document["readable"]) == (200, hook, True)
        assert {row.hook for row in gateway.events()} == {hook}


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("setStatus", "set-status"),
        ("moveToQueue", "move-to-queue"),
        ("conversation_closed", "conversation-closed"),
        ("Conversation Assignment", "conversation-assignment"),
        ("messageStatusUpdate/", "delivery-report"),
        ("set/status", "set-status"),
        ("webioPayment", "payment"),
    ],
)
async def test_a_name_in_the_path_is_read_forgivingly(tmp_path: Path, name: str, hook: str) -> None:
    """As a `type` is: by any case and separators, by Webio's words and by those of the config."""
    async with in_process(tmp_path, '[hooks.payment]\ntypes = ["webioPayment"]\n') as gateway:
        answer = await gateway.post(simulate.encode({**simulate.body(hook), "type": "inboundMessage"}), name)
        assert (answer.status, answer.document["hook"], answer.document["readable"]) == (200, hook, True)
        assert [(row.hook, row.name) for row in gateway.events()] == [(hook, None)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("refundMade", "/refundMade"),
        ("payment/x", "/payment/x"),
        ("../admin/", "/../admin"),
        ("a\r\n200 fake line\x1b[2J\u202e", "/a\ufffd\ufffd200 fake line\ufffd[2J\ufffd"),
        ("x" * 70, f"/{'x' * 62}…"),
    ],
)
async def test_an_unknown_name_in_the_path_is_kept(tmp_path: Path, name: str, kept: str) -> None:
    """With the name that it came by, bounded and printable, whatever `type` says."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.post(b'{"type": "payment"}', name)
        assert (answer.status, answer.document["hook"], answer.document["readable"]) == (200, "unknown", True)
        assert [(row.hook, row.name) for row in gateway.events()] == [("unknown", kept)]
        refused = await gateway.post(b"[]", name)
        assert refused.status == 400


async def test_an_unknown_type_is_kept_with_its_name(tmp_path: Path) -> None:
    """The text of `type`; none where it is missing or not a text."""
    async with in_process(tmp_path) as gateway:
        for body in (b'{"type": "refund\\u0000Made"}', b'{"type": 7}', b"{}"):
            assert (await gateway.post(body)).document["hook"] == "unknown"
        assert [row.name for row in gateway.events()] == ["refund\ufffdMade", None, None]


async def test_an_unknown_name_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the lines to add to the config, which keep the types that are there; a number in a name is not shown."""
    caplog.set_level(logging.WARNING)
    async with in_process(tmp_path, '[hooks.payment]\ntypes = ["webioPay"]\n') as gateway:
        for n in range(3):
            await gateway.post(simulate.encode({"type": "cardPayment", "n": n}))
        await gateway.post(b"{}", "refundMade")
        await gateway.post(b'{"type": "447700900123"}')
    add = "is kept as unknown; if you know its hook, add to [hooks.{}] in the config: types = [{}]"
    assert caplog.messages == [
        'an event of the type "cardPayment" ' + add.format("payment", '"webioPay", "cardPayment"'),
        'an event at the path "/refundMade" ' + add.format("HOOK", '"refundMade"'),
        'an event of the type "…" is kept as unknown; `gateway events --hook unknown` lists what is kept',
    ]


def test_an_unknown_name_is_logged_again_after_an_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With how many came meanwhile; beyond a hundred names the others share a line."""
    now = [0.0]
    names = UnknownNames(load_config(write_config(tmp_path)), lambda: now[0])
    for at in (0.0, 1.0, 3599.0, 3600.0):
        now[0] = at
        names.note("new", "an id")
    assert [", and 2 before it" in message for message in caplog.messages] == [False, True]
    for number in range(300):
        names.note(f"name {number}", "an id")
    assert len(caplog.messages) == 2 + 99 + 1
    assert caplog.messages[-1].startswith("an event by a further name is kept as unknown")


@pytest.mark.parametrize("plugin", [(), ("--plugin", "archive")])
async def test_what_was_unknown_is_delivered_after_the_repair(tmp_path: Path, plugin: tuple[str, ...]) -> None:
    """Kept by its `type` or its path, and replayed as the hook that the config then names."""
    archive = '[plugins.archive]\ndirectory = "archived"\n'
    async with in_process(tmp_path, archive) as gateway:
        kept = [(await gateway.post(b'{"type": "cardPaid", "amount": 12.50}')).document["id"]]
        kept.append((await gateway.post(b'{"amount": 7}', "card-paid")).document["id"])
        still = (await gateway.post(b'{"type": "brandNew"}')).document["id"]
    path = write_config(tmp_path, f'[hooks.payment]\ntypes = ["cardPaid"]\n{archive}')
    command = ["replay", "--unknown", *plugin, "-c", str(path)]
    refused = await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--hook", "payment"])
    assert refused.exit_code == 2
    replayed = await asyncio.to_thread(CliRunner().invoke, cli, command)
    assert replayed.stdout == "2 of 2 will be delivered to archive again after the next start\n"
    async with (
        in_process(tmp_path, f'[hooks.payment]\ntypes = ["cardPaid"]\n{archive}') as gateway,
        asyncio.timeout(30),
    ):
        while not gateway.gateway.delivery.consumers["archive"].idle:
            await asyncio.sleep(0.01)
    lines = {hook: _archived(tmp_path, hook) for hook in ("payment", "unknown")}
    assert lines == {"payment": kept, "unknown": [*kept, still]}


def _archived(directory: Path, hook: str) -> list[str]:
    files = sorted((directory / "archived" / "acme" / hook).glob("*.jsonl"))
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


async def test_a_name_in_the_path_needs_a_token(tmp_path: Path) -> None:
    """Without a good token every name gets the same 401, and nothing is kept."""
    async with in_process(tmp_path) as gateway:
        for path in ("/webio/refundMade", "/webio/setStatus", "/webio/a/b", "/webio/", "/webio/../health"):
            refused = await gateway.request("POST", path, b"{}", organisation=None)
            assert (refused.status, refused.problem) == (401, "The x-webio-token header is missing or not valid.")
        assert gateway.events() == []


async def test_the_answer_comes_after_the_commit(tmp_path: Path) -> None:
    """After a 200, the journal file has the event as received, under the id of the answer."""
    async with in_process(tmp_path) as gateway:
        body = b'{"type": "payment",\n "amount": 12.50, "n": 123456789012345678901234567890}'
        answer = await gateway.post(body)
        [row] = gateway.events()
        assert (row.id, row.organisation, row.hook) == (answer.document["id"], "acme", "payment")
        assert bytes(row.body) == body.replace(b"\n", b" ")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "text/plain", "text/xml", "application/octet-stream", ""],
)
async def test_any_content_type_will_do(tmp_path: Path, content_type: str) -> None:
    """A JSON body is accepted with any Content-Type, and without one."""
    async with in_process(tmp_path) as gateway:
        headers = [(b"content-type", content_type.encode())] if content_type else []
        answer = await gateway.request("POST", "/webio", b'{"type":"payment"}', headers=headers)
        assert (answer.status, answer.document["hook"]) == (200, "payment")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_body_may_come_in_pieces(tmp_path: Path, size: int) -> None:
    """A body that arrives in pieces is one event with all of its bytes."""
    async with in_process(tmp_path) as gateway:
        body = simulate.encode({**simulate.body("inbound-message"), "body": "déjà vu " * 20})
        answer = await gateway.post(chunks(body, size))
        assert (answer.status, answer.document["readable"]) == (200, True)
        [row] = gateway.events()
        assert bytes(row.body) == body


async def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    """A UTF-8 BOM before the object is accepted."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.post(b"\xef\xbb\xbf" + simulate.encode(simulate.body("payment")))
        assert (answer.status, answer.document["hook"], answer.document["readable"]) == (200, "payment", True)


@pytest.mark.parametrize("hook", [None, "payment"])
async def test_what_is_no_json_object_is_no_event(tmp_path: Path, hook: str | None) -> None:
    """400 with a problem document, the same with a hook in the path; nothing is kept, nothing of it is echoed."""
    async with in_process(tmp_path) as gateway:
        for name, body in NO_EVENTS.items():
            answer = await gateway.post(body, hook)
            assert answer.status == 400, name
            assert answer.problem.startswith("The body is not an event: the body ")
            assert len(answer.body) < 250
        assert gateway.events() == []
        assert gateway.metrics()['gateway_requests_refused_total{reason="json",status="400"}'] == len(NO_EVENTS)


async def test_a_body_that_breaks_off_is_no_event(tmp_path: Path) -> None:
    """The client hangs up, or its chunks cannot be read: 400, and nothing is kept."""
    async with in_process(tmp_path) as gateway:
        for beginning in ([], [b'{"type":"payment"}']):
            answer = await gateway.post([*beginning, GONE])
            assert answer.status == 400
            assert answer.problem == "The body is incomplete, or its chunks are not valid."
            assert answer.headers["connection"] == "close"
        assert gateway.events() == []


@pytest.mark.parametrize("kind", ["", "webioNews", "pay", "custom-values", None, 5, ["payment"], {"payment": 1}, True])
async def test_an_unknown_type_is_kept(tmp_path: Path, kind: Any) -> None:
    """An authentic object of an unknown type, or without a type, is an event: 200, hook `unknown`."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.post(simulate.encode({"type": kind, "n": 1}))
        assert answer.status == 200
        assert (answer.document["hook"], answer.document["readable"]) == ("unknown", True)
        answer = await gateway.post(b"{}")
        assert (answer.status, answer.document["hook"]) == (200, "unknown")
        assert len(gateway.events()) == 2


async def test_an_object_that_does_not_fit_its_hook_is_kept(tmp_path: Path) -> None:
    """An object that does not fit its hook gets 200 with `readable: false`, and is kept as received."""
    async with in_process(tmp_path) as gateway:
        body = b'{"type":"inboundMessage","conversationId":{"not":"a text"}}'
        answer = await gateway.post(body)
        assert answer.status == 200
        assert (answer.document["hook"], answer.document["readable"]) == ("inbound-message", False)
        [row] = gateway.events()
        assert (row.readable, bytes(row.body)) == (False, body)
        key = 'gateway_events_received_total{hook="inbound-message",kind="unreadable",organisation="acme"}'
        assert gateway.metrics()[key] == 1


async def test_a_further_spelling_from_the_config(tmp_path: Path) -> None:
    """`[hooks.payment] types` adds to what `type` may be; case, spaces, `-` and `_` never matter."""
    async with in_process(tmp_path, '[hooks.payment]\ntypes = ["webioPayReceived"]\n') as gateway:
        for spelling in ("webioPayReceived", "WEBIO pay_received", "Payment", "pay-ment"):
            answer = await gateway.post(simulate.encode({"type": spelling}))
            assert (answer.status, answer.document["hook"]) == (200, "payment")


async def test_the_same_bytes_twice_are_one_event(tmp_path: Path) -> None:
    """A repeated body with `dateCreated` gets the id of the first one and `duplicate: true`; it is kept once."""
    async with in_process(tmp_path) as gateway:
        body = simulate.encode(simulate.body("inbound-message"))
        first = (await gateway.post(body)).document
        for _ in range(3):
            again = await gateway.post(body)
            assert again.status == 200
            assert again.document == {**first, "duplicate": True}
        assert [row.id for row in gateway.events()] == [first["id"]]
        received = 'gateway_events_received_total{hook="inbound-message",kind="%s",organisation="acme"}'
        counted = gateway.metrics()
        assert (counted[received % "new"], counted[received % "duplicate"]) == (1, 3)


async def test_a_duplicate_is_not_delivered_again(tmp_path: Path, site: Path) -> None:
    """Plugins get the first event of a repeated body, and not its duplicates."""
    source = """
        import asyncio
        from gateway import hookimpl

        seen = asyncio.Queue()

        class Plugin:
            @hookimpl
            async def on_event(self, event):
                seen.put_nowait(event.id)
    """
    write_plugin(site, "seeing", source)

    async with in_process(tmp_path, "[plugins.seeing]\n") as gateway:
        seen = importlib.import_module("plugin_seeing").seen
        body = simulate.encode(simulate.body("payment"))
        ids = [(await gateway.post(content)).document["id"] for content in (body, body, b"{}")]
        assert [await seen.get(), await seen.get()] == [ids[0], ids[2]]


async def test_a_duplicate_is_one_of_the_same_hook_only(tmp_path: Path) -> None:
    """The same bytes at another hook's path are another event; by path or by type, one hook is one hook."""
    async with in_process(tmp_path) as gateway:
        body = simulate.encode(simulate.body("payment"))
        ids = [(await gateway.post(body, hook)).document["id"] for hook in (None, "payment", "set-status")]
        assert ids[0] == ids[1] != ids[2]


async def test_without_a_date_nothing_is_a_duplicate(tmp_path: Path) -> None:
    """Unsure means keep: no `dateCreated`, or an empty one, and every body is an event of its own."""
    async with in_process(tmp_path) as gateway:
        fields = simulate.body("payment")
        for date in (None, ""):
            body = simulate.encode({**fields, "dateCreated": date})
            answers = [(await gateway.post(body)).document for _ in range(2)]
            assert answers[0]["id"] != answers[1]["id"]
            assert not answers[1]["duplicate"]
        assert len(gateway.events()) == 4


@pytest.mark.parametrize(
    "date",
    ["yesterday", 20210128, 1611836535397, "28/01/2021 12:22", "Thu, 28 Jan 2021 12:22:15 GMT", "20210128T122215"],
)
async def test_a_date_in_any_form_makes_a_repeated_body_the_same_event(tmp_path: Path, date: str | int) -> None:
    """A date in any form is enough to recognise a repeat, since Webio does not document the form for most hooks."""
    async with in_process(tmp_path) as gateway:
        body = simulate.encode({**simulate.body("payment"), "dateCreated": date})
        first, second = [(await gateway.post(body)).document for _ in range(2)]
        assert second == {**first, "duplicate": True}
        other = (await gateway.post(body.replace(b"{", b"{ ", 1))).document
        assert not other["duplicate"]
        assert len(gateway.events()) == 2


OTHER = '[organisations.other]\nsecrets = [{ env = "OTHER_SECRET" }]\n'


async def test_a_duplicate_is_one_of_the_same_organisation_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token decides whose event it is; one organisation's body is never another's duplicate."""
    monkeypatch.setenv("OTHER_SECRET", "another secret of thirty-two bytes or more")

    async with in_process(tmp_path, OTHER) as gateway:
        body = simulate.encode(simulate.body("payment"))
        first = (await gateway.post(body)).document
        other = (await gateway.post(body, organisation="other")).document
        assert first["id"] != other["id"]
        assert other["duplicate"] is False
        assert (await gateway.post(body, organisation="other")).document == {**other, "duplicate": True}
        assert [row.organisation for row in gateway.events()] == ["acme", "other"]


async def test_a_second_story_of_the_same_message_is_flagged(tmp_path: Path) -> None:
    """The same message and status with another body is a second event, and `gateway events` shows the conflict."""
    async with in_process(tmp_path) as gateway:
        fields = simulate.body("delivery-report")
        for note in ("one", "two"):
            answer = (await gateway.post(simulate.encode({**fields, "note": note}))).document
            assert answer["duplicate"] is False
        shown = CliRunner().invoke(cli, ["events", "--json", "-c", str(gateway.config.source)])
        assert shown.exit_code == 0, shown.output
        assert [json.loads(line)["conflict"] for line in shown.output.splitlines()] == [False, True]


class Providers:
    """A distribution that answers custom values."""

    SOURCE = """
        import asyncio
        from gateway import SeveralCustomers, hookimpl

        class Plugin:
            @hookimpl
            async def custom_values(self, request):
                if request.customer_uid == "two":
                    raise SeveralCustomers
                if request.customer_uid == "late":
                    await asyncio.sleep(60)
                if request.customer_uid == "fault":
                    raise RuntimeError("447700900123 is broken")
                known = {"balance": "120.50", "who": request.organisation, "uid": request.customer_uid or "-"}
                return {field: known[field] for field in request.fields if field in known}
    """


async def test_custom_values_over_http(tmp_path: Path, site: Path) -> None:
    """GET at both of its paths: 200 and the values; nothing on the way may keep the answer."""
    write_plugin(site, "providing", Providers.SOURCE)

    async with in_process(tmp_path, "[plugins.providing]\n") as gateway:
        query = b"customerUID=123456&outboundChannelAddress=44777777777&param1=balance&param2=who"
        for path in ("/webio", "/webio/", "/webio/custom-values", "/webio/custom-values/"):
            answer = await gateway.request("GET", path, query=query)
            assert (answer.status, answer.document) == (200, {"balance": "120.50", "who": "acme"})
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
        assert gateway.metrics()['gateway_custom_value_requests_total{organisation="acme",status="200"}'] == 4
        assert gateway.metrics()['gateway_answer_seconds_count{request="custom_values"}'] == 4


@pytest.mark.parametrize(
    ("query", "status", "fields"),
    [
        (b"customerUID=1&param1=balance&param2=shoe", 404, ["shoe"]),
        (b"customerUID=two&param1=balance", 409, ["balance"]),
        (b"customerUID=fault&param1=balance", 502, ["balance"]),
        (b"customerUID=late&param1=balance", 504, ["balance"]),
    ],
)
async def test_a_custom_value_that_is_missing_fails_the_request(
    tmp_path: Path, site: Path, query: bytes, status: int, fields: list[str]
) -> None:
    """404, 409, 502 and 504 are problem documents that name the fields, and nothing else of request or fault."""
    write_plugin(site, "providing", Providers.SOURCE)

    async with in_process(tmp_path, '[values]\ndeadline = "1s"\n[plugins.providing]\n') as gateway:
        answer = await gateway.request("GET", query=query)
        assert answer.status == status
        assert answer.problem
        assert answer.document["fields"] == fields
        assert answer.headers["cache-control"] == "no-store"
        assert b"447700900123" not in answer.body


async def test_a_request_without_a_field_tests_the_connection(tmp_path: Path) -> None:
    """A good token and no `param`: 200 `{}`."""
    async with in_process(tmp_path) as gateway:
        for query in (b"", b"customerUID=&outboundChannelAddress="):
            answer = await gateway.request("GET", query=query)
            assert (answer.status, answer.body) == (200, b"{}")


async def test_a_request_for_values_that_fails_leaves_a_line(
    tmp_path: Path, site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what is wrong and with which fields; names that may hold personal data are left out."""
    async with in_process(tmp_path, "[plugins.static_values.values]\nhours = '9 to 5'\n") as gateway:
        for query in (
            b"param1=hours",
            b"param1=balanse&param2=hours",
            b"param1=447700900123&param2=" + b"x" * 60,
            b"customerUID=1&customerUID=2&param1=hours",
            b"&".join(b"param%d=f%d" % (n, n) for n in range(8)),
        ):
            await gateway.request("GET", query=query)

    unknown = "404 GET from 127.0.0.1: no provider knows this customer or this field: "
    assert caplog.messages == [
        unknown + "balanse unknown",
        unknown + "… unknown, … unknown",
        "400 GET from 127.0.0.1: more than one customerUID",
        unknown + ", ".join(f"f{n} unknown" for n in range(5)) + ", and 3 more",
    ]


async def test_a_flood_of_one_kind_hides_no_refusal_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Many refusals for one reason do not hide a refusal for another reason in the log."""
    async with in_process(tmp_path) as gateway:
        for _ in range(40):
            await gateway.request("GET", "/scan", organisation=None)
        await gateway.request("POST", body=b"[]")

    assert (
        caplog.messages[-1]
        == "400 POST from 127.0.0.1: The body is not an event: the body is valid JSON, but not an object."
    )


async def test_when_nothing_can_be_kept_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """503 with `Retry-After` and without the reason; the log and the metric have it. GET still works."""
    async with in_process(tmp_path, '[journal]\nmin_free = "1000 TiB"\n') as gateway:
        answer = await gateway.post(b'{"type":"payment"}')
        assert answer.status == 503
        assert answer.problem == "The gateway cannot keep the event now; send it again later."
        assert answer.headers["retry-after"] == "5"
        assert gateway.metrics()['gateway_requests_refused_total{reason="journal",status="503"}'] == 1
        assert (await gateway.request("GET")).status == 200
        assert gateway.events() == []

    assert "less than journal.min_free" in caplog.text


async def test_a_fault_inside_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """503 with a problem document that does not tell the cause; the log has the type of the error, and no traceback."""
    async with in_process(tmp_path) as gateway:

        async def fails(*_: Any) -> None:
            raise RuntimeError("of 447700900123")

        gateway.gateway.values.answer = fails  # type: ignore[method-assign, assignment]
        answer = await gateway.request("GET")
        assert (answer.status, answer.problem) == (503, "The gateway could not handle this request.")
        assert answer.headers["cache-control"] == "no-store"

    assert caplog.messages == ["a request failed and was answered 503: RuntimeError"]
