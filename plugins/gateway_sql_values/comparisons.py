"""Comparisons that find another customer than the one asked for, and what to write instead.

Databases read numbers in texts loosely: SQLite casts "12 3456" to 12 and "abc" to 0, MariaDB finds the number 123 for
"123abc" and "0123". A pattern (LIKE, GLOB, ...) finds whatever the customer's text matches, such as "%".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|\s+"
    r"|(?P<text>'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    r'|(?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[^\]:]*\])'
    r"|(?P<parameter>(?<![:\w\\]):\w+)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<symbol>::|\|\||<=>|<>|!=|==|<=|>=|!?~\*?|.)",
    re.DOTALL,
)
_PATTERNS: Final = re.compile("I?LIKE|GLOB|REGEXP|RLIKE|MATCH|SIMILAR|!?~[*]?")
_END: Final = re.compile("AND|OR|ESCAPE|THEN|WHEN|ELSE|END|GROUP|ORDER|HAVING|LIMIT|UNION|WHERE|[,)]")
_OPERATOR: Final = re.compile("=|==|<=>|<>|!=|<|>|<=|>=|IS|BETWEEN")
_ARITHMETIC: Final = frozenset("+-*/%")
_AFTER_FROM: Final = re.compile("WHERE|GROUP|ORDER|HAVING|LIMIT|UNION|SELECT")
_NO_ALIAS: Final = re.compile(f"{_AFTER_FROM.pattern}|ON|USING|JOIN|LEFT|RIGHT|INNER|OUTER|CROSS|NATURAL|FULL")
_NUMBER: Final = re.compile(
    "(TINY|SMALL|MEDIUM|BIG)?INT[248]?|INTEGER|(UN)?SIGNED|DEC|DECIMAL|NUMERIC|FIXED|REAL|FLOAT[48]?|DOUBLE|MONEY|OID"
    "|BIT|YEAR"
)
LOOSE: Final = frozenset({"sqlite", "mysql", "mariadb"})
"""The databases that make a number of any text."""


class Token(NamedTuple):
    """`key` is a keyword or name in upper case, or a symbol; empty for a quoted name, a text and a parameter."""

    kind: str
    value: str
    key: str


class Comparison(NamedTuple):
    """A column compared with a parameter (with its colon). `table` is the name before the column's dot, or ""."""

    table: str
    column: str
    parameter: str


