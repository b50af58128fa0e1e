"""What `/metrics` shows, and that it costs the journal nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from asgi import InProcess, in_process
from journal_kit import until
from running import running, write_plugin

from gateway.http.tokens import mint
from gateway.journal.interface import JournalError
from gateway.journal.sqlite.journal import SqliteJournal

EVENT = b'{"type":"payment","conversationId":"c"}'
VALUES = "[plugins.static_values]\nvalues.balance = '120.50'\n"
TWO_SECRETS = """
[organisations.other]
secrets = [{ file = "new.secret" }, { file = "old.secret" }]
"""


async def page(gateway: InProcess) -> str:
    answer = await gateway.manage("GET", "/metrics")
    assert answer.status == 200
    return answer.body.decode()


def names(text: str) -> set[str]:
    """The time series of a page: names with their labels."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def test_the_page_asks_neither_the_journal_nor_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is complete while every access to them fails."""
    async with in_process(tmp_path, f'[plugins.archive]\ndirectory = "archive"\n{VALUES}') as gateway:
        await gateway.post(EVENT)
        await until(lambda: gateway.metrics()['gateway_deliveries_total{plugin="archive"}'] == 1)
        before = await page(gateway)
        asked: list[str] = []

        def refuse(name: str) -> Any:
            def run(*_: Any, **__: Any) -> NoReturn:
                asked.append(name)
                raise JournalError(name)

            return run

        await gateway.gateway.monitor.stop()  # what counts in the background
        for name in ("query", "operate", "_read", "_reader"):
            monkeypatch.setattr(SqliteJournal, name, refuse(name))
        monkeypatch.setattr(os, "statvfs", refuse("statvfs"))
        monkeypatch.setattr(Path, "stat", refuse("stat"))
        after = await page(gateway)
        monkeypatch.undo()
        assert asked == []
        assert names(after) == names(before)


async def test_senders_cannot_add_time_series(tmp_path: Path) -> None:
    """Organisations, hooks, types, fields, tokens, paths and methods of all kinds: labels stay those of the config."""
    async with in_process(tmp_path, VALUES) as gateway:
        for body in (EVENT, b'{"type":"x"}', b'{"type":"inboundMessage"}', b"[]"):
            await gateway.post(body)
        await gateway.request("POST", organisation=None)
        await gateway.request("PUT")
        for field in ("balance", "nothing"):
            await gateway.request("GET", query=b"param1=" + field.encode())
        for path in ("/nowhere", "/webio/a/b"):
            await gateway.request("POST", path, EVENT)
        before = names(await page(gateway))
        for number in range(50):
            hostile = f'odd"{number}\\n{{}}=,'
            await gateway.post(b'{"type":"t%d","organisation":"o%d"}' % (number, number))
            await gateway.request("POST", f"/webio/{hostile}", EVENT)
            await gateway.request("POST", f"/{hostile}", EVENT)
            await gateway.request("GET", query=f"param1=field{number}&customerUID={number}".encode())
            await gateway.request(f"M{number}")
            headers = [(b"x-webio-token", f"{number}.b.c".encode()), (b"x-request-id", hostile.encode())]
            await gateway.request("POST", "/webio", EVENT, headers=headers, organisation=None)
        added = {name for name in names(await page(gateway)) - before if "_bucket" not in name}
        assert added == {'gateway_requests_refused_total{reason="algorithm",status="401"}'} or added <= {
            f'gateway_requests_refused_total{{reason="{reason}",status="401"}}' for reason in ("malformed", "algorithm")
        }


async def test_commits_are_measured(tmp_path: Path) -> None:
    """Events by commit add up to the events kept, and each such commit has a time."""
    async with in_process(tmp_path) as gateway:
        for _ in range(5):
            await gateway.post(EVENT)
        metrics = gateway.metrics()
        assert metrics["gateway_commit_events_sum"] == 5
        assert 1 <= metrics["gateway_commit_events_count"] <= 5
        assert metrics["gateway_commit_seconds_count"] == metrics["gateway_commit_events_count"]
        assert metrics["gateway_commit_seconds_sum"] > 0
        assert metrics['gateway_answer_seconds_count{request="event"}'] == 5


