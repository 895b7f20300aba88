"""`afenv init`: for each kind of repository a manifest that is valid and says what it left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.documents.load import load_manifest, parse_manifest
from afenv.documents.manifest import AnalysisManifest, CondaSection, Environment
from afenv.documents.steps import Parameter, Resources, Step
from afenv.errors import AfenvError
from afenv.workflow.init import _scalar, draft_manifest, init


class Repository:
    """A folder that is filled file by file, and what `init` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def draft(self) -> str:
        return draft_manifest(self.folder)

    def manifest(self) -> AnalysisManifest:
        return parse_manifest(self.draft().encode(), "afenv.yaml")

    def environment(self) -> Environment:
        (environment,) = self.manifest().environments.values()
        return environment

    def remarks(self) -> dict[str, list[str]]:
        """The comments at the head, by their title."""
        result: dict[str, list[str]] = {}
        title = ""
        for line in self.draft().split("\nafenv:")[0].splitlines():
            if line.startswith("#   "):
                result[title].append(line[4:])
            elif line.endswith(":"):
                title = line.strip("# :")
                result[title] = []
        return result

    def taken(self) -> str:
        return "\n".join(self.remarks().get("Taken over", []))

    def not_taken(self) -> str:
        return "\n".join(self.remarks().get("Not taken over", []))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "Z -> μμ Analysis_2"
    folder.mkdir()
    return Repository(folder)


def test_nothing_found(repository: Repository) -> None:
    manifest = repository.manifest()
    assert manifest.name == "z-analysis_2"
    environment = manifest.environments["default"]
    assert environment.debian is not None
    assert (environment.debian.suite, environment.debian.packages) == (
        "bookworm",
        ("ca-certificates", "python3"),
    )
    assert environment.pypi is None
    assert [source.folder for source in manifest.code] == ["."]
    assert "Nothing that describes an environment" in repository.draft()


def test_requirements(repository: Repository) -> None:
    repository.write("requirements.txt", "uproot>=5  # reads ROOT\nhist; python_version > '3.8'\n-c c.txt\n")
    environment = repository.environment()
    assert environment.pypi is not None
    assert environment.pypi.file == "requirements.txt"
    assert "requirements.txt: the PyPI packages" in repository.taken()
    assert repository.not_taken() == ""


def test_requirements_with_local_projects(repository: Repository) -> None:
    lines = [
        "-e .",
        "uproot>=5 --hash=sha256:00",
        "./lib",
        "x @ https://example.org/x.whl",
        "hist \\",
        "  >=2",
    ]
    text = "\n".join([*lines, "--index-url https://example.org"])
    repository.write("requirements.txt", text)
    environment = repository.environment()
    assert environment.pypi is not None
    assert environment.pypi.file is None
    assert environment.pypi.dependencies == ("uproot>=5", "hist >=2")
    for line in ("-e .", "./lib", "x @ https", "--index-url"):
        assert line in repository.not_taken()


def test_empty_requirements(repository: Repository) -> None:
    repository.write("requirements.txt", "# none yet\n")
    assert repository.environment().pypi is None
    assert "requirements.txt: it is empty" in repository.not_taken()


PYPROJECT = """\
[build-system]
requires = ["hatchling"]
[project]
name = "My_Analysis"
version = "2.1"
description = "Masses: Z → μμ"
license = "MIT"
requires-python = ">=3.12"
authors = [{name = "Author Name", email = "e@example.org"}, {email = "x@example.org"}]
dependencies = ["uproot"]
"""


def test_pyproject(repository: Repository) -> None:
    repository.write("pyproject.toml", PYPROJECT)
    manifest = repository.manifest()
    assert (manifest.name, manifest.version) == ("my_analysis", "2.1")
    assert (manifest.metadata.title, manifest.metadata.license) == ("Masses: Z → μμ", "MIT")
    assert [author.name for author in manifest.metadata.authors] == ["Author Name"]
    environment = manifest.environments["default"]
    assert environment.debian is not None
    assert environment.debian.suite == "trixie"  # its Python is 3.13
    assert environment.pypi is not None
    assert environment.pypi.file == "pyproject.toml"
    assert environment.variables == {"PYTHONPATH": "/analysis"}
    repository.write("src/my_analysis/__init__.py")
    assert repository.environment().variables == {"PYTHONPATH": "/analysis/src"}


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (PYPROJECT.replace("dependencies =", "dynamic = ['dependencies']\nx ="), "which are dynamic"),
        ("[tool.poetry.dependencies]\nuproot = '*'\n", "write them to [project]"),
        ("[project\n", "it is not TOML"),
        (PYPROJECT.replace(">=3.12", "==3.12.*"), "no Debian release has Python ==3.12.*"),
        (PYPROJECT.replace(">=3.12", "three"), "cannot be understood"),
    ],
)
def test_pyproject_that_says_less(repository: Repository, text: str, remark: str) -> None:
    repository.write("pyproject.toml", text)
    repository.manifest()
    assert remark in repository.not_taken()


