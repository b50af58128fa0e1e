"""The views of layout 1 that reports may read beside the gateways: a part of the contract, described in docs/scale.md.
They tell what a search tells. The tables behind them may change with a layout; a column of a view keeps its meaning."""

from __future__ import annotations

from typing import Final

VIEWS: Final = """
CREATE VIEW gateway_events AS
SELECT seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, name, node,
    raw AS body
FROM events;
COMMENT ON VIEW gateway_events IS 'The events that the journal keeps, one row each.';
CREATE VIEW gateway_deliveries AS
SELECT events.seq, events.id, p.plugin,
    coalesce(k.state, CASE WHEN events.seq <= greatest(coalesce(c.seq, p.begins),
        coalesce(c.floors[events.bucket + 1], 0)) THEN 'delivered' ELSE 'waiting' END) AS state,
    coalesce(k.attempts, 0) AS attempts,
    nullif(k.error, '') AS error,
    CASE WHEN k.state = 'dead' THEN to_timestamp(k.since) END AS dead_since,
    CASE WHEN k.state = 'retrying' THEN to_timestamp(k.next_at) END AS next_try
FROM events
CROSS JOIN plugins p
LEFT JOIN cursors c ON c.plugin = p.plugin AND c.shard = events.bucket % p.shards
LEFT JOIN parked k ON k.plugin = p.plugin AND k.seq = events.seq
WHERE p.removed_at IS NULL AND k.state IS DISTINCT FROM 'no taker' AND (k.state IS NOT NULL OR (p.begins < events.seq
    AND coalesce((
        SELECT t.hooks = '*' OR strpos(t.hooks, ',*@' || events.organisation || ',') > 0
            OR strpos(t.hooks, ',' || came.hook || '*,') > 0
            OR strpos(t.hooks, ',' || came.hook || '*@' || events.organisation || ',') > 0
            OR (events.readable AND events.name IS NULL AND (strpos(t.hooks, ',' || events.hook || ',') > 0
                OR strpos(t.hooks, ',' || events.hook || '@' || events.organisation || ',') > 0))
        FROM takes t, (VALUES (CASE WHEN events.name IS NULL THEN events.hook ELSE 'unknown' END)) AS came (hook)
        WHERE t.plugin = p.plugin AND t.position < events.seq ORDER BY t.position DESC LIMIT 1), true)));
COMMENT ON VIEW gateway_deliveries IS 'How far each plugin is with each event that it takes, one row for both.';
"""
