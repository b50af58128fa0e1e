"""Personal data that is easy to find again, and everything that a plugin says while it is at work."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from gateway.plugin_host.fault_log import FaultLog
from gateway.plugin_host.load import Plugin
from gateway.testing.http_client import BASE_URL

CANARIES: Final = {
    "customerUID": "canarycustomer",
    "outboundChannelAddress": "canary.address@example.org",
    "body": "canary text of a message",
    "amount": "canaryamount",
    "reference": "canaryreference",
}
"""Fields of a body, and what must not be in an error or in the log. They have no digits, which the gateway masks."""
CANARY_TEXTS: Final = tuple(CANARIES.values())


class _KeptErrors(FaultLog):
    """Keeps what a plugin raises."""

    def __init__(self, package: str, said: list[str]) -> None:
        super().__init__(package, False)
        self._said = said

    def warning(
        self, log: logging.Logger, what: str, error: BaseException, then: str = "", event_id: str | None = None
    ) -> str:
        chain: BaseException | None = error
        while chain is not None:
            self._said.append(f"an exception in {what}: {type(chain).__name__}: {chain}")
            chain = chain.__cause__
        return super().warning(log, what, error, then, event_id)


class Listening(logging.Handler):
    """Keeps what is logged, as an operator with the level DEBUG and all messages would see it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def prepare(self, plugin: Plugin) -> None:
        """Keep what a plugin raises, too."""
        plugin.faults = _KeptErrors(plugin.package, self.said)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name == "httpx" and BASE_URL in text:  # the kit's own requests to the gateway
            return
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        self.said.append(f"the log of {record.name}: {text} {getattr(record, 'traceback', '')}")

    def leak(self, forbidden: Iterable[str]) -> str | None:
        """Where one of these texts was said, or None."""
        for text in forbidden:
            for said in self.said:
                if text in said:
                    place = said.replace(text, "***")[:200]
                    return f"{text!r} is in {place!r}"
        return None


@contextmanager
def listening() -> Iterator[Listening]:
    """Listen to every logger, at every level."""
    handler, root = Listening(), logging.getLogger()
    loggers: list[Any] = [root, logging.getLogger("gateway"), logging.getLogger("plugins")]
    levels = [one.level for one in loggers]
    root.addHandler(handler)
    for one in loggers:
        one.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
