"""Writing a bag: as a folder of links, or as one file, tar or zip, in parts or not.

It appears under its name only when it is whole: everything is written beside it and renamed.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from afenv.archive import tags
from afenv.archive.framing import FRAMINGS
from afenv.archive.items import Item
from afenv.archive.names import (
    ALGORITHMS,
    DECLARATION,
    HEAD,
    INFO,
    MANIFESTS,
    PAYLOAD,
    README,
    TAG_MANIFESTS,
    check_path,
)
from afenv.archive.parts import SUFFIX, PartsIndex, SplitWriter, part_name
from afenv.archive.sums import CHUNK, Sums, Tee, digests, new_hash, sums_of_bytes
from afenv.errors import AfenvError
from afenv.store.failures import write_error
from afenv.store.placing import place

TEMPORARY = ".afenv-"

Advance = Callable[[int], object]


def form_of(path: Path) -> str:
    """``folder``, ``tar`` or ``zip``, by the name."""
    return {".zip": "zip", ".tar": "tar"}.get(path.suffix, "folder")


def payload_oxum(items: Sequence[Item]) -> str:
    """Bytes and files of the payload, as ``bag-info.txt`` has them."""
    return f"{sum(item.size for item in items)}.{len(items)}"


def head_files(items: Sequence[Item], info: Mapping[str, str | list[str]], readme: bytes) -> dict[str, bytes]:
    """The tag files that stand before the payload."""
    whole = dict(info) | {"Payload-Oxum": payload_oxum(items)}
    return {DECLARATION: tags.BAGIT, INFO: tags.dump_info(whole), README: readme}


def tail_files(head: Mapping[str, bytes], sums: Mapping[str, Sums]) -> dict[str, bytes]:
    """The manifests, out of the digests of the payload (by path in the bag)."""
    manifests = {
        name: tags.dump_manifest({path: getattr(one, algorithm) for path, one in sums.items()})
        for name, algorithm in zip(MANIFESTS, ALGORITHMS, strict=True)
    }
    known = {name: sums_of_bytes(data) for name, data in (dict(head) | manifests).items()}
    tag_manifests = {
        name: tags.dump_manifest({path: getattr(one, algorithm) for path, one in known.items()})
        for name, algorithm in zip(TAG_MANIFESTS, ALGORITHMS, strict=True)
    }
    return manifests | tag_manifests


def write_bag(
    target: Path,
    items: Iterable[Item],
    info: Mapping[str, str | list[str]],
    readme: bytes,
    *,
    part_size: int | None = None,
    advance: Advance = lambda _: None,
) -> list[Path]:
    """Write a bag to ``target``, a folder, ``.tar`` or ``.zip``; the paths that were written.

    ``advance`` is told the bytes of the payload as they are read. E731 if there is something at ``target``,
    or if it cannot have parts; E402 and E403 if it cannot be written.
    """
    ordered = sorted(items, key=lambda item: item.path)
    for before, after in pairwise(ordered):
        if before.path == after.path:
            raise AfenvError("E731", f"two files would be {after.path}", place=str(target))
    for item in ordered:
        check_path(item.path, str(target))
    form = form_of(target)
    check_target(target, part_size)
    target = target.absolute()
    head = head_files(ordered, info, readme)
    try:
        with _beside(target) as folder:
            if form == "folder":
                _write_folder(folder, ordered, head, advance)
                folder.chmod(0o755)
                folder.rename(target)
                _sync(target.parent)
                return [target]
            return _write_file(folder, target, form, ordered, head, part_size, advance)
    except OSError as error:
        raise write_error(error, target) from error


RECORD_LEAST = 1 << 16


def check_target(target: Path, part_size: int | None = None) -> None:
    """E731 if something is at ``target``, or a bag cannot be written there in parts of that size."""
    if part_size is not None and form_of(target) == "folder":
        raise AfenvError("E731", "a folder has no parts; write a .tar or .zip", place=str(target))
    if part_size is not None and part_size < RECORD_LEAST:
        raise AfenvError("E731", f"a part has at least {RECORD_LEAST} bytes", place=str(target))
    target = target.absolute()
    names = [target]
    if part_size is not None:
        names += [target.with_name(target.name + SUFFIX), target.with_name(part_name(target.name, 1))]
    for path in names:
        if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()) and path == target):
            raise AfenvError("E731", "there is something of that name already", place=str(path))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder beside the target to write into; what killed processes have left is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name[:100]}{TEMPORARY}"
    for left_over in target.parent.glob(f"{glob.escape(prefix)}*"):
        if not _is_alive(left_over):
            shutil.rmtree(left_over, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{prefix}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(folder: Path) -> bool:
    number = folder.name.rpartition(TEMPORARY)[2].partition("-")[0]
    return number.isdecimal() and Path(f"/proc/{number}").exists()


def _write_folder(folder: Path, items: Sequence[Item], head: Mapping[str, bytes], advance: Advance) -> None:
    made: set[Path] = set()
    for item in items:
        path = folder / PAYLOAD / item.path
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        if item.content is not None:
            path.write_bytes(item.content)
            path.chmod(0o644)
        elif item.link:
            assert item.file is not None
            place(item.file, path)
        else:
            assert item.file is not None
            shutil.copyfile(item.file, path)
            path.chmod(0o644)
    # what the store vouches for is not hashed again with sha256
    tasks = [(item, one) for item in items for one in ALGORITHMS if one != "sha256" or not item.link]
    found = digests(
        ((_opener(folder / PAYLOAD / item.path), one, item.size) for item, one in tasks),
        advance,
    )
    known = {(item.path, "sha256"): item.sha256 for item in items}
    for (item, algorithm), digest in zip(tasks, found, strict=True):
        if not isinstance(digest, str):
            raise digest
        if known.setdefault((item.path, algorithm), digest) != digest:
            raise _changed(item)
    sums = {
        PAYLOAD + item.path: Sums(sha256=item.sha256, sha512=known[item.path, "sha512"], size=item.size)
        for item in items
    }
    for name, data in (dict(head) | tail_files(head, sums)).items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)
    _sync_all(folder, {folder / PAYLOAD / item.path for item in items if item.link})


def _changed(item: Item) -> AfenvError:
    return AfenvError("E305", f"the content of {item.path} changed while it was read", place=str(item.file))


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _sync_all(folder: Path, synced: Collection[Path]) -> None:
    """Wait for the disk, for files and folders: so the name never appears before its content.

    Blobs of the store (``synced``) have reached it already.
    """
    paths = [one for one in folder.rglob("*") if one not in synced]
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(_sync, [*paths, folder]):
            pass


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_file(
    folder: Path,
    target: Path,
    form: str,
    items: Sequence[Item],
    head: Mapping[str, bytes],
    part_size: int | None,
    advance: Advance,
) -> list[Path]:
    framing = FRAMINGS[form]()
    name = target.name.removesuffix(f".{form}")
    out = SplitWriter(folder, target.name, part_size)
    members: list[tuple[str, int, int]] = []
    sums: dict[str, Sums] = {}
    at = 0
    try:
        with Tee() as tee:

            def put(data: bytes) -> None:
                nonlocal at
                tee.feed(data, [out.write])
                at += len(data)

            def small(path: str, data: bytes) -> None:
                put(framing.before(f"{name}/{path}", len(data)))
                members.append((path, at, len(data)))
                put(data)
                crc = new_hash("crc32")
                crc.update(data)
                put(framing.after(crc.value))

            for path in HEAD:
                small(path, head[path])
            for item in items:
                path = PAYLOAD + item.path
                put(framing.before(f"{name}/{path}", item.size))
                members.append((path, at, item.size))
                # what the store vouches for is not hashed again with sha256
                hashes = {one: new_hash(one) for one in ALGORITHMS if one != "sha256" or not item.link}
                crc = new_hash("crc32")
                consumers = [out.write, *(one.update for one in hashes.values())]
                if framing.checksum:
                    consumers.append(crc.update)
                count = 0
                with item.open() as file:
                    while data := file.read(CHUNK):
                        tee.feed(data, consumers)
                        count += len(data)
                        advance(len(data))
                tee.wait()
                at += count
                found = {name: one.hexdigest() for name, one in hashes.items()}
                if count != item.size or found.get("sha256", item.sha256) != item.sha256:
                    raise _changed(item)
                sums[path] = Sums(sha256=item.sha256, sha512=found["sha512"], size=count)
                put(framing.after(crc.value))
            for path, data in tail_files(head, sums).items():
                small(path, data)
            put(framing.end())
            tee.wait()
            parts = out.finish()
    finally:
        out.abandon()
    index = PartsIndex(name=name, form=form, parts=tuple(parts), members=tuple(members))
    written = [target.with_name(one) for one, _, _ in parts]
    if part_size is not None:
        index_name = target.name + SUFFIX
        (folder / index_name).write_bytes(index.dump())
        written.append(target.with_name(index_name))
    moved: list[Path] = []
    try:
        for final in written:
            (folder / final.name).chmod(0o644)
            (folder / final.name).rename(final)
            moved.append(final)
    except BaseException:
        for final in moved:
            with suppress(OSError):
                final.unlink()
        raise
    _sync(target.parent)
    return written
