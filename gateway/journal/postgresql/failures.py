"""What an error of the database, or of the way to it, means for the journal: one plain sentence each, without secrets
and without anything of an event."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from asyncpg import exceptions as errors

from gateway.journal.interface import JournalError, JournalFull, JournalRefused
from gateway.journal.postgresql.append_function import NOT_DURABLE


class DatabaseLost(JournalFull):
    """There is no connection to the database. What was not committed is not kept; it is tried again by itself."""


class NoPrimary(DatabaseLost):
    """No host takes writes."""


class DatabaseFull(JournalFull):
    """The disk of the database is full."""


class ValueRefused(JournalFull):
    """The database cannot hold something in what was to be written; the rest can be written without it."""


REFUSED: Final = (
    errors.InvalidPasswordError,
    errors.InvalidAuthorizationSpecificationError,
    errors.InvalidCatalogNameError,
    errors.InsufficientPrivilegeError,
    ssl.SSLCertVerificationError,
)
LOST: Final = (
    errors.PostgresConnectionError,
    errors.AdminShutdownError,
    errors.CrashShutdownError,
    errors.CannotConnectNowError,
    errors.IdleSessionTimeoutError,
    errors.ConnectionDoesNotExistError,
    errors.TooManyConnectionsError,
    errors.ReadOnlySQLTransactionError,
    errors.TargetServerAttributeNotMatched,
    errors.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""Nothing is wrong with what was asked; another connection may work."""
DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, errors.InternalClientError, OSError)
"""All that the driver raises."""
AGAIN: Final = (errors.SerializationError, errors.DeadlockDetectedError)
"""PostgreSQL asks for the transaction to be repeated."""


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the database within become `JournalError`s."""
    try:
        yield
    except JournalError:
        raise
    except DRIVER as error:
        raise meaning(error) from error


def meaning(error: BaseException) -> JournalError:
    """The `JournalError` for an error of the driver."""
    if isinstance(error, JournalError):
        return error
    if isinstance(error, errors.TargetServerAttributeNotMatched):
        return NoPrimary("no host of journal.url takes writes: what answers is a standby, or read-only")
    if isinstance(error, errors.ReadOnlySQLTransactionError):
        return NoPrimary("the database takes no writes: it is a standby, or read-only")
    if isinstance(error, REFUSED):
        return JournalRefused(_refusal(error))
    if isinstance(error, errors.TooManyConnectionsError):
        return DatabaseLost("the database has no connection left (max_connections, or the limit of the user)")
    if isinstance(error, errors.ProtocolViolationError):
        return JournalRefused(
            "journal.url leads to a connection pooler, or to what is not PostgreSQL: name the database server itself"
        )
    if isinstance(error, errors.CannotConnectNowError):
        return DatabaseLost("the database starts or stops")
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return JournalRefused("the database offers no TLS; set ssl = on there, or give sslmode in journal.url")
    if isinstance(error, LOST):
        return DatabaseLost(f"the database cannot be reached ({_short(error)})")
    if isinstance(error, errors.DiskFullError):
        return DatabaseFull("the disk of the database is full")
    if isinstance(error, errors.InsufficientResourcesError):
        return JournalFull(f"the database has not enough memory or other resources ({type(error).__name__})")
    if isinstance(error, errors.QueryCanceledError):
        return JournalFull("the database ended a statement (statement_timeout, or a person did)")
    if isinstance(error, errors.LockNotAvailableError):
        return JournalFull("another session of the database holds a lock on the journal's tables (lock_timeout)")
    if isinstance(error, AGAIN):
        return JournalFull("the database could not order two transactions; try again")
    if isinstance(error, errors.UndefinedTableError | errors.UndefinedColumnError | errors.UndefinedFunctionError):
        return JournalFull("a table, column or function of the journal is missing in the database: restore it")
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == NOT_DURABLE:
        return JournalFull("the settings of the database have changed, and it could lose events that were answered")
    if isinstance(error, errors.ProgramLimitExceededError) and error.server_source_filename == "async.c":
        return JournalFull(
            "the notification queue of the database is full: end the session that has been idle in a transaction"
        )
    if isinstance(
        error, errors.DataError | errors.IntegrityConstraintViolationError | errors.ProgramLimitExceededError
    ):
        return ValueRefused(f"the database cannot hold a value of that ({_state(error)})")
    if isinstance(error, asyncpg.PostgresError):
        return JournalFull(f"the database refuses to do that ({_state(error)})")
    if isinstance(error, asyncpg.InterfaceError):
        return DatabaseLost(f"the connection to the database cannot be used ({type(error).__name__})")
    return JournalError(f"the journal failed ({type(error).__name__})")


def _refusal(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the database is not trusted ({error.verify_message}); name the certificate that"
            " signs it in journal.ca"
        )
    if isinstance(error, errors.InvalidPasswordError):
        return "the database refuses the password; look at journal.password"
    if isinstance(error, errors.InvalidCatalogNameError):
        return "the database in journal.url does not exist; create it, or name another"
    if isinstance(error, errors.InsufficientPrivilegeError):
        return "the user in journal.url lacks a right on the database or the journal's tables"
    return "the database refuses the user in journal.url (pg_hba.conf, or the user does not exist)"


def _state(error: asyncpg.PostgresError) -> str:
    return f"{type(error).__name__}, SQLSTATE {error.sqlstate}"


def _short(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it does not answer" if isinstance(error, asyncio.TimeoutError) else type(error).__name__
