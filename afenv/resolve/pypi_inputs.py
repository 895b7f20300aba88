"""What is asked of PyPI: requirements one by one, and those of a requirements.txt.

A requirements.txt is given to uv as it is; it is read here to find the files that it includes and the
lines that cannot be supported, so that their errors have a place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_INCLUDE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)(?:\s*=\s*|\s+|(?=[^-\s]))(?P<name>.+)\Z")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s|=|\Z)")
_LOCAL = re.compile(r"(?:\.{0,2}/|file:|~)|[^\s;@\[]*/|\.{1,2}(?:\[|\Z)")
_URL = re.compile(r"(?:[a-z]+\+)?(?:https?|ssh|git)://")
_COMMENT = re.compile(r"(?:\A|\s)#.*\Z")


def normalised(name: str) -> str:
    """A project name in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirement(text: str, place: str) -> Requirement:
    """A requirement (PEP 508); E013 if it is not one.

    E016 if it names a file of this machine, E107 if it is source that would have to be built: a repository,
    or an archive at a URL that is no wheel.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    if _LOCAL.match(text.strip()) or "@ file:" in text:
        raise AfenvError(
            "E016",
            f"{text!r} names a local file or folder; only packages of an index and wheels at a URL "
            "are supported yet",
            place=place,
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise AfenvError("E013", f"{text!r} is not a requirement: {reason}", place=place) from None
    if requirement.url is not None:
        check_url(requirement.url, place)
    return requirement


def check_url(url: str, place: str) -> None:
    """E107 for a URL that is not that of a wheel, E013 for what is none."""
    try:
        path = urlsplit(url).path
    except ValueError as error:
        raise AfenvError("E013", f"{url} is not a URL: {error}", place=place) from None
    if not path.endswith(".whl"):
        raise AfenvError("E107", f"{url} is source, not a wheel", place=place)


def read_text(path: Path) -> str:
    """A text file; E001 if it cannot be read, E002 if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AfenvError("E002", "the file is not text in UTF-8", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot read: {error.strerror}", place=str(path)) from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines of a requirements file with the number of their first physical line."""
    number, start, parts = 0, 1, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        if not parts:
            start = number
        line = raw.rstrip()
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            parts.append(line[:-1])
            continue
        parts.append(line)
        logical = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if logical:
            yield start, logical
    if parts and (logical := _COMMENT.sub("", "".join(parts)).strip()):
        yield start, logical


def requirements_files(path: Path) -> tuple[Path, ...]:
    """A requirements.txt and all files that it includes with ``-r`` and ``-c``, in order, each once.

    Raises E001 for a file that is missing, E013 for a line that is no requirement, E016 for what is not
    supported yet: local projects, editable installs, files included by URL.
    """
    found: dict[Path, None] = {}

    def visit(file: Path) -> None:
        if file in found:
            return
        text = read_text(file)
        found[file] = None
        for number, line in _lines(text):
            place = f"{file}:{number}"
            if include := _INCLUDE.match(line):
                name = include["name"].strip().strip("'\"")
                if "://" in name:
                    raise AfenvError("E016", f"including {name} by URL is not supported yet", place=place)
                visit(Path(os.path.normpath(file.parent / name)))
            elif _EDITABLE.match(line):
                raise AfenvError(
                    "E016",
                    f"an editable install ({line}) is not supported yet",
                    place=place,
                    remedy="Put the project under `code` and set PYTHONPATH under `variables`.",
                )
            elif _URL.match(line):
                check_url(line.split()[0], place)
            elif not line.startswith("-"):
                parse_requirement(re.split(r"\s--?[a-z]", line)[0].strip(), place)

    visit(path)
    return tuple(found)


def referred_files(section: PypiSection, folder: Path) -> tuple[Path, ...]:
    """The files that a section refers to, included ones too: their content is part of the request."""
    if section.lock is not None:
        return (folder / section.lock,)
    if section.file is None:
        return ()
    path = folder / section.file
    return (path,) if path.suffix == ".toml" else requirements_files(path)
