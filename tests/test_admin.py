"""The admin listener: health, metrics, and what operators' commands ask of a running gateway."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi import InProcess, in_process
from prometheus_client.parser import text_string_to_metric_families
from raw_http import CLOSE, EVENT, Requests, talk
from running import RunningGateway, running, write_plugin

from gateway.http import readiness
from gateway.http.attempts import Attempts
from gateway.journal.interface import JournalError

StartGateway = Callable[..., RunningGateway]

PICKY = """
    from gateway import Reject, hookimpl

    rejecting = [True]

    class Plugin:
        @hookimpl
        async def on_event(self, event):
            if rejecting[0]:
                raise Reject("not today, 447700900123")
"""
HOST = (b"host", b"127.0.0.1")
JSON = (b"content-type", b"application/json")


@pytest.fixture
def picky(site: Path) -> Iterator[list[bool]]:
    """A plugin named picky that rejects every event until the only entry of the list is False."""
    write_plugin(site, "picky", PICKY)
    yield importlib.import_module("plugin_picky").rejecting


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def dead(gateway: InProcess) -> int:
    return sum(row.deliveries.get("picky") == "dead" for row in gateway.events())


# Health


async def test_live(tmp_path: Path) -> None:
    """`/health/live` answers 200 while the process answers at all. Monitors may use HEAD."""
    async with in_process(tmp_path, '[journal]\nmin_free = "1000 TiB"\n') as gateway:
        answer = await gateway.manage("GET", "/health/live")
        assert (answer.status, answer.document) == (200, {"live": True})
        assert (await gateway.manage("HEAD", "/health/live")).status == 200
        assert (await gateway.manage("HEAD", "/health/ready")).status == 503


async def test_the_address_that_is_printed_leads_somewhere(tmp_path: Path) -> None:
    """The path / is the first page of the dashboard."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.manage("GET", "/")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_ready_writes_and_reads(tmp_path: Path, picky: list[bool]) -> None:
    """`/health/ready` answers 200 after a real commit, with the health of each plugin and provider. Many requests at
    once share a commit, and so do those of a second."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        probed = 0
        probe = gateway.gateway.journal.probe

        async def watched() -> None:
            nonlocal probed
            await probe()
            probed += 1

        gateway.gateway.journal.probe = watched  # type: ignore[method-assign]
        for answer in await asyncio.gather(*(gateway.manage("GET", "/health/ready") for _ in range(50))):
            assert answer.status == 200
            assert answer.document["ready"] is True
            assert answer.document["journal"] == "ok"
            assert [(plugin["name"], plugin["healthy"]) for plugin in answer.document["plugins"]] == [("picky", True)]
            assert answer.document["providers"] == []
        assert probed == 1
        assert (await gateway.manage("GET", "/health/ready")).status == 200
        assert probed == 1


async def test_ready_probes_again_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shared is not used for longer, and a client that goes away does not end the probe of the others."""
    monkeypatch.setattr(readiness, "SHARED_SECONDS", 0.0)
    async with in_process(tmp_path) as gateway:
        probe, begun, go_on = gateway.gateway.journal.probe, [0], asyncio.Event()

        async def slow() -> None:
            begun[0] += 1
            await go_on.wait()
            await probe()

        gateway.gateway.journal.probe = slow  # type: ignore[method-assign]
        gone, stays = (asyncio.create_task(gateway.manage("GET", "/health/ready")) for _ in range(2))
        await until(lambda: begun[0] > 0)
        gone.cancel()
        go_on.set()
        assert (await stays).document["ready"] is True
        assert begun == [1]
        assert (await gateway.manage("GET", "/health/ready")).document["ready"] is True
        assert begun == [2]


async def test_not_ready_when_nothing_can_be_kept(tmp_path: Path) -> None:
    """`/health/ready` answers 503 with the reason, directly after the start."""
    async with in_process(tmp_path, '[journal]\nmin_free = "1000 TiB"\n') as gateway:
        answer = await gateway.manage("GET", "/health/ready")
        assert (answer.status, answer.document["ready"]) == (503, False)
        assert re.fullmatch(r"the journal has \d+ MiB free, \d+ MiB less than journal.min_free", reason(answer))


