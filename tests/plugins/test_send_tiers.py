"""forward, exec and notify reach the tier that they state, with a real target."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_exec import ExecPlugin
from gateway_forward import ForwardPlugin
from gateway_notify import NotifyPlugin
from tiers import require_tier

from gateway.testing import PluginCase

pytestmark = pytest.mark.timeout(400)  # on a busy machine

SECRET = "whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyBvciBtb3Jl"


class _Receiver(http.server.ThreadingHTTPServer):
    """Keeps the ids of what it took; `status` is what it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.status = 200
        self.ids: list[str] = []


class _Take(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.status == 200:
            self.server.ids.append(json.loads(body).get("id", ""))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receivers() -> Iterator[Callable[[], _Receiver]]:
    """Starts servers, a new one at each call."""
    started: list[tuple[_Receiver, threading.Thread]] = []

    def start() -> _Receiver:
        receiver = _Receiver()
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        started.append((receiver, thread))
        return receiver

    yield start
    for receiver, thread in started:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def test_forward_reaches_its_tier(receivers: Callable[[], _Receiver]) -> None:
    """A receiver that has an event again after a crash tells it by the key."""

    def case(folder: Path) -> PluginCase:
        receiver = receivers()
        (folder / "secret").write_text(SECRET)

        @contextmanager
        def answering(status: int) -> Iterator[None]:
            receiver.status = status
            try:
                yield
            finally:
                receiver.status = 200

        return PluginCase(
            config={
                "url": f"http://127.0.0.1:{receiver.server_address[1]}/in",
                "secret": {"file": "secret"},
                "allow_networks": ["127.0.0.0/8"],
            },
            taken=lambda: list(receiver.ids),
            repeats=True,
            keeps=False,
            burst=100,
            fails=lambda: answering(500),
            refuses=lambda: answering(422),
            secrets=(SECRET,),
        )

    require_tier(ForwardPlugin, case)


def test_exec_reaches_its_tier() -> None:
    def case(folder: Path) -> PluginCase:
        (folder / "token").write_text("hunter2-of-the-program")

        @contextmanager
        def exiting(code: int) -> Iterator[None]:
            (folder / "soon").write_text(str(code))
            (folder / "soon").rename(folder / "code")  # programs run meanwhile
            try:
                yield
            finally:
                (folder / "code").unlink()

        def ids() -> list[str]:
            path = folder / "ids"
            return path.read_text().split() if path.exists() else []

        script = 'cd "$0"; code=$(cat code 2> /dev/null) && exit "$code"; echo "$EVENT_ID" >> ids'
        return PluginCase(
            config={
                "command": ["sh", "-c", script, str(folder)],
                "secret_environment": {"TOKEN": {"file": "token"}},
            },
            taken=ids,
            repeats=True,
            keeps=False,
            burst=50,
            fails=lambda: exiting(75),
            refuses=lambda: exiting(3),
            secrets=("hunter2-of-the-program",),
        )

    require_tier(ExecPlugin, case)


def test_notify_reaches_its_tier(receivers: Callable[[], _Receiver]) -> None:
    def case(folder: Path) -> PluginCase:
        (folder / "hook").write_text(f"http://127.0.0.1:{receivers().server_address[1]}/hunter2-of-the-chat")
        return PluginCase(
            config={"webhook": {"url": {"file": "hook"}, "format": "slack"}},
            keeps=False,
            secrets=("hunter2-of-the-chat",),
        )

    require_tier(NotifyPlugin, case)
