"""A filter's expression, checked and compiled, on events."""

from __future__ import annotations

from gateway.events import Event
from gateway.plugin_host.where.engine import TYPES, Engine, installed_engine
from gateway.plugin_host.where.outcome import NotEvaluated
from gateway.plugin_host.where.rules import Portable, portable
from gateway.plugin_host.where.values import Values


class Expression:
    """Says of an event whether it matches."""

    def __init__(self, text: str, engine: Engine | None = None) -> None:
        """`ValueError` with a sentence where the text cannot be a filter. Without `engine`, the installed one."""
        self.text = text
        found = portable(text)
        engine = engine or installed_engine()
        for pattern in found.patterns:
            _check_pattern(pattern, engine)
        try:
            self._program = engine.compile(found.text, found.names)
        except ValueError as error:
            raise ValueError(_in_own_words(str(error), found)) from None
        self._values = Values(found)

    def matches(self, event: Event) -> bool:
        """Whether the expression is true of the event; `NotEvaluated` where it is neither true nor false."""
        result = self._program.evaluate(self._values.of(event))
        if type(result) is not bool:
            raise NotEvaluated(TYPES)
        return result


def _check_pattern(pattern: str, engine: Engine) -> None:
    """A pattern with a fault fails only when it is used: use it."""
    try:
        engine.compile(f'"".matches({pattern})', {}).evaluate({})
    except NotEvaluated:
        raise ValueError(f"the pattern {pattern} is not a regular expression (RE2)") from None


def _in_own_words(message: str, found: Portable) -> str:
    for name, stands_for in found.hides:
        message = message.replace(name, stands_for)
    return message
