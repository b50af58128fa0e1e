"""The log of one plugin's exceptions: the first of a kind with its traceback, then counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from traceback import walk_tb
from typing import Final, NamedTuple

from gateway.hookspecs import Reject, Retry
from gateway.log import RateLimit
from gateway.plugin_host.place import place_of
from gateway.text import counted, describe

EVERY: Final = 10.0
"""Seconds between two lines about exceptions of one kind."""
_KINDS: Final = 100
"""Kinds that are remembered; more would be an exception class made for each event."""
_FIRST: Final = 10
"""Kinds that are logged in that time, at most."""
_FRAMES: Final = 30
_CAUSES: Final = 3
_OF_PLUGINS: Final = (Reject, Retry)


class Kind(NamedTuple):
    """Exceptions that an operator would call the same: `what` failed, the type's name, and the place."""

    what: str
    name: str
    place: str | None


class FaultLog:
    """Logs the exceptions of one plugin, at most `_FIRST` kinds and one line of each kind in `EVERY` seconds. What an
    exception says may contain personal data: it is logged with `messages` only, or where its class has
    `loggable = True`."""

    def __init__(self, package: str, messages: bool) -> None:
        self._package = package
        self.messages = messages
        self._limits: dict[Kind, RateLimit] = {}
        self._all: RateLimit | None = None

    def warning(
        self, log: logging.Logger, what: str, error: BaseException, then: str = "", event_id: str | None = None
    ) -> str:
        """Log that `what` failed with `error`; `then` is appended. `event_id` is the event that it failed with, where
        there is one. Returns `told(error)`."""
        kind = Kind(what, type(error).__name__, place_of(error, self._package))
        told = self.told(error)
        limit, first = self._limits.get(kind), False
        if limit is None:
            self._all = self._all or RateLimit(log, _FIRST, EVERY)
            if not self._all.allows():
                return told
            while len(self._limits) >= _KINDS:
                self._limits.pop(next(iter(self._limits)), None)

            def repeats(count: int) -> str:
                return f"{what} failed {counted(count, 'more time')} in the last {EVERY:g} s: {told}"

            limit, first = RateLimit(log, 1, EVERY, repeats), True
            self._limits[kind] = limit
        if limit.allows():
            extra = {"event_id": event_id, "traceback": list(frames(error)) if first else []}
            log.warning("%s failed: %s%s", what, told, then, extra=extra)
        return told

    def told(self, error: BaseException) -> str:
        """The error for the log: `ConnectionRefusedError at crm.py:88`."""
        if self.messages or _is_own(error) or getattr(type(error), "loggable", False):
            return self.located(error)
        return self._head(error)

    def kind(self, error: BaseException) -> str:
        """Type and place of an error, never its message: `ConnectionRefusedError, at crm.py:88`."""
        return self._head(error).replace(" at ", ", at ", 1)

    def located(self, error: BaseException) -> str:
        """Type, place and message of an error: `ValueError at crm.py:88: no such account`."""
        return self._head(error) + describe(error).removeprefix(type(error).__name__)

    def _head(self, error: BaseException) -> str:
        place = None if _is_own(error) else place_of(error, self._package)
        return type(error).__name__ + (f" at {place}" if place else "")


def _is_own(error: BaseException) -> bool:
    """Whether the gateway itself made the error, such as `CallTimeout`."""
    return type(error).__module__.startswith("gateway.") and not isinstance(error, _OF_PLUGINS)


def frames(error: BaseException) -> Iterator[str]:
    """The lines of a traceback with file, line and function, the newest call last, and those of its causes. It has no
    source text and no message."""
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            return
        if cause is not error:
            yield f"caused by {type(cause).__name__}"
        calls = [
            f'File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'
            for frame, line in walk_tb(cause.__traceback__)
        ]
        if len(calls) > _FRAMES:
            yield f"without {counted(len(calls) - _FRAMES, 'earlier call')}"
        yield from calls[-_FRAMES:]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
