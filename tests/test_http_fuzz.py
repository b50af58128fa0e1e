"""Whatever is sent: never a 5xx, never a traceback, never more memory. `benchmarks/fuzz.py` is the long form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import Answer, InProcess, chunks, in_process
from fuzzing import Maker, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from running import running

from gateway.events import HOOKS
from gateway.json_text import parse_object

KNOWN = {200, 400, 401, 404, 405, 413, 414, 431}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = ["type", "conversationId", "communicationActionId", "customerUID", "dateCreated", "body", "statusCode", "extra"]
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | st.text(), JSON, max_size=8)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"content-length", b"x-forwarded-for", b"x-webio-token", b"content-type", b"x"]),
        st.binary(max_size=60),
    ),
    max_size=4,
)


class Asking:
    """A gateway in this process, and the loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, gateway: InProcess) -> None:
        self._runner = runner
        self._gateway = gateway

    def __call__(self, *arguments: Any, **options: Any) -> Answer:
        return self._runner.run(self._gateway.request(*arguments, **options))


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    started: asyncio.Queue[InProcess] = asyncio.Queue()
    over = asyncio.Event()

    async def live() -> None:
        text = 'trusted_proxies = ["127.0.0.1"]\n'
        async with in_process(tmp_path_factory.mktemp("fuzz"), text) as gateway:
            started.put_nowait(gateway)
            await over.wait()

    async def begin() -> tuple[asyncio.Task[None], InProcess]:
        return asyncio.ensure_future(live()), await started.get()

    async def end(living: asyncio.Task[None]) -> None:
        over.set()
        await living

    with asyncio.Runner() as runner:
        living, gateway = runner.run(begin())
        yield Asking(runner, gateway)
        runner.run(end(living))


def is_event(body: bytes) -> bool:
    try:
        parse_object(body)
    except ValueError:
        return False
    return True


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from([None, *HOOKS]), st.none() | st.integers(1, 500))
def test_any_body(ask: Asking, seed: int, hook: str | None, pieces: int | None) -> None:
    """Bodies that are almost events: 200 if and only if it is a JSON object, else 400."""
    body = Maker(seed).body()
    answer = ask("POST", f"/webio/{hook}" if hook else "/webio", body if pieces is None else chunks(body, pieces))
    assert answer.status == (200 if is_event(body) else 400)
    assert answer.document["hook"] if answer.status == 200 else answer.problem


@settings(max_examples=60)
@given(OBJECTS, st.sampled_from([None, *HOOKS]))
def test_any_object(ask: Asking, fields: dict[str, Any], hook: str | None) -> None:
    """Every JSON object is an event, whatever is in it."""
    body = json.dumps(fields).encode()
    answer = ask("POST", f"/webio/{hook}" if hook else "/webio", body)
    if any(word in body for word in (b"NaN", b"Infinity")) and not is_event(body):
        assert answer.status == 400
    else:
        assert answer.status == 200
        assert hook is None or answer.document["hook"] == hook


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes(ask: Asking, body: bytes) -> None:
    """Bytes that are hardly ever JSON."""
    assert ask("POST", "/webio", body).status == (200 if is_event(body) else 400)


@settings(max_examples=150)
@given(st.integers(0, 2**32) | st.binary(max_size=200))
def test_any_query(ask: Asking, query: int | bytes) -> None:
    """A good token and any query: values, or a problem document that says what is missing or wrong."""
    answer = ask("GET", query=query if isinstance(query, bytes) else Maker(query).query())
    assert answer.status in (200, 400, 404)
    assert answer.document == {} if answer.status == 200 else answer.problem


@settings(max_examples=150)
@given(HEADERS, st.sampled_from(["acme", None]), st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=8))
def test_any_headers(
    ask: Asking, headers: list[tuple[bytes, bytes]], organisation: str | None, method: str, tail: str
) -> None:
    """Headers and paths of any kind are answered, one way or the other."""
    answer = ask(method, f"/webio{tail}", b"{}", headers=headers, organisation=organisation)
    assert answer.status in KNOWN
    assert answer.status == 200 or answer.problem


def test_raw_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The real server with requests that are broken anywhere: no 5xx, none that hangs, memory flat, no traceback."""
    with running(tmp_path_factory.mktemp("raw")) as gateway:
        outcome = asyncio.run(fuzz(gateway, 1000))
        print(f"{dict(outcome.statuses)}, {outcome.grown:.1f} MiB more")
        assert outcome.faults == []
        assert outcome.statuses.keys() <= KNOWN
        assert outcome.statuses[200] > 200
        assert outcome.statuses[400] > 100
        assert outcome.grown < 40
        assert not [line for line in gateway.output if " error " in line or " critical " in line]
