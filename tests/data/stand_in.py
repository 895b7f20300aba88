"""A strict stand-in for the REST interfaces of repositories, as they are documented.

It answers exactly the requests that the documentation names, and 404 to anything else. The real services are
not reached by tests.
"""

from __future__ import annotations

import json
from typing import Any


def open_data(record: int, files: list[dict[str, Any]], indices: list[dict[str, Any]] | None = None) -> Any:
    """``GET /api/records/N`` of CERN Open Data."""
    metadata: dict[str, Any] = {"recid": str(record), "title": "a record", "files": files}
    if indices is not None:
        metadata["_file_indices"] = indices
    url = f"https://opendata.cern.ch/api/records/{record}"
    return {
        "created": "2026-01-01T00:00:00+00:00",
        "id": record,
        "links": {"self": url},
        "metadata": metadata,
    }


def invenio(site: str, record: str, files: dict[str, bytes]) -> Any:
    """``GET /api/records/ID/files`` of InvenioRDM."""
    from .conftest import checksums

    base = f"{site}/api/records/{record}/files"
    entries = [
        {
            "key": key,
            "checksum": "md5:" + checksums(content)["md5"],
            "size": len(content),
            "mimetype": "application/octet-stream",
            "storage_class": "L",
            "links": {"self": f"{base}/{key}", "content": f"{base}/{key}/content"},
        }
        for key, content in files.items()
    ]
    return {
        "enabled": True,
        "links": {"self": base},
        "entries": entries,
        "default_preview": None,
        "order": [],
    }


def datacite(doi: str, url: str, content: Any = None) -> Any:
    """``GET /dois/DOI`` of DataCite (JSON:API)."""
    attributes = {"doi": doi, "url": url, "contentUrl": content, "state": "findable"}
    return {"data": {"id": doi, "type": "dois", "attributes": attributes}}


def dataverse(files: list[dict[str, Any]]) -> Any:
    """``GET /api/datasets/:persistentId/`` of Dataverse."""
    version = {"versionState": "RELEASED", "files": files}
    return {"status": "OK", "data": {"id": 1, "latestVersion": version}}


class Documents:
    """Answers by URL; what else is asked is not there. ``asked`` has the requests."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get(self, url: str, *, limit: int, accept: str | None = None) -> bytes:
        """The answer as bytes."""
        from afenv.errors import AfenvError

        self.asked.append(url)
        assert accept == "application/json"
        if url not in self.answers:
            raise AfenvError("E103", "404 Not Found", place=url)
        answer = self.answers[url]
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()
