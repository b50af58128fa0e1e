"""What must never be seen: through a gateway that is fed good and bad requests, at log level debug, with a plugin
that says what it should not, not one of the canaries comes out where they do not belong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest
from raw_http import Requests, talk
from running import RunningGateway, eventually, running

from gateway import simulate

SECRET = "canary-secret-0123456789-abcdefghijklmnop"
PHONE = "447700900987"
TEXT = "Kanarienvogel am Morgen"
CUSTOMER = "CANARY-778899"
PASSWORD = "canary-password-of-the-database"
CLAIM = "canary-claim-of-the-organisation"

TELLTALE = """
    import logging
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        async def startup(self, context):
            self.log = context.log

        @hookimpl
        async def on_event(self, event):
            raise RuntimeError(f"cannot reach the customer at {event.fields().get('outboundChannelAddress')}")

        @hookimpl
        def on_payment(self, event, payload):
            raise SystemExit(f"no {payload.outbound_channel_address}")

        @hookimpl
        async def custom_values(self, request):
            raise LookupError(f"{request.outbound_channel_address} is nobody")
"""
CONFIG = """
    [log]
    level = "debug"

    [organisations.acme.claims]
    tenant = "{claim}"

    [plugins.logging]
    [plugins.archive]
    directory = "archive"
    [plugins.telltale]
    backoff = "1ms"
    backoff_max = "2ms"
    give_up_after = "20ms"

    [plugins.sql_values]
    url = {{ env = "DATABASE_URL" }}
    [[plugins.sql_values.queries]]
    sql = "SELECT balance FROM customers WHERE uid = :customer_uid"
    [plugins.locked]
    use = "sql_values"
    url = "postgresql+asyncpg://gateway@127.0.0.1:9/crm"
    password = {{ file = "database.password" }}
    [[plugins.locked.queries]]
    sql = "SELECT name FROM customers WHERE phone = :outbound_channel_address"
