"""The content store under other processes, killed processes, full disks and edited files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.store import content, marks
from afenv.store.content import ContentStore

DATA = b"some content" * 1000
ABSENT = "sha256:" + "0" * 64


def code(error: pytest.ExceptionInfo[AfenvError]) -> str:
    return error.value.code


def child(text: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A Python process with ``ContentStore`` and a store in the first argument."""
    head = """
        import os, sys, time
        from pathlib import Path
        from afenv.store.content import ContentStore
        store = ContentStore(Path(sys.argv[1]))
    """
    script = textwrap.dedent(head) + textwrap.dedent(text)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )


def rewrite(path: Path, data: bytes) -> None:
    """Change a file in place, like an editor that does not care for its mode."""
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture
def hashed(monkeypatch):
    """The digests that the store hashed again."""
    seen: list[str] = []
    original = ContentStore.check

    def check(self: ContentStore, digest: str) -> bool:
        seen.append(digest)
        return original(self, digest)

    monkeypatch.setattr(ContentStore, "check", check)
    return seen


def test_put_and_read(store):
    digest = store.put(DATA)
    assert digest == sha256_bytes(DATA)
    assert store.read(digest) == DATA
    assert store.has(digest)
    assert store.has(digest, len(DATA))
    assert not store.has(digest, 1)
    assert not store.has(ABSENT)
    assert not store.trusted(ABSENT)
    assert store.path(digest).stat().st_mode & 0o777 == 0o444
    for read in (store.read, store.open):
        with pytest.raises(AfenvError) as caught:
            read(ABSENT)
        assert code(caught) == "E305"


def test_writer_without_commit_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.writer() as writer:
        writer.write(DATA)
        raise ZeroDivisionError
    assert list(store.temporary_folder().iterdir()) == []
    assert not (store.folder / "blobs").exists()


@pytest.mark.parametrize(
    ("digest", "size", "expected"), [(ABSENT, None, "E301"), (None, 1, "E302"), (ABSENT, 1, "E302")]
)
def test_commit_checks(store, digest, size, expected):
    with pytest.raises(AfenvError) as caught, store.writer() as writer:
        writer.write(DATA)
        writer.commit(digest, size)
    assert code(caught) == expected
    assert list(store.temporary_folder().iterdir()) == []
    assert not (store.folder / "blobs").exists()


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_trusted_without_hashing(store, hashed, durable):
    with store.writer(durable=durable) as writer:
        writer.write(DATA)
        digest = writer.commit()
    assert store.trusted(digest, len(DATA))
    store.sync()
    assert store.trusted(digest, len(DATA))
    assert ContentStore(store.folder).trusted(digest, len(DATA))
    assert hashed == []
    assert not store.trusted(digest, 1)


def test_what_was_not_synced_is_not_trusted_by_others(store, hashed):
    with store.writer(durable=False) as writer:
        writer.write(DATA)
        digest = writer.commit()
    other = ContentStore(store.folder)
    assert other.trusted(digest)
    assert hashed == [digest]
    assert other.trusted(digest)
    assert hashed == [digest]


def test_blob_torn_by_a_crash_is_noticed(store):
    with store.writer(durable=False) as writer:
        writer.write(DATA)
        digest = writer.commit()
    rewrite(store.path(digest), bytes(len(DATA)))  # as a file system may leave it: the size without the data
    assert not ContentStore(store.folder).trusted(digest, len(DATA))
    store.sync()
    assert not store.trusted(digest, len(DATA))


@pytest.mark.parametrize("length", [len(DATA), 10])
def test_edit_is_noticed_and_mended_by_writing_again(store, length):
    digest = store.put(DATA)
    rewrite(store.path(digest), bytes(length))
    assert not store.trusted(digest)
    with pytest.raises(AfenvError) as caught:
        store.read(digest)
    assert code(caught) == "E305"
    assert store.put(DATA) == digest
    assert store.trusted(digest)
    assert store.read(digest) == DATA


def test_edit_of_a_link_is_noticed(store, tmp_path):
    digest = store.put(DATA)
    target = tmp_path / "layout"
    store.link_or_copy(digest, target)
    assert target.stat().st_ino == store.path(digest).stat().st_ino
    assert store.trusted(digest)
    with target.open("ab") if os.geteuid() == 0 else contextlib.nullcontext():
        pass  # opening alone changes nothing
    assert store.trusted(digest)
    rewrite(target, DATA[:-1] + b"!")
    assert not store.trusted(digest, len(DATA))


def test_touched_or_restored_blob_is_hashed_once(store, hashed):
    digest = store.put(DATA)
    store.path(digest).touch()
    assert store.trusted(digest)
    assert store.trusted(digest)
    assert hashed == [digest]
    copy = store.folder / "copy"
    copy.write_bytes(bytes(len(DATA)))  # another file with the same times, as a faulty backup brings it back
    times = store.path(digest).stat()
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(store.path(digest))
    assert not store.trusted(digest)


