"""A catalogue as one HTML page for people: self-contained, and safe whatever records say.

Records are data in the page, never markup: JSON in which no ``<`` stands, put into the page as text by its
script. A content security policy lets this script and this style run, by their digests, and nothing else; the
page asks for nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afenv.catalogue.file import Catalogue
from afenv.catalogue.rank import rank
from afenv.catalogue.record import ImageRecord
from afenv.documents.cuda import dotted, driver_text
from afenv.documents.facility import FacilityProfile
from afenv.facility.verdict import Verdict
from afenv.progress import counted

REASONS = 6  # of one image at one facility
_NAMES = {
    "manifest": "analysis manifest",
    "lock": "lock",
    "sbom": "bill of materials",
    "provenance": "provenance",
}


def catalogue_page(catalogue: Catalogue, facilities: Sequence[FacilityProfile] = ()) -> str:
    """The page; for each facility it says what runs there, and why the rest does not. E622."""
    records = list(catalogue.records())
    reasons: dict[str, int] = {}
    at: list[list[Any]] = [[] for _ in records]
    for facility in facilities:
        ranking = rank(catalogue, facility)
        for one in (*ranking.candidates, *ranking.rest):
            at[one.row].append(_verdict(one.verdict, reasons))
    data = {
        "facilities": [{"name": one.name, "description": one.description} for one in facilities],
        "images": [_image(one) | {"at": verdicts} for one, verdicts in zip(records, at, strict=True)],
        "reasons": list(reasons),
    }
    style, script = (Path(__file__).with_name(name).read_text() for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    name = html.escape(catalogue.name)
    about = f"{counted(catalogue.count, 'image')}, version {catalogue.serial}"
    return PAGE.format(
        name=name,
        policy=policy,
        about=html.escape(about),
        digest=html.escape(catalogue.digest),
        style=style,
        script=script,
        data=json_in_html(data),
    )


def json_in_html(value: Any) -> str:
    """A value as JSON for a ``script`` element: nothing in it ends the element or begins markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _allowed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _verdict(found: Verdict, reasons: dict[str, int]) -> list[Any]:
    texts = []
    for reason in found.reasons[:REASONS]:
        remedy = reason.remedy if reason.outcome != "unknown" else ""
        texts.append(f"{reason.message}. {remedy}" if remedy else reason.message)
    numbers = [reasons.setdefault(text, len(reasons)) for text in texts]
    return [found.outcome, not found.unknown, found.runtime, numbers]


def blob_address(record: ImageRecord, kind: str, digest: str) -> str:
    """Where a registry has a blob or a manifest (OCI distribution-spec, pulling)."""
    host, _, name = record.repository.partition("/")
    bare = host.rpartition(":")[0] or host
    scheme = "http" if bare in ("localhost", "127.0.0.1", "[::1]") else "https"
    host = "registry-1.docker.io" if host == "docker.io" else host
    return f"{scheme}://{host}/v2/{name}/{kind}/{digest}"


def _needs(one: ImageRecord) -> list[str]:
    needs = one.needs
    found = [needs.architecture or ""]
    if needs.level is not None and needs.level > 1:
        found.append(f"x86-64-v{needs.level}")
    gpu = needs.gpu
    if gpu is not None:
        toolkit = f"CUDA {'.'.join(map(str, gpu.toolkit))}" if gpu.toolkit else "a GPU"
        found.append(f"{toolkit} (GPU optional)" if gpu.optional else toolkit)
        found += [f"driver {driver_text(gpu.least_driver)}"] if gpu.least_driver else []
        found += [" ".join(map(str, gpu.code))] if gpu.code else []
        found += [] if gpu.code or not gpu.architectures else [" ".join(map(dotted, gpu.architectures))]
    found += [f"/cvmfs/{repository.name}" for repository in needs.cvmfs]
    found += [f"data: {entry.name}" for entry in needs.data]
    found += ["network"] if needs.network else []
    found += [f"has jupyterhub {needs.jupyterhub}"] if needs.jupyterhub else []
    return list(filter(None, found))


def _forms(one: ImageRecord) -> list[list[str]]:
    found = []
    for form in one.forms:
        if form.form == "cvmfs":
            text = f"apptainer exec {form.path}"
        elif form.form == "sif":
            text = f"apptainer pull oras://{form.reference or one.reference}"
        else:
            text = f"docker pull {one.repository}@{one.digest}"
        found.append([form.form, text])
    return found


_GONE = {"vanished": "no longer in its registry", "changed": "its registry gives another content"}
_STATES = _GONE | {
    "same": "as it was",
    "moved": "its tag names another image now; this one is there by its digest",
    "unreached": "its registry did not answer",
}


def _image(one: ImageRecord) -> dict[str, Any]:
    state = one.checked.state if one.checked else ""
    links = [["image manifest", blob_address(one, "manifests", one.digest)]]
    links += [
        [name, blob_address(one, "blobs", one.attached[kind])]
        for kind, name in _NAMES.items()
        if kind in one.attached
    ]
    source, gpu = one.origin.source or "", one.needs.gpu
    return {
        "name": one.name,
        "environment": one.environment,
        "version": one.version,
        "title": one.metadata.title,
        "description": one.metadata.description,
        "license": one.metadata.license,
        "url": one.metadata.url,
        "authors": list(one.metadata.authors),
        "keywords": list(one.metadata.keywords),
        "reference": one.reference,
        "imageId": one.image_id,
        "platform": one.platform,
        "created": one.origin.created or one.added,
        "size": one.needs.size,
        "unpacked": one.needs.unpacked,
        "layers": one.needs.layers,
        "needs": _needs(one),
        "gpu": None if gpu is None else "optional" if gpu.optional else "needed",
        "forms": _forms(one),
        "links": links,
        "source": source,
        "sourceLink": source if source.startswith(("https://", "http://")) else None,
        "commit": one.origin.commit,
        "dirty": one.origin.dirty,
        "builder": one.origin.builder,
        "state": f"{_STATES[state]}, {one.checked.time[:10]}" if one.checked else None,
        "gone": _GONE.get(state),
    }


PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{name}: images</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#images">Skip to the images</a>
<header>
<h1>{name}</h1>
<p class="about">{about} · <code>{digest}</code></p>
</header>
<main>
<form id="filters" role="search" hidden>
<label>Search <input id="search" type="search" autocomplete="off"
placeholder="name, author, licence, CUDA 12.4 …"></label>
<label>Runs at <select id="facility"><option value="">anywhere</option></select></label>
<label>GPU <select id="gpu"><option value="">any</option>
<option value="uses">uses a GPU</option>
<option value="none">runs without</option></select></label>
<label>Form <select id="form"><option value="">any</option><option value="oci">OCI image</option>
<option value="sif">SIF</option><option value="cvmfs">on CVMFS</option></select></label>
<label>Order <select id="order"><option value="newest">newest first</option>
<option value="name">name</option>
<option value="size">smallest first</option></select></label>
</form>
<p class="count" id="count" role="status" aria-live="polite"></p>
<ol id="images" aria-label="Images"></ol>
<p class="none" id="none" hidden>No image fits.</p>
<button id="next" type="button" hidden>Show more</button>
<noscript><p class="none">This page shows the images by a script of its own.</p></noscript>
</main>
<footer><p>✓ runs · ? runs, as far as is known · ! runs degraded · ✗ cannot run. Verdicts are those of the day
on which this page was written. Who may read an image is for its registry to say.</p></footer>
<script type="application/json" id="catalogue">{data}</script>
<script>{script}</script>
</body>
</html>
"""
