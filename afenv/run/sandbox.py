"""A sandbox: commands run on the files of an image, and what they change is kept apart.

A command sees the image's files and nothing else of the host, as an ordinary user to whom all files
belong; it has no network but the loopback, its own processes, a ``/tmp`` that is empty at first and thrown
away after the last command, and variables and a host name that it is told. What it writes goes to a
folder on top of the image's files, an overlay, or, where the kernel does not let an ordinary user lay one,
into a copy of them. The namespaces are bubblewrap's work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afenv.run.sandbox_limits import Limits
from afenv.run.sandbox_tools import can_overlay, find_bubblewrap, find_tool
from afenv.run.sandbox_watch import Outcome, Output, watch
from afenv.store.content import ContentStore, write_error
from afenv.store.placing import FICLONE
from afenv.store.trees import FOLDER, remove_tree

HOST_NAME = "afenv"
MOUNT_POINTS = ("dev", "proc", "tmp")
_UNSET = tuple(  # what there is at most, for bubblewrap before 0.5
    word for name in ("LC_ALL", "OLDPWD", "PATH", "PWD", "SHLVL", "_") for word in ("--unsetenv", name)
)
_SCRIPT = '"$0" -t overlay overlay -o "$1" merged && shift && exec "$@"'


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxRoot:
    """The files that a command sees, and where its changes are.

    ``lowers`` are folders, the highest first, that are only read. ``changed`` is, with ``overlay``, the
    upper folder of an overlay, and else a copy of everything.
    """

    work: Path
    lowers: tuple[Path, ...]
    changed: Path
    overlay: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """How it is inside: all variables, the working folder, and the numbers of user and group.

    ``binds`` are folders of the host and where they are shown; these places must exist. ``around`` are words
    before the whole command line, of a program that watches it.
    """

    variables: Mapping[str, str]
    folder: str = "/"
    user: int = 1000
    group: int = 1000
    binds: tuple[tuple[Path, str], ...] = ()
    around: tuple[str, ...] = ()


@contextlib.contextmanager
def sandbox_root(
    lowers: Sequence[Path], store: ContentStore, *, folders: Sequence[str] = ()
) -> Iterator[SandboxRoot]:
    """Something to run commands on; it is removed at the end of the block.

    ``folders`` are paths that are to exist inside, and are no part of the changes. E402, E403, E520, E521.
    """
    find_bubblewrap()
    work = store.folder / FOLDER / f".build-{os.urandom(4).hex()}"
    try:
        skeleton = work / "skeleton"
        for name in (*MOUNT_POINTS, *folders):
            (skeleton / name.strip("/")).mkdir(parents=True, exist_ok=True)
        overlay = can_overlay(work)
        changed = work / "changed"
        changed.mkdir()
        (work / "tmp").mkdir()
        (work / "tmp").chmod(0o1777)
        below = (*lowers, skeleton)
        if not overlay:
            for lower in reversed(below):
                _copy(lower, changed)
        yield SandboxRoot(work=work, lowers=below, changed=changed, overlay=overlay)
    except OSError as error:
        raise write_error(error, work) from error
    finally:
        with contextlib.suppress(OSError):
            remove_tree(work)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree over another; what was linked hard becomes files of their own."""
    with os.scandir(source) as entries:
        for entry in entries:
            to = target / entry.name
            folder = entry.is_dir(follow_symlinks=False)
            if to.is_symlink() or (to.exists() and to.is_dir() != folder):
                _remove(to)
            if entry.is_symlink():
                to.symlink_to(os.readlink(entry.path))  # noqa: PTH115
                shutil.copystat(entry.path, to, follow_symlinks=False)
            elif folder:
                to.mkdir(mode=0o700, exist_ok=True)
                _copy(Path(entry.path), to)
            elif entry.is_file():
                _remove(to)
                _copy_file(entry.path, to)
    shutil.copystat(source, target)


def _copy_file(source: str, target: Path) -> None:
    with open(source, "rb") as original, target.open("xb") as copy:  # noqa: PTH123
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)
    shutil.copystat(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def run_inside(
    root: SandboxRoot, command: Sequence[str], inside: Inside, limits: Limits, output: Output
) -> Outcome:
    """Run a command to its end, or to the first limit that it breaks, and say how it went.

    When this returns or raises, no process of the command is left. E520, E521.
    """
    options = find_bubblewrap().options
    if root.overlay:
        target = "merged"
        prefix = _overlay(root)
    else:
        target = "changed"
        prefix = []
    read, write = os.pipe()
    arguments = [
        find_bubblewrap().path,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"),
        *(("--disable-userns",) if "--disable-userns" in options else ()),
        *("--uid", str(inside.user), "--gid", str(inside.group), "--cap-drop", "ALL"),
        *("--hostname", HOST_NAME, "--info-fd", str(write)),
        *("--bind", target, "/", "--proc", "/proc", "--dev", "/dev"),
        *("--bind", "tmp", "/tmp"),  # noqa: S108
        *(word for source, target in inside.binds for word in ("--bind", str(source.absolute()), target)),
        *("--chdir", inside.folder),
        *(("--clearenv",) if "--clearenv" in options else _UNSET),
        *(word for item in sorted(inside.variables.items()) for word in ("--setenv", *item)),
        *("--", *command),
    ]
    try:
        return watch(
            [*inside.around, *prefix, *arguments],
            root.work,
            (root.changed, root.work / "tmp"),
            limits,
            output,
            info=read,
            passed=write,
        )
    finally:
        os.close(read)


def _overlay(root: SandboxRoot) -> list[str]:
    """What comes before bubblewrap to lay the overlay: names of links, so that no host path shows inside."""
    for name in ("merged", "overlay"):
        (root.work / name).mkdir(exist_ok=True)
    names = []
    for number, lower in enumerate(root.lowers):
        link = root.work / f"lower{number}"
        if not link.is_symlink():
            link.symlink_to(lower.absolute())
        names.append(link.name)
    options = f"userxattr,lowerdir={':'.join(names)},upperdir=changed,workdir=overlay"
    unshare, mount = find_tool("unshare"), find_tool("mount")
    assert unshare and mount  # can_overlay() used them
    return [
        *(unshare, "--user", "--map-root-user", "--mount", "--propagation", "private", "--"),
        *("/bin/sh", "-c", _SCRIPT, mount, options),
    ]
