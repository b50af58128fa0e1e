"""Times as an operator writes them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.config.field_types import Duration, show


def moment_of(text: str) -> datetime:
    """The time that is meant, in UTC: ISO 8601 (UTC unless it has a zone), a duration before now, `now`, `today` or
    `yesterday`. `ValueError` with a sentence for any other text."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if text in words:
        return words[text]
    with suppress(ValueError, OverflowError):
        return now - timedelta(seconds=Duration.from_config(text, Path()))
    with suppress(ValueError, OverflowError):
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    known = "2026-01-31, 2026-01-31T09:30, 2026-01-31T09:30+01:00, 2h, 7d, now, today or yesterday"
    raise ValueError(f"expected a time such as {known}, found {show(text)}")