def reason(answer: Any) -> str:
    return str(answer.document["journal"])


async def test_not_ready_when_the_journal_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/health/ready` answers 503 with the reason within its time limit."""

    async def fails() -> None:
        raise JournalError("the journal does not read back what was written")

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(readiness, "SHARED_SECONDS", 0.0)

    async with in_process(tmp_path) as gateway:
        gateway.gateway.journal.probe = fails  # type: ignore[method-assign]
        answer = await gateway.manage("GET", "/health/ready")
        assert (answer.status, reason(answer)) == (503, "the journal does not read back what was written")
        gateway.gateway.journal.probe = hangs  # type: ignore[method-assign]
        answer = await gateway.manage("GET", "/health/ready")
        assert (answer.status, reason(answer)) == (503, "the journal did not answer a write and a read within 0.05 s")


async def test_a_sick_plugin_is_named_and_is_no_reason_to_refuse_events(tmp_path: Path, site: Path) -> None:
    """A sick plugin leaves the gateway ready, since events are kept. Its error is shown without customers' numbers."""
    source = """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            async def on_event(self, event):
                raise RuntimeError("no 447700900123 here")
    """
    write_plugin(site, "sick", source)

    async with in_process(
        tmp_path, '[plugins.sick]\nbackoff = "1ms"\nbackoff_max = "1ms"\nmax_attempts = 1000\n'
    ) as gateway:
        await gateway.post(EVENT)

        async def sick() -> bool:
            answer = await gateway.manage("GET", "/health/ready")
            assert answer.status == 200
            assert b"447700900123" not in answer.body
            [plugin] = answer.document["plugins"]
            return plugin["healthy"] is False and "RuntimeError" in plugin["error"]

        while not await sick():
            await asyncio.sleep(0.005)


async def test_a_plugin_with_nothing_left_to_do_is_healthy(tmp_path: Path, site: Path) -> None:
    """Its dead letters are counted in health and metrics, and the gateway stays ready."""
    source = """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            async def on_event(self, event):
                raise RuntimeError("no")
    """
    write_plugin(site, "sick", source)
    text = '[plugins.sick]\nbackoff = "1ms"\nbackoff_max = "1ms"\ngive_up_after = "50ms"\n'
    async with in_process(tmp_path, text) as gateway, asyncio.timeout(30):
        await gateway.post(EVENT)
        for waiting in (1, 0):
            while True:
                answer = await gateway.manage("GET", "/health/ready")
                assert answer.status == 200
                [plugin] = answer.document["plugins"]
                if (plugin["healthy"], plugin["dead"], answer.document["dead_letters"]) == (True, waiting, waiting):
                    break
                await asyncio.sleep(0.01)
            metrics = gateway.metrics()
            assert metrics['gateway_dead_letters{plugin="sick"}'] == waiting
            assert metrics['gateway_dead_letters_total{plugin="sick"}'] == 1
            assert metrics['gateway_plugin_healthy{plugin="sick"}'] == 1
            if waiting:
                assert (await gateway.operate("discard", {}))["done"] == 1


# Metrics


async def test_metrics_tell_of_the_process_and_the_disk(tmp_path: Path) -> None:
    """By the names of Prometheus' own clients, with the version of the gateway."""
    async with in_process(tmp_path) as gateway:
        metrics = gateway.metrics()
        sizes = ("gateway_journal_bytes", "gateway_disk_free_bytes")
        names = ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds")
        assert all(metrics[name] > 0 for name in (*sizes, *(f"process_{name}" for name in names)))
        assert [value for name, value in metrics.items() if name.startswith("gateway_build_info{")] == [1]


async def test_metrics_tell_how_old_the_oldest_undelivered_event_is(tmp_path: Path, site: Path) -> None:
    """In seconds since it was received, and in health, too; 0 when the plugin has taken it."""
    source = """
        from pathlib import Path
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            async def startup(self, context):
                self.open = context.directory / "open"

            @hookimpl
            async def on_event(self, event):
                if not self.open.exists():
                    raise RuntimeError("closed")
    """
    write_plugin(site, "shut", source)
    name = 'gateway_oldest_undelivered_seconds{plugin="shut"}'
    text = '[plugins.shut]\nbackoff = "10ms"\nbackoff_max = "10ms"\nmax_attempts = 1000\n'
    async with in_process(tmp_path, text) as gateway, asyncio.timeout(30):
        assert gateway.metrics()[name] == 0
        await gateway.post(EVENT)
        await until(lambda: gateway.metrics()[name] > 0.05)
        [plugin] = (await gateway.manage("GET", "/health/ready")).document["plugins"]
        assert plugin["oldest"] <= gateway.metrics()[name] + 0.1
        (tmp_path / "open").touch()
        await until(lambda: gateway.metrics()[name] == 0)


async def test_the_docs_list_every_metric(tmp_path: Path) -> None:
    """By its name, and none that there is not."""
    text = '[plugins.archive]\ndirectory = "archive"\n[plugins.static_values]\nvalues.balance = "1"\n'
    async with in_process(tmp_path, text) as gateway:
        await gateway.post(EVENT)
        await gateway.request("POST", organisation=None)
        await gateway.request("GET", query=b"param1=balance")
        page = gateway.gateway.metrics_page().decode()
    docs = (Path(__file__).parent.parent / "docs" / "operate.md").read_text()
    listed = re.findall(r"^\| `((?:gateway|process)_\w+)`", docs, re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))


async def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    """Prometheus' own parser reads the page, and its values match the requests."""
    async with in_process(tmp_path, '[plugins.archive]\ndirectory = "archive"\n') as gateway:
        dated = b'{"type":"payment","dateCreated":"2021-01-28 12:21:28.373"}'
        for body in (dated, dated, EVENT, b"{}", b'{"type":"inboundMessage"}', b"[]"):
            await gateway.post(body)
        await gateway.request("GET")
        await gateway.request("GET", query=b"param1=nothing")
        await gateway.request("POST", organisation=None)
        await gateway.request("PUT")
        answer = await gateway.manage("GET", "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        received, refused = "gateway_events_received_total", "gateway_requests_refused_total"
        assert {key: value for key, value in samples.items() if key[0] in (received, refused)} == {
            (received, "acme", "new", "payment"): 2,
            (received, "acme", "duplicate", "payment"): 1,
            (received, "acme", "new", "unknown"): 1,
            (received, "acme", "inbound-message", "unreadable"): 1,
            (refused, "400", "json"): 1,
            (refused, "401", "missing"): 1,
            (refused, "405", "method"): 1,
        }
        assert samples["gateway_custom_value_requests_total", "200", "acme"] == 1
        assert samples["gateway_custom_value_requests_total", "404", "acme"] == 1
        assert samples["gateway_answer_seconds_count", "event"] == 6
        assert samples["gateway_answer_seconds_bucket", "+Inf", "event"] == 6
        assert samples["gateway_answer_seconds_count", "custom_values"] == 2
        assert samples["gateway_journal_position",] == 4
        assert samples["gateway_journal_refusing",] == 0
        assert all(family.documentation for family in families.values())
        await until(lambda: gateway.metrics()['gateway_deliveries_total{plugin="archive"}'] == 4)


def test_a_histogram_counts_each_time_where_it_belongs() -> None:
    """A time at a bound counts as within it, as Prometheus defines `le`."""
    from gateway.metrics import Metrics, page

    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.00051, 5, 60):
        metrics.seconds["event"].observe(seconds)
    text = page(metrics.samples()).decode()
    for bound, count in (("0.0005", 2), ("0.001", 3), ("5.0", 4), ("+Inf", 5)):
        line = re.escape(f'gateway_answer_seconds_bucket{{le="{bound}",request="event"}} {count}.0')
        assert re.search(line.replace('5\\.0"', '5(\\.0)?"'), text), text
    assert re.search(r'gateway_answer_seconds_sum\{request="event"\} 65\.001', text)


# Access


def basic(text: bytes, scheme: bytes = b"Basic") -> tuple[bytes, bytes]:
    return b"authorization", scheme + b" " + b64encode(text)


async def test_a_password(tmp_path: Path) -> None:
    """If a password is set, everything but health requires it by basic authentication, with any user name."""
    (tmp_path / "password").write_text("correct: horse\n")

    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        for path in ("/health/live", "/health/ready"):
            assert (await gateway.manage("GET", path)).status == 200
        good = [basic(user + b":correct: horse") for user in (b"gateway", b"", b"x")]
        good.append(basic(b"x:correct: horse", scheme=b"basic"))
        for header in good:
            assert (await gateway.manage("GET", "/metrics", headers=[HOST, header])).status == 200
        bad = [basic(text) for text in (b"gateway:", b"correct: horse", b"a:correct: hors", b"a:correct: horse\n")]
        bad += [(b"authorization", value) for value in (b"Basic %%%", b"Basic", b"Bearer correct: horse", b"\xff")]
        for number, headers in enumerate([*([HOST, header] for header in bad), [HOST]]):
            answer = await gateway.manage("GET", "/metrics", headers=headers, client=f"127.0.1.{number}")
            detail = "a password is needed" if headers == [HOST] else "the password is wrong"
            assert (answer.status, answer.problem) == (401, detail)
            assert answer.headers["www-authenticate"] == 'Basic realm="gateway"'
        assert (await gateway.manage("POST", "/api/operations", {})).status == 401
        for method in ("GET", "DELETE"):
            assert (await gateway.manage(method, "/api/operations/1")).status == 401


async def test_without_the_password_readiness_has_no_details(tmp_path: Path) -> None:
    """Without the password, `/health/ready` tells whether the gateway is ready, but not why."""
    (tmp_path / "password").write_text("correct horse")

    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        assert (await gateway.manage("GET", "/health/ready")).document == {"ready": True}
        whole = await gateway.manage("GET", "/health/ready", headers=[HOST, basic(b"x:correct horse")])
        assert whole.document.keys() == {
            *("ready", "node", "journal", "damaged", "disagreements", "unknown", "plugins", "providers"),
            "dead_letters",
        }


async def test_who_is_turned_away_leaves_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is logged and counted, so that guessing is noticed."""
    (tmp_path / "password").write_text("correct horse")

    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        for client in ("127.0.0.1", "127.0.0.2"):
            await gateway.manage("GET", "/metrics", headers=[HOST, basic(b"x:guessed it")], client=client)
        assert gateway.metrics()['gateway_requests_refused_total{reason="admin",status="401"}'] == 2
    assert caplog.messages == [
        f"401 GET from {client}: admin listener: the password is wrong" for client in ("127.0.0.1", "127.0.0.2")
    ]


async def test_wrong_passwords_slow_down(tmp_path: Path) -> None:
    """After a wrong password its address waits for 1 s, then 2 s, and so on up to 60 s: 429, also for the right one,
    since a guess must not be worth more because it comes sooner. Another address does not wait."""
    (tmp_path / "password").write_text("correct horse battery")
    now = [1000.0]
    async with in_process(tmp_path, admin='password = { file = "password" }\n', clock=lambda: now[0]) as gateway:
        wrong, right = ([HOST, basic(b"x:" + text)] for text in (b"guessed it", b"correct horse battery"))

        async def status(headers: list[tuple[bytes, bytes]], client: str = "10.0.0.1", path: str = "/metrics") -> int:
            return (await gateway.manage("GET", path, headers=headers, client=client)).status

        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            assert await status(wrong) == 401
            for headers in (wrong, right):
                answer = await gateway.manage("GET", "/metrics", headers=headers, client="10.0.0.1")
                assert (answer.status, answer.headers["retry-after"]) == (429, str(wait))
                assert answer.problem == (
                    f"passwords from this address were wrong; the next one is compared in {wait} s"
                )
            assert await status([HOST]) == 401  # without a password, nothing is compared
            health = await gateway.manage("GET", "/health/ready", headers=right, client="10.0.0.1")
            assert (health.status, health.document) == (200, {"ready": True})
            assert await status(right, client="10.0.0.2") == 200
            now[0] += wait
        assert await status(right) == 200
        assert await status(wrong) == 401
        now[0] += 1
        assert await status(right) == 200  # its failures were forgotten


async def test_health_with_a_wrong_password_is_an_attempt(tmp_path: Path) -> None:
    """Its details would otherwise tell whether a guess was right, as often as one likes. One network is one client."""
    (tmp_path / "password").write_text("correct horse battery")
    async with in_process(tmp_path, admin='password = { file = "password" }\n') as gateway:
        await gateway.manage("GET", "/health/ready", headers=[HOST, basic(b"x:guessed it")], client="2001:db8::1")
        right = [HOST, basic(b"x:correct horse battery")]
        assert (await gateway.manage("GET", "/metrics", headers=right, client="2001:db8::2")).status == 429


def test_failed_attempts_take_little_memory() -> None:
    """The oldest of very many addresses is forgotten, and an address after a quarter of an hour without a failure."""
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for number in range(20_000):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert attempts.wait("10.0.0.0") == 0
    assert attempts.wait("10.0.78.31") == 1
    for _ in range(8):
        attempts.failed("10.9.9.9")
    now[0] += 900
    attempts.failed("10.9.9.9")
    assert attempts.wait("10.9.9.9") == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1", 200),
        (b"127.0.0.1:8081", 200),
        (b"[::1]:8081", 200),
        (b"[::1]", 200),
        (b"localhost", 200),
        (b"LocalHost:8081", 200),
        (b"10.1.2.3:8081", 200),
        (None, 200),
        (b"gateway.example", 421),
        (b"localhost.evil.example:8081", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"evil.example:8081", 421),
        (b"", 421),
        (b"[evil.example]", 421),
        (b"::1", 421),
    ],
)
async def test_a_name_is_no_way_in(tmp_path: Path, host: bytes | None, status: int) -> None:
    """Without a password, a web page cannot reach the listener by a name that it makes resolve to this machine."""
    async with in_process(tmp_path) as gateway:
        headers = [] if host is None else [(b"host", host)]
        answers = [await gateway.manage("GET", path, headers=headers) for path in ("/metrics", "/health/ready")]
        answers.append(await gateway.manage("POST", "/api/reload", {}, headers=headers))
        assert [answer.status for answer in answers] == [status] * 3
        if status == 421:
            assert answers[0].problem == "use the IP address of this listener, localhost, or a name of admin.names"


@pytest.mark.parametrize(
    ("host", "status"), [(b"Gateway.Internal:8081", 200), (b"localhost", 200), (b"evil.example", 421)]
)
@pytest.mark.parametrize("path", ["/metrics", "/health/live"])
async def test_a_name_is_checked_with_a_password_too(tmp_path: Path, host: bytes, status: int, path: str) -> None:
    """A name other than localhost must be in `admin.names`."""
    (tmp_path / "password").write_text("correct horse")
    keys = 'password = { file = "password" }\nnames = ["gateway.internal"]\n'

    async with in_process(tmp_path, admin=keys) as gateway:
        headers = [(b"host", host), basic(b"x:correct horse")]
        assert (await gateway.manage("GET", path, headers=headers)).status == status


@pytest.mark.parametrize(
    ("site", "status"), [(b"cross-site", 403), (b"Cross-Site", 403), (b"same-origin", 200), (b"none", 200)]
)
async def test_a_page_of_another_site_is_refused(tmp_path: Path, site: bytes, status: int) -> None:
    """Browsers say in Sec-Fetch-Site whether one made them send a request; also where they add the password."""
    (tmp_path / "password").write_text("correct horse")
    for number, keys in enumerate(("", 'password = { file = "../password" }\n')):
        async with in_process(tmp_path / str(number), admin=keys) as gateway:
            headers = [HOST, (b"sec-fetch-site", site), basic(b"x:correct horse")]
            for method, path in (("GET", "/metrics"), ("GET", "/health/ready"), ("POST", "/api/reload")):
                document: dict[str, str] | None = {} if method == "POST" else None
                answer = await gateway.manage(method, path, document, headers=headers)
                assert answer.status == status
                if status == 403:
                    assert answer.problem == "a page of another site made the browser send this request"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json", 200),
        (b"Application/JSON; charset=utf-8", 200),
        (b"text/plain", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"multipart/form-data; boundary=application/json", 415),
        (b"", 415),
    ],
)
async def test_commands_are_json(tmp_path: Path, content_type: bytes, status: int) -> None:
    """A request that a form of another site can send is refused."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.manage("POST", "/api/reload", b"{}", [HOST, (b"content-type", content_type)])
        assert answer.status == status
        if status == 415:
            assert answer.problem == "send application/json"


# Commands


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is not valid: "),
        (b"[]", "the body is not valid: Expected `object`, got `array`"),
        (b"{", "the body is not valid: "),
        (b'{"kind":"retry","filter":{"hook":"\xff"}}', "the body is not valid: "),
        (b"[" * 100_000, "the body is not valid: "),
        (
            b'{"kind":"retry","filter":{"hooks":"payment"}}',
            "the body is not valid: Object contains unknown field `hooks`",
        ),
        (
            b'{"kind":"retry","filter":{"hook":5}}',
            "the body is not valid: Expected `str | null`, got `int` - at `$.filter",
        ),
        (b'{"kind":"retry","filter":{"since":"yesterday"}}', "the body is not valid: Invalid RFC3339 encoded datetime"),
    ],
)
async def test_a_filter_that_is_none(tmp_path: Path, picky: list[bool], body: bytes, detail: str) -> None:
    """A filter that is not valid gets 400 with the reason, and nothing is changed."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        await gateway.post(EVENT)
        await until(lambda: dead(gateway) == 1)
        answer = await gateway.manage("POST", "/api/operations", body)
        assert answer.status == 400
        assert answer.problem.startswith(detail)
        assert dead(gateway) == 1


async def test_dead_letters_are_retried(tmp_path: Path, picky: list[bool]) -> None:
    """The dead letters that match the filter are delivered again; the answer has their number."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        for _ in range(3):
            await gateway.post(EVENT)
        ids = [row.id for row in gateway.events()]
        await until(lambda: dead(gateway) == 3)
        picky[0] = False
        told = await gateway.operate("retry", {"ids": ids[:2], "plugin": "picky"})
        assert (told["matched"], told["done"], told["state"]) == (2, 2, "finished")
        await until(lambda: [row.deliveries["picky"] for row in gateway.events()] == ["delivered", "delivered", "dead"])
        told = await gateway.operate("retry", {})
        assert (told["matched"], told["done"]) == (1, 1)
        await until(lambda: {row.deliveries["picky"] for row in gateway.events()} == {"delivered"})
        told = await gateway.operate("retry", {})
        assert (told["matched"], told["done"], told["left"]) == (0, 0, 0)


