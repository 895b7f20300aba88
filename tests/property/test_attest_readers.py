"""Whatever is attached to an image, reading it gives a value, a verdict or one of our errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.attest.bundle import image_statement, read_bundle, sign_statement, verified_by
from afenv.attest.content import components, image_checksum, read_sbom
from afenv.attest.keys import generate_key, load_private
from afenv.attest.policy import Choice, license_allowed, parse_policy
from afenv.errors import AfenvError
from afenv.oci.attached import content_descriptor, read_index
from afenv.workflow.cache_entry import embedded_envelope, read_entry

KEY = load_private(generate_key("ed25519")[0])
NAMES = st.sampled_from(
    [
        "mediaType",
        "verificationMaterial",
        "publicKey",
        "hint",
        "certificate",
        "rawBytes",
        "dsseEnvelope",
        "payload",
        "payloadType",
        "signatures",
        "sig",
        "messageSignature",
        "messageDigest",
        "algorithm",
        "digest",
        "spdxVersion",
        "packages",
        "SPDXID",
        "name",
        "externalRefs",
        "checksums",
        "manifests",
        "layers",
        "subject",
        "config",
        "size",
        "data",
    ]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "application/vnd.in-toto+json",
            "application/vnd.afenv.cache.entry.v1+json",
            "SPDX-2.3",
            "SHA2_256",
            "AAAA",
            "sha256:" + "a" * 64,
        ]
    ),
    st.text(max_size=8),
)
VALUES: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)


@given(VALUES)
def test_any_json(value: Any) -> None:
    data = json.dumps(value).encode()
    readers = (
        read_bundle,
        read_sbom,
        embedded_envelope,
        lambda one: read_index(one, "x"),
        lambda one: content_descriptor(one, "sha256:" + "a" * 64, "x"),
        lambda one: read_entry(one, "layer", "sha256:" + "a" * 64, [KEY.public]),
        lambda one: parse_policy(one, "x", Path()),
    )
    for reader in readers:
        try:
            found = reader(data)
        except AfenvError:
            continue
        if reader is read_sbom:
            components(found)
            image_checksum(found)


@given(st.data())
def test_a_changed_bundle_verifies_only_what_was_signed(data: st.DataObject) -> None:
    payload = image_statement("sha256:" + "a" * 64)
    bundle = bytearray(sign_statement(payload, KEY))
    position = data.draw(st.integers(0, len(bundle) - 1))
    bundle[position] ^= data.draw(st.integers(1, 255))
    try:
        signed = read_bundle(bytes(bundle))
    except AfenvError:
        return
    if verified_by(signed, [KEY.public]):
        assert signed.payload == payload


@given(st.text(alphabet="()AND OR WITHmit-3.0", max_size=40))
def test_any_expression(text: str) -> None:
    assert license_allowed(text, Choice(deny=("mit",))) in (True, False)


@pytest.mark.parametrize("depth", [10, 10_000])
def test_deep_expressions(depth: int) -> None:
    assert license_allowed("(" * depth + "MIT" + ")" * depth, Choice()) is (depth < 100)
