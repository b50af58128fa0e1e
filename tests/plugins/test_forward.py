"""forward: every event as a signed POST, and what the answers mean."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from asking import check
from gateway_forward import ForwardPlugin
from gateway_forward.addresses import refusal
from gateway_forward.failures import ForwardFailed
from http_service import make_certificates, service
from running import read_config
from sending import event, sending, settings_of
from standardwebhooks import Webhook, WebhookVerificationError

from gateway import Network, Reject, Retry
from gateway.config.convert import ConfigError
from gateway.plugin_host.load import load_plugins

LOOPBACK = 'allow_networks = ["127.0.0.0/8"]\n'
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"an old secret of 32 bytes or so!").decode()


def configured(port: int, options: str = LOOPBACK, *, url: str = "http://127.0.0.1:PORT/in") -> str:
    return f'[plugins.forward]\nurl = "{url.replace("PORT", str(port))}"\n{options}\n'


@contextlib.asynccontextmanager
async def started(directory: Path, text: str, **options: Any) -> AsyncIterator[ForwardPlugin]:
    """The plugin, with what `text` sets, on this test's loop."""
    plugin = ForwardPlugin(settings_of(directory, text), **options)
    await plugin.startup()
    try:
        yield plugin
    finally:
        await plugin.shutdown()


async def test_what_is_sent_is_the_archives_line(tmp_path: Path) -> None:
    """The body as received, digit by digit; the id is the key that makes a repeat harmless."""
    raw = b'{"amount": 12.50,\n "big": 123456789012345678901234567890, "a": 1, "a": 2}'
    async with service((200, {})) as crm, started(tmp_path, configured(crm.port)) as plugin:
        await plugin.on_event(event(7, raw))
        [asked] = crm.asked
        assert asked.line == "POST /in"
        assert asked.body == (
            b'{"id":"01935498-0000-7000-8000-000000000007","received_at":"2026-11-22T15:54:24.123456Z",'
            b'"organisation":"acme","hook":"payment","body":' + raw.replace(b"\n", b" ") + b"}"
        )
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["idempotency-key"] == "01935498-0000-7000-8000-000000000007"
        assert asked.headers["host"] == f"127.0.0.1:{crm.port}"
        assert "webhook-signature" not in asked.headers


async def test_a_signature_is_accepted_by_the_standards_own_verifier(tmp_path: Path) -> None:
    """By the holders of either secret while one replaces the other, and for nothing that was changed."""
    (tmp_path / "new").write_text(SECRET)
    (tmp_path / "old").write_text(OLD_SECRET)
    options = f'{LOOPBACK}secret = {{ file = "new" }}\nprevious_secret = {{ file = "old" }}\n'
    async with service((200, {})) as crm, started(tmp_path, configured(crm.port, options)) as plugin:
        await plugin.on_event(event(7, '{"text": "grüße 😀"}'.encode()))
        [asked] = crm.asked
        for secret in (SECRET, OLD_SECRET):
            document = Webhook(secret).verify(asked.body, asked.headers)
            assert document["body"] == {"text": "grüße 😀"}
        for body, headers in (
            (asked.body + b" ", asked.headers),
            (asked.body, {**asked.headers, "webhook-id": "another"}),
            (asked.body, {**asked.headers, "webhook-timestamp": str(int(asked.headers["webhook-timestamp"]) + 1)}),
        ):
            with pytest.raises(WebhookVerificationError):
                Webhook(SECRET).verify(body, headers)


async def test_headers_and_secret_headers_are_sent(tmp_path: Path) -> None:
    """From the config, and from files."""
    (tmp_path / "token").write_text("Bearer hunter2")
    options = LOOPBACK + 'headers = { X-Team = "billing" }\nsecret_headers = { Authorization = { file = "token" } }\n'
    async with service((200, {})) as crm, started(tmp_path, configured(crm.port, options)) as plugin:
        await plugin.on_event(event())
        assert crm.asked[0].headers["x-team"] == "billing"
        assert crm.asked[0].headers["authorization"] == "Bearer hunter2"


