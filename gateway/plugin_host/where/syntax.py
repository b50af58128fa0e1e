"""Reads CEL into nodes with their places: the common grammar, without what only some packages have."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

DEEPEST: Final = 24
"""Levels of parentheses, calls and operators inside one another. Packages have limits of their own, from 32 on."""
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    |(?P<int>0[xX][0-9a-fA-F]+|\d+)(?![\w.]*[uU]\b)
    |(?P<text>[rR]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\r\n])*"|'(?:\\.|[^'\\\r\n])*'))
    |(?P<name>(?![bBrR]{1,2}['"])[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_RELATIONS: Final = ("==", "!=", "<", "<=", ">", ">=", "in")
_LEVELS: Final = (("||",), ("&&",), _RELATIONS, ("+", "-"), ("*", "/", "%"))
_WORDS: Final = {"true": "bool", "false": "bool", "null": "null"}


class SyntaxFault(ValueError):
    """An expression that a filter cannot be. `place` counts characters from 0."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(f"at character {place + 1}: {message}")


class SyntaxNode(msgspec.Struct, frozen=True):
    """A part of an expression, from character `start` up to `end`.

    `kind` is `int`, `double`, `text`, `bool` or `null` for a literal, of which `name` is the text as written; `name`;
    `field` and `index`, of the first of `parts`; `call` of a function and `method` of the first of `parts`; `unary`
    and `binary`, of which `name` is the operator; `choice` (`a ? b : c`); or `list`.
    """

    kind: str
    name: str
    start: int
    end: int
    parts: tuple[SyntaxNode, ...] = ()


class _Token(NamedTuple):
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def parse(text: str) -> SyntaxNode:
    """The expression as a tree; `SyntaxFault` where it is none, or nests deeper than `DEEPEST`."""
    parser = _Parser(text)
    node = parser.expression(0)
    if parser.next.kind != "end":
        raise parser.unexpected("an operator or the end")
    return node


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise SyntaxFault(place, f"unexpected {_shown(text[place])}")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(_Token(kind, match[0], place))
        place = match.end()
    return [*found, _Token("end", "", len(text))]


def _shown(text: str) -> str:
    return f"`{text}`" if text.isprintable() else "a character that does not print"


class _Parser:
    """Reads by recursive descent; every method returns the node that it has read past."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    def unexpected(self, expected: str) -> SyntaxFault:
        found = "the end" if self.next.kind == "end" else _shown(self.next.text)
        return SyntaxFault(self.next.start, f"expected {expected}, found {found}")

    def _take(self) -> _Token:
        token = self.next
        self._place += token.kind != "end"
        return token

    def _accept(self, *texts: str) -> _Token | None:
        is_one = self.next.text in texts and self.next.kind in ("sign", "name")
        return self._take() if is_one else None

    def _require(self, text: str) -> _Token:
        token = self._accept(text)
        if token is None:
            raise self.unexpected(f"`{text}`")
        return token

    def expression(self, depth: int) -> SyntaxNode:
        if depth > DEEPEST:
            raise SyntaxFault(self.next.start, f"nested deeper than {DEEPEST} levels")
        condition = self._binary(0, depth)
        if self._accept("?") is None:
            return condition
        first = self._binary(0, depth + 1)
        self._require(":")
        other = self.expression(depth + 1)
        return SyntaxNode("choice", "?:", condition.start, other.end, (condition, first, other))

    def _binary(self, level: int, depth: int) -> SyntaxNode:
        if level == len(_LEVELS):
            return self._unary(depth)
        left, chained = self._binary(level + 1, depth), depth
        while (operator := self._accept(*_LEVELS[level])) is not None:
            if level > 1:  # packages balance && and ||, and nest the others
                chained += 1
                if chained > DEEPEST:
                    raise SyntaxFault(operator.start, f"nested deeper than {DEEPEST} levels")
            right = self._binary(level + 1, depth)
            left = SyntaxNode("binary", operator.text, left.start, right.end, (left, right))
        return left

    def _unary(self, depth: int) -> SyntaxNode:
        operator = self._accept("!", "-")
        if operator is None:
            return self._member(depth)
        if depth > DEEPEST:
            raise SyntaxFault(operator.start, f"nested deeper than {DEEPEST} levels")
        inner = self._unary(depth + 1)
        return SyntaxNode("unary", operator.text, operator.start, inner.end, (inner,))

    def _member(self, depth: int) -> SyntaxNode:
        node = self._primary(depth)
        while (sign := self._accept(".", "[")) is not None:
            depth += 1
            if depth > DEEPEST:
                raise SyntaxFault(sign.start, f"nested deeper than {DEEPEST} levels")
            if sign.text == "[":
                key = self.expression(depth)
                node = SyntaxNode("index", "", node.start, self._require("]").end, (node, key))
                continue
            if self.next.kind != "name":
                raise self.unexpected("a field's name")
            name = self._take()
            if self._accept("(") is None:
                node = SyntaxNode("field", name.text, node.start, name.end, (node,))
            else:
                given, end = self._until(")", depth)
                node = SyntaxNode("method", name.text, node.start, end, (node, *given))
        return node

    def _primary(self, depth: int) -> SyntaxNode:
        token = self.next
        if token.kind in ("int", "double", "text"):
            self._take()
            return SyntaxNode(token.kind, token.text, token.start, token.end)
        if token.kind == "name" and token.text != "in":
            self._take()
            if token.text in _WORDS:
                return SyntaxNode(_WORDS[token.text], token.text, token.start, token.end)
            if self._accept("(") is None:
                return SyntaxNode("name", token.text, token.start, token.end)
            given, end = self._until(")", depth)
            return SyntaxNode("call", token.text, token.start, end, tuple(given))
        if self._accept("(") is not None:
            inner = self.expression(depth + 1)
            return msgspec.structs.replace(inner, start=token.start, end=self._require(")").end)
        if self._accept("[") is not None:
            given, end = self._until("]", depth)
            return SyntaxNode("list", "", token.start, end, tuple(given))
        raise self.unexpected("a value")

    def _until(self, closing: str, depth: int) -> tuple[list[SyntaxNode], int]:
        """What stands between commas, up to a bracket."""
        given: list[SyntaxNode] = []
        while self.next.text != closing or self.next.kind != "sign":
            if given:
                self._require(",")
            given.append(self.expression(depth + 1))
        return given, self._require(closing).end
