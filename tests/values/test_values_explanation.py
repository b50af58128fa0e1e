"""`GET /api/values` on the admin listener: an answer with what became of each field."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
from asgi import Answer, InProcess, call, in_process, scope_of

from gateway.journal import open_reader
from gateway.journal.search import ValueRecordFilter

HOST = (b"host", b"127.0.0.1")
CONFIG = """
    [values]
    audit = true
    cache = "1m"
    nullable = ["nothing"]
    [values.fields.gone]
    default = "unknown"
    [plugins.static_values]
    [plugins.static_values.values]
    hours = "9 to 5"
    support = "+353 1 555 0100"
    """


async def ask(gateway: InProcess, query: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    return await call(gateway.admin, scope_of("GET", "/api/values", query, [HOST, *headers], "127.0.0.1"), b"")


def outcomes(answer: Answer) -> dict[str, tuple[str, str | None]]:
    fields: dict[str, Any] = msgspec.json.decode(answer.body)["fields"]
    assert all(field["ms"] >= 0 for field in fields.values())
    return {name: (field["outcome"], field["provider"]) for name, field in fields.items()}


async def test_it_tells_what_became_of_each_field(tmp_path: Path) -> None:
    """Beside the status and the values that Webio would get for the same query."""
    async with in_process(tmp_path, CONFIG) as gateway:
        answer = await ask(gateway, b"organisation=acme&customerUID=1&param1=hours&param2=gone")
        document = msgspec.json.decode(answer.body)
        assert document.keys() == {"status", "values", "fields"}
        assert (answer.status, document["status"]) == (200, 200)
        assert document["values"] == {"hours": "9 to 5", "gone": "unknown"}
        assert outcomes(answer) == {"hours": ("value", "static_values"), "gone": ("default", None)}
        assert answer.headers["cache-control"] == "no-store"
        again = await ask(gateway, b"organisation=acme&customerUID=1&param1=hours")
        assert outcomes(again) == {"hours": ("cached", "static_values")}


async def test_a_failure_has_its_problem_beside_what_became_of_each_field(tmp_path: Path) -> None:
    """Answered 200 itself: the question was, and no value of a failed request is told."""
    async with in_process(tmp_path, CONFIG) as gateway:
        answer = await ask(gateway, b"organisation=acme&param1=hours&param2=size")
        document = msgspec.json.decode(answer.body)
        assert (answer.status, document["status"], document["values"]) == (200, 404, {})
        assert (document["problem"]["status"], document["problem"]["fields"]) == (404, ["size"])
        assert outcomes(answer) == {"hours": ("value", "static_values"), "size": ("unknown", None)}
        malformed = msgspec.json.decode((await ask(gateway, b"organisation=acme&param1=%ff")).body)
        assert (malformed["status"], malformed["fields"]) == (400, {})
        assert malformed["problem"]["detail"] == "a param is not UTF-8"


async def test_an_organisation_must_be_named(tmp_path: Path) -> None:
    """No token says whose question it is."""
    async with in_process(tmp_path, CONFIG) as gateway:
        for query in (b"param1=hours", b"organisation=globex&param1=hours", b"organisation=&param1=hours"):
            answer = await ask(gateway, query)
            detail = "organisation: unknown organisation; use one of: acme"
            assert (answer.status, answer.problem) == (400, detail)


async def test_it_is_behind_the_admin_listeners_password(tmp_path: Path) -> None:
    """As all that is there, but health."""
    (tmp_path / "password").write_text("correct horse")

    async with in_process(tmp_path, CONFIG, admin='password = { file = "password" }\n') as gateway:
        query = b"organisation=acme&param1=hours"
        assert (await ask(gateway, query)).status == 401
        basic = b"Basic " + base64.b64encode(b"gateway:correct horse")
        assert (await ask(gateway, query, (b"authorization", basic))).status == 200


async def test_the_public_listener_tells_none_of_it(tmp_path: Path) -> None:
    """The same question with a token: values alone, and no such path."""
    async with in_process(tmp_path, CONFIG) as gateway:
        answer = await gateway.request("GET", query=b"organisation=acme&customerUID=1&param1=hours&explain=true")
        assert (answer.status, answer.body) == (200, b'{"hours":"9 to 5"}')
        assert not [name for name in answer.headers if name.startswith("x-") or "static" in answer.headers[name]]
        for path in ("/api/values", "/webio/api/values"):
            assert (await call(gateway.app, scope_of("GET", path, b"", [HOST], "127.0.0.1"), b"")).status == 404


async def test_an_operators_question_is_not_in_the_record(tmp_path: Path) -> None:
    """That is of what Webio, and so a customer, was told."""
    async with in_process(tmp_path, CONFIG) as gateway:
        await ask(gateway, b"organisation=acme&customerUID=operators&param1=hours")
        await gateway.request("GET", query=b"customerUID=webios&param1=hours")
        config = gateway.config
    reader = open_reader(config)
    assert [row.customer_uid for row in reader.value_records(ValueRecordFilter())] == ["webios"]
    reader.close()
