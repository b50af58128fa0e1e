"""Lines of the log about a request or an event: they name the node and have their ids, in both formats."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi import in_process
from journal_kit import until
from running import RunningGateway, eventually, running

from gateway.http.tokens import mint

EVENT = b'{"type":"payment","conversationId":"c"}'
FAILING = """
    from gateway import Reject, hookimpl

    class Plugin:
        @hookimpl
        def on_payment(self, event, payload):
            raise Reject("no")
"""
NODE = '[node]\nname = "gw-1"\n'
BEHIND_A_PROXY = f'trusted_proxies = ["127.0.0.1"]\n{NODE}[log]\nformat = "json"\n'


def lines(gateway: RunningGateway, part: str) -> list[dict[str, Any]]:
    """The lines of a log in JSON whose message has `part` in it."""
    found = [json.loads(line) for line in gateway.text.splitlines() if line.startswith("{")]
    return [line for line in found if part in line["message"]]


def token(gateway: RunningGateway) -> dict[str, str]:
    return {"x-webio-token": mint(gateway.config.organisations["acme"])}


def post(gateway: RunningGateway, body: bytes = EVENT, **headers: str) -> httpx.Response:
    return httpx.post(gateway.url, content=body, headers={**token(gateway), **headers})


def test_a_refused_request_is_found_in_the_log_by_its_id(tmp_path: Path) -> None:
    """The answer has the id in `x-request-id`, and the log in its line, with the name of the node."""
    with running(tmp_path, NODE) as gateway:
        answers = [
            post(gateway, b"[]"),
            httpx.get(gateway.url, params={"param1": "balance"}, headers=token(gateway)),
            httpx.put(gateway.url),
            httpx.get(f"{gateway.url}/nowhere"),
            httpx.post(f"{gateway.admin_url}/api/operations", json={"odd": 1}),
        ]
        for answer in answers:
            request = answer.headers["x-request-id"]
            assert re.fullmatch("[0-9a-f]{16}", request)
            line = f" [node gw-1, request {request}]\n"
            if answer.url.port == gateway.config.server.port:
                gateway.wait_for_line(line)
        assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
        assert "x-request-id" not in post(gateway).headers
        assert "x-request-id" not in httpx.post(gateway.url, content=EVENT).headers  # every 401 is the same
        gateway.wait_for_line("(token -) [node gw-1, request ")


def test_the_id_of_a_trusted_proxy_is_kept(tmp_path: Path) -> None:
    """Where it is plain text of a sane length that is not a phone number. Nobody else can choose an id."""
    given = "4bf92f3577b34da6a3ce929d0e0e4736"
    with running(tmp_path, BEHIND_A_PROXY) as gateway:
        answer = post(gateway, b"[]", **{"x-request-id": given, "x-forwarded-for": "203.0.113.7"})
        assert answer.headers["x-request-id"] == given
        eventually(lambda: len(lines(gateway, "400 POST from 203.0.113.7")) == 1)
        [line] = lines(gateway, "400 POST from 203.0.113.7")
        assert (line["node"], line["request"]) == ("gw-1", given)
        for odd in ("447700900123", "short", "x" * 65, 'a b"c{}=,12', "line\tbreak12"):
            answer = post(gateway, b"[]", **{"x-request-id": odd})
            assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"]), odd
    with running(tmp_path / "direct", NODE) as gateway:
        assert post(gateway, b"[]", **{"x-request-id": given}).headers["x-request-id"] != given


def test_lines_about_an_event_have_its_id(tmp_path: Path) -> None:
    """A failed call, a dead letter, and an event by an unknown name."""
    with running(tmp_path, f'{NODE}[log]\nformat = "json"\n[plugins.sick]\n', plugins={"sick": FAILING}) as gateway:
        rejected, unknown = post(gateway), post(gateway, b'{"type":"brandNew"}')
        gateway.wait_for_line("is a dead letter")
        gateway.wait_for_line("is kept as unknown")
        [dead], [new] = lines(gateway, "is a dead letter"), lines(gateway, "is kept as unknown")
        assert (dead["event"], dead["node"]) == (rejected.json()["id"], "gw-1")
        assert (new["event"], new["node"]) == (unknown.json()["id"], "gw-1")
        assert "request" not in dead


def test_at_level_debug_every_request_has_a_line(tmp_path: Path) -> None:
    """With the ids of the request and of the event. `gateway log-level debug --for` turns it on for a time."""
    with running(tmp_path, NODE) as gateway:
        post(gateway)
        assert gateway.cli("log-level", "debug", "--for", "10m").returncode == 0
        event = post(gateway).json()["id"]
        line = gateway.wait_for_line("200 POST: kept as payment (new)")
        assert re.search(rf" \[node gw-1, request [0-9a-f]{{16}}, event {event}\]$", line)
        assert gateway.text.count("200 POST") == 1
        assert gateway.cli("log-level", "debug", "--for", "1s").returncode == 0
        gateway.wait_for_line("the log level is info again")
        post(gateway)
        assert gateway.text.count("200 POST") == 1


async def test_a_journal_that_refuses_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, before any request, with what to do; not again for each request; and when it takes events again."""
    real, full = os.statvfs, [False]

    def statvfs(path: Path) -> os.statvfs_result:
        fields = list(real(path))
        return os.statvfs_result([*fields[:3], *([1, 1] if full[0] else fields[3:5]), *fields[5:]])

    monkeypatch.setattr(os, "statvfs", statvfs)
    async with in_process(tmp_path) as gateway:
        assert (await gateway.post(EVENT)).status == 200
        full[0] = True
        journal = gateway.gateway.journal
        await until(lambda: journal.refusal() is not None)
        assert len(caplog.messages) == 1
        assert [(await gateway.post(EVENT)).status for _ in range(20)] == [503] * 20
        full[0] = False
        await until(lambda: journal.refusal() is None)
        assert (await gateway.post(EVENT)).status == 200
    assert re.fullmatch(
        r"journal: refuses new events with 503: the journal has 0 MiB free, 256 MiB less than journal.min_free; "
        rf"make room on the disk of {re.escape(str(tmp_path))}/var; deliveries go on",
        caplog.messages[0],
    )
    assert re.fullmatch(r"journal: takes new events again, after \d+ s", caplog.messages[1])
    assert len(caplog.messages) == 2
