"""From a lock with conda packages to layers and an image, with a Python that stands in for theirs."""

from __future__ import annotations

import dataclasses
import gzip
import io
import sys
import tarfile

import pytest

from afenv.documents.lock import LockedEnvironment, LockedPython
from afenv.errors import AfenvError
from afenv.layers.plan import plan_layers
from afenv.layers.write import layer_key, write_layers
from afenv.oci.image import assemble
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.testing import make_lock

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = sys.implementation.cache_tag
SITE = f"opt/conda/lib/python{MINOR}/site-packages"
STARTER = f'#!/bin/sh\nunset PYTHONHOME LD_LIBRARY_PATH\nexec {sys.executable} "$@"\n'.encode()
PYTHON = LockedPython(
    version=f"{MINOR}.1",
    executable=f"/opt/conda/bin/python{MINOR}",
    site_packages=f"/{SITE}",
    scripts="/opt/conda/bin",
)


class Files:
    """A fetcher that has everything, and notes what it was asked for."""

    def __init__(self):
        self.paths = {}
        self.asked = []

    def add(self, locked, path):
        self.paths[locked.file.sha256] = path
        return locked

    def files(self, files, *, title):
        self.asked += [file.sha256 for file in files]
        return [self.paths[file.sha256] for file in files]


@pytest.fixture
def fetcher():
    return Files()


@pytest.fixture
def packages(make_conda, fetcher):
    python = {f"bin/python{MINOR}": STARTER, f"lib/python{MINOR}/os.py": b"import sys\n"}
    return [
        fetcher.add(*make_conda("python", python, version=f"{MINOR}.1", executables=(f"bin/python{MINOR}",))),
        fetcher.add(*make_conda("first", {"share/both": b"1", "etc/conda/activate.d/a.sh": b"export A=1\n"})),
        fetcher.add(*make_conda("last", {"share/both": b"2"}, depends=("first",))),
        fetcher.add(
            *make_conda("pure", {"site-packages/pure.py": b"X = 1\n"}, noarch="python", requested=True)
        ),
    ]


@pytest.fixture
def wheel(make_wheel, fetcher):
    return fetcher.add(*make_wheel("whl", {"whl.py": b"Y = 1\n"}))


def environment_of(packages, **changes):
    values = {"request": "sha256:" + "0" * 64, "platform": "linux/amd64", "as_of": "2026-01-01T00:00:00Z"}
    return LockedEnvironment(
        **{**values, "conda": tuple(packages), "conda_prefix": "/opt/conda", "python": PYTHON, **changes}
    )


def write(environment, store, fetcher, tmp_path):
    return write_layers(
        environment,
        (),
        store,
        Settings(cache_folder=tmp_path, jobs=2),
        fetcher=fetcher,
        folder=tmp_path,
        mtime=0,
        quiet=True,
    )


def content(store, layers):
    found = {}
    for layer in layers:
        data = gzip.decompress(store.path(layer.digest).read_bytes())
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if member.isfile():
                    assert member.name not in found
                    found[member.name] = archive.extractfile(member).read()
    return found


def test_a_whole_environment(packages, wheel, fetcher, tmp_path):
    store = ContentStore(tmp_path / "store")
    environment = environment_of(packages, wheels=(wheel,))
    layers = write(environment, store, fetcher, tmp_path)
    assert [layer.source for layer in layers] == [
        "conda:first=1.0",
        "conda:last=1.0",
        "conda:pure=1.0",
        f"conda:python={MINOR}.1",
        "conda:environment",
        "pypi:whl==1.0",
    ]
    found = content(store, layers)
    assert found["opt/conda/share/both"] == b"2"
    assert found["opt/conda/conda-meta/history"].endswith(b"# update specs: ['pure']\n")
    assert {name for name in found if name.endswith(".pyc")} == {
        f"{SITE}/__pycache__/pure.{TAG}.pyc",
        f"{SITE}/__pycache__/whl.{TAG}.pyc",
        f"opt/conda/lib/python{MINOR}/__pycache__/os.{TAG}.pyc",
    }
    assert layers[4].variables["A"] == "1"
    assert layers[4].entrypoint == ()

    fetcher.asked.clear()
    assert write(environment, store, fetcher, tmp_path) == layers
    assert fetcher.asked == []

    image = assemble(make_lock(**_fields(environment)), "default", layers, 0, store)
    config = image.configuration()["config"]
    assert "A=1" in config["Env"]
    assert "CONDA_PREFIX=/opt/conda" in config["Env"]
    assert "PATH=/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in config["Env"]
    assert "Entrypoint" not in config


def _fields(environment):
    return {field.name: getattr(environment, field.name) for field in dataclasses.fields(environment)}


