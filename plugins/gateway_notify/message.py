"""A message as text, and in the form of each chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway import Notice

NAMED: Final = 20
"""Notices that one message names."""
_LONGEST: Final = 500


def title(gateway: str, notices: Sequence[Notice]) -> str:
    """`Webio Gateway at host: 2 problems, 1 resolved`."""
    begun = sum(not notice.recovered for notice in notices)
    parts = [f"{begun} problem{'' if begun == 1 else 's'}"] if begun else []
    parts += [f"{len(notices) - begun} resolved"] if begun < len(notices) else []
    return f"Webio Gateway at {gateway}: {', '.join(parts)}"


def lines(notices: Sequence[Notice]) -> list[str]:
    """A line per notice, problems first."""
    ordered = sorted(notices, key=lambda notice: notice.recovered)
    found = [
        f"Resolved: {one.sentence}" if one.recovered else f"{one.sentence} (since {one.since:%Y-%m-%d %H:%M} UTC)"
        for one in ordered[:NAMED]
    ]
    found = [" ".join(line.split())[:_LONGEST] for line in found]
    return [*found, f"and {len(notices) - NAMED} more"] if len(notices) > NAMED else found


def slack(head: str, body: Sequence[str]) -> dict[str, Any]:
    def safe(text: str) -> str:  # <!channel> would call everyone
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    return {"text": "\n".join([f"*{safe(head)}*", *(f"• {safe(line)}" for line in body)])}


def mattermost(head: str, body: Sequence[str]) -> dict[str, Any]:
    def safe(text: str) -> str:  # @all would call everyone
        return text.replace("@", "@\u200b")

    return {"text": "\n".join([f"**{safe(head)}**", *(f"- {safe(line)}" for line in body)])}


def teams(head: str, body: Sequence[str]) -> dict[str, Any]:
    """An adaptive card, as the workflow "When a Teams webhook request is received" takes it."""
    blocks = [{"type": "TextBlock", "text": head, "weight": "Bolder", "wrap": True}]
    blocks += [{"type": "TextBlock", "text": f"- {line}", "wrap": True} for line in body]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


FORMATS: Final = {"slack": slack, "teams": teams, "mattermost": mattermost}
