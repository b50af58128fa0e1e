"""The tables of layout 1. The journal in a file has the same ones, which its layout explains.

btree entries are limited to 2.7 kB, so indexes of texts that a sender chose have their first 256 characters: queries
compare those and the whole text. `received_at` and other times are the gateway's, leases go by the database's clock.
"""

from __future__ import annotations

from typing import Final

MARKER: Final = "gateway_journal"
"""The table by which a journal is recognised."""

TABLES: Final = """
CREATE TABLE gateway_journal (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    journal uuid NOT NULL DEFAULT gen_random_uuid(),
    layout integer NOT NULL,
    system_identifier text,  -- of the database cluster, where the user may know it
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    copy_of text  -- while this is an unfinished copy of another journal: which one
);
CREATE TABLE head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL  -- the newest position; its row's lock orders the appends of all gateways
) WITH (fillfactor = 10);
INSERT INTO head (seq) VALUES (0);
CREATE TABLE events (
    seq bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    received_at timestamptz NOT NULL,
    organisation text NOT NULL,
    hook text NOT NULL,
    conversation_id text,
    customer_uid text,
    readable boolean NOT NULL,
    conflict boolean NOT NULL,
    created bigint,  -- microseconds since 1970
    digest bytea,
    natural_key bytea,  -- see columns.py
    name text,
    address text,  -- as address_key gives it
    bucket smallint NOT NULL,
    node text NOT NULL,  -- the gateway that received it
    raw bytea NOT NULL
);
CREATE UNIQUE INDEX events_body ON events (created, digest) WHERE digest IS NOT NULL;
CREATE INDEX events_natural ON events (natural_key) WHERE natural_key IS NOT NULL;
CREATE INDEX events_conversation ON events (left(conversation_id, 256), seq) WHERE conversation_id IS NOT NULL;
CREATE INDEX events_customer ON events (left(customer_uid, 256), seq) WHERE customer_uid IS NOT NULL;
CREATE INDEX events_address ON events (left(address, 256), seq) WHERE address IS NOT NULL;
CREATE INDEX events_named ON events (name, seq) WHERE name IS NOT NULL;
CREATE INDEX events_unknown ON events (name, seq) WHERE hook = 'unknown';
CREATE INDEX events_unreadable ON events (seq) WHERE NOT readable;
CREATE TABLE plugins (
    plugin text PRIMARY KEY,
    begins bigint NOT NULL,  -- events up to here were before the plugin's time
    shards integer NOT NULL DEFAULT 1,
    removed_at timestamptz
);
CREATE TABLE cursors (
    plugin text NOT NULL,
    shard integer NOT NULL,
    seq bigint NOT NULL,
    floors bigint[],  -- floors[bucket + 1]: events of this bucket up to here are settled; null: of none
    epoch bigint NOT NULL DEFAULT 0,
    clean boolean NOT NULL DEFAULT true,
    owner uuid,
    owner_name text,
    lease_until timestamptz,
    PRIMARY KEY (plugin, shard)
) WITH (fillfactor = 50);
CREATE TABLE takes (
    plugin text NOT NULL,
    position bigint NOT NULL,
    hooks text NOT NULL,
    PRIMARY KEY (plugin, position)
);
CREATE TABLE parked (
    plugin text NOT NULL,
    seq bigint NOT NULL,
    bucket smallint NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    next_at double precision NOT NULL,
    error text NOT NULL,
    since double precision NOT NULL,
    conversation text,
    replayed boolean NOT NULL,
    asked boolean NOT NULL,
    PRIMARY KEY (plugin, seq)
);
CREATE INDEX parked_state ON parked (state, plugin, seq);
CREATE INDEX parked_seq ON parked (seq);
CREATE INDEX parked_conversation ON parked (plugin, left(conversation, 256), seq)
    WHERE conversation IS NOT NULL AND state IN ('retrying', 'waiting');
CREATE TABLE suspects (
    plugin text NOT NULL,
    seq bigint NOT NULL,
    bucket smallint NOT NULL,
    crashes integer NOT NULL,
    running boolean NOT NULL,
    PRIMARY KEY (plugin, seq)
);
CREATE TABLE attempts (
    seq bigint NOT NULL,
    plugin text NOT NULL,
    at timestamptz NOT NULL,
    number integer NOT NULL,
    ms double precision,
    error text NOT NULL,  -- empty: it succeeded
    PRIMARY KEY (seq, plugin, at)
);
CREATE TABLE marks (
    plugin text NOT NULL,
    shard integer NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (plugin, shard, seq)
);
CREATE TABLE operations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    filter text NOT NULL,
    in_order boolean NOT NULL,
    state text NOT NULL,
    begun_at double precision NOT NULL,
    ended_at double precision,
    at_plugin text NOT NULL,
    at_seq bigint NOT NULL,
    matched bigint NOT NULL,
    done bigint NOT NULL,
    value_records bigint NOT NULL,
    told text NOT NULL,
    error text,
    runner uuid,  -- the node that carries it out
    runner_until timestamptz
);
CREATE TABLE replays (
    number bigint NOT NULL,
    shard integer NOT NULL,
    plugin text NOT NULL,
    filter text NOT NULL,
    position bigint NOT NULL,
    until bigint NOT NULL,
    matched bigint NOT NULL,
    done bigint NOT NULL,
    finished_at double precision,
    PRIMARY KEY (number, shard)
);
CREATE TABLE retried (
    plugin text NOT NULL,
    seq bigint NOT NULL,
    operation bigint NOT NULL,
    attempts integer NOT NULL,
    PRIMARY KEY (plugin, seq)
);
CREATE INDEX retried_operation ON retried (operation);
CREATE TABLE erasures (
    operation bigint NOT NULL,
    node uuid NOT NULL,  -- a gateway whose plugins are to be asked, too
    node_name text NOT NULL,
    told text,  -- what they answered; null: nothing yet
    PRIMARY KEY (operation, node)
);
CREATE TABLE value_records (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    organisation text NOT NULL,
    customer_uid text,
    address text,  -- masked
    fields text NOT NULL,  -- JSON
    status integer NOT NULL
);
CREATE INDEX value_records_at ON value_records (at);
CREATE INDEX value_records_customer ON value_records (left(customer_uid, 256), number) WHERE customer_uid IS NOT NULL;
CREATE TABLE notes (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE nodes (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at timestamptz,
    version text NOT NULL,
    layout integer NOT NULL,
    about jsonb NOT NULL
);
"""