async def test_dead_letters_of_plugins_that_are_off_stay(tmp_path: Path, picky: list[bool]) -> None:
    """They are not delivered; the answer says how many matched and were retried."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        await gateway.post(EVENT)
        await until(lambda: dead(gateway) == 1)

    async with in_process(tmp_path, "[plugins.other]\nuse = 'picky'\n") as gateway:
        await gateway.post(EVENT.replace(b"1", b"2"))
        await until(lambda: gateway.events()[-1].deliveries == {"other": "dead"})
        asked = {"kind": "retry", "filter": {"plugin": "picky"}}
        answer = await gateway.manage("POST", "/api/operations", asked)
        assert (answer.status, answer.problem) == (409, "plugin picky takes no events; plugins that take events: other")
        picky[0] = False
        told = await gateway.operate("retry", {})
        assert (told["matched"], told["done"]) == (2, 1)
        await until(lambda: gateway.events()[-1].deliveries == {"other": "delivered"})
        told = await gateway.operate("retry", {})
        assert (told["matched"], told["done"]) == (1, 0)


async def test_dead_letters_are_discarded(tmp_path: Path, picky: list[bool]) -> None:
    """Discarded events are not dead letters any more, and stay in the journal."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        await gateway.post(EVENT)
        await gateway.post(b'{"type":"setStatus"}')
        await until(lambda: dead(gateway) == 2)
        told = await gateway.operate("discard", {"hook": "payment"})
        assert (told["matched"], told["done"]) == (1, 1)
        assert [(row.hook, row.deliveries.get("picky") == "dead") for row in gateway.events()] == [
            ("payment", False),
            ("set-status", True),
        ]