def test_pylock_is_preferred(repository: Repository) -> None:
    repository.write("pylock.fit.toml")
    repository.write("requirements.txt", "uproot")
    repository.write("pyproject.toml", PYPROJECT)
    environment = repository.environment()
    assert environment.pypi is not None
    assert (environment.pypi.lock, environment.pypi.file) == ("pylock.fit.toml", None)
    assert "requirements.txt: its packages: pylock.fit.toml has them" in repository.not_taken()


def test_environment_file(repository: Repository) -> None:
    repository.write("environment.yml", "channels: [conda-forge]\ndependencies: [python=3.12, pip: [hist]]\n")
    repository.write("requirements.txt", "uproot")
    environment = repository.environment()
    assert environment.conda == CondaSection(file="environment.yml")
    assert environment.pypi is None
    assert environment.debian is not None
    assert environment.debian.packages == ("ca-certificates",)
    assert "requirements.txt: environment.yml describes" in repository.not_taken()


def test_environment_file_without_channels(repository: Repository) -> None:
    repository.write("environment.yaml", "dependencies: [numpy]\n")
    conda = CondaSection(file="environment.yaml", channels=("conda-forge",))
    assert repository.environment().conda == conda
    repository.write("environment.yaml", "dependencies: [numpy\n")
    assert "environment.yaml: it cannot be read" in repository.not_taken()


@pytest.mark.parametrize("name", ["conda-lock.yml", "pixi.lock"])
def test_conda_locks(repository: Repository, name: str) -> None:
    repository.write(name, "version: 1\n")
    repository.write("environment.yml", "dependencies: [numpy]\n")
    repository.write("pixi.toml", "[workspace]\n")
    assert repository.environment().conda == CondaSection(lock=name)
    assert f"environment.yml: {name} answers it already" in repository.not_taken()
    assert f"pixi.toml: {name} answers it already" in repository.not_taken()


def test_pixi(repository: Repository) -> None:
    repository.write(
        "pixi.toml",
        """\
[workspace]
name = "Fit"
channels = ["conda-forge", "https://example.org/channel"]
[dependencies]
python = "3.12.*"
root = {version = ">=6.32", channel = "conda-forge"}
numpy = "*"
[pypi-dependencies]
hist = ">=2"
uproot = {version = "5.5", extras = ["http"]}
mine = {path = "."}
[tasks]
fit = "python fit.py"
""",
    )
    repository.write("requirements.txt", "scipy")
    manifest = repository.manifest()
    assert manifest.name == "fit"
    environment = manifest.environments["default"]
    assert environment.conda == CondaSection(
        channels=("conda-forge", "https://example.org/channel"),
        dependencies=("python 3.12.*", "root >=6.32", "numpy"),
    )
    assert environment.pypi is not None
    assert environment.pypi.dependencies == ("hist>=2", "uproot[http]==5.5")
    assert "mine comes from a path" in repository.not_taken()
    assert "[tasks]" in repository.not_taken()


REANA = """\
inputs:
  files: [a.py]
  parameters: {events: 1000, name: "x \\"y\\"", cut: 1.5, fast: true}
workflow:
  type: serial
  specification:
    steps:
      - name: gen data
        environment: docker.io/reanahub/reana-env-root6:6.18.04
        kubernetes_memory_limit: 8Gi
        commands: [mkdir -p results, "python a.py --n ${events} $name $HOME"]
      - environment: docker.io/reanahub/reana-env-root6:6.18.04
        commands: ["python fit.py --cut ${cut} ${fast} ${unknown}"]
outputs: {files: [results/a.png]}
"""


def _uncommented_steps(text: str) -> str:
    head, tail = text.split(
        "# The steps, to be completed with what each reads and writes (`inputs`, `outputs`):\n"
    )
    return head + re.sub(r"^# ", "", tail, flags=re.MULTILINE)


