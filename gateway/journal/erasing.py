"""How long events are kept; what an erasure selects, and what it did."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from gateway.selector import address_key

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.interface import Filter
    from gateway.journal.search import ValueRecord


class Retention(NamedTuple):
    """How long events are kept, in microseconds: by default, and by hook where that differs."""

    default: int
    of_hooks: dict[str, int]

    @classmethod
    def of(cls, config: Config) -> Retention:
        """That of a config, in microseconds."""
        kept = {name: hook.retention for name, hook in config.hooks.items() if hook.retention is not None}
        of_hooks = {name: int(retention * 1_000_000) for name, retention in kept.items()}
        return cls(int(config.journal.retention * 1_000_000), of_hooks)

    @property
    def shortest(self) -> int:
        """The shortest of them."""
        return min(self.default, *self.of_hooks.values()) if self.of_hooks else self.default

    def is_over(self, hook: str, received_at: int, now: int) -> bool:
        """Whether an event has been kept for long enough."""
        return received_at < now - self.of_hooks.get(hook, self.default)


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
