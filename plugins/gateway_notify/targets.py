"""Where messages go: a chat's webhook, or a mail server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx
import msgspec
from gateway_connections import is_loopback

from gateway import Notice, Secret
from gateway_notify.message import FORMATS, lines, title
from gateway_notify.outbox import NotSent

SECONDS: Final = 20.0
"""For one message, at most."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the plugin's tables."""


class Webhook(Table, frozen=True, kw_only=True):
    url: Annotated[Secret, msgspec.Meta(description="The webhook's URL, a secret: whoever has it can post there.")]
    format: Annotated[Literal["slack", "teams", "mattermost"], msgspec.Meta(description="The chat that it is of.")]

    def address(self) -> httpx.URL:
        """`ValueError` where the secret is not a URL."""
        try:
            url = httpx.URL(self.url.text().strip())
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"webhook.url: expected a URL in {self.url.source}")
        return url


class Email(Table, frozen=True, kw_only=True):
    host: Annotated[str, msgspec.Meta(description="The mail server.")]
    sender: Annotated[str, msgspec.Meta(description="The address that messages are from.")] = msgspec.field(name="from")
    to: Annotated[tuple[str, ...], msgspec.Meta(description="The addresses that messages go to.")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535, description="Its port.")] = 587
    tls: Annotated[
        Literal["starttls", "tls", "none"] | None,
        msgspec.Meta(
            description="Whether the connection becomes encrypted, is so from its beginning, or is not;"
            ' default: "starttls", or "none" to a loopback address without a password.'
        ),
    ] = None
    username: Annotated[str | None, msgspec.Meta(description="The user name at the mail server.")] = None
    password: Annotated[Secret | None, msgspec.Meta(description="The password at the mail server.")] = None
    ca: Annotated[
        Path | None,
        msgspec.Meta(description="The authority of the server's certificate (PEM); default: those of the system."),
    ] = None

    def __post_init__(self) -> None:
        for key, address in (("from", self.sender), *((f"to[{i}]", one) for i, one in enumerate(self.to))):
            if address.count("@") != 1 or not address.isprintable() or " " in address:
                raise ValueError(f'{key}: expected an address such as "gateway@example.com"')
        if not self.to:
            raise ValueError("to: expected at least one address")
        if (self.username is None) != (self.password is None):
            raise ValueError("username: goes with a password, and a password with a username")

    @property
    def encryption(self) -> Literal["starttls", "tls", "none"]:
        if self.tls is not None:
            return self.tls
        return "none" if is_loopback(self.host) and self.password is None else "starttls"


class Chat:
    """Posts to a webhook. Redirects are not followed, nor are proxies taken from the environment."""

    def __init__(self, webhook: Webhook, gateway: str) -> None:
        self._url = webhook.address()
        self._form = FORMATS[webhook.format]
        self._gateway = gateway

    async def send(self, notices: Sequence[Notice]) -> None:
        document = self._form(title(self._gateway, notices), lines(notices))
        try:
            async with (
                asyncio.timeout(SECONDS),
                httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client,
                client.stream("POST", self._url, json=document) as response,  # its body, of any size, is not read
            ):
                status = response.status_code
        except (TimeoutError, httpx.HTTPError) as error:
            raise NotSent(f"{self._url.host}: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise NotSent(f"{self._url.host} answered {status}")

    async def check(self) -> None:
        """Connect, and send nothing."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        try:
            async with asyncio.timeout(SECONDS):
                _, writer = await asyncio.open_connection(self._url.host, port)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise ValueError(f"webhook.url: {self._url.host}:{port} cannot be reached: {error}") from None


class Mail:
    """Sends through a mail server."""

    def __init__(self, email: Email, gateway: str) -> None:
        self._email = email
        self._gateway = gateway

    async def send(self, notices: Sequence[Notice]) -> None:
        message = EmailMessage()
        message["Subject"] = title(self._gateway, notices)
        message["From"] = self._email.sender
        message["To"] = ", ".join(self._email.to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._email.sender.partition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n".join(f"- {line}" for line in lines(notices)) + "\n")
        await self._talk(message)

    async def check(self) -> None:
        """Connect and log in, and send nothing."""
        try:
            await self._talk(None)
        except NotSent as error:
            raise ValueError(f"email.host: {error}") from None

    async def _talk(self, message: EmailMessage | None) -> None:
        import aiosmtplib

        email, where = self._email, f"{self._email.host}:{self._email.port}"
        context = None if email.encryption == "none" else self._tls()
        client = aiosmtplib.SMTP(
            hostname=email.host,
            port=email.port,
            use_tls=email.encryption == "tls",
            start_tls=False,
            timeout=SECONDS,
            tls_context=context,
        )
        opened: list[Any] = []
        try:
            async with asyncio.timeout(2 * SECONDS):
                await client.connect()
                opened.append(client.transport)
                if email.encryption == "starttls":
                    await client.starttls(tls_context=context)
                    opened.append(client.transport)
                if email.username is not None and email.password is not None:
                    await client.login(email.username, email.password.text())
                if message is not None:
                    await client.send_message(message)
                await client.quit()
        except aiosmtplib.SMTPResponseException as error:  # its message may repeat addresses
            raise NotSent(f"{where} answered {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise NotSent(f"{where}: {type(error).__name__}") from None
        finally:
            client.close()
            await _abort(opened)

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._email.ca)
        except OSError as error:
            raise NotSent(f"the certificate in {self._email.ca} cannot be used: {error.strerror}") from None


async def _abort(transports: Sequence[Any]) -> None:
    """Close at once what a failed handshake has left open, and what waits for the server to end TLS: the loop may be
    closed next."""
    for transport in transports:
        if transport is not None:
            transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)
