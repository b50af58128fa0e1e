"""`gateway filter`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from gateway.cli.filters import filter_options, require_known
from gateway.cli.options import config_option, json_option
from gateway.cli.output import on_terminal, print_json, print_table, progress, report_search, show_time
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.decoding import Decoder
    from gateway.events import Event
    from gateway.journal.interface import Filter
    from gateway.journal.search import EventRow
    from gateway.plugin_host.where.expression import Expression

STEP: Final = 500
"""Events between two steps of the progress."""
LISTED: Final = 50
"""Events that are listed on a terminal, the newest ones; all are counted."""


class _Hit(NamedTuple):
    """An event that a plugin would get; `error` is why the expression fails on it, or None."""

    row: EventRow
    error: str | None


class _Trial:
    """An expression on one event after the other, with counts."""

    def __init__(self, expression: Expression, decoder: Decoder, show: Callable[[int, int], None] | None) -> None:
        self.matched = 0
        self.of = 0
        self.errors: Counter[str] = Counter()
        self._expression = expression
        self._decoder = decoder
        self._show = show

    def hits(self, rows: Iterable[EventRow]) -> Iterator[_Hit]:
        """The events that a plugin would get."""
        from gateway.plugin_host.where.outcome import NotEvaluated

        for row in rows:
            self.of += 1
            if self._show is not None and self.of % STEP == 0:
                self._show(self.of, self.of)
            try:
                if self._expression.matches(_event(row, self._decoder)):
                    self.matched += 1
                    yield _Hit(row, None)
            except NotEvaluated as error:
                self.errors[str(error)] += 1
                yield _Hit(row, str(error))

    def counts(self) -> dict[str, int]:
        return {"matched": self.matched, "of": self.of, "errors": self.errors.total()}

    def sentence(self) -> str:
        found = f"{self.matched:,} of {self.of:,} events match"
        if not self.errors:
            return found
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.errors.most_common())
        return f"{found}; on {counted(self.errors.total(), 'event')} it fails, and a plugin gets these, too: {reasons}"


@click.command("filter")
@click.argument("expression", metavar="EXPR")
@filter_options(states=True, arguments=False)
@config_option
@json_option
def command(expression: str, which: Filter, config_path: Path, as_json: bool) -> None:
    """Try an expression for `where` on what was received.

    Lists the events that a plugin with this `where` would get, oldest first: those of which EXPR is true, and those on
    which it fails. The options choose the events to try it on, as in `gateway events`. Nothing is delivered, and the
    gateway may run or not. What an expression can have is in docs/filters.md.

    With --json each line is an event that matches, and the last line has the counts.

    \b
    Examples:
      gateway filter 'payload.amount > 100' --since 1h
      gateway filter 'payload.amount > 100 && has(payload.reference)' --hook payment --since today
      gateway filter 'event.customer_uid == null' --json | tail -1
    """
    from gateway.config.load import load_config
    from gateway.decoding import Decoder
    from gateway.journal import open_reader
    from gateway.plugin_host.where.expression import Expression

    if which.plugin is not None and which.state is None:
        raise click.UsageError("--plugin needs --state: the state of an event is a plugin's")
    try:
        compiled = Expression(expression)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="EXPR") from None
    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    with closing(open_reader(config)) as reader, progress("Trying") as show:
        trial = _Trial(compiled, Decoder(config), show)
        hits: Iterable[_Hit] = trial.hits(reader.events(which))
        if as_json:
            for hit in hits:
                if hit.error is None:
                    print_json(hit.row)
            print_json(trial.counts())
        else:
            listed = deque(hits, LISTED) if on_terminal() else hits
            print_table(("received (UTC)", "hook", "conversation", "id", "result"), map(_cells, listed))
        report_search(reader)
    if not as_json:
        click.echo(trial.sentence())


def _event(row: EventRow, decoder: Decoder) -> Event:
    """The event as a plugin gets it: what was unknown, or could not be read, is tried again."""
    from gateway.events import Event

    raw = bytes(row.body)
    decoded = decoder.decode_kept(row.organisation, raw, row.hook, row.name)
    return Event(
        id=row.id,
        received_at=row.received_at,
        organisation=row.organisation,
        hook=decoded.hook,
        payload=decoded.payload,
        raw=raw,
        readable=decoded.readable,
        conflict=row.conflict,
        conversation_id=row.conversation_id,
        customer_uid=row.customer_uid,
        name=decoded.name,
    )


def _cells(hit: _Hit) -> list[str]:
    row = hit.row
    result = "matches" if hit.error is None else f"fails: {hit.error}"
    return [show_time(row.received_at), row.hook, row.conversation_id or "-", row.id, result]
