"""What is believed of an image, and what is not."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afenv import canonical
from afenv.attest.content import Component, components, differences
from afenv.attest.facts import Held
from afenv.attest.sign import key_signer, sign_image
from afenv.attest.verify import verify_image
from afenv.cli import main
from afenv.digest import hex_of, sha256_bytes
from afenv.documents.lock import LockedBase, LockedBaseLayer
from afenv.documents.lockfile import dump_lock
from afenv.oci import media
from afenv.oci.attach_layout import add_to_layout
from afenv.oci.attached import Attachment
from afenv.oci.image import assemble
from afenv.oci.layout import write_layout
from afenv.record import replace as changed
from afenv.store.content import ContentStore
from afenv.testing import Member, make_layer
from afenv.workflow.attest import attachments_of
from afenv.workflow.verify import verify


def signed(sample: Any, key: Any) -> list[Attachment]:
    return [*sample.attachments, *sign_image(sample.image, sample.attachments, key_signer(key))]


def verdicts(checks: Any) -> dict[str, str]:
    """The worst verdict of each name."""
    order = ["ok", "unchecked", "missing", "bad"]
    found: dict[str, str] = {}
    for check in checks:
        found[check.name] = max(found.get(check.name, "ok"), check.verdict, key=order.index)
    return found


def with_content(sample: Any, kind: str, content: bytes) -> list[Attachment]:
    return [changed(one, content=content) if one.artifact_type == kind else one for one in sample.attachments]


@pytest.fixture
def layout(sample, store: ContentStore, tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    write_layout(sample.image, store, folder, attachments=sample.attachments)
    return folder


def test_a_sound_image(sample, store, layout, keys):
    report = verify("layout", layout.parent, store)
    assert verdicts(report.checks) == {
        "signature": "unchecked",
        "provenance": "ok",
        "sbom": "ok",
        "lock": "ok",
        "manifest": "ok",
    }
    assert report.exit_status == 0
    value = report.as_json()
    assert value["built_by"] == "urn:afenv:builder:local"
    assert value["code"] == [
        {
            "name": "Dimuon",
            "uri": "git+https://github.com/Group/Dimuon.git@" + "6" * 40,
            "commit": "6" * 40,
            "tree": "5" * 40,
            "dirty": False,
        }
    ]
    assert "which no given key signed" in report.as_text()
    assert "lists the 4 packages" in report.as_text()


def test_a_signed_image_on_the_command_line(sample, store, layout, keys, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    key = keys["ecdsa-p256"]
    (tmp_path / "ci.pub").write_bytes(key.public.pem)
    (tmp_path / "other.pub").write_bytes(keys["ed25519"].public.pem)
    assert main(["-C", str(tmp_path), "verify", "layout", "--key", "ci.pub", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verified"] is False
    add_to_layout(layout, sample.image, sign_image(sample.image, sample.attachments, key_signer(key)))
    assert main(["-C", str(tmp_path), "verify", "layout", "--key", "ci.pub", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["signed_by"] == [{"name": "ci", "identity": key.public.identity}]
    assert value["provenance_signed"] is True
    assert main(["-C", str(tmp_path), "verify", "layout", "--key", "other.pub"]) == 1
    assert "MISSING  signature" in capsys.readouterr().out
    assert main(["-C", str(tmp_path), "verify", "layout"]) == 0
    assert "give --key" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["another content", "a broken stream"])
def test_a_layer_that_was_exchanged(sample, store, layout, keys, damage):
    """The signed manifest names another digest than that of what lies in the layout."""
    key = keys["ecdsa-p256"]
    (layout.parent / "ci.pub").write_bytes(key.public.pem)
    add_to_layout(layout, sample.image, sign_image(sample.image, sample.attachments, key_signer(key)))
    blob = layout / "blobs" / "sha256" / hex_of(sample.image.layers[0].digest)
    data = gzip.decompress(blob.read_bytes())
    blob.unlink()  # it may be a link into the store
    if damage == "another content":
        blob.write_bytes(gzip.compress(data + bytes(512)))
    else:
        blob.write_bytes(gzip.compress(data)[:20] + b"evil" * 40)
    report = verify("layout", layout.parent, store, keys=[layout.parent / "ci.pub"])
    assert report.exit_status == 5 and verdicts(report.checks)["content"] == "bad"
    assert any("expected sha256:" in check.text for check in report.checks)


def test_signatures_of_another_image_do_not_count(sample, make_sample, keys):
    key = keys["ed25519"]
    other = make_sample(usr__extra=b"1")
    stolen = sign_image(other.image, other.attachments, key_signer(key))
    _, checks = verify_image(sample.image, [*sample.attachments, *stolen], keys=[key.public])
    assert verdicts(checks)["signature"] == "bad"
    facts, checks = verify_image(other.image, signed(other, key), keys=[key.public])
    assert [one.identity for one in facts.signers] == [key.public.identity]
    assert facts.provenance_trusted and facts.sbom_trusted


def test_a_forged_signature_is_wrong(sample, keys):
    attachments = signed(sample, keys["ed25519"])
    forged = []
    for one in attachments:
        if one.artifact_type == media.SIGSTORE_BUNDLE:
            value = json.loads(one.content)
            value["verificationMaterial"]["publicKey"]["hint"] = keys["ecdsa-p256"].public.hint
            one = changed(one, content=json.dumps(value).encode())
        forged.append(one)
    facts, checks = verify_image(sample.image, forged, keys=[keys["ecdsa-p256"].public])
    assert verdicts(checks)["signature"] == "bad"
    assert facts.signers == ()


def test_what_nobody_trusted_signed_does_not_count(sample, keys):
    """Whoever can write to the registry can attach a bill of materials and a provenance."""
    key = keys["ecdsa-p256"]
    only_image = [
        *sample.attachments,
        *(one for one in signed(sample, key) if one.title.startswith("signature-")),
    ]
    facts, checks = verify_image(sample.image, only_image, keys=[key.public])
    assert verdicts(checks)["signature"] == "ok"
    assert verdicts(checks)["provenance"] == verdicts(checks)["sbom"] == "missing"
    assert not facts.provenance_trusted and not facts.sbom_trusted


def test_a_false_document_beside_signed_ones_is_not_believed(sample, keys):
    key = keys["ecdsa-p256"]
    statement = json.loads(sample.of(media.IN_TOTO).content)
    statement["predicate"]["runDetails"]["builder"]["id"] = "https://example.org/evil"
    false = changed(sample.of(media.IN_TOTO), content=json.dumps(statement).encode())
    facts, _ = verify_image(sample.image, [false, *signed(sample, key)], keys=[key.public])
    assert facts.builder == "urn:afenv:builder:local"


@pytest.mark.parametrize("kind", [media.SPDX, media.LOCK, media.ANALYSIS_MANIFEST])
def test_a_document_that_the_provenance_does_not_name(sample, kind):
    data = sample.of(kind).content.replace(b"sample", b"simple")
    _, checks = verify_image(sample.image, with_content(sample, kind, data))
    assert "bad" in verdicts(checks).values()


def test_a_lock_of_other_inputs(sample):
    document = json.loads(sample.of(media.LOCK).content)
    document["environments"]["default"]["wheels"][0]["sha256"] = "9" * 64
    data = json.dumps(document).encode()
    attachments = [one for one in with_content(sample, media.LOCK, data) if one.artifact_type == media.LOCK]
    _, checks = verify_image(sample.image, attachments)
    assert verdicts(checks) == {
        "signature": "unchecked",
        "provenance": "missing",
        "sbom": "missing",
        "lock": "bad",
    }


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"spdxVersion": "SPDX-2.3", "packages": [1]}', b"\xff"]
)
@pytest.mark.parametrize("kind", [media.SPDX, media.IN_TOTO, media.LOCK, media.SIGSTORE_BUNDLE])
def test_damaged_documents_are_verdicts_not_crashes(sample, kind, data):
    damaged = Attachment(artifact_type=kind, media_type=kind, title="x", content=data)
    _, checks = verify_image(sample.image, [damaged])
    assert "bad" in verdicts(checks).values()


def test_the_bill_of_materials_is_compared_with_the_content(make_sample, store, tmp_path):
    tampered = make_sample(
        opt__conda__lib__python3_12=b"",
        **{"usr__lib__python3__dist-packages__evil-6.6.dist-info__METADATA": b"Name: evil\nVersion: 6.6\n"},
    )
    write_layout(tampered.image, store, tmp_path / "layout", attachments=tampered.attachments)
    report = verify("layout", tmp_path, store)
    assert report.exit_status == 5
    assert "the bill of materials lacks python evil 6.6" in report.as_text()
    assert verify("layout", tmp_path, store, content=False).exit_status == 0


def test_a_package_that_the_image_lacks(sample, make_sample, store, tmp_path):
    poor = make_sample(
        var__lib__dpkg__status=b"Package: base-files\nVersion: 12.4+deb12u12\nStatus: x installed\n"
    )
    write_layout(poor.image, store, tmp_path / "layout", attachments=poor.attachments)
    report = verify("layout", tmp_path, store)
    assert report.exit_status == 5
    assert "the image lacks deb python3-six 1.16.0-4" in report.as_text()


def test_packages_of_a_base_image_are_not_listed_one_by_one():
    listed = {Component("deb", "a", "1")}
    held = {Component("deb", "a", "1"), Component("deb", "b", "1")}
    assert differences(listed, held) == ["the bill of materials lacks deb b 1"]
    assert differences(listed, held, base={Component("deb", "b", "1")}) == []


def test_versions_are_compared_as_versions():
    assert differences({Component("python", "a-b", "2024.1")}, {Component("python", "A_b", "2024.01")}) == []
    assert differences({Component("deb", "a", "1.0")}, {Component("deb", "a", "1.00")})


def test_components_of_purls(sample):
    found = components(json.loads(sample.of(media.SPDX).content))
    assert Component("deb", "base-files", "12.4+deb12u12") in found
    assert Component("conda", "numpy", "2.2.1") in found
    assert len(found) == 4


def test_an_image_without_anything(sample):
    facts, checks = verify_image(sample.image, [], held=Held(packages=frozenset()))
    assert verdicts(checks) == {"signature": "unchecked", "provenance": "missing", "sbom": "missing"}
    assert facts.attached == frozenset() and facts.code == [] and facts.builder == ""


def test_a_signer_without_a_key(sample, keys):
    """What sigstore's library says of a bundle with a certificate is believed; without it, it is not."""
    plain = signed(sample, keys["ed25519"])
    certified = []
    for one in plain:
        if one.artifact_type == media.SIGSTORE_BUNDLE:
            value = json.loads(one.content)
            value["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}}
            one = changed(one, content=json.dumps(value).encode())
        certified.append(one)
    who = replace(keys["ed25519"].public, name="me@example.org")
    facts, checks = verify_image(sample.image, certified, vouches=lambda _: who)
    assert [one.name for one in facts.signers] == ["me@example.org"] and facts.provenance_trusted
    facts, checks = verify_image(sample.image, certified, vouches=lambda _: None)
    assert facts.signers == () and verdicts(checks)["signature"] == "missing"


def test_digests_are_of_contents(sample):
    assert sample.of(media.LOCK).digest == sha256_bytes(sample.of(media.LOCK).content)


def other_lock(sample: Any) -> tuple[Attachment, Attachment]:
    """A lock that was made later for the same image, and the provenance that names it."""
    document = json.loads(sample.of(media.LOCK).content)
    document["environments"]["default"]["as-of"] = "2026-02-01T00:00:00Z"
    lock = changed(sample.of(media.LOCK), content=canonical.indented(document))
    statement = json.loads(sample.of(media.IN_TOTO).content)
    documents = statement["predicate"]["buildDefinition"]["externalParameters"]["documents"]
    next(one for one in documents if one["name"] == "afenv.lock")["digest"]["sha256"] = lock.digest[7:]
    return lock, changed(sample.of(media.IN_TOTO), content=canonical.compact(statement))


def test_one_image_of_two_locks(sample, keys):
    """The same image, locked again later: both generations of documents stand beside each other."""
    lock, provenance = other_lock(sample)
    key = keys["ed25519"]
    later = [lock, provenance, sample.of(media.ANALYSIS_MANIFEST), sample.of(media.SPDX)]
    both = [*sample.attachments, lock, provenance]
    _, checks = verify_image(sample.image, both)
    assert "bad" not in verdicts(checks).values()
    for first, second in ((sample.attachments, later), (later, sample.attachments)):
        signatures = sign_image(sample.image, second, key_signer(key))
        _, checks = verify_image(sample.image, [*first, *second, *signatures], keys=[key.public])
        assert verdicts(checks)["provenance"] == "ok"
        assert "bad" not in verdicts(checks).values()
    _, checks = verify_image(sample.image, [*sample.attachments, lock])
    assert verdicts(checks)["lock"] == "unchecked", "no provenance names it"


def test_what_other_tools_attach_is_no_fault(sample):
    """A bill of materials beside the one that the provenance names, which is the one that is compared."""
    foreign = changed(sample.of(media.SPDX), content=b'{"spdxVersion": "SPDX-2.3", "packages": []}', title="")
    for attachments in ([foreign, *sample.attachments], [*sample.attachments, foreign]):
        facts, checks = verify_image(sample.image, attachments)
        assert verdicts(checks)["sbom"] == "unchecked" and len(facts.sbom["packages"]) == 6
    without = [one for one in sample.attachments if one.artifact_type != media.SPDX]
    _, checks = verify_image(sample.image, [*without, foreign])
    assert verdicts(checks)["sbom"] == "bad"


def test_only_what_a_key_vouches_for_counts_as_attached(sample, keys):
    key = keys["ed25519"]
    facts, _ = verify_image(sample.image, sample.attachments, keys=[key.public])
    assert facts.attached == frozenset()
    facts, _ = verify_image(sample.image, signed(sample, key), keys=[key.public])
    assert facts.attached == {"lock", "manifest", "sbom", "provenance", "signature"}
    facts, _ = verify_image(sample.image, sample.attachments)
    assert facts.attached == {"lock", "manifest", "sbom", "provenance"}


@pytest.mark.parametrize("odd", [{"externalRefs": 7}, {"checksums": [1]}, {"externalRefs": ["x"]}])
def test_odd_packages_are_a_verdict(sample, odd):
    package = {"SPDXID": "SPDXRef-a", "name": "a"} | odd
    content = json.dumps({"spdxVersion": "SPDX-2.3", "packages": [package]}).encode()
    _, checks = verify_image(sample.image, with_content(sample, media.SPDX, content))
    assert verdicts(checks)["sbom"] == "bad"


@pytest.mark.parametrize("kind", [media.SPDX, media.IN_TOTO, media.LOCK, media.SIGSTORE_BUNDLE])
def test_deep_nesting_is_a_verdict(sample, kind):
    deep = b"[" * 200_000
    damaged = Attachment(artifact_type=kind, media_type=kind, title="x", content=deep)
    _, checks = verify_image(sample.image, [damaged])
    assert "bad" in verdicts(checks).values()


@pytest.mark.parametrize(
    "predicate",
    [
        None,
        [],
        {"buildDefinition": 1, "runDetails": 2},
        {"runDetails": {"builder": "x", "byproducts": 7}},
        {"buildDefinition": {"resolvedDependencies": [1, {"digest": 2}]}},
        {"buildDefinition": {"externalParameters": {"documents": [{"digest": {}}]}}},
    ],
)
def test_odd_predicates(sample, predicate):
    statement = json.loads(sample.of(media.IN_TOTO).content) | {"predicate": predicate}
    attachments = with_content(sample, media.IN_TOTO, json.dumps(statement).encode())
    facts, checks = verify_image(sample.image, attachments)
    assert facts.builder == "" and facts.code == []
    assert verdicts(checks)["provenance"] == "ok"


def test_packages_that_a_base_image_brought(sample, store, tmp_path):
    """They are the base's, and the bill of materials names the base; a package of ours has to be listed."""
    below = [
        Member(
            path="var/lib/dpkg/status", content=b"Package: old\nStatus: install ok installed\nVersion: 1\n"
        )
    ]
    layer = make_layer(store, below, source="base")
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    config = json.dumps(settings).encode()
    base = LockedBase(
        reference="docker.io/library/debian:bookworm",
        digest="sha256:" + "b" * 64,
        size=1,
        media_type=media.IMAGE_MANIFEST,
        config=store.put(config),
        config_size=len(config),
        layers=(
            LockedBaseLayer(
                diff_id=layer.diff_id, digest=layer.digest, size=layer.size, media_type=layer.media_type
            ),
        ),
    )
    environment = changed(sample.lock.environments["default"], base=base, debs=(), conda=())
    lock = changed(sample.lock, environments={"default": environment})
    (sample.project.folder / "afenv.lock").write_bytes(dump_lock(lock))
    wheel = Member(path="site/uproot-5.5.1.dist-info/METADATA", content=b"Name: uproot\nVersion: 5.5.1\n")
    evil = Member(path="site/evil-1.dist-info/METADATA", content=b"Name: evil\nVersion: 1\n")
    for extra, expected in (((), 0), ((evil,), 5)):
        image = assemble(lock, "default", [make_layer(store, [wheel, *extra], source="all")], 0, store)
        attachments = attachments_of(sample.project, lock, "default", image)
        write_layout(image, store, tmp_path / "layout", attachments=attachments)
        report = verify("layout", tmp_path, store)
        assert report.exit_status == expected, report.as_text()
