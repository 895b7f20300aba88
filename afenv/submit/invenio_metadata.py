"""A description as the metadata of InvenioRDM. Pure.

The form is that of the JSON Schema in the package ``invenio-rdm-records``, by which a test judges it.
"""

from __future__ import annotations

import html
import re
from typing import Any

from afenv.errors import AfenvError, Problem
from afenv.submit.description import Author, Description

RESOURCE_TYPE = "software"
MOST_RELATED = 100
_SINGLE_LICENSE = re.compile(r"[A-Za-z0-9.+-]+")


def draft_document(
    described: Description, *, publisher: str, restricted: bool = False, doi: str = ""
) -> dict[str, Any]:
    """The body of a draft; E742 with everything that is missing.

    ``restricted`` closes the files, never the record. With ``doi``, one that was reserved for this draft,
    the text says how to cite it.
    """
    problems = missing(described)
    if problems:
        raise AfenvError.many(problems)
    return {
        "access": {"record": "public", "files": "restricted" if restricted else "public"},
        "files": {"enabled": True},
        "metadata": _metadata(described, publisher, doi),
    }


def missing(described: Description) -> list[Problem]:
    """What a record must have and the crate lacks."""
    found = []
    if not described.authors:
        found.append("no author: a record has at least one")
    if any(not one.name.strip() for one in described.authors):
        found.append("an author without a name")
    if not described.title.strip():
        found.append("no title")
    return [Problem("E742", text, path="metadata") for text in found]


def _metadata(described: Description, publisher: str, doi: str) -> dict[str, Any]:
    value: dict[str, Any] = {
        "resource_type": {"id": RESOURCE_TYPE},
        "title": described.title,
        "creators": [_creator(one) for one in described.authors],
        "publication_date": described.date,
        "publisher": publisher,
        "description": _text(described, doi),
        "version": described.version,
        "rights": _rights(described.license),
        "subjects": [{"subject": one} for one in described.keywords],
        "funding": [
            {
                "funder": {"name": one.name},
                **({"award": {"number": one.award, "title": {"en": one.award}}} if one.award else {}),
            }
            for one in described.funders
        ],
        "identifiers": [{"scheme": "urn", "identifier": described.identity}],
        "related_identifiers": _related(described),
    }
    return {key: one for key, one in value.items() if one not in ("", [])}


def _creator(author: Author) -> dict[str, Any]:
    family, given = split_name(author.name)
    person: dict[str, Any] = {"type": "personal", "family_name": family}
    if given:
        person["given_name"] = given
    if author.orcid:
        person["identifiers"] = [{"scheme": "orcid", "identifier": author.orcid}]
    creator: dict[str, Any] = {"person_or_org": person}
    if author.affiliation:
        creator["affiliations"] = [{"name": author.affiliation}]
    return creator


def split_name(name: str) -> tuple[str, str]:
    """Family name and given names of ``Family, Given`` or ``Given Family``."""
    if "," in name:
        family, _, given = name.partition(",")
        return family.strip(), given.strip()
    given, _, family = name.strip().rpartition(" ")
    return family, given.strip()


def _rights(license: str) -> list[dict[str, Any]]:
    if not license:
        return []
    if _SINGLE_LICENSE.fullmatch(license) and not license.startswith("LicenseRef-"):
        return [{"id": license.lower()}]
    return [{"title": {"en": license}}]


def _text(described: Description, doi: str) -> str:
    parts = [f"<p>{html.escape(described.text)}</p>"]
    images = "".join(f"<li><code>{html.escape(one)}</code></li>" for one in described.images)
    if images:
        parts.append(f"<p>Images, by their IDs:</p><ul>{images}</ul>")
    parts.append(
        "<p>This is an archive written by afenv: a BagIt 1.0 bag with an RO-Crate. "
        "Its README.md says how the image is run, and built again from what the archive holds.</p>"
    )
    if doi:
        parts.append(f"<p>Cite as: https://doi.org/{html.escape(doi)}</p>")
    return "".join(parts)


def _related(described: Description) -> list[dict[str, Any]]:
    found = []
    if described.url.startswith(("https://", "http://")):
        found.append((described.url, "isdocumentedby"))
    found += [(f"https://archive.softwareheritage.org/{one}", "haspart") for one in described.swhids]
    found += [(one, "references") for one in described.data if one.startswith(("https://", "http://"))]
    return [
        {"scheme": "url", "identifier": identifier, "relation_type": {"id": relation}}
        for identifier, relation in dict.fromkeys(found)
    ][:MOST_RELATED]
