"""Servers for tests that follow the documented interfaces strictly, and fail where they are told to.

InvenioRDM: https://inveniordm.docs.cern.ch/reference/rest_api_drafts_records/ and file_transfer/ ; what is
not documented there (the place of parts, their sizes) is as in invenio-records-resources. CERN Analysis
Preservation: the conversations recorded in the tests of cap-client.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "secret-token-1234567890"
NATIVE = "application/vnd.inveniordm.v1+json"


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Server:
    """One server; ``log`` has (method, path, host), ``stored`` counts contents stored by name.

    ``fault`` is (number of the request, kind): ``500`` and ``drop`` do nothing, ``lost`` does it and does
    not answer, ``cut`` breaks the connection within the body, ``429`` asks to wait a second.
    """

    largest = 1 << 30

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.stored: Counter[str] = Counter()
        self.faults: dict[int, str] = {}
        self.other_tokens: list[str | None] = []
        self.redirects: dict[str, str] = {}
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_one(self) -> None:
                server.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.log.append((request.command, request.path))
            fault = self.faults.pop(len(self.log) - 1, None)
            length = int(request.headers.get("Content-Length") or 0)
            if fault == "drop" or (fault == "cut" and length):
                if fault == "cut":
                    request.rfile.read(length // 2)
                request.close_connection = True
                return
            body = request.rfile.read(length)
            if len(body) != length:
                request.close_connection = True
                return
            headers: dict[str, str] = {}
            try:
                if fault == "500":
                    raise Refused(500, f"Internal error while {request.headers.get('Authorization')}")
                if fault == "429":
                    raise Refused(429, "Too many requests", {"Retry-After": "1"})
                if request.path in self.redirects:
                    raise Refused(307, "", {"Location": self.redirects[request.path]})
                self.check_token(request)
                status, value = self.answer(request, body)
            except Refused as refused:
                status, headers = refused.status, refused.headers
                value = {"status": status, "message": refused.message}
            if fault == "lost":
                request.close_connection = True
                return
            content = b"" if status == 204 else json.dumps(value).encode()
            request.send_response(status)
            for name, text in headers.items():
                request.send_header(name, text)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

    def check_token(self, request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "The server could not verify that you are authorized.")

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        path = urlsplit(request.path).path
        for pattern, method, action in self.routes():
            found = re.fullmatch(pattern, path)
            if found and method == request.command:
                return action(request, body, *map(unquote, found.groups()))
        raise Refused(404, "no such place")

    def routes(self) -> list[tuple[str, str, Callable[..., tuple[int, Any]]]]:
        return []

    @staticmethod
    def document(request: BaseHTTPRequestHandler, body: bytes) -> Any:
        if request.headers.get("Content-Type") != "application/json":
            raise Refused(415, "Content-Type is not application/json")
        try:
            return json.loads(body)
        except ValueError:
            raise Refused(400, "Unable to decode JSON data in request body.") from None


class Listener(Server):
    """Another host, which should see no token."""

    def check_token(self, request: BaseHTTPRequestHandler) -> None:
        self.other_tokens.append(request.headers.get("Authorization"))

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        return 200, {}


class InvenioServer(Server):
    """InvenioRDM. ``multipart`` tells whether files in parts are allowed."""

    def __init__(self, *, multipart: bool = True, doi: bool = True) -> None:
        super().__init__()
        self.multipart, self.doi = multipart, doi
        self.records: dict[str, dict[str, Any]] = {}
        self.contents: dict[tuple[str, str], bytes] = {}
        self.parts: dict[tuple[str, str], dict[int, bytes]] = {}

    def routes(self) -> list[tuple[str, str, Callable[..., tuple[int, Any]]]]:
        draft = r"/api/records/([^/]+)/draft"
        file = draft + r"/files/([^/]+)"
        return [
            (r"/api/records", "POST", self.create),
            (r"/api/user/records", "GET", self.search),
            (r"/api/records/([^/]+)", "GET", self.get_record),
            (draft, "GET", self.get_draft),
            (draft, "PUT", self.put_draft),
            (draft + "/pids/doi", "POST", self.reserve),
            (draft + "/actions/publish", "POST", self.publish),
            (draft + "/files", "GET", self.list_files),
            (draft + "/files", "POST", self.start),
            (file, "DELETE", self.delete),
            (file + "/content", "PUT", self.content),
            (file + r"/content/(\d+)", "PUT", self.part),
            (file + "/commit", "POST", self.commit),
        ]

    def _draft(self, identifier: str) -> dict[str, Any]:
        if identifier not in self.records or self.records[identifier]["is_published"]:
            raise Refused(404, "The persistent identifier does not exist.")
        return self.records[identifier]

    def _shown(self, record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key != "entries"}

    def _check(self, value: Any) -> list[dict[str, Any]]:
        """Errors of a draft's metadata; a draft is kept all the same, as the documentation has it."""
        errors = []
        metadata = value.get("metadata") or {}
        for field in ("title", "creators", "resource_type", "publication_date"):
            if not metadata.get(field):
                errors.append(
                    {"field": f"metadata.{field}", "messages": ["Missing data for required field."]}
                )
        known = {
            "title", "creators", "resource_type", "publication_date", "publisher", "description", "version",
            "rights", "subjects", "funding", "identifiers", "related_identifiers",
        }  # fmt: skip
        errors += [
            {"field": f"metadata.{one}", "messages": ["Unknown field."]}
            for one in sorted(set(metadata) - known)
        ]
        for number, one in enumerate(metadata.get("creators") or ()):
            if not one["person_or_org"].get("family_name"):
                errors.append(
                    {"field": f"metadata.creators.{number}", "messages": ["Family name must be filled."]}
                )
        return errors

    def create(self, request: Any, body: bytes) -> tuple[int, Any]:
        value = self.document(request, body)
        identifier = f"abcde-{len(self.records):05d}"
        self.records[identifier] = {
            "id": identifier,
            "is_published": False,
            "pids": {},
            "links": {
                "self": f"{self.url}/api/records/{identifier}/draft",
                "self_html": f"{self.url}/uploads/{identifier}",
            },
            "access": value.get("access"),
            "files": value.get("files"),
            "metadata": value.get("metadata"),
            "entries": {},
        }
        return 201, {**self._shown(self.records[identifier]), "errors": self._check(value)}

    def search(self, request: Any, _: bytes) -> tuple[int, Any]:
        query = parse_qs(urlsplit(request.path).query)["q"][0]
        found = re.fullmatch(r'metadata\.identifiers\.identifier:"([^"]+)"', query)
        if not found:
            raise Refused(400, "Invalid query string syntax.")
        hits = [
            self._shown(one)
            for one in self.records.values()
            if any(each["identifier"] == found[1] for each in one["metadata"].get("identifiers", ()))
        ]
        return 200, {"hits": {"hits": hits, "total": len(hits)}}

    def get_record(self, _: Any, __: bytes, identifier: str) -> tuple[int, Any]:
        record = self.records.get(identifier)
        if record is None or not record["is_published"]:
            raise Refused(404, "The persistent identifier is not registered.")
        return 200, self._shown(record)

    def get_draft(self, request: Any, _: bytes, identifier: str) -> tuple[int, Any]:
        if request.headers.get("Accept") != NATIVE:
            return 200, {"id": 1, "doi": "in an older form"}
        return 200, self._shown(self._draft(identifier))

    def put_draft(self, request: Any, body: bytes, identifier: str) -> tuple[int, Any]:
        value = self.document(request, body)
        draft = self._draft(identifier)
        draft.update({key: value.get(key) for key in ("access", "files", "metadata")})
        draft["pids"] = value.get("pids") or {}  # what is not sent is removed
        return 200, {**self._shown(draft), "errors": self._check(value)}

    def reserve(self, _: Any, __: bytes, identifier: str) -> tuple[int, Any]:
        draft = self._draft(identifier)
        if not self.doi:
            raise Refused(404, "No DOIs here.")
        if draft["pids"].get("doi"):
            raise Refused(400, "A PID already exists for type doi")
        draft["pids"]["doi"] = {
            "identifier": f"10.5072/{identifier}",
            "provider": "datacite",
            "client": "datacite",
        }
        return 201, self._shown(draft)

    def list_files(self, _: Any, __: bytes, identifier: str) -> tuple[int, Any]:
        return 200, {"enabled": True, "entries": list(self._draft(identifier)["entries"].values())}

    def start(self, request: Any, body: bytes, identifier: str) -> tuple[int, Any]:
        draft = self._draft(identifier)
        value = self.document(request, body)
        for one in value:
            key = one["key"]
            if key in draft["entries"]:
                raise Refused(400, f"File with key {key} already exists.")
            base = f"/api/records/{identifier}/draft/files/{key}"
            entry: dict[str, Any] = {
                "key": key,
                "status": "pending",
                "metadata": None,
                "transfer": {"type": "L"},
                "links": {"content": f"{base}/content", "self": base, "commit": f"{base}/commit"},
            }
            transfer = one.get("transfer") or {"type": "L"}
            if transfer["type"] == "M":
                if not self.multipart:
                    raise Refused(400, "Transfer type M is not supported.")
                if not one.get("size") or not transfer.get("parts"):
                    raise Refused(400, "Multipart file transfer requires parts and file size.")
                entry["transfer"] = dict(transfer)
                entry["size"] = one["size"]
                entry["links"]["content"] = None
                entry["links"]["parts"] = [
                    {"part": number, "url": f"{self.url}{base}/content/{number}", "expiration": "2100-01-01"}
                    for number in range(1, transfer["parts"] + 1)
                ]
                self.parts[identifier, key] = {}
            draft["entries"][key] = entry
        return 201, {"enabled": True, "entries": list(draft["entries"].values())}

    def _pending(self, identifier: str, key: str, kind: str) -> dict[str, Any]:
        entry = self._draft(identifier)["entries"].get(key)
        if entry is None:
            raise Refused(404, f"File with key {key} has not been initialized.")
        if entry["status"] != "pending":
            raise Refused(400, "The file is completed.")
        if entry["transfer"]["type"] != kind:
            raise Refused(400, "Can not set content so for this transfer.")
        found: dict[str, Any] = entry
        return found

    def _stream(self, request: Any, body: bytes) -> None:
        if request.headers.get("Content-Type") != "application/octet-stream":
            raise Refused(415, "Content-Type is not application/octet-stream")
        if len(body) > self.largest:
            raise Refused(413, "Maximum file size exceeded.")

    def content(self, request: Any, body: bytes, identifier: str, key: str) -> tuple[int, Any]:
        self._stream(request, body)
        entry = self._pending(identifier, key, "L")
        self.contents[identifier, key] = body
        self.stored[key] += 1
        return 200, entry

    def part(self, request: Any, body: bytes, identifier: str, key: str, number: str) -> tuple[int, Any]:
        self._stream(request, body)
        entry = self._pending(identifier, key, "M")
        count, size = entry["transfer"]["parts"], entry["transfer"]["part_size"]
        if not 1 <= int(number) <= count:
            raise Refused(400, "Part number is higher than total parts sent in multipart initialization.")
        if int(number) < count and len(body) != size:
            raise Refused(400, "Size of this part must be equal to part_size.")
        self.parts[identifier, key][int(number)] = body
        self.stored[f"{key}#{number}"] += 1
        return 200, entry

    def commit(self, _: Any, __: bytes, identifier: str, key: str) -> tuple[int, Any]:
        entry = self._draft(identifier)["entries"].get(key)
        if entry is None or entry["status"] != "pending":
            raise Refused(400, "The file cannot be committed.")
        if entry["transfer"]["type"] == "M":
            parts = self.parts[identifier, key]
            if len(parts) != entry["transfer"]["parts"]:
                raise Refused(400, "Parts are missing.")
            self.contents[identifier, key] = b"".join(parts[number] for number in sorted(parts))
            entry["checksum"] = f"multipart:abc-{entry['transfer']['part_size']}"
            entry["transfer"] = {"type": "L"}
        elif (identifier, key) not in self.contents:
            raise Refused(400, "The file has no content.")
        else:
            content = self.contents[identifier, key]
            entry["checksum"] = f"md5:{hashlib.md5(content).hexdigest()}"
        entry["size"] = float(len(self.contents[identifier, key]))  # as the documentation shows it
        entry["status"] = "completed"
        return 200, entry

    def delete(self, _: Any, __: bytes, identifier: str, key: str) -> tuple[int, Any]:
        if self._draft(identifier)["entries"].pop(key, None) is None:
            raise Refused(404, "no such file")
        self.contents.pop((identifier, key), None)
        return 204, None

    def publish(self, _: Any, __: bytes, identifier: str) -> tuple[int, Any]:
        draft = self._draft(identifier)
        errors = self._check(draft)
        pending = [one for one in draft["entries"].values() if one["status"] != "completed"]
        if errors or pending or not draft["entries"]:
            raise Refused(400, "A validation error occurred.")
        draft["is_published"] = True
        draft["links"]["self_html"] = f"{self.url}/records/{identifier}"
        return 202, self._shown(draft)