async def test_nothing_of_the_environment_and_of_an_answer_changes_what_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy, no password from a netrc file, no cookie."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    async with service((200, {})) as crm, started(tmp_path, configured(crm.port)) as plugin:
        crm.extra = "Set-Cookie: session=1\r\n"
        await plugin.on_event(event(1))
        await plugin.on_event(event(2))
        assert len(crm.asked) == 2
        assert crm.connections == 1
        for asked in crm.asked:
            assert not {"authorization", "cookie"} & asked.headers.keys()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_has_taken_the_event(tmp_path: Path, status: int) -> None:
    async with service((status, b"")) as crm, started(tmp_path, configured(crm.port)) as plugin:
        await plugin.on_event(event())


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, Reject, "answered 400"),
        (401, Reject, "answered 401"),
        (404, Reject, "answered 404"),
        (422, Reject, "answered 422"),
        (408, ForwardFailed, "answered 408"),
        (425, ForwardFailed, "answered 425"),
        (429, ForwardFailed, "answered 429"),
        (500, ForwardFailed, "answered 500"),
        (503, ForwardFailed, "answered 503"),
        (301, ForwardFailed, "answered 301, and redirects are not followed"),
        (307, ForwardFailed, "answered 307, and redirects are not followed"),
    ],
)
async def test_any_other_status_says_never_or_again(
    tmp_path: Path, status: int, error: type[Exception], message: str
) -> None:
    """The answer's body and the event are in no message; a redirect is not followed."""
    async with service((status, b"no: +447700900123")) as crm, started(tmp_path, configured(crm.port)) as plugin:
        crm.extra = f"Location: http://127.0.0.1:{crm.port}/other\r\n"
        with pytest.raises(error) as raised:
            await plugin.on_event(event())
        assert str(raised.value) == message
        assert len(crm.asked) == 1


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("999999999999999999999", 3600, 3600),
        (timedelta(seconds=1800), 1500, 1800),
        (timedelta(days=-1), 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3600),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_that_the_service_asks_for(
    tmp_path: Path, status: int, value: str | timedelta, least: float, most: float
) -> None:
    """In seconds or as a date, never longer than an hour; as the service is at fault, no attempt is lost to it."""
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    async with service((status, b"")) as crm, started(tmp_path, configured(crm.port)) as plugin:
        crm.extra = f"Retry-After: {value}\r\n"
        with pytest.raises(Retry) as raised:
            await plugin.on_event(event())
        assert raised.value.after is not None
        assert least <= raised.value.after <= most
        assert not raised.value.counts


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "²"])
async def test_a_pause_that_cannot_be_read_is_the_usual_one(tmp_path: Path, value: str) -> None:
    async with service((503, b"")) as crm, started(tmp_path, configured(crm.port)) as plugin:
        crm.extra = f"Retry-After: {value}\r\n".encode().decode("latin-1")
        with pytest.raises(ForwardFailed, match="answered 503"):
            await plugin.on_event(event())


async def test_a_service_that_does_not_answer_in_time_has_not_taken_the_event(tmp_path: Path) -> None:
    async def never(asked: Any) -> Any:
        await asyncio.Event().wait()

    options = LOOPBACK + 'answer_timeout = "100ms"\n'
    async with service(never) as crm, started(tmp_path, configured(crm.port, options)) as plugin:
        with pytest.raises(ForwardFailed, match=r"^the service did not answer in time$"):
            await plugin.on_event(event())


async def test_a_service_that_is_not_there_has_not_taken_the_event(tmp_path: Path) -> None:
    async with started(tmp_path, configured(1)) as plugin:
        with pytest.raises(ForwardFailed, match=r"^no answer: ConnectError$"):
            await plugin.on_event(event())


async def test_an_endless_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Its status is what counts."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    async with service(lambda asked: head + b"x" * 200_000) as crm, started(tmp_path, configured(crm.port)) as plugin:
        await plugin.on_event(event())


async def test_an_idle_connection_that_the_service_closed_is_replaced(tmp_path: Path) -> None:
    """The event comes with the same id, should the service have seen it."""
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] * 3
    async with service(lambda asked: answers.pop()) as crm, started(tmp_path, configured(crm.port)) as plugin:
        for number in range(3):
            await plugin.on_event(event(number))
        assert crm.connections == 3


