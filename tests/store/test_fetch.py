"""Downloads from servers that fail in every way."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from afenv.documents.lock import LockedFile
from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store import marks
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher
from afenv.store.transport import Patience

CONTENT = os.urandom(300_000)
SHORT = Patience(
    connect=2.0, stall=0.6, attempts=3, gain=10_000, first_pause=0.01, longest_pause=0.05, longest_wait=2.0
)


@pytest.fixture
def fetcher(store, settings):
    return Fetcher(store, settings, quiet=True, patience=SHORT)


def leftovers(store: ContentStore) -> list[str]:
    """The files in the store's temporary folder."""
    return sorted(path.name for path in (store.folder / "tmp").glob("*"))


def blobs(store: ContentStore) -> list[Path]:
    return [path for path in (store.folder / "blobs").rglob("*") if path.is_file()]


def nothing_kept(store: ContentStore) -> bool:
    return not blobs(store) and not leftovers(store)


def test_file_comes_once_and_is_then_taken_from_the_store(fetcher, http_server, store):
    file = http_server.file("/a.whl", CONTENT)
    path = fetcher.file(file)
    assert path.read_bytes() == CONTENT
    assert path == store.path(file.digest)
    assert path.stat().st_mode & 0o777 == 0o444
    assert fetcher.file(file) == path
    assert http_server.count("/a.whl") == 1
    assert leftovers(store) == []
    assert marks.is_marked(file.digest, path.stat())  # so that nobody has to hash it again


def test_empty_file(fetcher, http_server):
    assert fetcher.file(http_server.file("/empty", b"")).read_bytes() == b""


