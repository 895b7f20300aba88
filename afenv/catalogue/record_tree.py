"""Records in their JSON form: checked as ``specs/record/v1/schema.json`` does, read, written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from afenv import canonical
from afenv.catalogue.needs_tree import NEEDS, needs_of_tree, needs_tree, one_line
from afenv.catalogue.record import (
    FORMAT_VERSION,
    STATES,
    Checked,
    Form,
    ImageRecord,
    Metadata,
    Origin,
)
from afenv.catalogue.shape import Misshapen, Shape, boolean, choice, fields, integer, listed, mapped, text
from afenv.errors import AfenvError
from afenv.record import values_of

_digest = text("sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits")
_time = text("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "a time such as 2026-01-31T12:00:00Z")
_reference = text(
    r"[A-Za-z0-9.\[\]:-]{1,255}(?:/[a-z0-9._-]{1,255})+(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?",
    "HOST[:PORT]/NAME[:TAG]",
)
_paragraph = text(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]+", "text")
_path = text(r"/cvmfs/[^\x00-\x1f\x7f-\x9f]+", "a path below /cvmfs")

_KNOWN: dict[str, Shape] = {
    "environment": one_line,
    "version": one_line,
    "platform": text("linux/[a-z0-9]+(?:/[a-z0-9]+)?", "a platform such as linux/amd64", 60),
    "layers": integer,
    "unpacked": integer,
    "compression": listed(choice("gzip", "zstd")),
    "attached": mapped(choice("lock", "manifest", "sbom", "provenance", "signature"), _digest),
    "metadata": fields(
        {},
        {
            "title": one_line,
            "description": _paragraph,
            "license": one_line,
            "url": text(r"https?://[^\x00-\x20\x7f-\x9f\"<>\\^`{|}]+", "an http or https address", 1000),
            "authors": listed(one_line),
            "keywords": listed(one_line),
        },
    ),
    "origin": fields(
        {},
        {
            "builder": one_line,
            "created": _time,
            "source": one_line,
            "commit": text("[0-9a-f]{40}|[0-9a-f]{64}", "a git hash of 40 or 64 hexadecimal digits"),
            "dirty": boolean,
        },
    ),
    "checked": fields({"time": _time}, {"state": choice(*STATES), "found": _digest}),
}
_FORM_KEYS: dict[str, Shape] = {"reference": _reference, "digest": _digest, "size": integer, "path": _path}
_NEEDED: dict[str, Shape] = {
    "name": one_line,
    "reference": _reference,
    "digest": _digest,
    "image-id": _digest,
    "added": _time,
    "needs": NEEDS,
    "forms": listed(fields({"form": choice("oci", "sif", "cvmfs")}, _FORM_KEYS), least=1),
}
_RECORD = fields(_NEEDED, _KNOWN, more=True)
_OURS = {*_NEEDED, *_KNOWN, "afenv-record"}


def check_record(tree: Any) -> None:
    """Raise :class:`Misshapen` if a JSON value is no record of this version."""
    _RECORD(tree)
    seen = set()
    for index, form in enumerate(tree["forms"]):
        if form["form"] in seen:
            raise Misshapen(f"the form {form['form']} is listed twice", f"forms[{index}]")
        seen.add(form["form"])
        if (form["form"] == "cvmfs") != ("path" in form):
            raise Misshapen("a form has a path if it is cvmfs, and only then", f"forms[{index}]")


def parse_record(data: bytes, place: str) -> ImageRecord:
    """The record in some bytes; E015 for a newer version, E622 for what is no record."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        raise AfenvError("E622", "it is not JSON", place=place) from None
    check_version(tree, "afenv-record", FORMAT_VERSION, place)
    try:
        check_record(tree)
    except Misshapen as error:
        raise AfenvError("E622", error.message, place=place, path=error.path or None) from None
    return record_of_tree(tree)


def check_version(tree: Any, key: str, version: int, place: str) -> None:
    """E622 for a value that does not say what it is, E015 for a format of another version."""
    number = tree.get(key) if isinstance(tree, dict) else None
    if type(number) is not int:
        raise AfenvError("E622", f"it has no {key!r}", place=place, path=key)
    if number != version:
        remedy = "A newer afenv may read it." if number > version else None
        message = f"expected format version {version}, found {number}"
        raise AfenvError("E015", message, place=place, path=key, remedy=remedy)


def record_of_tree(tree: Mapping[str, Any]) -> ImageRecord:
    """The record that a valid tree stands for."""
    forms = tuple(Form(**one) for one in tree["forms"])
    kinds = tuple(dict.fromkeys("oci" if one.form == "cvmfs" else one.form for one in forms))
    image = next((one for one in forms if one.form == "oci"), forms[0])
    path = next((one.path for one in forms if one.path), None)
    metadata, origin = dict(tree.get("metadata", {})), tree.get("origin", {})
    for name in ("authors", "keywords"):
        metadata[name] = tuple(metadata.get(name, ()))
    environment = tree.get("environment", "default")
    name = tree["name"]
    return ImageRecord(
        name=name,
        environment=environment,
        version=tree.get("version"),
        reference=tree["reference"],
        digest=tree["digest"],
        image_id=tree["image-id"],
        platform=tree.get("platform"),
        added=tree["added"],
        forms=forms,
        needs=needs_of_tree(
            tree["needs"],
            name=name if environment == "default" else f"{name}:{environment}",
            forms=kinds,
            compression=tuple(tree.get("compression", ())),
            layers=tree.get("layers"),
            size=image.size,
            unpacked=tree.get("unpacked"),
            registry=tree["reference"].partition("/")[0],
            unpacked_at=path,
        ),
        attached=tree.get("attached", {}),
        metadata=Metadata(**metadata),
        origin=Origin(**origin),
        checked=Checked(**tree["checked"]) if "checked" in tree else None,
        more={key: value for key, value in tree.items() if key not in _OURS},
    )


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a value that are set."""
    return {
        name: list(entry) if isinstance(entry, tuple) else entry
        for name, entry in values_of(value).items()
        if entry not in (None, (), False)
    }


def record_tree(value: ImageRecord) -> dict[str, Any]:
    """The record as plain JSON; what has its default is left out."""
    needs = value.needs
    tree: dict[str, Any] = {
        **value.more,
        "afenv-record": FORMAT_VERSION,
        "name": value.name,
        "reference": value.reference,
        "digest": value.digest,
        "image-id": value.image_id,
        "added": value.added,
        "forms": [_plain(one) for one in value.forms],
        "needs": needs_tree(needs),
    }
    optional: dict[str, Any] = {
        "environment": value.environment if value.environment != "default" else None,
        "version": value.version,
        "platform": value.platform,
        "layers": needs.layers,
        "unpacked": needs.unpacked,
        "compression": list(needs.compression) or None,
        "attached": dict(value.attached) or None,
        "metadata": _plain(value.metadata) or None,
        "origin": _plain(value.origin) or None,
        "checked": _plain(value.checked) if value.checked else None,
    }
    return tree | {key: entry for key, entry in optional.items() if entry is not None}


def dump_record(value: ImageRecord) -> bytes:
    """The record as canonical JSON on one line."""
    return canonical.compact(record_tree(value))