async def test_a_replay(tmp_path: Path, picky: list[bool]) -> None:
    """A replay gets a number, by which its progress can be read."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        picky[0] = False
        for _ in range(3):
            await gateway.post(EVENT)
        await gateway.post(b'{"type":"setStatus"}')
        await until(lambda: gateway.metrics()['gateway_deliveries_total{plugin="picky"}'] == 4)
        told = await gateway.operate("replay", {"plugin": "picky", "hook": "payment"})
        assert (told["number"], told["matched"], told["done"], told["left"]) == (1, 3, 3, 0)
        assert gateway.metrics()['gateway_deliveries_total{plugin="picky"}'] == 7


async def test_a_replay_to_an_unknown_plugin(tmp_path: Path, picky: list[bool]) -> None:
    """409, with the plugins that take events."""
    async with in_process(tmp_path, "[plugins.picky]\n") as gateway:
        for document, sentence in (
            ({"plugin": "picki"}, "plugin picki takes no events"),
            ({}, "the filter needs a plugin"),
        ):
            answer = await gateway.manage("POST", "/api/operations", {"kind": "replay", "filter": document})
            assert answer.status == 409
            assert answer.problem == f"{sentence}; plugins that take events: picky"


async def test_what_there_is_not(tmp_path: Path) -> None:
    """Other paths and methods get problem documents with 404 and 405, not Litestar's own pages."""
    async with in_process(tmp_path) as gateway:
        for path in ("/schema", "/docs", "/webio", "/webio/payment", "/health", "/api", "/nope"):
            assert (await gateway.manage("GET", path)).problem == "Not Found"
        answer = await gateway.manage("POST", "/metrics", {})
        assert (answer.status, answer.problem) == (405, "Method Not Allowed")
        assert "GET" in answer.headers["allow"]