def test_file_url(fetcher, tmp_path, store):
    source = tmp_path / "a file.deb"
    source.write_bytes(CONTENT)
    record = LockedFile(
        urls=(source.as_uri(),), size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    assert fetcher.file(record).read_bytes() == CONTENT
    missing = LockedFile(urls=((tmp_path / "none").as_uri(),), size=1, sha256="0" * 64)
    folder = LockedFile(urls=(tmp_path.as_uri(),), size=1, sha256="0" * 64)
    with pytest.raises(AfenvError) as caught:
        fetcher.file(missing)
    assert caught.value.code == "E103"
    with pytest.raises(AfenvError) as caught:
        fetcher.file(folder)
    assert caught.value.code == "E201"


@pytest.mark.parametrize("status", [404, 410])
def test_gone_from_every_source_is_e103(fetcher, http_server, fault, store, status):
    first = http_server.put("/a", CONTENT, fault.status(status))
    second = http_server.url + "/b"
    with pytest.raises(AfenvError) as caught:
        fetcher.file(LockedFile(urls=(first, second), size=len(CONTENT), sha256="0" * 64))
    assert caught.value.code == "E103"
    assert caught.value.exit_status == 4
    assert str(status) in str(caught.value)
    assert "/b" in str(caught.value)
    assert http_server.count("/a") == 1  # gone is gone: not asked again
    assert nothing_kept(store)


def test_next_source_is_tried(fetcher, http_server, fault):
    file = http_server.file("/b", CONTENT)
    wrong = http_server.put("/wrong", CONTENT, fault.wrong())
    urls = (http_server.url + "/none", wrong, *file.urls)
    assert fetcher.file(LockedFile(urls=urls, size=file.size, sha256=file.sha256)).read_bytes() == CONTENT


def test_mirror_takes_the_place_of_the_source(store, http_server, tmp_path):
    file = http_server.file("/mirror/pool/a.deb", CONTENT)
    settings = Settings(
        cache_folder=store.folder,
        mirrors=(("https://deb.example.org/debian/", http_server.url + "/mirror/"),),
    )
    record = LockedFile(
        urls=("https://deb.example.org/debian/pool/a.deb",), size=file.size, sha256=file.sha256
    )
    assert Fetcher(store, settings, quiet=True).file(record).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_server_error_then_success(fetcher, http_server, fault, status):
    file = http_server.file("/a", CONTENT, fault.status(status), fault.status(status))
    assert fetcher.file(file).read_bytes() == CONTENT
    assert http_server.count("/a") == 3


def test_server_error_that_stays_is_e202(fetcher, http_server, fault, store):
    file = http_server.file("/a", CONTENT, *[fault.status(503)] * 10)
    with pytest.raises(AfenvError, match="503") as caught:
        fetcher.file(file)
    assert caught.value.code == "E202"
    assert http_server.count("/a") == SHORT.attempts
    assert nothing_kept(store)


def test_forbidden_is_not_asked_again(fetcher, http_server, fault):
    file = http_server.file("/a", CONTENT, *[fault.status(403)] * 10)
    with pytest.raises(AfenvError, match="403") as caught:
        fetcher.file(file)
    assert caught.value.code == "E202"
    assert http_server.count("/a") == 1


def test_retry_after_is_respected(fetcher, http_server, fault):
    file = http_server.file("/a", CONTENT, fault.status(429, Retry_After="1"))
    started = time.monotonic()
    assert fetcher.file(file).read_bytes() == CONTENT
    assert 1.0 <= time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
def test_interrupted_download_resumes(fetcher, http_server, fault, kind):
    file = http_server.file("/a", CONTENT, getattr(fault, kind)(100_000))
    assert fetcher.file(file).read_bytes() == CONTENT
    assert http_server.count("/a") == 2
    assert http_server.requests[1][1]["range"] == "bytes=100000-"


def test_a_source_that_gets_on_is_given_more_attempts(fetcher, http_server, fault):
    cuts = [fault.cut(20_000)] * (SHORT.attempts * 3)
    assert fetcher.file(http_server.file("/a", CONTENT, *cuts)).read_bytes() == CONTENT


def test_a_source_that_only_repeats_itself_is_given_up(fetcher, http_server, fault):
    http_server.ranges = False
    file = http_server.file("/a", CONTENT, *[fault.cut(20_000)] * 50)
    with pytest.raises(AfenvError) as caught:
        fetcher.file(file)
    assert caught.value.code == "E201"
    assert http_server.count("/a") <= SHORT.attempts + 1


def test_resume_without_ranges_starts_again(fetcher, http_server, fault):
    http_server.ranges = False
    file = http_server.file("/a", CONTENT, fault.cut(100_000))
    assert fetcher.file(file).read_bytes() == CONTENT


def test_cut_without_announced_length_is_noticed(fetcher, http_server, fault):
    http_server.lengths = False
    assert fetcher.file(http_server.file("/a", CONTENT, fault.cut(100_000))).read_bytes() == CONTENT


def test_refused_part_starts_again(fetcher, http_server, fault):
    file = http_server.file("/a", CONTENT, fault.cut(100_000), fault.status(416))
    assert fetcher.file(file).read_bytes() == CONTENT
    assert "range" not in http_server.requests[2][1]


def test_download_goes_on_in_another_process(store, settings, http_server, fault):
    file = http_server.file("/a", CONTENT, fault.cut(100_000), *[fault.reset(0)] * 5)
    with pytest.raises(AfenvError) as caught:
        Fetcher(store, settings, quiet=True, patience=SHORT).file(file)
    assert caught.value.code == "E201"
    assert leftovers(store) == [f"part-{file.sha256}"]
    http_server.put("/a", CONTENT)
    assert Fetcher(store, settings, quiet=True, patience=SHORT).file(file).read_bytes() == CONTENT
    assert http_server.requests[-1][1]["range"] == "bytes=100000-"
    assert leftovers(store) == []


@pytest.mark.parametrize("partial", [b"\0" * 1000, CONTENT + b"more", b"\0" * len(CONTENT), CONTENT])
def test_partial_file_of_any_content_does_no_harm(store, fetcher, http_server, partial):
    file = http_server.file("/a", CONTENT)
    (store.temporary_folder() / f"part-{file.sha256}").write_bytes(partial)
    assert fetcher.file(file).read_bytes() == CONTENT
    assert leftovers(store) == []


def test_wrong_bytes_are_e301_and_nothing_is_kept(fetcher, http_server, fault, store):
    file = http_server.file("/a", CONTENT, fault.wrong())
    with pytest.raises(AfenvError, match=file.sha256) as caught:
        fetcher.file(file)
    assert (caught.value.code, caught.value.exit_status) == ("E301", 5)
    assert nothing_kept(store)


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""])
def test_wrong_size_is_e302_and_nothing_is_kept(fetcher, http_server, store, content, lengths):
    http_server.lengths = lengths
    file = http_server.file("/a", CONTENT)
    http_server.put("/a", content)
    with pytest.raises(AfenvError) as caught:
        fetcher.file(file)
    assert (caught.value.code, caught.value.exit_status) == ("E302", 5)
    assert ("the source has" in str(caught.value)) == lengths  # known before a byte is read
    assert nothing_kept(store)


