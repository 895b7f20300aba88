"""HTTP on one connection, against a peer that sends what it likes."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv_registry.wire import Body, Broken, Stalled, Wire


def answer(data: bytes, method: str = "GET", *, room: int = 7, end: bool = True) -> tuple[int, bytes, Wire]:
    """Status and body of an answer that consists of these bytes."""
    ours, theirs = socket.socketpair()
    with theirs:
        thread = threading.Thread(target=lambda: (theirs.sendall(data), end and theirs.shutdown(1)))
        thread.start()
        wire = Wire(ours, 0.3)
        try:
            head = wire.head(method, 0.3)
            content = bytearray()
            view = memoryview(bytearray(room))
            while count := wire.readinto(view):
                content += view[:count]
            return head.status, bytes(content), wire
        finally:
            wire.close()
            thread.join()


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 5, 5\r\n\r\nhello and more", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
    ],
)
def test_bodies(data, content):
    assert answer(data)[1] == content


def test_an_answer_to_head_has_no_body():
    assert answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD")[1] == b""


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
    ],
)
def test_whether_a_connection_is_kept(data, kept):
    assert answer(data)[2].keep is kept


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
)
def test_what_is_not_http(data):
    with pytest.raises((Broken, ConnectionResetError)):
        answer(data)


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]
)
def test_silence(data):
    with pytest.raises(Stalled):
        answer(data, end=False)


@pytest.mark.parametrize(("begin", "more"), [(b"2\r\nok\r\n0\r\n", b"X: y\r\n"), (b"", b"1")])
def test_lines_between_chunks_that_come_without_end(begin, more):
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begin)
        while not over.wait(0.02) and time.monotonic() < begun + 2:
            theirs.sendall(more)
        theirs.shutdown(socket.SHUT_WR)

    begun = time.monotonic()
    thread = threading.Thread(target=drip)
    thread.start()
    wire = Wire(ours, 0.3)
    try:
        with pytest.raises(Stalled):
            wire.head("GET", 0.3)
            wire.readinto(memoryview(bytearray(9)))
    finally:
        over.set()
        thread.join()
        wire.close()
        theirs.close()


@given(st.binary(max_size=300))
def test_anything_at_all(data):
    with contextlib.suppress(OSError):
        answer(b"HTTP/1.1 " + data)


def test_a_peer_that_takes_next_to_nothing():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    over = threading.Event()

    def sip() -> None:
        while not over.wait(0.05):
            theirs.recv(10)

    thread = threading.Thread(target=sip)
    thread.start()
    wire = Wire(ours, 0.3)
    begun = time.monotonic()
    try:
        with pytest.raises(Stalled):
            body = Body(open=lambda: io.BytesIO(bytes(5 << 20)), size=5 << 20)
            wire.send(b"PUT / HTTP/1.1\r\n\r\n", body, lambda _: None)
    finally:
        over.set()
        thread.join()
        wire.close()
        theirs.close()
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("memory", [True, False])
def test_a_file_that_is_shorter_than_it_was(tmp_path, memory):
    (tmp_path / "file").write_bytes(b"short")
    ours, theirs = socket.socketpair()
    wire = Wire(ours, 0.3)
    with theirs, pytest.raises(OSError, match="too short"):
        body = Body(open=lambda: io.BytesIO(b"short") if memory else (tmp_path / "file").open("rb"), size=100)
        wire.send(b"x", body, lambda _: None)
    wire.close()
