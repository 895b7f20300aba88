"""InvenioRDM's REST API: a draft, its DOI, its files, and publishing it.

Sources: https://inveniordm.docs.cern.ch/reference/rest_api_drafts_records/ and, for files in parts,
https://inveniordm.docs.cern.ch/reference/file_transfer/ with the code of invenio-records-resources, which
says what the page does not: where the parts go, and that all but the last have one size.

Every step first asks the server what there is. So a submission that was broken off anywhere goes on by
being called again, and nothing that the server has is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.submit.connection import Answer, Connection, Window, check_location, mapping, objects, told
from afenv.submit.files import Sent
from afenv.submit.state import State

NATIVE = "application/vnd.inveniordm.v1+json"  # Zenodo answers in an older form without it
MULTIPART_FROM = 1 << 30  # bytes: a smaller file goes in one request
PART_SIZE = 64 << 20  # bytes at least
MOST_PARTS = 10_000  # S3 has no more


class InvenioRecord:
    """One bag's record at an InvenioRDM server."""

    def __init__(
        self,
        connection: Connection,
        state: State,
        *,
        multipart_from: int = MULTIPART_FROM,
        part_size: int = PART_SIZE,
    ) -> None:
        self._connection = connection
        self._state = state
        self._multipart_from = multipart_from
        self._part_size = part_size

    def _ask(self, method: str, path: str, **options: Any) -> Answer:
        return self._connection.ask(method, path, accept=NATIVE, **options)

    @property
    def _draft(self) -> str:
        return f"api/records/{self._state['record']}/draft"

    def is_published(self) -> bool:
        """Whether the record is published already: then there is nothing left to do."""
        if self._state["record"] is None:
            return False
        answer = self._ask("GET", f"api/records/{self._state['record']}", none=(403, 404, 410))
        if answer.status != 200 or answer.document.get("is_published") is False:
            return False
        self._keep(answer.document, "published")
        return True

    def ensure_draft(self, document: Mapping[str, Any], identity: str) -> None:
        """There is one draft, whose identifier is in the state."""
        if self._state["record"] is not None:
            answer = self._ask("GET", self._draft, none=(404, 410))
            if answer.status == 200:
                self._keep(answer.document, "draft")
                return
            self._state.forget_record()
        if self._state["step"] == "creating" and self._adopt(identity):
            return
        self._state.update(step="creating")
        answer = self._ask("POST", "api/records", value=document, again=False)
        self._keep(answer.document, "draft")

    def _adopt(self, identity: str) -> bool:
        """Look for a draft that was made although its answer was lost."""
        query = urlencode({"q": f'metadata.identifiers.identifier:"{identity}"', "size": "25"})
        answer = self._ask("GET", f"api/user/records?{query}", none=(404,))
        for hit in objects(mapping(answer.document.get("hits")).get("hits")):
            identifiers = objects(mapping(hit.get("metadata")).get("identifiers"))
            named = any(one.get("identifier") == identity for one in identifiers)
            if named and not hit.get("is_published"):
                self._keep(hit, "draft")
                return True
        return False

    def _keep(self, document: Any, step: str) -> None:
        try:
            page = (document.get("links") or {}).get("self_html")
            values = {"record": str(document["id"]), "url": str(page) if page else None, "step": step}
            doi = ((document.get("pids") or {}).get("doi") or {}).get("identifier")
        except (AttributeError, KeyError, TypeError):
            raise AfenvError(
                "E745", "the server's answer is not a record", place=self._connection.base
            ) from None
        if doi:
            values["doi"] = str(doi)
        self._state.update(**values)

    def ensure_doi(self) -> str | None:
        """A DOI is reserved, and kept in the state; None where the server reserves none."""
        if self._state["doi"]:
            return str(self._state["doi"])
        answer = self._ask("POST", f"{self._draft}/pids/doi", none=(400, 403, 404, 405), again=False)
        if answer.status not in (200, 201):  # it is reserved already, or this server has no DOIs
            answer = self._ask("GET", self._draft)
        self._keep(answer.document, "draft")
        return self._state["doi"] or None

    def update(self, document: Mapping[str, Any]) -> None:
        """The draft's metadata are these; its DOI stays. E742 with what the server misses."""
        answer = self._ask("GET", self._draft)
        pids = answer.document.get("pids") or {}
        answer = self._ask("PUT", self._draft, value={**document, "pids": pids})
        errors = told(answer.document.get("errors"))
        if errors:
            raise AfenvError(
                "E742",
                self._connection.shown("; ".join(errors)),
                place=str(self._state["url"] or self._connection.base),
            )

    def ensure_files(self, files: Sequence[Sent], progress: Progress) -> list[str]:
        """The draft has these files, whole, and no other; what was sent now, by name. E748 if one differs."""
        there = self._entries()
        for name in sorted(set(there) - {file.name for file in files}):
            raise AfenvError(
                "E748",
                f"the draft has a file {name} that is not of this bag",
                place=str(self._state["url"] or self._connection.base),
            )
        return [file.name for file in files if self._ensure_file(file, there.get(file.name), progress)]

    def _entries(self) -> dict[str, dict[str, Any]]:
        answer = self._ask("GET", f"{self._draft}/files")
        try:
            return {str(one["key"]): one for one in answer.document.get("entries") or ()}
        except (AttributeError, KeyError, TypeError):
            raise AfenvError(
                "E745", "the answer is not a list of files", place=self._connection.base
            ) from None

    def _ensure_file(self, file: Sent, entry: dict[str, Any] | None, progress: Progress) -> bool:
        """Whether anything was sent."""
        path = f"{self._draft}/files/{quote(file.name, safe='')}"
        kept = self._state.file(file.name)
        if kept.get("md5") != file.md5:  # it was written anew since: nothing of it counts
            kept.clear()
            kept.update(md5=file.md5, size=file.size)
        if entry is not None and entry.get("status") == "completed":
            if self._same(file, entry):
                progress.advance(file.size)
                return False
            self._ask("DELETE", path, none=(404,))
            entry = None
        if entry is not None and kept.get("sending") and not kept.get("parts"):
            if self._finish(file, path, trying=True):
                progress.advance(file.size)
                return False
            entry = self._entries().get(file.name)
        if entry is not None and self._must_start_again(entry, kept):
            self._ask("DELETE", path, none=(404,))
            entry = None
        if entry is None:
            entry = self._start(file, kept)
        if mapping(entry.get("transfer")).get("type") == "M":
            self._send_parts(file, entry, path, kept, progress)
        else:
            kept["sending"] = True
            self._state.save()
            with file.path.open("rb") as opened:
                body = Window(opened, 0, file.size, progress.advance)
                self._ask("PUT", f"{path}/content", body=body)
        self._finish(file, path, trying=False)
        return True

    def _must_start_again(self, entry: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
        """Whether an entry that is there cannot be gone on with: in parts of a size that is not known."""
        if entry.get("status") == "failed":
            return True
        return mapping(entry.get("transfer")).get("type") == "M" and not kept.get("part_size")

    def _same(self, file: Sent, entry: Mapping[str, Any]) -> bool:
        """Whether what the server tells of a file is true of ours. Some checksums come later, or never."""
        if entry.get("size") is not None and entry["size"] not in (file.size, str(file.size)):
            return False
        checksum = str(entry.get("checksum") or "")
        return not checksum.startswith("md5:") or checksum == f"md5:{file.md5}"

    def _start(self, file: Sent, kept: dict[str, Any]) -> dict[str, Any]:
        """Announce a file: in parts if it is large and the server takes parts, else whole."""
        for gone in ("sending", "parts", "part_size"):
            kept.pop(gone, None)
        one: dict[str, Any] = {"key": file.name}
        if file.size >= self._multipart_from:
            part_size = max(self._part_size, -(-file.size // MOST_PARTS))
            count = -(-file.size // part_size)
            transfer = {"type": "M", "parts": count, "part_size": part_size}
            answer = self._ask(
                "POST",
                f"{self._draft}/files",
                value=[{**one, "size": file.size, "transfer": transfer}],
                none=(400, 403),
                again=False,
            )
            if answer.status in (200, 201):
                kept.update(part_size=part_size, parts=[])
                self._state.save()
                return self._named(file, answer)
        self._state.save()
        answer = self._ask("POST", f"{self._draft}/files", value=[one], again=False)
        return self._named(file, answer)

    def _named(self, file: Sent, answer: Answer) -> dict[str, Any]:
        for entry in objects(answer.document.get("entries")):
            if entry.get("key") == file.name:
                return entry
        raise AfenvError("E745", f"the server does not name {file.name}", place=self._connection.base)

    def _send_parts(
        self,
        file: Sent,
        entry: Mapping[str, Any],
        path: str,
        kept: dict[str, Any],
        progress: Progress,
    ) -> None:
        """Send what is missing of a file in parts. The server does not tell which it has: the state does."""
        size = int(kept["part_size"])
        done = set(kept["parts"])
        links = {
            str(one.get("part")): str(one["url"])
            for one in objects(mapping(entry.get("links")).get("parts"))
            if one.get("url")
        }
        with file.path.open("rb") as opened:
            for number, start in enumerate(range(0, file.size, size), 1):
                length = min(size, file.size - start)
                if number in done:
                    progress.advance(length)
                    continue
                url = self._connection.url(links.get(str(number)) or f"{path}/content/{number}")
                body = Window(opened, start, length, progress.advance)
                self._ask("PUT", check_location(url), body=body)
                done.add(number)
                kept["parts"] = sorted(done)
                self._state.save()

    def _finish(self, file: Sent, path: str, *, trying: bool) -> bool:
        """Complete a file, and compare what the server got; E748 if it is something else.

        ``trying``: it is not known whether the content is there; False if it is not.
        """
        none = (400, 404, 409, 500) if trying else ()
        try:
            answer = self._ask("POST", f"{path}/commit", none=none, again=not trying)
        except AfenvError as error:
            # An earlier attempt may have done it, and its answer was lost.
            entry = self._entries().get(file.name) if error.code == "E745" else None
            if entry is None or entry.get("status") != "completed":
                raise
            answer = Answer(status=200, document=entry)
        if answer.status in none:
            return False
        if not self._same(file, answer.document):
            self._ask("DELETE", path, none=(404,))
            if trying:
                return False
            raise AfenvError(
                "E748", f"{file.name} arrived as something else, and was removed", place=self._connection.base
            )
        self._state.file(file.name)["done"] = True
        self._state.save()
        return True

    def publish(self) -> None:
        """Publish the draft. If the answer is lost, the next call finds it published."""
        self._state.update(step="publishing")
        answer = self._ask("POST", f"{self._draft}/actions/publish", again=False)
        self._keep(answer.document, "published")
