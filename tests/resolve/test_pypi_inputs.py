"""Requirements out of files: what is read, and where errors are."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError
from afenv.resolve.pypi import edges
from afenv.resolve.pypi_explain import explain, plain_words, warnings_of
from afenv.resolve.pypi_inputs import referred_files, requirements_files
from afenv.resolve.pypi_pyproject import pyproject_requirements
from afenv.resolve.pypi_target import target_of


def fails(code: str, text: str, tmp_path: Path, name: str = "requirements.txt") -> str:
    """Write a file, read it as a section would, and return the error's text."""
    (tmp_path / name).write_text(text)
    with pytest.raises(AfenvError) as caught:
        if name.endswith(".toml"):
            pyproject_requirements(tmp_path / name, ("x",), ("g",), "3.11.2")
        else:
            requirements_files(tmp_path / name)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


def test_included_files_are_found_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "-r sub/a.txt\n-csub/b.txt\n--requirement sub/c.txt # why\n--constraint=sub/d.txt\n"
        "# -r sub/no.txt\nnumpy[x]>=1 ; python_version > '3' # -r no\n--index-url https://example.org/simple\n"
        "scipy==1.0 --hash=sha256:00 \\\n   --hash=sha256:11\n"
    )
    (tmp_path / "sub" / "a.txt").write_text("-r ../requirements.txt\n-r b.txt\n")
    for name in "bcd":
        (tmp_path / "sub" / f"{name}.txt").write_text("")
    found = referred_files(PypiSection(file="requirements.txt"), tmp_path)
    assert [path.name for path in found[:2]] == ["requirements.txt", "a.txt"]
    assert sorted({path.name for path in found}) == ["a.txt", "b.txt", "c.txt", "d.txt", "requirements.txt"]
    assert len({path.resolve() for path in found}) == len(found)
    assert referred_files(PypiSection(lock="pylock.toml"), tmp_path) == (tmp_path / "pylock.toml",)
    assert referred_files(PypiSection(file="pyproject.toml"), tmp_path) == (tmp_path / "pyproject.toml",)
    assert referred_files(PypiSection(), tmp_path) == ()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("E013", "numpy>>1"),
        ("E013", "numpy scipy"),
        ("E016", "-e ."),
        ("E016", "--editable=git+https://example.org/x.git#egg=x"),
        ("E016", "."),
        ("E016", ".[plot]"),
        ("E016", "./wheels/x-1.0-py3-none-any.whl"),
        ("E016", "../other"),
        ("E016", "/opt/other"),
        ("E016", "wheels/x-1.0-py3-none-any.whl"),
        ("E016", "x @ file:///opt/x"),
        ("E016", "-r https://example.org/requirements.txt"),
        ("E001", "-r missing.txt"),
        ("E107", "x @ git+https://example.org/x.git"),
        ("E107", "x @ https://example.org/x-1.0.tar.gz"),
        ("E107", "git+https://example.org/x.git"),
        ("E107", "https://example.org/x-1.0.zip"),
        ("E013", "x @ https://[::1/x-1.0-py3-none-any.whl"),
    ],
)
def test_lines_that_cannot_be_used(code: str, line: str, tmp_path: Path) -> None:
    text = fails(code, f"# first\n{line}\n", tmp_path)
    assert "missing.txt" in text if code == "E001" else "requirements.txt:2" in text


def test_lines_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "x @ https://example.org/x-1.0-py3-none-any.whl#sha256=00\n"
        "https://example.org/y-1.0-py3-none-any.whl\n-i https://example.org/simple\n--pre\nz~=1.0\n"
    )
    assert len(requirements_files(tmp_path / "requirements.txt")) == 1


def test_text_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(AfenvError) as caught:
        requirements_files(tmp_path / "requirements.txt")
    assert caught.value.code == "E002"


EXTRA = "[project]\n[project.optional-dependencies]\nx = []\n"
GROUP = "[dependency-groups]\ng = []\n"
SOURCES = "[tool.uv.sources]\na-b = {git = 'https://example.org'}\n"


@pytest.mark.parametrize(
    ("code", "text", "part"),
    [
        ("E002", "[project", "not TOML"),
        ("E016", '[project]\nname = "a"\ndynamic = ["dependencies"]', "dynamic"),
        ("E014", '[project]\nname = "a"', "no extra 'x'; there are: none"),
        ("E014", GROUP, "no extra 'x'"),
        ("E014", EXTRA, "no dependency group 'g'"),
        ("E014", EXTRA + GROUP.replace("[]", '[{include-group = "G"}]'), "includes itself"),
        ("E013", EXTRA + GROUP.replace("[]", "[1]"), "entry 1"),
        ("E013", EXTRA.replace("x = []", "x = ['a b']") + GROUP, "a b"),
        ("E107", EXTRA.replace("x = []", "x = ['a @ git+https://example.org/a']") + GROUP, "source"),
        ("E102", '[project]\nrequires-python = ">=3.12"', "3.11.2"),
        ("E013", '[project]\nrequires-python = "3"', "requires-python"),
        ("E016", EXTRA.replace("x = []", "x = ['A.b']") + GROUP + SOURCES, "tool.uv.sources"),
        ("E011", "[project]\ndependencies = 'numpy'", "project.dependencies"),
        ("E011", "project = 1", "project"),
        ("E011", EXTRA.replace("[]", "[1]"), "optional-dependencies"),
        ("E011", EXTRA + GROUP.replace("[]", "'numpy'"), "groups"),
    ],
)
def test_projects_that_cannot_be_used(code: str, text: str, part: str, tmp_path: Path) -> None:
    assert part in fails(code, text, tmp_path, "pyproject.toml")


