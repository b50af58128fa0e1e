"""Traces by OpenTelemetry: one from a request through its commit to each plugin's call. OpenTelemetry is loaded only
where `[tracing]` has an endpoint.

Spans are made when what they tell of is over, so they are in no answer's way: a bounded queue takes them, and a thread
of OpenTelemetry's sends them. When the queue is full, spans are dropped.

The commit's span is the parent of the plugins' calls. An event's id has 128 bits, so it is also its trace's id, and its
lower half is the id of the commit's span: a call minutes later, or after a restart, needs nothing but the event. Where
the request continues the trace of its sender (`traceparent`), that trace's id is remembered for the newest `REMEMBERED`
events; a later call belongs to the event's own trace, to which the commit's span has a link.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from gateway.config.convert import Problem
from gateway.config.tables import TracingSettings
from gateway.decoding import Decoded
from gateway.events import Event
from gateway.journal.interface import Receipt

Append = Callable[[str, Decoded, bytes], Awaitable[Receipt]]
"""Keeps an event: organisation, what was decoded, body."""
QUEUE: Final = 4096
REMEMBERED: Final = 10_000
STOP_SECONDS: Final = 1.0
"""How long the end of the gateway waits for spans to be sent."""
SEND_SECONDS: Final = 5.0
_PARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def missing_extra(settings: TracingSettings) -> list[Problem]:
    """The fault where traces are wanted and OpenTelemetry is not installed. It is looked for, and not imported."""
    if settings.endpoint is None or find_spec("opentelemetry") is not None:
        return []
    message = 'needs the extra "otel", which is not installed: pip install "webio-gateway[otel]"'
    return [Problem("tracing.endpoint", message)]


class Parent(NamedTuple):
    """A span that others are children of."""

    trace: int
    span: int
    sampled: bool


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> Parent | None:
    """The span that a request's `traceparent` names; None where it has none that is valid."""
    found = [value for name, value in headers if name == b"traceparent"]
    match = _PARENT.fullmatch(found[0]) if len(found) == 1 else None
    if match is None:
        return None
    trace, span = int(match[1], 16), int(match[2], 16)
    return Parent(trace, span, bool(int(match[3], 16) & 1)) if trace and span else None


