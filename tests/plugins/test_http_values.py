"""http_values: custom values from an internal REST endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from asking import Grace, ask, check, problem_of, running, values_of
from http_service import Asked, make_certificates, service
from running import read_config

from gateway.config.convert import ConfigError
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.load import load_plugins


def configured(port: int, *requests: str, options: str = "", values: str = "", scheme: str = "http") -> str:
    """The config's text; `BASE` in a request is the service's address."""
    tables = "".join(f"[[plugins.http_values.requests]]\n{request}\n" for request in requests)
    return f"{values}\n[plugins.http_values]\n{options}\n{tables}".replace("BASE", f"{scheme}://127.0.0.1:{port}")


BY_UID = 'url = "BASE/customers/{customer_uid}"\nfields = { balance = "/account/balance", ID = "/id" }'
BY_PHONE = (
    'url = "BASE/search?phone={address_digits}&org={organisation}"\n'
    'fields = { balance = "/balance" }\nrecords = "/hits"'
)
CUSTOMER = {
    "id": 4711,
    "account": {"balance": 120.5, "open": True, "due": None, "tags": ["a/b", "c"]},
    "a/b": {"~": "x"},
}


async def test_fields_are_picked_from_the_answer(tmp_path: Path) -> None:
    """One GET for all fields of a customer; numbers keep their digits."""
    raw = b'{"id": 4711, "account": {"balance": 120.50, "limit": 12345678901234567890.12}}'
    async with service((200, raw)) as crm:
        text = configured(crm.port, BY_UID, 'url = "BASE/l/{customer_uid}"\nfields = { limit = "/account/limit" }')
        async with running(tmp_path, text) as (values, _):
            assert values_of(await ask(values, "balance", "ID")) == {"balance": "120.50", "ID": "4711"}
            assert [asked.line for asked in crm.asked] == ["GET /customers/123456"]
            assert values_of(await ask(values, "limit")) == {"limit": "12345678901234567890.12"}
            assert crm.asked[0].headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/id", "4711"),
        ("/account/open", "true"),
        ("/account/tags/0", "a/b"),
        ("/a~1b/~0", "x"),
        ("/account/due", 404),
        ("/account/tags/2", 404),
        ("/account/tags/01", 404),
        ("/account/tags/-", 404),
        ("/nothing/at/all", 404),
        ("/id/deeper", 404),
        ("/account", 502),
        ("/account/tags", 502),
        ("", 502),
    ],
)
async def test_a_json_pointer_finds_a_value_nothing_or_what_is_none(
    tmp_path: Path, pointer: str, expected: Any
) -> None:
    """Nothing there is not found, null likewise; an object or a list is a failure."""
    async with service((200, CUSTOMER)) as crm:
        text = configured(crm.port, f'url = "BASE/{{customer_uid}}"\nfields = {{ a = "{pointer}" }}')
        async with running(tmp_path, text) as (values, _):
            answer = await ask(values, "a")
            if isinstance(expected, str):
                assert values_of(answer) == {"a": expected}
            else:
                assert problem_of(answer) == (expected, ["a"])


async def test_parameters_are_escaped_where_they_stand(tmp_path: Path) -> None:
    """A customer UID cannot leave its place in the path or the query."""
    async with service((200, {"id": "1"})) as crm:
        text = configured(
            crm.port, 'url = "BASE/c/{customer_uid}/x?p={outbound_channel_address}&q=1"\nfields = { ID = "/id" }'
        )
        async with running(tmp_path, text) as (values, _):
            for uid, address in [
                ("a b?c=d&e#f%41;", "+44 1&admin=1"),
                ("größe", "x=y"),
                ("{customer_uid}", "{id}"),
            ]:
                assert values_of(await ask(values, "ID", uid=uid, address=address)) == {"ID": "1"}
        assert [asked.line for asked in crm.asked] == [
            "GET /c/a%20b%3Fc%3Dd%26e%23f%2541%3B/x?p=%2B44%201%26admin%3D1&q=1",
            "GET /c/gr%C3%B6%C3%9Fe/x?p=x%3Dy&q=1",
            "GET /c/%7Bcustomer_uid%7D/x?p=%7Bid%7D&q=1",
        ]


@pytest.mark.parametrize("uid", [".", "..", "../admin", "a/b", "/", "\\", "..\\admin", "a/../.."])
async def test_what_would_change_the_path_is_no_customer(tmp_path: Path, uid: str) -> None:
    """404 without a request: servers and proxies differ about escaped slashes and dots."""
    async with service((200, {"id": "1"})) as crm:
        text = configured(crm.port, 'url = "BASE/customers/{customer_uid}"\nfields = { ID = "/id" }')
        async with running(tmp_path, text) as (values, _):
            assert problem_of(await ask(values, "ID", uid=uid)) == (404, ["ID"])
        assert crm.asked == []


async def test_a_body_is_json_with_the_parameters_in_its_texts(tmp_path: Path) -> None:
    """A quote in a customer UID is a character of a JSON text, nothing else."""
    async with service((200, {"id": "1"})) as crm:
        request = (
            'url = "BASE/find"\nmethod = "POST"\nfields = { ID = "/id" }\n'
            'body = { query = { uid = "{customer_uid}", org = ["for {organisation}"] }, limit = 2, exact = true }'
        )
        async with running(tmp_path, configured(crm.port, request)) as (values, _):
            assert values_of(await ask(values, "ID", uid='1", "admin": "')) == {"ID": "1"}
        [asked] = crm.asked
        assert asked.line == "POST /find"
        assert asked.headers["content-type"] == "application/json"
        assert json.loads(asked.body) == {
            "query": {"uid": '1", "admin": "', "org": ["for acme"]},
            "limit": 2,
            "exact": True,
        }


async def test_digits_in_what_is_no_phone_number_are_not_sent(tmp_path: Path) -> None:
    """An email address with a customer's number in it does not find the customer by phone."""
    async with (
        service((200, {"hits": [{"balance": "the phone's"}]})) as crm,
        running(tmp_path, configured(crm.port, BY_PHONE)) as (values, _),
    ):
        answer = await ask(values, "balance", uid=None, address="john44777000001@mail.com")
        assert problem_of(answer) == (404, ["balance"])
        assert crm.asked == []