def test_the_same_layers_in_any_store_and_order(packages, fetcher, tmp_path):
    one = write(environment_of(packages), ContentStore(tmp_path / "one"), fetcher, tmp_path)
    two = write(environment_of(packages[::-1]), ContentStore(tmp_path / "two"), fetcher, tmp_path)
    assert one == two


def test_an_image_with_scripts_to_source(packages, make_conda, fetcher, tmp_path):
    dynamic = fetcher.add(*make_conda("dyn", {"etc/conda/activate.d/d.sh": b"export B=$(date)\n"}))
    store = ContentStore(tmp_path / "store")
    environment = environment_of([*packages, dynamic], entrypoint=("run",), variables={"A": "mine"})
    for _ in range(2):  # written, and from the store
        layers = write(environment, store, fetcher, tmp_path)
        config = assemble(make_lock(**_fields(environment)), "default", layers, 0, store).configuration()
        assert config["config"]["Entrypoint"] == ["/opt/conda/bin/afenv-activate", "run"]
        assert "A=mine" in config["config"]["Env"]
        assert "BASH_ENV=/opt/conda/etc/conda/afenv-activate.sh" in config["config"]["Env"]
        assert "Cmd" not in config["config"]
    image = assemble(make_lock(conda=environment.conda), "default", layers, 0, store)
    assert image.configuration()["config"]["Cmd"] == ["/bin/sh"]


def test_what_keys_depend_on(packages):
    """A package that does not use Python does not depend on which Python there is."""

    def keys(environment, interpreter="i", lost=None):
        planned = plan_layers(environment, ())
        return {
            layer.name.partition("=")[0]: layer_key(
                layer, environment, mtime=0, lost=lost or {}, interpreter=interpreter
            )
            for layer in planned
        }

    def changed(one, two):
        return {name for name in one if one[name] != two[name]}

    environment = environment_of(packages)
    before = keys(environment)
    assert changed(before, keys(environment, "j")) == {"conda:python", "conda:pure"}
    assert changed(before, keys(dataclasses.replace(environment, conda_prefix="/o"))) == before.keys()
    assert changed(before, keys(environment, lost={"conda:first": frozenset("x")})) == {
        "conda:first",
        "conda:environment",
    }
    assert changed(before, keys(environment, lost={"first": frozenset("x")})) == set()
    assert changed(before, keys(dataclasses.replace(environment, variables={"X": "1"}))) == {
        "conda:environment"
    }
    first = dataclasses.replace(packages[1], requested=True)
    assert changed(before, keys(environment_of([packages[0], first, *packages[2:]]))) == {
        "conda:first",
        "conda:environment",
    }


def test_a_wheel_over_a_conda_package(packages, make_wheel, fetcher, tmp_path):
    clash = fetcher.add(*make_wheel("pure", {"pure.py": b"Y = 1\n"}))
    with pytest.raises(AfenvError, match="E401"):
        write(environment_of(packages, wheels=(clash,)), ContentStore(tmp_path / "s"), fetcher, tmp_path)


def test_a_script_of_installation(make_conda, fetcher, tmp_path):
    package = fetcher.add(*make_conda("x", {"bin/.x-post-link.sh": b""}))
    store = ContentStore(tmp_path / "store")
    for _ in range(2):  # nothing was remembered of the first time
        with pytest.raises(AfenvError, match="E408"):
            write(environment_of([package], python=None), store, fetcher, tmp_path)
    assert not list((tmp_path / "store").glob("blobs/*/*/*"))


def test_a_damaged_package_leaves_nothing(make_conda, fetcher, tmp_path):
    def edit(value):
        value["paths"][0]["sha256"] = "0" * 64

    package = fetcher.add(*make_conda("x", {"lib/x": b"1" * 5_000_000}, edit=edit))
    with pytest.raises(AfenvError, match="E303"):
        write(environment_of([package], python=None), ContentStore(tmp_path / "store"), fetcher, tmp_path)
    kept = list((tmp_path / "store").glob("blobs/*/*/*"))  # at most the layer of the environment
    assert sum(path.stat().st_size for path in kept) < 2000
    assert not list((tmp_path / "store").glob("tmp/*"))


def test_without_bytecode_no_python_runs(packages, make_conda, fetcher, tmp_path):
    broken = fetcher.add(
        *make_conda("python", {f"bin/python{MINOR}": b"no program", "x.py": b""}, version=f"{MINOR}.2")
    )
    environment = environment_of([broken, packages[3]], bytecode=False)
    write(environment, ContentStore(tmp_path / "store"), fetcher, tmp_path)
    with pytest.raises(AfenvError, match="E404"):
        environment = dataclasses.replace(environment, bytecode=True)
        write(environment, ContentStore(tmp_path / "store"), fetcher, tmp_path)
