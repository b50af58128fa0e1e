"""Traces: what an OTLP receiver in this process gets from a gateway that really runs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from running import RunningGateway, eventually, read_config, running

from gateway import tracing as traces
from gateway.config.tables import TracingSettings
from gateway.http.tokens import mint
from gateway.preflight import examine_config
from gateway.testing import running_gateway

PHONE, UID, CONVERSATION, TEXT = "447700900123", "customer-4711", "conversation-77", "a private word"
EVENT = (
    f'{{"type":"payment","conversationId":"{CONVERSATION}","customerUID":"{UID}",'
    f'"outboundChannelAddress":"{PHONE}","body":"{TEXT}","reference":"{TEXT}"}}'
).encode()
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLUGIN = """
    import sys
    from pathlib import Path
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        def startup(self, context):
            self.folder = context.directory

        @hookimpl
        def on_event(self, event):
            (self.folder / "loaded").write_text(str(sorted(name for name in sys.modules if "opentelemetry" in name)))
            if not (self.folder / "open").exists():
                raise RuntimeError("447700900123 is not served")
"""


class Collector:
    """An OTLP receiver: `spans` are what came, by name."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Any]] = {}
        self.resources: list[dict[str, str]] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for one in request.resource_spans:
                    received.resources.append({each.key: each.value.string_value for each in one.resource.attributes})
                    for scope in one.scope_spans:
                        for span in scope.spans:
                            received.spans.setdefault(span.name, []).append(span)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, name: str, count: int = 1) -> Any:
        """The newest span of this name, once that many have come."""
        eventually(lambda: len(self.spans.get(name, ())) >= count, within=30)
        return self.spans[name][-1]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    with contextlib.closing(found):
        yield found


def config(endpoint: str) -> str:
    delivery = '[delivery]\nbackoff = "50ms"\nbackoff_max = "200ms"\n'
    return f'[node]\nname = "gw-1"\n[tracing]\nendpoint = "{endpoint}"\n{delivery}[plugins.crm]\n'


def post(gateway: RunningGateway, **headers: str) -> str:
    """The id of the event."""
    token = {"x-webio-token": mint(gateway.config.organisations["acme"])}
    answer = httpx.post(gateway.url, content=EVENT, headers={**token, **headers})
    assert answer.status_code == 200
    return str(answer.json()["id"])


def test_one_trace_from_the_request_to_the_plugin(tmp_path: Path, collector: Collector) -> None:
    """It continues that of the sender; each attempt is a span of its own, and none has personal data."""
    with running(tmp_path, config(collector.url), plugins={"crm": PLUGIN}) as gateway:
        event = post(gateway, traceparent=f"00-{TRACE}-{SPAN}-01")
        failed = collector.wait("deliver to crm")
        (tmp_path / "open").touch()
        eventually(lambda: any(not span.status.code for span in collector.spans["deliver to crm"]), within=30)
        request, commit = collector.wait("POST"), collector.wait("commit")
        spans = [request, commit, *collector.spans["deliver to crm"]]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert request.parent_span_id.hex() == SPAN
    assert commit.parent_span_id == request.span_id
    assert {span.parent_span_id for span in spans[2:]} == {commit.span_id}
    assert [link.trace_id.hex() for link in commit.links] == [event.replace("-", "")]
    assert request.start_time_unix_nano <= commit.start_time_unix_nano <= commit.end_time_unix_nano
    assert commit.end_time_unix_nano <= request.end_time_unix_nano
    attributes = {one.key: one.value for one in failed.attributes}
    assert attributes["error.type"].string_value == "RuntimeError"
    assert attributes["gateway.event_id"].string_value == event
    assert collector.resources[0]["service.name"] == "webio-gateway"
    assert collector.resources[0]["service.instance.id"] == "gw-1"
    told = "".join(map(str, spans)) + str(collector.resources)
    assert not [private for private in (PHONE, UID, CONVERSATION, TEXT) if private in told]


