"""PyPI packages on top of conda packages, and environment.yml."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from afenv.documents.lock import LockedConda, LockedFile, LockedPython, LockedWheel
from afenv.documents.manifest import CondaSection, DebianBase, Environment, GpuSection, PypiSection
from afenv.errors import AfenvError
from afenv.resolve.conda.python import distributions_of
from afenv.resolve.conda.virtual import cuda_of
from afenv.resolve.pypi import resolve_pypi
from afenv.workflow.lock_conda import CondaPart, lock_conda
from afenv.workflow.project import Project as WorkflowProject

SITE = "lib/python3.12/site-packages"
AT = "2025-01-01T00:00:00Z"


def _dist(name: str, version: str, folder: str = SITE) -> dict[str, bytes]:
    """The files of an installed distribution."""
    about = f"{folder}/{name}-{version}.dist-info"
    return {f"{folder}/{name}/__init__.py": b"", f"{about}/METADATA": b"Metadata-Version: 2.1\n"}


@pytest.fixture
def mixed(project: Any) -> Any:
    """A channel in which conda's names are not those of the distributions."""
    channel = project.channel
    channel.python("3.12.3")
    channel.add("numpy", "1.26.4", ["python >=3.12,<3.13"], files=_dist("numpy", "1.26.4"))
    channel.add(
        "pytorch", "2.1", ["python"], files=_dist("torch", "2.1.0+cu121") | _dist("torchgen", "2.1.0")
    )
    channel.add("hist", "2.7", ["numpy"], noarch="python", files=_dist("hist", "2.7.0", "site-packages"))
    return project


def _lock(project: Any, conda: CondaSection, pypi: PypiSection | None, **more: Any) -> CondaPart:
    environment = Environment(debian=DebianBase(suite="bookworm"), conda=conda, pypi=pypi, **more)
    settings = project.settings.beside(project.folder)
    workflow = WorkflowProject(folder=project.folder, settings=settings, store=project.store, quiet=True)
    as_of = datetime.fromisoformat(AT)
    return lock_conda(workflow, environment, (2, 36), as_of, None, solver="rattler", update=None)


def _wheels(
    project: Any, conda: Sequence[str], pypi: Sequence[str] | PypiSection, **more: Any
) -> tuple[LockedWheel, ...]:
    """What is chosen of PyPI on top of these conda packages."""
    section = pypi if isinstance(pypi, PypiSection) else PypiSection(dependencies=tuple(pypi))
    found = _lock(project, CondaSection(channels=("./channel",), dependencies=tuple(conda)), section)
    assert found.python is not None and found.pypi is not None
    as_of = datetime.fromisoformat(AT)
    return resolve_pypi(
        found.pypi, project.folder, found.python, (2, 36), "linux/amd64", as_of,
        settings=project.settings, store=project.store, provided=found.provided, **more,
    )  # fmt: skip


def _versions(wheels: Sequence[LockedWheel]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in wheels}


def test_python_is_that_of_conda(mixed: Any) -> None:
    found = _lock(mixed, CondaSection(channels=("./channel",), dependencies=("hist",)), None)
    assert found.python == LockedPython(
        version="3.12.3",
        executable="/opt/conda/bin/python3.12",
        site_packages="/opt/conda/lib/python3.12/site-packages",
        scripts="/opt/conda/bin",
    )
    assert found.provided == {}  # nothing is downloaded where nobody asks PyPI


def test_what_conda_brings_is_neither_replaced_nor_repeated(mixed: Any, index: Any) -> None:
    index.add("fit", "1.0", ["numpy>=1.20", "torch", "hist>=2"])
    index.add("numpy", "2.0")
    index.add("numpy", "1.26.4", ["surplus"])
    index.add("torch", "2.5")
    wheels = _wheels(mixed, ["pytorch", "hist"], ["fit", "numpy"])
    assert _versions(wheels) == {"fit": "1.0"}
    assert wheels[0].dependencies == ()


def test_versions_are_chosen_that_fit_conda(mixed: Any, index: Any) -> None:
    index.add("fit", "2.0", ["numpy>=2"])
    index.add("fit", "1.0", ["numpy<2", "extra"])
    index.add("extra", "1.0")
    assert _versions(_wheels(mixed, ["numpy"], ["fit"])) == {"extra": "1.0", "fit": "1.0"}


def test_a_conflict_with_conda_is_one(mixed: Any, index: Any) -> None:
    index.add("fit", "2.0", ["numpy>=2"])
    for asked in (["fit"], ["numpy>=2"]):
        with pytest.raises(AfenvError) as caught:
            _wheels(mixed, ["numpy"], asked)
        assert caught.value.code == "E102"
        assert "do not go with numpy 1.26.4, which conda brings" in str(caught.value)
        assert "file://" not in str(caught.value)
    with pytest.raises(AfenvError, match="E101"):
        _wheels(mixed, ["numpy"], ["nothing-like-it"])


def test_extras_of_what_conda_brings_are_said(mixed: Any, index: Any) -> None:
    said: list[str] = []
    assert _wheels(mixed, ["numpy"], ["numpy[fast]"], warn=said.append) == ()
    assert len(said) == 1
    assert "numpy 1.26.4 (from conda)" in said[0]


