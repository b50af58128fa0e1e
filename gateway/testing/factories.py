"""What the gateway calls a plugin with: events, custom value requests and the context of `startup`."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final

from gateway import simulate
from gateway.decoding import decode, hook_names
from gateway.events import UNKNOWN, CustomValueRequest, Event
from gateway.hookspecs import Context

ORGANISATION: Final = "acme"
CUSTOMER: Final = "123456"
_FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)
_tasks: set[asyncio.Task[object]] = set()


def make_body(hook: str = "payment", **fields: Any) -> dict[str, Any]:
    """A new body of a hook such as `"inbound-message"`, with Webio's own names. `fields` replace or add fields, and
    `...` as a value takes a field out: `make_body("payment", amount="12.50", customerUID=...)`. Without
    `conversationId` each body has a conversation of its own. For the hook `"unknown"` its `type` is one that the
    gateway does not know."""
    body = simulate.body("payment" if hook == UNKNOWN else hook) | ({"type": "newType"} if hook == UNKNOWN else {})
    return {name: value for name, value in (body | fields).items() if value is not ...}


def event_of(
    body: bytes | str | Mapping[str, Any],
    *,
    hook: str | None = None,
    organisation: str = ORGANISATION,
    types: Mapping[str, Iterable[str]] | None = None,
    timezone: tzinfo = UTC,
    **attributes: Any,
) -> Event:
    """The event that the gateway makes of a body, as received or as a mapping. `hook` is the one that the path of the
    request names (default: the body's `type` decides), `types` are further spellings of `type` by hook, and `timezone`
    is the organisation's. `attributes` are those of `Event`, such as `id` and `redelivered=True`; without them the id
    is a new one, and `received_at` is later with each event. `ValueError` where the body is not a JSON object."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else _encoded(body)
    decoded = decode(raw, hook, hook_names(types or {}), timezone)
    number = next(_numbers)
    known: dict[str, Any] = {
        "id": f"00000000-0000-7000-8000-{number:012x}",
        "received_at": _FIRST + timedelta(milliseconds=number),
        "organisation": organisation,
        "hook": decoded.hook,
        "payload": decoded.payload,
        "raw": raw,
        "readable": decoded.readable,
        "conversation_id": decoded.conversation_id,
        "customer_uid": decoded.customer_uid,
        "name": decoded.name,
    }
    return Event(**(known | attributes))


def make_event(hook: str = "payment", **fields: Any) -> Event:
    """A new event of a hook, with `fields` in its body as in `make_body`. `event_of(make_body(hook), id=...)` sets more
    than the body."""
    return event_of(make_body(hook, **fields))


def make_request(
    *fields: str,
    customer_uid: str | None = CUSTOMER,
    address: str | None = None,
    organisation: str = ORGANISATION,
    not_by_address: Iterable[str] = (),
    seconds: float = 3.0,
) -> CustomValueRequest:
    """A custom value request for these fields that is to be answered within `seconds`; `customer_uid=None` is a
    conversation that began inbound."""
    return CustomValueRequest(
        organisation=organisation,
        fields=fields,
        customer_uid=customer_uid,
        outbound_channel_address=address,
        not_by_address=frozenset(not_by_address),
        expires=time.monotonic() + seconds,
    )


def make_context(directory: Path, *, name: str = "plugin", organisations: Iterable[str] = (ORGANISATION,)) -> Context:
    """The argument of `startup`; `directory` is the folder of the config file, and `state_dir` is below it. `spawn`
    runs tasks on the event loop of the test."""
    return Context(
        name=name,
        log=logging.getLogger(f"plugins.{name}"),
        directory=directory,
        organisations=tuple(organisations),
        state=directory / "plugins" / name,
        spawner=_spawn,
    )


def _spawn(work: Coroutine[Any, Any, object], name: str | None) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work.close()
        raise
    task = loop.create_task(work, name=name)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(body), ensure_ascii=False).encode()
