"""Decodes large JSON so that other threads go on meanwhile: in pieces, since one call of the decoder keeps the
interpreter's lock, and without garbage collections, which keep it longer the more objects there are."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

LARGE: Final = 32 * 2**10
"""Bytes of a body that is decoded in a thread, since the worst bodies of this size take the event loop about 20 ms.
`benchmarks/stalls.py` measures it."""
_LEVELS: Final = 16
"""Levels that are taken apart; each of them is read once more."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_lock = threading.Lock()
_pauses = 0


def decode_in_pieces(text: bytes, decode: Callable[[bytes], Any], levels: int = _LEVELS) -> Any:
    """What `decode(text)` returns or raises, with calls of `decode` for pieces of about `LARGE` bytes where the text
    consists of such pieces. Also raises msgspec's errors."""
    if len(text) > LARGE and levels > 0:
        opening = text.lstrip()[:1]
        if opening == b"{":
            members = _members.decode(text)
            return dict(zip(members, _each(members.values(), decode, levels - 1), strict=True))
        if opening == b"[":
            return list(_each(_items.decode(text), decode, levels - 1))
    return decode(text)


def _each(values: Iterable[msgspec.Raw], decode: Callable[[bytes], Any], levels: int) -> Iterator[Any]:
    """Decode these values, small ones together."""
    together: list[msgspec.Raw] = []
    size = 0
    for value in values:
        together.append(value)
        size += memoryview(value).nbytes
        if size >= LARGE:
            *small, last = together
            yield from decode(b"[%b]" % b",".join(small))
            yield decode_in_pieces(bytes(last), decode, levels)
            together, size = [], 0
    yield from decode(b"[%b]" % b",".join(together))


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Pause automatic garbage collections; several threads may do so at the same time."""
    global _pauses
    with _lock:
        _pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses:
                gc.enable()
