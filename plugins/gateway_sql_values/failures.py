"""What went wrong in the database, in words that hold nothing of a customer."""

from __future__ import annotations

import re
from typing import Final

_TIMEOUT_STATES: Final = {"57014"}  # PostgreSQL: query_canceled
_TIMEOUT_CODES: Final = {1969, 3024, 1317, "interrupted"}  # MariaDB, MySQL, both, SQLite
_DATA: Final = "22"  # SQLSTATE class: a value would not do, such as a UID that cannot be cast to a number


class DatabaseFailed(Exception):
    """A statement failed. The message is the error's kind and code: the database's own may quote a customer's data.

    `told` is the database's own first line, for `check`, whose parameters are nobody's. `gone`: the connection is
    of no use any more. `of_data`: this request's values are at fault, not the database. `late`: it took too long.
    """

    def __init__(self, error: BaseException, gone: bool) -> None:
        cause = error.__cause__ if type(error).__module__.startswith("sqlalchemy") else None
        first = error.args[0] if error.args else None
        state = getattr(error, "sqlstate", None)
        code = state or (first if isinstance(first, int) else None)
        name = type(cause or error).__name__
        super().__init__(f"the database answered {name}" + (f" ({code})" if code else ""))
        self.gone = gone
        ended = state in _TIMEOUT_STATES or (isinstance(first, int | str) and first in _TIMEOUT_CODES)
        self.late = ended or isinstance(error, TimeoutError)
        self.of_data = name == "DataError" or str(state).startswith(_DATA)
        message = str(error.args[-1] if error.args else error)
        self.told = re.sub(r"^<class '[^']*'>: ", "", message).partition("\n")[0] or name


class DoubtfulRow(Exception):
    """MySQL matched by turning a text into a number. Such a row is nobody's."""