async def test_every_attempt_of_a_plugin_is_measured(tmp_path: Path, site: Path) -> None:
    """Failed calls as well as those that succeed, each with its time."""
    write_plugin(
        site,
        "fussy",
        """
        from gateway import hookimpl

        class Plugin:
            calls = 0

            @hookimpl
            def on_event(self, event):
                Plugin.calls += 1
                if Plugin.calls < 3:
                    raise RuntimeError("not yet")
        """,
    )
    text = '[delivery]\nbackoff = "1ms"\nbackoff_max = "2ms"\n[plugins.fussy]\n'
    async with in_process(tmp_path, text) as gateway:
        await gateway.post(EVENT)
        await until(lambda: gateway.metrics()['gateway_deliveries_total{plugin="fussy"}'] == 1)
        metrics = gateway.metrics()
        assert metrics['gateway_delivery_attempts_total{plugin="fussy"}'] == 3
        assert metrics['gateway_delivery_failures_total{plugin="fussy"}'] == 2
        assert metrics['gateway_plugin_call_seconds_count{plugin="fussy"}'] == 3
        assert metrics['gateway_plugin_call_seconds_bucket{le="+Inf",plugin="fussy"}'] == 3


async def test_values_are_counted_by_outcome_and_provider(tmp_path: Path) -> None:
    """A field each; an operator's own question does not count."""
    async with in_process(tmp_path, VALUES) as gateway:
        await gateway.request("GET", query=b"param1=balance&param2=nothing")
        await gateway.request("GET", query=b"param1=balance")
        await gateway.manage("GET", "/api/values", query=b"organisation=acme&param1=balance")
        metrics = gateway.metrics()
        fields = "gateway_custom_value_fields_total"
        assert metrics[f'{fields}{{outcome="value",provider="static_values"}}'] == 2
        assert sum(value for name, value in metrics.items() if name.startswith(fields)) == 3
        breaker = 'gateway_provider_breaker{provider="static_values",state='
        assert [metrics[f'{breaker}"{state}"}}'] for state in ("closed", "open", "half-open")] == [1, 0, 0]
        assert metrics['gateway_provider_seconds_count{provider="static_values"}'] == 3


def test_the_secret_of_a_token_is_noted(tmp_path: Path) -> None:
    """By its index, also when the token is in the cache, and across a reload that changes the order of secrets."""
    for name in ("new", "old"):
        (tmp_path / f"{name}.secret").write_text(f"the {name} secret of thirty-two bytes or more")
        (tmp_path / f"{name}.secret").chmod(0o600)
    with running(tmp_path, TWO_SECRETS) as gateway:

        def used() -> Sequence[float]:
            metric = "gateway_secret_last_used_timestamp_seconds{"
            lines = httpx.get(f"{gateway.admin_url}/metrics").text.splitlines()
            found = {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric)
            }
            return [found[f'{metric}organisation="other",secret="{index}"}}'] for index in (0, 1)]

        assert used() == [0, 0]
        organisation = gateway.config.organisations["other"]
        old = mint(type(organisation)(secrets=organisation.secrets[1:]))
        times = []
        for _ in range(2):
            assert httpx.post(gateway.url, content=EVENT, headers={"x-webio-token": old}).status_code == 200
            times.append(used())
        assert times[0][0] == times[1][0] == 0
        assert 0 < times[0][1] < times[1][1]
        text = gateway.config_path.read_text()
        first, second = '{ file = "new.secret" }', '{ file = "old.secret" }'
        gateway.config_path.write_text(text.replace(f"{first}, {second}", f"{second}, {first}"))
        assert gateway.cli("reload").returncode == 0
        assert used() == [times[1][1], 0]
