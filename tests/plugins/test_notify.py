"""notify: messages to people, by e-mail through a real mail server, and to chats."""

from __future__ import annotations

import asyncio
import contextlib
import email
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from asking import check
from gateway_notify import NotifyPlugin
from gateway_notify.targets import Chat
from http_service import Service, make_certificates, service
from machine import free_ports
from running import read_config
from sending import settings_of

from gateway import Context, Notice
from gateway.config.convert import ConfigError
from gateway.plugin_host.load import load_plugins

SINCE = datetime(2026, 11, 22, 2, 41, tzinfo=UTC)


def notice(key: str = "plugin crm", sentence: str = "plugin crm is not healthy", **fields: Any) -> Notice:
    return Notice(**{"kind": "plugin", "key": key, "sentence": sentence, "since": SINCE, **fields})


def over(key: str = "plugin crm", sentence: str = "plugin crm is healthy again") -> Notice:
    return notice(key, sentence, recovered=True)


def chat(port: int, directory: Path, form: str = "slack", options: str = 'gather = "10ms"\nevery = "10ms"\n') -> str:
    (directory / "hook").write_text(f"http://127.0.0.1:{port}/services/hunter2\n")
    return f'[plugins.notify]\nname = "gw1"\nwebhook = {{ url = {{ file = "hook" }}, format = "{form}" }}\n{options}'


@contextlib.asynccontextmanager
async def started(directory: Path, text: str) -> AsyncIterator[NotifyPlugin]:
    plugin = NotifyPlugin(settings_of(directory, text))
    tasks: list[asyncio.Task[object]] = []
    context = Context(
        name="notify",
        log=logging.getLogger("plugins.notify"),
        directory=directory,
        organisations=("acme",),
        spawner=lambda work, name: tasks.append(asyncio.create_task(work)),
    )
    await plugin.startup(context)
    try:
        yield plugin
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await plugin.shutdown()


