"""CERN Analysis Preservation's REST API: a draft analysis, its files, and publishing it.

There is no reference of this API on the web without a login; what is written here was read from the public
client, https://github.com/cernanalysispreservation/cap-client (``cap_client/api``, and the recorded
conversations of its tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.submit.connection import Connection, Window, check_location, mapping, objects
from afenv.submit.description import Description
from afenv.submit.files import Sent
from afenv.submit.state import State

URL = "https://analysispreservation.cern.ch"


def deposit_document(described: Description, kind: str) -> dict[str, Any]:
    """The metadata of a draft: the type of the analysis, and the title that every type has.

    The other fields depend on the type, and are filled in by its people; what afenv knows is in the crate.
    """
    return {"$ana_type": kind, "general_title": described.title}


class CapDeposit:
    """One bag's analysis at CERN Analysis Preservation."""

    def __init__(self, connection: Connection, state: State) -> None:
        self._connection = connection
        self._state = state

    def ensure_draft(self, document: Mapping[str, Any]) -> None:
        """There is one draft, whose identifier is in the state."""
        if self._state["record"] is not None:
            answer = self._connection.ask("GET", self._path, none=(404, 410))
            if answer.status == 200:
                self._keep(answer.document)
                return
            self._state.forget_record()
        if self._state["step"] == "creating" and self._adopt(document):
            return
        self._state.update(step="creating")
        answer = self._connection.ask("POST", "api/deposits/", value=document, good=(201,), again=False)
        self._keep(answer.document)

    @property
    def _path(self) -> str:
        return f"api/deposits/{self._state['record']}"

    def _adopt(self, document: Mapping[str, Any]) -> bool:
        """Look for an own draft with this title and no files: made, although its answer was lost."""
        answer = self._connection.ask("GET", "api/deposits/?q=&by_me=True")
        for hit in objects(mapping(answer.document.get("hits")).get("hits")):
            title = mapping(hit.get("metadata")).get("general_title")
            if title == document["general_title"] and not hit.get("files") and hit.get("status") == "draft":
                self._keep(hit)
                return True
        return False

    def _keep(self, document: Any) -> None:
        try:
            status = document.get("status")
            page = (document.get("links") or {}).get("html")
            self._state.update(
                record=str(document["id"]),
                url=str(page) if page else None,
                step="published" if status == "published" else "draft",
            )
        except (AttributeError, KeyError, TypeError):
            raise AfenvError(
                "E745", "the server's answer is not an analysis", place=self._connection.base
            ) from None

    def ensure_files(self, files: Sequence[Sent], progress: Progress) -> list[str]:
        """The draft has these files, whole; what was sent now, by name. E748 if one arrived as another."""
        answer = self._connection.ask("GET", self._path)
        there = {str(one.get("key")): one for one in objects(answer.document.get("files"))}
        try:
            bucket = self._connection.url(answer.document["links"]["bucket"])
        except (KeyError, TypeError):
            raise AfenvError(
                "E745", "the analysis has no place for files", place=self._connection.base
            ) from None
        sent = []
        for file in files:
            if self._same(file, there.get(file.name)):
                progress.advance(file.size)
                continue
            with file.path.open("rb") as opened:
                body = Window(opened, 0, file.size, progress.advance)
                url = check_location(f"{bucket}/{quote(file.name, safe='')}")
                answer = self._connection.ask("PUT", url, body=body)
            if not self._same(file, answer.document):
                raise AfenvError(
                    "E748", f"{file.name} arrived as something else", place=self._connection.base
                )
            self._state.file(file.name).update(md5=file.md5, size=file.size, done=True)
            self._state.save()
            sent.append(file.name)
        return sent

    def _same(self, file: Sent, entry: Any) -> bool:
        if not isinstance(entry, dict) or entry.get("size") != file.size:
            return False
        return entry.get("checksum") == f"md5:{file.md5}"

    def publish(self) -> None:
        """Publish the draft."""
        self._state.update(step="publishing")
        self._connection.ask("POST", f"{self._path}/actions/publish", value={}, again=False)
        self._state.update(step="published")
