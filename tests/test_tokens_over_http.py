"""A refused token over HTTP: one answer, whatever was wrong with it, and nothing of it anywhere."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi import NEVER, InProcess, in_process
from raw_http import Requests, talk
from running import SECRET, eventually, running
from tokens_corpus import REQUIRED, bad_claims, bad_tokens, token

from gateway.http.tokens import fingerprint
from gateway.log import RateLimit

ANSWER = (
    b'{"type":"about:blank","title":"Unauthorized","status":401,'
    b'"detail":"The x-webio-token header is missing or not valid."}'
)
HEADERS = {
    "content-type": "application/problem+json",
    "content-length": str(len(ANSWER)),
    "cache-control": "no-store",
    "connection": "close",
}
CLAIMS = "[organisations.acme.claims]\n" + "".join(f"{name} = {value!r}\n" for name, value in REQUIRED.items())
CORPUS = [*bad_tokens(SECRET.encode()), *bad_claims(SECRET.encode())]
ROUTES = [("POST", "/webio"), ("POST", "/webio/payment"), ("GET", "/webio"), ("GET", "/webio/custom-values")]


def refused(gateway: InProcess) -> float:
    return sum(n for name, n in gateway.metrics().items() if name.startswith("gateway_requests_refused_total"))


async def test_every_bad_token_gets_the_same_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole corpus, POST and GET alike: the same status, headers and body, byte for byte, although the body of
    the request never arrives; nothing is kept, and no request goes over the network."""

    def no_connection(*_: Any) -> None:
        raise AssertionError("a token made the gateway connect to somewhere")

    async with in_process(tmp_path, CLAIMS) as gateway:
        monkeypatch.setattr(socket.socket, "connect", no_connection)
        assert len(CORPUS) >= 120
        for name, bad in CORPUS:
            for method, path in ROUTES:
                headers = [(b"x-webio-token", bad), (b"content-length", b"20")]
                answer = await gateway.request(method, path, [NEVER], headers=headers, organisation=None)
                assert (answer.status, answer.headers, answer.body) == (401, HEADERS, ANSWER), name
        assert refused(gateway) == len(CORPUS) * len(ROUTES)
        assert gateway.events() == []
        monkeypatch.undo()


@pytest.mark.parametrize("second", ["the same", "another", "empty"])
async def test_two_tokens_are_none(tmp_path: Path, second: str) -> None:
    """Two `x-webio-token` headers are refused, even if both are valid."""
    async with in_process(tmp_path) as gateway:
        good = gateway.tokens["acme"]
        other = {"the same": good, "another": token(SECRET.encode()), "empty": b""}[second]
        for pair in ((good, other), (other, good)):
            headers = [(b"x-webio-token", value) for value in pair]
            answer = await gateway.request("POST", body=[NEVER], headers=headers, organisation=None)
            assert (answer.status, answer.headers, answer.body) == (401, HEADERS, ANSWER)
        assert gateway.metrics()['gateway_requests_refused_total{reason="repeated",status="401"}'] == 2


async def test_no_token_is_a_bad_token(tmp_path: Path) -> None:
    """Without the header, or with another one that holds a good token: the same answer."""
    async with in_process(tmp_path) as gateway:
        good = gateway.tokens["acme"]
        for name in (None, b"authorization", b"x-webio-tokens", b"x_webio_token", b"cookie"):
            headers = [] if name is None else [(name, good)]
            answer = await gateway.request("POST", body=[NEVER], headers=headers, organisation=None)
            assert (answer.status, answer.headers, answer.body) == (401, HEADERS, ANSWER)


