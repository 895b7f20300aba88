"""Bytecode, compiled by the Python that runs the tests in place of an environment's."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.layers import bytecode
from afenv.layers.bytecode import Compiler, pyc_path
from afenv.layers.compile_server import CompileServer
from afenv.layers.interpreter import Interpreter

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SOURCE = b'''"""A module."""
import os.path as path

NAMES = {"one", "two", "three", "four", "five"}

def function(argument: int = 3) -> "str":
    return f"{argument!r}" if argument in {"a", "b", "c"} else path.join("a", "\\u00fc")
'''


def interpreter(command=(sys.executable,), **variables):
    return Interpreter(
        id="sha256:" + "1" * 64,
        version=VERSION,
        command=command,
        variables={"PYTHONHASHSEED": "0", "LC_ALL": "C"} | variables,
    )


def compiler(store, made=None, jobs=2):
    made = made or interpreter()
    return Compiler(made.id, VERSION, lambda: made, store, jobs)


def sources(count=300):
    return [(f"/opt/package/m{number:04}.py", SOURCE + b"N = %d\n" % number * 20) for number in range(count)]


def contents(result):
    return {path: (pyc.path, pyc.data()) for path, pyc in result.items()}


def test_it_is_what_the_interpreter_would_load(store, tmp_path):
    module = tmp_path / "module.py"
    module.write_bytes(SOURCE)
    with compiler(store) as made:
        result = made.compile("p", [("/opt/package/module.py", SOURCE)])
    ((path, data),) = contents(result).values()
    assert path == f"opt/package/__pycache__/module.{sys.implementation.cache_tag}.pyc"
    oracle = py_compile.compile(
        str(module),
        dfile="/opt/package/module.py",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    expected = Path(oracle).read_bytes()
    assert data[:16] == expected[:16]
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert marshal.loads(data[16:]) == marshal.loads(expected[16:])
    assert marshal.loads(data[16:]).co_filename == "/opt/package/module.py"


def test_bytes_do_not_depend_on_the_host(store, tmp_path):
    results = []
    for number, (jobs, variables) in enumerate(
        [
            (1, {}),
            (4, {}),
            (2, {"PYTHONHASHSEED": "77", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "HOME": "/x"}),
        ]
    ):
        other = type(store)(tmp_path / f"cache-{number}")
        with compiler(other, interpreter(**variables), jobs) as made:
            made.compile("before", [("/a.py", b"import os, sys, xml.dom\nz = 'one'\n")])
            results.append(contents(made.compile("p", sources())))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 300


def test_chunks_are_bounded_by_files_and_bytes():
    small = [(f"/{number:04}.py", b"") for number in range(bytecode.CHUNK_FILES * 2 + 1)]
    assert [len(chunk) for chunk in bytecode._chunks(small)] == [bytecode.CHUNK_FILES] * 2 + [1]
    large = [("/a.py", bytes(bytecode.CHUNK_BYTES)), ("/b.py", b""), ("/c.py", b"")]
    assert [len(chunk) for chunk in bytecode._chunks(large)] == [1, 2]
    assert list(bytecode._chunks([])) == []


def test_what_does_not_compile_is_left_out(store):
    bad = [
        ("/a.py", b"def"),
        ("/b.py", b"x = '\xff'"),
        ("/c.py", b"\0"),
        ("/d.py", b"# -*- coding: nowhere -*-"),
        ("/e.py", b"return"),
        ("/f.py", b"(" * 5000),
        ("/g.py", b"x = 1\n"),
        ("/h.py", b"assert '\\d'"),
        ("/i.py", b""),
    ]
    with compiler(store) as made:
        assert list(made.compile("p", bad)) == ["/g.py", "/h.py", "/i.py"]
        assert made.compile("none", []) == {}


def test_a_package_is_compiled_once(store):
    with compiler(store) as made:
        assert not made.has("p")
        first = contents(made.compile("p", sources(10)))
        assert made.has("p")
        assert not made.has("q")

    def unread():
        raise AssertionError("the sources were read")
        yield

    def unprepared():
        raise AssertionError("the interpreter was prepared")

    with Compiler(interpreter().id, VERSION, unprepared, store, 1) as made:
        assert contents(made.compile("p", unread())) == first
    with Compiler("sha256:" + "2" * 64, VERSION, unprepared, store, 1) as made, pytest.raises(AssertionError):
        made.compile("p", unread())


def test_a_damaged_result_is_made_again(store):
    with compiler(store) as made:
        first = contents(made.compile("p", sources(10)))
        (blob,) = [path for path in (store.folder / "blobs").rglob("*") if path.is_file()]
        data = bytearray(blob.read_bytes())
        data[100] ^= 1
        blob.chmod(0o644)
        blob.write_bytes(data)
        assert not made.has("p")
        assert contents(made.compile("p", sources(10))) == first


def test_written_into_a_layer(store, layer):
    long = ("/opt/package/long.py", b"\n".join(b"def f%d(a, b): return a * %d" % (n, n) for n in range(999)))
    with compiler(store) as made:
        result = made.compile("p", [long, ("/opt/package/m.py", SOURCE)])
        assert [pyc.deflated for pyc in result.values()] == [True, False]
        for pyc in result.values():
            pyc.write(layer.writer)
    assert layer.files() == {path: (0o644, data) for path, data in contents(result).values()}


def test_many_threads_may_compile(store):
    found = {}
    with compiler(store) as made:

        def work(name):
            found[name] = contents(made.compile(name, sources(40)))

        threads = [threading.Thread(target=work, args=(f"p{number}",)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 5
    assert all(result == found["p0"] for result in found.values())


@pytest.mark.parametrize("path", ["a/b.py", "b.py"])
def test_paths_of_bytecode(path):
    expected = importlib.util.cache_from_source(path)
    assert pyc_path(path, sys.implementation.cache_tag) == expected
    assert pyc_path("/" + path, sys.implementation.cache_tag) == expected


def fails(call):
    with pytest.raises(AfenvError) as caught:
        call()
    return caught.value.code


def test_an_interpreter_that_does_not_start(store):
    with compiler(store, interpreter(("/nonexistent/python",))) as made:
        assert fails(lambda: made.compile("p", sources(1))) == "E404"


def test_an_interpreter_that_ends(store):
    with compiler(store, interpreter(("/bin/false",))) as made:
        assert fails(lambda: made.compile("p", sources(1))) == "E404"
        assert not made.has("p")


def test_a_server_that_is_killed(store):
    server = CompileServer(interpreter())
    assert len(server.compile(sources(2))) == 2
    os.kill(server._process.pid, signal.SIGKILL)
    assert fails(lambda: server.compile(sources(2))) == "E404"


def test_closing_ends_the_processes(store):
    made = compiler(store)
    made.compile("p", sources(10))
    servers = [server for server in made._idle.queue if server is not None]
    assert servers
    made.close()
    deadline = time.monotonic() + 5
    while any(server._process.poll() is None for server in servers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(server._process.returncode is not None for server in servers)


def test_cancelled(store):
    made = compiler(store)
    made.cancel()
    with pytest.raises(RuntimeError):
        made.compile("p", sources(1))
    made.close()
