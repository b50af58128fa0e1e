"""What keeps an open page up to date: the stream of changes, and pages without their frame."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from asgi import in_process
from running import RunningGateway, eventually, running
from test_dashboard import HOST, PASSWORD, see

from gateway.http.dashboard.changes import HEARTBEAT, MOST_OF_ONE

FRAGMENT = (b"hx-request", b"true")


class Listening:
    """A stream that is read in a thread. `words` are its lines with any content; `ended` is set at its end."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.type = answer.headers.get("content-type", "")
        self.words: list[str] = []
        self.ended = threading.Event()
        self._answer = answer
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            for line in self._answer.iter_lines():
                self.words += [line] if line else []
        self.ended.set()


@contextmanager
def opened(gateway: RunningGateway) -> Iterator[httpx.Response]:
    with httpx.Client(base_url=gateway.admin_url, timeout=60) as browser, browser.stream("GET", "/changes") as answer:
        yield answer


@contextmanager
def listening(gateway: RunningGateway) -> Iterator[Listening]:
    with opened(gateway) as answer:
        yield Listening(answer)


def test_a_change_is_told(tmp_path: Path) -> None:
    """An event makes a stream say so: at once where nothing came before, and without a word of what it was."""
    with running(tmp_path) as gateway, listening(gateway) as stream:
        assert (stream.status, stream.type.partition(";")[0]) == (200, "text/event-stream")
        eventually(lambda: stream.words[:1] == ["retry: 2000"])
        before = len(stream.words)
        assert gateway.cli("send", "payment").returncode == 0
        eventually(lambda: len(stream.words) > before)
        assert set(stream.words[before:]) == {"data: changed"}


def test_a_flood_is_told_a_few_times_a_second(tmp_path: Path) -> None:
    """However many events come: pages need not be made for each."""
    with running(tmp_path) as gateway, listening(gateway) as stream:
        eventually(lambda: len(stream.words) > 0)
        began = time.monotonic()
        assert gateway.cli("send", "payment", "--count", "400").returncode == 0
        eventually(lambda: "data: changed" in stream.words)
        took = time.monotonic() - began
        assert stream.words.count("data: changed") <= 4 * took + 4
        assert took < HEARTBEAT or ": still here" in stream.words or stream.words.count("data: changed") > 1


def test_streams_are_bounded_and_freed(tmp_path: Path) -> None:
    """One more is answered 204, which a browser takes as "do not ask again"; a tab that is closed makes room."""
    with running(tmp_path) as gateway, ExitStack() as tabs:
        for _ in range(MOST_OF_ONE - 1):
            tabs.enter_context(opened(gateway))
        with opened(gateway) as last, opened(gateway) as another:
            assert (last.status_code, another.status_code) == (200, 204)

        def has_room() -> bool:
            with opened(gateway) as answer:
                return answer.status_code == 200

        eventually(has_room)


def test_a_stream_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """It ends when the gateway drains, and the log names no request without an answer."""
    with running(tmp_path) as gateway, listening(gateway) as stream:
        eventually(lambda: len(stream.words) > 0)
        assert gateway.stop() == 0
        assert stream.ended.wait(30)
        assert not [line for line in gateway.output if "had no answer within" in line]


async def test_a_stream_needs_the_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        assert (await see(gateway, "/changes")).status == 303
        assert (await gateway.manage("GET", "/changes", None, [HOST])).status == 401


async def test_an_open_page_gets_its_content_alone(tmp_path: Path) -> None:
    """With its title, and without the frame. Where the session has ended, the page is to be loaded again."""
    async with in_process(tmp_path / "1") as gateway:
        for path in ("/", "/find"):
            html = (await see(gateway, path, FRAGMENT)).body.decode()
            assert html.startswith("<title>")
            assert "<h1>" in html
            assert "<nav" not in html
            assert "<script" not in html
    (tmp_path / "password").write_text(PASSWORD)
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        answer = await see(gateway, "/", FRAGMENT)
        assert (answer.status, answer.headers["hx-refresh"], answer.body) == (401, "true", b"")


async def test_now_tells_of_refusals_values_and_secrets(tmp_path: Path) -> None:
    """The request that was refused, with its reason; the values that were asked for; and which secret is in use."""
    text = '[plugins.static_values.values]\nbalance = "1"\n'
    async with in_process(tmp_path, text) as gateway:
        html = (await see(gateway, "/")).body.decode()
        assert "No event came in the last hour" in html
        assert "file webio.secret</td><td>not since" in html
        await gateway.request("POST", organisation=None)
        await gateway.request("GET", query=b"param1=shoe_size&customerUID=1")
        await gateway.post(b'{"type": "payment"}')
        html = (await see(gateway, "/")).body.decode()
        assert '<tr><th scope="row">401</th><td>missing</td><td class="count">1</td></tr>' in html
        assert "<dt>nobody knows the customer or the field</dt><dd>1</dd>" in html
        assert "file webio.secret</td><td>not since" not in html
        assert "<dt>payment</dt><dd>1</dd>" in html
        day = (await see(gateway, "/", span="day")).body.decode()
        assert "Events, last day" in day
        assert (await see(gateway, "/", span="week")).status == 400
