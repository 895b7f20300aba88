"""Resolving with the real uv against an index in a thread, with wheels made here."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedPython, LockedWheel
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError
from afenv.resolve import pypi, pypi_uv
from afenv.resolve.pypi import resolve_pypi
from afenv.settings import Settings
from afenv.store.content import ContentStore

PYTHON = LockedPython(version="3.11.2", executable="/usr/bin/python3.11", site_packages="/s", scripts="/b")
AS_OF = datetime(2025, 1, 1, tzinfo=UTC)
OLD = "2024-01-01T00:00:00Z"
LINUX = "cp311-cp311-manylinux_2_{}_x86_64"


def make_wheel(
    name: str, version: str, tag: str, requires: Sequence[str], extras: Sequence[str], python: str | None
) -> tuple[str, bytes]:
    """A wheel with one module: file name and content."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Requires-Python: {python}"] if python else []
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{module}.py"), f"version = {version!r}\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/METADATA"), "\n".join(metadata) + "\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return f"{module}-{version}-{tag}.whl", content.getvalue()


@dataclass
class Index:
    """A package index (PEP 691) that the test fills; ``asked`` counts requests."""

    url: str = ""
    projects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    upload_times: bool = True
    sizes: bool = True
    status: int = 200
    asked: int = 0

    def add(
        self,
        name: str,
        version: str,
        requires: Sequence[str] = (),
        *,
        tag: str = "py3-none-any",
        extras: Sequence[str] = (),
        python: str | None = None,
        time: str = OLD,
        yanked: bool | str = False,
    ) -> None:
        """Publish a wheel."""
        file, content = make_wheel(name, version, tag, requires, extras, python)
        self.put(name, file, content, time, yanked)

    def put(self, name: str, file: str, content: bytes, time: str = OLD, yanked: bool | str = False) -> None:
        """Publish a file."""
        self.files[file] = content
        self.projects.setdefault(name, []).append({"filename": file, "upload-time": time, "yanked": yanked})

    def digest(self, file: str) -> str:
        """SHA-256 of a published file in hexadecimal."""
        return hashlib.sha256(self.files[file]).hexdigest()

    def file_url(self, file: str) -> str:
        """Where a published file may be had."""
        return self.url.replace("/simple", f"/files/{file}")

    def page(self, name: str) -> bytes:
        """The page of a project."""
        files = []
        for entry in self.projects[name]:
            shown = {
                **entry,
                "url": f"../../files/{entry['filename']}",
                "hashes": {"sha256": self.digest(entry["filename"])},
                "size": len(self.files[entry["filename"]]),
            }
            for key, wanted in (("upload-time", self.upload_times), ("size", self.sizes)):
                if not wanted:
                    del shown[key]
            files.append(shown)
        meta = {"api-version": "1.1"}
        return json.dumps({"meta": meta, "name": name, "versions": [], "files": files}).encode()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked += 1
            parts = self.path.strip("/").split("/")
            kind, body = "application/octet-stream", b""
            status = made.status
            if parts[0] == "simple" and len(parts) == 2 and parts[1] in made.projects:
                kind, body = "application/vnd.pypi.simple.v1+json", made.page(parts[1])
            elif parts[0] == "files" and parts[-1] in made.files:
                body = made.files[parts[-1]]
            else:
                status = 404
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "max-age=600")  # as the public index does
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/simple"
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", made.url)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def resolve(tmp_path: Path) -> Callable[..., tuple[LockedWheel, ...]]:
    """Resolve requirements, or a section, with a cache of the test's own."""
    settings = Settings(cache_folder=tmp_path / "cache")

    def call(
        *requirements: str,
        section: PypiSection | None = None,
        as_of: datetime = AS_OF,
        platform: str = "linux/amd64",
        offline: bool = False,
        mirrors: tuple[tuple[str, str], ...] = (),
        **more: Any,
    ) -> tuple[LockedWheel, ...]:
        used = replace(settings, offline=offline, mirrors=mirrors)
        more.setdefault("warn", lambda message: pytest.fail(f"unexpected warning: {message}"))
        return resolve_pypi(
            section or PypiSection(dependencies=requirements), tmp_path, PYTHON, (2, 36), platform, as_of,
            settings=used, store=ContentStore(settings.cache_folder), **more,
        )  # fmt: skip

    return call


