"""Keys, envelopes and bundles. Other programs verify them in ``tests/services/test_trust.py``."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from afenv.attest.bundle import (
    MEDIA_TYPE,
    image_statement,
    read_bundle,
    sign_statement,
    verified_by,
)
from afenv.attest.keys import generate_key, load_private, load_public, read_public
from afenv.attest.sign import key_signer, sign_image
from afenv.cli import main
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attach_layout import add_to_layout, layout_attachments
from afenv.oci.layout import is_current, write_layout

STATEMENT = image_statement("sha256:" + "a" * 64)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519"])
def test_a_key_signs_and_its_public_part_verifies(keys, kind):
    key = keys[kind]
    bundle = sign_statement(STATEMENT, key)
    assert bundle == sign_statement(STATEMENT, key), "a signature is the same each time"
    signed = read_bundle(bundle)
    public = load_public(key.public.pem)
    assert verified_by(signed, [public]) == [public]
    other = next(one for name, one in keys.items() if name != kind)
    assert verified_by(signed, [other.public]) == []
    assert signed.statement()["subject"] == [{"digest": {"sha256": "a" * 64}}]


def test_the_form_of_a_bundle(keys):
    key = keys["ecdsa-p256"]
    value = json.loads(sign_statement(STATEMENT, key))
    assert value["mediaType"] == MEDIA_TYPE == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = base64.b64encode(hashlib.sha256(key.public.der).digest()).decode()
    assert value["verificationMaterial"] == {"publicKey": {"hint": hint}, "tlogEntries": []}
    envelope = value["dsseEnvelope"]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(base64.b64decode(envelope["payload"]))["predicateType"] == (
        "https://sigstore.dev/cosign/sign/v1"
    )


def test_a_message_signature_is_read(keys):
    key = keys["ecdsa-p256"]
    content = b"the manifest"
    value = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(hashlib.sha256(content).digest()).decode(),
            },
            "signature": base64.b64encode(key.sign(content)).decode(),
        },
    }
    signed = read_bundle(json.dumps(value).encode())
    assert verified_by(signed, [key.public], content) == [key.public]
    assert verified_by(signed, [key.public], b"another") == []
    assert verified_by(signed, [key.public]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("dsseEnvelope"),
        lambda value: value.update(mediaType="text/plain"),
        lambda value: value["dsseEnvelope"].update(payload=7),
        lambda value: value["dsseEnvelope"].update(signatures=None),
        lambda value: value["dsseEnvelope"].update(signatures=[{"sig": "é"}]),
        lambda value: value.update(verificationMaterial=[1]),
    ],
)
def test_a_damaged_bundle_is_one_error(keys, change):
    value = json.loads(sign_statement(STATEMENT, keys["ed25519"]))
    change(value)
    with pytest.raises(AfenvError) as caught:
        read_bundle(json.dumps(value).encode())
    assert caught.value.code == "E611"


def test_a_key_that_stands_twice_is_refused(keys):
    data = sign_statement(STATEMENT, keys["ed25519"])
    twice = data.replace(b'{"dsseEnvelope":', b'{"dsseEnvelope":{},"dsseEnvelope":', 1)
    assert twice != data
    with pytest.raises(AfenvError) as caught:
        read_bundle(twice)
    assert caught.value.code == "E611"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
def test_no_bundle_at_all(data):
    with pytest.raises(AfenvError) as caught:
        read_bundle(data)
    assert caught.value.code == "E611"


def test_a_password_protects_a_key(tmp_path: Path):
    private, public = generate_key(password="right")
    assert b"ENCRYPTED" in private
    key = load_private(private, "right", place="a.key")
    assert key.public.pem == public
    for password in (None, "wrong"):
        with pytest.raises(AfenvError) as caught:
            load_private(private, password, place="a.key")
        assert caught.value.code == "E610"


def test_other_keys_are_refused(tmp_path: Path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (pem, b"nothing", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(AfenvError) as caught:
            load_public(data)
        assert caught.value.code == "E610"
    with pytest.raises(AfenvError) as caught:
        read_public(tmp_path / "none.pub")
    assert caught.value.code == "E001"


def test_keys_from_the_command_line(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("AFENV_KEY_PASSWORD", "secret")
    assert main(["-C", str(tmp_path), "key", "generate", "ci.key", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (tmp_path / "ci.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "ci.key").read_bytes()
    assert main(["-C", str(tmp_path), "key", "show", "ci.pub"]) == 0
    assert capsys.readouterr().out.strip() == made["identity"]
    assert main(["-C", str(tmp_path), "key", "generate", "ci.key"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    monkeypatch.delenv("AFENV_KEY_PASSWORD")
    assert main(["-C", str(tmp_path), "sign", "nothing", "--key", "ci.key"]) == 2
    assert "AFENV_KEY_PASSWORD" in capsys.readouterr().err


def test_a_layout_carries_its_attachments(sample, store, tmp_path: Path):
    folder = tmp_path / "layout"
    assert write_layout(sample.image, store, folder, attachments=sample.attachments)
    assert not write_layout(sample.image, store, folder, attachments=sample.attachments)
    assert layout_attachments(folder, sample.image.manifest_digest) == sample.attachments
    assert not is_current(sample.image, store, folder)
    index = json.loads((folder / "index.json").read_bytes())
    assert [one["digest"] for one in index["manifests"]] == [sample.image.manifest_digest]
    write_layout(sample.image, store, folder)
    assert layout_attachments(folder, sample.image.manifest_digest) == []
    assert len(list((folder / "blobs" / "sha256").iterdir())) == 3, "what is not needed is removed"


def test_signing_a_layout_twice_adds_nothing(sample, store, keys, tmp_path: Path):
    folder = tmp_path / "layout"
    write_layout(sample.image, store, folder, attachments=sample.attachments)
    signatures = sign_image(sample.image, sample.attachments, key_signer(keys["ecdsa-p256"]))
    assert add_to_layout(folder, sample.image, signatures) == 3
    assert add_to_layout(folder, sample.image, signatures) == 0
    found = layout_attachments(folder, sample.image.manifest_digest)
    assert found == [*sample.attachments, *signatures]
    assert {one.artifact_type for one in signatures} == {media.SIGSTORE_BUNDLE}


def test_an_archive_carries_its_attachments(sample, store, tmp_path: Path):
    from afenv.oci.attached import read_attachments
    from afenv.oci.read import open_image
    from afenv_builders.oci import OciBuilder

    path = tmp_path / "image.tar"
    options = {"target": "oci-archive", "path": path, "attachments": sample.attachments}
    first = OciBuilder().build(sample.image, store, options)
    assert OciBuilder().build(sample.image, store, options) == first
    with open_image(path) as opened:
        digest = opened.image.manifest_digest
        assert read_attachments(opened.index, opened.blobs, digest, "x") == sample.attachments
