-- Three roles for a journal in PostgreSQL, each with what it needs and no more. Run it as a superuser, in the database of
-- the journal, before the first start, and again once the tables are there:
--
--   createdb --encoding=UTF8 gateway
--   psql -d gateway -f grants.sql
--   psql -d gateway -c '\password webio_owner' -c '\password webio_gateway' -c '\password webio_reports'
--   gateway journal upgrade --url postgresql://webio_owner@db.example.com/gateway --password-file owner.password
--   psql -d gateway -f grants.sql
--
-- It changes nothing that is right already, so it may be run after each upgrade of the gateway.
DO $$
BEGIN
    -- Owns the tables. Only `gateway journal upgrade` and `gateway journal copy` use it.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webio_owner') THEN
        CREATE ROLE webio_owner LOGIN;
    END IF;
    -- The gateways and their commands: journal.url = "postgresql://webio_gateway@db.example.com/gateway".
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webio_gateway') THEN
        CREATE ROLE webio_gateway LOGIN;
    END IF;
    -- Reports: reads the two views, which have the bodies of events, too.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webio_reports') THEN
        CREATE ROLE webio_reports LOGIN;
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS webio AUTHORIZATION webio_owner;
ALTER ROLE webio_owner SET search_path = webio;
ALTER ROLE webio_gateway SET search_path = webio;
ALTER ROLE webio_reports SET search_path = webio;
ALTER ROLE webio_reports SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA webio TO webio_gateway, webio_reports;

-- What there is, and what later layouts add.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA webio TO webio_gateway;
ALTER DEFAULT PRIVILEGES FOR ROLE webio_owner IN SCHEMA webio
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO webio_gateway;
ALTER DEFAULT PRIVILEGES FOR ROLE webio_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE webio_owner IN SCHEMA webio GRANT EXECUTE ON FUNCTIONS TO webio_gateway;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA webio FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA webio TO webio_gateway;

-- With require_standby, the gateway looks for the standby; it also notices a database that was restored or replaced.
GRANT pg_read_all_stats TO webio_gateway;
GRANT EXECUTE ON FUNCTION pg_control_system() TO webio_gateway, webio_owner;

DO $$
BEGIN
    IF to_regclass('webio.gateway_events') IS NOT NULL THEN
        GRANT SELECT ON webio.gateway_events, webio.gateway_deliveries TO webio_reports;
    END IF;
END
$$;
