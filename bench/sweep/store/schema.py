"""The tables of a store, their versions, and the upgrade of an older store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gradmeter.bench.sweep.store.entries import Entry, Totals, stored_rows, stored_series
from gradmeter.estimators import UsageError

#: 1: without checksums and totals. 2: this one.
SCHEMA = 2

_ROWS = """CREATE TABLE rows (cell_key TEXT NOT NULL, position INTEGER NOT NULL, row TEXT NOT NULL,
PRIMARY KEY (cell_key, position))"""
_SERIES = """CREATE TABLE series (cell_key TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
PRIMARY KEY (cell_key, name))"""
_CELLS_1 = """CREATE TABLE cells (key TEXT PRIMARY KEY, description TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0,
finished TEXT) WITHOUT ROWID"""
_CELLS = """CREATE TABLE cells (key TEXT PRIMARY KEY, description TEXT NOT NULL, finished TEXT,
rows INTEGER NOT NULL, rows_checksum INTEGER NOT NULL, series INTEGER NOT NULL,
series_checksum INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"""
_TOTALS = "CREATE TABLE totals (cells INTEGER NOT NULL, checksum INTEGER NOT NULL)"

TABLES = {
    1: {"cells": _CELLS_1, "rows": f"{_ROWS} WITHOUT ROWID", "series": f"{_SERIES} WITHOUT ROWID"},
    2: {"cells": _CELLS, "rows": _ROWS, "series": _SERIES, "totals": _TOTALS},
}
_EMPTY_TOTALS = "INSERT INTO totals VALUES (0, 0)"

#: Every key of a store of version 1, where timing runs and rounds of `make track` have no entry among the cells.
KEYS_1 = "SELECT key FROM cells UNION SELECT cell_key FROM rows UNION SELECT cell_key FROM series"


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a store's tables; 0 for an empty file.

    Raises
    ------
    UsageError
        The file was written by something else, or by a newer version.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    found = {
        (kind, name): sql for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql <> ''")
    }
    if version == 0 and not found:
        return 0
    if version > SCHEMA and ("table", "rows") in found:
        raise UsageError(
            f"store {path} was written by a newer gradmeter (schema {version}, this one reads {SCHEMA}); "
            "upgrade gradmeter"
        )
    wanted = {("table", name): _words(sql) for name, sql in TABLES.get(version, {}).items()}
    if not wanted or {key: _words(sql) for key, sql in found.items()} != wanted:
        raise UsageError(f"{path} is a database of something else, not a gradmeter store; give another --store")
    return version


def _words(sql: str | None) -> str:
    return " ".join(str(sql).split())


def create(db: sqlite3.Connection) -> None:
    """Make the tables in an empty file."""
    tables = ";".join((*TABLES[SCHEMA].values(), _EMPTY_TOTALS))
    db.executescript(f"BEGIN;{tables};PRAGMA user_version={SCHEMA};COMMIT;")


def upgrade(db: sqlite3.Connection) -> None:
    """Turn a store of version 1 into one of this version, in one transaction: a kill leaves one or the other."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("CREATE TEMP TABLE old AS SELECT * FROM cells")
        db.execute(f"CREATE TEMP TABLE keys AS {KEYS_1}")
        db.execute("DROP TABLE cells")
        for name, statement in (("rows", _ROWS), ("series", _SERIES)):
            db.execute(f"CREATE TEMP TABLE old_{name} AS SELECT * FROM main.{name}")
            db.execute(f"DROP TABLE main.{name}")
            db.execute(statement)
            db.execute(f"INSERT INTO main.{name} SELECT * FROM old_{name}")
            db.execute(f"DROP TABLE temp.old_{name}")
        for statement in (_CELLS, _TOTALS, _EMPTY_TOTALS):
            db.execute(statement)
        totals = Totals(db)
        found = db.execute("SELECT key, coalesce(description, '{}'), finished FROM keys LEFT JOIN old USING (key)")
        for key, *columns in found:
            entry = Entry(key, *columns)
            totals.put(None, entry.holding(stored_rows(db, key), stored_series(db, key)))
        totals.save()
        db.execute(f"PRAGMA user_version={SCHEMA}")
        db.execute("DROP TABLE temp.old")
        db.execute("DROP TABLE temp.keys")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