def test_a_file_without_a_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(AfenvError) as caught:
        pyproject_requirements(tmp_path / "pyproject.toml", (), (), "3.11.2")
    assert caught.value.code == "E012"
    (tmp_path / "pyproject.toml").write_text("[dependency-groups]\nrun = ['numpy']\n")
    assert pyproject_requirements(tmp_path / "pyproject.toml", (), ("Run",), "3.11.2") == ("numpy",)


def test_a_project_may_name_its_own_extras(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    text = (
        "[project]\nname = 'A.b'\ndependencies = ['a_b[io]', 'numpy']\n"
        "[project.optional-dependencies]\nio = ['uproot']\nplot = ['hist']\nloop = ['a-b[loop]', 'scipy']\n"
        "[dependency-groups]\nrun = ['A-B[plot]', 'vector']\n"
    )
    path.write_text(text)
    assert set(pyproject_requirements(path, (), (), "3.11.2")) == {"numpy", "uproot"}
    assert set(pyproject_requirements(path, ("Loop",), (), "3.11.2")) == {"numpy", "uproot", "scipy"}
    assert set(pyproject_requirements(path, (), ("run",), "3.11.2")) == {"numpy", "uproot", "hist", "vector"}
    path.write_text(text.replace("a_b[io]", 'a_b[io]; python_version > "3"'))
    with pytest.raises(AfenvError) as caught:
        pyproject_requirements(path, (), (), "3.11.2")
    assert caught.value.code == "E016"


def test_edges_of_both_styles() -> None:
    text = (
        "# a header\nalpha[x]==1.0 \\\n    --hash=sha256:00\n    # via -r manifest.in\n"
        "beta==1.0\n    # via\n    #   -c limits.txt\n    #   -r more.txt\n    #   Alpha\n"
        "gamma @ https://example.org/gamma.whl\n    # via beta\n"
    )
    dependencies, requested = edges(text)
    assert dependencies == {"alpha": ("beta",), "beta": ("gamma",), "gamma": ()}
    assert requested == {"alpha", "beta"}


def test_reports_become_one_paragraph() -> None:
    report = (
        "Resolved 3 packages in 2ms\nwarning: beware of https://me:secret@example.org\n"
        "error: No solution found when resolving dependencies\n  cause: Because a and b,\n"
        "         we can conclude c.\n\nhint: first\n  more of it\n\nhint: second\n"
    )
    assert plain_words(report) == ("Because a and b, we can conclude c.", ("first more of it", "second"))
    assert warnings_of(report) == ("beware of https://example.org",)


@pytest.mark.parametrize(
    ("code", "report"),
    [
        ("E201", "error: Failed to fetch: https://example.org/\n  cause: dns error"),
        (
            "E202",
            "error: Failed to fetch\n  cause: HTTP status server error (503 X) for url",
        ),
        ("E120", "error: something new"),
        ("E402", "error: Failed to write\n  cause: No space left on device (os error 28)"),
        ("E403", "error: Failed to initialize cache at `/x`\n  cause: Permission denied (os error 13)"),
        ("E120", ""),
        ("E102", "error: x\n  cause: Because a depends on b<1 and b>2, your requirements are unsatisfiable."),
    ],
)
def test_codes_of_reports(code: str, report: str) -> None:
    error = explain(report, "2025-01-01T00:00:00Z", offline=False)
    assert error.code == code
    assert error.problems[0].message.strip()


def test_platforms_between_those_that_uv_knows() -> None:
    known = {(2, 36): "36", (2, 41): "40", (2, 30): "28", (2, 17): "17"}
    for glibc, name in known.items():
        target = target_of("3.11.2", glibc, "linux/arm64")
        assert target.uv_platform == f"aarch64-manylinux_2_{name}"
    with pytest.raises(AfenvError):
        _ = target_of("3.11.2", (2, 12), "linux/amd64").uv_platform


def test_tags_are_those_of_the_same_host() -> None:
    """Where the host is such a target, packaging finds the same tags in the same order."""
    import sys

    from packaging import tags

    host = list(tags.sys_tags())
    best = next(tag for tag in host if "manylinux_2_" in tag.platform)
    glibc = int(best.platform.split("_")[2])
    version = ".".join(map(str, sys.version_info[:3]))
    target = target_of(version, (2, glibc), "linux/amd64" if "x86_64" in best.platform else "linux/arm64")
    assert set(target.tags()) == set(host)
    plain = [tag for tag in host if not tag.platform.startswith("linux_")]
    assert [tag for tag in target.tags() if not tag.platform.startswith("linux_")] == plain
