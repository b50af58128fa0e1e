"""The long forms of proofs that need a crash, restarts or reloads: `python benchmarks/torture.py [PROOF] [--seed S]`.

Each prints what it did with its seed, and the command exits 1 when something acknowledged was lost, delivered twice or
damaged. The short forms of the same proofs are in `tests/torture` and run with `make test`.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "torture"), str(ROOT / "tests" / "delivery")]

from changes import reload_rounds, restart_rounds  # noqa: E402
from power_loss import Verdict, lose_power  # noqa: E402
from rounds import ALL, SUPERVISOR, WORKER, Outcome, deadly_rounds, kill_rounds, stop_rounds  # noqa: E402
from simulation import Broken, simulate  # noqa: E402

IMAGES_EACH = 400


def kill(directory: Path, seed: str, rounds: int) -> bool:
    """`kill -9` at random moments: all processes in most rounds, the worker or the supervisor alone in some."""
    print(f"kill: {rounds} rounds, 16 senders, seed {seed}", flush=True)
    kinds = (ALL, ALL, ALL, WORKER, SUPERVISOR)
    outcome = kill_rounds(directory, rounds, seed, kinds=kinds, pause=0.004, say=_say)
    print(f"  {outcome.deaths}, connections broken {outcome.broken}")
    return _report(outcome) and outcome.exits == [0]


def stop(directory: Path, seed: str, rounds: int) -> bool:
    """SIGTERM at random moments under load: exit 0 within ten seconds."""
    print(f"stop: {rounds} rounds, 16 senders, seed {seed}", flush=True)
    outcome = stop_rounds(directory, rounds, seed, pause=0.002, say=_say)
    print(f"  exit codes {sorted(set(outcome.exits))}, longest {max(outcome.seconds):.2f} s")
    sound = "Traceback" not in outcome.words
    return _report(outcome) and set(outcome.exits) == {0} and max(outcome.seconds) < 10 and sound


def power(directory: Path, seed: str, images: int) -> bool:
    """Crash images of the journal at work, and the negative control without a sync per commit."""
    print(f"power: {images} images, seed {seed}", flush=True)
    total, control = Verdict(), Verdict()
    for number in range(-(-images // IMAGES_EACH)):
        count = min(IMAGES_EACH, images - total.images)
        lose_power(directory / str(number), f"{seed}-{number}", total, count, phases=200)
    print(f"  synchronous=FULL: {total}")
    for number in range(max(1, images // (10 * IMAGES_EACH))):
        lose_power(directory / f"normal-{number}", f"{seed}-normal-{number}", control, IMAGES_EACH, 200, normal=True)
    print(f"  synchronous=NORMAL, the negative control, must lose: {control}")
    for example in (total.examples + control.examples * (not control.lossy))[:5]:
        print(f"  {example}")
    return not total.lossy and not total.corrupt and control.lossy > 0


def deadly(directory: Path, seed: str, rounds: int) -> bool:
    """Events that take the process down: each is found and buried, and no innocent one with them."""
    print(f"deadly: {rounds} deliveries to two plugins, seed {seed}", flush=True)
    outcome = deadly_rounds(directory, rounds, seed)
    print(f"  {outcome.deaths}")
    return _report(outcome) and outcome.exits == [0]


def simulation(directory: Path, seed: str, seeds: int) -> bool:
    """Histories of the delivery on virtual time, each from a seed of its own."""
    first = random.Random(seed).randrange(10**9)
    print(f"simulation: {seeds} seeds from {first} on, seed {seed}", flush=True)
    faults = 0
    logging.disable(logging.CRITICAL)  # the plugins' failures
    for number in range(seeds):
        try:
            simulate(first + number)
        except Broken as error:
            faults += 1
            print(f"  FAULT {error}", flush=True)
        if number % 1000 == 999:
            _say(f"{number + 1} seeds, {faults} broken")
    logging.disable(logging.NOTSET)
    return not faults


def reload(directory: Path, seed: str, requests: int) -> bool:
    """Reloads of a config that changes each time, under load: each request is answered 200, no connection closes."""
    print(f"reload: {requests} events, 16 senders", flush=True)
    changed = reload_rounds(directory, requests, say=_say)
    outcome = changed.outcome
    print(f"  {changed.changes} reloads, connections broken {outcome.broken}, values {dict(changed.asked)}")
    refused = set(outcome.answers) != {200} or set(changed.asked) != {"200"} or outcome.broken
    return _report(outcome) and not refused and outcome.exits == [0]


def restarts(directory: Path, seed: str, rounds: int) -> bool:
    """Restarts on the sockets of a service manager, under load: no connection is refused, every request is answered."""
    print(f"restarts: {rounds}, 4 senders that connect for each event", flush=True)
    directory.mkdir(parents=True)
    found = restart_rounds(directory, rounds, say=_say)
    print(f"  answers {dict(found.statuses)}, {found.halves} under way for 0.3 s, refused or broken"
          f" {len(found.failures)} {found.failures[:3]}, lost {found.lost}")  # fmt: skip
    return not found.failures and not found.lost and set(found.statuses) == {200}


def _report(outcome: Outcome) -> bool:
    print(f"  {outcome.findings}")
    print(f"  answers {outcome.answers}")
    for fault in [*outcome.findings.faults(), *outcome.unexpected[:5]]:
        print(f"  FAULT {fault}")
    return not outcome.findings.faults() and not outcome.unexpected


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


PROOFS: dict[str, tuple[Callable[[Path, str, int], bool], int]] = {
    "kill": (kill, 200),
    "power": (power, 10_000),
    "stop": (stop, 50),
    "deadly": (deadly, 6),
    "simulation": (simulation, 10_000),
    "reload": (reload, 10_000),
    "restarts": (restarts, 20),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", nargs="?", choices=[*PROOFS, "all"], default="all")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(32):08x}")
    parser.add_argument(
        "--rounds",
        "--seeds",
        type=int,
        help="rounds, crash images, seeds or events, in place of the proof's own number",
    )
    parser.add_argument("--directory", type=Path, help="where to work, and to leave what was found")
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="torture-"))
    failed = []
    for name, (prove, rounds) in PROOFS.items():
        if arguments.proof in (name, "all"):
            began = time.monotonic()
            if not prove(directory / name, arguments.seed, arguments.rounds or rounds):
                failed.append(name)
            print(f"  {'FAILED' if name in failed else 'held'} after {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; seed {arguments.seed}; what they left is in {directory}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