def test_no_more_is_written_than_the_size(fetcher, http_server, store):
    http_server.lengths = False
    file = http_server.file("/a", b"x")
    http_server.put("/a", bytes(50_000_000))
    with pytest.raises(AfenvError) as caught:
        fetcher.file(file)
    assert caught.value.code == "E302"
    assert nothing_kept(store)


def test_stalled_server_is_given_up(fetcher, http_server, fault):
    file = http_server.file("/a", CONTENT, *[fault.stall(1000)] * 10)
    started = time.monotonic()
    with pytest.raises(AfenvError, match=r"no byte came for 0\.6 s") as caught:
        fetcher.file(file)
    assert caught.value.code == "E201"
    assert time.monotonic() - started < 5


def test_slow_server_is_borne_with(fetcher, http_server, fault):
    file = http_server.file("/a", CONTENT[:10_000], fault.slow(0.1))  # longer than the stall time in all
    assert fetcher.file(file).read_bytes() == CONTENT[:10_000]
    assert http_server.count("/a") == 1


def test_unreachable_is_e201_and_the_host_is_not_asked_for_each_file(store, settings):
    patience = Patience(connect=1.0, attempts=3, first_pause=0.2)
    files = [LockedFile(urls=(f"http://127.0.0.1:1/{i}",), size=1, sha256=f"{i:064x}") for i in range(100)]
    started = time.monotonic()
    with pytest.raises(AfenvError, match="Connection refused") as caught:
        Fetcher(store, settings, quiet=True, patience=patience).files(files, title="Downloading")
    assert time.monotonic() - started < 3
    assert caught.value.code == "E201"
    assert len(caught.value.problems) == 100


def test_unknown_host_is_e201(fetcher):
    file = LockedFile(urls=("http://nowhere.invalid/a",), size=1, sha256="0" * 64)
    with pytest.raises(AfenvError) as caught:
        fetcher.file(file)
    assert caught.value.code == "E201"


def test_credentials_do_not_follow_to_another_host(fetcher, http_server, other_http_server, fault):
    file = other_http_server.file("/a", CONTENT)
    elsewhere = f"http://localhost:{other_http_server.port}/a"
    http_server.put("/a", b"", fault.redirect(elsewhere))
    url = f"http://user:secret@127.0.0.1:{http_server.port}/a"
    record = LockedFile(urls=(url,), size=file.size, sha256=file.sha256)
    assert fetcher.file(record).read_bytes() == CONTENT
    assert http_server.requests[0][1]["authorization"].startswith("Basic ")
    assert "authorization" not in other_http_server.requests[0][1]


def test_cookies_are_not_kept(fetcher, http_server, fault):
    fetcher.get(http_server.put("/a", b"", fault.status(200, Set_Cookie="a=b")))
    fetcher.get(http_server.put("/b", b""))
    assert "cookie" not in http_server.requests[1][1]


