"""`sql_events` beside bare asyncpg: `executemany` of the same rows, in batches as large as a checkpoint's, one
transaction each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec
from bare import Subject
from sqlalchemy import make_url

URL = os.environ.get("GATEWAY_TEST_POSTGRESQL", "postgresql+asyncpg://root@127.0.0.1:5432/test")
DSN = make_url(URL).set(drivername="postgresql").render_as_string(hide_password=False)
TABLE = "webio_benchmark"
BATCH = 500
UPSERT = f"""INSERT INTO {TABLE} VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET
received_at = excluded.received_at, organisation = excluded.organisation, hook = excluded.hook,
conversation_id = excluded.conversation_id, customer_uid = excluded.customer_uid, body = excluded.body"""
CREATE = f"""CREATE TABLE IF NOT EXISTS {TABLE} (id text PRIMARY KEY, received_at timestamptz NOT NULL,
organisation text NOT NULL, hook text NOT NULL, conversation_id text, customer_uid text, body text NOT NULL)"""


class Record(msgspec.Struct):
    id: str
    received_at: datetime
    organisation: str
    hook: str
    body: msgspec.Raw


class Body(msgspec.Struct, rename={"conversation_id": "conversationId", "customer_uid": "customerUID"}):
    conversation_id: str | None = None
    customer_uid: str | None = None


async def _run(*statements: str) -> None:
    connection = await asyncpg.connect(DSN)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    indexes = [
        f"CREATE INDEX IF NOT EXISTS {TABLE}_{column} ON {TABLE} ({column})"
        for column in ("received_at", "conversation_id", "customer_uid")
    ]

    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        await _run(f"DROP TABLE IF EXISTS {TABLE}", CREATE, *indexes)
        connection = await asyncpg.connect(DSN)
        for first in range(0, len(records), BATCH):
            rows = []
            for record in map(msgspec.json.Decoder(Record).decode, records[first : first + BATCH]):
                body = msgspec.json.decode(record.body, type=Body)
                rows.append(
                    (
                        *(record.id, record.received_at, record.organisation, record.hook),
                        *(body.conversation_id, body.customer_uid, bytes(record.body).decode()),
                    )
                )
            async with connection.transaction():
                await connection.executemany(UPSERT, rows)
        await connection.execute(f"TRUNCATE {TABLE}")
        await connection.close()

    try:
        yield Subject(f'url = "{DSN}"\ntable = "{TABLE}"\n', bare, events=10000)
    finally:
        asyncio.run(_run(f"DROP TABLE IF EXISTS {TABLE}"))
