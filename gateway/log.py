"""The gateway's own log: lines to standard error, as text or JSON, some of them at a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from gateway.config.tables import LogSettings
from gateway.plugin_host.call import describe

PER_SECOND: Final = 10
OTHERS_PER_SECOND: Final = 100
"""Lines of one plugin or library: what floods the log would hold up everybody."""


class _Lines(logging.Formatter):
    """A record as one line; only at level debug a traceback may follow it."""

    def __init__(self, json: bool, tracebacks: bool) -> None:
        super().__init__()
        self._json = json
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message, trace = record.getMessage(), ""
        if record.exc_info and record.exc_info[1] is not None:
            if self._tracebacks:
                trace = f"\n{self.formatException(record.exc_info)}"
            else:
                message += f" ({describe(record.exc_info[1])})"
        if self._json:
            level, name = record.levelname.lower(), record.name
            fields = {"time": when, "level": level, "logger": name, "message": message + trace}
            return msgspec.json.encode({key: _encodable(text) for key, text in fields.items()}).decode()
        line = f"{when} {record.levelname.lower():8} {record.name}: {_printable(message)}"
        return line + "\n".join(map(_printable, trace.split("\n")))


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Logging's own way would print the record's arguments and a traceback."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(f"a log line of {record.name} could not be written\n")


class _Floods(logging.Filter):
    """Lets so many records of each logger through a second, from any thread; the first after them says how many were
    left out. The gateway's own loggers know bounds themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("gateway."):
            return True
        with self._lock:
            now = int(time.monotonic())
            second, count = self._seen.get(record.name, (now, 0))
            left_out = max(0, count - OTHERS_PER_SECOND) if second != now else 0
            count = count + 1 if second == now else 1
            self._seen[record.name] = (now, count)
        if left_out:
            logging.getLogger(record.name).warning("%d lines were left out", left_out)
        return count <= OTHERS_PER_SECOND


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def configure(settings: LogSettings) -> None:
    """Send everything to standard error; libraries speak up only from warnings on."""
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Lines(settings.format == "json", settings.level == "debug"))
    handler.addFilter(_Floods())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = settings.level.upper()
    for name in ("gateway", "plugins"):
        logging.getLogger(name).setLevel(level)


class Bounded:
    """At most so many lines in so many seconds, from within the event loop; how many were left out is said later."""

    def __init__(self, log: logging.Logger, lines: int = PER_SECOND, seconds: float = 1.0, what: str = "lines") -> None:
        self._log = log
        self._most = lines
        self._seconds = seconds
        self._what = what
        self._until = 0.0
        self._lines = 0
        self._left_out = 0

    def warning(self, message: str, *args: Any) -> None:
        self._write(logging.WARNING, message, args)

    def error(self, message: str, *args: Any) -> None:
        self._write(logging.ERROR, message, args)

    def _write(self, level: int, message: str, args: tuple[Any, ...]) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._until, self._lines = now + self._seconds, 0
            self._say_left_out()
        self._lines += 1
        if self._lines <= self._most:
            self._log.log(level, message, *args)
        else:
            self._left_out += 1
            if self._left_out == 1:
                asyncio.get_running_loop().call_later(self._until - now, self._say_left_out)

    def _say_left_out(self) -> None:
        if self._left_out:
            self._log.warning("%d %s were left out", self._left_out, self._what)
            self._left_out = 0
