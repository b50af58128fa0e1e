"""The function in the database that makes a plugin's progress durable: one call, one transaction, one round trip.

It locks the cursor's row, so that a gateway which takes the cursor waits for it, and changes nothing where the epoch is
not the cursor's any more. All that it does may be repeated: the answer of a call can be lost with its connection.
"""

from __future__ import annotations

from typing import Final

SETTLE: Final = """
CREATE FUNCTION gateway_settle(
    of_plugin text, of_shard integer, of_epoch bigint,
    to_seq bigint,        -- null: the cursor stays
    park json,            -- rows of parked
    release bigint[],     -- positions whose rows go
    tried json,           -- rows of attempts, times in seconds since 1970
    attempts_kept integer,  -- of each event
    replay bigint, replay_position bigint, replay_done bigint,
    now double precision  -- seconds since 1970
) RETURNS boolean LANGUAGE plpgsql AS $function$
#variable_conflict use_column
BEGIN
    PERFORM FROM cursors WHERE plugin = of_plugin AND shard = of_shard AND epoch = of_epoch FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF park IS NOT NULL THEN
        INSERT INTO parked
            (plugin, seq, bucket, state, attempts, next_at, error, since, conversation, replayed, asked)
        SELECT of_plugin, r.seq, e.bucket, r.state, r.attempts, r.next_at, r.error, r.since, r.conversation, r.replayed,
            r.asked
        FROM json_to_recordset(park) AS r(seq bigint, state text, attempts integer, next_at double precision,
            error text, since double precision, conversation text, replayed boolean, asked boolean)
        JOIN events e ON e.seq = r.seq  -- it may have been erased meanwhile
        ORDER BY r.seq
        FOR KEY SHARE OF e
        ON CONFLICT (plugin, seq) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
            next_at = excluded.next_at, error = excluded.error, since = excluded.since,
            conversation = excluded.conversation, replayed = excluded.replayed, asked = excluded.asked;
        DELETE FROM retried WHERE plugin = of_plugin
            AND seq IN (SELECT r.seq FROM json_to_recordset(park) AS r(seq bigint));
    END IF;
    IF release IS NOT NULL THEN
        DELETE FROM parked WHERE plugin = of_plugin AND seq = ANY (release);
        DELETE FROM retried WHERE plugin = of_plugin AND seq = ANY (release);
    END IF;
    IF tried IS NOT NULL THEN
        INSERT INTO attempts (seq, plugin, at, number, ms, error)
        SELECT r.seq, of_plugin, to_timestamp(r.at), r.number, r.ms, r.error
        FROM json_to_recordset(tried) AS r(seq bigint, at double precision, number integer, ms double precision,
            error text)
        JOIN events e ON e.seq = r.seq
        FOR KEY SHARE OF e
        ON CONFLICT (seq, plugin, at) DO UPDATE SET number = excluded.number, ms = excluded.ms, error = excluded.error;
        DELETE FROM attempts a USING (SELECT DISTINCT r.seq FROM json_to_recordset(tried) AS r(seq bigint)) t
        WHERE a.seq = t.seq AND a.plugin = of_plugin AND a.at <= (
            SELECT o.at FROM attempts o WHERE o.seq = t.seq AND o.plugin = of_plugin
            ORDER BY o.at DESC LIMIT 1 OFFSET attempts_kept);
    END IF;
    IF to_seq IS NOT NULL THEN
        UPDATE cursors SET seq = to_seq WHERE plugin = of_plugin AND shard = of_shard;
    END IF;
    IF replay IS NOT NULL THEN
        UPDATE replays SET position = replay_position, done = done + replay_done,
            finished_at = coalesce(finished_at, CASE WHEN replay_position >= until THEN now END)
        WHERE number = replay AND shard = of_shard AND (position < replay_position
            OR (position = replay_position AND finished_at IS NULL AND replay_position >= until));
    END IF;
    RETURN true;
END $function$;
"""
