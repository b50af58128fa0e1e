"""Finding events by their customer, address, text or conversation."""

from __future__ import annotations

import pytest
from conformance.engines import Engine, fill, ids_in, put
from journal_kit import ACME, message, payment

from gateway.journal.interface import Filter, Journal


async def found(journal: Journal, **which: str) -> list[str]:
    return await ids_in(journal, Filter(**which))  # type: ignore[arg-type]


async def test_by_customer(engine: Engine) -> None:
    """The customer UID is compared as it is."""
    journal = await engine.open()
    ids = [*await fill(journal, 1, customerUID="12"), *await fill(journal, 1, customerUID="123")]
    await fill(journal, 1, customerUID="")
    assert await found(journal, customer="12") == ids[:1]
    assert await found(journal, customer="123") == ids[1:]
    assert await found(journal, customer="") == []


@pytest.mark.parametrize(
    "spelling", ["353861234567", "+353 86 123 4567", "(353) 86-123.4567", "tel:+353861234567", "whatsapp:+353861234567"]
)
async def test_by_a_phone_number_in_any_notation(engine: Engine, spelling: str) -> None:
    """Both sides are compared as the digits that a look-up of custom values would use."""
    journal = await engine.open()
    ids = await fill(journal, 1, outboundChannelAddress="+353 86 1234567")
    ids += await fill(journal, 1, outboundChannelAddress="whatsapp:353861234567")
    await fill(journal, 1, outboundChannelAddress="3538612345678")
    await fill(journal, 1, outboundChannelAddress="44", inboundChannelAddress="353861234567")
    assert await found(journal, address=spelling) == ids


async def test_by_another_address(engine: Engine) -> None:
    """An address that is no phone number is compared whole, without regard to case."""
    journal = await engine.open()
    ids = await fill(journal, 1, outboundChannelAddress="Ann.12345@example.com")
    await fill(journal, 1, outboundChannelAddress="12345")
    assert await found(journal, address=" ann.12345@EXAMPLE.com") == ids
    assert await found(journal, address="") == []


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("pay", [0]),
        ("PAY tomorrow", [0]),
        ("tomorrow, pay!", [0]),
        ("pay*", [0, 1]),
        ("tom* pay*", [0]),
        ("cafe", [2]),
        ("CAFÉ", [2]),
        ("strasse", [2]),
        ("12.50", [1]),
        ("paid yesterday", []),
        ("conversationId", []),
        ("...", []),
        ("", []),
    ],
)
async def test_by_the_words_of_a_message(engine: Engine, text: str, matches: list[int]) -> None:
    """All words must be in the message, in any order, without regard to case and accents; `*` marks a beginning."""
    journal = await engine.open()
    ids = []
    for body in ("I'll PAY it tomorrow", "payment of 12.50, paid_today", "the Café in the Straße"):
        ids += await fill(journal, 1, body=body)
    assert await found(journal, text=text) == [ids[index] for index in matches]


async def test_in_a_body_that_does_not_fit_its_hook(engine: Engine) -> None:
    """What is unreadable or unknown is found by the same keys."""
    journal = await engine.open()
    unreadable = (
        b'{"type":"inboundMessage","body":"hello there","outboundChannelAddress":353861234567,"conversationId":{}}'
    )
    unknown = (
        b'\xef\xbb\xbf{"type":"new","customerUID":"7","body":"hello\\ud83d","outboundChannelAddress":"353861234567"}'
    )
    ids = [(await put(journal, raw)).id for raw in (unreadable, unknown)]
    await put(journal, payment())
    assert await found(journal, address="+353861234567") == ids
    assert await found(journal, text="hello") == ids
    assert await found(journal, customer="7") == ids[1:]


async def test_all_conditions_together(engine: Engine) -> None:
    """Every one of them must hold."""
    journal = await engine.open()
    fields = {"customerUID": "7", "conversationId": "9", "body": "one two", "outboundChannelAddress": "353861234567"}
    ids = await fill(journal, 1, **fields)
    for name in fields:
        await put(journal, message(**(fields | {name: "another"})), ACME)
    which = {"customer": "7", "conversation": "9", "text": "two", "address": "353861234567"}
    assert await found(journal, **which) == ids
