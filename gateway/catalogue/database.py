"""The catalogue's engine: connections, short transactions, and its errors mapped to our own."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from gateway.catalogue import tables
from gateway.errors import (
    ConfigurationError,
    Conflict,
    InvalidRequest,
    StorageFull,
    Unavailable,
)

BUSY_TIMEOUT_MS = 5_000  # how long a writer waits for another one
MAPPED_BYTES = 256 * 1024**2  # of SQLite's file
MAX_IDS = 10_000  # ids in one statement; SQLite takes 32,766 variables
POOL_SIZE = 8  # connections kept open
POOL_TIMEOUT_S = 5.0  # how long a caller waits for one
CONNECT_TIMEOUT_S = 3  # to a PostgreSQL server
SCHEMA_LOCK = 0x706978  # the advisory lock under which a PostgreSQL schema is made


class Database:
    """A SQLite file (WAL) or a PostgreSQL server, with the catalogue's tables in it.

    Args:
        url: a SQLAlchemy URL; `sqlite:///PATH` or `postgresql+psycopg://…`.

    Raises:
        ConfigurationError: the URL names no database of these two, or its schema is another one.
        Unavailable: the database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        # SQLite writers take their lock at BEGIN: one that reads first and writes later would
        # be refused at once when another one has written in between.
        self._writer = self._engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with self.write() as connection:
            if connection.dialect.name == "postgresql":  # processes may start together
                connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
            _migrate(connection)
            tables.metadata.create_all(connection)
            _check_schema(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a short transaction that reads."""
        with _mapped_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a short transaction that writes; it commits when the block ends well."""
        with _mapped_errors(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def id_batches(ids: Collection[str]) -> Iterator[list[str]]:
    """Yield ids in lists that one statement takes."""
    wanted = list(ids)
    for start in range(0, len(wanted), MAX_IDS):
        yield wanted[start : start + MAX_IDS]


def _engine(url: str) -> Engine:
    kind = make_url(url).get_backend_name()
    if kind == "sqlite":
        return _sqlite_engine(url)
    if kind == "postgresql":
        options = f"-c statement_timeout={BUSY_TIMEOUT_MS} -c lock_timeout={BUSY_TIMEOUT_MS}"
        return create_engine(
            url,
            pool_size=POOL_SIZE,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options},
        )
    raise ConfigurationError(
        f"the catalogue is SQLite or PostgreSQL, not {kind}: set PIXSERVE_DATABASE to "
        "sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
    )


def _sqlite_engine(url: str) -> Engine:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise ConfigurationError("a catalogue in memory would lose what was acknowledged")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=POOL_SIZE, pool_timeout=POOL_TIMEOUT_S)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _begin_sqlite
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    # With NORMAL, a power failure loses the last commits of a WAL: uploads and investments that
    # were acknowledged. Writes are few, so each may wait for the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Read through the page cache of the machine: 200 of 300,000 segments take 4.3 ms, not 5.5.
    connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")


def _begin_sqlite(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql(options.get("sqlite_begin", "BEGIN"))


def _migrate(connection: Connection) -> None:
    """Bring a catalogue of an older version up to this one, step by step."""
    if not inspect(connection).has_table(tables.settings.name):
        return  # a new one
    key = tables.settings.c.key == "schema"
    while (found := _schema(connection)) in tables.MIGRATIONS:
        for statement in tables.MIGRATIONS[found]:
            connection.exec_driver_sql(statement)
        connection.execute(update(tables.settings).where(key).values(value=str(int(found) + 1)))


def _schema(connection: Connection) -> str | None:
    query = select(tables.settings.c.value).where(tables.settings.c.key == "schema")
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def _check_schema(connection: Connection) -> None:
    found = _schema(connection)
    if found is None:
        row = {"key": "schema", "value": tables.SCHEMA_VERSION}
        connection.execute(insert(tables.settings).values(row))
    elif found != tables.SCHEMA_VERSION:
        raise ConfigurationError(
            f"the catalogue has schema {found}, this version of pixserve reads "
            f"{tables.SCHEMA_VERSION}: use the version that wrote it, or a new data folder"
        )


@contextmanager
def _mapped_errors() -> Iterator[None]:
    """Raise our own errors in place of SQLAlchemy's."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict("the catalogue holds something that contradicts this; read it anew") from (
            error
        )
    except DataError as error:  # PostgreSQL takes no text with U+0000
        raise InvalidRequest(
            "a text or a number has a value that the catalogue cannot store, such as the "
            "character U+0000: leave it out"
        ) from error
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and _disk_is_full(error.orig):
            raise StorageFull("the disk of the catalogue is full: make room, then retry") from error
        raise Unavailable(
            "catalogue", f"the catalogue does not answer ({type(error).__name__}); retry later"
        ) from error


def _disk_is_full(error: BaseException | None) -> bool:
    sqlite_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    postgres_full = getattr(error, "sqlstate", None) == "53100"
    return sqlite_full or postgres_full