def test_reana(repository: Repository) -> None:
    repository.write("reana.yaml", REANA)
    repository.write("requirements.txt", "uproot")
    assert repository.manifest().steps == ()  # they are comments
    manifest = parse_manifest(_uncommented_steps(repository.draft()).encode(), "afenv.yaml")
    first, second = manifest.steps
    assert first == Step(
        name="gen-data",
        run="mkdir -p results && python a.py --n {parameters.events} {parameters.name} $HOME",
        parameters={
            "events": Parameter(type="integer", default=1000),
            "name": Parameter(type="string", default='x "y"'),
        },
        resources=Resources(memory=8 << 30),
    )
    assert second.name == "step-2"
    assert second.needs == ("gen-data",)
    assert second.run == "python fit.py --cut {parameters.cut} {parameters.fast} ${unknown}"
    assert repository.not_taken().count("reana-env-root6") == 1
    assert "results/a.png" in repository.not_taken()


def test_reana_with_another_engine(repository: Repository) -> None:
    repository.write("reana.yaml", "workflow: {type: cwl, file: a.cwl}\n")
    assert "its workflow of the type cwl, in a.cwl" in repository.not_taken()


def test_docker_and_snakemake(repository: Repository) -> None:
    for name in ("Dockerfile", "Snakefile", "setup.py"):
        repository.write(name)
    repository.write("requirements.txt", "uproot")
    for remark in ("builder: {name: docker}", "Snakefile: its rules", "setup.py: its dependencies"):
        assert remark in repository.not_taken()


def test_files_that_are_no_text(repository: Repository) -> None:
    for name in (
        "requirements.txt",
        "pyproject.toml",
        "environment.yml",
        "reana.yaml",
        "apt.txt",
        "runtime.txt",
    ):
        (repository.folder / name).write_bytes(b"\xff\xfe\x00")
    repository.manifest()
    assert repository.not_taken().count("cannot be read as text") >= 5


@pytest.mark.parametrize(
    "value", ["a: b", "yes", "null", "1.0", "- a", "#x", "a #b", "é", "x\ny", "", "'", "{a}", " a"]
)
def test_scalars_are_read_as_they_were_meant(value: str) -> None:
    environment = f"{{base: {{debian: trixie}}, variables: {{A: {_scalar(value)}}}}}"
    text = f"afenv: 1\nname: a\nenvironments: {{a: {environment}}}\n"
    found = parse_manifest(text.encode(), "a").environments["a"].variables["A"]
    assert found == value.replace("\n", " ")


words = st.text(st.characters(codec="utf-8", exclude_characters='"\\'), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=words, text=words, line=words)
def test_any_words_give_a_valid_draft(tmp_path: Path, name: str, text: str, line: str) -> None:
    def toml(value: str) -> str:
        import json

        return json.dumps(value).replace("\x7f", "\\u007f")

    project = f"[project]\nname = {toml(name)}\ndescription = {toml(text)}\nlicense = {toml(text)}\n"
    project += (
        f"version = {toml(line)}\nauthors = [{{name = {toml(line)}}}]\nrequires-python = {toml(line)}\n"
    )
    steps = f"{{commands: ['{line}']}}"
    files = {
        "pyproject.toml": project.encode("utf-8", "replace"),
        "requirements.txt": f"a\n{line}\n{text}\n".encode(),
        "apt.txt": line.encode(),
        "reana.yaml": f"workflow: {{type: serial, specification: {{steps: [{steps}]}}}}".encode(),
    }
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    parse_manifest(draft_manifest(tmp_path).encode(), "afenv.yaml")


def test_init_never_overwrites(repository: Repository) -> None:
    path = init(repository.folder)
    assert load_manifest(path).name == "z-analysis_2"
    path.write_text("mine")
    with pytest.raises(AfenvError) as caught:
        init(repository.folder)
    assert caught.value.code == "E032"
    assert path.read_text() == "mine"
    assert load_manifest(init(repository.folder, force=True)).name == "z-analysis_2"
    assert [entry.name for entry in repository.folder.iterdir()] == ["afenv.yaml"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AfenvError, match="E001"):
        init(tmp_path / "no")


def test_a_folder_that_cannot_be_written(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(AfenvError, match="E403"):
        init(repository.folder)
