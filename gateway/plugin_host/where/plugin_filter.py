"""The `where` of one plugin at work: which events it holds back, and how often it fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from gateway.events import Event
from gateway.log import RateLimit
from gateway.plugin_host.where.outcome import NotEvaluated

if TYPE_CHECKING:
    from gateway.plugin_host.where.expression import Expression

log = logging.getLogger("gateway.delivery")
QUIET: Final = 10.0
"""Seconds between log lines about one filter."""


def expression_of(text: str | None) -> Expression | None:
    """The expression of a text, or None for none: then nothing that evaluates is imported. `ValueError`."""
    if text is None:
        return None
    from gateway.plugin_host.where.expression import Expression

    return Expression(text)


class Where:
    """Holds events back from a plugin. An event on which the expression fails is not held back: a filter that is wrong
    must lose nothing. Counts are since the start."""

    def __init__(self, plugin: str, expression: Expression | None) -> None:
        self.expression = expression
        self.held_back = 0
        self.failures = 0
        self.last_failure: str | None = None
        """Why it failed the last time, without any value of the event; None where this expression has not failed."""
        self._plugin = plugin
        self._lines = RateLimit(log, 1, QUIET, lambda count: f"plugin {plugin}: `where` failed {count} more times")

    def replace(self, expression: Expression | None) -> None:
        """Put another expression in force, for the events that are read from now on."""
        if (expression and expression.text) != (self.expression and self.expression.text):
            self.expression, self.last_failure = expression, None

    def admits(self, event: Event) -> bool:
        """Whether the plugin gets an event."""
        if self.expression is None:
            return True
        try:
            admitted = self.expression.matches(event)
        except NotEvaluated as error:
            self.failures += 1
            self.last_failure = str(error)
            text = "plugin %s: `where` failed on event %s, which is delivered: %s"
            self._lines.warning(text, self._plugin, event.id, error, event_id=event.id)
            return True
        self.held_back += not admitted
        return admitted
