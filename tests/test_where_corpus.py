"""What an expression in `where` means: `cel_corpus.toml`, with each of the packages that can evaluate it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from second_cel import RustCel

from gateway.plugin_host.where.engine import CelExpr, Engine
from gateway.plugin_host.where.expression import Expression
from gateway.plugin_host.where.outcome import NotEvaluated
from gateway.testing import event_of

CORPUS = tomllib.loads((Path(__file__).parent / "cel_corpus.toml").read_text(encoding="utf-8"))
RECEIVED = datetime(2026, 3, 1, 9, 30, 15, 250_000, tzinfo=UTC)
ENGINES: dict[str, type[CelExpr] | type[RustCel]] = {"cel-expr-python": CelExpr, "common-expression-language": RustCel}


def cases() -> Iterator[Any]:
    for group in CORPUS["group"]:
        for expected, texts in (("yes", group["yes"]), ("no", group["no"]), *group.get("fails", {}).items()):
            for text in texts:
                yield pytest.param(group["body"], text, expected, id=text)


def outcome(expression: Expression, body: str) -> str:
    event = event_of(body, id="0193-id", received_at=RECEIVED)
    try:
        return "yes" if expression.matches(event) else "no"
    except NotEvaluated as error:
        return str(error)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


@pytest.mark.parametrize(("body", "text", "expected"), list(cases()))
def test_an_expression_means_the_same_with_every_package(engine: Engine, body: str, text: str, expected: str) -> None:
    """Unless the corpus names a difference."""
    if isinstance(engine, RustCel):
        expected = CORPUS["differences"].get(text, expected)
    assert outcome(Expression(text, engine), body) == expected


@pytest.mark.parametrize(("text", "sentence"), list(CORPUS["faults"].items()))
def test_an_expression_that_cannot_be_a_filter_is_refused(engine: Engine, text: str, sentence: str) -> None:
    """With a sentence that names the place."""
    with pytest.raises(ValueError) as error:
        Expression(text, engine)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("text", "sentence"), list(CORPUS["typed"].items()))
def test_types_are_checked_when_an_expression_is_compiled(text: str, sentence: str) -> None:
    """By the package that `webio-gateway[filters]` installs."""
    with pytest.raises(ValueError) as error:
        Expression(text, CelExpr())
    assert str(error.value) == sentence


def test_the_corpus_is_large() -> None:
    assert len(list(cases())) + len(CORPUS["faults"]) + len(CORPUS["typed"]) >= 100
