"""What a repository is told of a bag, as read from its RO-Crate. Pure: bytes to values."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from afenv.errors import AfenvError
from afenv.record import record

ORCID = "https://orcid.org/"
SPDX = "https://spdx.org/licenses/"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:afenv:archive:v1")


@record
class Author:
    """A person. ``orcid`` and ``affiliation`` are empty where the crate has none."""

    name: str
    orcid: str = ""
    affiliation: str = ""


@record
class Funder:
    """Who paid; ``award`` is the number of a grant, or empty."""

    name: str
    award: str = ""


@record
class Description:
    """What is known of an archived analysis.

    ``license`` is an SPDX identifier or expression, empty where none is stated. ``swhids`` and ``data`` are
    the code and the data that the crate refers to; ``identity`` is a URN that this bag has in every form.
    """

    title: str
    version: str
    date: str
    text: str
    authors: tuple[Author, ...]
    license: str
    keywords: tuple[str, ...]
    funders: tuple[Funder, ...]
    url: str
    images: tuple[str, ...]
    swhids: tuple[str, ...]
    data: tuple[str, ...]
    identity: str


def bag_identity(tag_manifest: bytes) -> str:
    """The URN of the bag with this ``tagmanifest-sha512.txt``: a UUID by name (RFC 9562, version 5)."""
    import hashlib

    return uuid.uuid5(_NAMESPACE, hashlib.sha256(tag_manifest).hexdigest()).urn


def read_description(crate: bytes, identity: str, place: str) -> Description:
    """The description in a crate; E727 if it has not the form of RO-Crate."""
    try:
        graph = {one["@id"]: one for one in json.loads(crate)["@graph"]}
        root = graph["./"]
        people = [graph[identity] for identity in _ids(root.get("author"))]
        funders = [graph[identity] for identity in _ids(root.get("funder"))]
        license_entity = graph.get(next(_ids(root.get("license")), ""), {})
        stated = license_entity.get("description") is not None and "states no" not in str(
            license_entity.get("description")
        )
        return Description(
            title=str(root["name"]),
            version=str(root.get("version", "")),
            date=str(root["datePublished"]),
            text=str(root.get("description", "")),
            authors=tuple(_author(one, graph) for one in people),
            license=str(license_entity.get("name", "")) if stated else "",
            keywords=tuple(str(one) for one in root.get("keywords", ())),
            funders=tuple(
                Funder(name=str(one["name"]), award=str(one.get("identifier", ""))) for one in funders
            ),
            url=str(root.get("url", "")),
            images=tuple(str(one) for one in root.get("identifier", ())),
            swhids=tuple(sorted(set(_swhids(graph)))),
            data=tuple(
                unquote(one["@id"]) if "%" in one["@id"] else one["@id"]
                for one in graph.values()
                if one.get("@type") == "File" and re.match(r"(https?|root|rucio)://?", one["@id"])
            ),
            identity=identity,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AfenvError("E727", f"its RO-Crate is damaged: {error}", place=place) from None


def _ids(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value] if value else []:
        yield one["@id"]


def _author(person: Mapping[str, Any], graph: Mapping[str, Mapping[str, Any]]) -> Author:
    places = [graph[one] for one in _ids(person.get("affiliation")) if one in graph]
    return Author(
        name=str(person["name"]),
        orcid=person["@id"].removeprefix(ORCID) if person["@id"].startswith(ORCID) else "",
        affiliation=str(places[0].get("name", "")) if places else "",
    )


def _swhids(graph: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for one in graph.values():
        if "SoftwareSourceCode" in one.get("@type", ()):
            yield from (text for text in one.get("identifier", ()) if text.startswith("swh:1:"))