def tokens_of(sql: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(sql):
        kind, value = match.lastgroup, match[0]
        if kind == "quoted":
            found.append(Token("name", value[1:-1], ""))
        elif kind == "word":
            found.append(Token("name", value, value.upper()))
        elif kind is not None:
            found.append(Token(kind if match["text"] is None else "text", value, value if kind == "symbol" else ""))
    return found


def pattern_faults(tokens: list[Token]) -> Iterator[str]:
    """A sentence for each parameter that is used as a pattern. One inside `replace(...)` may be escaped there."""
    for index, token in enumerate(tokens):
        if _PATTERNS.fullmatch(token.key):
            for name in _unescaped(tokens[index + 1 :]):
                yield f"{name} after {token.key} is a pattern, which may find other customers; write = {name}"


def cast_faults(tokens: list[Token], kind: str) -> Iterator[str]:
    """A sentence for each parameter that is cast to a number."""
    for index, token in enumerate(tokens):
        subject = tokens[index - 2].value if index > 1 and _OPERATOR.fullmatch(tokens[index - 1].key) else "column"
        inner = _group(tokens[index + 1 :])
        typed = _after(inner, "AS" if token.key == "CAST" else ",") if token.key in ("CAST", "CONVERT") else []
        cast = [one for one in inner if one.kind == "parameter"] if is_number(typed, kind) else []
        if token.kind == "parameter":
            neighbours = [one.key for one in (*tokens[max(0, index - 1) : index], *tokens[index + 1 : index + 2])]
            arithmetic = not _ARITHMETIC.isdisjoint(neighbours)
            if arithmetic or (neighbours[-1:] == ["::"] and is_number(tokens[index + 2 : index + 3], kind)):
                cast = [token]
        for parameter in cast:
            safe = exact(subject, parameter.value, kind)
            yield f"a cast of {parameter.value} to a number finds 123 for '0123' and ' 123', too; write {safe}"


def is_number(type_name: list[Token], kind: str) -> bool:
    """Whether a type, as written in a cast or a table, is a number's."""
    name = " ".join(token.key for token in type_name)
    if kind == "sqlite":  # its own rules for the affinity of a declared type
        return "INT" in name or (name != "" and re.search("CHAR|CLOB|TEXT|BLOB", name) is None)
    return _NUMBER.fullmatch(name.partition(" ")[0]) is not None


def exact(column: str, parameter: str, kind: str) -> str:
    """SQL that compares a column of any type with exactly this text."""
    if kind in ("mysql", "mariadb"):  # the first half uses an index
        return f"{column} = {parameter} AND BINARY {column} = {parameter}"
    return f"CAST({column} AS {'TEXT' if kind == 'sqlite' else 'text'}) = {parameter}"


def comparisons(tokens: list[Token]) -> set[Comparison]:
    """Every plain column that is compared with a parameter, unless the comparison is exact by BINARY or COLLATE."""
    found: set[Comparison] = set()
    precise: set[Comparison] = set()
    for index, token in enumerate(tokens):
        if token.kind != "parameter":
            continue
        before, after = tokens[:index], tokens[index + 1 :]
        while before and (before[-1].key in ("(", ",", "IN") or before[-1].kind == "parameter"):
            before.pop()
            if before and before[-1].key == "IN":
                before[-1] = Token("symbol", "=", "=")
        if before and _OPERATOR.fullmatch(before[-1].key):
            column = _column(before[:-1][::-1])
        elif after and _OPERATOR.fullmatch(after[0].key):
            column = _column(after[1:], forward=True)
        else:
            continue
        if column is None:
            continue
        path, is_exact = column
        is_exact |= bool(after) and after[0].key == "COLLATE"
        (precise if is_exact else found).add(Comparison(*path, token.value))
    return found - precise


def tables(tokens: list[Token]) -> dict[str, tuple[str, str]]:
    """The tables of the FROM clauses, as schema (or "") and name, by the name that the statement uses for them."""
    found = {}
    expected = listing = False
    for index, token in enumerate(tokens):
        if expected and token.kind == "name":
            path, rest = [token.value], tokens[index + 1 :]
            while len(rest) > 1 and rest[0].key == "." and rest[1].kind == "name":
                path.append(rest[1].value)
                rest = rest[2:]
            rest = rest[1:] if rest and rest[0].key == "AS" else rest
            named = rest and rest[0].kind == "name" and not _NO_ALIAS.fullmatch(rest[0].key)
            alias = rest[0].value if named else path[-1]
            found[alias.lower()] = (path[-2] if len(path) > 1 else "", path[-1])
        listing = token.key == "FROM" or (listing and not _AFTER_FROM.fullmatch(token.key))
        expected = token.key in ("FROM", "JOIN") or (listing and token.key == ",")
    return found


def _unescaped(tokens: list[Token]) -> Iterator[str]:
    """The parameters of the operand that begins here, but for those inside of a function that replaces."""
    depth, safe = 0, None
    for index, token in enumerate(tokens):
        if token.key == "(":
            depth += 1
            if safe is None and index and "REPLACE" in tokens[index - 1].key:
                safe = depth
        elif depth == 0 and _END.fullmatch(token.key):
            return
        elif token.key == ")":
            safe = None if safe == depth else safe
            depth -= 1
        elif token.kind == "parameter" and safe is None:
            yield token.value


def _group(tokens: list[Token]) -> list[Token]:
    """What stands in the parentheses that begin here."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.key == "(") - (token.key == ")")
        if depth == 0:
            return tokens[1:index]
    return []


def _after(tokens: list[Token], key: str) -> list[Token]:
    """The tokens after the last one with this key; empty where there is none."""
    last = max((index for index, token in enumerate(tokens) if token.key == key), default=len(tokens))
    return tokens[last + 1 :]


def _column(tokens: list[Token], forward: bool = False) -> tuple[tuple[str, str], bool] | None:
    """The column that begins here (or ends here, read backward), and whether BINARY or COLLATE makes it exact."""
    exact = forward and bool(tokens) and tokens[0].key == "BINARY"
    tokens = tokens[1:] if exact else tokens
    if not tokens or tokens[0].kind != "name":
        return None
    path, rest = [tokens[0].value], tokens[1:]
    while len(rest) > 1 and rest[0].key == "." and rest[1].kind == "name":
        path.append(rest[1].value)
        rest = rest[2:]
    exact |= bool(rest) and rest[0].key in ("BINARY", "COLLATE")
    path = path if forward else path[::-1]
    return ("" if len(path) == 1 else path[-2], path[-1]), exact
