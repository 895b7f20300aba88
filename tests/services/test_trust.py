"""What is attached and signed, read by other programs: oras, openssl, sigstore's and in-toto's libraries."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from afenv.attest.bundle import image_statement, read_bundle, sign_statement
from afenv.attest.keys import generate_key, load_private
from afenv.attest.sign import key_signer, sign_image
from afenv.cli import main
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.layout import write_layout
from afenv.oci.referrers import fallback_tag
from afenv.testing import make_image
from afenv.workflow.push import push_layout

pytestmark = pytest.mark.services

DOCUMENTS = (
    (media.LOCK, "afenv.lock", b'{"afenv-lock": 1}\n'),
    (media.ANALYSIS_MANIFEST, "afenv.yaml", b"afenv: 1\n"),
    (media.SPDX, "sbom.spdx.json", b'{"spdxVersion":"SPDX-2.3","packages":[]}'),
)


def library(name: str) -> ModuleType:
    """A library that these tests alone need; it is there in CI."""
    if importlib.util.find_spec(name) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


def command(name: str) -> str:
    import shutil

    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is missing"
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def image(store):
    return make_image(store)


@pytest.fixture
def attachments() -> list[Attachment]:
    return [
        Attachment(artifact_type=kind, media_type=kind, title=title, content=content)
        for kind, title, content in DOCUMENTS
    ]


@pytest.fixture
def key() -> Any:
    return load_private(generate_key()[0], place="ci.key")


@pytest.fixture
def layout(image, attachments, key, store, tmp_path: Path) -> Path:
    signed = [*attachments, *sign_image(image, attachments, key_signer(key))]
    write_layout(image, store, tmp_path / "layout", attachments=signed)
    return tmp_path / "layout"


def run(*arguments: object, **options: Any) -> str:
    done = subprocess.run(
        [str(one) for one in arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_oras_discovers_and_pulls_what_is_attached(registry, image, attachments, layout, tmp_path: Path):
    """docker-registry 2.8 has no referrers API: this is the fallback tag."""
    oras = command("oras")
    reference = f"{registry}/group/sample:1"
    push_layout(layout, reference, quiet=True)
    found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", reference))
    types = [one["artifactType"] for one in found["referrers"]]
    assert sorted(types) == sorted(
        [media.LOCK, media.ANALYSIS_MANIFEST, media.SPDX, media.SIGSTORE_BUNDLE, media.SIGSTORE_BUNDLE]
    )
    for one in found["referrers"]:
        run(
            oras,
            "pull",
            "--plain-http",
            "-o",
            tmp_path / "pulled",
            f"{registry}/group/sample@{one['digest']}",
        )
    for attachment in attachments:
        assert (tmp_path / "pulled" / attachment.title).read_bytes() == attachment.content
    listed = json.loads(
        run(
            oras,
            "manifest",
            "fetch",
            "--plain-http",
            f"{registry}/group/sample:{fallback_tag(image.manifest_digest)}",
        )
    )
    assert listed["mediaType"] == media.IMAGE_INDEX and len(listed["manifests"]) == 5


def test_what_oras_attaches_stays(registry, image, layout, tmp_path: Path):
    oras = command("oras")
    reference = f"{registry}/group/sample:1"
    push_layout(layout, reference, quiet=True, attach=False)
    (tmp_path / "note.txt").write_text("hello\n")
    attach = (
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/x-note",
        reference,
        "note.txt:text/plain",
    )
    run(oras, *attach, cwd=tmp_path)
    push_layout(layout, reference, quiet=True)
    push_layout(layout, reference, quiet=True)
    found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", reference))
    types = [one["artifactType"] for one in found["referrers"]]
    assert types.count("application/x-note") == 1 and len(types) == 6


def test_signing_and_verifying_in_the_registry(registry, image, layout, tmp_path: Path, monkeypatch, capsys):
    reference = f"{registry}/group/sample:1"
    push_layout(layout, reference, quiet=True, attach=False)
    monkeypatch.setenv("AFENV_KEY_PASSWORD", "secret")
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert main(["-C", str(tmp_path), "-q", "key", "generate", "ci.key"]) == 0
    arguments = ["-C", str(tmp_path), "-q", "sign", reference, "--key", "ci.key", "--json"]
    capsys.readouterr()
    for expected in (1, 0):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["signatures"] == expected
    assert main(["-C", str(tmp_path), "-q", "verify", reference, "--key", "ci.pub"]) == 1
    out = capsys.readouterr().out
    assert "ok       signature: the manifest is signed by ci" in out and "MISSING  provenance" in out


def test_tools_still_read_a_layout_that_carries_attachments(
    layout, image, skopeo, umoci, docker, podman, registry, tmp_path: Path
):
    run(skopeo, "copy", "-q", f"oci:{layout}", f"oci:{tmp_path}/copy:1")
    run(skopeo, "copy", "-q", f"oci:{layout}:sample:1.0", f"oci:{tmp_path}/copy:2")
    found = json.loads(run(skopeo, "inspect", f"oci:{layout}"))
    assert found["Digest"] == image.manifest_digest
    run(umoci, "unpack", "--rootless", "--image", f"{layout}:sample:1.0", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "hello.txt").read_text() == "hello\n"
    run(*podman.split(), "pull", "-q", f"oci:{layout}")
    run(skopeo, "copy", "-q", f"oci:{layout}", "docker-daemon:afenv-trust-test:1")
    identity = json.loads(run(docker, "image", "inspect", "afenv-trust-test:1"))[0]["Id"]
    assert identity == image.image_id
    run(docker, "image", "rm", "-f", "afenv-trust-test:1")


def test_sigstores_own_model_reads_the_bundles(image, attachments, key):
    models = library("sigstore_models.bundle.v1")
    for one in sign_image(image, attachments, key_signer(key)):
        bundle = models.Bundle.from_json(one.content)
        assert bundle.media_type == media.SIGSTORE_BUNDLE
        assert bundle.verification_material.public_key.hint == key.public.hint
        assert bundle.dsse_envelope.payload_type == "application/vnd.in-toto+json"


def test_another_implementation_verifies_the_envelopes(image, attachments, key):
    """securesystemslib, of the in-toto and TUF projects."""
    dsse, signer = library("securesystemslib.dsse"), library("securesystemslib.signer")
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = signer.SSlibKey.from_crypto(load_pem_public_key(key.public.pem), keyid="ci")
    for one in sign_image(image, attachments, key_signer(key)):
        value = json.loads(one.content)["dsseEnvelope"]
        value["signatures"][0]["keyid"] = "ci"
        envelope = dsse.Envelope.from_dict(value)
        assert list(envelope.verify([public], 1)) == ["ci"]
        envelope.payload += b" "
        with pytest.raises(Exception, match=r"(?i)signature"):
            envelope.verify([public], 1)


def test_who_signed_with_a_key_is_nobody_to_sigstore(image, attachments, key):
    """The library refuses what has no certificate; without a network it is asked with its own trust root."""
    library("sigstore")
    from afenv.attest.keyless import KeylessVerifier

    verifier = KeylessVerifier("somebody@example.org", "https://issuer.example.org")
    for one in sign_image(image, attachments, key_signer(key)):
        assert verifier(one.content) is None


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519"])
def test_openssl_verifies_the_signature(kind: str, tmp_path: Path):
    signer = load_private(generate_key(kind)[0], place="x.key")
    statement = image_statement("sha256:" + "a" * 64)
    signed = read_bundle(sign_statement(statement, signer))
    (tmp_path / "key.pub").write_bytes(signer.public.pem)
    (tmp_path / "signature").write_bytes(signed.signatures[0])
    head = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(statement)
    (tmp_path / "data").write_bytes(head + statement)
    verify = [
        command("openssl"),
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key.pub",
        "-sigfile",
        "signature",
    ]
    verify += ["-rawin", "-in", "data"] + (["-digest", "sha256"] if kind == "ecdsa-p256" else [])
    run(*verify, cwd=tmp_path)
    (tmp_path / "data").write_bytes(b"something else")
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True, check=False).returncode != 0
