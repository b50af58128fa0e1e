"""The plugin: a POST per event, signed, and what each answer means for the delivery of the event."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import httpx
import msgspec
from gateway_connections import client_context, header_value, may_be_secret, quieten
from standardwebhooks import Webhook

from gateway import Duration, Event, Network, Reject, Retry, Secret, hookimpl
from gateway_forward.addresses import Addresses, Resolve, resolve
from gateway_forward.client import Clients, open_client, post, seconds_of
from gateway_forward.failures import ForwardFailed
from gateway_forward.template import Template

_CHECKING: Final = 5.0
_LATER: Final = frozenset({408, 425, 429})
"""Statuses of 4xx that say that the same request may be taken later."""
_OURS: Final = ("host", "content-length", "transfer-encoding", "connection", "idempotency-key", "webhook-")
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, msgspec.Meta(description="Where each event is sent to, by POST.")]
    secret: Annotated[
        Secret | None,
        msgspec.Meta(description="The secret that requests are signed with (Standard Webhooks, whsec_...)."),
    ] = None
    previous_secret: Annotated[
        Secret | None, msgspec.Meta(description="A second one that signs, too, until every receiver has the new one.")
    ] = None
    headers: Annotated[dict[str, str], msgspec.Meta(description="Headers that are sent with every request.")] = {}
    secret_headers: Annotated[dict[str, Secret], msgspec.Meta(description="Headers whose values are secrets.")] = {}
    allow_networks: Annotated[
        tuple[Network, ...],
        msgspec.Meta(description="Networks that are not public and may be sent to, such as 10.0.0.0/8."),
    ] = ()
    body: Annotated[
        Template | None,
        msgspec.Meta(description="The JSON to send, with names such as {body.amount}; default: the archive's line."),
    ] = None
    certificate: Annotated[Path | None, msgspec.Meta(description="A client certificate (PEM).")] = None
    key: Annotated[Path | None, msgspec.Meta(description="The key of the client certificate (PEM).")] = None
    ca: Annotated[
        Path | None,
        msgspec.Meta(
            description="The authority that signed the certificate of the service (PEM); default: those of the system."
        ),
    ] = None
    connections: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The most connections at the same time.")] = 50
    connect_timeout: Annotated[Duration, msgspec.Meta(description="The longest time to connect.")] = Duration(5)
    answer_timeout: Annotated[
        Duration, msgspec.Meta(description="The longest time from the beginning to the status of the answer.")
    ] = Duration(20)
    longest_pause: Annotated[
        Duration, msgspec.Meta(description="The longest pause that an answer may ask for with Retry-After.")
    ] = Duration(3600)

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"url: is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError('url: expected a URL such as "https://crm.internal/webio"')
        if url.userinfo:
            raise ValueError("url: must not contain a user or password; write them under secret_headers")
        if url.fragment:
            raise ValueError("url: must not have a part after #")
        for name, value in self.headers.items():
            if may_be_secret(name, value) or value.strip().lower().startswith("whsec_"):
                raise ValueError(f"headers.{name}: may be a secret; write it under secret_headers, from a file")
            _header(f"headers.{name}", name, value)
        if self.key is not None and self.certificate is None:
            raise ValueError("key: needs a certificate")
        if self.previous_secret is not None and self.secret is None:
            raise ValueError("previous_secret: needs a secret")
        for name in ("connect_timeout", "answer_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected a duration longer than 0 s")


class ForwardPlugin:
    """Sends every event to one URL. An event that was sent twice has the same `Idempotency-Key`, its id."""

    Config = Settings

    def __init__(self, config: Settings, resolve: Resolve = resolve) -> None:
        quieten()
        self._config = config
        self._url = httpx.URL(config.url)
        self._addresses = Addresses(config.allow_networks, resolve)
        self._clients: Clients | None = None
        self._signers: list[Webhook] = []

    @hookimpl
    async def startup(self) -> None:
        config = self._config
        self._signers = self._webhooks()
        context, headers = self._tls(), self._headers()
        timeout = httpx.Timeout(config.answer_timeout, connect=config.connect_timeout)
        self._clients = Clients(lambda: open_client(context, self._addresses, headers, timeout), config.connections)

    @hookimpl
    async def shutdown(self) -> None:
        clients, self._clients = self._clients, None
        if clients is not None:
            await clients.close()

    @hookimpl
    async def check(self) -> list[str]:
        """Look the host up, and connect to it, for https with its certificate; no request is sent."""
        self._webhooks()
        self._headers()
        context = self._tls()
        host, encrypted = self._url.host, self._url.scheme == "https"
        port = self._url.port or (443 if encrypted else 80)
        try:
            async with asyncio.timeout(_CHECKING):
                address = (await self._addresses.of(host, port))[0]
                tls, name = (context, host) if encrypted else (None, None)
                _, writer = await asyncio.open_connection(address, port, ssl=tls, server_hostname=name)
                writer.close()
                await writer.wait_closed()
        except TimeoutError:
            raise ValueError(f"url: {host}:{port} did not answer within {_CHECKING:g} s") from None
        except ForwardFailed as error:
            raise ValueError(f"url: {error}") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"url: {host}:{port} cannot be reached: {error}") from None
        return [*self._warnings()]

    @hookimpl
    async def on_event(self, event: Event) -> None:
        clients = self._clients
        if clients is None:
            raise ForwardFailed("the plugin is not started")
        body = event.record() if self._config.body is None else self._config.body.write(event)
        headers = {"Content-Type": "application/json", "Idempotency-Key": event.id, **self._signature(event.id, body)}
        try:
            async with asyncio.timeout(self._config.answer_timeout), clients.one() as client:
                status, retry_after = await post(client, self._url, body, headers)
        except (TimeoutError, httpx.TimeoutException):
            raise ForwardFailed("the service did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ForwardFailed(f"no answer: {type(error).__name__}") from None
        self._judge(status, retry_after)

    @hookimpl
    def forget(self) -> str:
        return f"the plugin keeps nothing; what it sent is at {self._url.host}, to be erased there"

    def _judge(self, status: int, retry_after: str) -> None:
        """Raise what an answer means for the event; return where the service has taken it."""
        if 200 <= status < 300:
            return
        if 400 <= status < 500 and status not in _LATER:
            raise Reject(f"answered {status}")
        pause = seconds_of(retry_after, self._config.longest_pause)
        if pause is not None and status >= 400:
            raise Retry(f"answered {status}, and asked for a pause of {pause:.0f} s", after=pause, counts=False)
        raise ForwardFailed(f"answered {status}{', and redirects are not followed' if status < 400 else ''}")

    def _signature(self, event_id: str, body: bytes) -> dict[str, str]:
        if not self._signers:
            return {}
        now = datetime.now(UTC)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Reject("the body is not UTF-8, so it cannot be signed") from None
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(one.sign(event_id, now, text) for one in self._signers),
        }

    def _webhooks(self) -> list[Webhook]:
        given = {"secret": self._config.secret, "previous_secret": self._config.previous_secret}
        return [Webhook(_signing_key(name, secret)) for name, secret in given.items() if secret is not None]

    def _headers(self) -> dict[str, str]:
        config = self._config
        secrets = {name: header_value(secret) for name, secret in config.secret_headers.items()}
        return {**config.headers, **{name: _header(f"secret_headers.{name}", name, secrets[name]) for name in secrets}}

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        return client_context(config.ca, config.certificate, config.key)

    def _warnings(self) -> list[str]:
        found = []
        if self._config.secret is None:
            found.append("secret: is not set, so the receiver cannot tell these requests from anyone's")
        if self._url.scheme == "http":
            found.append(f"url: events are sent to {self._url.host} unencrypted")
        return found


def _signing_key(name: str, secret: Secret) -> bytes:
    """The bytes in a secret of Standard Webhooks; `ValueError` where it is not one."""
    text = header_value(secret).removeprefix("whsec_")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not 24 <= len(found) <= 64:
        raise ValueError(f'{name}: expected "whsec_" and 24 to 64 bytes in base64, in {secret.source}')
    return found


def _header(path: str, name: str, value: str) -> str:
    """`ValueError` for a header that HTTP does not allow, or that the plugin itself sets."""
    if not _NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
        raise ValueError(f"{path}: is not a header; names and values are of printable ASCII characters")
    if name.lower().startswith(_OURS):
        raise ValueError(f"{path}: is set by the plugin")
    return value