class Resolver:
    """Answers with one list of addresses after the other, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


NAMED = "http://crm.test:PORT/in"


async def test_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    """A name that means a good address when it is checked and another one a moment later: only the first is used, and
    the name is not looked up again by what connects."""
    options = 'allow_networks = ["127.0.0.1"]\n'
    async with service((200, {})) as crm:
        resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
        async with started(tmp_path, configured(crm.port, options, url=NAMED), resolve=resolver) as plugin:
            await plugin.on_event(event())
            assert resolver.asked == 1
            assert crm.asked[0].headers["host"] == f"crm.test:{crm.port}"


async def test_a_name_that_later_means_a_refused_address_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the second look-up leads to an address that nobody named, where a server listens."""
    monkeypatch.setattr("gateway_forward.addresses.KEPT", 0.0)
    options = 'allow_networks = ["127.0.0.1"]\n'
    async with service((200, {})) as crm:
        resolver = Resolver(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"])
        async with started(tmp_path, configured(crm.port, options, url=NAMED), resolve=resolver) as plugin:
            await plugin.on_event(event())
            for address, kind in (("127.0.0.2", "a loopback address"), ("169.254.169.254", "the metadata service")):
                with pytest.raises(ForwardFailed, match=f"^crm.test is {address}, which is {kind}"):
                    await plugin.on_event(event())
            await plugin.on_event(event())  # of two addresses, the one that was named
            assert len(crm.asked) == 2


async def test_another_address_is_tried_where_one_does_not_answer(tmp_path: Path) -> None:
    async with service((200, {})) as crm:
        resolver = Resolver(["127.0.0.3", "127.0.0.1"])
        async with started(tmp_path, configured(crm.port, url=NAMED), resolve=resolver) as plugin:
            await plugin.on_event(event())
            assert len(crm.asked) == 1


@pytest.mark.parametrize(
    ("address", "allowed", "why"),
    [
        ("93.184.216.34", [], None),
        ("2606:2800:220:1:248:1893:25c8:1946", [], None),
        ("127.0.0.1", [], "a loopback address"),
        ("::1", [], "a loopback address"),
        ("::ffff:127.0.0.1", [], "a loopback address"),
        ("64:ff9b::7f00:1", [], "a loopback address"),
        ("2002:7f00:1::", [], "a loopback address"),
        ("127.0.0.1", ["127.0.0.0/8"], None),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], None),
        ("10.1.2.3", [], "a private address"),
        ("192.168.1.1", [], "a private address"),
        ("fd12::1", [], "a private address"),
        ("10.1.2.3", ["10.0.0.0/8"], None),
        ("10.1.2.3", ["10.2.0.0/16"], "a private address"),
        ("169.254.1.1", [], "a link-local address"),
        ("fe80::1%eth0", [], "a link-local address"),
        ("100.64.0.1", [], "not a public address"),
        ("224.0.0.1", [], "a multicast address"),
        ("0.0.0.0", [], "not an address of a host"),
        ("169.254.169.254", [], "the metadata service of a cloud"),
        ("::ffff:169.254.169.254", [], "the metadata service of a cloud"),
        ("169.254.169.254", ["0.0.0.0/0", "169.254.0.0/16"], "the metadata service of a cloud"),
        ("168.63.129.16", [], "the metadata service of a cloud"),
        ("fd00:ec2::254", ["fc00::/7"], "the metadata service of a cloud"),
        ("169.254.169.254", ["169.254.169.254"], None),
    ],
)
def test_only_public_and_named_addresses_are_connected_to(
    tmp_path: Path, address: str, allowed: list[str], why: str | None
) -> None:
    """In every notation; what gives out a machine's credentials is named by itself or not at all."""
    assert refusal(address, [Network.from_config(one, tmp_path) for one in allowed]) == why


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