"""


class Watched(NamedTuple):
    """A gateway, everything that came out of it, and what must not be in there."""

    gateway: RunningGateway
    outputs: dict[str, str]
    canaries: dict[str, str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("canaries")
    (directory / "database.password").write_text(PASSWORD)
    (directory / "database.password").chmod(0o600)
    environment = {"DATABASE_URL": f"postgresql+asyncpg://gateway:{PASSWORD}@127.0.0.1:9/crm"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("running.SECRET", SECRET)
        patch.setenv("DATABASE_URL", environment["DATABASE_URL"])  # the test reads the config, too
        text = CONFIG.format(claim=CLAIM)
        with running(directory, text, plugins={"telltale": TELLTALE}, environment=environment) as gateway:
            token = Requests(gateway).token.decode()
            outputs = {f"answers: {name}": text for name, text in ask_everything(gateway, token)}
            eventually(lambda: gateway.text.count("is a dead letter") >= 3)
            outputs |= look_everywhere(gateway)
            signature = token.rpartition(".")[2]
            canaries = {"token": token, "signature": signature, "secret": SECRET, "phone": PHONE, "text": TEXT}
            canaries |= {"text in JSON": json.dumps(TEXT), "database": PASSWORD, "claim": CLAIM, "customer": CUSTOMER}
            yield Watched(gateway, outputs, canaries)


def ask_everything(gateway: RunningGateway, token: str) -> Iterator[tuple[str, str]]:
    """Requests of every kind, good and bad; yields the bodies of the answers."""
    fields = simulate.body("inbound-message", customer_uid=CUSTOMER)
    fields |= {"outboundChannelAddress": PHONE, "body": TEXT}
    good = {"x-webio-token": token}
    values = {"customerUID": CUSTOMER, "outboundChannelAddress": PHONE, "param1": "balance", "param2": "name"}
    unreadable = {**fields, "communicationActionId": {"phone": PHONE}}
    with httpx.Client(base_url=gateway.url) as client:

        def post(name: str, body: bytes, headers: dict[str, str] = good, path: str = "") -> tuple[str, str]:
            return name, client.post(path, content=body, headers=headers).text

        event = simulate.encode(fields)
        yield post("event", event)
        yield post("duplicate", event)
        yield post("conflict", simulate.encode({**fields, "note": TEXT}))
        yield post("payment", simulate.encode({**fields, "type": "payment"}))
        yield post("unknown", simulate.encode({**fields, "type": PHONE}))
        yield post("unreadable", simulate.encode(unreadable))
        yield post("half", event[:-10])
        yield post("list", b"[%b]" % event)
        yield post("bytes", event[:-1] + b"\xff}")
        yield post("no token", event, {})
        yield post("bad signature", event, {"x-webio-token": token[:-3] + "abc"})
        yield post("no claims", event, {"x-webio-token": token.rpartition(".")[0] + "." + "A" * 43})
        yield post("two tokens", event, {"x-webio-token": f"{token}, {token}"})
        yield post("the secret as token", event, {"x-webio-token": SECRET})
        yield post("wrong path", event, path=f"/{PHONE}")
        yield post("token as path", event, path=f"/{token}")
        yield post("text as path", event, path=f"/{TEXT}")
        yield post("too large", event + b" " * 2**21)
        yield "wrong method", client.put("", content=event, headers=good).text
        yield "values", client.get("", params=values, headers=good).text
        yield "values without a token", client.get("", params=values).text
        yield "values of a phone", client.get("", params={**values, "customerUID": ""}, headers=good).text
        yield "too many fields", client.get("", params={f"param{n}": PHONE for n in range(100)}, headers=good).text
    requests = Requests(gateway)
    for cut in (len(event) // 2, len(event) - 1):
        talk(requests.port, requests.head(b"Content-Length: %d" % len(event)) + event[:cut], wait=0.01)
    yield (
        "bad chunks",
        talk(requests.port, requests.head(b"Transfer-Encoding: chunked") + b"zz\r\n" + event).body.decode(),
    )
    with socket.create_connection(("127.0.0.1", requests.port)) as connection:
        connection.sendall(requests.post(event))


def look_everywhere(gateway: RunningGateway) -> dict[str, str]:
    """What an operator, a monitor or another user of the machine may see."""
    found = {}
    with httpx.Client(base_url=gateway.admin_url) as client:
        for path in (
            "/metrics",
            "/health/ready",
            "/nope",
            "/api/operations",
            "/api/status",
            "/api/config",
            "/api/drift",
        ):
            found[path] = client.get(path).text
        for path in ("/", "/find", "/find?q=hook:payment", "/trouble", "/values", "/drift", "/config", "/sign-in"):
            found[path] = client.get(path).text
    for command in (["check"], ["check", "--json"], ["plugins", "--json"], ["dead", "--json"]):
        result = gateway.cli(*command)
        found["gateway " + " ".join(command)] = result.stdout + result.stderr
    supervisor = psutil.Process(gateway.process.pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        found[f"/proc/{process.pid}/cmdline"] = Path(f"/proc/{process.pid}/cmdline").read_text()
    return found


def test_the_requests_did_what_they_should(watched: Watched) -> None:
    """Else there would be nothing to be seen: events kept and shown, plugins failing, providers failing."""
    answers = watched.outputs
    assert '"hook":"inbound-message","duplicate":false' in answers["answers: event"]
    assert '"duplicate":true' in answers["answers: duplicate"]
    assert '"readable":false' in answers["answers: unreadable"]
    assert '"status":401' in answers["answers: bad signature"]
    assert '"status":400' in answers["answers: half"]
    assert '"status":502' in answers["answers: values"]
    assert "plugin telltale: event " in watched.gateway.text
    assert "401 POST from 127.0.0.1: " in watched.gateway.text
    assert '"hook":"inbound-message"' in watched.gateway.text  # the logging plugin's lines
    assert "RuntimeError" in watched.outputs["gateway dead --json"]
    archived = "".join(path.read_text() for path in (watched.gateway.directory / "archive").rglob("*.jsonl"))
    assert PHONE in archived
    assert TEXT in archived


def test_no_canary_anywhere(watched: Watched) -> None:
    """Not in the log, the answers, the metrics, the commands' output, or the list of processes."""
    outputs = {**watched.outputs, "the log": watched.gateway.text}
    seen = [
        (place, name)
        for place, text in outputs.items()
        for name, canary in watched.canaries.items()
        if canary.lower() in text.lower()
    ]
    assert seen == []


def test_no_traceback_and_no_5xx_of_its_own(watched: Watched) -> None:
    """At level debug, too, where nothing unexpected happened."""
    assert "Traceback" not in watched.gateway.text
    assert not [name for name, text in watched.outputs.items() if "Internal server error" in text]
