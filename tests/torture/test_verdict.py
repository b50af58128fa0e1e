"""The verdict finds what it is there to find: a gateway's files are damaged by hand, and each damage is named."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from senders import Acknowledged, Senders
from verdict import judge
from victim import RECORDER, Victim

from gateway.journal.sqlite.checksum import EVENT, register


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Victim, list[Acknowledged]]:
    """A gateway that took a hundred events and ended well."""
    victim = Victim(tmp_path / "victim", '[delivery]\nbackoff = "10ms"\n[plugins.recorder]\n', {"recorder": RECORDER})
    try:
        victim.start()
        with Senders(victim.config, 2) as senders:
            victim.wait(lambda: len(senders.acknowledged) >= 100, "acknowledging", 20)
        victim.wait_delivered()
        assert victim.terminate()[0] == 0
    finally:
        victim.kill()
    return victim, senders.acknowledged


def test_every_kind_of_damage_is_found(stopped: tuple[Victim, list[Acknowledged]]) -> None:
    """Lost, under another's id, kept twice, not archived, archived twice, out of order, repeated silently."""
    victim, acknowledged = stopped
    assert judge(victim, acknowledged).faults() == []
    first, second = acknowledged[0].id, acknowledged[1].id

    invented = judge(victim, [*acknowledged, Acknowledged(10**6, "never-kept", 0.0)])
    assert invented.lost == ["never-kept"]
    swapped = judge(victim, [acknowledged[0]._replace(id=second), *acknowledged[2:]])
    assert swapped.lost == [second]

    connection = apsw.Connection(str(victim.config.journal.path))
    connection.execute("DELETE FROM events WHERE id = ?", (first,))
    connection.execute(
        "INSERT INTO events (seq, id, received_at, organisation, hook, readable, conflict, raw)"
        " SELECT seq + 10000, 'again', received_at, organisation, hook, 1, 0, raw FROM events WHERE id = ?",
        (second,),
    )
    register(connection)
    connection.execute(f"UPDATE events SET checksum = row_checksum({EVENT}) WHERE id = 'again'")
    connection.close()
    damaged = judge(victim, acknowledged)
    assert damaged.lost == [first]
    assert damaged.unsound == [first]  # the archive has what the journal has not
    assert len(damaged.kept_twice) == 1
    assert damaged.not_archived == ["again", "recorder again"]

    [messages] = (victim.directory / "archive").glob("acme/inbound-message/*.jsonl")
    lines = messages.read_text().splitlines(keepends=True)
    messages.write_text("".join([*reversed(lines), lines[-1]]))
    notes = victim.directory / "recorded"
    notes.write_text(notes.read_text() + f"{second} 0\n")
    damaged = judge(victim, acknowledged)
    assert len(damaged.archived_twice) == 1
    assert len(damaged.out_of_order) > 50
    assert damaged.repeated_silently == [second]
    assert len(damaged.faults()) == 7