async def test_the_log_says_why_and_not_what(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line has the client's address, the reason and the token's fingerprint, and no part of the token."""
    bad = token(b"another secret of thirty-two bytes or more")

    async with in_process(tmp_path) as gateway:
        query = b"customerUID=447700900123&param1=balance"
        headers = [(b"x-webio-token", bad)]
        await gateway.request("GET", query=query, headers=headers, organisation=None, client="203.0.113.9")
        await gateway.request("POST", organisation=None)
    reason = "no secret verifies its signature (tried: 1 secret of 1 organisation)"
    assert caplog.messages == [
        f"401 GET from 203.0.113.9: {reason} (token {fingerprint(bad)})",
        "401 POST from 127.0.0.1: the request has no x-webio-token header (token -)",
    ]
    assert not [part for part in bad.decode().split(".") if part in caplog.text]


async def test_many_refusals_write_few_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At most ten lines per second are written, and every refusal is counted."""

    with caplog.at_level(logging.DEBUG, logger="gateway"):
        async with in_process(tmp_path) as gateway:
            began = time.monotonic()
            for _ in range(1000):
                await gateway.request("POST", organisation=None)
            seconds = time.monotonic() - began
            assert refused(gateway) == 1000
            assert len(caplog.records) <= 11 * (seconds + 2)


async def test_what_was_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The number of lines that were left out is logged a second later, also when no other line follows."""
    bounded = RateLimit(logging.getLogger("gateway.test"))
    for number in range(25):
        bounded.warning("line %d", number)
    while len(caplog.messages) < 11:
        await asyncio.sleep(0.02)
    bounded.warning("later")
    assert caplog.messages == [*(f"line {n}" for n in range(10)), "15 lines were left out", "later"]


def test_over_the_wire(tmp_path: Path) -> None:
    """The real server: every bad token that HTTP can carry gets the same bytes, before the body and at once, and the
    connection is closed; those that it cannot carry are refused by the server itself."""
    with running(tmp_path, CLAIMS) as gateway:
        requests = Requests(gateway)
        answers: dict[bytes, list[str]] = {}
        began = time.monotonic()
        for name, bad in CORPUS:
            if bad != bad.strip() or b"\n" in bad or b"\r" in bad:
                continue  # for HTTP those are around the token, or end it
            head = requests.head(b"Content-Length: 20", b"x-webio-token: " + bad, token=False)
            answer = talk(requests.port, head, wait=5)
            assert answer.closed, name
            answers.setdefault(answer.data, []).append(name)
        assert time.monotonic() - began < 10
        statuses = {data.split()[1] for data in answers}
        assert statuses == {b"401", b"400", b"431"}
        [ours] = [data for data in answers if data.startswith(b"HTTP/1.1 401 ")]
        assert ours.endswith(b"\r\n\r\n" + ANSWER)
        assert len(answers[ours]) > 250
        by_the_server = [name for data, names in answers.items() if data != ours for name in names]
        assert [
            name for name in by_the_server if not re.search(r"NUL|UTF-16$|every byte|64 KiB|1 MB|100,000", name)
        ] == []
        gateway.wait_for_line("lines were left out", within=5)
        assert len(gateway.output) < 200


def test_a_body_after_a_refusal_is_no_request(tmp_path: Path) -> None:
    """What follows a refused head on the same connection is its body, or nothing: never a request of its own."""
    with running(tmp_path) as gateway:
        requests = Requests(gateway)
        inner = requests.post()
        announced = b"Content-Length: %d" % len(inner)
        for parts in (
            (requests.head(announced, token=False), inner),
            (requests.head(announced, token=False), 0.1, inner),
            (requests.head(b"Transfer-Encoding: chunked", token=False), 0.1, inner),
            (requests.head(announced, token=False) + inner[:10], 0.05, inner[10:]),
            (requests.post(token=False), 0.1, inner),
            (requests.post(token=False) + inner,),
        ):
            answer = talk(requests.port, *parts)
            assert answer.statuses == [401]
            assert answer.closed
        eventually(lambda: refusals(gateway) == 6)
        assert gateway.cli("events", "--json").stdout == ""


def refusals(gateway: Any) -> float:
    text = httpx.get(f"{gateway.admin_url}/metrics").text
    return sum(float(n) for n in re.findall(r'^gateway_requests_refused_total{.*status="401"} (.*)$', text, re.M))
