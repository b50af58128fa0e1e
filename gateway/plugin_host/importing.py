"""Imports a plugin's code within a time limit: what its module does at its top must not hold up the start for ever."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from gateway.plugin_host.place import place_in

IMPORT_SECONDS: Final = 30.0
"""How long an import may take where the config does not say otherwise (`startup_timeout`)."""


class ImportTooSlow(LookupError):
    """An import is not over in time; a sentence for the operator."""


def import_within(seconds: float, what: str, package: str, load: Callable[[], Any]) -> Any:
    """What `load` returns or raises. `ImportTooSlow` where it is not over in time; `what`
    is being imported, and `package` is its own code. The import then goes on in its thread, which ends with the
    process."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((load(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name=f"import of {package}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        frame = sys._current_frames().get(thread.ident or 0)
        at = f" at {place_in(frame, package)}" if frame is not None else ""
        raise ImportTooSlow(
            f"{what}: its import is not over after {seconds:g} s; it hangs{at}. Move what waits there into startup"
        )
    [(found, error)] = outcome
    if error is not None:
        raise error
    return found
