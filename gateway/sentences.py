"""Events and custom value requests as sentences, for `gateway timeline` and the dashboard."""

from __future__ import annotations

from typing import Any, Final

from gateway.events import (
    CONVERSATION_ASSIGNMENT,
    CONVERSATION_CLOSED,
    DELIVERY_REPORT,
    INBOUND_MESSAGE,
    MESSAGE_SEND,
    MOVE_TO_QUEUE,
    OUTCOMES,
    PAYMENT,
    SET_STATUS,
)
from gateway.journal.search import EventHappened, ValuesAsked
from gateway.json_text import parse_object
from gateway.text import counted
from gateway.unknown import public

_MESSAGES: Final = {INBOUND_MESSAGE: "the customer wrote", MESSAGE_SEND: "the customer was sent"}
_OTHERS: Final = {
    PAYMENT: "a payment came in",
    SET_STATUS: "the conversation got a status",
    CONVERSATION_CLOSED: "the conversation was closed",
    MOVE_TO_QUEUE: "the conversation was moved to a queue",
    CONVERSATION_ASSIGNMENT: "the conversation was assigned or unassigned",
}
_COMMON: Final = frozenset(
    {
        *("type", "conversationId", "communicationActionId", "customerUID", "dateCreated", "body"),
        *("outboundChannelAddress", "inboundChannelAddress"),
    }
)
"""Fields of every hook, which a sentence leaves out."""
_MOST_DETAILS: Final = 6
_OUTCOMES: Final = {
    "value": "{provider} answered in {ms}",
    "null": "{provider} answered in {ms} that there is none",
    "default": "the configured default was given",
    "cached": "the answer that {provider} gave before was given again",
    "unknown": "no provider knows it",
    "refused": "it needs a customer UID",
    "several": "several customers match at {provider}",
    "failed": "{provider} failed after {ms}",
    "skipped": "{provider} was not asked, because its circuit breaker was open",
    "late": "{provider} had not answered after {ms}, which was too late",
}


def sentence(line: EventHappened | ValuesAsked, *, masked: bool = False) -> str:
    """A line of the timeline in words; `masked` leaves out what the customer or the sender wrote."""
    return _asked(line) if isinstance(line, ValuesAsked) else _happened(line, masked)


def _happened(event: EventHappened, masked: bool) -> str:
    body = parse_object(bytes(event.body))
    unreadable = "" if event.readable else " (the body does not fit its hook)"
    text = body.get("body")
    if event.hook in _MESSAGES and isinstance(text, str):
        said = f"{counted(len(text), 'character')}" if masked else f'"{" ".join(text.split())}"'
        return f"{_MESSAGES[event.hook]}: {said}{unreadable}"
    if event.hook == DELIVERY_REPORT:
        code = str(body.get("statusCode"))
        outcome = OUTCOMES.get(code, "an unknown status code" if masked else f"status code {code}")
        if masked:
            return f"delivery report: {outcome}{unreadable}"
        return f"delivery report of message {body.get('communicationActionId')}: {outcome}{unreadable}"
    what = _OTHERS.get(event.hook) or f"an event of the hook {event.hook} came in"
    if event.name is not None:
        name = public(event.name) if masked else event.name
        what = f"an event came in by the name {name}, which no hook has"
    if masked:
        return f"{what}{unreadable}"
    details = [f"{key} {_shown(value)}" for key, value in body.items() if key not in _COMMON and _plain(value)]
    if len(details) > _MOST_DETAILS:
        details[_MOST_DETAILS:] = [f"and {counted(len(details) - _MOST_DETAILS, 'more field')}"]
    return f"{what}{': ' if details else ''}{', '.join(details)}{unreadable}"


def _plain(value: Any) -> bool:
    return value not in (None, "") and not isinstance(value, dict | list)


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)


def _asked(request: ValuesAsked) -> str:
    fields = [f"{name}: {_outcome(detail)}" for name, detail in request.fields.items()]
    result = "" if request.status == 200 else f"; the bot got no values (status {request.status})"
    if len(fields) == 1:
        return f"the bot asked for {fields[0]}{result}"
    return f"the bot asked for {counted(len(fields), 'field')}; {'; '.join(fields)}{result}"


def _outcome(detail: dict[str, Any]) -> str:
    ms = detail.get("ms") or 0.0
    took = f"{ms:.0f} ms" if ms >= 1 else "less than 1 ms"
    template = _OUTCOMES.get(str(detail.get("outcome")), f"outcome {detail.get('outcome')}")
    return template.format(provider=detail.get("provider") or "a provider", ms=took)
