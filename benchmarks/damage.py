"""Damaged journals: `python benchmarks/damage.py [--count 10000] [--seed 1]`.

Flips a bit, zeroes a page or truncates the file of a journal or its write-ahead log, `--count` times, and reads it as
plugins and commands do. Prints what was served that was not written, and errors other than the journal's own (goal:
none of either).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests" / part) for part in ("journal", "")]

from damaging import run  # noqa: E402
from journal_kit import config_of  # noqa: E402

PART = 50


def part(seed: int) -> tuple[list[str], list[str]]:
    """What was served wrong, and errors, of `PART` damages."""
    logging.disable(logging.CRITICAL)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        try:
            return asyncio.run(run(config_of(Path(folder)), PART, seed)), []
        except Exception:
            return [], [f"seed {seed}: {traceback.format_exc()}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong: list[str] = []
    errors: list[str] = []
    seeds = range(options.seed, options.seed + -(-options.count // PART))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for served, raised in pool.map(part, seeds):
            wrong += served
            errors += raised
    print(f"{len(seeds) * PART} damages: {len(wrong)} served wrong, {len(errors)} errors")
    print(*wrong[:20], *errors[:5], sep="\n")
    sys.exit(1 if wrong or errors else 0)


if __name__ == "__main__":
    main()
