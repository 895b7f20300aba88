"""The user's line in the image's ``/etc/passwd``, for an engine that does not add one itself.

Without it programs that ask for the name of the user fail; Podman and Apptainer add it. Sources of the
formats: passwd(5), group(5).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

from afenv.oci.model import Image
from afenv.run.engines import Engine
from afenv.run.request import HOME, USER, Mount
from afenv.store.content import ContentStore

FILES = ("passwd", "group")
_FORM = 1


def with_user(passwd: str, group: str, uid: int, gid: int) -> tuple[str, str]:
    """Both files with a line for the user and the group, where the image has none of that number."""
    return (
        _with_line(passwd, uid, f":x:{uid}:{gid}::{HOME}:/bin/sh"),
        _with_line(group, gid, f":x:{gid}:"),
    )


def _with_line(text: str, number: int, rest: str) -> str:
    records = [line.split(":") for line in text.splitlines()]
    if any(len(record) > 2 and record[2] == str(number) for record in records):
        return text
    taken = {record[0] for record in records}
    name = next(name for name in (USER, "user", f"user{number}") if name not in taken)
    return f"{text.rstrip()}\n{name}{rest}\n".lstrip("\n")


def account_mounts(
    engine: Engine, image: Image, name: str, store: ContentStore, uid: int, gid: int
) -> tuple[Mount, ...]:
    """Mounts of the two files, made anew, where the image of that ``name`` in the engine lacks the user.

    The image's own files are asked for once and then remembered. An image without ``/etc`` gets none.
    """
    key = image.image_id
    known = store.load_key("accounts", key)
    if not isinstance(known, list) or len(known) != 3 or known[0] != _FORM:
        known = [_FORM, *_files(engine, name)]
        store.save_key("accounts", key, known)
    before: Sequence[str | None] = known[1:]
    if before[0] is None:
        return ()
    after = with_user(before[0] or "", before[1] or "", uid, gid)
    return tuple(
        Mount(store.path(store.put(new.encode())), f"/etc/{file}", read_only=True)
        for file, old, new in zip(FILES, before, after, strict=True)
        if new != old and old is not None
    )


def _files(engine: Engine, name: str) -> list[str | None]:
    """The two files of an image that the engine has; None for one that is not there, or not a file."""
    made = engine.call("create", name, "true")
    container = made.stdout.strip()
    if made.returncode != 0 or not container:
        return [None for _ in FILES]
    try:
        return [_content(engine.call_bytes("cp", f"{container}:/etc/{file}", "-")) for file in FILES]
    finally:
        engine.call("rm", "--force", container)


def _content(archive: bytes) -> str | None:
    """The content of the only file in a tar archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isfile() else None
            return content.read().decode("utf-8", "replace") if content else None
    except tarfile.TarError:
        return None