async def test_certificates_are_shown_and_checked_by_the_hosts_name(tmp_path: Path, certificates: Path) -> None:
    """The connection goes to an address, and the certificate must be the name's; both sides accept the authority."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    ours = f"certificate = '{certificates}/client.pem'\nkey = '{certificates}/client.key'\n"
    theirs = f"ca = '{certificates}/ca.pem'\n"
    cases = [
        ("crm.test", ours + theirs, True),
        ("127.0.0.1", ours + theirs, True),
        ("other.test", ours + theirs, False),
        ("crm.test", ours, False),
        ("crm.test", theirs, False),
    ]
    async with service((200, {}), tls=tls) as crm:
        for host, options, works in cases:
            text = configured(crm.port, LOOPBACK + options, url=f"https://{host}:PORT/in")
            async with started(tmp_path, text, resolve=Resolver(["127.0.0.1"])) as plugin:
                if works:
                    await plugin.on_event(event())
                else:
                    with pytest.raises(ForwardFailed, match=r"^no answer: (ConnectError|ReadError|WriteError|Remote)"):
                        await plugin.on_event(event())
        assert len(crm.asked) == 2


async def test_a_body_of_the_operators_own(tmp_path: Path) -> None:
    """Values keep their types and digits, texts are put together, and what is not there is null."""
    options = LOOPBACK + (
        'body = { key = "{id}", at = "{received_at}", amount = "{body.amount}", big = "{body.n.0.big}", '
        'text = "{hook} of {body.customerUID}: {body.amount} {body.gone}", gone = "{body.gone.deeper}", '
        'all = "{body}", fixed = 7, list = ["{organisation}"], n = "{body.n}", bad = "{body.n.9}" }\n'
    )
    raw = (
        b'{"amount": 12.50, "n": [{"big": 123456789012345678901234567890}], "customerUID": "x\\"}{id}", "a": 1, "a":2}'
    )
    async with service((200, {})) as crm, started(tmp_path, configured(crm.port, options)) as plugin:
        await plugin.on_event(event(7, raw))
        assert crm.asked[0].body == (
            b'{"key":"01935498-0000-7000-8000-000000000007","at":"2026-11-22T15:54:24.123456Z","amount":12.50,'
            b'"big":123456789012345678901234567890,"text":"payment of x\\"}{id}: 12.50 ","gone":null,"all":'
            + raw
            + b',"fixed":7,"list":["acme"],"n":[{"big":123456789012345678901234567890}],"bad":null}'
        )


async def test_events_of_a_running_gateway_come_in_order_and_become_dead_letters(tmp_path: Path) -> None:
    """A refused event is a dead letter at once, a failing one comes again, with the same key."""
    statuses = iter([200, 500, 503, 200, 422, 200])
    async with service(lambda asked: (next(statuses), b"")) as crm:
        text = configured(crm.port, LOOPBACK + 'backoff = "1ms"\nbackoff_max = "5ms"\n')
        async with sending(tmp_path, text) as rig:
            receipts = [await rig.send("x") for _ in range(4)]
            await rig.idle()
            keys = [asked.headers["idempotency-key"] for asked in crm.asked]
            first, second, third, fourth = (receipt.id for receipt in receipts)
            assert keys == [first, second, second, second, third, fourth]
            [(dead, plugin, attempts, error)] = rig.dead()
            assert (dead, plugin, attempts) == (third, "forward", 1)
            assert error.endswith(": answered 422")


async def test_a_service_that_asks_for_patience_costs_no_event_its_attempts(tmp_path: Path) -> None:
    """As an outage does not: 30 refusals with 3 attempts, and everything arrives."""
    left = 30

    def reply(asked: Any) -> Any:
        nonlocal left
        left -= 1
        return (503 if left >= 0 else 200, b"")

    async with service(reply) as crm:
        crm.extra = "Retry-After: 0\r\n"
        text = configured(crm.port, LOOPBACK + 'max_attempts = 3\nbackoff = "1ms"\nbackoff_max = "5ms"\n')
        async with sending(tmp_path, text) as rig:
            for _ in range(5):
                await rig.send("x")
            await rig.idle()
            assert rig.dead() == []
            assert rig.states("forward") == ["delivered"] * 5


async def test_nothing_personal_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the event, nor the answer, nor the path of the URL, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    statuses = iter([500, 302, 422])
    async with service(lambda asked: (next(statuses), b"+447700900123")) as crm:
        text = configured(crm.port, LOOPBACK + 'backoff = "1ms"\n', url="http://127.0.0.1:PORT/in?token=hunter2")
        async with sending(tmp_path, text) as rig:
            await rig.send("x", address="+447700900123")
            await rig.idle()
    assert "ForwardFailed" in caplog.text
    assert "answered 500" in caplog.text
    assert "447700900123" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_check_reaches_the_service_without_sending_to_it(tmp_path: Path) -> None:
    """What is missing or cannot work is said at its key."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "short").write_text("whsec_c2hvcnQ=")
    async with service((200, {})) as crm:
        assert await check(tmp_path, configured(crm.port, LOOPBACK + 'secret = { file = "secret" }\n')) == [
            "url: events are sent to 127.0.0.1 unencrypted"
        ]
        assert await check(tmp_path, configured(crm.port)) == [
            "secret: is not set, so the receiver cannot tell these requests from anyone's",
            "url: events are sent to 127.0.0.1 unencrypted",
        ]
        assert await check(tmp_path, configured(crm.port, "")) == (
            "url: 127.0.0.1 is a loopback address: if that is meant, add it to allow_networks"
        )
        assert await check(tmp_path, configured(crm.port, LOOPBACK + 'secret = { file = "short" }\n')) == (
            'secret: expected "whsec_" and 24 to 64 bytes in base64, in file short'
        )
        assert crm.asked == []
    assert (await check(tmp_path, configured(1))).startswith("url: 127.0.0.1:1 cannot be reached: ")
    missing = await check(tmp_path, configured(1, LOOPBACK + 'ca = "missing.pem"\n'))
    assert missing.startswith("the certificates cannot be used: ")


