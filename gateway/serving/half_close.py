"""TLS on the gateway's side when a client says that it sends nothing more, before it has read its answer.

asyncio closes a TLS connection as soon as it reads `close_notify`, and drops what is still to be written."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any


class HalfClosing(ssl.SSLObject):
    """Hides `close_notify` from asyncio, and reports it once what came before it has been delivered."""

    on_end: Callable[[], None] | None = None
    _reported = False

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        data = super().read(len, buffer)
        if data or self.on_end is None:
            return data
        if not self._reported:
            self._reported = True
            asyncio.get_running_loop().call_soon(self.on_end)
        raise ssl.SSLWantReadError
