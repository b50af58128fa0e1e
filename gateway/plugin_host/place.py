"""Where an exception comes from, or a thread is, for the operator: `crm.py:88`."""

from __future__ import annotations

import re
from pathlib import PurePath
from traceback import walk_stack, walk_tb
from types import FrameType

_HEAD = re.compile(r"(\w+(?: at [^:]+:\d+)?): ")
_OWN = frozenset({"CallTimeout", "Stuck"})
"""Errors of the gateway, whose messages have nothing of an event in them."""


def place_of(error: BaseException, package: str) -> str | None:
    """File name and line of the last frame that lies in `package` (a plugin's top-level package or module), else of the
    last frame; None for an exception that was not raised."""
    last = own = None
    for frame, line in walk_tb(error.__traceback__):
        last = f"{PurePath(frame.f_code.co_filename).name}:{line}"
        if _is_in(frame, package):
            own = last
    return own or last


def without_message(error: str) -> str:
    """Type and place of an error that a plugin made: `ValueError at crm.py:88: no such account` without the rest."""
    found = _HEAD.match(error)
    return error if found is None or found[1] in _OWN else found[1]


def place_in(frame: FrameType, package: str) -> str:
    """File name, line and function of a thread's newest call that lies in `package`, and of its newest call where that
    is another: `crm.py:88 in on_event, which calls driver.py:12 in execute`."""
    newest = _named(frame, frame.f_lineno)
    for one, line in walk_stack(frame):
        if _is_in(one, package):
            return newest if one is frame else f"{_named(one, line)}, which calls {newest}"
    return newest


def _named(frame: FrameType, line: int) -> str:
    return f"{PurePath(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"


def _is_in(frame: FrameType, package: str) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name == package or name.startswith(f"{package}.")
