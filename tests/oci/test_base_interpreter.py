"""The Python of a base image compiles, outside of the image: shown with a copy of this host's Python."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.base_interpreter import base_interpreter_id, prepare_base_interpreter
from afenv.layers.bytecode import Compiler
from afenv.layers.interpreter import probe
from afenv.layers.model import SYSTEM_PATH
from afenv.oci.base import StoredBase, base_of_image
from afenv.resolve.base_python import base_python
from afenv.store.content import ContentStore
from afenv.testing import Member, make_foreign_image, symlink

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
CORE = ("encodings", "importlib", "collections", "re")


def host_python() -> list[Member]:
    """This Python as a base image has it: below /usr/local, with the libraries that it is linked to."""
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    linked = subprocess.run(["ldd", executable], capture_output=True, text=True, check=True).stdout
    members = [Member(path=f"usr/local/bin/python{MINOR}", content=executable.read_bytes(), mode=0o755)]
    members.append(symlink("usr/local/bin/python3", f"python{MINOR}"))
    for line in linked.splitlines():
        words = [word for word in line.split() if word.startswith("/")]
        if not words:
            continue
        library = Path(words[0])
        folder = "lib64" if library.name.startswith("ld-") else "usr/local/lib"
        real = re.sub(r"\A(libm|libc)\.so\.6\Z", r"\1-2.28.so", library.name)  # as older systems have it
        members.append(Member(path=f"{folder}/{real}", content=library.read_bytes(), mode=0o755))
        if real != library.name:
            members.append(symlink(f"{folder}/{library.name}", real))
    standard = Path(sysconfig.get_path("stdlib"))
    sources = [*standard.glob("*.py"), *(path for name in CORE for path in (standard / name).rglob("*.py"))]
    for path in sources:
        place = f"usr/local/lib/python{MINOR}/{path.relative_to(standard)}"
        members.append(Member(path=place, content=path.read_bytes()))
    return members


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[LockedEnvironment, StoredBase]:
    store = ContentStore(tmp_path_factory.mktemp("base") / "store")
    image = make_foreign_image(store, [host_python()], compression="")
    base, found = base_of_image(image, store, reference="example.org/a:1", platform="linux/amd64")
    python = base_python(found.tree, SYSTEM_PATH)
    environment = LockedEnvironment(
        request="", platform="linux/amd64", as_of="2026-01-01T00:00:00Z", base=base, python=python
    )
    return environment, found


def test_it_is_found(opened: Any) -> None:
    environment, _ = opened
    assert environment.python.version == sys.version.split()[0].rstrip("+")
    assert environment.python.executable == f"/usr/local/bin/python{MINOR}"


def test_it_compiles(opened: Any, store: ContentStore) -> None:
    environment, found = opened
    interpreter = prepare_base_interpreter(environment, found, {}, store)
    assert interpreter.id == base_interpreter_id(environment.base, environment.python, ())
    assert all(str(store.folder) in word for word in interpreter.command if word.startswith("/"))
    compiler = Compiler(interpreter.id, environment.python.version, lambda: interpreter, store, 1)
    try:
        result = compiler.compile("wheel:a", [("/a.py", b"x = [i for i in range(3)]\n")])
    finally:
        compiler.close()
    assert list(result) == ["/a.py"]


def test_what_is_unpacked_is_used_again(opened: Any, store: ContentStore) -> None:
    environment, found = opened
    first = prepare_base_interpreter(environment, found, {}, store)
    without = StoredBase(layers=found.layers, store=ContentStore(Path("/nowhere")), place="")
    object.__setattr__(without, "__dict__", {**vars(without), "tree": found.tree})
    assert prepare_base_interpreter(environment, without, {}, store).command == first.command
    probe(first)


def test_a_base_without_a_loader(opened: Any, store: ContentStore) -> None:
    environment, found = opened
    members = [one for one in host_python() if not one.path.startswith("lib64")]
    image = make_foreign_image(found.store, [members], compression="")
    base, other = base_of_image(image, found.store, reference="example.org/b:1", platform="linux/amd64")
    changed = LockedEnvironment(
        request="", platform="linux/amd64", as_of="", base=base, python=environment.python
    )
    with pytest.raises(AfenvError) as caught:
        prepare_base_interpreter(changed, other, {}, store)
    assert caught.value.code == "E404"