def test_mark_is_in_the_past_and_in_whole_seconds(store):
    status = store.path(store.put(DATA)).stat()
    assert marks.EPOCH <= status.st_mtime < marks.EPOCH + marks.SPAN < 1_600_000_000
    assert status.st_mtime_ns % 1_000_000_000 == 0


def test_use_is_noted(store):
    digest = store.put(DATA)
    path = store.path(digest)
    modified = path.stat().st_mtime_ns
    os.utime(path, ns=(10**18, modified))
    assert store.trusted(digest)
    assert path.stat().st_atime_ns > 1.7e18
    assert path.stat().st_mtime_ns == modified


def test_checking_is_no_use(store):
    digest = store.put(DATA)
    path = store.path(digest)
    os.utime(path, ns=(10**18, path.stat().st_mtime_ns))
    assert store.check(digest)
    assert path.stat().st_atime_ns == 10**18


def test_committing_what_is_there_keeps_the_file(store):
    digest = store.put(DATA)
    before = store.path(digest).stat().st_ino
    with store.writer() as writer:
        writer.write(DATA)
        writer.commit()
    assert store.path(digest).stat().st_ino == before
    assert list(store.temporary_folder().iterdir()) == []


# Links and copies


def test_link_takes_the_place_of_what_was_there(store, tmp_path):
    digest = store.put(DATA)
    target = tmp_path / "target"
    target.write_bytes(b"old")
    for _ in range(2):
        store.link_or_copy(digest, target)
        assert target.read_bytes() == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "target"]


def test_copy_where_links_are_not_possible(store, tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    digest = store.put(DATA)
    target = tmp_path / "target"
    store.link_or_copy(digest, target)
    assert target.read_bytes() == DATA
    assert target.stat().st_ino != store.path(digest).stat().st_ino
    assert target.stat().st_mode & 0o777 == 0o444
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "target"]


def test_link_errors(store, tmp_path):
    with pytest.raises(AfenvError) as caught:
        store.link_or_copy(ABSENT, tmp_path / "target")
    assert code(caught) == "E305"
    with pytest.raises(AfenvError) as caught:
        store.link_or_copy(store.put(DATA), tmp_path / "none" / "target")
    assert code(caught) == "E403"


# Keys


def test_keys(store):
    key = sha256_bytes(b"input")
    assert store.load_key("layer", key) is None
    store.save_key("layer", key, {"b": [1], "a": None})
    assert store.load_key("layer", key) == {"a": None, "b": [1]}
    assert store.load_key("other", key) is None
    assert list(store.temporary_folder().iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\0" * 20, b'{"a":', b"\xff\xfe", b"[" * 100_000])
def test_damaged_key_is_none(store, damage):
    key = sha256_bytes(b"input")
    store.save_key("layer", key, {"a": 1})
    next((store.folder / "keys").rglob("*.json")).unlink()
    store._key_path("layer", key).write_bytes(damage)
    assert store.load_key("layer", key) is None


def test_use_of_a_key_is_noted(store):
    key = sha256_bytes(b"input")
    store.save_key("layer", key, 1)
    path = next((store.folder / "keys").rglob("*.json"))
    os.utime(path, (10**9, 10**9))
    assert store.load_key("layer", key) == 1
    assert path.stat().st_mtime > 1.7e9


# Disks and folders that refuse


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, "E402"), (errno.EDQUOT, "E402"), (errno.EIO, "E403")]
)
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_failing_disk(store, monkeypatch, number, expected, call):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    if call == "fsync":
        monkeypatch.setattr(content.os, "fsync", fail)
    else:
        store.temporary_folder()
        monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(AfenvError) as caught:
        store.put(DATA)
    assert code(caught) == expected
    assert caught.value.exit_status == 3
    monkeypatch.undo()
    assert list(store.temporary_folder().iterdir()) == []
    assert not store.has(sha256_bytes(DATA))


