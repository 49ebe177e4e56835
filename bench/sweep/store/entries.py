"""What the table `cells` holds of each key, with checksums, and the totals over all keys.

SQLite notices a page that is no page. It does not notice a changed bit in a number or in a text, a page that was
replaced by another one of the same file, or a lost page whose neighbours still fit together. These checksums do: each
entry covers its own columns and the rows and series of its key, and `totals` covers the set of entries.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short

MOST_SERIES_BYTES = 2**24
MOST_ROW_CHARACTERS = 2**20
REMEDY = "restore a copy of the file, or measure anew into another --store"
#: Checksums are sums modulo this, and so whole numbers that SQLite can hold.
MODULUS = 2**63


def checksum(parts: Iterable[Any]) -> int:
    """Return a 63-bit checksum of texts, bytes, whole numbers and None; their kinds, lengths and order count."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        found.update(f"{type(part).__name__} {len(data)} ".encode())
        found.update(data)
    return int.from_bytes(found.digest(), "big") % MODULUS


def checksum_of_series(series: Mapping[str, bytes]) -> int:
    """Return the checksum of all series of a key."""
    return checksum(part for name in sorted(series, key=str) for part in (name, series[name]))


_NOTHING = checksum(())


class Entry(NamedTuple):
    """The entry of one key: a cell's key, or one of its own such as that of a timing run.

    Attributes
    ----------
    description
        JSON text of what the cell is.
    finished
        When the measurement ended; None if it has not.
    rows, series
        How many of them the key has.
    """

    key: str
    description: str = "{}"
    finished: str | None = None
    rows: int = 0
    rows_checksum: int = _NOTHING
    series: int = 0
    series_checksum: int = _NOTHING

    def holding(self, rows: list[str] | None = None, series: Mapping[str, bytes] | None = None) -> Entry:
        """Return the entry of other rows, other series, or both."""
        entry = self
        if rows is not None:
            entry = entry._replace(rows=len(rows), rows_checksum=checksum(rows))
        if series is not None:
            entry = entry._replace(series=len(series), series_checksum=checksum_of_series(series))
        return entry

    @property
    def label(self) -> str:
        """What the cell is, in words; empty if its description does not say."""
        try:
            about = json.loads(self.description)
            return short(f"{about['problem']} · {about['estimator']} · {about['backend']} · S={about['num_samples']}")
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""


class Contents(NamedTuple):
    """All that a store holds of one key."""

    entry: Entry
    rows: list[str]
    series: dict[str, bytes]


def damaged(path: Path, what: str, entry: Entry | None = None) -> UsageError:
    """Return the error for a store, or one cell of it, that is not as it was written.

    Parameters
    ----------
    path
        The store.
    what
        What is damaged, in words.
    entry
        The entry that is damaged, if it is one.
    """
    if entry is None:
        return UsageError(f"store {path} is damaged: {what}; {REMEDY}")
    label = f" ({entry.label})" if entry.label else ""
    return UsageError(f"store {path}: cell {short(entry.key)}{label} is damaged: {what}; {REMEDY}")


_COLUMNS = ", ".join(Entry._fields)


def entry_of(db: sqlite3.Connection, path: Path, key: str) -> Entry | None:
    """Return the entry of a key, checked; None if there is none.

    Parameters
    ----------
    db
        Connection to the store.
    path
        The store.
    key
        Key of the entry.
    """
    found = db.execute(f"SELECT {_COLUMNS}, checksum FROM cells WHERE key = ?", (key,)).fetchone()
    return None if found is None else _checked(path, found)


def entries(db: sqlite3.Connection, path: Path) -> Iterator[Entry]:
    """Yield all entries in the order of their keys, each checked."""
    for found in db.execute(f"SELECT {_COLUMNS}, checksum FROM cells ORDER BY key"):
        yield _checked(path, found)


def _checked(path: Path, found: tuple[Any, ...]) -> Entry:
    entry = Entry._make(found[:-1])
    if checksum(entry) != found[-1] or not isinstance(entry.key, str):
        raise damaged(path, "its entry does not agree with its checksum", entry)
    return entry


def check_totals(db: sqlite3.Connection, path: Path) -> None:
    """Check that the store has all its entries, and that each can be found by its key.

    The entries are read in the order of the file's tree, which a search relies on.
    """
    total = db.execute("SELECT cells, checksum FROM totals").fetchall()
    if len(total) != 1:
        raise damaged(path, "its table of totals is not as gradmeter wrote it")
    count, together, last = 0, 0, ""
    for entry in entries(db, path):
        if count and entry.key <= last:
            raise damaged(path, "its cells are not in order")
        count, together, last = count + 1, (together + checksum(entry)) % MODULUS, entry.key
    if (count, together) != total[0]:
        known = f"of {total[0][0]} cells, {count} are left" if count != total[0][0] else "some cells are older ones"
        raise damaged(path, f"{known} in its list")


class Totals:
    """The totals in a transaction that changes entries."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cells, self._together = db.execute("SELECT cells, checksum FROM totals").fetchone()

    def put(self, before: Entry | None, after: Entry) -> None:
        """Replace an entry, or add one where `before` is None."""
        own = checksum(after)
        self._db.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*after, own))
        self._cells += before is None
        self._together = (self._together + own - (checksum(before) if before else 0)) % MODULUS

    def drop(self, entry: Entry) -> None:
        """Remove an entry."""
        self._db.execute("DELETE FROM cells WHERE key = ?", (entry.key,))
        self._cells -= 1
        self._together = (self._together - checksum(entry)) % MODULUS

    def save(self) -> None:
        self._db.execute("UPDATE totals SET cells = ?, checksum = ?", (self._cells, self._together))


def stored_rows(db: sqlite3.Connection, key: str) -> list[Any]:
    """Return the texts of a key's rows; of one that is too long, its beginning."""
    found = db.execute(
        "SELECT substr(row, 1, ?) FROM rows WHERE cell_key = ? ORDER BY position", (MOST_ROW_CHARACTERS + 1, key)
    )
    return [text for (text,) in found]


def stored_series(db: sqlite3.Connection, key: str) -> dict[str, Any]:
    """Return the bytes of a key's series; of one that is too long, its beginning."""
    return dict(
        db.execute(
            "SELECT name, substr(data, 1, ?) FROM series WHERE cell_key = ? ORDER BY name",
            (MOST_SERIES_BYTES + 1, key),
        )
    )
