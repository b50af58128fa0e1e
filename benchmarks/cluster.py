"""Proofs and figures of several gateways on one PostgreSQL journal: `python benchmarks/cluster.py PROOF [--seed S]`.

The servers are started from the installed binaries of PostgreSQL: a primary with a synchronous standby, and three
gateways, each on a host of its own: a network namespace where that is allowed (by root), else ports behind proxies.
Each proof prints its figures with their goals, and the command exits 1 when one is missed.

    rounds    gateways killed, frozen, cut off, with wrong clocks; primaries killed, cut off, replaced: nothing
              acknowledged is lost, skipped or out of order, and what is delivered again says so
    controls  clusters that are wrong on purpose, in which faults must be found: `sequence` in place of the head row
              skips, an `asynchronous` standby loses, an owner with `no-epoch` breaks the order
    timings   how soon others go on: when a gateway is killed or stopped, and when the standby is promoted
    rates     acknowledgements beside those of the journal in a file; deliveries by one to three gateways (needs wrk)
    flat      the rate, and the events of a customer, in a journal of ten million (needs wrk and 20 GB of disk)
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]

from cluster_rates import compare_engines, flat, spread_delivery  # noqa: E402
from cluster_rounds import cluster_rounds  # noqa: E402
from controls import numbers_from_a_sequence, owner_frozen, standby_cut_off_before_the_kill  # noqa: E402
from network import enter_namespace  # noqa: E402
from timings import promotion, take_over  # noqa: E402
from whole_cluster import Cluster  # noqa: E402

SHORT = 1
"""The count of a proof's short form."""
PATIENCE = "CLUSTER_PATIENCE"


def rounds(folder: Path, seed: str, count: int) -> bool:
    """Disasters at random under load, then the verdict on the whole history."""
    print(f"rounds: {count}, load on 3 gateways, seed {seed}", flush=True)
    outcome = cluster_rounds(folder, count, seed, say=say)
    print(f"  {outcome.findings}")
    print(f"  struck {outcome.struck}")
    print(f"  answers {outcome.answers}, without an answer {outcome.broken}, slowest return {outcome.slowest:.1f} s")
    for fault in outcome.faults()[:20]:
        print(f"  FAULT {fault}")
    return not outcome.faults()


def sequence(folder: Path, seed: str, count: int) -> bool:
    """Plugins skip events where positions come from a sequence."""
    print("sequence: positions from a sequence in place of the head row, must skip", flush=True)
    found = numbers_from_a_sequence(folder)
    print(f"  {found}")
    return bool(found.skipped)


def asynchronous(folder: Path, seed: str, count: int) -> bool:
    """What a primary acknowledged without its standby is lost with it; with a synchronous standby nothing is."""
    print(
        "asynchronous: the standby is cut off a second before the primary dies; must lose, a synchronous not",
        flush=True,
    )
    losing = standby_cut_off_before_the_kill(folder / "asynchronous", synchronous=False)
    print(f"  asynchronous: {losing}")
    waiting = standby_cut_off_before_the_kill(folder / "synchronous", synchronous=True)
    print(f"  synchronous: {waiting}")
    return bool(losing.lost) and not waiting.faults()


def no_epoch(folder: Path, seed: str, count: int) -> bool:
    """An owner that was frozen breaks the order where neither its lease nor its epoch counts."""
    print("no-epoch: an owner is frozen for 13 s; must break the order without epochs, with them not", flush=True)
    fenceless = owner_frozen(folder / "no-epoch", patch="no_epoch")
    print(f"  without: {fenceless}")
    if count == SHORT:
        return bool(fenceless.out_of_order)
    fenced = owner_frozen(folder / "epoch")
    print(f"  with: {fenced}")
    return bool(fenceless.out_of_order) and not fenced.faults()


