"""Realistic Webio requests: for `gateway send`, `gateway ask`, tests and benchmarks.

The first three hooks have the bodies that Webio documents. The bodies of the others are not public: they have the
common fields and a guess at the rest. Phone numbers are from the range that is reserved for fiction.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from gateway.config.tables import Config, OrganisationSettings, ServerSettings, TlsSettings
from gateway.events import HOOKS
from gateway.http.tokens import mint

_TOKEN_LIFE = 86400.0
_EXTRAS: dict[str, dict[str, str]] = {
    "inbound-message": {"body": "No I don't"},
    "message-send": {"body": "Your balance is 120.50. Would you like to pay now?", "statusCode": "1"},
    "delivery-report": {"statusCode": "0"},
    "payment": {"amount": "120.50", "currency": "EUR", "reference": "", "status": "success"},
    "set-status": {"status": "Promise to pay"},
    "conversation-closed": {"closedBy": "bot"},
    "move-to-queue": {"queue": "Collections", "previousQueue": "Bot"},
    "conversation-assignment": {"action": "assigned", "assignedTo": "Agent 7"},
}
_TYPES = {
    "inbound-message": "inboundMessage",
    "message-send": "messageSend",
    "delivery-report": "messageStatusUpdate",
    "payment": "payment",
    "set-status": "setStatus",
    "conversation-closed": "conversationClosed",
    "move-to-queue": "moveToQueue",
    "conversation-assignment": "conversationAssignment",
}
_MESSAGES = ("inbound-message", "message-send", "delivery-report")


class Unreachable(Exception):
    """The gateway did not answer; the message is a sentence for the operator."""


class _Numbers:
    """Unique increasing numbers: the microseconds since 1970, plus 1 where that number was taken."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return self._last


_numbers = _Numbers()


def body(hook: str, *, conversation_id: str | None = None, customer_uid: str = "123456") -> dict[str, Any]:
    """A new body of this hook; without `conversation_id` it has its own conversation."""
    number = _numbers.next()
    fields = {"type": _TYPES[hook], "conversationId": conversation_id or str(number)}
    if hook in _MESSAGES:
        fields["communicationActionId"] = str(number)
    fields |= {
        "outboundChannelAddress": f"447700900{number % 1000:03}",
        "inboundChannelAddress": "WhatsApp QA Test",
        "customerUID": customer_uid,
    }
    extras = dict(_EXTRAS[hook])
    if "body" in extras:
        fields["body"] = extras.pop("body")
    created = datetime.fromtimestamp(number / 1_000_000, UTC)
    fields["dateCreated"] = created.strftime("%Y-%m-%d %H:%M:%S.") + f"{created.microsecond // 1000:03}"
    if "reference" in extras:
        extras["reference"] = f"PAY-{number}"
    return fields | extras


def conversation(*, customer_uid: str = "123456") -> list[tuple[str, dict[str, Any]]]:
    """An event of each hook, in one conversation: pairs of hook and body."""
    conversation_id = str(_numbers.next())
    return [(hook, body(hook, conversation_id=conversation_id, customer_uid=customer_uid)) for hook in HOOKS]


def encode(fields: dict[str, Any]) -> bytes:
    """A body as JSON in UTF-8."""
    return json.dumps(fields, ensure_ascii=False).encode()


def query(
    fields: Sequence[str], customer_uid: str | None = None, outbound_channel_address: str | None = None
) -> dict[str, str]:
    """The query of a custom value request; without `customer_uid` as in a conversation that began inbound."""
    customer = {"customerUID": customer_uid or "", "outboundChannelAddress": outbound_channel_address or ""}
    return customer | {f"param{number}": field for number, field in enumerate(fields, 1)}


class HttpAnswer(NamedTuple):
    """The gateway's answer; `document` is `{}` where the body is not a JSON object."""

    status: int
    document: dict[str, Any]


class Client:
    """Sends requests as Webio does, with a token signed with the organisation's first secret. Thread-safe. `url` is the
    callback URL; default: the configured public listener on this machine."""

    def __init__(
        self,
        config: Config,
        organisation: str,
        *,
        url: str | None = None,
        timeout: float = 30.0,
        connections: int = 1,
    ) -> None:
        settings = config.organisations[organisation]
        self.url = (url or url_of(config.server)).rstrip("/")
        self._http = httpx.Client(
            headers={"x-webio-token": token(settings)},
            timeout=timeout,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            verify=trust(config.server.tls) if url is None else True,
            trust_env=False,
        )

    def post(self, content: bytes, hook: str | None = None) -> HttpAnswer:
        """Send a body; `hook` is added to the path."""
        url = self.url if hook is None else f"{self.url}/{hook}"
        return self._send(self._http.build_request("POST", url, content=content, headers=_JSON))

    def ask(
        self, fields: Sequence[str], customer_uid: str | None = None, outbound_channel_address: str | None = None
    ) -> HttpAnswer:
        """Send a custom value request; without `customer_uid` as in a conversation that began inbound."""
        params = query(fields, customer_uid, outbound_channel_address)
        return self._send(self._http.build_request("GET", self.url, params=params))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: httpx.Request) -> HttpAnswer:
        try:
            response = self._http.send(request)
        except httpx.TimeoutException:
            raise Unreachable(f"no answer from {self.url} in time") from None
        except httpx.HTTPError as error:
            reason = re.sub(r"^\[[^]]*\] ", "", str(error)) or type(error).__name__
            raise Unreachable(f"no answer from {self.url}: {reason}") from None
        try:
            document = response.json()
        except ValueError:
            document = {}
        return HttpAnswer(response.status_code, document if isinstance(document, dict) else {})


_JSON = {"content-type": "application/json"}


def token(organisation: OrganisationSettings) -> str:
    """A token as Webio sends it, valid for a day."""
    return mint(organisation, expires_in=_TOKEN_LIFE)


def url_of(server: ServerSettings) -> str:
    """The public listener's callback URL, as seen from this machine."""
    scheme = "http" if server.tls is None else "https"
    return f"{scheme}://{local_address(server.host)}:{server.port}{server.path}"


def local_address(host: str) -> str:
    """A listener's host for a URL that connects to it from this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


def trust(tls: TlsSettings | None) -> ssl.SSLContext | bool:
    """Trust exactly the configured certificate of a listener, with any name in it."""
    if tls is None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(tls.certificate)
    except OSError as error:
        raise Unreachable(f"{tls.certificate} cannot be read as a certificate: {error}") from None
    return context
