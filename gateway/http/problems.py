"""Answers of both listeners: RFC 9457 problem documents, and complete answers over raw ASGI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Response

from gateway.http.request_id import HEADER
from gateway.log import REQUEST

PROBLEM: Final = b"application/problem+json"
JSON: Final = b"application/json"
Headers = Sequence[tuple[bytes, bytes]]
Answer = Callable[[int, bytes, bytes, Headers], None]
"""Sends a complete answer: status, media type, body and further headers."""


def problem(status: int, detail: str, more: Mapping[str, Any] | None = None) -> bytes:
    """The body of a problem document; `more` are further members."""
    members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return msgspec.json.encode({**members, **(more or {})})


UNAUTHORIZED: Final = problem(401, "The x-webio-token header is missing or not valid.")
"""The answer to every refused token, whatever the reason."""
FAILED: Final = "The gateway could not handle this request."
"""The detail of every answer to a request that failed unexpectedly: the caller does not learn the cause."""
CLOSE: Final = ((b"connection", b"close"),)


async def answer(send: Any, status: int, media_type: bytes, body: bytes, headers: Headers = ()) -> None:
    """Send a complete answer that caches must not store. The answer to a request that failed has the request's id,
    except 401: those are all the same, byte for byte."""
    own = [
        (b"content-type", media_type),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
        *headers,
        *(failed_id() if status >= 400 and status != 401 else ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def failed_id() -> Headers:
    """The header with the id of the request that is being answered, where the context has one."""
    request = REQUEST.get()
    return () if request is None else ((HEADER, str(request).encode()),)


def problem_response(
    status: int, detail: str, headers: Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None
) -> Response[bytes]:
    """A problem document as an answer of Litestar that caches must not store; `more` are further members."""
    return Response(
        problem(status, detail, more),
        status_code=status,
        media_type=PROBLEM.decode(),
        headers={"cache-control": "no-store", **(headers or {}), **dict(_decoded(failed_id()))},
    )


def _decoded(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]


def log_failure(log: logging.Logger, error: Exception) -> None:
    """Log a request that failed unexpectedly: the type of the error, and at level debug the traceback."""
    traceback = log.isEnabledFor(logging.DEBUG)
    log.error("a request failed and was answered 503: %s", type(error).__name__, exc_info=traceback)
