"""Where an exception comes from, for the operator: `crm.py:88`."""

from __future__ import annotations

from pathlib import PurePath
from traceback import walk_tb


def place_of(error: BaseException, package: str) -> str | None:
    """File name and line of the last frame that lies in `package` (a plugin's top-level package or module), else of the
    last frame; None for an exception that was not raised."""
    last = own = None
    for frame, line in walk_tb(error.__traceback__):
        last = f"{PurePath(frame.f_code.co_filename).name}:{line}"
        name = str(frame.f_globals.get("__name__"))
        if name == package or name.startswith(f"{package}."):
            own = last
    return own or last
