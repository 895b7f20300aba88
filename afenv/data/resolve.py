"""From a reference to the files that it leads to."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote

from afenv.data.access import DataAccess, failed
from afenv.data.metalink import read_metalink
from afenv.data.records import ZENODO, Documents, doi_record, invenio_record, open_data_record
from afenv.documents.data import (
    INSIDE,
    DataReference,
    LockedData,
    LockedDataFile,
    is_one_file,
    is_record,
    stated_data,
)
from afenv.errors import AfenvError
from afenv.record import replace
from afenv.store.fetch import Fetcher
from afenv.store.transport import SourceError, without_secrets

LONGEST = 255  # bytes of a file's name on the file systems of Linux


def resolve(
    reference: DataReference, access: DataAccess, *, documents: Documents | None = None
) -> LockedData:
    """The lock's entry of a reference with its files, as far as whoever lists them knows them.

    E640, E642 (no such record), E643 (no files, or not in the documented form), E644 (an unsafe name), E646,
    E647, E648; E001, E201 to E203.
    """
    stated = stated_data(reference, access.folder)
    if reference.metalink is not None:
        files = read_metalink(access.folder / reference.metalink, reference.name)
    elif is_record(reference.uri):
        files = _record(reference.uri, documents or Fetcher(access.store, access.settings, quiet=True))
    elif is_one_file(reference.uri):
        files = list(stated_data(replace(reference, select=()), access.folder).files)
    else:
        files = _folder(reference, access)
    chosen = [file for file in files if _wanted(file.path, reference.select)]
    if not chosen:
        what = f"`select` fits none of its files, such as {files[0].path}" if files else "it has no files"
        raise AfenvError("E643", f"the data {reference.name}: {what}", place=without_secrets(reference.uri))
    _check_names(chosen, reference)
    return replace(stated, files=tuple(sorted(chosen, key=lambda file: file.path)))


def _wanted(path: str, select: Iterable[str]) -> bool:
    patterns = list(select)
    return not patterns or any(fnmatchcase(path, pattern) for pattern in patterns)


def _check_names(files: list[LockedDataFile], reference: DataReference) -> None:
    paths = {file.path for file in files}
    seen: set[str] = set()
    for file in files:
        path = file.path
        parts = path.split("/")
        long = any(len(part.encode("utf-8", "replace")) > LONGEST for part in parts)
        if not INSIDE.match(path) or long or not path.isprintable():
            shown = path if len(path) < 200 else path[:200] + "…"
            message = f"the data {reference.name} has a file named {shown!r}, which is no safe path"
            raise AfenvError("E644", message, place=without_secrets(reference.uri))
        folders = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if path in seen or folders & paths:
            message = f"the data {reference.name} has {path!r} twice, or inside of another file"
            raise AfenvError("E644", message, place=without_secrets(reference.uri))
        seen.add(path)


def _record(uri: str, documents: Documents) -> list[LockedDataFile]:
    if uri.startswith("rucio:"):
        from afenv.data.rucio import rucio_files

        return rucio_files(uri)
    try:
        if uri.startswith("cernopendata:"):
            return open_data_record(uri.removeprefix("cernopendata:"), documents)
        rest = uri.partition("://")[2]
        if rest.startswith("opendata.cern.ch/record/"):
            number = rest.split("?")[0].removeprefix("opendata.cern.ch/record/").rstrip("/")
            return open_data_record(number, documents)
        if "zenodo.org/record" in rest:
            return invenio_record(ZENODO, rest.rstrip("/").rpartition("/")[2], documents)
        doi = uri.removeprefix("doi:") if uri.startswith("doi:") else unquote(rest.partition("/")[2])
        return doi_record(doi, documents)
    except AfenvError as error:
        if error.code == "E103":
            raise AfenvError("E642", "there is no such record", place=error.problems[0].place) from error
        raise


def _folder(reference: DataReference, access: DataAccess) -> list[LockedDataFile]:
    uri = reference.uri
    try:
        listed = access.persist(uri, lambda: access.source(uri).files(uri), threading.Event())
    except SourceError as error:
        raise failed(f"the data {reference.name}", [(uri, error)]) from error
    plain = uri.startswith(("root", "xroot"))
    return [
        LockedDataFile(path=path, size=size, uris=(uri + (path if plain else quote(path)),))
        for path, size in listed
    ]
