"""Bags in an OCFL 1.1 store (ocfl.io): one object whose versions add bags, so that bags share content.

OCFL shares content between the versions of one object and forbids links, so that all bags of a store are
folders of one object, unless another is named. A content is stored once, whichever bags have it. What is
written appears when the root inventory is replaced, which is the last step.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.archive.items import Item
from afenv.archive.names import ALGORITHMS, PAYLOAD, check_path
from afenv.archive.sums import CHUNK, Sums, new_hash, sums_of_bytes
from afenv.archive.write import head_files, tail_files
from afenv.documents.json_reader import Damaged, Record, any_text, by_name, form, json_object, list_of
from afenv.errors import AfenvError
from afenv.store.failures import write_error
from afenv.store.placing import FICLONE

ROOT_MARK, ROOT_TEXT = "0=ocfl_1.1", b"ocfl_1.1\n"
OBJECT_MARK, OBJECT_TEXT = "0=ocfl_object_1.1", b"ocfl_object_1.1\n"
DEFAULT_OBJECT = "urn:afenv:archives"
LAYOUT = "0003-hash-and-id-n-tuple-storage-layout"
TYPE = "https://ocfl.io/1.1/spec/#inventory"
LIMIT = 1 << 30
_VERSION = re.compile(r"v\d{1,9}\Z")


def object_folder(root: Path, identity: str) -> Path:
    """Where an object lies, by the extension that the store declares (0003, with its defaults)."""
    digest = hashlib.sha256(identity.encode()).hexdigest()
    name = re.sub(rb"[^A-Za-z0-9_-]", lambda found: b"%%%02x" % found[0][0], identity.encode()).decode()
    if len(name) > 100:
        name = f"{name[:100]}-{digest}"
    return root / digest[:3] / digest[3:6] / digest[6:9] / name


def is_store(path: Path) -> bool:
    """Whether a folder is the root of an OCFL store."""
    return any(path.glob("0=ocfl_1.*"))


def _open_root(root: Path) -> None:
    if is_store(root):
        layout = root / "ocfl_layout.json"
        try:
            ours = not layout.is_file() or json.loads(layout.read_bytes())["extension"] == LAYOUT
        except (ValueError, KeyError, TypeError, RecursionError):
            ours = False
        if not ours:
            raise AfenvError("E734", "the store has another layout than afenv writes", place=str(root))
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise AfenvError("E734", "this folder is not an OCFL store, and not empty", place=str(root))
    root.mkdir(parents=True, exist_ok=True)
    config = {
        "extensionName": LAYOUT,
        "digestAlgorithm": "sha256",
        "tupleSize": 3,
        "numberOfTuples": 3,
    }
    place = root / "extensions" / LAYOUT
    place.mkdir(parents=True)
    (place / "config.json").write_bytes(canonical.indented(config))
    text = {"extension": LAYOUT, "description": "Hashed n-tuples, and the encoded identifier of the object"}
    (root / "ocfl_layout.json").write_bytes(canonical.indented(text))
    (root / ROOT_MARK).write_bytes(ROOT_TEXT)


def read_inventory(folder: Path) -> dict[str, Any]:
    """The inventory of an object, checked against its digest; E721, E734."""
    path = folder / "inventory.json"
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("it is too large")
        data = path.read_bytes()
        stated = (folder / "inventory.json.sha512").read_text().split()[0]
        if hashlib.sha512(data).hexdigest() != stated:
            raise AfenvError("E721", "the inventory has another content than was written", place=str(path))
        value: dict[str, Any] = json.loads(data)
        if value["digestAlgorithm"] != "sha512" or value["type"] != TYPE:
            raise ValueError("it is of another version, or has other digests")
        _check_form(value)
        for paths in value["manifest"].values():
            for one in paths:
                check_path(one, str(path))
    except Damaged as damaged:
        message = f"the inventory cannot be read: {damaged.message}, at {damaged.path}"
        raise AfenvError("E734", message, place=str(path)) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise AfenvError("E734", f"the inventory cannot be read: {error}", place=str(path)) from None
    return value


def _check_form(value: Any) -> None:
    inventory = Record(value)
    manifest = inventory.take("manifest", by_name(list_of(any_text, 1)))
    head = inventory.take("head", form(_VERSION, "a version"))
    newest = inventory.take("versions", by_name(json_object)).get(head)
    state = Record(newest).take("state", by_name(list_of(any_text)))
    if not state.keys() <= manifest.keys():
        raise Damaged(f"{min(state.keys() - manifest.keys())} has no content", "manifest")


def add_to_store(
    root: Path,
    identity: str,
    name: str,
    items: Sequence[Item],
    info: Mapping[str, str | list[str]],
    readme: bytes,
    epoch: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[Path]:
    """Add a bag as the folder ``name`` in the next version of an object; the root with ``#name``.

    A bag of that name that is the same already is left; E731 if it is another. E734 if the folder is no
    store; E402 and E403.
    """
    root = root.absolute()
    ordered = sorted(items, key=lambda item: item.path)
    try:
        if not root.exists():
            root.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            _open_root(root)
            folder = object_folder(root, identity)
            inventory = read_inventory(folder) if (folder / "inventory.json").exists() else None
            number = int(inventory["head"][1:]) + 1 if inventory else 1
            for left_over in (root / "extensions").glob("afenv-*"):  # of processes that were killed
                if not Path("/proc", left_over.name.split("-")[1]).exists():
                    shutil.rmtree(left_over, ignore_errors=True)
            beside = root / "extensions" / f"afenv-{os.getpid()}-{os.urandom(4).hex()}"
            beside.mkdir(parents=True)
            try:
                _add(folder, beside, identity, name, ordered, info, readme, epoch, advance, inventory, number)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise write_error(error, root) from error
    return [root.with_name(f"{root.name}#{name}")]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the store, where its file system has locks: two who write the next version lose one of them."""
    if not root.is_dir():
        yield
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _add(
    folder: Path,
    beside: Path,
    identity: str,
    name: str,
    items: Sequence[Item],
    info: Mapping[str, str | list[str]],
    readme: bytes,
    epoch: int,
    advance: Callable[[int], object],
    inventory: dict[str, Any] | None,
    number: int,
) -> None:
    version = f"v{number}"
    manifest: dict[str, list[str]] = dict(inventory["manifest"]) if inventory else {}
    known = frozenset(manifest)
    state: dict[str, list[str]] = {}
    if inventory:
        for digest, paths in inventory["versions"][inventory["head"]]["state"].items():
            state[digest] = list(paths)
    before = {
        path: digest for digest, paths in state.items() for path in paths if path.startswith(f"{name}/")
    }
    now: dict[str, str] = {}
    new: dict[str, str] = {}

    def keep(path: str, sums: Sums, place: Path | bytes) -> None:
        now[f"{name}/{path}"] = sums.sha512
        if sums.sha512 in known or sums.sha512 in new:
            if isinstance(place, Path):
                place.unlink()
            return
        content = f"{version}/content/{name}/{path}"
        new[sums.sha512] = content
        target = beside / content
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(place, Path):
            place.rename(target)
        else:
            target.write_bytes(place)

    sums: dict[str, Sums] = {}
    for item in items:
        copied = beside / "part"
        found = _copy(item, copied, advance)
        sums[PAYLOAD + item.path] = found
        keep(PAYLOAD + item.path, found, copied)
    head = head_files(items, info, readme)
    for path, data in (head | tail_files(head, sums)).items():
        keep(path, sums_of_bytes(data), data)
    if before:
        if before == now:
            return
        raise AfenvError("E731", f"the store has another bag named {name}", place=str(folder))
    for path, digest in now.items():
        state.setdefault(digest, []).append(path)
    for digest, content in new.items():
        manifest[digest] = [content]
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    versions = dict(inventory["versions"]) if inventory else {}
    versions[version] = {
        "created": created,
        "message": f"archive {name}",
        "user": {"name": "afenv", "address": "https://pypi.org/project/afenv/"},
        "state": {digest: sorted(paths) for digest, paths in state.items()},
    }
    value = {
        "id": identity,
        "type": TYPE,
        "digestAlgorithm": "sha512",
        "head": version,
        "contentDirectory": "content",
        "manifest": manifest,
        "versions": versions,
    }
    data = canonical.indented(value)
    sidecar = f"{hashlib.sha512(data).hexdigest()} inventory.json\n".encode()
    here = beside / version
    here.mkdir(exist_ok=True)
    for place in (here, beside):
        (place / "inventory.json").write_bytes(data)
        (place / "inventory.json.sha512").write_bytes(sidecar)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / version).exists():  # of an attempt that was interrupted: the inventory does not know it
        shutil.rmtree(folder / version)
    here.rename(folder / version)
    mark = folder / OBJECT_MARK
    if not mark.exists():
        mark.write_bytes(OBJECT_TEXT)
    for part in ("inventory.json.sha512", "inventory.json"):
        (beside / part).replace(folder / part)


