"""Archives with the real thing: Debian, PyPI, conda, a base image; no network; validators of others."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.services.conftest import tool

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
HERE = Path(__file__).parent

DEBIAN = "base: {debian: bookworm, packages: [python3]}\n    bytecode: false\n    pypi: {dependencies: [six]}"
CONDA = (
    "base: {conda: {glibc: '2.36'}}\n"
    "    conda: {channels: [conda-forge], dependencies: [python]}\n    bytecode: false"
)
BASE = 'base: {oci: "%s"}\n    bytecode: false\n    pypi: {dependencies: [toolz]}'


@dataclass(frozen=True, kw_only=True)
class Site:
    """A project with three environments and its bag."""

    folder: Path
    bag: Path
    variables: Mapping[str, str]
    built: Mapping[str, Any]

    def afenv(self, *words: str | Path, status: int = 0, elsewhere: bool = False, **more: str) -> str:
        """Run afenv; its standard output. ``elsewhere`` has another cache and no mirrors."""
        return run(
            [AFENV, "-q", *words],
            self.variables if not elsewhere else {"AFENV_CACHE_DIR": str(self.folder / "elsewhere")},
            status,
            **more,
        )


def run(command: list[str | Path], variables: Mapping[str, str], status: int = 0, **more: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **variables, **more},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(core_channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three environments, the third on the image of the first, archived from a machine with a network."""
    folder = tmp_path_factory.mktemp("site")
    command = tool("docker-registry", "/usr/bin/docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    handler = partial(_Quiet, directory=str(core_channel))
    with (folder / "log").open("wb") as log, ThreadingHTTPServer(("127.0.0.1", 0), handler) as channel:
        threading.Thread(target=channel.serve_forever, args=(0.05,), daemon=True).start()
        process = subprocess.Popen([command, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            variables = {
                "AFENV_CACHE_DIR": str(folder / "store"),
                "AFENV_MIRRORS": f"https://conda.anaconda.org/conda-forge=http://127.0.0.1:{channel.server_port}",
            }
            yield _archived(folder, f"127.0.0.1:{port}/base:1", variables)
        finally:
            process.terminate()
            process.wait()
            channel.shutdown()


def _archived(folder: Path, reference: str, variables: Mapping[str, str]) -> Site:
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/fit.py").write_text("import sys; print('fitted with', sys.version_info[:2])\n")

    def manifest(environments: Mapping[str, str]) -> None:
        lines = "".join(f"  {name}:\n    {text}\n" for name, text in environments.items())
        (project / "afenv.yaml").write_text(
            f"afenv: 1\nname: kept\nversion: '1'\ncode: [{{path: src}}]\nenvironments:\n{lines}"
        )

    manifest({"default": DEBIAN})
    command: list[str | Path] = [AFENV, "-q", "-C", project]
    run([*command, "build", "--push", reference], variables)
    manifest({"default": DEBIAN, "conda": CONDA, "based": BASE % reference})
    run([*command, "lock"], variables)
    run([*command, "key", "generate", "signing", "--no-password"], variables)
    words = ["archive", "-o", "../bag", "--sign", "signing", "--key", "signing.pub", "--json"]
    done = json.loads(run([*command, *words], variables))
    return Site(folder=folder, bag=folder / "bag", variables=variables, built=done["environments"])


def test_the_bag_builds_the_same_images_where_there_is_no_network(site: Site) -> None:
    """With the afenv that the bag brings, in a network namespace without interfaces."""
    unshare = tool("unshare")
    cut: list[str | Path] = [unshare, "-r", "-n"]
    place = site.folder / "venv"
    run([sys.executable, "-m", "venv", place], {})
    install = [
        "install",
        "-q",
        "--no-compile",
        "--no-index",
        "--find-links",
        site.bag / "data/software",
        "afenv",
    ]
    run([*cut, place / "bin/pip", *install], {})
    python = place / "bin/python"
    found = run([*cut, python, "-I", "-c", "import afenv; print(afenv.__file__)"], {}).strip()
    assert Path(found).is_relative_to(place)
    addresses = run([*cut, "cat", "/proc/net/dev"], {})
    assert [line.split(":")[0].strip() for line in addresses.splitlines()[2:]] == ["lo"]
    words = ["-q", "verify", site.bag, "--rebuild", "--json"]
    report = json.loads(
        run([*cut, place / "bin/afenv", *words], {"AFENV_CACHE_DIR": str(site.folder / "none")})
    )
    rebuilt = [one for one in report["checks"] if one["name"] == "rebuild"]
    assert [one["verdict"] for one in rebuilt] == ["ok"] * 3, rebuilt
    for image_id in site.built.values():
        assert any(image_id in one["text"] for one in rebuilt)
    (debian,) = {one["verdict"] for one in report["checks"] if one["name"] == "debian"}
    assert debian == "ok"
    assert {one["verdict"] for one in report["checks"] if one["name"] == "signature"} == {"ok"}


def test_the_debian_packages_are_a_mirror_that_apt_reads(site: Site, tmp_path: Path) -> None:
    apt = tool("apt-get")
    root = site.bag / "data/inputs/debian"
    keyring = tmp_path / "keys.asc"
    keyring.write_bytes(b"\n".join(path.read_bytes() for path in sorted((root / "keys").glob("*.asc"))))
    (tmp_path / "sources.list").write_text(
        f"deb [signed-by={keyring} check-date=no check-valid-until=no] file:{root}/debian bookworm main\n"
    )
    for name in ("lists/partial", "cache/archives/partial"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").touch()
    settings = {
        "Dir::Etc::SourceList": tmp_path / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": tmp_path,
        "Dir::State::Status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
        "Acquire::Languages": "none",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    run([apt, "-q", *options, "update", "-oAPT::Update::Error-Mode=any"], {})
    shown = run([apt, "-q", "-s", *options, "install", "--no-install-recommends", "libc6"], {})
    assert "Inst libc6" in shown


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a few Debian packages, for validators that need seconds for each hundred files."""
    project = tmp_path_factory.mktemp("small") / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/fit.py").write_text("print('fitted')\n")
    (project / "afenv.yaml").write_text(
        "afenv: 1\nname: kept\nversion: '1'\n"
        "metadata: {title: A fit, license: MIT, authors: [{name: Emmy, orcid: 0000-0002-1825-0097}]}\n"
        "code: [{path: src}]\nenvironments:\n"
        "  default:\n    base: {debian: bookworm, packages: [libc6]}\n    bytecode: false\n"
    )
    return project


def small_afenv(project: Path, *words: str | Path) -> str:
    """Run afenv in the small project."""
    return run([AFENV, "-q", "-C", project, *words], {"AFENV_CACHE_DIR": str(project.parent / "cache")})


def test_validators_that_are_not_ours_pass(small: Path) -> None:
    small_afenv(small, "lock")
    bag = small.parent / "bag"
    small_afenv(small, "archive", "--no-sif", "--without-afenv", "-o", bag)
    run([sys.executable, "-m", "bagit", "--validate", "--quiet", bag], {})
    profiles = ["ro-crate-1.2", "process-run-crate-0.5"]
    shown = run([sys.executable, HERE / "rocrate_offline.py", bag / "data", *profiles], {})
    assert json.loads(shown.partition("RESULT ")[2]) == {profile: [] for profile in profiles}
    # that it can find something; with few entities, as it is slow
    crate = json.loads((bag / "data/ro-crate-metadata.json").read_bytes())
    (root,) = (one for one in crate["@graph"] if one["@id"] == "./")
    for key in ("datePublished", "hasPart", "mentions"):
        del root[key]
    few = [one for one in crate["@graph"] if one["@type"] in ("CreativeWork", "Person")]
    (small.parent / "few").mkdir()
    (small.parent / "few/ro-crate-metadata.json").write_text(json.dumps(crate | {"@graph": [root, *few]}))
    shown = run([sys.executable, HERE / "rocrate_offline.py", small.parent / "few", profiles[0]], {})
    assert "datePublished" in str(json.loads(shown.partition("RESULT ")[2])[profiles[0]])


def test_ocfl_validate_passes(small: Path) -> None:
    root = small.parent / "ocfl"
    words = ["archive", "--no-sif", "--without-afenv", "--ocfl", root]
    for version in ("1", "2"):
        manifest = small / "afenv.yaml"
        manifest.write_text(manifest.read_text().replace("version: '1'", f"version: '{version}'"))
        (small / "src/fit.py").write_text(f"print({version})\n")
        small_afenv(small, "lock")
        small_afenv(small, *words)
    scripts = Path(sys.executable).parent
    shown = run([sys.executable, scripts / "ocfl-root.py", "validate", "--root", root], {})
    assert "is VALID" in shown
    objects = [mark.parent for mark in root.rglob("0=ocfl_object_1.1")]
    assert len(objects) == 1
    assert "is VALID" in run([sys.executable, scripts / "ocfl-validate.py", *objects], {})
    held = list(root.rglob("libc6_*.deb"))
    assert len(held) == 1
    for name in ("kept-1", "kept-2"):
        small_afenv(small, "verify", f"{root}#{name}")
    held[0].write_bytes(held[0].read_bytes()[:-1] + b"!")
    run([sys.executable, scripts / "ocfl-validate.py", *objects], {}, 1)


def test_the_sif_of_the_bag_runs(site: Site, apptainer: str) -> None:
    out = site.folder / "restored.sif"
    site.afenv("restore", site.bag, "--to", "apptainer", "-e", "default", "-o", out, elsewhere=True)
    shown = run([apptainer, "exec", out, "python3", "/analysis/fit.py"], {})
    assert shown.startswith("fitted with (3, 11)")
    shown = site.afenv("run", "--image", out, "--", "python3", "-c", "import six; print(6)", elsewhere=True)
    assert shown.strip() == "6"


def test_an_image_is_restored_into_docker_and_runs(site: Site, docker: str) -> None:
    done = json.loads(
        site.afenv(
            "restore",
            site.bag,
            "--to",
            "docker",
            "-e",
            "based",
            "--json",
            elsewhere=True,
            AFENV_DOCKER=docker,
        )
    )
    image_id = site.built["based"]
    assert done["image_id"] == image_id
    try:
        command = [*docker.split(), "run", "--rm", image_id, "python3", "-c", "import six, toolz; print(7)"]
        assert run(command, {}).strip() == "7"
    finally:
        subprocess.run([*docker.split(), "rmi", "-f", image_id], capture_output=True, check=False)


def test_at_a_facility_without_containers_the_folder_runs(site: Site) -> None:
    out = site.folder / "tree"
    site.afenv("restore", site.bag, "--to", "folder", "-e", "conda", "-o", out, elsewhere=True)
    words = ["run", "--image", out, "--runtime", "userns", "--", "python", "-c", "print(8)"]
    assert site.afenv(*words, elsewhere=True).strip() == "8"


def test_a_restored_project_runs_the_images_of_the_bag_without_a_network(site: Site) -> None:
    """With a cache that is empty, so that nothing could be built, and without a network interface."""
    cut = [tool("unshare"), "-n" if os.getuid() == 0 else "-rn"]
    words = ["restore", site.bag, "--to", "project", "-o", site.folder / "again", "--json"]
    done = json.loads(run([*cut, AFENV, *words], {"AFENV_CACHE_DIR": str(site.folder / "with-inputs")}))
    assert done["images"] == site.built
    shutil.rmtree(site.folder / "with-inputs")
    for name, module in (("default", "six"), ("conda", "sys"), ("based", "toolz")):
        words = ["-q", "-C", site.folder / "again", "run", "-e", name, "--runtime", "userns"]
        words += ["--", "python3", "-c", f"import {module}; print({module}.__name__)"]
        cache = {"AFENV_CACHE_DIR": str(site.folder / f"none-{name}")}
        assert run([*cut, AFENV, *words], cache).strip() == module
        assert not (site.folder / f"none-{name}/keys/image").exists()
    shutil.rmtree(site.folder / "again")


def test_an_image_is_restored_into_a_registry_with_its_signature(site: Site) -> None:
    with (site.folder / "registry.yml").open() as file:
        port = file.read().rpartition("127.0.0.1:")[2].split("'")[0]
    reference = f"127.0.0.1:{port}/again:1"
    site.afenv("restore", site.bag, "--to", "registry", "-e", "default", "-o", reference, elsewhere=True)
    key = site.folder / "project/signing.pub"
    report = json.loads(site.afenv("verify", reference, "--key", key, "--json", elsewhere=True))
    assert report["image_id"] == site.built["default"]
    assert report["signed_by"] and report["verified"]


def test_an_image_is_restored_into_the_layout_of_cvmfs(site: Site) -> None:
    out = site.folder / "unpacked"
    site.afenv("restore", site.bag, "--to", "cvmfs", "-e", "default", "-o", out, elsewhere=True)
    assert list(out.rglob("fit.py"))
    shutil.rmtree(out)