async def test_exactly_one_record_must_match(tmp_path: Path) -> None:
    """None is not known, two are a conflict and nothing of either; no list is a failure."""
    hits: Any = []
    async with (
        service(lambda asked: (200, {"hits": hits})) as crm,
        running(tmp_path, configured(crm.port, BY_PHONE)) as (values, _),
    ):
        for number, (found, expected) in enumerate(
            [
                ([], 404),
                (None, 404),
                ([{"balance": "canary-1"}, {"balance": "canary-2"}], 409),
                ({"balance": "1"}, 502),
            ]
        ):
            hits = found
            answer = await ask(values, "balance", uid=None, address=f"+44-777{number}")
            assert problem_of(answer) == (expected, ["balance"])
            assert b"canary" not in answer.body
        hits = [{"balance": "120.50"}]
        assert values_of(await ask(values, "balance", uid=None, address="+44 771")) == {"balance": "120.50"}
        assert crm.asked[-1].line == "GET /search?phone=44771&org=acme"


async def test_a_request_that_needs_a_customer_uid_is_not_sent_without_one(tmp_path: Path) -> None:
    """And where there is one, the phone does not answer for it."""

    def reply(asked: Asked) -> Any:
        return (200, {"hits": [{"balance": "phone's"}]}) if "search" in asked.line else (404, {})

    async with (
        service(reply) as crm,
        running(tmp_path, configured(crm.port, BY_UID, BY_PHONE)) as (values, _),
    ):
        assert values_of(await ask(values, "balance", uid=None, address="44771")) == {"balance": "phone's"}
        assert problem_of(await ask(values, "balance", uid="9", address="44771")) == (404, ["balance"])
        assert [asked.line.split("?")[0] for asked in crm.asked] == ["GET /search", "GET /customers/9"]
        assert problem_of(await ask(values, "iban")) == (404, ["iban"])
        assert len(crm.asked) == 2


