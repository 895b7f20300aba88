"""Wheels in layers, with PyPA's installer as the oracle."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import posixpath
import re
import zipfile

import pytest
from installer import install
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile
from installer.utils import fix_shebang

from afenv.errors import AfenvError
from afenv.layers import wheel_scripts
from afenv.layers.wheel import installed_paths, open_wheel, write_wheels
from afenv.layers.wheel_owners import plan_owners

SITE = "usr/local/lib/python3.11/dist-packages"
ROOTS = {
    "purelib": SITE,
    "platlib": SITE,
    "scripts": "usr/local/bin",
    "data": "usr/local",
    "headers": "usr/local/include/python3.11/sample",
}
MODULE = b"VALUE = 1\n" * 900


class Destination:
    """Where installer writes to: a dictionary of mode and content by path in the image."""

    def __init__(self):
        self.files = {}
        self.record = []

    def write_script(self, name, module, attr, section):
        self.files[f"usr/local/bin/{name}"] = (0o755, (module, attr))
        return RecordEntry(name, None, None)

    def write_file(self, scheme, path, stream, is_executable):
        if scheme == "scripts":
            with fix_shebang(stream, "/usr/bin/python3.11") as fixed:
                data = fixed.read()
        else:
            data = stream.read()
        executable = is_executable or scheme == "scripts"
        self.files[f"{ROOTS[scheme]}/{path}"] = (0o755 if executable else 0o644, data)
        return RecordEntry(path, Hash("sha256", ""), len(data))

    def finalize_installation(self, scheme, record_file_path, records):
        self.record = records


def by_installer(path, metadata):
    destination = Destination()
    with WheelFile.open(path) as source:
        install(source, destination, metadata)
    return destination.files


@pytest.fixture
def write(layer, debian_python):
    def function(*pairs, **options):
        paths = {wheel.file.sha256: path for wheel, path in pairs}
        wheels = [wheel for wheel, _ in pairs]
        options = {"compiler": None, "lost": {}} | options
        write_wheels(wheels, paths, debian_python, layer.writer, **options)
        return layer

    return function


def sample(make_wheel, **options):
    files = {
        "sample/__init__.py": MODULE,
        "sample/data/": b"",
        "sample/data/ünicode, with comma.txt": b"text",
        "sample/native.so": bytes(range(256)) * 100,
        "sample/tool.sh": b"#!/bin/sh\n",
        "sample/empty.py": b"",
        "sample-1.0.data/scripts/run": b"#!python -u\nprint(1)\n",
        "sample-1.0.data/scripts/windowed": b"#!pythonw\nprint(1)\n",
        "sample-1.0.data/scripts/binary": b"\x7fELF" * 3000,
        "sample-1.0.data/data/share/sample/x.dat": b"data",
        "sample-1.0.data/headers/sample.h": b"#pragma once\n",
        "sample-1.0.data/purelib/pure.py": b"PURE = 1\n",
        "sample-1.0.data/platlib/plat.py": b"PLAT = 1\n",
    }
    return make_wheel(
        "sample",
        files,
        executables=("sample/tool.sh", "sample/native.so"),
        stored=("sample/native.so",),
        entry_points=(
            "[console_scripts]\nsample = sample.cli:main\n"
            "deep=sample.cli : app.run [extra]\n\n# comment\n"
            "[other]\nnot = a.command:here\n[gui_scripts]\nsample-gui = sample:gui\n"
        ),
        **options,
    )


def test_the_tree_is_that_of_installer(make_wheel, write):
    wheel, path = sample(make_wheel, requested=True)
    found = write((wheel, path)).files()
    expected = by_installer(path, {"INSTALLER": b"afenv\n", "REQUESTED": b""})
    record = f"{SITE}/sample-1.0.dist-info/RECORD"
    for path_in_image, (mode, content) in expected.items():
        if isinstance(content, tuple):  # a generated command
            text = found.pop(path_in_image)[1].decode()
            module, attribute = content
            assert text.startswith("#!/usr/bin/python3.11\n")
            assert f"from {module} import {attribute.split('.')[0]}\n" in text
            assert f"sys.exit({attribute}())" in text
        else:
            assert found.pop(path_in_image) == (mode, content), path_in_image
    assert list(found) == [record]


def test_record_lists_exactly_what_is_there(make_wheel, write):
    layer = write(sample(make_wheel))
    files = layer.files()
    rows = list(csv.reader(files[f"{SITE}/sample-1.0.dist-info/RECORD"][1].decode().splitlines()))
    by_path = {posixpath.normpath(posixpath.join(SITE, path)): rest for path, *rest in rows}
    assert by_path.keys() == files.keys()
    for path, (code, size) in by_path.items():
        if path.endswith("/RECORD"):
            assert (code, size) == ("", "")
        else:
            data = files[path][1]
            assert size == str(len(data)), path
            assert RecordEntry.from_elements(path, code, size).validate(data), path
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    paths = [member.name for member in layer.members() if member.isfile()]
    assert paths == sorted(paths)


def test_python_sees_a_valid_installation(make_wheel, write, tmp_path):
    layer = write(sample(make_wheel, requested=True))
    for path, (mode, data) in layer.files().items():
        target = tmp_path / "root" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(mode)
    (found,) = importlib.metadata.distributions(path=[str(tmp_path / "root" / SITE)])
    assert (found.metadata["Name"], found.version) == ("sample", "1.0")
    assert found.read_text("INSTALLER") == "afenv\n"
    assert found.read_text("REQUESTED") == ""
    assert {point.name for point in found.entry_points} >= {"sample", "sample-gui", "deep"}
    assert all(file.locate().exists() for file in found.files)


def test_names_that_differ_only_in_form(make_wheel, write):
    wheel, path = make_wheel("Foo_Bar.baz", {"foo.py": b""})
    locked = make_wheel.lock("foo-bar-baz", "1.0", path)
    assert f"{SITE}/foo.py" in write((locked, path)).files()
    assert wheel.file == locked.file


def test_bytecode_in_a_wheel_is_left_out(make_wheel, write):
    pair = make_wheel("sample", {"a.py": b"", "__pycache__/a.cpython-311.pyc": b"old"})
    found = write(pair).files()
    assert f"{SITE}/a.py" in found
    assert not [path for path in found if "__pycache__" in path]
    assert "__pycache__" not in found[f"{SITE}/sample-1.0.dist-info/RECORD"][1].decode()


def test_signatures_of_the_record_go_with_it(make_wheel, write):
    files = {"a.py": b"", "sample-1.0.dist-info/RECORD.jws": b"{}"}
    found = write(make_wheel("sample", files, unlisted=("sample-1.0.dist-info/RECORD.jws",))).files()
    assert not [path for path in found if path.endswith(".jws")]


def fails(call):
    with pytest.raises(AfenvError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a\\b", "sample-1.0.data/data/../../x"]
)
def test_paths_that_lead_outside(make_wheel, write, path):
    assert fails(lambda: write(make_wheel("sample", {path: b"x"}))) == "E304"


def test_links_are_refused(make_wheel, write):
    wheel, path = make_wheel("sample", {"a": b"b"})
    with zipfile.ZipFile(path) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in entries:
            if info.filename == "a":
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    assert fails(lambda: write((make_wheel.lock(wheel.name, "1.0", path), path))) == "E304"


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a": b"", "other-1.0.dist-info/METADATA": b""}, {}),
        ({"a": b""}, {"record": "sample-1.0.dist-info/RECORD,,\n"}),
        ({"a": b""}, {"unlisted": ("a",)}),
        ({"a": b""}, {"record": None, "wheel_version": "2.0"}),
        ({"sample-1.0.data/nowhere/x": b""}, {}),
        ({"sample-1.0.data/x": b""}, {}),
        ({"x.py": b"1", "sample-1.0.data/purelib/x.py": b"2"}, {}),
        ({"a": b""}, {"entry_points": "[console_scripts]\nx = module\n"}),
        ({"a": b""}, {"entry_points": "[console_scripts]\nx\n"}),
        ({"a": b""}, {"entry_points": "[console_scripts]\nx = a:b; import os\n"}),
    ],
)
def test_wheels_that_break_the_rules(make_wheel, write, files, options):
    assert fails(lambda: write(make_wheel("sample", files, **options))) == "E303"


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "a\\b"])
def test_commands_that_are_no_file_names(name):
    text = f"[console_scripts]\n{name} = a:b\n"
    assert fails(lambda: list(wheel_scripts.commands(text, "here"))) == "E304"


def test_a_record_that_lists_too_much(make_wheel, write):
    _, path = make_wheel("sample", {"a": b""})
    with zipfile.ZipFile(path) as archive:
        record = archive.read("sample-1.0.dist-info/RECORD").decode() + "missing.py,,\n"
    pair = make_wheel("sample", {"a": b""}, record=record)
    with pytest.raises(AfenvError, match=re.escape("missing.py")) as caught:
        write(pair)
    assert caught.value.code == "E303"


def test_another_archive_than_the_locked_one(make_wheel, write):
    wheel, path = make_wheel("sample", {"a": b"x" * 10_000})
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    assert fails(lambda: write((wheel, path))) == "E301"
    path.write_bytes(b"cut off")
    assert fails(lambda: write((wheel, path))) == "E301"


@pytest.mark.parametrize("stored", [True, False])
def test_content_that_is_not_what_the_directory_says(make_wheel, write, stored):
    content = bytes(range(256)) * 40
    _, path = make_wheel("sample", {"a.bin": content}, stored=("a.bin",) if stored else ())
    data = bytearray(path.read_bytes())
    data[80] ^= 1
    path.write_bytes(data)
    assert fails(lambda: write((make_wheel.lock("sample", "1.0", path), path))) == "E303"


def test_shared_paths(make_wheel, write, debian_python, new_layer):
    one = make_wheel("one", {"shared/__init__.py": b"", "shared/one.py": b"1", "x.py": b"one"})
    two = make_wheel("two", {"shared/__init__.py": b"", "shared/two.py": b"2", "x.py": b"two"})
    installed = {
        wheel.name: installed_paths(open_wheel(wheel, path, debian_python)) for wheel, path in (two, one)
    }
    with pytest.raises(AfenvError, match=r"E401.*x\.py \(one and two\)"):
        plan_owners(installed, {}, SITE)
    lost = plan_owners(installed, {"x.py": "two"}, SITE)
    assert lost == {
        "one": frozenset({f"{SITE}/x.py"}),
        "two": frozenset({f"{SITE}/shared/__init__.py"}),
    }
    assert plan_owners(installed, {f"/{SITE}/x.py": "two"}, SITE) == lost
    files = write(one, two, lost=lost).files()
    assert files[f"{SITE}/x.py"][1] == b"two"
    assert {entry.path: entry.package for entry in layer_entries(write)}[f"{SITE}/x.py"] == "two"
    apart = new_layer()
    write_wheels(
        [one[0]], {one[0].file.sha256: one[1]}, debian_python, apart.writer, compiler=None, lost=lost
    )
    assert f"{SITE}/x.py" not in apart.files()


def layer_entries(write):
    (layer,) = [cell.cell_contents for cell in write.__closure__ if hasattr(cell.cell_contents, "written")]
    return layer.written.entries


def test_owners_are_a_pure_function():
    same, other = (1, 2), (3, 4)
    assert plan_owners({}, {}, "s") == {}
    assert plan_owners({"b": {"x": same}, "a": {"x": same}}, {}, "s") == {"b": frozenset({"x"})}
    assert plan_owners({"a": {"s/x": same}, "b": {"s/x": other}}, {"x": "a"}, "s") == {
        "b": frozenset({"s/x"})
    }
    with pytest.raises(AfenvError):  # the one that is named does not have it
        plan_owners({"a": {"s/x": same}, "b": {"s/x": other}}, {"x": "c"}, "s")
    three = {"a": {"x": same}, "b": {"x": other}, "c": {"x": same}}
    with pytest.raises(AfenvError, match="a and b and c"):
        plan_owners(three, {}, "s")
    with pytest.raises(AfenvError, match="a file and a folder"):
        plan_owners({"a": {"x": same}, "b": {"x/y/z": same}}, {}, "s")
    with pytest.raises(AfenvError, match="a file and a folder"):
        plan_owners({"a": {"x/y": same}, "b": {"x/y/z": same}}, {}, "s")


def test_installer_reads_the_same_wheels(make_wheel):
    """The oracle itself must accept what the tests make."""
    _, path = sample(make_wheel)
    with WheelFile.open(path) as source:
        source.validate_record(validate_contents=True)
        assert source.distribution == "sample"
    assert io.BytesIO(path.read_bytes()).read(2) == b"PK"
