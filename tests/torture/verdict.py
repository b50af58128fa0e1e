"""The checks after every torture, from outside: the command line, the archive's files, a plugin's own file, SQLite."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import apsw
import msgspec
from senders import Acknowledged, number_of
from victim import Victim


class Findings(msgspec.Struct):
    """How many events there were, and what was wrong with them; every list must be empty."""

    acknowledged: int
    kept: int
    archived: int
    lost: list[str] = []
    """Acknowledged, but not in the journal, or another event there."""
    kept_twice: list[str] = []
    """One event of a sender under two ids, in spite of its equal body."""
    not_archived: list[str] = []
    archived_twice: list[str] = []
    out_of_order: list[str] = []
    """Events of one conversation that the archive or the recorder has in another order than the journal."""
    repeated_silently: list[str] = []
    """Given to the recorder again without saying that it may have been there before."""
    unsound: list[str] = []

    def faults(self) -> list[str]:
        """Every kind of fault that there was, with examples."""
        found = msgspec.to_builtins(self)
        return [
            f"{kind}: {len(faults)}, such as {faults[:3]}"
            for kind, faults in found.items()
            if type(faults) is list and faults
        ]

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.kept} kept, {self.archived} archived; "
            f"lost {len(self.lost)}, kept twice {len(self.kept_twice)}, not archived {len(self.not_archived)}, "
            f"archived twice {len(self.archived_twice)}, out of order {len(self.out_of_order)}, "
            f"repeated silently {len(self.repeated_silently)}, unsound {len(self.unsound)}"
        )


def judge(victim: Victim, acknowledged: Iterable[Acknowledged], *, ordered: bool = True) -> Findings:
    """Compare what a stopped gateway has with what it acknowledged; unless `ordered`, in any order."""
    promised = list(acknowledged)
    journal: dict[str, tuple[int, str | None]] = {}
    numbers: Counter[int] = Counter()
    for line in victim.cli("events", "--json").splitlines():
        event = json.loads(line)
        journal[event["id"]] = number_of(event["body"]), event["conversation_id"]
        numbers[journal[event["id"]][0]] += 1
    archived = _archived(victim)
    ids = [event["id"] for event in archived]
    counts = Counter(ids)
    findings = Findings(acknowledged=len(promised), kept=len(journal), archived=len(counts))
    findings.lost = [one.id for one in promised if journal.get(one.id, (None,))[0] != one.number]
    findings.kept_twice = [str(number) for number, count in numbers.items() if count > 1]
    findings.not_archived = [event_id for event_id in journal if event_id not in counts]
    findings.archived_twice = [event_id for event_id, count in counts.items() if count > 1]
    findings.unsound = [event_id for event_id in counts if event_id not in journal] + _integrity(victim)
    findings.out_of_order = _disorder(journal, ids) if ordered else []
    notes = victim.directory / "recorded"
    if notes.exists():
        lines = [line.split() for line in notes.read_text().splitlines()]
        findings.out_of_order += _disorder(journal, [event_id for event_id, _ in lines])
        seen: set[str] = set()
        for event_id, redelivered in lines:
            if event_id in seen and redelivered == "0":
                findings.repeated_silently.append(event_id)
            seen.add(event_id)
        findings.not_archived += [f"recorder {event_id}" for event_id in journal if event_id not in seen]
    return findings


def _archived(victim: Victim) -> list[dict[str, Any]]:
    """Every line of the archive, day by day; a line that is not a JSON object fails here."""
    events = []
    for path in sorted((victim.directory / "archive").glob("*/*/*.jsonl")):
        text = path.read_text()
        assert text.endswith("\n"), f"{path} ends in the middle of a line"
        events += [json.loads(line) for line in text.splitlines()]
    assert all(set(event) == {"id", "received_at", "organisation", "hook", "body"} for event in events)
    return events


def _disorder(journal: dict[str, tuple[int, str | None]], ids: Iterable[str]) -> list[str]:
    """Those that come, the first time, before an earlier one of their conversation."""
    positions = {event_id: position for position, event_id in enumerate(journal)}
    furthest: dict[str, int] = {}
    seen: set[str] = set()
    found = []
    for event_id in ids:
        if event_id in seen or event_id not in journal:
            continue
        seen.add(event_id)
        conversation, position = journal[event_id][1], positions[event_id]
        if conversation is None:
            continue
        if furthest.get(conversation, -1) > position:
            found.append(event_id)
        furthest[conversation] = max(position, furthest.get(conversation, -1))
    return found


def _integrity(victim: Victim) -> list[str]:
    connection = apsw.Connection(str(victim.config.journal.path))
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    finally:
        connection.close()