def test_pylock_on_top_of_conda(mixed: Any) -> None:
    text = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "numpy"\nversion = "{}"\n'
    text += '[[packages.wheels]]\nurl = "https://example.org/numpy-{}-py3-none-any.whl"\nsize = 1\n'
    text += f'hashes = {{{{sha256 = "{"1" * 64}"}}}}\n'
    path = mixed.folder / "pylock.toml"
    path.write_text(text.format("1.26.4", "1.26.4"))
    assert _wheels(mixed, ["numpy"], PypiSection(lock="pylock.toml")) == ()
    path.write_text(text.format("2.0", "2.0"))
    with pytest.raises(AfenvError, match=r"has numpy 2\.0, and conda brings numpy 1\.26\.4"):
        _wheels(mixed, ["numpy"], PypiSection(lock="pylock.toml"))


def test_other_pythons(mixed: Any) -> None:
    mixed.channel.add("python", "3.13.0", build="cp313t")
    with pytest.raises(AfenvError, match="E016: PyPI packages with free-threaded Python"):
        _wheels(mixed, ["python=3.13"], ["fit"])


def _package(name: str, version: str) -> LockedConda:
    file = LockedFile(urls=("https://x.org/a.conda",), size=1, sha256="0" * 64)
    return LockedConda(
        name=name, version=version, build="0", build_number=0, channel="x", subdir="linux-64", file=file
    )


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([f"{SITE}/ruamel.yaml-0.18.6.dist-info/RECORD"], {"ruamel-yaml": "0.18.6"}),
        ([f"{SITE}/Foo_Bar-1.0-py3.12.egg-info/PKG-INFO"], {"foo-bar": "1.0"}),
        ([f"{SITE}/foo-1.0-py3.12.egg-info"], {"foo": "1.0"}),
        (
            ["site-packages/a-1.dist-info/x/deep", "site-packages/a/_vendor/b-2.dist-info/X"],
            {"a": "1"},
        ),
        ([f"{SITE}/lonely.py"], {"my-pkg": "2024a0"}),
        (["bin/tool", "lib/libtool.so"], {}),
    ],
)
def test_distributions_are_read_from_paths(paths: list[str], found: dict[str, str]) -> None:
    assert distributions_of(_package("my_pkg", "2024a"), paths) == found


def test_environment_yml(mixed: Any, index: Any) -> None:
    index.add("fit", "1.0", ["numpy"])
    index.add("plot", "1.0")
    (mixed.folder / "sub").mkdir()
    (mixed.folder / "sub" / "more.txt").write_text("plot\n")
    (mixed.folder / "sub" / "environment.yml").write_text(
        "name: any\nchannels: [./channel, nodefaults]\nvariables: {THREADS: 1.10, A: yes}\n"
        "dependencies:\n  - python=3.12\n  - numpy\n  - pip\n  - pip:\n    - fit>=1\n    - -r more.txt\n"
    )
    mixed.channel.add("pip", "24", ["python"], noarch="python")
    found = _lock(mixed, CondaSection(file="sub/environment.yml"), None)
    assert [package.name for package in found.packages if package.requested] == ["numpy", "pip", "python"]
    assert found.variables == {"THREADS": "1.10", "A": "yes"}
    assert found.pypi == PypiSection(dependencies=("fit>=1",), file="sub/more.txt")
    with pytest.raises(AfenvError, match="E016: several requirements files"):
        _lock(mixed, CondaSection(file="sub/environment.yml"), PypiSection(file="other.txt"))
    with pytest.raises(AfenvError, match="E014"):
        _lock(mixed, CondaSection(file="sub/environment.yml"), PypiSection(lock="pylock.toml"))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("E012", "dependencies: [numpy]"),
        ("E010", "channel: [x]"),
        ("E011", "- numpy"),
        ("E011", "dependencies: numpy"),
        ("E011", "dependencies: [{conda: [a]}]"),
        ("E016", "channels: [x]\ndependencies: [{pip: [--pre]}]"),
        ("E002", "dependencies: [numpy"),
    ],
)
def test_environment_yml_that_is_wrong(project: Any, code: str, text: str) -> None:
    (project.folder / "environment.yml").write_text(text + "\n")
    assert "environment.yml" in project.fails(code, section=CondaSection(file="environment.yml"))


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        (">=12.2", "12.2"),
        ("12.2", "12.2"),
        ("==12.4", "12.4"),
        (">=12", "12.0"),
        (">12.2", "12.3"),
        (">=11.8,<13,!=11.8", "11.9"),
        ("~=12.1", "12.1"),
        (">=12.2.1", "12.3"),
    ],
)
def test_cuda_is_the_lowest_that_will_do(asked: str, version: str) -> None:
    assert cuda_of({"cuda": asked}) == version


@pytest.mark.parametrize("asked", ["<13", ">=12.2,<12.1"])
def test_cuda_without_a_lowest(asked: str) -> None:
    with pytest.raises(AfenvError, match="E014"):
        cuda_of({"cuda": asked})


def test_the_gpu_section_chooses_the_variant(mixed: Any) -> None:
    mixed.channel.add("gpulib", "1.0", ["__cuda >=12"], build="cuda_0", number=1)
    mixed.channel.add("gpulib", "1.0", build="cpu_0")
    section = CondaSection(channels=("./channel",), dependencies=("gpulib",))
    assert [package.build for package in _lock(mixed, section, None).packages] == ["cpu_0"]
    found = _lock(mixed, section, None, gpu=GpuSection(cuda=">=12.2"))
    assert [package.build for package in found.packages] == ["cuda_0"]
    assert found.virtual_packages["__cuda"] == "12.2"
