"""Damaged journals: `python benchmarks/damage.py [--count 10000] [--seed 1]`.

Flips a bit, zeroes a page or truncates the file of a journal, `--count` times, and reads it as plugins and commands do.
Prints what was served that was not written (goal: nothing); an error other than the journal's own ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests" / part) for part in ("journal", "")]

from damaging import run  # noqa: E402
from journal_kit import config_of  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(run(config_of(Path(folder)), options.count, options.seed))
    print(f"{options.count} damages: {len(wrong)} served wrong", *wrong[:20], sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
