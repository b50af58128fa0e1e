"""The admin listener answers as `/api/openapi.json` says, whatever it is sent: asked by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from running import RunningGateway, eventually, running
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.http.api.openapi import document
from gateway.simulate import body, encode

PICKY = """
    from gateway import Reject, hookimpl

    class Plugin:
        @hookimpl
        def on_payment(self, event, payload):
            raise Reject("no such account")

        @hookimpl
        def on_inbound_message(self, event, payload):
            pass
"""
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """With events, dead letters, value requests and an operation."""
    text = "[plugins.picky]\n[plugins.static_values.values]\nbalance = '12'\n[values]\naudit = true\n"
    with running(tmp_path_factory.mktemp("schema"), text, plugins={"picky": PICKY}) as started:
        with started.client() as client:
            for hook in ("payment", "inbound-message", "inbound-message"):
                assert client.post(encode(body(hook))).status == 200
            assert client.post(b'{"type":"somethingNew"}').status == 200
        eventually(lambda: bool(httpx.get(f"{started.admin_url}/api/dead/groups").json()))
        asked = {"kind": "discard", "filter": {"hook": "set-status"}}
        assert httpx.post(f"{started.admin_url}/api/operations", json=asked).status_code == 202
        yield started


schema = schemathesis.openapi.from_dict(msgspec.json.decode(document())).exclude(path="/changes")  # does not end


@schema.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_every_answer_is_as_described(case: schemathesis.Case[Any], gateway: RunningGateway) -> None:
    """To valid requests and to invalid ones: no server error, a status, media type and document of the description, and
    what is not valid is refused."""
    case.call_and_validate(base_url=gateway.admin_url, checks=CHECKED)
