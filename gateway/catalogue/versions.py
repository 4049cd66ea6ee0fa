"""Which version of the index searches use, which was before it, and which others are kept.

A version is a bundle: its models, and a collection a leg of their vectors. All three facts are
rows of the catalogue, changed in one transaction, so every process sees the same.
"""

import msgspec
from sqlalchemy import Connection, delete, insert, select

from gateway.catalogue import tables
from gateway.catalogue.database import Database
from gateway.errors import Conflict

CURRENT = "current_bundle"
PREVIOUS = "previous_bundle"
KEPT = "kept_bundles"  # a JSON list of ids


class Versions:
    """The versions of one catalogue's index, by their bundles' ids, e.g. `mini-2`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> str | None:
        """Return the version that searches use; None before the first."""
        return self._read(CURRENT)

    def previous(self) -> str | None:
        """Return the version that `switch` left last; None where there is none to go back to."""
        return self._read(PREVIOUS)

    def kept(self) -> tuple[str, ...]:
        """Return the versions beside the current one whose rows are kept up to date."""
        with self._database.read() as connection:
            current = _value(connection, CURRENT)
            return tuple(name for name in _kept(connection) if name != current)

    def keep(self, bundle_id: str) -> None:
        """Note that a version has rows: from now on, changes of metadata reach them too."""
        with self._database.write() as connection:
            _set(connection, KEPT, _encoded({*_kept(connection), bundle_id}))

    def switch(self, bundle_id: str) -> str | None:
        """Make searches use another version; the one before it is kept for the way back.

        Returns:
            The version before; None where this one was current already, or none was.
        """
        with self._database.write() as connection:
            before = _value(connection, CURRENT)
            if before == bundle_id:
                return None
            _set(connection, CURRENT, bundle_id)
            if before is not None:
                _set(connection, PREVIOUS, before)
                _set(connection, KEPT, _encoded({*_kept(connection), before, bundle_id}))
            return before

    def forget(self, bundle_id: str) -> None:
        """Note that a version's rows go away.

        Raises:
            Conflict: it is the one that searches use.
        """
        with self._database.write() as connection:
            if _value(connection, CURRENT) == bundle_id:
                raise Conflict(
                    f"{bundle_id} is what searches use: switch to another version before it is "
                    "dropped"
                )
            if _value(connection, PREVIOUS) == bundle_id:
                _clear(connection, PREVIOUS)
            _set(connection, KEPT, _encoded({*_kept(connection)} - {bundle_id}))

    def _read(self, key: str) -> str | None:
        with self._database.read() as connection:
            return _value(connection, key)


def _value(connection: Connection, key: str) -> str | None:
    query = select(tables.settings.c.value).where(tables.settings.c.key == key)
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def _kept(connection: Connection) -> list[str]:
    return msgspec.json.decode(_value(connection, KEPT) or "[]", type=list[str])


def _encoded(names: set[str]) -> str:
    return msgspec.json.encode(sorted(names)).decode()


def _set(connection: Connection, key: str, value: str) -> None:
    _clear(connection, key)
    connection.execute(insert(tables.settings).values({"key": key, "value": value}))


def _clear(connection: Connection, key: str) -> None:
    connection.execute(delete(tables.settings).where(tables.settings.c.key == key))