@pytest.mark.parametrize(
    "text",
    [
        '[values.fields.balance]\nrequired_key = "customer_uid"\n',
        '[plugins.sql_values]\nurl = "sqlite:///customers.db"\n'
        "[[plugins.sql_values.queries]]\nsql = 'SELECT 1 AS balance WHERE :customer_uid = 1'\n",
    ],
)
async def test_a_search_by_phone_does_not_answer_for_a_customer_uid(tmp_path: Path, text: str) -> None:
    """Where the field needs one, or another provider can look it up by one."""
    sqlite3.connect(tmp_path / "customers.db").close()
    async with (
        service((200, {"hits": [{"balance": "the phone's"}]})) as crm,
        running(tmp_path, configured(crm.port, BY_PHONE, values=text)) as (values, _),
    ):
        assert problem_of(await ask(values, "balance", uid="NOBODY", address="44771")) == (404, ["balance"])
        assert crm.asked == []


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((404, {"error": "canary"}), 404),
        ((204, b""), 404),
        ((410, b""), 404),
        ((409, b""), 409),
        ((500, b"Traceback canary"), 502),
        ((401, b""), 502),
        ((400, b"canary"), 502),
        ((422, b"canary"), 502),
        ((301, b""), 502),
        ((201, CUSTOMER), 502),
        ((200, b"<html>canary"), 502),
        ((200, b"\xff"), 502),
        ((200, b"[" * 100_000), 502),
        ((200, b'{"account": {"balance": NaN}}'), 502),
        ((200, b'{"account": {"balance": 1e999999}}'), 502),
        ((200, b'"' + b"x" * 3000 + b'"'), 502),
        (b"", 502),
        (b"nonsense\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", 502),
    ],
)
async def test_each_answer_has_its_status(
    tmp_path: Path, reply: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not a plain 200 with the value in it is a failure, and nothing of it shows."""
    request = BY_UID + "\nunknown = [404, 410]\nseveral = [409]"
    async with service(reply) as crm:
        text = configured(crm.port, request, options='max_body = "2 KiB"')
        async with running(tmp_path, text) as (values, _):
            answer = await ask(values, "balance")
            assert problem_of(answer) == (status, ["balance"])
            assert b"canary" not in answer.body
    assert "canary" not in caplog.text


async def test_a_request_that_the_service_refuses_does_not_affect_others(tmp_path: Path) -> None:
    """For example a UID that is not a number: a failure, but the provider stays on, unless another request broke."""

    def reply(asked: Asked) -> Any:
        if "/l/" in asked.line:
            return 500, b""
        return (200, CUSTOMER) if asked.line.endswith("123456") else (422 if "a" in asked.line[-1] else 400, b"")

    async with service(reply) as crm:
        text = configured(crm.port, BY_UID, 'url = "BASE/l/{customer_uid}"\nfields = { limit = "/limit" }')
        async with running(tmp_path, text) as (values, _):
            for number in range(4):
                for uid in ("a", "b"):
                    answer = await ask(values, "balance", uid=uid, address=str(number))
                    assert problem_of(answer) == (502, ["balance"])
            assert values_of(await ask(values, "balance")) == {"balance": "120.5"}
            assert [health.failures for health in values.health()] == [0]
            assert problem_of(await ask(values, "balance", "limit")) == (502, ["limit"])
            assert [health.failures for health in values.health()] == [0]
            assert problem_of(await ask(values, "balance", "limit", uid="a")) == (502, ["balance", "limit"])
            assert [health.failures for health in values.health()] == [1]


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """It would carry the credentials and the customer's data elsewhere."""
    async with service((200, CUSTOMER)) as elsewhere, service((302, b"")) as crm:
        crm.extra = f"Location: http://127.0.0.1:{elsewhere.port}/\r\n"
        async with running(tmp_path, configured(crm.port, BY_UID)) as (values, _):
            assert problem_of(await ask(values, "balance")) == (502, ["balance"])
        assert elsewhere.connections == 0


async def test_no_cookie_of_one_customer_goes_with_the_next(tmp_path: Path) -> None:
    """Connections are used again, sessions are not."""
    async with service((200, {"id": "1"})) as crm:
        crm.extra = "Set-Cookie: session=first; Path=/\r\n"
        async with running(tmp_path, configured(crm.port, BY_UID)) as (values, _):
            for uid in ("1", "2", "3"):
                await ask(values, "ID", uid=uid)
        assert [asked.headers.get("cookie") for asked in crm.asked] == [None, None, None]
        assert crm.connections == 1


async def test_nothing_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a password file."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with service((200, {"id": "1"})) as crm:
        async with running(tmp_path, configured(crm.port, BY_UID)) as (values, _):
            assert values_of(await ask(values, "ID")) == {"ID": "1"}
        assert "authorization" not in crm.asked[0].headers


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ('bearer = { file = "token" }', "authorization", "Bearer canary-secret"),
        (
            'basic = { username = "me", password = { file = "token" } }',
            "authorization",
            "Basic bWU6Y2FuYXJ5LXNlY3JldA==",
        ),
        ('secret_headers = { X-Api-Key = { file = "token" } }', "x-api-key", "canary-secret"),
        ('headers = { X-Client = "gateway" }', "x-client", "gateway"),
    ],
)
async def test_credentials_come_from_secrets(
    tmp_path: Path, options: str, header: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They reach the service, and neither a log nor a repr."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("canary-secret\n")
    async with service((200, {"id": "1"})) as crm:
        async with running(tmp_path, configured(crm.port, BY_UID, options=options)) as (values, [plugin]):
            assert values_of(await ask(values, "ID", uid="canary-7001")) == {"ID": "1"}
            assert "canary" not in repr(plugin.instance._config)
        assert crm.asked[0].headers[header] == value
    assert "canary" not in caplog.text


@pytest.mark.parametrize("option", ["bearer", "secret_headers.X-Api-Key"])
async def test_a_secret_that_a_header_cannot_contain_stops_the_start(tmp_path: Path, option: str) -> None:
    """A key file with two lines is found at once, and not shown."""
    (tmp_path / "token").write_text("canary\nsecond")

    with pytest.raises(PluginFault) as raised:
        async with running(tmp_path, configured(80, BY_UID, options=f'{option} = {{ file = "token" }}')):
            raise AssertionError("started")
    assert str(raised.value) == "ValueError: the secret in file token has characters that a header cannot contain"


async def test_a_slow_service_costs_the_deadline_at_most(tmp_path: Path) -> None:
    """Whether it does not answer, or drips its answer byte by byte; the next request is answered."""

    async def hang(asked: Asked) -> Any:
        await asyncio.sleep(5)

    replies = iter([hang, hang])

    def reply(asked: Asked) -> Any:
        return next(replies, lambda asked: (200, {"id": "1"}))(asked)

    async with service(reply) as crm:
        text = configured(crm.port, BY_UID, values='[values]\ndeadline = "200ms"\n')
        async with running(tmp_path, text) as (values, _):
            for uid in ("1", "2"):
                with Grace() as grace:
                    started = time.perf_counter()
                    assert problem_of(await ask(values, "ID", uid=uid)) == (504, ["ID"])
                    assert time.perf_counter() - started < 0.2 + grace.seconds
            assert values_of(await ask(values, "ID", uid="3")) == {"ID": "1"}


async def test_a_connection_that_the_service_closed_is_not_noticed(tmp_path: Path) -> None:
    """A GET is repeated once over a new connection; a service that is gone is a failure."""
    count = 0

    def reply(asked: Asked) -> Any:
        nonlocal count
        count += 1
        return b"" if count == 2 else (200, {"id": str(count)})

    async with service(reply) as crm, running(tmp_path, configured(crm.port, BY_UID)) as (values, _):
        assert values_of(await ask(values, "ID", uid="1")) == {"ID": "1"}
        assert values_of(await ask(values, "ID", uid="2")) == {"ID": "3"}
    async with running(tmp_path, configured(1, BY_UID)) as (values, _):
        assert problem_of(await ask(values, "ID")) == (502, ["ID"])


async def test_many_customers_at_once_get_their_own(tmp_path: Path) -> None:
    """Three hundred requests over ten connections."""

    def reply(asked: Asked) -> Any:
        return 200, {"id": f"of {asked.line.rpartition('/')[2]}"}

    async with service(reply) as crm:
        async with running(
            tmp_path,
            configured(
                crm.port,
                BY_UID,
                options='connections = 10\nconnect_timeout = "30s"',
                values='[values]\ndeadline = "30s"\n',
            ),
        ) as (values, _):
            answers = await asyncio.gather(*(ask(values, "ID", uid=str(n)) for n in range(300)))
            assert [values_of(answer)["ID"] for answer in answers] == [f"of {n}" for n in range(300)]
        assert crm.connections <= 10


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a server certificate for 127.0.0.1 and a client certificate."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


async def test_a_client_certificate_is_shown_and_the_servers_is_checked(tmp_path: Path, certificates: Path) -> None:
    """Both sides accept the internal authority; without it, or without the client's certificate, the request fails."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    ours = f"certificate = '{certificates}/client.pem'\nkey = '{certificates}/client.key'\n"
    theirs = f"ca = '{certificates}/ca.pem'\n"
    async with service((200, {"id": "1"}), tls=tls) as crm:
        for options, works in ((ours + theirs, True), (ours, False), (theirs, False)):
            text = configured(crm.port, BY_UID, options=options, scheme="https")
            async with running(tmp_path, text) as (values, _):
                answer = await ask(values, "ID")
                if works:
                    assert values_of(answer) == {"ID": "1"}
                else:
                    assert problem_of(answer) == (502, ["ID"])


async def test_check_reaches_the_service_without_asking_it(tmp_path: Path) -> None:
    """A closed port is an error, credentials over plain HTTP are a warning."""
    (tmp_path / "token").write_text("secret")

    async with service((200, {})) as crm:
        found = await check(tmp_path, configured(crm.port, BY_UID, options='bearer = { file = "token" }'))
        assert found == [f"http://127.0.0.1:{crm.port} gets its credentials unencrypted"]
        assert crm.asked == []
    assert (await check(tmp_path, configured(1, BY_UID))).startswith("http://127.0.0.1:1 cannot be reached: ")


async def test_check_names_every_service_that_cannot_be_reached(tmp_path: Path) -> None:
    """Not only the first of them."""
    found = await check(tmp_path, configured(1, BY_UID, BY_UID.replace("BASE", "http://127.0.0.1:2")))
    first, second = found.split("; ")
    assert first.startswith("http://127.0.0.1:1 cannot be reached: ")
    assert second.startswith("http://127.0.0.1:2 cannot be reached: ")
    missing = await check(tmp_path, configured(1, BY_UID, options='ca = "missing.pem"'))
    assert missing.startswith("the certificates cannot be used: ")


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        ('url = "BASE/{name}"\nfields = { a = "/a" }', "", "unknown parameter {name}; known: {customer_uid}"),
        ('url = "http://{customer_uid}/x"\nfields = { a = "/a" }', "", "expected a URL such as"),
        ('url = "http://crm{customer_uid}/x"\nfields = { a = "/a" }', "", "expected a URL such as"),
        ('url = "ftp://crm/x"\nfields = { a = "/a" }', "", "expected a URL such as"),
        ('url = "/x"\nfields = { a = "/a" }', "", "expected a URL such as"),
        (
            'url = "http://me:hunter2@crm/x"\nfields = { a = "/a" }',
            "",
            "the URL must not contain a user or password; write basic or bearer",
        ),
        ('url = "http://crm/x#y"\nfields = { a = "/a" }', "", "the URL must not have a part after #"),
        ('url = "http://crm:port/x"\nfields = { a = "/a" }', "", "is not a URL: "),
        ('url = "BASE/x"\nfields = { a = "a" }', "", "expected a JSON pointer such as"),
        ('url = "BASE/x"\nfields = { a = "/~2" }', "", "expected a JSON pointer such as"),
        ('url = "BASE/x"\nfields = {}', "", "is empty"),
        ('url = "BASE/x"\nfields = { a = "/a" }\nbody = { a = "b" }', "", 'needs method = "POST"'),
        ('url = "BASE/x"\nfields = { a = "/a" }\nmethod = "DELETE"', "", 'expected one of "GET", "POST"'),
        (
            'url = "BASE/x"\nmethod = "POST"\nfields = { a = "/a" }\nbody = { a = ["{uid}"] }',
            "",
            "unknown parameter {uid}; known",
        ),
        ('url = "BASE/x"\nfields = { a = "/a" }', 'bearer = "hunter2"', "a secret must not be in the config file"),
        (
            'url = "BASE/x"\nfields = { a = "/a" }',
            'headers = { X-Api-Key = "hunter2" }',
            "may be a secret",
        ),
        ('url = "BASE/x"\nfields = { a = "/a" }', 'key = "x"', "needs a certificate"),
    ],
)
def test_a_faulty_request_is_an_error_at_start(tmp_path: Path, request_: str, options: str, message: str) -> None:
    """With its path and a sentence, and without a secret."""
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, configured(80, request_, options=options)))
    [problem] = raised.value.problems
    assert problem.path.startswith("plugins.http_values")
    assert problem.message.startswith(message)
    assert "hunter2" not in str(raised.value)