class CapServer(Server):
    """CERN Analysis Preservation."""

    def __init__(self) -> None:
        super().__init__()
        self.deposits: dict[str, dict[str, Any]] = {}
        self.contents: dict[tuple[str, str], bytes] = {}

    def routes(self) -> list[tuple[str, str, Callable[..., tuple[int, Any]]]]:
        return [
            (r"/api/deposits/", "POST", self.create),
            (r"/api/deposits/", "GET", self.mine),
            (r"/api/deposits/([^/]+)", "GET", self.get),
            (r"/api/files/([^/]+)/([^/]+)", "PUT", self.put),
            (r"/api/deposits/([^/]+)/actions/publish", "POST", self.publish),
        ]

    def create(self, request: Any, body: bytes) -> tuple[int, Any]:
        value = self.document(request, body)
        if value.pop("$ana_type", None) not in ("cms-analysis", "lhcb"):
            raise Refused(400, "Schema doesn't exist.")
        pid = f"{len(self.deposits):032x}"
        self.deposits[pid] = {
            "id": pid,
            "status": "draft",
            "metadata": value,
            "files": [],
            "links": {"bucket": f"{self.url}/api/files/b{pid}", "html": f"{self.url}/drafts/{pid}"},
        }
        return 201, self.deposits[pid]

    def mine(self, request: Any, _: bytes) -> tuple[int, Any]:
        if urlsplit(request.path).query != "q=&by_me=True":
            raise Refused(400, "not as cap-client asks")
        return 200, {"hits": {"hits": list(self.deposits.values())}}

    def _get(self, pid: str) -> dict[str, Any]:
        if pid not in self.deposits:
            raise Refused(404, "PID does not exist.")
        return self.deposits[pid]

    def get(self, _: Any, __: bytes, pid: str) -> tuple[int, Any]:
        return 200, self._get(pid)

    def put(self, _: Any, body: bytes, bucket: str, key: str) -> tuple[int, Any]:
        deposit = self._get(bucket[1:])
        entry = {"key": key, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        deposit["files"] = [one for one in deposit["files"] if one["key"] != key] + [entry]
        self.contents[bucket[1:], key] = body
        self.stored[key] += 1
        return 200, entry

    def publish(self, _: Any, __: bytes, pid: str) -> tuple[int, Any]:
        deposit = self._get(pid)
        if deposit["status"] != "draft":
            raise Refused(403, "This action is not possible.")
        deposit["status"] = "published"
        return 202, deposit
