"""The HTTP client: to checked addresses only, without redirects, cookies, and settings from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from time import time
from typing import Final

import httpx

from gateway_forward.addresses import Addresses

_MOST_OF_ANSWER: Final = 64 * 1024
"""Bytes of an answer's body that are read, and thrown away, so that the connection can be used again."""
_REST_OF_ANSWER: Final = 1.0
"""Seconds that this may take."""


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends each request to an address of its host that was checked. For TLS, and in `Host`, it is the host that
    counts."""

    def __init__(self, inner: httpx.AsyncBaseTransport, addresses: Addresses) -> None:
        self._inner = inner
        self._addresses = addresses

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        failed: httpx.TransportError | None = None
        for address in await self._addresses.of(host, port):
            checked = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(checked)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._addresses.forget(host, port)
                failed = error
        raise failed or httpx.ConnectError("the host has no address")

    async def aclose(self) -> None:
        await self._inner.aclose()


class Clients:
    """At most `most` clients with one connection each; the one that was used last is used first. A single client with
    many connections would look at each idle one before every request, which takes longer than the request itself."""

    def __init__(self, make: Callable[[], httpx.AsyncClient], most: int) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(most)
        self._idle: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request."""
        async with self._slots:
            if self._idle:
                client = self._idle.pop()
            else:
                client = self._make()
                self._all.append(client)
            try:
                yield client
            finally:
                self._idle.append(client)

    async def close(self) -> None:
        for client in self._all:
            await client.aclose()


def open_client(
    context: ssl.SSLContext, addresses: Addresses, headers: dict[str, str], timeout: httpx.Timeout
) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30)
    inner = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
    client = httpx.AsyncClient(
        transport=CheckedTransport(inner, addresses),
        headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "webio-gateway", **headers},
        follow_redirects=False,
        trust_env=False,
        timeout=timeout,
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


async def post(client: httpx.AsyncClient, url: httpx.URL, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Status, and `Retry-After` or "". The answer's body is not kept."""
    request = client.build_request("POST", url, content=body, headers=headers)
    try:
        response = await client.send(request, stream=True)
    except httpx.RemoteProtocolError:  # the service closed an idle connection just now; the id says that it is a repeat
        response = await client.send(request, stream=True)
    try:
        with contextlib.suppress(TimeoutError, httpx.HTTPError):  # the status is what counts
            async with asyncio.timeout(_REST_OF_ANSWER):
                length = 0
                async for chunk in response.aiter_raw():
                    length += len(chunk)
                    if length > _MOST_OF_ANSWER:
                        break
    finally:
        await response.aclose()
    return response.status_code, response.headers.get("Retry-After", "")


def seconds_of(retry_after: str, most: float) -> float | None:
    """The pause that `Retry-After` asks for, in seconds or as a date, at most `most`; None where it asks for none."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), most)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time()), most)
    except (ValueError, OverflowError):
        return None
