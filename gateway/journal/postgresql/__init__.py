"""The journal in a PostgreSQL database, which several gateways can share."""

from gateway.journal.interface import JournalRefused

try:
    import asyncpg as asyncpg
except ModuleNotFoundError:
    raise JournalRefused(
        "journal.url needs the driver of PostgreSQL; install it: pip install 'webio-gateway[postgresql]'"
    ) from None
