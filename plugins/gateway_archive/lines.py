"""An event as a line of the archive, and the file of that line."""

from __future__ import annotations

import re
from datetime import UTC
from functools import lru_cache

from gateway import Event, Reject

Item = tuple[str, bytes, bool]
"""An event to be written: its id, its line, and whether the line may be in the file already."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEAD = re.compile(rb'\{"id":"[^"]*","received_at":"[^"]*","organisation":"([^"]*)","hook":"[^"]*","body":')
_IDS = re.compile(rb'\n\{"id":"([^"]*)"')


def place_and_line(event: Event) -> tuple[str, bytes]:
    """Where the event belongs (`organisation/hook/YYYY-MM-DD`, the UTC day of its receipt), and its line.

    The body stands in the line as its own JSON text. `Reject` where a name is not fit for a path or a line."""
    if _ID.fullmatch(event.id) is None:
        raise Reject("the event's id is not made of letters, digits, '_' and '-'")
    day = event.received_at.astimezone(UTC).date().isoformat()
    return f"{_folder(event.organisation, event.hook)}/{day}", b"%b\n" % event.record()


def ids_in(lines: bytes) -> list[bytes]:
    """The ids of whole lines, in order."""
    return _IDS.findall(b"\n" + lines)


def organisation_and_body(line: bytes) -> tuple[str, bytes] | None:
    """The organisation and the body of a line; None where it is not one of the archive."""
    found = _HEAD.match(line)
    return None if found is None else (found[1].decode(), line[found.end() :].rstrip(b"\r\n").removesuffix(b"}"))


@lru_cache(maxsize=1024)
def _folder(organisation: str, hook: str) -> str:
    for kind, name in (("organisation", organisation), ("hook", hook)):
        if _NAME.fullmatch(name) is None:
            raise Reject(f"the {kind}'s name cannot be a folder: letters, digits, '.', '_' and '-' can")
    return f"{organisation}/{hook}"
