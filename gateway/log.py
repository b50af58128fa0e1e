"""The gateway's own log: lines to standard error, as text or JSON, at a limited rate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from gateway.config.tables import LogSettings
from gateway.text import counted, describe, printable

REQUEST: Final[ContextVar[object]] = ContextVar("request", default=None)
"""The request that is being answered, or None. Its text is the request's id, which is in every line about it."""
LINES_PER_LOGGER: Final = 100
"""Lines in a second of one plugin or library: more would delay everything else that logs."""


def configure(settings: LogSettings, node: str = "") -> None:
    """Send everything to standard error. Of libraries only warnings and errors are logged. `node` is this gateway's
    name."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(_OneLine(settings.format == "json", str(node)))
    handler.addFilter(_LimitLoggers())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(settings.level)
    logging.getLogger("gateway.audit").setLevel(logging.INFO)  # whatever the level is


def set_level(level: str) -> None:
    """Log lines of the gateway and of plugins from this level on: debug, info, warning or error."""
    for name in ("gateway", "plugins"):
        logging.getLogger(name).setLevel(level.upper())


class RateLimit:
    """Lets at most `lines` log lines through in `seconds`, from any thread, and logs how many it left out: as soon as
    the time is over, or outside of an event loop with the next line. `left_out` makes that message from the count."""

    def __init__(
        self,
        log: logging.Logger,
        lines: int = 10,
        seconds: float = 1.0,
        left_out: Callable[[int], str] = lambda count: f"{counted(count, 'line')} {_was(count)} left out",
    ) -> None:
        self._log = log
        self._lines = lines
        self._seconds = seconds
        self._left_out = left_out
        self._lock = threading.RLock()  # the report may come back here through a filter of its logger
        self._until = 0.0
        self._count = 0

    def allows(self) -> bool:
        """Whether a line may be logged now. Each call counts as a line."""
        with self._lock:
            now = time.monotonic()
            if now >= self._until:
                self._report()
                self._until = now + self._seconds
            self._count += 1
            if self._count == self._lines + 1:
                with contextlib.suppress(RuntimeError):  # no event loop in this thread
                    asyncio.get_running_loop().call_later(self._until - now, self._report, context=Context())
            return self._count <= self._lines

    def warning(self, message: str, *args: Any, **about: str) -> None:
        """`about` is `event_id` or `request_id`, where the line is about an event or a request."""
        if self.allows():
            self._log.warning(message, *args, extra=about)

    def error(self, message: str, *args: Any, **about: str) -> None:
        if self.allows():
            self._log.error(message, *args, extra=about)

    def debug(self, message: str, *args: Any, **about: str) -> None:
        if self._log.isEnabledFor(logging.DEBUG) and self.allows():
            self._log.debug(message, *args, extra=about)

    def _report(self) -> None:
        with self._lock:
            count, self._count = self._count - self._lines, 0
            if count > 0:
                Context().run(self._log.warning, "%s", self._left_out(count))  # it is about no single request


class _OneLine(logging.Formatter):
    """A record as one line. A line about a request or an event ends with the node's name and their ids; in the JSON
    format these are fields, and every line has the node's. A traceback follows only at level debug, and where the
    record has the attribute `traceback` (a list of lines), which is also a field of the JSON format."""

    def __init__(self, json: bool, node: str = "") -> None:
        super().__init__()
        self._json = json
        self._node = {"node": node} if node else {}

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level, message, trace = record.levelname.lower(), record.getMessage(), ""
        if record.exc_info and record.exc_info[1] is not None:
            if logging.getLogger("gateway").isEnabledFor(logging.DEBUG):
                trace = f"\n{self.formatException(record.exc_info)}"
            else:
                message += f" ({describe(record.exc_info[1])})"
        calls: list[str] = getattr(record, "traceback", [])
        about = _about(record)
        if self._json:
            text = (message + trace).encode(errors="replace").decode()
            fields = {"time": when, "level": level, "logger": record.name, "message": text, **self._node, **about}
            return msgspec.json.encode(fields | {"traceback": calls} if calls else fields).decode()
        if about:
            message += f" [{', '.join(f'{name} {value}' for name, value in (self._node | about).items())}]"
        trace += "".join(f"\n  {call}" for call in calls)
        return "\n".join(map(printable, f"{when} {level:8} {record.name}: {printable(message)}{trace}".split("\n")))


def _about(record: logging.LogRecord) -> dict[str, str]:
    """The ids of the request and of the event that a line is about."""
    ids = {"request": getattr(record, "request_id", None) or REQUEST.get(), "event": getattr(record, "event_id", None)}
    return {name: str(value) for name, value in ids.items() if value is not None}


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Writes a plain line: the base class would print the record's arguments and a traceback."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(f"a log line of {record.name} could not be written\n")


class _LimitLoggers(logging.Filter):
    """A `RateLimit` for each logger but the gateway's own, which limit their lines where they are made."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[str, RateLimit] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        name = record.name
        if name.startswith("gateway."):
            return True
        if name not in self._limits:
            self._limits.setdefault(name, RateLimit(logging.getLogger(name), LINES_PER_LOGGER))
        return self._limits[name].allows()


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
