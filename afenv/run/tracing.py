"""What a command read below ``/cvmfs``: from the log of strace, or of the CVMFS client itself. Pure.

The client's trace file (``CVMFS_TRACEFILE``) is CSV: time, code, path in the repository, name of the call;
codes are 1 open, 2 opendir, 3 readlink, 4 lookup, 5 statfs, 6 getattr, 7 listxattr, 8 getxattr, negative ones
are the client's own.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

CALLS = (
    "open,openat,openat2,execve,execveat,readlink,readlinkat,stat,lstat,newfstatat,statx,access,faccessat,"
    "faccessat2"
)
OPTIONS = ("-f", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-e", "signal=none", "-o")
_CALL = re.compile(
    r"(?:\d+ +)?(?P<call>[a-z0-9_]+)\((?:(?:AT_FDCWD|\d+)(?:<(?P<base>[^>]*)>)?, )?"
    r'"(?P<path>(?:[^"\\]|\\.)*)"'
    r".*\) += (?P<result>-?\d+)"
)
_READING = ("open", "openat", "openat2", "execve", "execveat", "readlink", "readlinkat")
_OPEN, _READLINK = "1", "3"
_NOT_DIRECTORY = re.compile(r"O_DIRECTORY|O_PATH")


@dataclass(slots=True)
class Traced:
    """Absolute paths below ``/cvmfs`` that were read, and those that were looked for and not there."""

    read: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)


def strace_command(strace: str, log: str) -> tuple[str, ...]:
    """The words before a command that let strace write its calls to files into ``log``."""
    return (strace, *OPTIONS, log)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    raw = text.encode("latin-1", "replace").decode("unicode_escape")
    return raw.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def parse_strace(lines: Iterable[str]) -> Traced:
    """What the log of :func:`strace_command` says; a call that another one interrupted is put together."""
    found = Traced()
    begun: dict[str, str] = {}
    for line in lines:
        process = line.partition(" ")[0]
        if line.rstrip().endswith("<unfinished ...>"):
            begun[process] = line.rpartition("<unfinished")[0]
            continue
        resumed = re.search(r"<\.\.\. [a-z0-9_]+ resumed> ?", line)
        if resumed:
            line = begun.pop(process, "") + line[resumed.end() :]
        match = _CALL.match(line)
        if match is None:
            continue
        path = _unescaped(match["path"])
        if not path.startswith("/"):
            base = match["base"]
            if not base:
                continue
            path = posixpath.join(_unescaped(base), path)
        if not path.startswith("/cvmfs/"):
            continue
        path = posixpath.normpath(path) if ".." not in path.split("/") else path
        if int(match["result"]) < 0:
            if "ENOENT" in line or "ENOTDIR" in line:
                found.missed.add(path)
        elif match["call"] in _READING and not _NOT_DIRECTORY.search(line):
            found.read.add(path)
    return found


def parse_client_trace(text: str, repository: str) -> set[str]:
    """The paths that the client's trace file says were opened, or read as links."""
    found = set()
    for row in csv.reader(text.splitlines()):
        if len(row) >= 3 and row[1] in (_OPEN, _READLINK) and row[2].startswith("/"):
            found.add(f"/cvmfs/{repository}{row[2]}")
    return found


def named_in(text: str) -> set[str]:
    """The paths below ``/cvmfs`` that some output names, such as that of a program that missed a file."""
    return {match.rstrip(".,:;'\")") for match in re.findall(r"/cvmfs/[^\s'\"<>|:;,()\[\]]+", text)}