async def test_a_fault_inside_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error gets 503 without its text; the log has its type."""
    async with in_process(tmp_path) as gateway:

        def fails() -> None:
            raise RuntimeError("a secret")

        gateway.gateway.monitor.plugins_health = fails  # type: ignore[method-assign, assignment]
        answer = await gateway.manage("GET", "/health/ready")
        assert (answer.status, answer.problem) == (503, "The gateway could not handle this request.")

    assert caplog.messages == ["a request failed and was answered 503: RuntimeError"]


async def test_changes_and_look_ups_leave_a_line(
    tmp_path: Path, picky: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    """Who, from where, what, with which filter, and what came of it; no customer's number in full, and no text."""
    (tmp_path / "password").write_text("correct horse")
    caplog.set_level("INFO", "gateway.audit")
    text = "[plugins.picky]\n[plugins.static_values.values]\nbalance = '12'\n"
    async with in_process(tmp_path, text, admin='password = { file = "password" }\n') as gateway:
        event = json.dumps({"type": "payment", "customerUID": "ID-4711-99"}).encode()
        await gateway.post(event)
        await until(lambda: dead(gateway) == 1)
        headers = [HOST, basic(b"alice:correct horse")]
        picky[0] = False
        for kind, document in (
            ("retry", {"customer": "ID-4711-99", "plugin": "picky"}),
            ("replay", {"plugin": "picky", "address": "447700900123", "text": "a secret word"}),
            ("discard", {"ids": ["a", "b"], "since": "2026-01-31T12:00:00Z", "hook": "447700900123"}),
            ("discard", {}),
        ):
            asked = {"kind": kind, "filter": document}
            assert (await gateway.manage("POST", "/api/operations", asked, headers=headers)).status == 202
        assert (await gateway.manage("DELETE", "/api/operations/2", headers=headers)).status == 200
        stranger = [HOST, basic(b"447700900123:correct horse")]
        for query in (b"param1=balance&customerUID=447700900123", b"param1=%ff", b"param1=balance&customerUID=123"):
            answer = await gateway.manage(
                "GET", "/api/values", headers=stranger, query=b"organisation=acme&" + query, client="10.0.0.7"
            )
            assert answer.status == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.audit"]
    assert lines == [
        "alice from 127.0.0.1: retry of dead letters (customer …99, plugin picky): number 1, 1 event matched",
        "alice from 127.0.0.1: replay (address …23, text …, plugin picky): number 2, no events matched",
        "alice from 127.0.0.1: discard of dead letters (ids 2, hook …, since 2026-01-31T12:00:00+0000): number 3,"
        " no events matched",
        "alice from 127.0.0.1: discard of dead letters (everything): number 4, no events matched",
        "alice from 127.0.0.1: cancel of a replay (everything): number 2, 0 done",
        "- from 10.0.0.7: look-up of custom values (organisation acme, customer …23): 1 field, status 200",
        "- from 10.0.0.7: look-up of custom values (organisation acme): no fields, status 400",
        "- from 10.0.0.7: look-up of custom values (organisation acme, customer …): 1 field, status 200",
    ]


