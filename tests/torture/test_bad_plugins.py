"""Proof 6: whatever a plugin does, the others get everything, events are acknowledged, and the offender is named."""

from __future__ import annotations

import time
from pathlib import Path

from misbehaving import BAD, source
from senders import Senders
from verdict import judge
from victim import RECORDER, Victim

SETTINGS = """
[delivery]
backoff = "20ms"
backoff_max = "100ms"
timeout = "300ms"
max_attempts = 1000000
concurrency = 2

[plugins.recorder]
"""


def test_a_gateway_full_of_bad_plugins_serves_the_good_ones_all_the_same(tmp_path: Path) -> None:
    """Sixteen kinds of misbehaviour at once, beside the archive and a good plugin. Those two have every event, in
    order; every event is acknowledged quickly; every offender is named; and SIGTERM is obeyed in time."""
    tables = "".join(f"[plugins.{name}]\n" for name in BAD)
    plugins = {name: source(name) for name in BAD} | {"recorder": RECORDER}
    gateway = Victim(tmp_path / "victim", SETTINGS + tables, plugins)
    try:
        gateway.start()
        with Senders(gateway.config, 8, pause=0.02) as senders:
            gateway.wait(lambda: len(senders.acknowledged) >= 1000, "acknowledging", 30)
        details = _when_all_are_named(gateway)
        gateway.wait(lambda: _through(gateway, "archive", "recorder"), "delivered to the good ones", 30)
        code, seconds = gateway.terminate()
        findings = judge(gateway, senders.acknowledged)
        words = gateway.words()
    finally:
        gateway.kill()
    assert findings.faults() == []
    assert senders.unexpected == []
    assert set(senders.answers) == {200}
    slowest = sorted(one.seconds for one in senders.acknowledged)[int(len(senders.acknowledged) * 0.99)]
    print(f"acknowledged {len(senders.acknowledged)}, p99 {slowest * 1000:.1f} ms, stopped in {seconds:.1f} s")
    assert slowest < 1
    assert {plugin["name"] for plugin in details if not plugin["healthy"]} == set(BAD)
    assert all(plugin["error"] for plugin in details if not plugin["healthy"])
    assert (code, seconds < 10) == (0, True)
    assert "Traceback" not in words
    assert all(f"plugin {name} failed" in words for name in BAD)
    own = [line for line in words.splitlines() if "here is line" not in line]
    assert sum(map(len, own)) < 100_000, "the gateway's own words about them are bounded"


def _when_all_are_named(gateway: Victim) -> list[dict[str, object]]:
    """The plugins' health, once every offender has had the time to show what it is."""
    deadline = time.monotonic() + 20
    while True:
        status, details = gateway.ready()
        assert status == 200, details
        plugins: list[dict[str, object]] = details["plugins"]
        if sum(not plugin["healthy"] for plugin in plugins) == len(BAD) or time.monotonic() > deadline:
            return plugins
        time.sleep(0.05)


def _through(gateway: Victim, *names: str) -> bool:
    _, details = gateway.ready()
    return not any(plugin["behind"] or plugin["parked"] for plugin in details["plugins"] if plugin["name"] in names)
