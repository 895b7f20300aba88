"""``cvmfs_shrinkwrap``, which copies large subtrees of a repository faster than file by file.

Its specification has a line for each path: ``/p`` exactly that, ``/p/*`` all below, ``!/p`` left out. It
passes over what is missing without a word, so what it gave is looked at afterwards. It is not meant for
production stratum 1 servers: use it with a local stratum or proxy.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from afenv.cvmfs.catalogue import Entry
from afenv.errors import AfenvError
from afenv.record import record

SETTING = "AFENV_CVMFS_SHRINKWRAP"
LARGE = 1 << 30  # bytes of a subtree from which on it is used


@record
class Source:
    """The revision that is copied, and how the repository is reached."""

    repository: str
    root_hash: str
    strata: tuple[str, ...]
    proxies: tuple[str, ...]
    keys: tuple[Path, ...]


def find() -> tuple[str, ...]:
    """The command, as ``AFENV_CVMFS_SHRINKWRAP`` names it or as it is installed; empty if there is none."""
    given = os.environ.get(SETTING)
    if given is not None:
        return tuple(shlex.split(given))
    found = shutil.which("cvmfs_shrinkwrap")
    return (found,) if found else ()


def specification(entries: Mapping[str, Entry]) -> str:
    """The lines for these paths: each of them exactly, so that nothing else comes along. E145.

    A name with a character that the format gives a meaning cannot be said.
    """
    lines = []
    for path, entry in entries.items():
        if entry.kind == "d":
            continue
        if any(mark in path for mark in "*!^#\n") or path != path.strip():
            raise AfenvError("E145", f"{path!r} cannot be named to cvmfs_shrinkwrap", place=SETTING)
        lines.append(path)
    return "".join(f"{line}\n" for line in lines)


def configuration(source: Source, cache: Path) -> str:
    """The client's settings for one repository at one revision."""
    keys = {path.parent for path in source.keys}
    values = {
        "CVMFS_REPOSITORIES": source.repository,
        "CVMFS_REPOSITORY_NAME": source.repository,
        "CVMFS_SERVER_URL": ";".join(source.strata),
        "CVMFS_HTTP_PROXY": ";".join(source.proxies) or "DIRECT",
        "CVMFS_PUBLIC_KEY": ":".join(str(path) for path in source.keys),
        "CVMFS_KEYS_DIR": str(min(keys)) if keys else "",
        "CVMFS_ROOT_HASH": source.root_hash,
        "CVMFS_CACHE_BASE": str(cache),
        "CVMFS_SHARED_CACHE": "no",
    }
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items() if value)


def command(
    program: Sequence[str], repository: str, config: Path, spec: Path, target: Path, jobs: int
) -> tuple[str, ...]:
    """The whole command line."""
    return (
        *program,
        *("-r", repository, "-f", str(config), "-t", str(spec), "--dest-base", str(target)),
        *("-j", str(jobs)),
    )


def shrinkwrap(
    program: Sequence[str], source: Source, entries: Mapping[str, Entry], target: Path, *, jobs: int
) -> Path:
    """Copy paths of a repository below ``target/NAME``; that folder. E145, E149; E317 for what is missing."""
    target.mkdir(parents=True, exist_ok=True)
    config, spec = target / "shrinkwrap.conf", target / "shrinkwrap.spec"
    spec.write_text(specification(entries), encoding="utf-8", errors="surrogateescape")
    config.write_text(configuration(source, target / "cache"))
    words = command(program, source.repository, config, spec, target, jobs)
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise AfenvError("E149", f"{words[0]} does not run: {error.strerror}", place=SETTING) from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        message = f"cvmfs_shrinkwrap failed with exit status {done.returncode}: {last[0][:300]}"
        raise AfenvError("E149", message, place=source.repository)
    base = target / source.repository
    _check(base, entries.items())
    return base


def _check(base: Path, entries: Iterable[tuple[str, Entry]]) -> None:
    """That all is there with its size; and access times of 1970, so that it can be told what is read."""
    for path, entry in entries:
        place = f"{base}{path}"
        try:
            status = os.lstat(place)
        except OSError:
            raise AfenvError("E317", f"cvmfs_shrinkwrap left {path} out", place=str(base)) from None
        if entry.kind == "f" and status.st_size != entry.size:
            message = f"cvmfs_shrinkwrap wrote {status.st_size} bytes of {path}, which has {entry.size}"
            raise AfenvError("E317", message, place=str(base))
        if entry.kind != "d":
            os.utime(place, (0, entry.mtime), follow_symlinks=False)
