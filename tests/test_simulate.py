"""Simulated requests look like Webio's, and no two are alike."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from running import write_config

from gateway.config.load import load_config
from gateway.decoding import decode, hook_names
from gateway.events import HOOKS
from gateway.http.tokens import TokenChecker
from gateway.simulate import Client, Unreachable, body, conversation, encode, local_address, token, url_of

NAMES = hook_names({})
DOCUMENTED = {
    "inbound-message": (
        "type conversationId communicationActionId outboundChannelAddress inboundChannelAddress customerUID body "
        "dateCreated"
    ),
    "message-send": (
        "type conversationId communicationActionId outboundChannelAddress inboundChannelAddress customerUID body "
        "dateCreated statusCode"
    ),
    "delivery-report": (
        "type conversationId communicationActionId outboundChannelAddress inboundChannelAddress customerUID "
        "dateCreated statusCode"
    ),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_simulated_body_is_read_as_its_hook(hook: str) -> None:
    """The gateway reads every simulated body as the hook it was made for, by its type alone."""
    decoded = decode(encode(body(hook)), None, NAMES, UTC)

    assert (hook, True) == (decoded.hook, decoded.readable)
    assert decoded.conversation_id
    assert decoded.created is not None


@pytest.mark.parametrize("hook", DOCUMENTED)
def test_documented_hooks_have_exactly_the_documented_fields(hook: str) -> None:
    """Same keys, same order, every value a text."""
    made = body(hook)

    assert DOCUMENTED[hook].split() == list(made)
    assert all(isinstance(value, str) for value in made.values())


def test_the_date_is_now_in_webios_own_format() -> None:
    """A space, milliseconds, no zone."""
    created = datetime.strptime(body("payment")["dateCreated"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)

    assert len(body("payment")["dateCreated"]) == 23
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60


def test_no_two_bodies_are_alike() -> None:
    """Even when made at once by several threads, so that none is taken for a duplicate."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: encode(body("inbound-message")), range(4000)))

    assert len(set(made)) == 4000
    assert len({json.loads(text)["conversationId"] for text in made}) == 4000


def test_a_conversation_has_each_hook_once() -> None:
    """All eight, under one conversation id."""
    events = conversation()

    assert list(HOOKS) == [hook for hook, _ in events]
    assert len({made["conversationId"] for _, made in events}) == 1


def test_phone_numbers_are_fictional() -> None:
    """They are from the range that is kept free for films and books."""
    assert body("payment")["outboundChannelAddress"].startswith("447700900")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("gate", "gate")],
)
def test_a_listener_on_every_address_is_reached_on_loopback(host: str, expected: str) -> None:
    """The address to connect to from this machine."""
    assert expected == local_address(host)


def test_the_url_is_the_public_listeners(tmp_path: Path) -> None:
    """Port and base path come from the config."""
    config = load_config(write_config(tmp_path, 'path = "/in/webio"\n'))

    assert f"http://127.0.0.1:{config.server.port}/in/webio" == url_of(config.server)


def test_the_token_is_good_for_its_organisation(tmp_path: Path) -> None:
    """It is signed with the configured secret and has the claims that the config requires."""
    path = write_config(tmp_path)
    path.write_text(path.read_text() + '\n[organisations.acme.claims]\norgId = "4711"\n')
    organisations = load_config(path).organisations

    accepted = TokenChecker(organisations).verify(token(organisations["acme"]).encode())

    assert accepted.organisation == "acme"
    assert accepted.claims["orgId"] == "4711"


def test_an_address_without_a_listener_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    """Not a stack of connection errors."""
    config = load_config(write_config(tmp_path))

    with (
        Client(config, "acme") as client,
        pytest.raises(Unreachable, match=rf"^no answer from {url_of(config.server)}: Connection refused$"),
    ):
        client.post(encode(body("payment")))