def test_secrets_are_not_shown(fetcher, http_server):
    url = f"http://user:secret@127.0.0.1:{http_server.port}/none?token=hidden"
    with pytest.raises(AfenvError) as caught:
        fetcher.file(LockedFile(urls=(url,), size=1, sha256="0" * 64))
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_redirect_cannot_read_local_files(fetcher, http_server, fault, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    url = http_server.put("/a", b"", fault.redirect((tmp_path / "secret").as_uri()))
    with pytest.raises(AfenvError) as caught:
        fetcher.get(url)
    assert caught.value.code == "E202"


def test_offline(store, http_server):
    file = http_server.file("/a", CONTENT)
    offline = Settings(cache_folder=store.folder, offline=True)
    with pytest.raises(AfenvError) as caught:
        Fetcher(store, offline, quiet=True).file(file)
    assert (caught.value.code, caught.value.exit_status) == ("E203", 4)
    Fetcher(store, Settings(cache_folder=store.folder), quiet=True).file(file)
    assert Fetcher(store, offline, quiet=True).file(file).read_bytes() == CONTENT
    assert http_server.count("/a") == 1


def test_files_reports_every_failure_and_keeps_what_came(fetcher, http_server, store):
    good = http_server.file("/good", CONTENT)
    gone = LockedFile(urls=(http_server.url + "/gone",), size=1, sha256="0" * 64)
    wrong = LockedFile(urls=good.urls, size=good.size, sha256="1" * 64)
    with pytest.raises(AfenvError) as caught:
        fetcher.files([gone, good, wrong], title="Downloading")
    assert [problem.code for problem in caught.value.problems] == ["E103", "E301"]
    assert store.trusted(good.digest)


def test_files_keeps_the_order_and_fetches_duplicates_once(fetcher, http_server):
    contents = [os.urandom(1000 * i) for i in range(1, 30)]
    files = [http_server.file(f"/{i}", content) for i, content in enumerate(contents)]
    paths = fetcher.files([*files, files[3]], title="Downloading")
    assert [path.read_bytes() for path in paths] == [*contents, contents[3]]
    assert http_server.count("/3") == 1


def test_progress_counts_each_byte_once(store, settings, http_server, fault, capsys):
    files = [
        http_server.file("/a", CONTENT, fault.cut(100_000)),
        http_server.file("/b", CONTENT[1:], fault.cut(100_000), fault.status(416)),
    ]
    Fetcher(store, settings, patience=SHORT).files(files, title="Downloading")
    assert "Downloading: 600.0 kB" in capsys.readouterr().err


def test_corrupt_blob_is_downloaded_again(fetcher, http_server, store):
    file = http_server.file("/a", CONTENT)
    path = fetcher.file(file)
    path.chmod(0o644)
    with path.open("r+b") as edited:
        edited.write(b"edited")
    assert fetcher.file(file).read_bytes() == CONTENT
    assert http_server.count("/a") == 2


def test_two_threads_want_the_same_file(store, settings, http_server, fault):
    file = http_server.file("/a", CONTENT, fault.slow(0.002))
    results: list[bytes] = []

    def work() -> None:
        results.append(Fetcher(store, settings, quiet=True, patience=SHORT).file(file).read_bytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 4
    assert http_server.count("/a") == 1
    assert leftovers(store) == []


def test_partial_file_that_another_process_moves_away_is_not_used(fetcher, http_server, store, monkeypatch):
    file = http_server.file("/a", CONTENT)
    path = store.temporary_folder() / f"part-{file.sha256}"
    original = fcntl.flock
    moved: list[bool] = []

    def flock(descriptor: int, operation: int) -> None:
        if path.exists() and not moved:  # between opening and locking
            moved.append(True)
            path.rename(path.with_name("moved"))
        original(descriptor, operation)

    monkeypatch.setattr("afenv.store.partial.fcntl.flock", flock)
    assert fetcher.file(file).read_bytes() == CONTENT
    assert (path.with_name("moved")).stat().st_size == 0
    assert moved


def test_full_disk_ends_the_download_and_keeps_no_part(fetcher, http_server, store, monkeypatch):
    files = [http_server.file(f"/{i}", CONTENT[i:]) for i in range(20)]

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("afenv.store.partial.os.write", full)
    with pytest.raises(AfenvError) as caught:
        fetcher.files(files, title="Downloading")
    assert (caught.value.code, caught.value.exit_status) == ("E402", 3)
    assert nothing_kept(store)


def test_local_sources_are_read_offline(store, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    urls = ("https://deb.example.org/a", (tmp_path / "a").as_uri())
    record = LockedFile(urls=urls, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    offline = Settings(cache_folder=store.folder, offline=True)
    assert Fetcher(store, offline, quiet=True).file(record).read_bytes() == CONTENT


def test_proxy_of_the_environment_is_used(fetcher, http_server, monkeypatch):
    file = http_server.file("http://deb.example.org/a", CONTENT)  # what a proxy is asked for
    monkeypatch.setenv("http_proxy", http_server.url)
    record = LockedFile(urls=("http://deb.example.org/a",), size=file.size, sha256=file.sha256)
    assert fetcher.file(record).read_bytes() == CONTENT


def test_tls_failure_is_e201_and_not_tried_again(fetcher, http_server):
    url = f"https://127.0.0.1:{http_server.port}/a"
    with pytest.raises(AfenvError, match="TLS") as caught:
        fetcher.file(LockedFile(urls=(url,), size=1, sha256="0" * 64))
    assert caught.value.code == "E201"
    assert "REQUESTS_CA_BUNDLE" in str(caught.value)


# Documents that change


def test_get_revalidates(fetcher, http_server):
    url = http_server.put("/InRelease", b"one")
    assert [fetcher.get(url), fetcher.get(url)] == [b"one", b"one"]
    assert "if-none-match" not in http_server.requests[0][1]
    assert "if-none-match" in http_server.requests[1][1]
    http_server.put("/InRelease", b"two")
    assert fetcher.get(url) == b"two"


def test_get_offline_gives_the_copy(fetcher, http_server, store):
    url = http_server.put("/InRelease", b"one")
    offline = Fetcher(store, Settings(cache_folder=store.folder, offline=True), quiet=True)
    with pytest.raises(AfenvError) as caught:
        offline.get(url)
    assert caught.value.code == "E203"
    fetcher.get(url)
    assert offline.get(url) == b"one"


def test_get_with_a_damaged_copy_asks_anew(fetcher, http_server, store):
    url = http_server.put("/InRelease", b"one")
    fetcher.get(url)
    for path in blobs(store):
        path.chmod(0o644)
        path.write_bytes(b"two")
    assert fetcher.get(url) == b"one"
    assert "if-none-match" not in http_server.requests[-1][1]


def test_get_of_another_mirror_does_not_revalidate(store, settings, http_server, other_http_server):
    http_server.put("/InRelease", b"one")
    other_http_server.put("/InRelease", b"one")
    for server in (http_server, other_http_server):
        chosen = Settings(cache_folder=store.folder, mirrors=(("https://deb.example.org", server.url),))
        assert Fetcher(store, chosen, quiet=True).get("https://deb.example.org/InRelease") == b"one"
    assert "if-none-match" not in other_http_server.requests[0][1]


def test_get_errors(fetcher, http_server, fault):
    def code(url: str) -> str:
        with pytest.raises(AfenvError) as caught:
            fetcher.get(url, limit=1000)
        return caught.value.code

    assert code(http_server.url + "/none") == "E103"
    assert code(http_server.put("/large", bytes(1001))) == "E302"
    assert code(http_server.put("/broken", b"x", *[fault.status(500)] * 9)) == "E202"
    assert code(http_server.put("/cut", bytes(900), *[fault.cut(10)] * 9)) == "E201"
    assert code("http://127.0.0.1:1/") == "E201"
    assert code("ftp://127.0.0.1/") == "E201"
    assert code("no url") == "E201"


def test_get_tries_again(fetcher, http_server, fault):
    url = http_server.put("/a", b"content", fault.status(500), fault.cut(3), fault.reset(0))
    assert (
        Fetcher(fetcher._store, fetcher._settings, patience=Patience(first_pause=0.01)).get(url) == b"content"
    )


def test_get_file_url(fetcher, tmp_path):
    (tmp_path / "index").write_bytes(b"one")
    assert fetcher.get((tmp_path / "index").as_uri()) == b"one"


# The public servers


@pytest.mark.network
def test_public_servers(store, settings):
    fetcher = Fetcher(store, settings, quiet=True)
    url = "https://deb.debian.org/debian/dists/bookworm/InRelease"
    assert fetcher.get(url).startswith(b"-----BEGIN PGP SIGNED MESSAGE-----")
    assert fetcher.get(url) == Fetcher(
        store, Settings(cache_folder=store.folder, offline=True), quiet=True
    ).get(url)
    index = json.loads(
        fetcher.get("https://pypi.org/simple/vector/", accept="application/vnd.pypi.simple.v1+json")
    )
    wheel = next(file for file in index["files"] if file["filename"] == "vector-1.4.0-py3-none-any.whl")
    record = LockedFile(urls=(wheel["url"],), size=wheel["size"], sha256=wheel["hashes"]["sha256"])
    assert fetcher.file(record).read_bytes().startswith(b"PK")


# Whole processes


def child(text: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A Python process that has ``file``, of the URL, size and digest given after the store's folder."""
    head = """
        import sys
        from pathlib import Path
        from afenv.documents.lock import LockedFile
        from afenv.settings import Settings
        from afenv.store.content import ContentStore
        from afenv.store.fetch import Fetcher
        folder = Path(sys.argv[1])
        fetcher = Fetcher(ContentStore(folder), Settings(cache_folder=folder), quiet=True)
        file = LockedFile(urls=(sys.argv[2],), size=int(sys.argv[3]), sha256=sys.argv[4])
    """
    script = textwrap.dedent(head) + textwrap.dedent(text)
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE)


def test_memory_stays_flat(http_server, store):
    size = 300_000_000
    block = bytes(range(256)) * 4096

    def serve(server, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        for start in range(0, size, len(block)):
            handler.wfile.write(block[: size - start])

    whole = hashlib.sha256()
    for start in range(0, size, len(block)):
        whole.update(block[: size - start])
    url = http_server.put("/large", b"", serve)
    process = child(
        """
        import requests
        def peak():  # in kB; not ru_maxrss, which is also of what started this
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        before = peak()
        path = fetcher.file(file)
        print(path.stat().st_size, peak() - before)
        """,
        *(store.folder, url, size, whole.hexdigest()),
    )
    written, grown = map(int, process.communicate()[0].split())
    assert written == size
    assert grown < 20_000  # KiB


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_download_is_taken_up_again(http_server, store, fetcher, fault, number):
    file = http_server.file("/a", CONTENT, fault.stall(100_000))
    process = child("fetcher.file(file)", store.folder, *file.urls, file.size, file.sha256)
    partial = store.folder / "tmp" / f"part-{file.sha256}"
    deadline = time.monotonic() + 20
    while not (partial.exists() and partial.stat().st_size == 100_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = time.monotonic()
    process.send_signal(number)
    process.communicate()
    assert time.monotonic() - started < 5  # an interruption does not wait for the server
    assert process.returncode == -number
    assert not blobs(store)
    assert fetcher.file(file).read_bytes() == CONTENT
    assert http_server.requests[-1][1]["range"] == "bytes=100000-"
    assert leftovers(store) == []


def test_nothing_heavy_is_imported_when_all_is_there(http_server, store, fetcher):
    file = http_server.file("/a", CONTENT)
    fetcher.file(file)
    process = child(
        "fetcher.file(file); print({'requests', 'urllib3', 'ssl', 'http'} & sys.modules.keys())",
        *(store.folder, *file.urls, file.size, file.sha256),
    )
    assert process.communicate()[0] == b"set()\n"
