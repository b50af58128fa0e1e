"""The way to a gateway under test: its application called directly, or a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx

from gateway.testing.waiting import PATIENCE

if TYPE_CHECKING:
    from gateway.service import Gateway
    from gateway.serving.listener import Listener

BASE_URL: Final = "http://gateway.test"
"""Of the requests to a gateway that does not listen."""
_CONNECTIONS: Final = 256


async def reach(app: Any, gateway: Gateway, listen: bool) -> tuple[httpx.AsyncClient, Listener | None]:
    """A client of the application. With `listen` it goes through a free port of loopback, served as `gateway run` does;
    the listener is then to be drained at the end."""
    if not listen:
        return httpx.AsyncClient(base_url=BASE_URL, transport=httpx.ASGITransport(app=app)), None
    from gateway.serving.listener import Listener
    from gateway.serving.listener import listen as open_socket

    listening = open_socket("127.0.0.1", 0)
    listener = Listener(app, _CONNECTIONS, gateway.metrics, take=gateway.receiver.take)
    await listener.start(listening)
    host, port = listening.getsockname()[:2]
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, timeout=PATIENCE), listener
