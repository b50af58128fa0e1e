"""What the head of a request must be: limits, and only those forms that every HTTP server reads alike."""

from __future__ import annotations

from typing import Final

from gateway.http.problems import PROBLEM, Headers, problem
from gateway.serving.exchange import whole_answer

HEAD_BYTES: Final = 32 * 1024
MOST_HEADERS: Final = 100

_DETAILS: Final = {
    400: "This request is not valid HTTP/1.1.",
    408: "The head of the request did not arrive in time.",
    431: "The head of the request is too large.",
}


class HeadRefused(Exception):
    """The head of a request is refused. The arguments are the status and a sentence for the log."""


def check_head(version: str, target: bytes, headers: Headers) -> None:
    """Raises `HeadRefused`. The names of `headers` are in lower case."""
    size, hosts, codings = len(target), 0, list[bytes]()
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower() if version == "1.1" else b"")
    if size > HEAD_BYTES:
        raise HeadRefused(431, f"a request's head is larger than {HEAD_BYTES} bytes")
    if len(headers) > MOST_HEADERS:
        raise HeadRefused(431, f"a request has more than {MOST_HEADERS} headers")
    if not ((hosts == 1 and version in ("1.1", "1.0")) or (version == "1.0" and not hosts)):
        raise HeadRefused(400, "a request is not HTTP/1.1 with exactly one Host header")
    if codings and codings != [b"chunked"]:
        raise HeadRefused(400, "a request has a Transfer-Encoding other than chunked, or more than one")


def refusal(status: int) -> bytes:
    """The answer to a request whose head, or the framing of whose body, is refused: 400, 408 or 431."""
    lines = b"x-content-type-options: nosniff\r\nconnection: close\r\n"
    return whole_answer(status, PROBLEM, problem(status, _DETAILS[status]), lines)
