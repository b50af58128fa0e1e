"""What an expression of a filter may have, and what it reads of an event.

`event.hook`, and a field of Webio's documentation such as `payload.body`, become names of their own with a type, so
that the package finds wrong types when it compiles. Everything else of a body is looked up in `payload`; where it is
compared with a number in `numbers`, in which text that is a number is one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal

import msgspec

from gateway.events import PAYLOADS
from gateway.plugin_host.where.syntax import SyntaxFault, SyntaxNode, parse

EXACT: Final = 2.0**53
"""From here on a double no longer has every whole number."""
LONGEST: Final = 2048
"""Bytes of an expression."""
Kind = Literal["text", "time", "bool", "any", "map"]
"""The type of a name in the expression that a package compiles."""

EVENT: Final[dict[str, Kind]] = {
    "id": "text",
    "received_at": "time",
    "organisation": "text",
    "hook": "text",
    "conversation_id": "any",  # text or null
    "customer_uid": "any",
    "readable": "bool",
}
_STRUCTS: Final = {hook: {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
                   for hook, kind in PAYLOADS.items()}  # fmt: skip
WIRE_NAMES: Final = {ours: theirs for names in _STRUCTS.values() for ours, theirs in names.items() if ours != "extra"}
"""The names of documented fields in Webio's bodies, by their names here."""
DOCUMENTED: Final[dict[str, Kind]] = {
    **dict.fromkeys(sorted(WIRE_NAMES), "text"),
    "date_created": "time",
    "outcome": "text",
}
"""The fields of `payload` whose type is known."""
NUMBERS: Final = "numbers"
_OURS: Final = {theirs: ours for ours, theirs in WIRE_NAMES.items() if ours != theirs}
_FUNCTIONS: Final = {"has": (1,), "size": (1,), "int": (1,), "double": (1,), "string": (1,), "timestamp": (1,),
                     "duration": (1,)}  # fmt: skip
_PARTS_OF_TIME: Final = ("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
                         "getHours", "getMinutes", "getSeconds", "getMilliseconds")  # fmt: skip
