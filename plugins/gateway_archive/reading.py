"""A day's lines, plain or compressed, in chunks of whole lines, so that memory is bounded for a day of any size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

_CHUNK = 256 * 1024


class Lines(NamedTuple):
    """Whole lines, from offset `start` to `end` of the file.

    For a compressed file `start` is the begin of the frame, where reading can begin."""

    text: bytes
    start: int
    end: int


class Unreadable(Exception):
    """A compressed file is damaged."""


def read_lines(path: Path, start: int, end: int, chunk: int = _CHUNK) -> Iterator[Lines]:
    """The lines of a `.jsonl` from `start` to `end`. Text after the last line break is left out."""
    if start >= end:
        return
    with path.open("rb", buffering=0) as file:
        rest, place = b"", start
        while place + len(rest) < end:
            read = os.pread(file.fileno(), min(chunk, end - place - len(rest)), place + len(rest))
            if not read:
                return
            lines, rest = _split(rest + read)
            if lines:
                yield Lines(lines, place, place + len(lines))
                place += len(lines)


def read_compressed(path: Path, start: int, end: int) -> Iterator[Lines]:
    """The lines of a `.jsonl.zst`; frames begin at `start` and at `end`. `Unreadable` where it is damaged."""
    with path.open("rb") as file:
        file.seek(start)
        place = begin = start
        data = rest = b""
        while place < end:
            if not rest:
                begin = place
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                data = data or file.read(_CHUNK)
                if not data:
                    raise Unreadable(f"{path} ends too early")
                try:
                    text = frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise Unreadable(f"{path} is damaged: {error}") from None
                place += len(data) - len(frame.unused_data)
                data = frame.unused_data
                lines, rest = _split(rest + text)
                if lines:
                    yield Lines(lines, begin, place)
        if rest:
            yield Lines(rest + b"\n", begin, place)


def _split(text: bytes) -> tuple[bytes, bytes]:
    cut = text.rfind(b"\n") + 1
    return text[:cut], text[cut:]