class Tracing:
    """Makes the spans of one gateway, and has them sent."""

    def __init__(self, settings: TracingSettings, node: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._api: Any = trace
        self._span_type: Any = ReadableSpan
        self._ratio = settings.ratio
        self._resource = Resource.create(
            {
                "service.name": "webio-gateway",
                "service.version": version("webio-gateway"),
                "service.instance.id": str(node),
            }
        )
        self._scope = InstrumentationScope("webio-gateway")
        self._continued: OrderedDict[str, Parent] = OrderedDict()
        logging.getLogger("opentelemetry").setLevel(
            logging.ERROR
        )  # it warns of each span that is dropped, and each retry
        exporter = OTLPSpanExporter(endpoint=str(settings.endpoint), timeout=SEND_SECONDS)
        self._processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE, max_export_batch_size=512)

    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> RequestTrace:
        """The trace of a request that begins now."""
        return RequestTrace(self, parent_of(headers))

    def delivered(self, plugin: str, event: Event, begun: float, seconds: float, error: str | None) -> None:
        """A plugin's call with an event is over. It began at `begun`, in seconds since 1970; `error` is the type of
        what it raised, or None."""
        parent = self._continued.get(event.id) or self.own(event.id)
        attributes = {
            "gateway.plugin": plugin,
            "gateway.event_id": event.id,
            "gateway.hook": event.hook,
            "gateway.attempt": event.attempt,
            "gateway.redelivered": event.redelivered,
        }
        if error is not None:
            attributes["error.type"] = error
        self.emit(f"deliver to {plugin}", parent, _random(64), begun, begun + seconds, "CONSUMER", attributes, error)

    def own(self, event_id: str) -> Parent:
        """The commit's span in the trace that has the event's id."""
        number = int(event_id.replace("-", ""), 16)
        span = number & 0xFFFFFFFFFFFFFFFF
        return Parent(number, span, (span & 0x3FFFFFFFFFFFFFFF) < self._ratio * 2**62)

    def keep(self, event_id: str, parent: Parent) -> None:
        """Calls with this event belong to this parent."""
        self._continued[event_id] = parent
        while len(self._continued) > REMEMBERED:
            self._continued.popitem(last=False)

    def emit(
        self,
        name: str,
        parent: Parent | None,
        span: int,
        begun: float,
        ended: float,
        kind: str,
        attributes: dict[str, Any],
        error: str | None = None,
        *,
        trace: int = 0,
        links: Sequence[Parent] = (),
    ) -> None:
        """Queue a span that is over; times are in seconds since 1970. Without a parent it begins the trace `trace`."""
        if parent is not None and not parent.sampled:
            return
        api = self._api
        status = api.Status(api.StatusCode.ERROR, error) if error else api.Status()
        self._processor.on_end(
            self._span_type(
                name,
                context=self._context(Parent(trace if parent is None else parent.trace, span, True), remote=False),
                parent=None if parent is None else self._context(parent, remote=True),
                resource=self._resource,
                attributes=attributes,
                links=[api.Link(self._context(link, remote=True)) for link in links],
                kind=api.SpanKind[kind],
                status=status,
                start_time=int(begun * 1e9),
                end_time=int(ended * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def _context(self, parent: Parent, remote: bool) -> Any:
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(parent.trace, parent.span, is_remote=remote, trace_flags=flags)

    def sampled(self) -> bool:
        """Whether a trace that begins here, of a request that was not kept, is sent."""
        return random.random() < self._ratio  # noqa: S311

    def stop(self) -> None:
        """Send what is queued, for at most `STOP_SECONDS`; blocks."""
        thread = threading.Thread(target=self._processor.shutdown, name="end of tracing", daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)


class RequestTrace:
    """One POST, and its commit where it was kept."""

    def __init__(self, tracing: Tracing, parent: Parent | None) -> None:
        self._tracing = tracing
        self._parent = parent
        self._begun = self._committing = time.time()
        self._committed = 0.0
        self._kept: Receipt | None = None
        self._status = 0

    def watching(self, send: Any) -> Any:
        """`send`, with the status of the answer noted."""

        async def noting(message: Any) -> None:
            self._status = message.get("status", self._status)
            await send(message)

        return noting

    def appending(self, append: Append) -> Append:
        """`append`, with the time of the commit and the event noted."""

        async def noting(organisation: str, decoded: Decoded, raw: bytes) -> Receipt:
            self._committing = time.time()
            kept = self._kept = await append(organisation, decoded, raw)
            self._committed = time.time()
            if self._parent is not None:
                self._tracing.keep(kept.id, self._parent._replace(span=self._tracing.own(kept.id).span))
            return kept

        return noting

    def end(self) -> None:
        """The request is answered."""
        tracing, ended = self._tracing, time.time()
        attributes: dict[str, Any] = {"http.request.method": "POST", "http.response.status_code": self._status}
        error = str(self._status) if self._status >= 500 else None
        span = _random(64)
        if self._kept is None:
            if self._parent is not None or tracing.sampled():
                tracing.emit(
                    "POST", self._parent, span, self._begun, ended, "SERVER", attributes, error, trace=_random(128)
                )
            return
        own = tracing.own(self._kept.id)
        if self._parent is None and not own.sampled:
            return
        about = {"gateway.event_id": self._kept.id, "gateway.hook": self._kept.hook}
        tracing.emit(
            "POST", self._parent, span, self._begun, ended, "SERVER", attributes | about, error, trace=own.trace
        )
        request = Parent(own.trace if self._parent is None else self._parent.trace, span, True)
        if self._parent is not None:
            request = request._replace(sampled=self._parent.sampled)
        links = () if self._parent is None else (own,)
        tracing.emit("commit", request, own.span, self._committing, self._committed, "INTERNAL", about, links=links)


def _random(bits: int) -> int:
    return random.getrandbits(bits) or 1