def _copy(item: Item, target: Path, advance: Callable[[int], object]) -> Sums:
    """Copy a content, sharing its blocks where the file system can, and hash it on the way."""
    hashes = {one: new_hash(one) for one in ALGORITHMS}
    size = 0
    with item.open() as source, target.open("xb") as copy:
        shared = _shares(source, copy) if item.file is not None else False
        while data := source.read(CHUNK):
            for one in hashes.values():
                one.update(data)
            if not shared:
                copy.write(data)
            size += len(data)
            advance(len(data))
        copy.flush()
        os.fsync(copy.fileno())
    if hashes["sha256"].hexdigest() != item.sha256:
        raise AfenvError(
            "E305", f"the content of {item.path} changed while it was read", place=str(item.file)
        )
    return Sums(sha256=item.sha256, sha512=hashes["sha512"].hexdigest(), size=size)


def _shares(source: BinaryIO, copy: BinaryIO) -> bool:
    try:
        fcntl.ioctl(copy.fileno(), FICLONE, source.fileno())
    except OSError:
        return False
    return True


class OcflBag:
    """A bag that is a folder in an object of an OCFL store, as :class:`afenv.archive.source.BagSource`."""

    form = "folder"

    def __init__(self, root: Path, name: str) -> None:
        self.place = f"{root}#{name}"
        self.files: dict[str, int] = {}
        self._paths: dict[str, Path] = {}
        if not is_store(root):
            raise AfenvError("E734", "this is not the root of an OCFL store", place=str(root))
        for folder in sorted(_objects(root)):
            inventory = read_inventory(folder)
            state = inventory["versions"][inventory["head"]]["state"]
            for digest, paths in state.items():
                for path in paths:
                    if path.startswith(f"{name}/"):
                        inside = check_path(path[len(name) + 1 :], self.place)
                        self._paths[inside] = folder / inventory["manifest"][digest][0]
            if self._paths:
                break
        if not self._paths:
            raise AfenvError("E001", f"the store has no bag {name}", place=str(root))
        for path, place in self._paths.items():
            try:
                if place.is_symlink():
                    raise AfenvError("E725", f"{path} is a symbolic link", place=self.place)
                self.files[path] = place.stat().st_size
            except OSError:
                raise AfenvError(
                    "E722", f"the store lacks {place.relative_to(root)}", place=self.place
                ) from None

    def open(self, path: str) -> BinaryIO:
        """As :meth:`afenv.archive.source.BagSource.open`."""
        try:
            return self._paths[path].open("rb")
        except (KeyError, OSError):
            raise AfenvError("E722", f"the bag lacks {path}", place=self.place) from None

    def file(self, path: str) -> Path:
        """Where a file lies."""
        return self._paths[path]


def _objects(root: Path) -> list[Path]:
    return [mark.parent for mark in root.glob("*/*/*/*/0=ocfl_object_1.*")]
