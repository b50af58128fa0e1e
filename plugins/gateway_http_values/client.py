"""The HTTP client of a plugin instance: without redirects, cookies, and settings from the environment."""

from __future__ import annotations

import ssl
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx
import msgspec
from gateway_connections import header_value

from gateway import Secret, Size

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class BadReply(Exception):
    """An answer that cannot be used. The message contains nothing of it."""


def open_client(
    context: ssl.SSLContext | bool, headers: dict[str, str], auth: httpx.Auth | None, connections: int
) -> httpx.AsyncClient:
    # No cookies: one that a customer's answer sets must not be sent with another customer's request. No compression:
    # a small compressed answer could expand to a large one.
    client = httpx.AsyncClient(
        verify=context,
        auth=auth,
        headers={"Accept": "application/json", "Accept-Encoding": "identity", **headers},
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


async def fetch(client: httpx.AsyncClient, request: httpx.Request, max_body: Size) -> tuple[int, bytes]:
    """Status and body; `BadReply` for a body over `max_body`."""
    response = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_body:
                raise BadReply(f"the answer is longer than {max_body} bytes")
        return response.status_code, bytes(body)
    finally:
        await response.aclose()


def parse(body: bytes) -> Any:
    """The JSON document, numbers exact; `BadReply` where it is not JSON."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, ArithmeticError):
        raise BadReply("the answer is not JSON") from None


class Bearer(httpx.Auth):
    """`Authorization: Bearer` with a secret, which no repr shows."""

    def __init__(self, token: Secret) -> None:
        self._header = f"Bearer {header_value(token)}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = self._header
        yield request
