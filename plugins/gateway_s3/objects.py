"""What an object has: its key, its lines, and the ids of the events in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import quote

import zstandard

from gateway import Event

SUFFIX: Final = ".jsonl.zst"
_NAME: Final = re.compile(rf"(?:.*/)?([^/_]+)_([^/_]+)_[0-9a-f]{{16}}{re.escape(SUFFIX)}", re.DOTALL)
_HEAD: Final = re.compile(rb'\{"id":"([^"]*)","received_at":"[^"]*","organisation":"([^"]*)","hook":"[^"]*","body":')
_LEVEL: Final = 3


class Line(NamedTuple):
    """A line of an object, without its end; `body` is None where it is not one of the gateway's."""

    text: bytes
    id: str = ""
    organisation: str = ""
    body: bytes | None = None

    @classmethod
    def read(cls, text: bytes) -> Self:
        found = _HEAD.match(text)
        if found is None:
            return cls(text)
        return cls(text, found[1].decode(), found[2].decode(), text[found.end() :].removesuffix(b"}"))


def folder_of(organisation: str) -> str:
    """What the keys of an organisation's events begin with, after the prefix."""
    return f"{quote(organisation, safe='')}/"


def place_of(event: Event) -> str:
    """Organisation, hook, and day and hour of the receipt in UTC: `acme/payment/2026-11-22/15/`."""
    received = event.received_at.astimezone(UTC)
    return _place(event.organisation, event.hook, received.date(), received.hour)


@lru_cache(maxsize=1024)
def _place(organisation: str, hook: str, day: date, hour: int) -> str:
    return f"{folder_of(organisation)}{quote(hook, safe='')}/{day.isoformat()}/{hour:02}/"


def key_of(place: str, ids: Iterable[str]) -> str:
    """The key of the object that has just these events: the same whenever they are written again."""
    inside = sorted(ids)
    digest = hashlib.sha256("\n".join(inside).encode()).hexdigest()[:16]
    return f"{place}{inside[0]}_{inside[-1]}_{digest}{SUFFIX}"


def span_of(key: str) -> tuple[str, str] | None:
    """The first and the last id in an object; None where the key is not one of the gateway's."""
    found = _NAME.fullmatch(key)
    return None if found is None else (found[1], found[2])


def packed(lines: Iterable[bytes]) -> bytes:
    """The content of an object: the same for the same lines."""
    text = b"".join(b"%b\n" % line for line in lines)
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(text)


def unpacked(content: bytes) -> list[Line]:
    """The lines of an object. `zstandard.ZstdError` where it is damaged."""
    text = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return [Line.read(line) for line in text.removesuffix(b"\n").split(b"\n")]


def without(lines: Mapping[str, bytes], known: Iterable[str]) -> dict[str, bytes]:
    """Lines by id, those left out that are `known`."""
    there = set(known)
    return {id: line for id, line in lines.items() if id not in there}
