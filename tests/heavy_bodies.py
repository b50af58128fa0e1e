"""Bodies that cost the most to decode for their size."""

from __future__ import annotations

from collections.abc import Iterator


def heavy_bodies(size: int) -> Iterator[tuple[str, bytes]]:
    """A name and a JSON object of about `size` bytes, for each kind of body that is costly in its own way."""

    def text(unit: bytes) -> bytes:
        return b'{"type":"payment","x":"%b"}' % (unit * (size // len(unit)))

    def array(unit: bytes) -> bytes:
        return b'{"type":"payment","x":[%b]}' % b",".join([unit] * (size // (len(unit) + 1)))

    yield "backslashes", text(rb"\\")
    yield "escaped characters", text(rb"\u0041")
    yield "emoji", text(rb"\ud83d\ude00")
    yield "halves of emoji", text(rb"\ud83d")
    yield "backslashes, and half an emoji", text(rb"\\")[:-2] + rb'\ud83d"}'
    yield "spaces", b'{"type":"payment","x":' + b" " * size + b"1}"
    yield "a long type", b'{"type":"%b"}' % (b"-" * size)
    yield "small arrays", array(b"[]")
    yield "small objects", array(b"{}")
    yield "integers", array(b"1")
    yield "decimal numbers", array(b"1.5")
    yield "long numbers", array(b"9" * 4200)
    yield "deep arrays", array(b"[" * 400 + b"]" * 400)
    yield "arrays in twenty arrays", array(b"[]").replace(b"[", b"[" * 20, 1)[:-1] + b"]" * 19 + b"}"
    members = b",".join(b'"%x":1' % number for number in range(size // 10))
    yield "many names", b'{"type":"payment",' + members + b"}"
    yield "many names, and a number as text", b'{"type":"payment","conversationId":1,' + members + b"}"
