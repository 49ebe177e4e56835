"""Damage of SQLite's write-ahead log, which a killed run leaves beside a store.

SQLite reads the log up to the first frame that is not as it was written, and takes that for the end: a transaction that
was being written when the power failed. So damage in the middle would silently cost the transactions behind it. The
format is that of https://www.sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import functools
import struct
import time
from pathlib import Path

import numpy as np

_HEADER, _FRAME_HEADER = 32, 24
#: The first word of a log, but for its last bit, which says whether checksums are of big-endian words.
_MAGIC = 0x377F0682
#: Readings after which damage is believed: a run that writes may begin the log anew while it is read.
READINGS, PAUSE = 3, 0.02


def of(file: Path) -> Path:
    """Return the log beside a database."""
    return Path(f"{file}-wal")


def lost(file: Path) -> bool:
    """Return whether the log beside a database has lost transactions that had been written completely."""
    for reading in range(READINGS):
        try:
            data = of(file).read_bytes()
            with file.open("rb") as database:
                (size,) = struct.unpack(">H", database.read(18)[16:])
        except (OSError, struct.error):
            return False
        if not _has_a_gap(data, 65536 if size == 1 else size):
            return False
        if reading + 1 < READINGS:
            time.sleep(PAUSE)
    return True


def _has_a_gap(data: bytes, size: int) -> bool:
    """Return whether a whole transaction, and the beginning of a further one, follow a frame that cannot be read.

    A transaction begins only when the one before it is safe on the disk, so no failure of power explains that.
    """
    count = (len(data) - _HEADER) // (_FRAME_HEADER + size)
    if count < 1:
        return False
    frames = np.frombuffer(data, np.uint8, count * (_FRAME_HEADER + size), _HEADER).reshape(count, -1)
    heads = np.ascontiguousarray(frames[:, :_FRAME_HEADER]).view(">u4")
    magic, _, _, _, *salts, low, high = struct.unpack(">8I", data[:_HEADER])
    words = ">u4" if magic & 1 else "<u4"
    sums = _checksum(np.frombuffer(data, np.uint8, _HEADER - 8), words, (0, 0))
    readable = 0
    if magic & ~1 == _MAGIC and sums == (low, high):
        while readable < count and list(heads[readable, 2:4]) == salts:
            frame = frames[readable]
            sums = _checksum(np.concatenate([frame[:8], frame[_FRAME_HEADER:]]), words, sums)
            if sums != tuple(heads[readable, 4:]):
                break
            readable += 1
    else:  # the header is damaged, and all frames with it
        salts = list(heads[0, 2:4])
    same = np.flatnonzero((heads[readable:, 2:4] == salts).all(axis=1))  # others are of an earlier use of the file
    commits = same[heads[readable:, 1][same] != 0]
    return bool(commits.size and same[-1] > commits[0])


def _checksum(data: np.ndarray, words: str, before: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum of bytes that follow others.

    For each pair (x, y) of words, s₀ ← s₀ + x + s₁ and then s₁ ← s₁ + y + s₀: a linear recurrence, so its end is a sum
    over pairs with powers of the matrix [[1, 1], [1, 2]] as weights.
    """
    pairs = data.view(words).astype(np.uint64).reshape(-1, 2)
    a, b, d = _powers(len(pairs) + 1)
    x, both = pairs[:, 0], pairs.sum(axis=1)
    low = int((a[:-1] * x + b[:-1] * both).sum()) + int(a[-1]) * before[0] + int(b[-1]) * before[1]
    high = int((b[:-1] * x + d[:-1] * both).sum()) + int(b[-1]) * before[0] + int(d[-1]) * before[1]
    return low % 2**32, high % 2**32


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries of the powers count - 2, …, 1, 0 and, last, count - 1 of the matrix, modulo 2³²."""
    found, a, b, d = [], 1, 0, 1
    for _ in range(count):
        found.append((a, b, d))
        a, b, d = (a + b) % 2**32, (b + d) % 2**32, (b + 2 * d) % 2**32
    ordered = [*found[-2::-1], found[-1]]
    a_s, b_s, d_s = np.array(ordered, np.uint64).T
    return a_s, b_s, d_s
