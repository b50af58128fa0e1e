"""Events by a name that is not known: what an operator is told about them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from gateway.config.field_types import show
from gateway.config.tables import Config
from gateway.decoding import normalise
from gateway.events import HOOKS

log = logging.getLogger("gateway.receiver")

MOST: Final = 100
"""Names that are told apart; events by any other count together."""
AGAIN: Final = 3600.0
"""Seconds between two log lines about one name."""
OTHERS: Final = ""
_PRIVATE: Final = re.compile(r"\d{5,}")


class UnknownNames:
    """Logs each name once, and once an hour while events by it come. `clock` is in seconds."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._types = types_of(config)
        self._clock = clock
        self._told: dict[str | None, float] = {}
        self._more: dict[str | None, int] = {}

    def note(self, name: str | None, event_id: str) -> None:
        """An event by this name was kept; None for one that has no name."""
        now = self._clock()
        if name not in self._told and len(self._told) >= MOST:
            self._told = {one: at for one, at in self._told.items() if now - at < AGAIN}
            self._more = {one: count for one, count in self._more.items() if one in self._told}
            name = name if len(self._told) < MOST else OTHERS
        told = self._told.get(name)
        if told is not None and now - told < AGAIN:
            self._more[name] = self._more.get(name, 0) + 1
            return
        count = self._more.pop(name, 0)
        more = f", and {count} before it since the last such line" if count else ""
        about = {"event_id": event_id}
        log.warning("%s is kept as unknown%s; %s", subject(name), more, advice(name, self._types), extra=about)
        self._told[name] = now


def subject(name: str | None) -> str:
    """An event by this name, for a sentence."""
    if name is None:
        return "an event without a type"
    if name == OTHERS:
        return "an event by a further name"
    shown = show(str(public(name)))
    return f"an event at the path {shown}" if name.startswith("/") else f"an event of the type {shown}"


def types_of(config: Config) -> dict[str, tuple[str, ...]]:
    """The spellings of `type` that the config adds, by hook."""
    return {hook: settings.types for hook, settings in config.hooks.items()}


def public(name: str | None) -> str | None:
    """A name without the long numbers in it, which may be a customer's."""
    return name and _PRIVATE.sub("…", name)


def advice(name: str | None, types: dict[str, tuple[str, ...]]) -> str:
    """The line to add to the config, with the hook that the name resembles."""
    if not name or _PRIVATE.search(name):
        return "`gateway events --hook unknown` lists what is kept"
    key = normalise(name)
    hook = next((one for one in HOOKS if normalise(one) in key or key in normalise(one)), "HOOK")
    spellings = ", ".join(map(show, (*types.get(hook, ()), name.strip("/"))))
    return f"if you know its hook, add to [hooks.{hook}] in the config: types = [{spellings}]"
