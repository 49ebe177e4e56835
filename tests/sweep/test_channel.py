"""Messages to and from worker processes, and what is no message."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from gradmeter.bench.sweep.channel import RESULT, Channel, Garbled

Ends = tuple[Channel, Channel, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The end that never waits, the other one, and its socket."""
    mine, theirs, token = Channel.pair()
    with theirs:
        yield mine, Channel(theirs, token, waiting=True), theirs
    mine.close()


def test_messages_arrive_whole_and_in_order(ends: Ends) -> None:
    mine, other, _ = ends
    for data in (b"", b"a", bytes(1000)):
        other.put(RESULT, data)
    assert list(mine.messages()) == [(RESULT, b""), (RESULT, b"a"), (RESULT, bytes(1000))]
    assert list(mine.messages()) == []  # and nothing is waited for
    other.put(RESULT, b"last")
    other.close()
    assert list(mine.messages()) == [(RESULT, b"last")]
    assert mine.closed
    with pytest.raises(OSError, match=r"."):
        mine.put(RESULT)


def test_a_long_message_is_sent_as_it_is_read(ends: Ends) -> None:
    mine, other, _ = ends
    long = bytes(range(256)) * 2**14
    mine.put(RESULT, long)
    assert mine.unsent
    found: list[tuple[bytes, bytes]] = []
    reader = threading.Thread(target=lambda: found.append(next(other.messages())))
    reader.start()
    while mine.unsent:
        assert list(mine.messages()) == []
    reader.join()
    assert found == [(RESULT, long)]


@pytest.mark.parametrize("garbage", [b"x", b"garbage " * 100])
@pytest.mark.parametrize("before", [True, False])
def test_what_is_no_message_is_noticed_at_once(garbage: bytes, before: bool, ends: Ends) -> None:
    mine, other, theirs = ends
    if before:
        other.put(RESULT, b"good")
    theirs.sendall(garbage)
    with pytest.raises(Garbled):
        list(mine.messages())


def test_garbage_within_a_message_is_noticed(ends: Ends) -> None:
    mine, other, theirs = ends
    other.put(RESULT, bytes(1000))
    whole = mine._end.recv(2000)
    theirs.sendall(whole[:500] + b"garbage" + whole[500:])
    with pytest.raises(Garbled):
        list(mine.messages())
