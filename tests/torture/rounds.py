"""Rounds of killing and of stopping under load."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cli_process import CliProcess
from senders import Senders, number_of
from verdict import Findings, judge
from victim import DEADLY, RECORDER, Victim

SETTINGS: Final = """
[delivery]
backoff = "20ms"
backoff_max = "200ms"

[plugins.recorder]
"""
ALL, WORKER, SUPERVISOR = "all", "worker", "supervisor"


class Outcome(msgspec.Struct):
    """What was found. `broken` counts connections; `exits` and `seconds` have an entry for each stop."""

    findings: Findings
    answers: dict[int, int]
    unexpected: list[str]
    broken: int
    deaths: dict[str, int] = {}
    exits: list[int] = []
    seconds: list[float] = []
    words: str = ""


def kill_rounds(
    directory: Path,
    rounds: int,
    seed: str,
    *,
    kinds: tuple[str, ...] = (ALL,),
    pause: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """`kill -9` after random times, `rounds` times, under 16 senders; then a graceful end and the verdict.

    Some gateways die before they are ready, some during a replay. `kinds` are the processes to kill: all, the worker
    only, or the supervisor only."""
    chance = random.Random(seed)
    victim = Victim(directory, SETTINGS, {"recorder": RECORDER})
    deaths = dict.fromkeys(kinds, 0)
    operators: list[CliProcess] = []
    try:
        with Senders(victim.config, pause=pause) as senders:
            victim.spawn()
            for number in range(rounds):
                kind = chance.choice(kinds)
                _let_it_live(victim, chance, operators)
                _strike(victim, kind)
                deaths[kind] += 1
                if number % 10 == 9:
                    say(f"{number + 1} rounds, {len(senders.acknowledged)} acknowledged")
            _ready(victim)
            senders.finish(60)
        victim.wait_delivered(180)
        code, seconds = victim.terminate()
        return Outcome(
            findings=judge(victim, senders.acknowledged),
            answers=dict(senders.answers),
            unexpected=senders.unexpected,
            broken=senders.broken,
            deaths=deaths,
            exits=[code],
            seconds=[seconds],
            words=victim.words(),
        )
    finally:
        victim.kill()
        for operator in operators:
            operator.kill()
            operator.wait()


def _let_it_live(victim: Victim, chance: random.Random, operators: list[CliProcess]) -> None:
    """Wait for some time after its start; in one of five rounds it may not be ready yet."""
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.05, 0.8))
        return
    _ready(victim)
    if chance.random() < 0.3:
        since = (datetime.now(UTC) - timedelta(seconds=chance.uniform(0, 5))).isoformat()
        plugin = chance.choice(("archive", "recorder"))
        operators.append(victim.operate("replay", "--plugin", plugin, "--since", since))
    time.sleep(chance.uniform(0.0, 1.5))


def _ready(victim: Victim) -> None:
    """Wait until it is ready. Where it does not start, because an operator's command had the journal just then, it is
    started again, as a service manager would."""

    def ready() -> bool:
        if victim.process is not None and victim.process.poll() is not None:
            victim.spawn()
        return victim.ready()[0] == 200

    victim.wait(ready, "ready", 60)


def _strike(victim: Victim, kind: str) -> None:
    if kind == WORKER:
        for worker in victim.workers():
            os.kill(worker, signal.SIGKILL)
            victim.wait(lambda: worker not in victim.workers(), "dead", 10)  # noqa: B023
    elif kind == SUPERVISOR:
        os.kill(victim.supervisor, signal.SIGKILL)
        victim.process.wait()  # type: ignore[union-attr]
        victim.wait_gone(5)
        victim.spawn()
    else:
        victim.kill()
        victim.spawn()


def stop_rounds(
    directory: Path,
    rounds: int,
    seed: str,
    *,
    pause: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """SIGTERM at random moments, `rounds` times, under 16 senders; then the verdict."""
    chance = random.Random(seed)
    victim = Victim(directory, SETTINGS, {"recorder": RECORDER})
    exits, seconds = [], []
    try:
        with Senders(victim.config, pause=pause) as senders:
            for number in range(rounds):
                victim.start()
                time.sleep(chance.uniform(0.0, 1.5))
                code, took = victim.terminate()
                exits.append(code)
                seconds.append(took)
                if number % 10 == 9:
                    say(f"{number + 1} rounds, {len(senders.acknowledged)} acknowledged, longest {max(seconds):.2f} s")
            victim.start()
            senders.finish(60)
        victim.wait_delivered(180)
        code, took = victim.terminate()
        return Outcome(
            findings=judge(victim, senders.acknowledged),
            answers=dict(senders.answers),
            unexpected=senders.unexpected,
            broken=senders.broken,
            exits=[*exits, code],
            seconds=[*seconds, took],
            words=victim.words(),
        )
    finally:
        victim.kill()


def deadly_rounds(
    directory: Path, rounds: int, seed: str, *, say: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Several events, some of them for two plugins, that take the process down; one round is one such delivery.

    In the outcome, `deaths` counts the worker's deaths and the dead letters that were expected and found."""
    chance = random.Random(seed)
    numbers = chance.sample(range(20, 400), rounds)
    expected = {(chance.choice(("one", "other")), number) for number in numbers}
    names = {name: tuple(f"n{number}" for owner, number in expected if owner == name) for name in ("one", "other")}
    plugins = {
        "one": DEADLY.format(define="def", end="os._exit(1)", deadly=(*names["one"], "")),
        "other": DEADLY.format(define="async def", end="ctypes.string_at(0)", deadly=(*names["other"], "")),
    }
    plugins["other"] = plugins["other"].replace("survived", "others")
    text = "".join(f"\n[plugins.{name}]\n" for name in plugins)
    victim = Victim(directory, SETTINGS + text, {"recorder": RECORDER, **plugins})
    try:
        victim.start()
        with Senders(victim.config, 8, pause=0.01) as senders:
            victim.wait(lambda: senders.sent > 500, "taking events", 600)
            victim.wait(lambda: victim.words().count("is a dead letter") >= rounds, "found", 60 * rounds)
        victim.wait_delivered(180)
        code, seconds = victim.terminate()
        numbers_of = {
            event["id"]: number_of(event["body"])
            for event in map(json.loads, victim.cli("events", "--json", "--state", "dead").splitlines())
        }
        dead = [json.loads(line) for line in victim.cli("dead", "--json").splitlines()]
        found = {(letter["plugin"], numbers_of[letter["id"]]) for letter in dead}
        return Outcome(
            findings=judge(victim, senders.acknowledged),
            answers=dict(senders.answers),
            unexpected=senders.unexpected + [f"wrongly dead or alive: {one}" for one in found ^ expected],
            broken=senders.broken,
            deaths={"worker": victim.words().count("the worker process died"), "expected": rounds, "found": len(found)},
            exits=[code],
            seconds=[seconds],
            words=victim.words(),
        )
    finally:
        victim.kill()
