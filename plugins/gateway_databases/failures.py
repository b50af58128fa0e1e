"""Errors of the database, without customers' data."""

from __future__ import annotations

import logging
import re
from typing import Final

_TIMEOUT_STATES: Final = {"57014"}  # PostgreSQL: query_canceled
_TIMEOUT_CODES: Final = {1969, 3024, 1317, "interrupted"}  # MariaDB, MySQL, both, SQLite
_DATA: Final = "22"  # SQLSTATE class of data exceptions, such as a UID that cannot be cast to a number
_DATA_CODES: Final = {1267, 1270, 1271, 1292, 1300, 1366, 1411, 1525, 1690, 1977, 3854, 3988}
"""The same on MariaDB and MySQL: a text that does not fit the column's character set, collation or type."""
_OUTDATED: Final = {"InvalidCachedStatementError", "OutdatedSchemaCacheError", "InternalServerError"}
"""Errors of asyncpg where a table or type has changed since the connection first used it."""
_NO_CONNECTION: Final = "08"  # SQLSTATE class of connection exceptions
_CLIENT_CODES: Final = range(2000, 3000)
"""The codes that MariaDB's and MySQL's clients give what happens without an answer, such as a refused connection."""


_CONSTRAINT: Final = "23"  # SQLSTATE class of violated constraints
_CONSTRAINT_CODES: Final = {4025, 3819}  # MariaDB, MySQL: CHECK
_NULL: Final = {"23502", 1048, 1364, "SQLITE_CONSTRAINT_NOTNULL"}  # no value for a column that is NOT NULL
_QUIET: Final = {"asyncmy": logging.ERROR, "sqlalchemy.engine": logging.WARNING}


class DatabaseFailed(Exception):
    """A statement failed. The message is the error's kind and code, since the database's message may quote a customer's
    data. `told` is the first line of that message, for `check`, whose parameters are all NULL.

    `gone`: the connection cannot be used again. `of_data`: this request's values are at fault, not the database.
    `late`: the statement took too long. `of_row`: the values to write are at fault, or a constraint of the table
    refuses them; a lack of a value for a column is not among these.
    """

    loggable = True

    def __init__(self, error: BaseException, gone: bool) -> None:
        cause = error.__cause__ if type(error).__module__.startswith("sqlalchemy") else None
        first = error.args[0] if error.args else None
        state = getattr(error, "sqlstate", None)
        code = state or (first if isinstance(first, int) else None)
        name = type(cause or error).__name__
        unreached = isinstance(cause or error, OSError) or name == "InterfaceError"
        unreached |= str(state).startswith(_NO_CONNECTION) or (isinstance(first, int) and first in _CLIENT_CODES)
        file = getattr(error, "filename", None)
        detail = file if isinstance(error, OSError) else code
        what = "no connection to the database:" if unreached else "the database answered"
        super().__init__(f"{what} {name}" + (f" ({detail})" if detail else ""))
        self.gone = gone
        ended = state in _TIMEOUT_STATES or (isinstance(first, int | str) and first in _TIMEOUT_CODES)
        self.late = ended or isinstance(error, TimeoutError)
        of_data = name in ("DataError", "UnicodeEncodeError") or str(state).startswith(_DATA)
        self.of_data = of_data or (isinstance(first, int) and first in _DATA_CODES)
        constraint = name == "IntegrityError" or str(state).startswith(_CONSTRAINT) or first in _CONSTRAINT_CODES
        null = _NULL & {state, getattr(error, "sqlite_errorname", None), first if isinstance(first, int) else None}
        self.of_row = (self.of_data or constraint) and not null
        message = str(error.args[-1] if error.args else error)
        if isinstance(error, OSError) and file is not None:
            message = f"{error.strerror}: {file}"
        self.told = re.sub(r"^<class '[^']*'>: ", "", message).partition("\n")[0] or name


def outdated(error: BaseException) -> bool:
    """Whether the connection remembers tables as they were before an ALTER TABLE."""
    return type(error.__cause__ or error).__name__ in _OUTDATED


def quieten() -> None:
    """Keep loggers from logging parameters or rows, which are customers' data."""
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