async def until(holds: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


def texts(crm: Service) -> list[str]:
    return [json.loads(asked.body)["text"] for asked in crm.asked]


async def test_slack_gets_problems_and_their_end(tmp_path: Path) -> None:
    """What belongs to one moment in one message; what Slack would read as a command is text."""
    async with service((200, b"ok")) as slack, started(tmp_path, chat(slack.port, tmp_path)) as plugin:
        await plugin.notice(notice())
        await plugin.notice(notice("unknown x", 'an event of the type "<!channel> & co" came in', kind="unknown-type"))
        await until(lambda: len(slack.asked) == 1)
        await plugin.notice(over())
        await until(lambda: len(slack.asked) == 2)
        assert texts(slack) == [
            "*Webio Gateway at gw1: 2 problems*\n"
            "• plugin crm is not healthy (since 2026-11-22 02:41 UTC)\n"
            '• an event of the type "&lt;!channel&gt; &amp; co" came in (since 2026-11-22 02:41 UTC)',
            "*Webio Gateway at gw1: 1 resolved*\n• Resolved: plugin crm is healthy again",
        ]
        assert slack.asked[0].line == "POST /services/hunter2"
        assert slack.asked[0].headers["content-type"] == "application/json"


async def test_mattermost_calls_nobody(tmp_path: Path) -> None:
    async with service((200, b"ok")) as there, started(tmp_path, chat(there.port, tmp_path, "mattermost")) as plugin:
        await plugin.notice(notice(sentence="@all"))
        await until(lambda: there.asked)
        assert texts(there) == [
            "**Webio Gateway at gw1: 1 problem**\n- @\u200ball (since 2026-11-22 02:41 UTC)",
        ]


async def test_teams_gets_an_adaptive_card(tmp_path: Path) -> None:
    async with service((202, b"")) as teams, started(tmp_path, chat(teams.port, tmp_path, "teams")) as plugin:
        await plugin.notice(notice())
        await until(lambda: teams.asked)
        document = json.loads(teams.asked[0].body)
        assert document["type"] == "message"
        [attachment] = document["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        card = attachment["content"]
        assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
        assert [(block["type"], block["text"]) for block in card["body"]] == [
            ("TextBlock", "Webio Gateway at gw1: 1 problem"),
            ("TextBlock", "- plugin crm is not healthy (since 2026-11-22 02:41 UTC)"),
        ]


async def test_messages_come_at_a_limited_rate_and_lose_nothing(tmp_path: Path) -> None:
    """A flood becomes two messages: the first of it, and the last word on each condition."""
    text = chat(1, tmp_path, options='gather = "1ms"\nevery = "500ms"\n')
    async with service((200, b"ok")) as slack:
        (tmp_path / "hook").write_text(f"http://127.0.0.1:{slack.port}/x")
        async with started(tmp_path, text) as plugin:
            await plugin.notice(notice("a", "a has 1"))
            await until(lambda: slack.asked)
            for count in range(2, 200):
                await plugin.notice(notice("a", f"a has {count}"))
                await plugin.notice(notice(f"b{count % 30}", f"b{count % 30} has {count}"))
            await until(lambda: len(slack.asked) == 2)
            assert "a has 199 " in texts(slack)[1]
            assert texts(slack)[1].startswith("*Webio Gateway at gw1: 31 problems*")
            assert texts(slack)[1].endswith("\n• and 11 more")


async def test_what_is_over_before_it_was_told_is_not_told(tmp_path: Path) -> None:
    """Neither its beginning nor its end."""
    options = 'gather = "150ms"\nevery = "1ms"\n'
    async with service((200, b"ok")) as slack, started(tmp_path, chat(slack.port, tmp_path, options=options)) as plugin:
        await plugin.notice(notice())
        await plugin.notice(over())
        await plugin.notice(notice("b", "b is down"))
        await until(lambda: slack.asked)
        assert "crm" not in texts(slack)[0]


async def test_what_ends_while_its_message_is_under_way_is_told_as_over(tmp_path: Path) -> None:
    """The people who read the message learn that it is over."""
    plugins: list[NotifyPlugin] = []

    async def answer(asked: object) -> tuple[int, bytes]:
        if len(slack.asked) == 1:
            await plugins[0].notice(over())
        return 200, b"ok"

    async with service(answer) as slack, started(tmp_path, chat(slack.port, tmp_path)) as plugin:
        plugins.append(plugin)
        await plugin.notice(notice())
        await until(lambda: len(slack.asked) == 2)
        assert texts(slack)[1].endswith("Resolved: plugin crm is healthy again")


async def test_an_end_is_told_however_much_waits(tmp_path: Path) -> None:
    """Of what was told. A beginning is left out where 100 others wait, of which those under way are a part."""
    options = 'gather = "1ms"\nevery = "500ms"\n'
    async with service((200, b"ok")) as slack, started(tmp_path, chat(slack.port, tmp_path, options=options)) as plugin:
        await plugin.notice(notice())
        await until(lambda: slack.asked)
        for number in range(150):
            await plugin.notice(notice(f"b{number}", f"b{number} is down"))
        await plugin.notice(over())
        await until(lambda: len(slack.asked) == 2)
        assert texts(slack)[1].startswith(tuple(f"*Webio Gateway at gw1: {n} problems, 1 resolved*" for n in (99, 100)))


async def test_a_failure_that_is_not_foreseen_stops_no_later_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by its kind alone, and the message comes again."""
    faults = [ValueError("hunter2")]
    send = Chat.send

    async def fails(self: Chat, notices: Sequence[Notice]) -> None:
        if faults:
            raise faults.pop()
        await send(self, notices)

    monkeypatch.setattr(Chat, "send", fails)
    async with service((200, b"ok")) as slack, started(tmp_path, chat(slack.port, tmp_path)) as plugin:
        await plugin.notice(notice())
        await until(lambda: slack.asked)
    assert "webhook: a message was not delivered: ValueError; next try in 1 s" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_message_that_was_refused_comes_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what has come meanwhile; neither the URL nor the answer is logged."""
    caplog.set_level(logging.DEBUG)
    statuses = iter([500, 302, 200])
    async with service(lambda asked: (next(statuses), b"secret words")) as slack:
        slack.extra = "Location: http://127.0.0.1:9/\r\n"
        async with started(tmp_path, chat(slack.port, tmp_path)) as plugin:
            await plugin.notice(notice("a", "a is down"))
            await until(lambda: len(slack.asked) == 1)
            await plugin.notice(notice("b", "b is down"))
            await until(lambda: len(slack.asked) == 3)
            assert "a is down" in texts(slack)[2]
            assert "b is down" in texts(slack)[2]
    assert "webhook: a message was not delivered: 127.0.0.1 answered 500; next try in 1 s" in caplog.text
    assert "hunter2" not in caplog.text
    assert "secret words" not in caplog.text


async def test_only_the_kinds_that_are_wanted(tmp_path: Path) -> None:
    options = 'gather = "1ms"\nevery = "1ms"\nkinds = ["journal"]\n'
    async with service((200, b"ok")) as slack, started(tmp_path, chat(slack.port, tmp_path, options=options)) as plugin:
        await plugin.notice(notice())
        await plugin.notice(notice("journal", "new events are refused", kind="journal"))
        await until(lambda: slack.asked)
        assert "crm" not in texts(slack)[0]


class Mailbox:
    """What a mail server took."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.recipients: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.messages.append(email.message_from_bytes(envelope.content))
        self.recipients += envelope.rcpt_tos
        return "250 OK"


class _Server(Controller):
    def factory(self) -> SMTP:
        return SMTP(self.handler, **self.SMTP_kwargs)


@contextlib.contextmanager
def mail_server(**options: Any) -> Iterator[tuple[Mailbox, int]]:
    """A real SMTP server in a thread of its own."""
    mailbox, [port] = Mailbox(), free_ports(1)
    server = _Server(mailbox, hostname="127.0.0.1", port=port, **options)
    server.start()
    try:
        yield mailbox, port
    finally:
        server.stop()


def mail(port: int, options: str = "", host: str = "127.0.0.1") -> str:
    return (
        f'[plugins.notify]\nname = "gw1"\ngather = "1ms"\nevery = "1ms"\n[plugins.notify.email]\nhost = "{host}"\n'
        f'port = {port}\nfrom = "gateway@example.com"\nto = ["ops@example.com", "duty@example.com"]\n{options}'
    )


async def test_mail_reaches_every_address(tmp_path: Path) -> None:
    """Plain text, marked as written by a program, so that no absence note answers it."""
    with mail_server() as (mailbox, port):
        async with started(tmp_path, mail(port)) as plugin:
            await plugin.notice(notice(sentence="plugin größe is not healthy"))
            await until(lambda: mailbox.messages)
    [message] = mailbox.messages
    assert mailbox.recipients == ["ops@example.com", "duty@example.com"]
    assert message["Subject"] == "Webio Gateway at gw1: 1 problem"
    assert message["From"] == "gateway@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == "- plugin größe is not healthy (since 2026-11-22 02:41 UTC)"


async def test_mail_with_a_password_over_tls(tmp_path: Path) -> None:
    """The certificate is checked; a server without TLS, or with another authority's certificate, gets no password."""
    make_certificates(tmp_path)
    (tmp_path / "password").write_text("hunter2")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    logins: list[bytes] = []

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        logins.append(data.password)
        return AuthResult(success=data.password == b"hunter2", handled=False)

    options = 'username = "gateway"\npassword = { file = "password" }\n'
    server = {"tls_context": context, "require_starttls": True, "authenticator": login, "auth_required": True}
    with mail_server(**server) as (mailbox, port):
        async with started(tmp_path, mail(port, options + 'ca = "ca.pem"\n')) as plugin:
            await plugin.notice(notice())
            await until(lambda: mailbox.messages)
        assert logins == [b"hunter2"]
        assert await check(tmp_path, mail(port, options + 'ca = "ca.pem"\n')) is None
        untrusted = await check(tmp_path, mail(port, options))
        assert untrusted.startswith(f"email.host: 127.0.0.1:{port}: ")
        (tmp_path / "password").write_text("wrong")
        assert await check(tmp_path, mail(port, options + 'ca = "ca.pem"\n')) == (
            f"email.host: 127.0.0.1:{port} answered 535"
        )
        before = len(logins)
    with mail_server() as (_, port):
        assert (await check(tmp_path, mail(port, options))).startswith(f"email.host: 127.0.0.1:{port}: ")
        assert len(logins) == before


async def test_check_reaches_every_target_and_sends_nothing(tmp_path: Path) -> None:
    async with service((200, b"ok")) as slack:
        with mail_server() as (mailbox, port):
            _, table, rest = mail(port).partition("[plugins.notify.email]")
            whole = chat(slack.port, tmp_path, options="") + table + rest
            assert await check(tmp_path, whole) is None
            assert (mailbox.messages, slack.asked) == ([], [])
    (tmp_path / "hook").write_text("http://127.0.0.1:1/hunter2")
    found = await check(tmp_path, whole)
    assert found.startswith("webhook.url: 127.0.0.1:1 cannot be reached: ")
    assert f"; email.host: 127.0.0.1:{port}: " in found
    assert "hunter2" not in found


async def test_a_webhook_that_is_not_a_url_is_said_without_it(tmp_path: Path) -> None:
    text = chat(1, tmp_path)
    (tmp_path / "hook").write_text("hunter2")
    assert await check(tmp_path, text) == "webhook.url: expected a URL in file hook"


@pytest.mark.parametrize(
    ("table", "path", "message"),
    [
        ("", "webhook", "expected a webhook or an email, or both"),
        ('webhook = { url = "https://hooks/hunter2", format = "slack" }', "webhook.url", "a secret must not be in"),
        (
            'webhook = { url = { file = "webio.secret" }, format = "irc" }',
            "webhook.format",
            'expected one of "slack", "teams", "mattermost"',
        ),
        ('email = { host = "a", from = "x", to = ["a@b"] }', "email.from", "expected an address such as"),
        ('email = { host = "a", from = "a@b", to = [] }', "email.to", "expected at least one address"),
        ('email = { host = "a", from = "a@b", to = ["a@b\\nBcc: x@y"] }', "email.to[0]", "expected an address such as"),
        (
            'email = { host = "a", from = "a@b", to = ["a@b"], username = "x" }',
            "email.username",
            "goes with a password",
        ),
        ('email = { host = "a", from = "a@b", to = ["a@b"] }\nkinds = ["x"]', "kinds[0]", "expected one of"),
    ],
)
def test_a_faulty_table_is_an_error_at_start(tmp_path: Path, table: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, f"[plugins.notify]\n{table}\n"))
    [problem] = raised.value.problems
    assert f"{problem.path}: {problem.message}".startswith(f"plugins.notify.{path}: {message}")
    assert "hunter2" not in str(raised.value)
