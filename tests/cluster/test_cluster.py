"""The short forms of the proofs in `benchmarks/cluster.py`, which starts its own PostgreSQL servers and gateways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from machine import watch_group
from servers import PLACES, binaries

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cluster.py"
SEED = os.environ.get("TORTURE_SEED")


def prove(folder: Path, *arguments: str) -> str:
    """Run the script, which must find its proof held; what it printed."""
    if binaries() is None:
        message = f"no PostgreSQL in {PLACES} or GATEWAY_TEST_POSTGRESQL_BIN"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    seed = ["--seed", SEED] if SEED else []
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments, *seed, "--directory", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watch_group(process.pid)
    try:
        printed, _ = process.communicate(timeout=280)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    print(printed)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.timeout(300)
def test_nothing_is_lost_skipped_or_out_of_order_whatever_dies(tmp_path: Path) -> None:
    """Gateways are killed, frozen, cut off and given wrong clocks, and the standby takes over, under load on all."""
    printed = prove(tmp_path, "rounds", "5")
    assert "lost 0, kept twice 0, kept out of order 0, skipped 0, unknown 0, out of order 0" in printed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("control", ["sequence", "asynchronous", "no-epoch"])
def test_a_cluster_that_is_wrong_on_purpose_has_the_faults_that_it_must_have(tmp_path: Path, control: str) -> None:
    """Positions out of a sequence, a standby that the primary does not wait for, owners without an epoch."""
    prove(tmp_path, control, "1")


@pytest.mark.timeout(300)
def test_others_take_over(tmp_path: Path) -> None:
    """From a gateway that is killed, from one that is stopped, and from a primary; the goals are the benchmark's."""
    prove(tmp_path, "timings", "1", "--patience", "10")
