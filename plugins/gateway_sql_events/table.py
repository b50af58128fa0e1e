"""The table: how it is made, what of an existing one does not suit, and which values its columns take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    bindparam,
    func,
    select,
)
from sqlalchemy import inspect as inspect_database
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine

from gateway_sql_events.columns import DoesNotFit, PayloadField, TableName

Row = Mapping[str, Any]
"""The values by column."""
MYSQL: Final = ("mysql", "mariadb")
_INDEXED: Final = ("received_at", "conversation_id", "customer_uid")
_ACCEPTED: Final[dict[str, tuple[type[TypeEngine[Any]], ...]]] = {
    "text": (sql.String,),
    "integer": (sql.Integer,),
    "decimal": (sql.Numeric,),
    "boolean": (sql.Boolean, mysql.TINYINT),
    "time": (sql.DateTime,),
}


class EventTable:
    """The table as the settings describe it, and what is known of the real one."""

    def __init__(self, kind: str, name: TableName, fields: Mapping[str, PayloadField]) -> None:
        """`kind` is the database's, as SQLAlchemy calls it."""
        self._kind = kind
        self._types = {
            **dict.fromkeys(("id", "organisation", "hook", "conversation_id", "customer_uid", "body"), "text"),
            "received_at": "time",
            **{column: field.type for column, field in fields.items()},
        }
        self.table = Table(
            name.table,
            MetaData(),
            Column("id", self._short(36), primary_key=True),
            Column("received_at", self._time(), nullable=False),
            Column("organisation", self._short(255), nullable=False),
            Column("hook", self._short(64), nullable=False),
            Column("conversation_id", self._short(255)),
            Column("customer_uid", self._short(255)),
            Column("body", self._long(), nullable=False),
            *(Column(column, self._of(field.type)) for column, field in fields.items()),
            schema=name.schema,
            mysql_charset="utf8mb4",
            mariadb_charset="utf8mb4",
        )
        for column in _INDEXED:
            Index(f"{name.table[:40]}_{column}", self.table.c[column])
        self.upsert = self._upsert()
        self._real: dict[str, Any] = {}

    # The columns of a new table

    def _short(self, length: int) -> TypeEngine[Any]:
        """A text that an index can have, compared by its bytes."""
        if self._kind in MYSQL:
            return mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
        return Text()

    def _long(self) -> TypeEngine[Any]:
        return mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin") if self._kind in MYSQL else Text()

    def _time(self) -> TypeEngine[Any]:
        return mysql.DATETIME(fsp=6) if self._kind in MYSQL else DateTime(timezone=True)

    def _of(self, type_: str) -> TypeEngine[Any]:
        if type_ == "decimal":  # SQLite would make a float of it
            return Text() if self._kind == "sqlite" else Numeric(38, 10) if self._kind in MYSQL else Numeric()
        return {"text": self._long(), "integer": BigInteger(), "boolean": Boolean()}[type_]

    # Statements

    def _upsert(self) -> Insert:
        rest = [column.name for column in self.table.c if column.name != "id"]
        if self._kind in MYSQL:
            replacing = mysql.insert(self.table)
            own: Insert = replacing.on_duplicate_key_update({name: replacing.inserted[name] for name in rest})
            return own
        adding: Any = (sqlite if self._kind == "sqlite" else postgresql).insert(self.table)
        if self._kind == "postgresql":  # one statement with an array for each column takes half the time of many
            arrays = [bindparam(column.name, type_=postgresql.ARRAY(column.type)) for column in self.table.c]
            adding = adding.from_select(self.table.c.keys(), select(*map(func.unnest, arrays)))
        replaced: Insert = adding.on_conflict_do_update(
            index_elements=["id"], set_={name: adding.excluded[name] for name in rest}
        )
        return replaced

    def parameters(self, rows: Sequence[Row]) -> Any:
        """What `upsert` is executed with; no two rows have one id."""
        if self._kind == "postgresql":
            return {name: [row[name] for row in rows] for name in self._types}
        return rows

    # The real table

    def create(self, connection: Connection) -> None:
        """Make it where it does not exist."""
        if not self._exists(connection):
            self.table.create(connection, checkfirst=True)

    def _exists(self, connection: Connection) -> bool:
        inspector = inspect_database(connection)
        name, schema = self.table.name, self.table.schema
        return inspector.has_table(name, schema=schema) or name in inspector.get_view_names(schema=schema)

    def look(self, connection: Connection) -> list[str] | None:
        """What of the real table does not suit, a sentence each, and remember its columns; None where there is none."""
        if not self._exists(connection):
            return None
        inspector = inspect_database(connection)
        name, schema = self.table.name, self.table.schema
        real = {column["name"]: column for column in inspector.get_columns(name, schema=schema)}
        faults = [self._lacking(connection, name) for name in self._types if name not in real]
        for name_, type_ in self._types.items():
            if name_ in real and not self._suits(type_, real[name_]["type"]):
                faults.append(f"{_key(name_)}: the column {name_} is {real[name_]['type']!s}, expected {type_}")
        for other, column in real.items():
            filled = column["nullable"] or column.get("default") is not None or column.get("autoincrement") is True
            if other not in self._types and not (filled or column.get("identity") or column.get("computed")):
                faults.append(f"table: the column {other} is NOT NULL and has no default, and the gateway has no value")
        primary = inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]
        unique = [
            tuple(primary),
            *(tuple(key["column_names"]) for key in inspector.get_unique_constraints(name, schema)),
        ]
        unique += [tuple(map(str, key["column_names"])) for key in inspector.get_indexes(name, schema) if key["unique"]]
        if ("id",) not in unique:
            faults.append("table: the column id is neither the primary key nor UNIQUE, which keeps an event to one row")
        others = {"_".join(key) for key in unique if key and key not in (("id",), tuple(primary))}
        if others and self._kind in MYSQL:
            faults.append(f"table: it has another unique key ({', '.join(sorted(others))}): rows would replace others")
        self._real = real
        return faults

    def _lacking(self, connection: Connection, name: str) -> str:
        column = str(CreateColumn(self.table.c[name]).compile(dialect=connection.dialect)).replace("\n", " ")
        return f"{_key(name)}: the table has no column {name}; ALTER TABLE {self.table.fullname} ADD COLUMN {column}"

    def _suits(self, type_: str, real: TypeEngine[Any]) -> bool:
        if type_ == "decimal" and self._kind == "sqlite":
            type_ = "text"
        if self._kind == "postgresql" and type_ == "time":
            return isinstance(real, sql.TIMESTAMP) and bool(real.timezone)
        exact = not isinstance(real, sql.Float | sql.JSON | sql.Enum)
        return exact and isinstance(real, _ACCEPTED[type_])

    def require_fit(self, row: Mapping[str, Any]) -> None:
        """`DoesNotFit` where the real table does not take a value, or would change it without saying so."""
        for name, value in row.items():
            real = self._real.get(name)
            if real is None:
                continue
            if value is None:
                if not real["nullable"]:
                    raise DoesNotFit(f"column {name}: it is NOT NULL, and the event has no value for it")
            elif isinstance(value, str):
                longest = getattr(real["type"], "length", None)
                if longest is not None and len(value) > longest and self._kind != "sqlite":
                    raise DoesNotFit(f"column {name}: {len(value)} characters, and it takes {longest}")
                if "\0" in value and self._kind == "postgresql":
                    raise DoesNotFit(f"column {name}: a NUL character, which PostgreSQL has no place for")
            elif isinstance(value, Decimal):
                _require_digits(name, value, real["type"])


def _require_digits(name: str, value: Decimal, type_: Any) -> None:
    """A database rounds what has more decimal places than its column, and says nothing."""
    precision, scale = getattr(type_, "precision", None), getattr(type_, "scale", None) or 0
    if precision is None:
        return
    if value and (value.adjusted() >= precision - scale or value.normalize().as_tuple().exponent < -scale):  # type: ignore[operator]
        raise DoesNotFit(f"column {name}: the number has more digits than {type_!s} keeps")


def _key(column: str) -> str:
    """The key of the settings that a column comes from."""
    return (
        "table" if column in ("id", "received_at", "organisation", "hook", *_INDEXED, "body") else f"columns.{column}"
    )
