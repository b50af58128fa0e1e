"""What an erasure selects, and what it did."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from gateway.selector import address_key

if TYPE_CHECKING:
    from gateway.journal.interface import Filter
    from gateway.journal.search import ValueRecord


class Erased(NamedTuple):
    """How many events and records of custom value requests were erased, and the positions that the events had."""

    events: int
    value_records: int
    seqs: Collection[int]


def names_in(which: Filter) -> set[tuple[str, str]]:
    """The customer, address and conversation that a filter names, each with its kind."""
    address = None if which.address is None else address_key(which.address)
    named = {"customer": which.customer, "address": address, "conversation": which.conversation}
    return {(kind, value) for kind, value in named.items() if value}


def is_about(record: ValueRecord, which: Filter) -> bool:
    """Whether a custom value request was about the filter's customer."""
    same = which.customer is not None and record.customer_uid == which.customer
    return same and which.organisation in (None, record.organisation)
