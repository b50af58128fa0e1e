"""What an expression may come to besides true and false."""

from __future__ import annotations


class NotEvaluated(Exception):
    """An expression has no result for an event. The message is a reason without any value of the event."""
