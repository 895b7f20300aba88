"""``afenv data``, as it is called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main
from afenv.data.access import DataAccess
from afenv.data.pin import Pinning, pin_files
from afenv.documents.data import LockedDataFile, locked_data
from afenv.documents.load import load_manifest
from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.lockfile import read_lock, write_lock
from afenv.workflow import data as workflow

from .conftest import QUICK, checksums, locked

CONTENT = bytes(range(251)) * 5000
HEAD = "afenv: 1\nname: x\nenvironments:\n  default:\n    base: {debian: bookworm, packages: [python3]}\n"
Afenv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a project that is locked, and impatience."""
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AFENV_FACILITY", raising=False)
    monkeypatch.setattr(
        workflow,
        "DataAccess",
        lambda *arguments, **more: DataAccess(*arguments, **more, patience=QUICK),
    )
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def afenv(project: Path, capsys: pytest.CaptureFixture[str]) -> Afenv:
    """The command in the project: exit status, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["-C", str(project), *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def write(project: Path, *entries: str) -> None:
    """A manifest with this data, and a lock that fits it."""
    path = project / "afenv.yaml"
    path.write_text(HEAD + ("data:\n" + "".join(f"  - {entry}\n" for entry in entries) if entries else ""))
    manifest = load_manifest(path)
    environment = LockedEnvironment(
        request="sha256:" + "1" * 64, platform="linux/amd64", as_of="2026-01-01T00:00:00Z"
    )
    lock = Lock(
        name="x",
        version="0",
        environments={"default": environment},
        data=locked_data(manifest.data, (), project),
    )
    write_lock(project / "afenv.lock", lock)


def test_pin_check_fetch(project: Path, afenv: Afenv, http_server: Any) -> None:
    url = http_server.put("/e.root", CONTENT)
    known = checksums(CONTENT)
    write(project, f'{{name: events, uri: "{url}", checksums: ["adler32:{known["adler32"]}"]}}')
    status, out, _ = afenv("data", "list")
    assert (status, out) == (0, f"events: {url}, 1 file, size not known, not pinned\n")

    status, out, err = afenv("data", "pin", "--json")
    assert status == 0, err
    (found,) = json.loads(out)
    assert found["pinned"]
    assert found["size"] == len(CONTENT)
    assert found["files"][0]["checksums"] == known
    (locked_file,) = read_lock(project / "afenv.lock").data[0].files
    assert locked_file == LockedDataFile(path="e.root", size=len(CONTENT), checksums=known, uris=(url,))
    before = (project / "afenv.lock").read_bytes()
    asked = http_server.count("/e.root")
    status, _, err = afenv("data", "pin")
    assert (status, (project / "afenv.lock").read_bytes()) == (0, before)
    assert http_server.count("/e.root") == asked  # what is pinned is not read again

    assert afenv("data", "check")[:2] == (0, "✓ events: e.root is alive (size)\n")
    assert afenv("data", "check", "--deep")[:2] == (
        0,
        "✓ events: e.root is alive (adler32, md5, sha256, size)\n",
    )
    asked = http_server.count("/e.root")
    status, out, err = afenv("data", "fetch")
    path = project / ".afenv" / "data" / "events" / "e.root"
    assert (status, out) == (0, f"{path}\n"), err
    assert path.read_bytes() == CONTENT
    assert http_server.count("/e.root") == asked  # pinning has kept it
    assert afenv("data", "fetch", "events", "-o", "here")[0] == 0
    assert (project / "here" / "events" / "e.root").samefile(path)


def test_without_keeping(project: Path, afenv: Afenv, http_server: Any, fault: Any) -> None:
    url = http_server.put("/e.root", CONTENT, fault.cut(600_000))
    write(project, f'{{name: events, uri: "{url}"}}')
    assert afenv("data", "pin", "--no-keep")[0] == 0
    assert read_lock(project / "afenv.lock").data[0].files[0].checksums == checksums(CONTENT)
    assert http_server.requests[-1][1]["range"] == f"bytes=600000-{len(CONTENT) - 1}"
    assert not list((project.parent / "cache").rglob("blobs/sha256/*/*"))
    http_server.ranges = False
    http_server.put("/e.root", CONTENT, fault.cut(600_000))
    assert afenv("data", "pin", "--no-keep", "--again")[0] == 0  # the first 600,000 bytes come twice
    assert read_lock(project / "afenv.lock").data[0].files[0].checksums == checksums(CONTENT)


def test_what_is_stated_has_to_be_so(project: Path, afenv: Afenv, http_server: Any) -> None:
    url = http_server.put("/e.root", CONTENT)
    write(project, f'{{name: events, uri: "{url}", checksums: ["md5:{"0" * 32}"]}}')
    status, _, err = afenv("data", "pin")
    assert status == 5
    assert f"expected md5:{'0' * 32}, found md5:{checksums(CONTENT)['md5']}" in err
    write(project, f'{{name: events, uri: "{url}", size: 12}}')
    status, _, err = afenv("data", "pin")
    assert status == 5
    assert f"expected 12 bytes, the storage has {len(CONTENT)}" in err
    assert not read_lock(project / "afenv.lock").data[0].pinned


def test_one_failure_does_not_lose_the_rest(project: Path, afenv: Afenv, http_server: Any) -> None:
    good = http_server.put("/g.root", CONTENT)
    write(project, f'{{name: bad, uri: "{http_server.url}/none"}}', f'{{name: good, uri: "{good}"}}')
    status, _, err = afenv("data", "pin")
    assert status == 4
    assert "E642" in err
    assert [data.pinned for data in read_lock(project / "afenv.lock").data] == [False, True]
    status, _, err = afenv("data", "pin", "good")
    assert status == 0


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ("longer", 1, "is changed\n    {url}: changed, expected {size} bytes, found {more}\n"),
        ("gone", 1, "is lost\n    {url}: lost, 404"),
        ("denied", 4, "is not reached\n    {url}: not reached, 403"),
    ],
)
def test_check_tells_what_became_of_it(
    project: Path,
    afenv: Afenv,
    http_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    status: int,
    words: str,
) -> None:
    url = http_server.put("/e.root", CONTENT)
    write(project, f'{{name: events, uri: "{url}"}}')
    assert afenv("data", "pin")[0] == 0
    if change == "longer":
        http_server.contents["/e.root"] = CONTENT + b"x"
    elif change == "gone":
        del http_server.contents["/e.root"]
    else:
        from afenv.data.source_http import HttpSource
        from afenv.store.transport import SourceError

        def look(self: Any, uri: str) -> None:
            raise SourceError("E647", "403 Forbidden")

        monkeypatch.setattr(HttpSource, "look", look)
    found, out, _ = afenv("data", "check")
    assert found == status
    assert words.format(url=url, size=len(CONTENT), more=len(CONTENT) + 1) in out
    found, out, _ = afenv("data", "check", "--json")
    state = {"longer": "changed", "gone": "lost", "denied": "unreached"}[change]
    assert [one["state"] for one in json.loads(out)] == [state]


def test_a_change_of_the_same_size_is_seen_by_reading(project: Path, afenv: Afenv, http_server: Any) -> None:
    url = http_server.put("/e.root", CONTENT)
    other = http_server.put("/f.root", CONTENT)
    write(project, f'{{name: events, uri: "{url}", replicas: ["{other}"]}}')
    assert afenv("data", "pin")[0] == 0
    http_server.contents["/e.root"] = CONTENT[:-1] + b"x"
    assert afenv("data", "check")[0] == 0  # this server states no checksum
    status, out, _ = afenv("data", "check", "--deep", "--json")
    assert status == 0  # the other replica is alive
    assert [one["state"] for one in json.loads(out)[0]["replicas"]] == ["changed", "alive"]
    http_server.contents["/f.root"] = CONTENT[:-1] + b"y"
    status, out, _ = afenv("data", "check", "--deep")
    assert status == 1
    assert checksums(CONTENT[:-1] + b"y")["sha256"] in out or "adler32" in out


def test_usage(project: Path, afenv: Afenv, http_server: Any) -> None:
    write(project, f'{{name: events, uri: "{http_server.url}/e"}}', '{name: record, uri: "doi:10.1234/x"}')
    assert afenv("data", "pin", "nonsense")[::2][0] == 2
    assert "there is no data 'nonsense'; there is: events, record" in afenv("data", "pin", "nonsense")[2]
    assert afenv("data", "check", "--again")[0] == 2
    status, _, err = afenv("data", "fetch", "record")
    assert status == 2
    assert "E645" in err
    path = project / "afenv.yaml"
    path.write_text(path.read_text().replace("/e", "/f"))
    status, _, err = afenv("data", "fetch", "events")
    assert status == 2
    assert "the data events has changed in the manifest" in err
    (project / "afenv.lock").unlink()
    status, _, err = afenv("data", "pin")
    assert status == 2
    assert "E020" in err
    write(project)
    assert afenv("data", "list")[:2] == (0, "the manifest names no data\n")
    assert afenv("data", "check")[:2] == (0, "the manifest names no data\n")


def test_what_was_fetched_unpinned_is_said(project: Path, afenv: Afenv, http_server: Any) -> None:
    write(project, f'{{name: events, uri: "{http_server.put("/e", b"abc")}"}}')
    status, _, err = afenv("data", "fetch")
    assert status == 0
    assert "not pinned, so not proven to be the same: events" in err


def test_the_lock_written_is_the_canonical_one(project: Path, afenv: Afenv, http_server: Any) -> None:
    for name in "abc":
        http_server.put(f"/{name}.root", name.encode())
    (project / "files").mkdir()
    (project / "files" / "z.root").write_bytes(b"z")
    write(project, '{name: z, uri: "file:files/"}', f'{{name: a, uri: "{http_server.url}/a.root"}}')
    assert afenv("data", "pin")[0] == 0
    lock = json.loads((project / "afenv.lock").read_bytes())
    assert [entry["name"] for entry in lock["data"]] == ["a", "z"]
    assert lock["data"][1]["files"][0]["uris"] == ["file:files/z.root"]
    assert lock["data"][1]["files"][0]["checksums"] == checksums(b"z")


def test_interrupted_and_resumed(project: Path, tmp_path: Path, http_server: Any, fault: Any) -> None:
    """SIGINT in the middle: what was pinned is in the lock, what came of the other file is gone on with."""
    done = http_server.put("/done", b"done")
    slow = http_server.put("/slow", CONTENT, fault.stall(700_000))
    adler = checksums(CONTENT)["adler32"]
    write(
        project,
        f'{{name: done, uri: "{done}"}}',
        f'{{name: slow, uri: "{slow}", checksums: ["adler32:{adler}"]}}',
    )
    command = [sys.executable, "-m", "afenv", "-C", str(project), "data", "pin"]
    environment = os.environ | {"AFENV_CACHE_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "cache" / "tmp"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.stat().st_size >= 700_000 for path in parts.glob("part-data-*")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [data.pinned for data in read_lock(project / "afenv.lock").data] == [True, False]
    http_server.requests.clear()
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert all(data.pinned for data in read_lock(project / "afenv.lock").data)
    assert [headers.get("range") for path, headers in http_server.requests if path == "/slow"] == [
        f"bytes=700000-{len(CONTENT) - 1}"
    ]
    assert not [path for path, _ in http_server.requests if path == "/done"]


def test_a_full_disk(project: Path, tmp_path: Path, http_server: Any) -> None:
    """What the disk lacks is given back, and nothing is taken for complete."""
    write(project, f'{{name: e, uri: "{http_server.put("/e", CONTENT)}"}}')
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
    code += "from afenv.cli import main; sys.exit(main(sys.argv[1:]))"
    for action in ("pin", "fetch"):
        done = subprocess.run(
            [sys.executable, "-c", code, "-C", str(project), "data", action],
            env=os.environ | {"AFENV_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "E402" in done.stderr) == (3, True), done.stderr
    assert not list((tmp_path / "cache").rglob("part-*"))
    assert not list(project.rglob(".afenv/data/*/*"))


def test_a_storage_that_contradicts_itself(access: DataAccess, http_server: Any) -> None:
    """A stated checksum that is not that of the bytes: the data is damaged there."""
    from afenv.data.source import Found
    from afenv.data.source_http import HttpSource

    class Lying(HttpSource):
        def look(self, uri: str) -> Found:
            return Found(size=3, checksums={"adler32": "00000001"})

    access._sources["http"] = Lying(access.settings, QUICK)
    file = LockedDataFile(path="e", uris=(http_server.put("/e", b"abc"),))
    (problem,) = pin_files(Pinning([locked(file)]), access, quiet=True)
    assert problem.code == "E641"
    assert "the storage states adler32:00000001, and gave adler32:024d0127" in problem.message


def test_help_is_light() -> None:
    code = "import sys; from afenv.cli import main; main(['data', '--help'])"
    code = f"import sys\ntry:\n    {code.replace('; ', chr(10) + '    ')}\nexcept SystemExit: pass\n"
    code += "assert not {'requests', 'fsspec', 'XRootD', 'afenv.data.access'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
