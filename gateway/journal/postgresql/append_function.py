"""The function in the database that appends a group of events: one call, one transaction, one round trip.

Each statement of it that follows the lock of the head row sees every earlier append, so the checks for duplicates and
conflicts do, too. The rules are those of the journal in a file. A group of duplicates only still writes the head
row: its commit then waits until what it repeats is durable.
"""

from __future__ import annotations

from typing import Final

NOT_DURABLE: Final = "WG001"
"""The SQLSTATE where the settings of the database do not keep what is committed."""
_COLUMNS: Final = (
    "seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, created, digest,"
    " natural_key, name, address, bucket, node, raw"
)

APPEND: Final = f"""
CREATE FUNCTION gateway_append(
    ids uuid[], micros bigint[], organisations text[], hooks text[], conversations text[], customers text[],
    readables boolean[], createds bigint[], digests bytea[], natural_keys bytea[], names text[], addresses text[],
    buckets smallint[], raws bytea[],
    earlier bytea[],     -- the digest of the first event of the group with the same natural key, unless it is the first
    by_node text,
    dedupe_window bigint,  -- microseconds
    channel text,
    need_standby boolean,
    OUT before bigint,   -- the n-th event of the group that is not repeated has the position before + n
    OUT newest bigint,
    OUT repeated integer[],  -- which events of the group repeat another, from 1
    OUT first_ids uuid[],    -- those others
    OUT first_hooks text[],
    OUT first_readables boolean[]
) LANGUAGE plpgsql AS $function$
#variable_conflict use_column
DECLARE
    size CONSTANT integer := cardinality(ids);
    written integer;
    place integer;
    first record;
    owner record;
    epoch CONSTANT timestamptz := timestamptz '1970-01-01 00:00:00+00';
BEGIN
    IF current_setting('fsync') <> 'on' OR current_setting('full_page_writes') <> 'on'
        OR current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
        OR need_standby AND current_setting('synchronous_standby_names') = '' THEN
        RAISE EXCEPTION 'a commit would not be durable' USING ERRCODE = '{NOT_DURABLE}';
    END IF;
    UPDATE head SET seq = head.seq + size RETURNING head.seq - size INTO before;
    newest := before + size;
    INSERT INTO events ({_COLUMNS})
    SELECT before + r.n, r.id, epoch + r.micros * interval '1 microsecond', r.organisation, r.hook, r.conversation,
        r.customer, r.readable,
        r.natural_key IS NOT NULL AND (o.found IS NOT NULL OR r.earlier IS NOT NULL)
            AND coalesce(o.digest, r.earlier) IS DISTINCT FROM r.digest,
        r.created, r.digest, CASE WHEN o.found IS NULL AND r.earlier IS NULL THEN r.natural_key END,
        r.name, r.address, r.bucket, by_node, r.raw
    FROM unnest(ids, micros, organisations, hooks, conversations, customers, readables, createds, digests, natural_keys,
            names, addresses, buckets, raws, earlier)
        WITH ORDINALITY AS r(id, micros, organisation, hook, conversation, customer, readable, created, digest,
            natural_key, name, address, bucket, raw, earlier, n)
    LEFT JOIN LATERAL (
        SELECT true AS found, e.digest FROM events e WHERE e.natural_key = r.natural_key LIMIT 1
    ) o ON true
    ON CONFLICT (created, digest) WHERE digest IS NOT NULL DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < size THEN
        FOR place IN
            SELECT g FROM generate_series(1, size) g
            WHERE NOT EXISTS (SELECT FROM events e WHERE e.seq = before + g) ORDER BY g
        LOOP
            SELECT e.seq, e.id, e.hook, e.readable, e.natural_key,
                round(extract(epoch FROM e.received_at) * 1000000)::bigint AS micros
            INTO first FROM events e WHERE e.created = createds[place] AND e.digest = digests[place];
            IF FOUND AND abs(micros[place] - first.micros) <= dedupe_window THEN
                repeated := repeated || place;
                first_ids := first_ids || first.id;
                first_hooks := first_hooks || first.hook;
                first_readables := first_readables || first.readable;
                CONTINUE;
            END IF;
            SELECT e.digest INTO owner FROM events e WHERE e.natural_key = natural_keys[place] LIMIT 1;
            UPDATE events SET digest = NULL, natural_key = NULL WHERE events.seq = first.seq;
            INSERT INTO events ({_COLUMNS})
            VALUES (before + place, ids[place], epoch + micros[place] * interval '1 microsecond', organisations[place],
                hooks[place], conversations[place], customers[place], readables[place],
                coalesce(owner.digest <> digests[place], false), createds[place], digests[place], first.natural_key,
                names[place], addresses[place], buckets[place], by_node, raws[place]);
        END LOOP;
        SELECT coalesce(max(e.seq), before) INTO newest FROM events e WHERE e.seq > before;
        UPDATE head SET seq = newest WHERE head.seq <> newest;
    END IF;
    IF newest > before THEN
        PERFORM pg_notify(channel, newest::text);
    END IF;
END
$function$;
"""

LOOK_UP: Final = """
CREATE FUNCTION gateway_kept(ids uuid[]) RETURNS uuid[] LANGUAGE plpgsql AS $function$
DECLARE
    kept uuid[];
BEGIN
    UPDATE head SET seq = seq;  -- waits for an append that still runs; its commit makes durable what it finds
    SELECT coalesce(array_agg(e.id), '{}') INTO kept FROM events e WHERE e.id = ANY (ids);
    RETURN kept;
END
$function$;
"""
