"""`kill -9` at random moments: the plugin `sql_events` has a row for each event that was acknowledged, and one only."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from databases import open_database
from senders import Senders
from victim import Victim

SEED = os.environ.get("TORTURE_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"
ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "4"))


@pytest.mark.timeout(60 + 30 * ROUNDS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_random_moments_each_event_has_one_row(kind: str, tmp_path: Path) -> None:
    """None is lacking, none is another's. `TORTURE_ROUNDS` is how often it is killed."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with open_database(kind, tmp_path / "victim") as database:
        config = f'[plugins.sql_events]\nurl = {database.config}\ntable = "{database.table}"\n'
        victim = Victim(tmp_path / "victim", config)
        try:
            with Senders(victim.config, pause=0.002) as senders:
                victim.start()
                for _ in range(ROUNDS):
                    time.sleep(chance.uniform(0.05, 1.0))
                    victim.kill()
                    victim.start()
                senders.finish(60)
            victim.wait_delivered(180)
            assert victim.terminate()[0] == 0
        finally:
            victim.kill()
        rows = database.execute(f"SELECT id FROM {database.table}")
        assert senders.unexpected == []
        assert len(senders.acknowledged) > 100
        assert len(rows) == len(set(rows))
        assert {event.id for event in senders.acknowledged} == {id for (id,) in rows}
        print(f"{kind}: {ROUNDS} rounds, {len(rows)} rows")
