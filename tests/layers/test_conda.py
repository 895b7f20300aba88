"""Conda packages in layers: modes, records, links, owners, bytecode."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import marshal
import sys

import pytest

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.bytecode import Compiler
from afenv.layers.conda import write_conda
from afenv.layers.conda_interpreter import conda_interpreter_id, prepare_conda_interpreter
from afenv.layers.conda_meta import history_text
from afenv.layers.conda_order import dependency_name, installation_order, plan_owners
from afenv.layers.conda_plan import check_wheels, conda_owners, open_packages, tree_of
from afenv.layers.conda_prefix import replace_binary
from afenv.layers.conda_python import conda_python
from afenv.store.content import ContentStore

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = sys.implementation.cache_tag
SITE = f"lib/python{MINOR}/site-packages"
OLD = "/placeholder/" + "p" * 60
# Stands in for the Python of the environment: starts the one at hand.
STARTER = f'#!/bin/sh\nunset PYTHONHOME LD_LIBRARY_PATH\nexec {sys.executable} "$@"\n'.encode()
PYTHON = {
    f"bin/python{MINOR}": STARTER,
    f"lib/python{MINOR}/os.py": b"import sys\n",
    f"{SITE}/README.txt": b"",
}


def environment_of(made, **changes):
    values = {"request": "", "platform": "linux/amd64", "as_of": "", "conda_prefix": "/opt/conda"}
    return LockedEnvironment(conda=tuple(locked for locked, _ in made), **{**values, **changes})


def paths_of(made):
    return {locked.file.sha256: path for locked, path in made}


@pytest.fixture
def write(new_layer):
    def run(*made, lost=None, compiler=None):
        layer = new_layer()
        packages = [locked for locked, _ in made]
        environment = environment_of(made)
        write_conda(packages, paths_of(made), environment, layer.writer, compiler=compiler, lost=lost or {})
        return layer

    return run


def test_modes_are_normalised(make_conda, write):
    made = make_conda("x", {"bin/run": b"1", "lib/data": b"2"}, executables=("bin/run",))
    files = write(made).files()
    assert files["opt/conda/bin/run"] == (0o755, b"1")
    assert files["opt/conda/lib/data"] == (0o644, b"2")


def test_what_is_not_listed_is_not_installed(make_conda, write):
    def edit(value):
        value["paths"] = [entry for entry in value["paths"] if entry["_path"] != "lib/extra"]

    made = make_conda("x", {"lib/listed": b"1", "lib/extra": b"2"}, edit=edit)
    assert list(write(made).files()) == ["opt/conda/lib/listed", "opt/conda/conda-meta/x-1.0-0.json"]


def test_listed_folders(make_conda, write):
    made = make_conda("x", {"share/empty": ("directory",), "share/full/file": b""})
    names = {member.name: member for member in write(made).members()}
    assert names["opt/conda/share/empty"].isdir()


def test_hard_links_stay_links_where_they_can(make_conda, write):
    files = {
        "a": b"content",
        "b": ("hardlink", "a"),
        "c": ("hardlink", "d"),
        "d": OLD.encode(),
        "e": ("hardlink", "d"),
        "f": ("hardlink", "d"),
    }
    made = make_conda("x", files, prefixes={"d": (OLD, "text"), "e": (OLD, "text")})
    layer = write(made)
    members = {member.name: member for member in layer.members()}
    assert members["opt/conda/b"].linkname == "opt/conda/a"
    assert members["opt/conda/e"].linkname == "opt/conda/d"
    content = {name: data for name, (_, data) in layer.files().items()}
    assert content["opt/conda/d"] == b"/opt/conda"
    assert content["opt/conda/c"] == content["opt/conda/f"] == OLD.encode()
    record = json.loads(content["opt/conda/conda-meta/x-1.0-0.json"])
    assert record["files"] == list("abcdef")
    found = {path["_path"]: path for path in record["paths_data"]["paths"]}
    assert found["e"]["sha256_in_prefix"] == hashlib.sha256(b"/opt/conda").hexdigest()
    assert found["f"]["sha256_in_prefix"] == hashlib.sha256(OLD.encode()).hexdigest()
    assert found["b"] == {**found["a"], "_path": "b"}


def test_links_to_files_that_others_own(make_conda, write):
    files = {
        "a": b"1",
        "b": ("hardlink", "a"),
        "c": ("symlink", "a"),
        "d": ("hardlink", "a"),
        "e": b"2" * 2_000_000,
    }
    layer = write(make_conda("x", files), lost={"x": frozenset("ade")})
    found = layer.files()
    assert found["opt/conda/b"] == (0o644, b"1")
    assert "opt/conda/a" not in found
    assert "opt/conda/e" not in found
    assert json.loads(found["opt/conda/conda-meta/x-1.0-0.json"][1])["files"] == ["b", "c"]


def test_the_record(make_conda, write):
    made = make_conda(
        "x",
        {"bin/x": OLD.encode(), "lib/l": ("symlink", "y"), "lib/y": b"y"},
        prefixes={"bin/x": (OLD, "text")},
        depends=("y >=1",),
        record={"license": "MIT", "timestamp": 1},
        requested=True,
    )
    text = write(made).files()["opt/conda/conda-meta/x-1.0-0.json"][1]
    assert b"/tmp" not in text
    record = json.loads(text)
    paths = record.pop("paths_data")
    assert record == {
        "build": "0",
        "build_number": 0,
        "channel": "https://conda.example.org/test",
        "constrains": [],
        "depends": ["y >=1"],
        "files": ["bin/x", "lib/l", "lib/y"],
        "fn": "x-1.0-0.conda",
        "license": "MIT",
        "link": {"source": "", "type": 3},
        "name": "x",
        "requested_spec": "x",
        "requested_specs": ["x"],
        "sha256": made[0].file.sha256,
        "size": made[0].file.size,
        "subdir": "linux-64",
        "timestamp": 1,
        "url": "https://conda.example.org/test/linux-64/x-1.0-0.conda",
        "version": "1.0",
    }
    assert paths["paths_version"] == 1
    assert paths["paths"][0] == {
        "_path": "bin/x",
        "file_mode": "text",
        "path_type": "hardlink",
        "prefix_placeholder": OLD,
        "sha256": hashlib.sha256(OLD.encode()).hexdigest(),
        "sha256_in_prefix": hashlib.sha256(b"/opt/conda").hexdigest(),
        "size_in_bytes": len(OLD),
    }
    assert paths["paths"][1]["path_type"] == "softlink"


def test_a_channel_that_is_a_folder_leaves_no_path(make_conda, write):

    locked, path = make_conda("x", {"a": b""})
    file = dataclasses.replace(locked.file, urls=("./deep/channel/linux-64/x-1.0-0.conda",))
    locked = dataclasses.replace(locked, channel="./deep/channel", file=file)
    record = json.loads(write((locked, path)).files()["opt/conda/conda-meta/x-1.0-0.json"][1])
    assert record["channel"] == "file:///channel"
    assert record["url"] == "file:///channel/linux-64/x-1.0-0.conda"


def test_history(make_conda):
    made = [make_conda("b", {"b": b""}, requested=True), make_conda("a", {"a": b""}, noarch="generic")]
    assert history_text([locked for locked, _ in made]).decode().splitlines() == [
        "==> 1980-01-01 00:00:00 <==",
        "# cmd: afenv build",
        "+https://conda.example.org/test/noarch::a-1.0-0",
        "+https://conda.example.org/test/linux-64::b-1.0-0",
        "# update specs: ['b']",
    ]


@pytest.mark.parametrize(
    ("specification", "name"),
    [
        ("numpy", "numpy"),
        ("NumPy >=1.2,<3", "numpy"),
        ("numpy=1.2", "numpy"),
        ("conda-forge::numpy 1.2", "numpy"),
        ("numpy[version='>1']", "numpy"),
        ("numpy!=2", "numpy"),
        ("_libgcc_mutex 0.1 conda_forge", "_libgcc_mutex"),
        ("", ""),
    ],
)
def test_names_of_dependencies(specification, name):
    assert dependency_name(specification) == name


def test_the_order_of_installation(make_conda):
    """Packages alone first; then dependencies before dependants, ties by name; cycles end."""
    needs = {
        "z": (),
        "python": ("pip", "c"),
        "pip": ("python",),
        "a": ("b",),
        "b": ("a", "x"),
        "x": (),
        "c": (),
    }
    made = [make_conda(name, {name: b""}, depends=depends) for name, depends in needs.items()]
    order = [package.name for package in installation_order([locked for locked, _ in made])]
    assert order == ["z", "c", "python", "pip", "x", "a", "b"]


def test_the_last_package_owns_a_path():
    installed = {
        "a": {"same": False, "own-a": False, "folder": True},
        "b": {"same": False, "folder": True},
        "c": {"same": False, "folder/file": False},
    }
    lost = plan_owners(installed, ["a", "b", "c"])
    assert lost == {"a": {"same"}, "b": {"same"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": False}, {"a/b/c": False}), ({"a": False}, {"a": True}), ({"a/b": False}, {"a/b/c": True})],
)
def test_a_file_where_others_have_a_folder(one, other):
    for installed in ({"x": one, "y": other}, {"x": other, "y": one}):
        with pytest.raises(AfenvError, match=r"E401.*folder"):
            plan_owners(installed, ["x", "y"])


def test_owners_of_modules_own_their_bytecode(make_conda):
    module, pyc = f"{SITE}/m.py", f"{SITE}/__pycache__/m.{TAG}.pyc"
    made = [
        make_conda("first", {module: b"1", pyc: b"1", f"{SITE}/__pycache__/n.{TAG}.pyc": b""}),
        make_conda("second", {module: b"2"}, depends=("first",)),
    ]
    environment = environment_of(made)
    lost = conda_owners(environment, open_packages(environment, paths_of(made), 2))
    assert lost == {"first": {module, pyc}}


def test_scripts_of_installation_are_refused(make_conda):
    made = [
        make_conda("good", {"bin/.other-post-link.sh": b"", "bin/.good-pre-unlink.sh": b""}),
        make_conda("one", {"bin/.one-post-link.sh": b"rm -rf /"}),
        make_conda("two", {"bin/.two-pre-link.sh": b"rm -rf /"}),
    ]
    with pytest.raises(AfenvError) as caught:
        open_packages(environment_of(made), paths_of(made), 1)
    assert caught.value.code == "E408"
    assert caught.value.problems[0].message.endswith(": one (post-link), two (pre-link)")


def test_wheels_replace_nothing_of_conda(make_conda):
    made = [make_conda("numpy", {f"{SITE}/numpy/__init__.py": b""})]
    environment = environment_of(made)
    opened = open_packages(environment, paths_of(made), 1)
    check_wheels(opened, {"other": [f"opt/conda/{SITE}/other.py"]})
    with pytest.raises(AfenvError, match=r"E401.*numpy/__init__.py .conda's numpy and the wheel numpy"):
        check_wheels(opened, {"numpy": [f"opt/conda/{SITE}/numpy/__init__.py"]})
    exists = tree_of(opened)
    assert [exists(path) for path in (SITE, f"{SITE}/numpy/__init__.py", "", "nothing")] == [
        *("folder", "file", "folder", "")
    ]


@pytest.fixture
def compiler(make_conda, tmp_path):
    made = make_conda("python", PYTHON, version=f"{MINOR}.1", executables=(f"bin/python{MINOR}",))
    python = conda_python([made[0]])
    store = ContentStore(tmp_path / "store")

    def prepare():
        return prepare_conda_interpreter(python, [made[0]], lambda _: paths_of([made]), store)

    with Compiler(conda_interpreter_id(python), python.version, prepare, store, 1) as compiler:
        compiler.made = made
        yield compiler


def pyc_code(data):
    assert data[4:8] == b"\1\0\0\0"
    return marshal.loads(data[16:])


def test_bytecode(make_conda, write, compiler):
    """Modules that come without it are compiled; what comes is used, whatever the time of its source."""
    own = b"\xa7\r\r\n\0\0\0\0\1\2\3\4\5\6\7\x08code"
    files = {
        f"{SITE}/with.py": b"X = 1\n",
        f"{SITE}/__pycache__/with.{TAG}.pyc": own,
        f"{SITE}/without.py": b"X = 2\n",
        f"{SITE}/wrong.py": b"def (\n",
        "share/outside.py": b"X = 3\n",
    }
    pure = make_conda("pure", {"site-packages/p/m.py": b"def f(): pass\n"}, noarch="python")
    compiled = make_conda("compiled", files, depends=(f"python {MINOR}.*",))
    layer = write(compiler.made, pure, compiled, compiler=compiler)
    found = {name: data for name, (_, data) in layer.files().items() if name.endswith(".pyc")}
    folder = f"opt/conda/{SITE}"
    assert found.keys() == {
        f"opt/conda/lib/python{MINOR}/__pycache__/os.{TAG}.pyc",
        f"{folder}/p/__pycache__/m.{TAG}.pyc",
        f"{folder}/__pycache__/with.{TAG}.pyc",
        f"{folder}/__pycache__/without.{TAG}.pyc",
    }
    assert found[f"{folder}/__pycache__/with.{TAG}.pyc"] == own[:4] + b"\1\0\0\0" + own[8:]
    code = pyc_code(found[f"{folder}/p/__pycache__/m.{TAG}.pyc"])
    assert code.co_filename == f"/opt/conda/{SITE}/p/m.py"
    record = json.loads(layer.files()["opt/conda/conda-meta/pure-1.0-0.json"][1])
    assert record["files"] == [f"{SITE}/p/__pycache__/m.{TAG}.pyc", f"{SITE}/p/m.py"]
    assert record["paths_data"]["paths"][0]["path_type"] == "pyc_file"
    assert record["paths_data"]["paths"][1]["original_path"] == "site-packages/p/m.py"


def test_large_bytecode_is_used_too(make_conda, write):
    data = b"\xa7\r\r\n\0\0\0\0\1\2\3\4\5\6\7\x08" + bytes(3_000_000)
    found = write(make_conda("x", {"lib/m.pyc": data})).files()
    assert found["opt/conda/lib/m.pyc"][1] == data[:4] + b"\1\0\0\0" + data[8:]
    path = json.loads(found["opt/conda/conda-meta/x-1.0-0.json"][1])["paths_data"]["paths"][0]
    assert path["sha256"] == hashlib.sha256(data).hexdigest() != path["sha256_in_prefix"]


def test_a_command_takes_the_place_of_a_script(make_conda, write):
    python = make_conda("python", PYTHON, version=f"{MINOR}.1")
    files = {"python-scripts/run": b"old\n", "site-packages/p.py": b""}
    layer = write(python, make_conda("p", files, noarch="python", entry_points=("run = p:main",)))
    found = layer.files()
    assert b"from p import main" in found["opt/conda/bin/run"][1]
    record = json.loads(found["opt/conda/conda-meta/p-1.0-0.json"][1])
    assert record["files"] == ["bin/run", f"{SITE}/p.py"]


def test_no_bytecode_for_modules_of_others(make_conda, write, compiler):
    pure = make_conda("pure", {"site-packages/m.py": b"X = 1\n"}, noarch="python")
    layer = write(compiler.made, pure, compiler=compiler, lost={"pure": frozenset((f"{SITE}/m.py",))})
    assert not [name for name in layer.files() if "site-packages" in name and name.endswith((".py", ".pyc"))]


def test_a_python_that_needs_its_libraries(make_conda, tmp_path):
    """Dependencies are unpacked only when Python does not start without them."""
    starter = f'#!/bin/sh\ntest -e "$LD_LIBRARY_PATH/libz.so.1" || exit 9\n{STARTER.decode()[10:]}'.encode()
    files = {**PYTHON, f"bin/python{MINOR}": starter}
    made = [
        make_conda(
            "python", files, version=f"{MINOR}.1", depends=("zlib",), executables=(f"bin/python{MINOR}",)
        ),
        make_conda(
            "zlib", {"lib/libz.so.1.2": b"z", "lib/libz.so.1": ("symlink", "libz.so.1.2"), "share/z": b""}
        ),
        make_conda("other", {"lib/libother.so": b""}),
    ]
    python = conda_python([made[0][0]])
    asked = []

    def bring(packages):
        asked.append([package.name for package in packages])
        return paths_of(made)

    store = ContentStore(tmp_path / "store")
    packages = [locked for locked, _ in made]
    interpreter = prepare_conda_interpreter(python, packages, bring, store)
    assert asked == [["python"], ["python", "zlib"]]
    assert interpreter.version == MINOR
    folder = interpreter.variables["PYTHONHOME"]
    assert (tmp_path / folder / "lib/libz.so.1").exists()
    assert not (tmp_path / folder / "share").exists()
    prepare_conda_interpreter(python, packages, bring, store)
    assert len(asked) == 2  # what lies in the store is used again

    with pytest.raises(AfenvError, match="E404"):
        prepare_conda_interpreter(python, packages[:1], bring, store)


def test_layers_are_deterministic(make_conda, write):
    made = make_conda("x", {"b": b"1", "a": ("symlink", "b"), "c": b"2" * 3_000_000})
    assert write(made).tar() == write(made).tar()


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_binary_replacement_does_not_depend_on_chunks(size):
    old, new = b"/old/prefix", b"/new"
    data = b"x" * 50 + old + b"/lib\0" + old[:-1] + b"\0" + old + b":" + old + b"\0\0tail" + old
    whole = b"".join(replace_binary([data], old, new))
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(replace_binary(chunks, old, new)) == whole
    assert len(whole) == len(data)
    assert whole.count(new) == 4
    assert whole.startswith(b"x" * 50 + b"/new/lib" + bytes(8))
