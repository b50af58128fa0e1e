"""A configured statement: one SELECT with bound parameters of a closed set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import String, TextClause, bindparam, text

from gateway_sql_values.comparisons import tokens_of

PARAMETERS: Final = ("customer_uid", "outbound_channel_address", "address_digits", "organisation")

_OPAQUE = re.compile(
    r"'(?:[^']|'')*'"  # text
    r'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]:]*\]'  # quoted names
    r"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"  # PostgreSQL's dollar quotes
    r"|--[^\n]*|/\*.*?\*/",  # comments
    re.DOTALL,
)
_CAST = re.compile(rf"{_OPAQUE.pattern}|(?P<cast>(?<![:\w\\]):\w+(?=::))", re.DOTALL)
_COMMENTS = ("--", "/*")
_KNOWN = re.compile(rf"(?<![:\w\\]):(?:{'|'.join(PARAMETERS)})\b(?!:)")
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|into|create|alter|drop|truncate|grant|revoke|call|exec|execute|lock)\b(?!\s*\()",
    re.IGNORECASE,
)


class Statement:
    """SQL with `:name` parameters. All of them are texts: cast a column that is not a text,
    `CAST(id AS text) = :customer_uid`."""

    __slots__ = ("clause", "parameters", "tokens")

    def __init__(self, sql: str) -> None:
        """`ValueError` with a sentence where it is not one SELECT, or has an unknown parameter."""
        sql = sql.strip().rstrip(";").rstrip()
        bare = _OPAQUE.sub(" ", sql).strip(" \t\r\n(")
        if not re.match(r"(select|with)\b", bare, re.IGNORECASE):
            raise ValueError("expected one SELECT statement")
        if ";" in bare:
            raise ValueError("expected one SELECT statement, found several")
        if found := _WRITES.search(bare):
            raise ValueError(f"expected a SELECT that only reads, found {found[0].upper()}")
        for quoted in _OPAQUE.finditer(sql):
            if not quoted[0].startswith(_COMMENTS) and (name := _KNOWN.search(quoted[0])):
                raise ValueError(f"{name[0]} in quotes is a text, not the parameter; write {name[0]} without quotes")
        clause = text(_CAST.sub(_for_sqlalchemy, sql))
        self.parameters = frozenset(clause.compile().params)
        unknown = sorted(self.parameters.difference(PARAMETERS))
        if unknown:
            known = ", ".join(f":{name}" for name in PARAMETERS)
            raise ValueError(
                f"unknown parameter :{unknown[0]}; known: {known}. Write a colon that does not begin a parameter as \\:"
            )
        self.tokens = tokens_of(sql)
        self.clause: TextClause = clause.bindparams(*(bindparam(name, type_=String()) for name in self.parameters))

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str):
            raise ValueError("expected a SELECT statement")
        return cls(value)

    def __repr__(self) -> str:
        return f"Statement({self.clause.text!r})"


def _for_sqlalchemy(found: re.Match[str]) -> str:
    """A parameter before `::`, which SQLAlchemy finds only with a space behind it; a comment without parameters."""
    if found[0].startswith(_COMMENTS):
        return re.sub(r"(?<!\\):", r"\\:", found[0])
    return found[0] + " " * bool(found["cast"])
