"""``afenv verify``: is an image what is said of it, and who built what from which commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.attest.content import held_components, holds_records
from afenv.attest.facts import Check, Facts, Held
from afenv.attest.keys import PublicKey, read_public
from afenv.attest.policy import Policy, read_policy, violations
from afenv.attest.verify import verify_image
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment, read_attachments
from afenv.oci.check import layer_problems
from afenv.oci.files import Entry, LayerFiles, lay, merged, read_layer
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage, open_image

if TYPE_CHECKING:
    from afenv.attest.statements import Vouches
    from afenv.store.content import ContentStore

MARKS = {"ok": "ok     ", "bad": "WRONG  ", "missing": "MISSING", "unchecked": "–      "}
BAD, NO = 5, 1  # exit statuses


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was found out about an image."""

    target: str
    image: Image
    facts: Facts
    checks: tuple[Check, ...]
    policy: str | None = None
    violations: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 if all is well, 5 if something contradicts the image, 1 if something is missing or forbidden."""
        verdicts = {check.verdict for check in self.checks}
        return BAD if "bad" in verdicts else NO if "missing" in verdicts or self.violations else 0

    def _labels(self) -> dict[str, str]:
        return (self.image.configuration().get("config") or {}).get("Labels") or {}

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        labels = self._labels()
        return {
            "image": self.target,
            "verified": self.exit_status == 0,
            "manifest_digest": self.image.manifest_digest,
            "image_id": self.image.image_id,
            "analysis": labels.get(media.ANALYSIS),
            "version": labels.get(f"{media.OCI_PREFIX}version"),
            "environment": labels.get(media.ENVIRONMENT),
            "attached": sorted(self.facts.attached),
            "signed_by": [{"name": key.name, "identity": key.identity} for key in self.facts.signers],
            "built_by": self.facts.builder or None,
            "built_with": self.facts.builder_version or None,
            "provenance_signed": self.facts.provenance_trusted,
            "code": self.facts.code,
            "checks": [check.as_json() for check in self.checks],
            "policy": {
                "name": self.policy,
                "violations": list(self.violations),
                **({"code": "E614"} if self.violations else {}),
            }
            if self.policy
            else None,
        }

    def as_text(self) -> str:
        """The same for people."""
        value = self.as_json()
        lines = [f"image     {self.target}", f"manifest  {self.image.manifest_digest}"]
        if value["analysis"]:
            what = " ".join(filter(None, (value["analysis"], value["version"])))
            lines.append(f"analysis  {what}, environment {value['environment']}")
        if value["built_by"]:
            sure = (
                "" if value["provenance_signed"] else " (as the provenance says, which no given key signed)"
            )
            lines.append(f"built by  {value['built_by']} with afenv {value['built_with'] or '?'}{sure}")
        for code in self.facts.code:
            version = f"commit {code['commit']}" if code["commit"] else f"tree {code['tree']}"
            changed = ", with changes that are not committed" if code["dirty"] else ""
            lines.append(f"from      {code['name']}, {version}{changed}")
        lines += ["", *(f"{MARKS[check.verdict]}  {check.name}: {check.text}" for check in self.checks)]
        if self.policy:
            lines += ["", f"policy {self.policy}: {'met' if not self.violations else 'not met'}"]
            lines += [f"  {text}" for text in self.violations]
        return "\n".join(lines)


def verify(
    target: str,
    folder: Path,
    store: ContentStore,
    *,
    keys: Sequence[Path] = (),
    policy: Path | None = None,
    keyless: Vouches | None = None,
    content: bool = True,
    platform: str | None = None,
    quiet: bool = False,
) -> Report:
    """Verify a layout (a path relative to ``folder``) or an image in a registry; E001 if it is neither.

    ``content`` tells whether the image's layers are read and compared with the bill of materials.
    """
    rules = read_policy(policy) if policy else None
    trusted = [*map(read_public, keys), *(rules.keys if rules else ())]
    path = folder / target
    if path.exists():
        _refuse_sif(path)
        with open_image(path) as opened:
            attachments = (
                read_attachments(opened.index, opened.blobs, opened.image.manifest_digest, str(path))
                if opened.index
                else []
            )
            wrong = layer_problems(opened) if content else []
            whole = content and not wrong
            report = report_on(target, opened, attachments, trusted, rules, policy, keyless, whole)
            bad = (Check("content", "bad", f"{one.place}: {one.message}") for one in wrong)
            return replace(report, checks=(*report.checks, *bad))
    from afenv.oci.referrers import fetch_attachments
    from afenv.oci.registries import find_registry
    from afenv.workflow.remote import must_name_a_host, remote_image

    must_name_a_host(target)
    registry = find_registry()
    skipped: list[str] = []
    remote = registry.resolve(target, platform=platform, quiet=quiet)
    image = remote_image(remote)
    with registry.repository(target, actions="pull", quiet=quiet) as repository:
        attachments = fetch_attachments(repository, image.manifest_digest, skipped=skipped)
    if content:
        registry.pull(remote.reference, store, quiet=quiet)
    opened = OpenedImage(image=image, blobs=store, path=Path(target))
    report = report_on(target, opened, attachments, trusted, rules, policy, keyless, content)
    foreign = (Check("attachments", "unchecked", f"not read: {text}") for text in skipped)
    return replace(report, checks=(*report.checks, *foreign))


def _refuse_sif(path: Path) -> None:
    from afenv.oci.sif import is_sif

    if path.is_file():
        with path.open("rb") as file:
            if is_sif(file.read(64)):
                raise AfenvError(
                    "E510",
                    "this is a SIF, whose signatures are inside",
                    place=str(path),
                    remedy="Check it with `apptainer verify`; `afenv verify` takes the image it was made of.",
                )


def report_on(
    target: str,
    opened: OpenedImage,
    attachments: Sequence[Attachment],
    keys: Sequence[PublicKey],
    rules: Policy | None,
    policy: Path | None,
    keyless: Vouches | None,
    content: bool,
) -> Report:
    """The report on an image that is open, with what is attached to it."""
    image = opened.image
    held = _held(opened, attachments) if content else None
    facts, checks = verify_image(image, attachments, keys=keys, held=held, vouches=keyless)
    return Report(
        target=target,
        image=image,
        facts=facts,
        checks=tuple(checks),
        policy=(rules.name or str(policy)) if rules else None,
        violations=tuple(violations(rules, facts)) if rules else (),
    )


def _held(opened: OpenedImage, attachments: Sequence[Attachment]) -> Held:
    """The packages that the image's own records name, and those of its base image."""

    def read(position: int) -> LayerFiles:
        with opened.layer(position) as stream:
            return read_layer(stream, contents=False, keep=holds_records)

    layers = opened.image.layers
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(read, range(len(layers)))
        known = dict(zip((layer.diff_id for layer in layers), found, strict=True))
    files = merged(opened, contents=False, keep=holds_records, known=known)
    below: dict[str, Entry] = {}
    for layer in layers[: _base_layers(opened.image, attachments)]:
        lay(below, known[layer.diff_id])
    return Held(packages=frozenset(held_components(files)), base=frozenset(held_components(below)))


def _base_layers(image: Image, attachments: Sequence[Attachment]) -> int:
    """How many of the lowest layers are those of the base image that the attached lock names."""
    from afenv.documents.lockfile import parse_lock

    labels = (image.configuration().get("config") or {}).get("Labels") or {}
    for one in attachments:
        if one.artifact_type == media.LOCK:
            try:
                environment = parse_lock(one.content, one.title).environments.get(
                    labels.get(media.ENVIRONMENT, "")
                )
            except AfenvError:
                continue
            if environment is not None and environment.base is not None:
                wanted = [layer.diff_id for layer in environment.base.layers]
                if [layer.diff_id for layer in image.layers[: len(wanted)]] == wanted:
                    return len(wanted)
    return 0