Resolve = Callable[..., tuple[LockedWheel, ...]]


def fails(code: str, resolve: Resolve, *requirements: str, **more: Any) -> str:
    with pytest.raises(AfenvError) as caught:
        resolve(*requirements, **more)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


def versions(wheels: Sequence[LockedWheel]) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in wheels}


def test_the_record_of_a_wheel(index: Index, resolve: Resolve) -> None:
    index.add("Alpha.Pkg", "1.0", ["beta>=1", "never; sys_platform == 'win32'"])
    index.projects["alpha-pkg"] = index.projects.pop("Alpha.Pkg")
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    index.add("beta", "3.0", time="2025-06-01T00:00:00Z")
    alpha, beta = resolve("Alpha_pkg")
    assert (alpha.name, alpha.version, alpha.requested, alpha.dependencies) == (
        "alpha-pkg",
        "1.0",
        True,
        ("beta",),
    )
    assert (beta.name, beta.version, beta.requested, beta.dependencies) == ("beta", "2.0", False, ())
    assert beta.file.urls == (index.file_url("beta-2.0-py3-none-any.whl"),)
    assert beta.file.sha256 == index.digest("beta-2.0-py3-none-any.whl")
    assert beta.file.size == len(index.files["beta-2.0-py3-none-any.whl"])


def test_nothing_asked_for(resolve: Resolve) -> None:
    assert resolve() == ()


def test_markers_and_tags_are_the_targets(index: Index, resolve: Resolve) -> None:
    for glibc in (17, 28, 36, 39):
        index.add("native", "1.0", tag=LINUX.format(glibc))
    index.add("native", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    index.add("native", "1.0", tag="cp311-cp311-manylinux_2_31_aarch64")
    index.add("native", "1.0", tag="cp311-cp311-musllinux_1_1_x86_64")
    index.add("native", "1.0")
    index.add("marked", "1.0", [
        "native; python_full_version == '3.11.2'", "a; platform_machine == 'aarch64'",
        "b; platform_machine == 'x86_64'", "c; python_version >= '3.12'", "d; platform_release != ''",
    ])  # fmt: skip
    for name in "abcd":
        index.add(name, "1.0")
    found = resolve("marked")
    assert set(versions(found)) == {"marked", "native", "b"}
    assert found[2].file.file_name == f"native-1.0-{LINUX.format(36)}.whl"
    found = resolve("marked", platform="linux/arm64")
    assert set(versions(found)) == {"marked", "native", "a"}
    assert found[2].file.file_name == "native-1.0-cp311-cp311-manylinux_2_31_aarch64.whl"
    assert "linux/riscv64" in fails("E016", resolve, "marked", platform="linux/riscv64")


def test_the_hosts_uv_settings_do_not_count(
    index: Index, resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    expected = resolve("beta")
    (tmp_path / "uv.toml").write_text('resolution = "lowest"\n')
    (tmp_path / "old.txt").write_text("beta<2\n")
    monkeypatch.setenv("UV_RESOLUTION", "lowest")
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "old.txt"))
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2001-01-01")
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    assert resolve("beta") == expected


