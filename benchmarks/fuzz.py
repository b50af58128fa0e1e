"""Fuzzing of bodies, queries, headers and framing against a gateway that really runs, with its plugins on.

    python benchmarks/fuzz.py [--cases 100000] [--seed 0]

Exits 1 if a request was answered 5xx or not at all although it was whole, if the log has a traceback, or if the
worker has grown by more than its caches can hold. A fault is printed with its number, which `--seed` repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fuzzing import fuzz
from running import running

MOST_GROWTH = 120
"""MiB: SQLite's page cache (64) and the journal's newest events in memory (32) fill up meanwhile."""
CONFIG = """
[plugins.logging]
output = "events.log"
[plugins.archive]
directory = "archive"
[plugins.sql_values]
url = "sqlite:///customers.db"
[[plugins.sql_values.queries]]
sql = "SELECT balance FROM customers WHERE customer_uid = :customer_uid"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with sqlite3.connect(directory / "customers.db") as database:
            database.execute("CREATE TABLE customers (customer_uid TEXT, balance TEXT)")
            database.execute("INSERT INTO customers VALUES ('123456', '120.50')")
        database.close()
        with running(directory, CONFIG) as gateway:
            began = time.monotonic()
            outcome = asyncio.run(fuzz(gateway, arguments.cases, seed=arguments.seed))
            seconds = time.monotonic() - began
            tracebacks = gateway.text.count("Traceback")
            errors = [line for line in gateway.output if " error " in line]
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(outcome.statuses.items()))
    print(f"{arguments.cases} cases in {seconds:.0f} s; answers {answers}")
    print(f"{len(outcome.faults)} faults, {tracebacks} tracebacks, {len(errors)} error lines, {outcome.grown:+.1f} MiB")
    for number, data in outcome.faults[:10]:
        print(f"  --seed {number} --cases 1: {data[:300]!r}")
    for line in errors[:10]:
        print(f"  {line.rstrip()}")
    return 1 if outcome.faults or tracebacks or errors or outcome.grown > MOST_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
