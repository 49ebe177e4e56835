"""Messages between a worker process and the one that started it, over a socket that a cell may write anything into.

So whoever started the process never waits for the rest of a message, and takes only messages that begin with the
channel's token and agree with their checksum.
"""

from __future__ import annotations

import secrets
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

#: Kinds of messages: to a worker process its work; from it the beginning of work, progress, a result, a failed start.
WORK, BEGUN, PROGRESS, RESULT, FAILED = b"W", b"B", b"P", b"R", b"F"
_TOKEN = 16
#: Token, kind, length of the data, their checksum.
_HEAD = struct.Struct(f"<{_TOKEN}scQI")
_PIECE = 2**18


class Garbled(Exception):
    """Something else than a message was written to the socket."""


class Channel:
    """One end of a socket.

    Parameters
    ----------
    end
        A connected socket.
    token
        Bytes that begin each message.
    waiting
        Whether `put` and `messages` wait for the other side.
    """

    def __init__(self, end: socket.socket, token: bytes, waiting: bool) -> None:
        self._end, self._token = end, token
        self._read, self._unsent = bytearray(), bytearray()
        self.closed = False
        end.setblocking(waiting)

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket, bytes]:
        """Return the end of the process that starts another, which never waits, and socket and token of the other."""
        mine, theirs = socket.socketpair()
        token = secrets.token_bytes(_TOKEN)
        return cls(mine, token, waiting=False), theirs, token

    def fileno(self) -> int:
        return self._end.fileno()

    @property
    def unsent(self) -> bool:
        """Whether a part of a message waits until the other side has read what was sent before."""
        return bool(self._unsent)

    def put(self, kind: bytes, data: bytes = b"") -> None:
        """Send a message, or as much of it as the other side has room for.

        Raises
        ------
        OSError
            The other side has gone.
        """
        self._unsent += _HEAD.pack(self._token, kind, len(data), zlib.crc32(data)) + data
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent[:_PIECE])]
        except BlockingIOError:
            pass

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield kind and data of what has arrived, to the end if this side waits; send what was left unsent.

        Raises
        ------
        Garbled
            It is no message.
        """
        while not self.closed:
            with suppress(OSError):  # what it sent before it went is read all the same
                self._send()
            try:
                new = self._end.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:
                new = b""
            self.closed = not new
            self._read += new
            while (message := self._first()) is not None:
                yield message

    def _first(self) -> tuple[bytes, bytes] | None:
        """Take the first message out of what was read; None if it is not complete."""
        head = bytes(self._read[: _HEAD.size])
        if not self._token.startswith(head[:_TOKEN]):
            raise Garbled
        if len(head) < _HEAD.size:
            return None
        _, kind, length, checksum = _HEAD.unpack(head)
        end = _HEAD.size + length
        if len(self._read) < end:
            return None
        data = bytes(self._read[_HEAD.size : end])
        if zlib.crc32(data) != checksum:
            raise Garbled
        del self._read[:end]
        return kind, data

    def close(self) -> None:
        self._end.close()
