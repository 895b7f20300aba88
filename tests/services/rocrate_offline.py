"""roc-validator without a network: ``rocrate_offline.py CRATE PROFILE…`` prints what is wrong, as JSON.

The JSON-LD context comes from the package rocrate, which has that of RO-Crate 1.3, a superset of 1.2's. The
profile Process Run Crate 0.5 of the validator is written on RO-Crate 1.1 and asks for that version in the
metadata descriptor; that one check is skipped.
"""

from __future__ import annotations

import email.message
import io
import json
import sys
import urllib.request
from importlib import resources
from typing import Any
from urllib.response import addinfourl

import requests
import rocrate
from urllib3 import HTTPResponse

CONTEXT = json.loads((resources.files(rocrate) / "data/ro-crate.jsonld").read_text())["@context"]


def _body(url: str) -> bytes:
    return json.dumps({"@context": CONTEXT if "/ro/crate/" in url else {}}).encode()


class _Local(urllib.request.BaseHandler):
    handler_order = 1

    def https_open(self, request: urllib.request.Request) -> addinfourl:
        headers = email.message.Message()
        headers["Content-Type"] = "application/ld+json"
        answer = addinfourl(io.BytesIO(_body(request.full_url)), headers, request.full_url, 200)
        answer.msg = "OK"  # type: ignore[attr-defined]
        return answer

    http_open = https_open


def _send(_: object, request: Any, **__: object) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.url, answer.request, answer.reason = 200, request.url, request, "OK"
    answer.headers["Content-Type"] = "application/ld+json"
    body = io.BytesIO(_body(request.url))
    answer.raw = HTTPResponse(body, status=200, headers=dict(answer.headers), preload_content=False)
    return answer


def main(crate: str, profiles: list[str]) -> None:
    """Validate, and print the messages by profile."""
    urllib.request.install_opener(urllib.request.build_opener(_Local))
    requests.adapters.HTTPAdapter.send = _send  # type: ignore[method-assign, assignment]
    from rocrate_validator import models, services

    found = {}
    for profile in profiles:
        settings = services.ValidationSettings(
            rocrate_uri=crate,
            profile_identifier=profile,
            requirement_severity=models.Severity.REQUIRED,
            skip_checks=["ro-crate-1.1_5.3"] if profile.startswith("process-run") else [],
        )
        result = services.validate(settings)
        found[profile] = [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
