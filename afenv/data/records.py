"""Records of repositories, by their documented REST interfaces.

- CERN Open Data: ``GET /api/records/N``; files in ``metadata.files``, those of long lists in
  ``metadata._file_indices[].files``, each with ``uri``, ``size``, ``checksum`` (as ``cernopendata-client``
  reads it).
- InvenioRDM, Zenodo among them: ``GET /api/records/ID/files``; ``entries`` with ``key``, ``size``,
  ``checksum`` and ``links.content``.
- DataCite: ``GET /dois/DOI``; ``data.attributes.url`` is the page of the record, which tells whose it is;
  ``contentUrl`` the files, where a repository has given them.
- Dataverse: ``GET /api/datasets/:persistentId/``; ``data.latestVersion.files[].dataFile``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from afenv.documents.data import CHECKSUM_DIGITS, LockedDataFile, file_name
from afenv.errors import AfenvError

LIMIT = 256 << 20  # bytes of an answer: records with a hundred thousand files
OPEN_DATA = "https://opendata.cern.ch"
ZENODO = "https://zenodo.org"
DATACITE = "https://api.datacite.org"
_EOS = "root://eospublic.cern.ch/"
_DOI = re.compile(r"10\.[0-9]{4,9}(?:\.[0-9]+)*/\S+\Z")
_DIGITS = re.compile(r"[0-9]+\Z")


class Documents(Protocol):
    """Where answers come from."""

    def get(self, url: str, *, limit: int, accept: str | None = None) -> bytes:
        """The answer to a GET; AfenvError if there is none."""
        ...  # pragma: no cover


def open_data_record(record: str, documents: Documents) -> list[LockedDataFile]:
    """The files of a CERN Open Data record, with their replica over HTTPS."""
    if not _DIGITS.match(record):
        raise AfenvError("E640", f"{record!r} is not the number of a record of CERN Open Data")
    url = f"{OPEN_DATA}/api/records/{record}"
    metadata = _mapping(_answer(documents, url), "metadata", url)
    entries = [*_list(metadata, "files", url)]
    for index in _list(metadata, "_file_indices", url):
        entries += _list(index if isinstance(index, dict) else {}, "files", url)
    found = []
    for entry in entries:
        uri = _text(entry, "uri", url)
        name = uri.rstrip("/").rsplit("/", 1)[-1]
        uris = [uri]
        if uri.startswith(_EOS):
            uris.append(f"{OPEN_DATA}/{uri.removeprefix(_EOS).lstrip('/')}")
        found.append(_file(name, entry, tuple(uris), url))
    return found


def doi_record(doi: str, documents: Documents) -> list[LockedDataFile]:
    """The files of what a DOI names."""
    if not _DOI.match(doi):
        raise AfenvError("E640", f"{doi!r} is not a DOI such as 10.5281/zenodo.1234567")
    if doi.lower().startswith("10.5281/zenodo."):
        return invenio_record(ZENODO, doi.rpartition(".")[2], documents)
    url = f"{DATACITE}/dois/{quote(doi, safe='/')}"
    data = _mapping(_answer(documents, url), "data", url)
    attributes = _mapping(data, "attributes", url)
    page = _text(attributes, "url", url)
    parts = urlsplit(page)
    site = f"https://{parts.netloc}"
    if match := re.fullmatch(r"/record/([0-9]+)/?", parts.path):
        if parts.hostname == "opendata.cern.ch":
            return open_data_record(match[1], documents)
        return invenio_record(site, match[1], documents)
    if match := re.fullmatch(r"/records/([A-Za-z0-9-]+)/?", parts.path):
        return invenio_record(site, match[1], documents)
    if parts.path in ("/dataset.xhtml", "/citation"):
        return dataverse_record(site, doi, documents)
    content = attributes.get("contentUrl")
    uris = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    found = [LockedDataFile(path=file_name(uri), uris=(uri,)) for uri in uris if isinstance(uri, str) and uri]
    if not found:
        message = f"{page}, where the DOI leads, is not of a repository whose files can be listed"
        raise AfenvError("E643", message, place=url)
    return found


def invenio_record(site: str, record: str, documents: Documents) -> list[LockedDataFile]:
    """The files of a record of an InvenioRDM repository."""
    url = f"{site}/api/records/{quote(record, safe='')}/files"
    found = []
    for entry in _list(_answer(documents, url), "entries", url):
        key = _text(entry, "key", url)
        links = entry.get("links")
        content = links.get("content") if isinstance(links, dict) else None
        if not isinstance(content, str) or not content:
            content = f"{url}/{quote(key, safe='')}/content"
        found.append(_file(key, entry, (content,), url))
    return found


def dataverse_record(site: str, doi: str, documents: Documents) -> list[LockedDataFile]:
    """The files of a dataset of a Dataverse, in its latest version."""
    url = f"{site}/api/datasets/:persistentId/?persistentId=doi:{quote(doi, safe='/')}"
    version = _mapping(_mapping(_answer(documents, url), "data", url), "latestVersion", url)
    found = []
    for entry in _list(version, "files", url):
        about = _mapping(entry if isinstance(entry, dict) else {}, "dataFile", url)
        number = about.get("id")
        if isinstance(number, bool) or not isinstance(number, int):
            raise _unlike("a file without its number", url)
        folder = entry.get("directoryLabel")
        name = _text(about, "filename", url)
        path = f"{folder.strip('/')}/{name}" if isinstance(folder, str) and folder.strip("/") else name
        stated = about.get("checksum")
        facts = {"size": about.get("filesize")}
        if isinstance(stated, dict):
            kind = str(stated.get("type", "")).lower().replace("-", "")
            facts["checksum"] = f"{kind}:{stated.get('value', '')}"
        elif isinstance(about.get("md5"), str):
            facts["checksum"] = f"md5:{about['md5']}"
        found.append(_file(path, facts, (f"{site}/api/access/datafile/{number}",), url))
    return found


def _answer(documents: Documents, url: str) -> Mapping[str, Any]:
    content = documents.get(url, limit=LIMIT, accept="application/json")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise _unlike("the answer is not JSON", url) from None
    if not isinstance(value, dict):
        raise _unlike("the answer is not a JSON object", url)
    return value


def _unlike(message: str, url: str) -> AfenvError:
    return AfenvError("E643", message, place=url.partition("?")[0])


def _mapping(value: Mapping[str, Any], key: str, url: str) -> Mapping[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise _unlike(f"the answer has no {key!r}", url)
    return found


def _list(value: Mapping[str, Any], key: str, url: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise _unlike(f"{key!r} is not a list", url)
    return found


def _text(value: Any, key: str, url: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise _unlike(f"the answer has no {key!r}", url)
    return found


def _file(path: str, entry: Mapping[str, Any], uris: tuple[str, ...], url: str) -> LockedDataFile:
    size = entry.get("size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise _unlike(f"the size of {path} is {size!r}", url)
    checksums = _checksums(entry.get("checksum"), path, url)
    return LockedDataFile(path=path, size=size, checksums=checksums, uris=uris)


def _checksums(text: Any, path: str, url: str) -> dict[str, str]:
    """The checksum that a record states; an algorithm that is not known to us is left out."""
    if text in (None, ""):
        return {}
    algorithm, _, digits = str(text).partition(":")
    count = CHECKSUM_DIGITS.get(algorithm)
    if count is None:
        return {}
    digits = digits.lower()
    short = len(digits) < count and algorithm != "adler32"
    if short or not re.fullmatch(rf"[0-9a-f]{{1,{count}}}", digits):
        raise _unlike(f"the {algorithm} of {path} is {digits!r}", url)
    return {algorithm: digits.zfill(count)}