@pytest.mark.parametrize(
    ("table", "path", "message"),
    [
        ("", "url", "is missing"),
        ('url = "crm.internal"', "url", 'expected a URL such as "https://crm.internal/webio"'),
        ('url = "ftp://crm/x"', "url", "expected a URL such as"),
        ('url = "http://me:hunter2@crm/x"', "url", "must not contain a user or password"),
        ('url = "http://crm/x#y"', "url", "must not have a part after #"),
        ('url = "http://crm:port/x"', "url", "is not a URL: "),
        ('url = "http://crm"\nsecret = "whsec_hunter2"', "secret", "a secret must not be in the config file"),
        ('url = "http://crm"\nheaders = { X-Api-Key = "hunter2" }', "headers.X-Api-Key", "may be a secret"),
        ('url = "http://crm"\nheaders = { Host = "a" }', "headers.Host", "is set by the plugin"),
        ('url = "http://crm"\nheaders = { X = "a\\nb" }', "headers.X", "is not a header"),
        ('url = "http://crm"\nkey = "x"', "key", "needs a certificate"),
        ('url = "http://crm"\nallow_networks = ["10.0.0.1/8"]', "allow_networks[0]", "expected a network, found"),
        ('url = "http://crm"\nbody = { a = "{amount}" }', "body", "unknown name {amount}; known: {id}, "),
        ('url = "http://crm"\nbody = { a = ["{__class__}"] }', "body", "unknown name {__class__}"),
        ('url = "http://crm"\nbody = "x"', "body", "expected a table such as"),
        ('url = "http://crm"\nanswer_timeout = "0s"', "answer_timeout", "expected a duration longer than 0 s"),
    ],
)
def test_a_faulty_table_is_an_error_at_start(tmp_path: Path, table: str, path: str, message: str) -> None:
    """With the key and a sentence, and without a secret."""
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, f"[plugins.forward]\n{table}\n"))
    [problem] = raised.value.problems
    assert f"{problem.path}: {problem.message}".startswith(f"plugins.forward.{path}: {message}")
    assert "hunter2" not in str(raised.value)


async def test_a_plugin_that_did_not_start_can_be_shut_down(tmp_path: Path) -> None:
    """A secret that is not one: the gateway says so, and shuts it down."""
    (tmp_path / "secret").write_text("hunter2")
    plugin = ForwardPlugin(settings_of(tmp_path, configured(1, LOOPBACK + 'secret = { file = "secret" }\n')))
    with pytest.raises(ValueError, match=r'^secret: expected "whsec_"') as raised:
        await plugin.startup()
    assert "hunter2" not in str(raised.value)
    await plugin.shutdown()
    with pytest.raises(ForwardFailed, match="not started"):
        await plugin.on_event(event())


def test_forget_says_where_events_were_sent_to(tmp_path: Path) -> None:
    """The host, since the rest of the URL may be a secret."""
    plugin = ForwardPlugin(settings_of(tmp_path, configured(1, url="http://127.0.0.1:PORT/in?token=hunter2")))
    assert plugin.forget() == "the plugin keeps nothing; what it sent is at 127.0.0.1, to be erased there"
