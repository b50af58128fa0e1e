"""Errors over HTTP: RFC 9457 problem documents, and raw ASGI answers of the public listener."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

PROBLEM: Final = b"application/problem+json"
JSON: Final = b"application/json"
Headers = Sequence[tuple[bytes, bytes]]


def problem(status: int, detail: str) -> bytes:
    """A problem document's body."""
    return msgspec.json.encode(
        {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    )


UNAUTHORIZED: Final = problem(401, "The x-webio-token header is missing or not valid.")
"""The answer to every refused token, whatever the reason."""

_NO_STORE: Final = (b"cache-control", b"no-store")
CLOSE: Final = ((b"connection", b"close"),)


async def answer(send: Any, status: int, media_type: bytes, body: bytes, headers: Headers = ()) -> None:
    """Send a complete answer, which no cache may keep."""
    own = [(b"content-type", media_type), _NO_STORE, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