def timings(folder: Path, seed: str, count: int) -> bool:
    """The others' acknowledgements go on within 1 s, deliveries within 15 s; acknowledgements 5 s after a promotion."""
    print(f"timings: {count} of each", flush=True)
    kills, stops, promotions = [], [], []
    with Cluster(folder) as cluster:
        cluster.start()
        with cluster.load() as load:
            for _ in range(count):
                kills.append(take_over(cluster, load))
                say(f"killed: {kills[-1]}")
                stops.append(take_over(cluster, load, signal.SIGTERM))
                say(f"stopped: {stops[-1]}")
                promotions.append(promotion(cluster, load))
                say(f"promoted: acknowledges again after {promotions[-1]:.2f} s")
    within = {
        "pause of the others' acknowledgements after a kill": (max(one.gap for one in kills), 1),
        "until others deliver after a kill": (max(one.taken_over for one in kills), 15),
        "until others deliver after SIGTERM": (max(one.taken_over for one in stops), 5),
        "until acknowledgements after a promotion": (max(promotions), 5),
    }
    patience = float(os.environ.get(PATIENCE, "1"))
    return goals({name: (found, goal, found <= goal * patience) for name, (found, goal) in within.items()})


def rates(folder: Path, seed: str, count: int) -> bool:
    """One gateway beside the journal in a file; deliveries of one to three gateways to a plugin that takes 20 ms."""
    print(f"rates: {count} rounds", flush=True)
    rate, p99 = compare_engines(folder / "engines", count, say)
    one, _, three = spread_delivery(folder / "spread", say)
    return goals(
        {
            "rate over that of the journal in a file": (rate, 0.6, rate >= 0.6),
            "p99 over that of the journal in a file": (p99, 3, p99 <= 3),
            "deliveries of three gateways over those of one": (three / one, 2.5, three / one >= 2.5),
        }
    )


def large(folder: Path, seed: str, count: int) -> bool:
    """Rate and search in a large journal, beside a small one."""
    print(f"flat: {count} events", flush=True)
    rate, milliseconds = flat(folder, count, say)
    return goals(
        {
            f"rate beside {count} events over that beside 10000": (rate, 0.9, rate >= 0.9),
            "milliseconds for the events of a customer": (milliseconds, 100, milliseconds <= 100),
        }
    )


def goals(found: dict[str, tuple[float, float, bool]]) -> bool:
    """Print figures with their goals, and whether each was met."""
    for name, (figure, goal, met) in found.items():
        print(f"  {name}: {figure:.2f} (goal {goal:g}{'' if met else ', MISSED'})")
    return all(met for _, _, met in found.values())


def say(line: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {line}", flush=True)


PROOFS: dict[str, tuple[Callable[[Path, str, int], bool], int]] = {
    "rounds": (rounds, 200),
    "sequence": (sequence, 2),
    "asynchronous": (asynchronous, 2),
    "no-epoch": (no_epoch, 2),
    "timings": (timings, 5),
    "rates": (rates, 3),
    "flat": (large, 10_000_000),
}

GROUPS = {"controls": ("sequence", "asynchronous", "no-epoch")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", nargs="?", choices=[*PROOFS, *GROUPS, "all"], default="all")
    parser.add_argument("count", nargs="?", type=int, help="rounds or events, in place of the proof's own number")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(32):08x}")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="goals of `timings` are times this, where others work"
    )
    parser.add_argument("--ports", action="store_true", help="do without network namespaces")
    parser.add_argument("--directory", type=Path, help="where to work, and to leave what was found")
    arguments = parser.parse_args()
    if not arguments.ports:
        enter_namespace()
    os.environ[PATIENCE] = str(arguments.patience)
    folder = arguments.directory or Path(tempfile.mkdtemp(prefix="gateways-"))
    failed = []
    for name, (prove, count) in PROOFS.items():
        if arguments.proof in (name, "all") or name in GROUPS.get(arguments.proof, ()):
            began = time.monotonic()
            try:
                held = prove(folder / name, arguments.seed, arguments.count or count)
            except AssertionError as error:
                held = False
                print(f"  FAULT {error}")
            if not held:
                failed.append(name)
            print(f"  {'FAILED' if name in failed else 'held'} after {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; seed {arguments.seed}; what they left is in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