# The real listener


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("admin")) as gateway:
        yield gateway


def test_the_listeners_are_two(served: RunningGateway) -> None:
    """Neither listener serves a path of the other one."""
    with httpx.Client() as client:
        for path in ("/metrics", "/health/live", "/health/ready", "/api/operations"):
            public = served.url.removesuffix("/webio") + path
            assert client.get(public).status_code == 404
        assert client.get(f"{served.admin_url}/webio").status_code == 404
        assert client.get(f"{served.admin_url}/health/ready").json()["ready"] is True


def test_its_answers_name_no_version(served: RunningGateway) -> None:
    """Answers do not name a version, and the log has a line for refused requests only."""
    port = served.config.admin.port
    before = list(served.output)
    head = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = talk(port, head, wait=5)
    assert answer.statuses == [200]
    assert b"server:" not in answer.headers
    assert talk(port, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").statuses == [421]
    assert talk(port, b"\x16\x03\x01 nonsense\r\n\r\n", wait=5).statuses == [400]
    served.wait_for_line("400 from", after=len(before))
    said = served.output[len(before) :]
    refused = [line.partition(": ")[2].partition(" [node ")[0] for line in said if " from 127.0.0.1: " in line]
    assert refused == [
        "421 GET from 127.0.0.1: admin listener: use the IP address of this listener, localhost,"
        " or a name of admin.names",
        "400 from 127.0.0.1: admin listener: the request is not HTTP/1.1: Invalid method encountered",
    ]


def test_forged_addresses_change_nothing(start_gateway: StartGateway) -> None:
    """X-Forwarded-For is read on the public listener only, from trusted proxies only: the log has the real client."""
    gateway = start_gateway()
    forged = (b"X-Forwarded-For: 203.0.113.7", b"X-Real-IP: 203.0.113.7", b"Forwarded: for=203.0.113.7", CLOSE)
    requests, admin = Requests(gateway), gateway.config.admin.port
    before = len(gateway.output)
    assert talk(requests.port, requests.head(*forged, token=False), wait=5).statuses == [401]
    assert talk(admin, requests.head(*forged, method=b"GET", path=b"/metrics"), wait=5).statuses == [421]
    gateway.wait_for_line("421 GET from 127.0.0.1: admin listener:", after=before)
    gateway.wait_for_line("401 POST from 127.0.0.1:", after=before)
    assert "203.0.113" not in gateway.text


def test_a_trusted_proxy_does_not_speak_for_others_on_the_admin_listener(start_gateway: StartGateway) -> None:
    """It is a proxy of the public listener."""
    gateway = start_gateway('trusted_proxies = ["127.0.0.1"]\n')
    data = b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
    assert talk(gateway.config.admin.port, data).statuses == [421]
    gateway.wait_for_line("421 GET from 127.0.0.1: admin listener:")
    assert "203.0.113" not in gateway.text


def test_metrics_of_the_real_thing(served: RunningGateway) -> None:
    """A request to the real listener is counted on the next page of metrics."""
    requests = Requests(served)
    assert talk(requests.port, requests.post(EVENT, b"Connection: close"), wait=5).statuses == [200]
    page = httpx.get(f"{served.admin_url}/metrics").text
    assert 'gateway_events_received_total{hook="payment",kind="new",organisation="acme"} 1.0' in page
