"""The processes that compile Python: one clean interpreter each, which forks for every request.

A request is a list of files; what comes back depends on the list alone, because the fork starts from
an interpreter that has done nothing yet. The text of the server runs in the environment's Python, which
may be older than the one that runs afenv; it imports nothing but built-in modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
import subprocess
from collections.abc import Sequence
from typing import IO

from afenv.errors import AfenvError
from afenv.layers.interpreter import Interpreter

# Protocol: the server waits for one byte; its child then reads a number of files and, for each, path and
# source, and answers for each with bytecode, or with nothing where the file cannot be compiled. Numbers
# have four bytes; bytes are preceded by their number.
_SERVER = r"""
import _imp, gc, marshal, posix
from _frozen_importlib_external import MAGIC_NUMBER
raw_magic = int.from_bytes(MAGIC_NUMBER, "little")
prefix = MAGIC_NUMBER + b"\1\0\0\0"  # PEP 552: hash-based, not checked against the source

def take(size):
    parts = []
    while size:
        part = posix.read(0, size if size < 1048576 else 1048576)
        if not part:
            posix._exit(3)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

def take_bytes():
    return take(int.from_bytes(take(4), "little"))

def compiled(path, source):
    try:
        code = compile(source, path, "exec", 0, True)
        return prefix + _imp.source_hash(raw_magic, source) + marshal.dumps(code)
    except Exception:
        return b""

def answer():
    files = [(take_bytes().decode("utf-8", "surrogateescape"), take_bytes())
             for _ in range(int.from_bytes(take(4), "little"))]
    for path, source in files:
        data = compiled(path, source)
        data = len(data).to_bytes(4, "little") + data
        while data:
            data = data[posix.write(1, data):]

gc.disable()
while posix.read(0, 1):
    child = posix.fork()
    if not child:
        status = 5
        try:
            answer()
            status = 0
        finally:
            posix._exit(status)
    if posix.waitpid(child, 0)[1]:
        posix._exit(4)
"""

# Keep freed memory instead of giving it back after every file; saves a third of the system time.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_TOP_PAD_": str(1 << 22),
}

_PIPE = 1 << 20  # bytes that a pipe holds; with the usual 64 KiB the two sides wait for each other

_NUMBER = struct.Struct("<L")


class CompileServer:
    """One server process. Not for use by two threads at a time."""

    def __init__(self, interpreter: Interpreter) -> None:
        try:
            self._process = subprocess.Popen(
                [*interpreter.command, "-S", "-B", "-W", "ignore", "-c", _SERVER],
                env={**interpreter.variables, **_ALLOCATOR},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
        except OSError as error:
            raise AfenvError("E404", f"the environment's Python does not start: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[bytes] = self._process.stdin
        self._output: IO[bytes] = self._process.stdout
        for pipe in (self._input, self._output):
            with contextlib.suppress(OSError):  # a limit of the user; the default size works too
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def compile(self, files: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """The bytecode of each ``(path in the image, source)``; empty where it does not compile."""
        request = bytearray(b"c" + _NUMBER.pack(len(files)))
        for path, source in files:
            name = path.encode("utf-8", "surrogateescape")
            request += _NUMBER.pack(len(name)) + name + _NUMBER.pack(len(source)) + source
        try:
            self._input.write(request)
            self._input.flush()
            del request
            return [self._take(_NUMBER.unpack(self._take(4))[0]) for _ in files]
        except OSError as error:
            raise self._ended() from error

    def _take(self, size: int) -> bytes:
        data = self._output.read(size)
        if len(data) != size:
            raise self._ended()
        return data

    def _ended(self) -> AfenvError:
        self.close()
        status = self._process.returncode
        return AfenvError("E404", f"the environment's Python ended while it compiled (status {status})")

    def close(self) -> None:
        """End the process."""
        for file in (self._input, self._output):
            try:
                file.close()
            except OSError:
                continue
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
