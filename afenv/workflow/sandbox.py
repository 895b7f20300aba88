"""Commands in the sandbox, from the workflow's side: what is inside, what is shown, what is kept of it."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.layers.build_diff import changes, write_changes
from afenv.layers.listing import ListingEntry, read_listing, write_listing
from afenv.layers.model import Layer
from afenv.layers.writer import LayerWriter
from afenv.record import record
from afenv.run.sandbox import Inside, SandboxRoot, run_inside, sandbox_root
from afenv.run.sandbox_limits import Limits, load_limits
from afenv.run.sandbox_watch import Output
from afenv.store.content import ContentStore
from afenv.workflow.project import Project

FORM = 1  # of what commands find in the sandbox; counted up when that changes

_DEFAULTS = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",  # it would hold the times of sources
    "PYTHONHASHSEED": "0",
    "TERM": "dumb",
    "TZ": "UTC",
    "XDG_CACHE_HOME": "/tmp/.cache",  # noqa: S108 - a folder of the sandbox
}
_NETWORK = re.compile(
    rb"name resolution|resolve host|Network is unreachable|getaddrinfo|unknown host|Could not resolve"
    rb"|nodename nor servname|Failed to fetch|No address associated",
    re.IGNORECASE,
)

_FORK = re.compile(
    rb"cannot fork\s*$|can't fork|fork: (?:retry: )?Resource temporarily|can't start new thread"
    rb"|pthread_create[^\n]*Resource temporarily|BlockingIOError: \[Errno 11\]",
    re.IGNORECASE | re.MULTILINE,
)


@record
class Work:
    """What is run in the sandbox, on which files: everything that decides the result.

    ``below`` are the diff_ids of the layers whose files are there, ``lowers`` folders with them, the
    highest first; ``commands`` are words, and ``names`` say for people what each is.
    """

    below: tuple[str, ...]
    lowers: tuple[Path, ...]
    commands: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    variables: Mapping[str, str]
    folder: str
    user: int
    group: int
    time: int

    def inputs(self) -> str:
        """The digest of everything that the result depends on."""
        return sha256_bytes(
            canonical.compact(
                {
                    "sandbox": FORM,
                    "below": list(self.below),
                    "commands": [list(command) for command in self.commands],
                    "variables": dict(self.variables),
                    "folder": self.folder,
                    "user": [self.user, self.group],
                    "time": self.time,
                }
            )
        )


def variables_inside(image: Mapping[str, str], home: str, time: int) -> dict[str, str]:
    """The variables that commands find: those of the image, what is fixed, and what makes runs alike."""
    fixed = {"HOME": home, "SOURCE_DATE_EPOCH": str(time), "TMPDIR": "/tmp"}  # noqa: S108
    return _DEFAULTS | dict(image) | fixed


def account(user: str, lowers: Sequence[Path], home: str) -> tuple[int, int, str]:
    """Numbers and home folder of a user as an image's config names it, by the image's ``/etc/passwd``."""
    name, _, group = user.partition(":")
    for lower in lowers:
        with contextlib.suppress(OSError):
            lines = (lower / "etc/passwd").read_text("utf-8", "surrogateescape").splitlines()
            for fields in (line.split(":") for line in lines):
                if len(fields) >= 6 and name in (fields[0], fields[2]):
                    gid = int(group) if group.isdigit() else int(fields[3])
                    return int(fields[2]), gid, fields[5] or home
            break
    number = int(name) if name.isdigit() else 1000
    return number, int(group) if group.isdigit() else number, home


def run_work(project: Project, work: Work, log: Path, source: str) -> Layer:
    """Run the commands, and put what they changed into the store as a layer, which ``source`` names.

    Output goes to ``log``, and is shown unless the project is quiet. E410 for a command that fails, E411
    for one that breaks a limit, E520 or E521 where there can be no sandbox, E402, E403.
    """
    with run_commands(project, work, log) as root:
        found = changes(root.changed, root.lowers, overlay=root.overlay)
        with project.store.writer(durable=False) as blob:
            writer = LayerWriter(blob, mtime=work.time)
            write_changes(found, writer)
            written = writer.finish()
            blob.commit(written.digest)
    return Layer(
        diff_id=written.diff_id,
        digest=written.digest,
        size=written.size,
        source=source,
        listing=write_listing(project.store, written.entries),
    )


@contextlib.contextmanager
def run_commands(project: Project, work: Work, log: Path) -> Iterator[SandboxRoot]:
    """Run the commands; in the block, what they left behind can be read."""
    inside = Inside(variables=work.variables, folder=work.folder, user=work.user, group=work.group)
    folders = [work.folder, work.variables["HOME"]]
    with sandbox_root(work.lowers, project.store, folders=folders) as root, log.open("wb") as file:
        limits = load_limits(root.work)
        for command, name in zip(work.commands, work.names, strict=True):
            _run(root, command, name, inside, limits, file, log, show=None if project.quiet else _show)
        yield root


def _show(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.flush()


def _run(
    root: SandboxRoot,
    command: Sequence[str],
    name: str,
    inside: Inside,
    limits: Limits,
    file: BinaryIO,
    log: Path,
    show: Callable[[bytes], object] | None,
) -> None:
    output = Output(file, show)
    output.take(f"+ {name}\n".encode("utf-8", "surrogateescape"))
    start = file.tell()
    outcome = run_inside(root, command, inside, limits, output)
    if outcome.broken:
        raise AfenvError(
            "E411",
            f"{_short(name)} was stopped: {outcome.broken}",
            place=str(log),
            remedy=f"Correct the command, or raise {outcome.limit}. The output is in {log}.",
        )
    if not outcome.status:
        return
    said = bytes(output.tail)
    if b"\nbwrap: " in said:
        words = said.rpartition(b"\nbwrap: ")[2].decode("utf-8", "replace").strip()
        if words.startswith("execvp"):
            raise AfenvError(
                "E410",
                f"{_short(name)} cannot be started: {words}",
                place=str(log),
                remedy="Commands are run by /bin/sh: add a shell, such as the package dash, to the base.",
            )
        raise AfenvError("E520", f"the sandbox cannot be made: {words}", remedy="")
    remedy = f"The whole output is in {log}."
    if file.tell() >= start and _NETWORK.search(said):
        remedy = (
            "There is no network in the sandbox: what the command downloads has to be declared in the "
            f"manifest, as a package or as code. {remedy}"
        )
    if _FORK.search(said):
        raise AfenvError(
            "E411",
            f"{_short(name)} failed: it could not start more processes",
            place=str(log),
            remedy=f"Correct the command, or raise AFENV_BUILD_PROCESSES. {remedy}",
        )
    status = outcome.status
    how = f"exit status {status}"
    if status > 128:
        with contextlib.suppress(ValueError):
            how = f"the signal {signal.Signals(status - 128).name}"
    raise AfenvError("E410", f"{_short(name)} failed with {how}", place=str(log), remedy=remedy)


def _short(name: str) -> str:
    """A command in a sentence."""
    line, newline, _ = name.strip().partition("\n")
    return repr(line[:120] + (" …" if newline or len(line) > 120 else ""))


def known_layer(store: ContentStore, inputs: str, source: str) -> Layer | None:
    """The layer that these inputs gave before, if the store has it."""
    value = store.load_key("sandbox", inputs)
    try:
        if value and store.trusted(value["digest"], value["size"]) and store.has(value["listing"]):
            return Layer(**value, source=source)
    except (TypeError, KeyError):
        pass
    return None


def remember_layer(store: ContentStore, inputs: str, layer: Layer) -> None:
    """Keep the layer for the next time with the same inputs."""
    store.sync()
    value = {"diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size, "listing": layer.listing}
    store.save_key("sandbox", inputs, value)


def differences(store: ContentStore, one: Layer, other: Layer) -> list[str]:
    """What differs between two layers, in words: a path and how, each."""
    first, second = (
        {entry.path: entry for entry in read_listing(store, each.listing)} for each in (one, other)
    )
    found = []
    for path in sorted(first.keys() | second.keys()):
        a, b = first.get(path), second.get(path)
        if a != b:
            found.append(f"/{path}: {_how(a, b)}")
    return found


def _how(one: ListingEntry | None, other: ListingEntry | None) -> str:
    if one is None or other is None:
        return f"only in the {'second' if one is None else 'first'} run"
    kinds = {"f": "a file", "d": "a folder", "l": "a symbolic link", "h": "a hard link"}
    if one.kind != other.kind:
        return f"{kinds[one.kind]}, then {kinds[other.kind]}"
    parts: list[Any] = []
    if one.mode != other.mode:
        parts.append(f"mode {one.mode:o}, then {other.mode:o}")
    if one.target != other.target:
        parts.append(f"leads to {one.target}, then {other.target}")
    if (one.size, one.crc32) != (other.size, other.crc32):
        sizes = f"{one.size} bytes, then {other.size}" if one.size != other.size else f"{one.size} bytes"
        parts.append(f"other content ({sizes})")
    return "; ".join(parts)


def quoted(words: Sequence[str]) -> str:
    """Words as a person would type them."""
    return shlex.join(words)
