"""Proof 5: the worker alone killed, the supervisor alone killed, and an event whose delivery takes the process down."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from senders import Senders, number_of
from verdict import judge
from victim import DEADLY, RECORDER, Victim, alive

QUICK = '\n[delivery]\nbackoff = "20ms"\nbackoff_max = "200ms"\n'
DIED = "the worker process died"

ENDS = {
    "os._exit in a thread": ("def", "os._exit(9)"),
    "a segmentation fault in a coroutine": ("async def", "await asyncio.sleep(0.01); ctypes.string_at(0)"),
}


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """Makes gateways that are killed at the end, whatever state they are in."""
    made: list[Victim] = []

    def make(text: str = "", **plugins: str) -> Victim:
        tables = "".join(f"\n[plugins.{name}]\n" for name in plugins)
        made.append(Victim(tmp_path / "victim", f"{text}{QUICK}{tables}", plugins))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def end_well(gateway: Victim, senders: Senders) -> None:
    """Deliver everything, stop, and find nothing lost, repeated or damaged."""
    gateway.wait_delivered()
    assert gateway.terminate()[0] == 0
    assert judge(gateway, senders.acknowledged).faults() == []
    assert senders.unexpected == []
    assert "Traceback" not in gateway.words()


def test_a_killed_worker_is_replaced_by_its_supervisor(victim: Callable[..., Victim]) -> None:
    """Service is back by itself in seconds, also when it is killed again and again, by whatever signal, and nothing is
    lost."""
    gateway = victim(recorder=RECORDER)
    gateway.start()
    supervisor = gateway.supervisor
    with Senders(gateway.config, 8, pause=0.005) as senders:
        for kill in (signal.SIGKILL, signal.SIGRTMIN + 1, signal.SIGKILL):  # the second has no name
            before = len(senders.acknowledged)
            gateway.wait(lambda: len(senders.acknowledged) > before + 50, "acknowledging", 10)  # noqa: B023
            [worker] = gateway.workers()
            os.kill(worker, kill)
            gateway.wait(lambda: not alive(worker), "dead", 5)  # noqa: B023
            assert gateway.wait_ready() < 8
            assert gateway.supervisor == supervisor
    assert [gateway.words().count(f"{DIED} ({name}); starting it again") for name in ("SIGKILL", "signal 35")] == [2, 1]
    end_well(gateway, senders)


def test_without_its_supervisor_the_worker_is_gone_at_once(victim: Callable[..., Victim]) -> None:
    """Nothing would start or stop it any more: ports and journal are free for the next, and nothing is lost."""
    gateway = victim(recorder=RECORDER)
    gateway.start()
    with Senders(gateway.config, 8, pause=0.005) as senders:
        gateway.wait(lambda: len(senders.acknowledged) > 100, "acknowledging", 10)
        [worker] = gateway.workers()
        os.kill(gateway.supervisor, signal.SIGKILL)
        assert gateway.process is not None
        gateway.process.wait()
        assert gateway.wait(lambda: not alive(worker), "gone", 5) < 1
        assert gateway.wait_gone() < 1
        gateway.start()
    end_well(gateway, senders)


@pytest.mark.parametrize("end", ENDS)
def test_an_event_that_takes_the_process_down_becomes_a_dead_letter(victim: Callable[..., Victim], end: str) -> None:
    """It dies four times: once unsuspecting, three times recorded. Then that one event is a dead letter that names
    the plugin, its conversation goes on, and all other plugins have had everything."""
    define, how = ENDS[end]
    gateway = victim(deadly=DEADLY.format(define=define, end=how, deadly="('n100',)"), recorder=RECORDER)
    gateway.start()
    with Senders(gateway.config, 4, pause=0.01) as senders:
        gateway.wait(lambda: gateway.words().count(DIED) >= 4, "dead four times", 30)
        before = len(senders.acknowledged)
        gateway.wait(lambda: len(senders.acknowledged) > before + 50, "acknowledging again", 20)
    gateway.wait_delivered()
    [dead] = [json.loads(line) for line in gateway.cli("dead", "--json").splitlines()]
    [event] = [json.loads(line) for line in gateway.cli("events", "--json", "--id", dead["id"]).splitlines()]
    assert gateway.words().count(DIED) == 4
    assert dead["plugin"] == "deadly"
    assert dead["error"] == "the process died 3 times while this plugin had the event"
    assert number_of(event["body"]) == 100
    assert event["deliveries"] == {"archive": "delivered", "deadly": "dead", "recorder": "delivered"}
    survived = set((gateway.directory / "survived").read_text().split())
    everything = {json.loads(line)["id"] for line in gateway.cli("events", "--json").splitlines()}
    assert everything - survived == {dead["id"]}
    end_well(gateway, senders)