def test_the_answer_does_not_vary(index: Index, resolve: Resolve, tmp_path: Path) -> None:
    index.add("alpha", "1.0", ["beta", "gamma[more]"])
    index.add("beta", "1.0", ["gamma"])
    index.add("gamma", "1.0", ["delta; extra == 'more'"], extras=["more"])
    index.add("delta", "1.0", ["alpha"])
    first = resolve("beta", "alpha")
    assert {wheel.name: (wheel.dependencies, wheel.requested) for wheel in first} == {
        "alpha": (("beta", "gamma"), True),
        "beta": (("gamma",), True),
        "delta": (("alpha",), False),
        "gamma": (("delta",), False),
    }
    assert resolve("alpha", "beta") == first
    index.add("beta", "2.0", time="2025-01-02T00:00:00Z")
    settings = Settings(cache_folder=tmp_path / "other-cache")
    index.sizes = False
    again = resolve_pypi(
        PypiSection(dependencies=("alpha", "beta")), tmp_path, PYTHON, (2, 36), "linux/amd64", AS_OF,
        settings=settings, store=ContentStore(settings.cache_folder),
    )  # fmt: skip
    assert again == first


def test_an_as_of_time_of_now_asks_the_index_again(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    assert versions(resolve("beta", as_of=datetime.now(UTC))) == {"beta": "1.0"}
    index.add("beta", "2.0")
    assert versions(resolve("beta", as_of=datetime.now(UTC))) == {"beta": "2.0"}


def test_minimal_updates(index: Index, resolve: Resolve) -> None:
    index.add("alpha", "1.0", ["beta"])
    index.add("beta", "1.0")
    index.add("gamma", "1.0")
    old = resolve("alpha", "gamma")
    for name in ("alpha", "beta", "gamma"):
        index.add(name, "2.0", time="2025-06-01T00:00:00Z")
    index.add("delta", "1.0")
    later = datetime.now(UTC)
    found = resolve("alpha", "gamma", "delta", as_of=later, locked=old)
    assert versions(found) == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0", "delta": "1.0"}
    assert resolve("alpha", "gamma", as_of=later, locked=old) == old
    assert versions(resolve("alpha", "gamma", as_of=later)) == {"alpha": "2.0", "gamma": "2.0"}


def test_updates_of_some_packages(index: Index, resolve: Resolve) -> None:
    for version in ("1.0", "2.0"):
        for name in ("beta", "gamma"):
            index.add(name, version)
    old = resolve("beta==1.0", "gamma==1.0")
    assert versions(resolve("beta", "gamma", locked=old)) == {"beta": "1.0", "gamma": "1.0"}
    assert versions(resolve("beta", "gamma", locked=old, update=frozenset({"Beta"}))) == {
        "beta": "2.0",
        "gamma": "1.0",
    }
    assert versions(resolve("beta>1", "gamma", locked=old)) == {"beta": "2.0", "gamma": "1.0"}
    assert versions(resolve("beta", "gamma")) == {"beta": "2.0", "gamma": "2.0"}


def test_sizes_that_the_index_does_not_tell(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    index.sizes = False
    (found,) = resolve("beta")
    assert found.file.size == len(index.files["beta-1.0-py3-none-any.whl"])
    index.files.clear()
    assert resolve("beta", offline=True) == (found,)


def test_mirrors(index: Index, resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is asked where a rule leads, and the lock has the URLs of the world."""
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    index.add("beta", "1.0")
    index.sizes = False
    files = index.url.replace("/simple", "/files/")
    rules = (("https://pypi.org/simple", index.url), ("https://files.example.org/", files))
    (found,) = resolve("beta", mirrors=rules)
    assert found.file.urls == ("https://files.example.org/beta-1.0-py3-none-any.whl",)


def test_credentials_do_not_get_into_the_lock(
    index: Index, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("://", "://user:secret@"))
    index.add("beta", "1.0")
    assert "secret" not in repr(resolve("beta"))
    assert "secret" not in fails("E101", resolve, "gamma")


def test_offline(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    fails("E203", resolve, "beta", offline=True)
    assert index.asked == 0
    online = resolve("beta")
    asked = index.asked
    assert resolve("beta", offline=True) == online
    assert index.asked == asked


# What goes wrong


def test_no_such_package(index: Index, resolve: Resolve) -> None:
    assert "'gamma'" in fails("E101", resolve, "gamma")
    index.add("alpha", "1.0", ["gamma"])
    text = fails("E101", resolve, "alpha")
    assert "'gamma'" in text
    assert "alpha" in text


def test_no_such_version(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    assert "only beta==1.0 is available" in fails("E101", resolve, "beta>=2")
    index.add("new", "1.0", time="2025-06-01T00:00:00Z")
    text = fails("E101", resolve, "new")
    assert "--as-of" in text
    assert "exclude-newer" not in text


def test_a_conflict_is_explained(index: Index, resolve: Resolve) -> None:
    index.add("one", "1.0", ["beta<2"])
    index.add("two", "1.0", ["beta>=2"])
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    text = fails("E102", resolve, "one", "two")
    for part in ("Because", "beta<2", "beta>=2", "you require one and two"):
        assert part in text
    assert "\n  cause" not in text


def test_only_source(index: Index, resolve: Resolve) -> None:
    index.put("beta", "beta-1.0.tar.gz", b"never opened")
    index.add("alpha", "1.0", ["beta"])
    assert "beta has no wheel" in fails("E107", resolve, "beta")
    text = fails("E107", resolve, "alpha")
    assert "beta has no wheel" in text
    assert "--no-build" not in text


def test_no_wheel_for_this_platform(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0", tag="cp311-cp311-musllinux_1_1_x86_64")
    text = fails("E107", resolve, "beta")
    assert "beta has no wheel" in text
    assert "musllinux" in text


def test_another_python(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0", python=">=3.12")
    assert ">=3.12" in fails("E102", resolve, "beta")


def test_yanked(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    index.add("beta", "2.0", yanked="gives wrong numbers")
    assert versions(resolve("beta")) == {"beta": "1.0"}
    assert "gives wrong numbers" in fails("E103", resolve, "beta>=2")
    warnings: list[str] = []
    assert versions(resolve("beta==2.0", warn=warnings.append)) == {"beta": "2.0"}
    assert "gives wrong numbers" in warnings[0]


def test_a_lock_keeps_what_was_yanked_since_and_says_so(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    old = resolve("beta", as_of=datetime.now(UTC))
    index.projects["beta"][1]["yanked"] = True
    warnings: list[str] = []
    new = resolve("beta", as_of=datetime.now(UTC), locked=old, warn=warnings.append)
    assert (versions(new), warnings) == ({"beta": "2.0"}, ["`beta==2.0` is yanked"])
    assert versions(resolve("beta", as_of=datetime.now(UTC))) == {"beta": "1.0"}


def test_servers_that_fail(index: Index, resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("beta", "1.0")
    index.status = 500
    assert "500" in fails("E202", resolve, "beta")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:secret@127.0.0.1:9/simple")
    text = fails("E201", resolve, "beta")
    assert "127.0.0.1:9" in text
    assert "secret" not in text


def test_an_index_without_upload_times(
    index: Index, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("beta", "1.0")
    index.upload_times = False
    assert "AFENV_PYPI_UPLOAD_TIMES" in fails("E101", resolve, "beta")
    monkeypatch.setenv("AFENV_PYPI_UPLOAD_TIMES", "ignore")
    assert versions(resolve("beta")) == {"beta": "1.0"}
    monkeypatch.setenv("AFENV_PYPI_UPLOAD_TIMES", "maybe")
    fails("E030", resolve, "beta")


def test_uv_that_fails_in_another_way(
    index: Index, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pypi, "run_uv", lambda *_: (2, "error: the sky fell\n"))
    assert "the sky fell" in fails("E120", resolve, "beta")
    monkeypatch.undo()

    def nowhere() -> str:
        raise FileNotFoundError("/nowhere/uv")

    monkeypatch.setattr("uv.find_uv_bin", nowhere)
    assert "uv was not found" in fails("E120", resolve, "beta")


# Files as input


def test_a_wheel_by_url(index: Index, resolve: Resolve) -> None:
    index.add("beta", "1.0", ["gamma"])
    index.add("gamma", "1.0")
    url = index.file_url("beta-1.0-py3-none-any.whl")
    beta, gamma = resolve(f"beta @ {url}")
    assert beta.file.urls == (url,)
    assert beta.file.sha256 == index.digest("beta-1.0-py3-none-any.whl")
    assert beta.file.size == len(index.files["beta-1.0-py3-none-any.whl"])
    assert (beta.requested, gamma.requested, beta.dependencies) == (True, False, ("gamma",))


def test_requirements_with_includes(index: Index, resolve: Resolve, tmp_path: Path) -> None:
    for name in ("alpha", "beta", "gamma"):
        index.add(name, "1.0", ["gamma"] if name == "beta" else [])
        index.add(name, "2.0", ["gamma"] if name == "beta" else [])
    (tmp_path / "deep").mkdir()
    (tmp_path / "requirements.txt").write_text("-r deep/more.txt  # more\nalpha ; python_version < '3.12'\n")
    (tmp_path / "deep" / "more.txt").write_text("--constraint=limits.txt\nbeta>=1,<3\n")
    (tmp_path / "deep" / "limits.txt").write_text("gamma<2\nbeta<2\n")
    found = resolve(section=PypiSection(file="requirements.txt"))
    assert versions(found) == {"alpha": "2.0", "beta": "1.0", "gamma": "1.0"}
    assert [wheel.requested for wheel in found] == [True, True, False]
    (tmp_path / "deep" / "limits.txt").write_text("gamma<2\nbeta<\n")
    assert "limits.txt:2" in fails("E013", resolve, section=PypiSection(file="requirements.txt"))
    (tmp_path / "deep" / "limits.txt").unlink()
    assert "limits.txt" in fails("E001", resolve, section=PypiSection(file="requirements.txt"))
    (tmp_path / "deep" / "limits.txt").write_text("")
    both = resolve(section=PypiSection(file="requirements.txt", dependencies=("gamma",)))
    assert [wheel.requested for wheel in both] == [True, True, True]


def test_a_pyproject_with_extras_and_groups(index: Index, resolve: Resolve, tmp_path: Path) -> None:
    for name in ("alpha", "beta", "gamma", "delta"):
        index.add(name, "1.0")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["nothing-that-exists"]\nbuild-backend = "none"\n'
        '[project]\nname = "my-analysis"\nversion = "1"\ndependencies = ["alpha"]\n'
        '[project.optional-dependencies]\nplot = ["beta"]\nall = ["My.Analysis[plot]", "gamma"]\n'
        '[dependency-groups]\ntest = [{include-group = "base"}]\nbase = ["delta"]\n'
        '[tool.uv]\nexclude-newer = "2001-01-01T00:00:00Z"\n'
    )
    assert versions(resolve(section=PypiSection(file="pyproject.toml"))) == {"alpha": "1.0"}
    found = resolve(section=PypiSection(file="pyproject.toml", extras=("all",), groups=("test",)))
    assert set(versions(found)) == {"alpha", "beta", "gamma", "delta"}
    assert all(wheel.requested for wheel in found)


def write_pylock(index: Index, path: Path) -> None:
    def wheel(file: str, size: bool = True) -> str:
        shown = f"size = {len(index.files[file])}, " if size else ""
        return f'{{url = "{index.file_url(file)}", {shown}hashes = {{sha256 = "{index.digest(file)}"}}}}'

    natives = ", ".join(wheel(name) for name in index.files if name.startswith("native"))
    path.write_text(
        f'lock-version = "1.0"\ncreated-by = "test"\nextras = ["more"]\n'
        f'[[packages]]\nname = "native"\nversion = "1.0"\nwheels = [{natives}]\n'
        f'[[packages]]\nname = "beta"\nversion = "1.0"\ndependencies = [{{name = "native"}}]\n'
        f"wheels = [{wheel('beta-1.0-py3-none-any.whl', size=False)}]\n"
        f'[[packages]]\nname = "gamma"\nversion = "1.0"\nmarker = "sys_platform == \'win32\'"\n'
        f"wheels = [{wheel('gamma-1.0-py3-none-any.whl')}]\n"
        f'[[packages]]\nname = "delta"\nversion = "1.0"\nmarker = "\'more\' in extras"\n'
        f"wheels = [{wheel('delta-1.0-py3-none-any.whl')}]\n"
    )


def test_a_pylock_is_taken_as_it_is(
    index: Index, resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("beta", "gamma", "delta"):
        index.add(name, "1.0")
    for glibc in (17, 36, 39):
        index.add("native", "1.0", tag=LINUX.format(glibc))
    write_pylock(index, tmp_path / "pylock.toml")
    monkeypatch.setattr(pypi, "run_uv", lambda *_: pytest.fail("uv was called"))
    section = PypiSection(lock="pylock.toml")
    beta, native = resolve(section=section)
    assert native.file.urls == (index.file_url(f"native-1.0-{LINUX.format(36)}.whl"),)
    assert (beta.dependencies, beta.requested, native.requested) == (("native",), True, False)
    assert beta.file.size == len(index.files["beta-1.0-py3-none-any.whl"])
    lock_file = tmp_path / "pylock.toml"
    lock_file.write_text(lock_file.read_text().replace("http://", "http://user:secret@"))
    assert resolve(section=section) == (beta, native), "without the credentials"
    assert "delta" in versions(resolve(section=replace(section, extras=("more",))))
    named = resolve(section=replace(section, dependencies=("native>=1",)))
    assert [wheel.requested for wheel in named] == [True, True]
    fails("E102", resolve, section=replace(section, dependencies=("native>=2",)))
    fails("E102", resolve, section=replace(section, dependencies=("absent",)))


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        ("E002", 'lock-version = "1.0"\n', ""),
        ("E002", "[[packages]]", "[[packages"),
        ("E107", "manylinux", "musllinux"),
        ("E013", "sha256 =", "sha512 ="),
        ("E016", "http://", "file://"),
        ("E102", 'created-by = "test"', 'created-by = "test"\nrequires-python = ">=3.12"'),
        ("E002", "-py3-none-any.whl", ".tar.gz"),
    ],
)
def test_a_pylock_that_does_not_fit(
    code: str, old: str, new: str, index: Index, resolve: Resolve, tmp_path: Path
) -> None:
    for name in ("beta", "gamma", "delta"):
        index.add(name, "1.0")
    index.add("native", "1.0", tag=LINUX.format(17))
    path = tmp_path / "pylock.toml"
    write_pylock(index, path)
    path.write_text(path.read_text().replace(old, new))
    assert "pylock.toml" in fails(code, resolve, section=PypiSection(lock="pylock.toml"))


def test_arguments_follow_from_the_target_and_the_time(tmp_path: Path) -> None:
    from afenv.resolve.pypi_target import target_of

    arguments = pypi_uv.compile_arguments(
        target_of("3.11.2", (2, 36), "linux/amd64"), AS_OF, Settings(cache_folder=tmp_path),
        now=datetime.now(UTC), ignore_upload_times=False,
    )  # fmt: skip
    text = " ".join(arguments)
    for part in (
        "--python-version 3.11.2",
        "--python-platform x86_64-manylinux_2_36",
        "--exclude-newer 2025-01-01T00:00:00Z",
        "--only-binary :all:",
        "--no-config",
    ):
        assert part in text
    assert "--refresh" not in text


def test_a_folder_may_be_relative(
    index: Index, resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("beta", "1.0")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "requirements.txt").write_text("beta\n")
    monkeypatch.chdir(tmp_path)
    settings = Settings(cache_folder=tmp_path / "cache")
    found = resolve_pypi(
        PypiSection(file="requirements.txt"), Path("work"), PYTHON, (2, 36), "linux/amd64", AS_OF,
        settings=settings, store=ContentStore(settings.cache_folder),
    )  # fmt: skip
    assert versions(found) == {"beta": "1.0"}