def test_a_call_after_a_restart_belongs_to_the_trace_of_its_event(tmp_path: Path, collector: Collector) -> None:
    """The event's id is enough: it is the trace's id, and half of it the id of the commit's span."""
    with running(tmp_path, config(collector.url), plugins={"crm": PLUGIN}) as gateway:
        event = post(gateway).replace("-", "")
        request, commit = collector.wait("POST"), collector.wait("commit")
        assert request.trace_id.hex() == commit.trace_id.hex() == event
        assert not request.parent_span_id
        collector.wait("deliver to crm")
        gateway.kill()
        (tmp_path / "open").touch()
        before = len(collector.spans["deliver to crm"])
        gateway.start()
        late = collector.wait("deliver to crm", before + 1)
        eventually(lambda: any(not span.status.code for span in collector.spans["deliver to crm"]), within=30)
        assert (late.trace_id.hex(), late.parent_span_id) == (event, commit.span_id)


async def test_what_is_queued_is_sent_at_the_end(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that stops just after an event has sent its spans, which wait 5 s for others else."""
    monkeypatch.setattr(traces, "STOP_SECONDS", 30.0)
    async with running_gateway(f'[tracing]\nendpoint = "{collector.url}"\n', directory=tmp_path) as gateway:
        await gateway.webio.send()
    assert {name: len(spans) for name, spans in collector.spans.items()} == {"POST": 1, "commit": 1}


def test_a_sender_that_does_not_sample_is_obeyed(tmp_path: Path, collector: Collector) -> None:
    """And a `traceparent` that is not valid begins a new trace."""
    (tmp_path / "open").touch()
    with running(tmp_path, config(collector.url), plugins={"crm": PLUGIN}) as gateway:
        post(gateway, traceparent=f"00-{TRACE}-{SPAN}-00")
        events = [
            post(gateway, traceparent=odd) for odd in (f"00-{'0' * 32}-{SPAN}-01", "odd", f"ff-{TRACE}-{SPAN}-01")
        ]
        collector.wait("deliver to crm", 3)
    traced = {span.trace_id.hex() for spans in collector.spans.values() for span in spans}
    assert traced == {event.replace("-", "") for event in events}


def test_nothing_of_it_is_loaded_without_an_endpoint(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    with running(tmp_path, "[plugins.crm]\n", plugins={"crm": PLUGIN}) as gateway:
        post(gateway)
        eventually((tmp_path / "loaded").exists)
        assert (tmp_path / "loaded").read_text() == "[]"


def test_an_endpoint_that_does_not_answer_delays_nothing(tmp_path: Path) -> None:
    """Events are taken, delivered, and the gateway stops in time, although nobody takes the spans."""
    (tmp_path / "open").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        with running(tmp_path, config(url), plugins={"crm": PLUGIN}) as gateway:
            for _ in range(20):
                post(gateway)
            page = f"{gateway.admin_url}/metrics"
            eventually(lambda: 'gateway_deliveries_total{plugin="crm"} 20.0' in httpx.get(page).text)
            assert gateway.stop() == 0


def test_the_queue_is_bounded() -> None:
    """More spans than fit are dropped, at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        tracing = traces.Tracing(TracingSettings(endpoint=endpoint), "gw-1")  # type: ignore[arg-type]
        for _ in range(3 * traces.QUEUE):
            tracing.emit("x", None, 1, time.time(), time.time(), "INTERNAL", {}, trace=1)
        for number in range(2 * traces.REMEMBERED):
            tracing.keep(str(number), traces.Parent(1, 1, True))
        assert len(tracing._continued) == traces.REMEMBERED
        assert len(tracing._processor._batch_processor._queue) <= traces.QUEUE
        tracing.stop()


def test_a_missing_extra_is_a_fault_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by `gateway check` and at the start, with the command that installs it."""
    monkeypatch.setattr(traces, "find_spec", lambda name: None)
    text = '[tracing]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n'
    examined = examine_config(read_config(tmp_path, text).source)
    assert [(problem.path, problem.message) for problem in examined.wiring] == [
        ("tracing.endpoint", 'needs the extra "otel", which is not installed: pip install "webio-gateway[otel]"')
    ]
    assert not examine_config(read_config(tmp_path / "off").source).wiring
