"""`pattern`: regular expressions as Python's, compared in bounded time."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from asking import Knows, ask, asking, problem_of, values_of

from gateway.config.formats import Pattern

ORDINARY = (
    *("[0-9]+", "(a|b)*c", "^ab?$", r"\ba\b.*", "(?i)abc", "(?i:a)b", "a{2,4}", "(?s).*", ".*", r"[^a]*b|c\d{0,3}"),
    *("(?m)^a$\\n^b$", "(a*)*", "(?:)", "a??b", r"\w+\s\w+", "(?P<x>a)|b", "a$", "é|ß", "(|a)+b", "(?i)(?-i:a)b"),
)
ENDLESS = ("(a+)+", "(.*)*x", ".*.*.*.*.*.*x", "(a|a)*b", "(a|aa)+$", "([a-z]+)*@", r"(\ba?)*(.*)*$x")


@pytest.mark.parametrize("source", ORDINARY)
def test_a_pattern_means_what_it_means_in_python(source: str) -> None:
    """The same texts match as with `re.fullmatch`."""
    pattern, rng = Pattern(source), random.Random(source)
    for _ in range(500):
        text = "".join(rng.choice("aabbcABC1 \né") for _ in range(rng.randrange(7)))
        assert pattern.matches(text) == (re.fullmatch(source, text) is not None), text


@pytest.mark.parametrize("source", ENDLESS)
async def test_no_value_makes_a_pattern_take_for_ever(tmp_path: Path, source: str) -> None:
    """Patterns on which Python's `re` would not end refuse the worst value within a moment."""
    async with asking(
        tmp_path, f"[values.fields.a]\npattern = '{source}'\n", crm=Knows({"a": "a" * 1000 + "!"})
    ) as values:
        began = time.thread_time()
        assert problem_of(await ask(values, "a")) == (502, ["a"])
        assert time.thread_time() - began < 0.5


async def test_a_long_value_fails(tmp_path: Path) -> None:
    """A value of more than 1,024 characters is not compared."""
    crm = Knows({"a": "x" * 1024})
    async with asking(tmp_path, '[values.fields.a]\npattern = "x*"\n', crm=crm) as values:
        assert values_of(await ask(values, "a")) == {"a": "x" * 1024}
        crm.values = {"a": "x" * 1025}
        assert problem_of(await ask(values, "a")) == (502, ["a"])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("a" * 501, "is longer than 500 characters"),
        ("(?:a{100}){100}", "is too large: with its repeats written out, it has more than 1,000 parts"),
        ("(?=a)b", "uses lookaround, a reference or a possessive repeat, whose time cannot be bounded"),
        (r"(a)\1", "uses lookaround, a reference or a possessive repeat, whose time cannot be bounded"),
        ("a*+", "uses lookaround, a reference or a possessive repeat, whose time cannot be bounded"),
        ("[", "is not a regular expression: unterminated character set at position 0"),
    ],
)
def test_a_pattern_that_cannot_be_bounded_is_refused(source: str, sentence: str) -> None:
    """With a sentence that says why."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Pattern(source)
