"""Reads TOML text. A fault of its syntax is a sentence with line and column, in TOML's words."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterable, Iterator
from typing import Any

import tomli

from gateway.config.convert import dotted

_NAMED = re.compile(r"Cannot (declare|redefine namespace|mutate immutable namespace) (\(.*\))(?: twice)?", re.DOTALL)


def parse_toml(text: str) -> dict[str, Any]:
    """The document; `ValueError` with a sentence where the text is not TOML."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ValueError(f"TOML syntax: {_sentence(error)} (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):  # tomli raises these for thousands of digits or brackets
        raise ValueError("TOML syntax: a number is too long, or a value is nested too deeply") from None


def _sentence(error: tomli.TOMLDecodeError) -> str:
    """tomli's message; for a name that is defined twice, one that gives the name."""
    named = _NAMED.fullmatch(error.msg)
    if named is not None:
        path = _path(literal_eval(named[2]))
        if named[1] == "declare":
            return f"the table [{path}] is already defined"
        return f"{path} is already defined, and cannot be extended here"
    if error.msg == "Cannot overwrite a value":
        statement = next(_statements(error.doc, error.pos), "")
        if statement.startswith("["):
            return f"[{statement.strip('[] ')}] is already defined, and not as a table"
        header = next((one for one in _statements(error.doc, error.pos) if one.startswith("[")), "")
        path = _path((*_keys(header), *_keys(statement)))
        return f"the key {path} is defined twice"
    inline = re.fullmatch("Duplicate inline table key (.*)", error.msg, re.DOTALL)
    return error.msg if inline is None else f"the key {_path([literal_eval(inline[1])])} is defined twice"


def _statements(text: str, end: int) -> Iterator[str]:
    """The statements before `end`, the last one first: each begins a line up to which the text is valid."""
    start = end
    while start > 0:
        start = text.rfind("\n", 0, start - 1) + 1 if start > 1 else 0
        if _is_valid(text[:start]):
            yield text[start:end].strip()
            end = start


def _is_valid(text: str) -> bool:
    try:
        tomli.loads(text)
    except ValueError:
        return False
    return True


def _keys(statement: str) -> Iterator[str]:
    """The keys that a statement defines, the outer one first: those of a header, or of `key = value`."""
    if statement.startswith("["):
        document: Any = tomli.loads(statement.partition("\n")[0])
    else:
        document = next(
            (tomli.loads(f"{key} = {{}}") for key in _before_equals(statement) if _is_valid(f"{key} = {{}}")), {}
        )
    while document:
        if isinstance(document, list):
            [document] = document
        else:
            [(key, document)] = document.items()
            yield key


def _before_equals(statement: str) -> Iterator[str]:
    """The text before each `=`: a quoted key may contain one."""
    for match in re.finditer("=", statement):
        yield statement[: match.start()]


def _path(keys: Iterable[str]) -> str:
    path = ""
    for key in keys:
        path = dotted(path, key)
    return path
