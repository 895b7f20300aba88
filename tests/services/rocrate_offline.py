"""roc-validator without a network: ``rocrate_offline.py CRATE PROFILE…`` prints what is wrong, as JSON.

The JSON-LD context comes from the package rocrate, which has that of RO-Crate 1.3. It names some types of
Bioschemas otherwise than 1.1 and 1.2, for which the validator's profiles are written; these are put back. The
terms of workflow runs are given as https://w3id.org/ro/terms/workflow-run has them. The profiles of
workflow runs are written on RO-Crate 1.1 and ask for that version in the metadata descriptor; of a crate of
version 1.2 that one check is skipped.
"""

from __future__ import annotations

import email.message
import io
import json
import sys
import urllib.request
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.response import addinfourl

import requests
import rocrate
from urllib3 import HTTPResponse

CONTEXT = json.loads((resources.files(rocrate) / "data/ro-crate.jsonld").read_text())["@context"]
BIOSCHEMAS = "https://bioschemas.org/"
CONTEXT |= {name: BIOSCHEMAS + name for name in ("ComputationalWorkflow", "FormalParameter")}
CONTEXT |= {name: f"{BIOSCHEMAS}ComputationalWorkflow#{name}" for name in ("input", "output")}
RUN = "https://w3id.org/ro/terms/workflow-run#"
NAMES = ("ContainerImage", "DockerImage", "containerImage", "resourceUsage", "sha256", "registry", "tag")
TERMS = {name: RUN + name for name in NAMES}
OLDER = "ro-crate-1.1_5.3"  # that the metadata descriptor says 1.1


def _body(url: str) -> bytes:
    return json.dumps({"@context": CONTEXT if "/ro/crate/" in url else TERMS}).encode()


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

    newer = "/ro/crate/1.2" in (Path(crate) / "ro-crate-metadata.json").read_text()
    found = {}
    for profile in profiles:
        settings = services.ValidationSettings(
            rocrate_uri=crate,
            profile_identifier=profile,
            requirement_severity=models.Severity.REQUIRED,
            no_cache=True,  # what was answered here is not for others, nor what others were answered for us
            skip_checks=[OLDER] if newer and not profile.startswith("ro-crate") else [],
        )
        result = services.validate(settings)
        found[profile] = [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
