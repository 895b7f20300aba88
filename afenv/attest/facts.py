"""What is found out about an image: verdicts, and what its attachments say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from afenv.attest.content import Component
from afenv.attest.keys import PublicKey
from afenv.oci import media

Verdict = Literal["ok", "bad", "missing", "unchecked"]
CODES = {"bad": "E612", "missing": "E613"}
NAMES = {
    "lock": media.LOCK,
    "manifest": media.ANALYSIS_MANIFEST,
    "sbom": media.SPDX,
    "provenance": media.IN_TOTO,
    "signature": media.SIGSTORE_BUNDLE,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``bad`` is a contradiction, ``unchecked`` what could not be judged."""

    name: str
    verdict: Verdict
    text: str

    def as_json(self) -> dict[str, str]:
        """The check for programs."""
        value = {"name": self.name, "verdict": self.verdict, "text": self.text}
        return value | ({"code": CODES[self.verdict]} if self.verdict in CODES else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The packages that an image's own records name, and those that its base image had already."""

    packages: frozenset[Component]
    base: frozenset[Component] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the attachments say of an image, as far as it counts.

    ``attached`` has names of :data:`NAMES`; where keys were given, only of what they vouch for. ``trusted``
    tells whether a given key vouches for the provenance or the bill of materials.
    """

    attached: frozenset[str] = frozenset()
    signers: tuple[PublicKey, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)  # the predicate
    sbom: Mapping[str, Any] = field(default_factory=dict)  # the SPDX document
    provenance_trusted: bool = False
    sbom_trusted: bool = False

    @property
    def _builder(self) -> Mapping[str, Any]:
        return _mapping(_mapping(self.provenance, "runDetails"), "builder")

    @property
    def builder(self) -> str:
        """Who built the image, as a URI; empty if nothing says so."""
        return str(self._builder.get("id") or "")

    @property
    def builder_version(self) -> str:
        """With which version of afenv."""
        return str(_mapping(self._builder, "version").get("afenv") or "")

    @property
    def inputs(self) -> list[Mapping[str, Any]]:
        """What went into the build."""
        found = _mapping(self.provenance, "buildDefinition").get("resolvedDependencies")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def code(self) -> list[dict[str, Any]]:
        """The code that went into the build: ``name``, ``uri``, ``commit``, ``tree``, ``dirty``."""
        return [
            {
                "name": one.get("name"),
                "uri": one.get("uri"),
                "commit": _mapping(one, "digest").get("gitCommit"),
                "tree": _mapping(one, "digest").get("gitTree"),
                "dirty": bool(_mapping(one, "annotations").get("dirty")),
            }
            for one in self.inputs
            if _mapping(one, "digest").keys() & {"gitTree", "gitCommit"}
        ]


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