_METHODS: Final = {
    **dict.fromkeys(("contains", "startsWith", "endsWith", "matches"), (1,)),
    "size": (0,),
    **dict.fromkeys(_PARTS_OF_TIME, (0, 1)),
}
_LOOPS: Final = ("all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_COMPARED: Final = ("==", "!=", "<", "<=", ">", ">=")


class Portable(msgspec.Struct, frozen=True):
    """An expression as any package can compile it. `names` are those that it uses, `fields` the fields of the body that
    it looks up in `payload`, and `numeric` those in `numbers`. `patterns` are its regular expressions, as literals."""

    text: str
    names: dict[str, Kind]
    fields: tuple[str, ...]
    numeric: tuple[str, ...]
    patterns: tuple[str, ...]
    hides: tuple[tuple[str, str], ...]
    """The names in `text` and what stands in their place in the filter."""


def is_number(text: str) -> bool:
    """Whether a text is a number, as JSON writes it."""
    return _NUMBER.fullmatch(text) is not None


def portable(text: str) -> Portable:
    """Check a filter's text; `ValueError` with a sentence for the operator."""
    if len(text.encode()) > LONGEST:
        raise ValueError(f"is {len(text.encode()):,} bytes long; expected at most {LONGEST:,}")
    if not text.strip():
        raise ValueError('is empty; expected an expression such as "payload.amount > 100"')
    reader = _Reader()
    reader.read(parse(text), numeric=False)
    return reader.portable(text)


class _Reader:
    """Walks over an expression; `numeric` says that a node is compared with a number."""

    def __init__(self) -> None:
        self._names: dict[str, Kind] = {}
        self._edits: list[tuple[int, int, str]] = []
        self._read: dict[str, dict[str, None]] = {"payload": {}, NUMBERS: {}}
        self._patterns: list[str] = []
        self._hides: dict[str, str] = {}

    def portable(self, text: str) -> Portable:
        whole, place = [], 0
        for start, end, name in sorted(self._edits):
            whole += [text[place:start], name]
            place = end
        fields, numeric = (tuple(self._read[name]) for name in ("payload", NUMBERS))
        hides = tuple(self._hides.items())
        return Portable("".join([*whole, text[place:]]), self._names, fields, numeric, tuple(self._patterns), hides)

    def read(self, node: SyntaxNode, numeric: bool) -> None:
        """Check a node and what is below it."""
        if node.kind == "name":
            if node.name in ("event", "payload"):
                raise SyntaxFault(node.start, f"expected a field such as {_EXAMPLES[node.name]}, found `{node.name}`")
            raise SyntaxFault(node.start, f"unknown name `{node.name}`; known: event, payload{_quotes(node.name)}")
        if node.kind in ("field", "index"):
            self._member(node, numeric)
        elif node.kind in ("call", "method"):
            self._call(node)
        elif node.kind == "binary":
            self._binary(node)
        elif node.kind == "unary":
            self._refuse_arithmetic(node, *(node.parts if node.name == "-" else ()))
            self.read(node.parts[0], numeric=False)
        elif node.kind == "double":
            _require_exact(node)
        else:
            for index, part in enumerate(node.parts):
                self.read(part, numeric and not (node.kind == "choice" and index == 0))

    def _member(self, node: SyntaxNode, numeric: bool) -> None:
        chain = [node]
        while chain[-1].kind in ("field", "index"):
            chain.append(chain[-1].parts[0])
        root, first = chain[-1], chain[-2]
        for step in chain[:-1]:
            if step.kind == "index" and step is not first:
                self.read(step.parts[1], numeric=False)
        if root.kind != "name" or root.name not in ("event", "payload"):
            self.read(root, numeric=False)
            if first.kind == "index":
                self.read(first.parts[1], numeric=False)
        elif root.name == "event":
            self._event(first)
        else:
            self._payload(root, first, numeric)

    def _event(self, first: SyntaxNode) -> None:
        if first.kind == "index":
            raise SyntaxFault(first.start, f"expected a field such as event.hook, found event[{first.parts[1].name}]")
        if first.name not in EVENT:
            raise SyntaxFault(first.start, f"unknown field event.{first.name}{_meant(first.name, EVENT)}")
        self._replace(first, f"event_{first.name}", f"event.{first.name}", EVENT[first.name])

    def _payload(self, root: SyntaxNode, first: SyntaxNode, numeric: bool) -> None:
        key = _payload_key(first)
        if key in DOCUMENTED and (not numeric or DOCUMENTED[key] == "time"):
            self._replace(first, f"payload_{key}", f"payload.{key}", DOCUMENTED[key])
            return
        name = NUMBERS if numeric else "payload"
        self._replace(root, name, "payload", "map")
        self._read[name][key] = None

    def _replace(self, node: SyntaxNode, name: str, stands_for: str, kind: Kind) -> None:
        self._edits.append((node.start, node.end, name))
        self._names[name] = kind
        self._hides[name] = stands_for

    def _call(self, node: SyntaxNode) -> None:
        known = _FUNCTIONS if node.kind == "call" else _METHODS
        arguments = node.parts if node.kind == "call" else node.parts[1:]
        if node.name in _LOOPS:
            raise SyntaxFault(node.start, f"{node.name}() is a loop, which a filter cannot have: its time is bounded")
        if node.name not in known:
            what = "function" if node.kind == "call" else "method"
            raise SyntaxFault(node.start, f"unknown {what} `{node.name}`{_meant(node.name, known)}")
        if len(arguments) not in known[node.name]:
            wanted = " or ".join(map(str, known[node.name]))
            raise SyntaxFault(node.start, f"{node.name}() takes {wanted} values, found {len(arguments)}")
        if node.name == "has":
            self._has(arguments[0])
            return
        if node.name == "matches":
            if arguments[0].kind != "text":
                raise SyntaxFault(arguments[0].start, 'matches() takes a pattern as text, such as "^[0-9]+$"')
            self._patterns.append(arguments[0].name)
        for part in node.parts:
            self.read(part, numeric=False)

    def _has(self, node: SyntaxNode) -> None:
        chain = [node]
        while chain[-1].kind in ("field", "index"):
            chain.append(chain[-1].parts[0])
        root = chain[-1]
        if root.kind == "name" and root.name == "event" and len(chain) > 1:
            raise SyntaxFault(node.start, "every event has all fields of `event`; compare with null instead")
        if node.kind != "field" or root.kind != "name" or root.name != "payload":
            raise SyntaxFault(node.start, "has() takes a field of `payload`, such as has(payload.reference)")
        for step in chain[:-2]:
            if step.kind == "index":
                self.read(step.parts[1], numeric=False)
        self._replace(root, "payload", "payload", "map")
        self._read["payload"][_payload_key(chain[-2])] = None

    def _binary(self, node: SyntaxNode) -> None:
        left, right = node.parts
        if node.name in ("+", "-", "*", "/", "%"):
            self._refuse_arithmetic(node, left, right)
        numeric = False
        if node.name in _COMPARED:
            numeric = _is_numeric(left) or _is_numeric(right) or (node.name[0] in "<>" and _both_of_body(left, right))
            if node.name[0] in "<>":
                self._refuse_number_as_text(left, right)
        elif node.name == "in" and right.kind == "list" and right.parts:
            numeric = all(map(_is_numeric, right.parts))
        self.read(left, numeric)
        self.read(right, numeric and node.name != "in")

    def _refuse_arithmetic(self, node: SyntaxNode, *operands: SyntaxNode) -> None:
        """Numbers of a body are exact in comparisons only, and may be text."""
        for operand in operands:
            number_beside = node.name == "+" and any(map(_is_numeric, operands))
            if _of_body(operand) and (node.name != "+" or number_beside):
                advice = "compare it as it is, or write double(...) where rounding does no harm"
                raise SyntaxFault(node.start, f"`{node.name}` cannot compute with a field of `payload`; {advice}")

    def _refuse_number_as_text(self, left: SyntaxNode, right: SyntaxNode) -> None:
        """As texts, "90" comes after "100"."""
        for one, other in ((left, right), (right, left)):
            if one.kind == "text" and _of_body(other) and is_number(one.name.strip("'\"")):
                number, what = one.name.strip("'\""), "is text, which has another order than numbers"
                raise SyntaxFault(one.start, f"{one.name} {what}; write {number}")


_EXAMPLES: Final = {"event": "event.hook", "payload": "payload.amount"}


def _is_numeric(node: SyntaxNode) -> bool:
    if node.kind in ("int", "double"):
        return True
    if node.kind == "unary":
        return node.name == "-" and _is_numeric(node.parts[0])
    if node.kind == "binary" and node.name in ("+", "-", "*", "/", "%"):
        return all(map(_is_numeric, node.parts))
    if node.kind == "choice":
        return all(map(_is_numeric, node.parts[1:]))
    return node.kind in ("call", "method") and node.name in ("int", "double", "size", *_PARTS_OF_TIME)


def _of_body(node: SyntaxNode) -> bool:
    """Whether it is a field of `payload` whose type is not known."""
    first = node
    while first.kind in ("field", "index") and first.parts[0].kind in ("field", "index"):
        first = first.parts[0]
    known = first.kind == "field" and DOCUMENTED.get(first.name) == "time"
    return first.kind in ("field", "index") and first.parts[0].name == "payload" and not known


def _both_of_body(left: SyntaxNode, right: SyntaxNode) -> bool:
    return _of_body(left) and _of_body(right)


def _payload_key(first: SyntaxNode) -> str:
    if first.kind == "field":
        if first.name in _OURS:
            ours = _OURS[first.name]
            raise SyntaxFault(first.start, f"unknown field payload.{first.name}; it is payload.{ours} here")
        return first.name
    key = first.parts[1]
    if key.kind != "text" or "\\" in key.name or key.name[0] in "rR" or key.name[:3] in ('"""', "'''"):
        raise SyntaxFault(key.start, 'expected the name of a field, such as payload["order number"]')
    return key.name[1:-1]


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean `{close[0]}`?" if close else f"; known: {', '.join(known)}"


def _quotes(name: str) -> str:
    return f'; a text has quotes: "{name}"'


def _require_exact(node: SyntaxNode) -> None:
    """A whole number is compared exactly with a double only below 2 ** 53."""
    if Decimal(repr(float(node.name))) != Decimal(node.name):
        raise SyntaxFault(node.start, f"{node.name} has more digits than a number can hold, about 15")
    if float(node.name) >= EXACT:
        raise SyntaxFault(node.start, f"{node.name} is too large for a number with a point; write it without")