def test_file_size_limit(store):
    process = child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        from afenv.errors import AfenvError
        try:
            store.put(bytes(2000))
        except AfenvError as error:
            print(error.code)
        """,
        store.folder,
    )
    assert process.communicate()[0].strip() == b"E402"
    assert list(store.temporary_folder().iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/none")):
        store = ContentStore(folder)
        for act in (
            lambda store=store: store.put(b""),
            lambda store=store: store.save_key("kind", ABSENT, 1),
            lambda store=store: store.lock("name").__enter__(),
        ):
            with pytest.raises(AfenvError) as caught:
                act()
            assert code(caught) == "E403"
        assert not store.has(ABSENT)
        assert store.load_key("kind", ABSENT) is None
        with store.in_use():
            pass


def test_read_only_store_serves_what_it_has():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = ContentStore(Path(name) / "cache")
        store.put(DATA)
        store.save_key("kind", ABSENT, 1)
        folders = [path for path in store.folder.rglob("*") if path.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        process = child(
            """
            from afenv.errors import AfenvError
            if os.geteuid() == 0:
                os.setuid(65534)  # root writes everywhere
            with store.in_use():
                digest = store.put(b"some content" * 1000)
                assert store.trusted(digest)
            assert store.read(digest) and store.load_key("kind", "sha256:" + "0" * 64) == 1
            for act in (lambda: store.put(b"other"), lambda: store.save_key("kind", digest, 1)):
                try:
                    act()
                except AfenvError as error:
                    print(error.code)
            """,
            store.folder,
        )
        try:
            assert process.communicate()[0].split() == [b"E403", b"E403"]
        finally:
            for folder in folders:
                folder.chmod(0o755)


# Other processes


@pytest.mark.parametrize("moment", ["written", "synced"])
def test_killed_in_the_middle_of_a_write(store, moment):
    process = child(
        """
        def wait(*arguments, **options):
            print("ready", flush=True)
            time.sleep(60)
        with store.writer() as writer:
            writer.write(b"some content" * 1000)
            if sys.argv[2] == "synced":
                store.adopt = wait
                writer.commit()
            wait()
        """,
        store.folder,
        moment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (store.folder / "blobs").exists()
    assert len(list(store.temporary_folder().iterdir())) == 1
    assert store.put(DATA) == sha256_bytes(DATA)
    assert store.trusted(sha256_bytes(DATA))


def test_many_processes_write_the_same_blobs(store):
    text = """
        sys.stdin.read(1)
        for number in range(30):
            data = bytes([number]) * 20_000
            with store.writer(durable=number % 2 == 0) as writer:
                writer.write(data)
                writer.commit()
            store.save_key("kind", "sha256:" + "0" * 64, number)
        store.sync()
    """
    processes = [child(text, store.folder) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    blobs = [path for path in (store.folder / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 30
    for path in blobs:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert store.trusted("sha256:" + path.name)
    assert store.load_key("kind", ABSENT) == 29
    assert list(store.temporary_folder().iterdir()) == []


def test_lock_is_held_among_processes(store):
    text = """
        for _ in range(50):
            with store.lock("counter"):
                path = Path(sys.argv[2])
                path.write_text(str(int(path.read_text()) + 1))
    """
    counter = store.folder.parent / "counter"
    counter.write_text("0")
    processes = [child(text, store.folder, counter) for _ in range(3)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert counter.read_text() == "150"


def test_store_in_use_is_not_had_alone(store):
    with store.in_use(), store.in_use():
        with pytest.raises(AfenvError) as caught, store.exclusive():
            pass
        assert code(caught) == "E407"
    with store.exclusive():
        pass


def test_file_system_without_locks(store, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(content.fcntl, "flock", fail)
    with store.in_use():  # nothing can be removed there, so nothing has to be held
        digest = store.put(DATA)
    assert store.trusted(digest)
    for hold in (store.lock("name"), store.exclusive()):
        with pytest.raises(AfenvError, match="no file locks") as caught, hold:
            pass
        assert code(caught) == "E403"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.services
def test_full_disk(small_disk, tmp_path):
    store = ContentStore(small_disk / "cache")
    kept = store.put(bytes(1_000_000))
    with pytest.raises(AfenvError) as caught:
        store.put(os.urandom(2_000_000))
    assert code(caught) == "E402"
    assert list(store.temporary_folder().iterdir()) == []
    assert store.trusted(kept)
    assert store.trusted(store.put(os.urandom(500_000)))
    outside = tmp_path / "copy"
    store.link_or_copy(kept, outside)
    assert outside.read_bytes() == bytes(1_000_000)
    with pytest.raises(AfenvError) as caught:
        ContentStore(tmp_path / "large").link_or_copy(kept, small_disk / "copy")
    assert code(caught) == "E305"
    large = ContentStore(tmp_path / "large")
    with pytest.raises(AfenvError) as caught:
        large.link_or_copy(large.put(bytes(1_500_000)), small_disk / "copy")
    assert code(caught) == "E402"
    assert sorted(path.name for path in small_disk.iterdir()) == ["cache"]


@pytest.mark.services
def test_download_to_a_full_disk(small_disk, http_server):
    from afenv.settings import Settings
    from afenv.store.fetch import Fetcher

    store = ContentStore(small_disk / "cache")
    fetcher = Fetcher(store, Settings(cache_folder=store.folder), quiet=True)
    file = http_server.file("/a", os.urandom(3_000_000))
    with pytest.raises(AfenvError) as caught:
        fetcher.file(file)
    assert code(caught) == "E402"
    assert list(store.temporary_folder().iterdir()) == []
