"""Judging images by a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afenv.attest.facts import Facts
from afenv.attest.policy import Choice, Policy, license_allowed, parse_policy, violations
from afenv.attest.sign import key_signer, sign_image
from afenv.attest.verify import verify_image
from afenv.cli import main
from afenv.oci.layout import write_layout

SOURCES = "sources: {allow: ['https://example.org/']}"


def facts_of(sample: Any, *keys: Any, trusted: Any = None) -> Facts:
    attachments = list(sample.attachments)
    for key in keys:
        attachments += sign_image(sample.image, sample.attachments, key_signer(key))
    return verify_image(sample.image, attachments, keys=[one.public for one in trusted or keys])[0]


def judged(text: str, facts: Facts, folder: Path | None = None) -> list[str]:
    return violations(parse_policy(f"afenv-policy: 1\n{text}\n".encode(), "p", folder or Path()), facts)


def with_keys(text: str, *keys: Any) -> str:
    listed = [{"name": f"k{number}", "pem": key.public.pem.decode()} for number, key in enumerate(keys)]
    return f"keys: {json.dumps(listed)}\n{text}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("require: [lock, manifest, sbom, provenance]", []),
        ("require: [signature]", ["no signature is attached"]),
        ("builders: ['urn:afenv:builder:*']", []),
        (
            "builders: ['https://*']",
            ["it was built by urn:afenv:builder:local, which the policy does not name"],
        ),
        (SOURCES, []),
        ("code: {allow: ['git+https://github.com/Group/*']}", []),
        ("licenses: {deny: [GPL-3.0-only]}", []),
        ("licenses: {deny: [bsd-3-clause]}", ["numpy 2.2.1 has the licence BSD-3-Clause AND LicenseRef-Own"]),
        ("licenses: {allow: [MIT]}", ["numpy 2.2.1 has the licence BSD-3-Clause AND LicenseRef-Own"]),
        ("packages: {deny: ['pkg:pypi/uproot@5.*']}", ["the package uproot 5.5.1 is denied"]),
        ("packages: {deny: ['pkg:conda/numpy@2.2.1']}", ["the package numpy 2.2.1 is denied"]),
        ("packages: {deny: ['pkg:pypi/uproot@4.*']}", []),
    ],
)
def test_rules(sample, text, found):
    assert judged(text, facts_of(sample)) == found


def test_sources_and_unknown_licences_name_each_package(sample):
    facts = facts_of(sample)
    found = judged("sources: {allow: ['https://deb.debian.org/']}", facts)
    assert len(found) == 4 and all("which the policy does not allow" in text for text in found)
    assert len(judged("sources: {deny: ['*uproot*']}", facts)) == 1
    assert judged("licenses: {unknown: false}", facts) == [
        "base-files 12.4+deb12u12 states no licence",
        "python3-six 1.16.0-4 states no licence",
        "uproot 5.5.1 states no licence",
    ]


def test_a_beginning_is_no_part_of_a_host(sample):
    facts = facts_of(sample)
    assert judged("sources: {allow: ['https://example.org']}", facts) != []
    assert judged("sources: {allow: ['https://example.or/']}", facts) != []


def test_dirty_code(make_sample):
    from afenv.record import replace

    lock = make_sample().lock
    lock = replace(lock, code=(replace(lock.code[0], dirty=True),))
    facts = facts_of(make_sample(lock))
    assert judged("code: {dirty: false}", facts) == ["the code Dimuon has changes that are not committed"]
    assert judged("code: {dirty: true}", facts) == []


def test_keys_and_their_number(sample, keys):
    one, other = keys["ecdsa-p256"], keys["ed25519"]
    both = facts_of(sample, one, other)
    assert judged(with_keys("signatures: 2\n" + SOURCES, one, other), both) == []
    only = facts_of(sample, one, trusted=[one, other])
    assert judged(with_keys("signatures: 1\n" + SOURCES, one, other), only) == []
    assert judged(with_keys("signatures: 2", one, other), only) == [
        "signatures by keys of the policy: 2 needed, 1 found"
    ]
    foreign = facts_of(sample, one)
    assert judged(with_keys("", other), foreign) == ["signatures by keys of the policy: 1 needed, 0 found"]


def test_a_policy_with_keys_judges_only_what_they_signed(sample, keys):
    key = keys["ed25519"]
    unsigned = facts_of(sample, trusted=[key])
    found = judged(with_keys("builders: ['*']\n" + SOURCES, key), unsigned)
    assert "the provenance is not signed by a key of the policy" in found
    assert "no key of the policy vouches for the bill of materials" in found


def test_a_policy_about_nothing_attached():
    found = judged("builders: ['*']\nlicenses: {deny: [MIT]}\ncode: {dirty: false}", Facts())
    assert "there is no bill of materials to judge packages by" in found
    assert "there is no provenance to judge the build by" in found


@pytest.mark.parametrize(
    ("expression", "allow", "deny", "allowed"),
    [
        ("MIT", ("MIT",), (), True),
        ("MIT OR GPL-3.0-only", (), ("GPL-3.0-only",), True),
        ("MIT AND GPL-3.0-only", (), ("GPL-3.0-only",), False),
        ("MIT AND (GPL-3.0-only OR ISC)", ("MIT", "ISC"), (), True),
        ("(MIT AND GPL-3.0-only) OR Zlib", ("MIT", "ISC"), (), False),
        ("GPL-3.0-only WITH GCC-exception-3.1", (), ("GPL-3.0-only",), False),
        ("GPL-3.0-only WITH GCC-exception-3.1", ("GPL-3.0-only WITH GCC-exception-3.1",), (), True),
        ("GPL-3.0-only", ("GPL-3.0-only WITH GCC-exception-3.1",), (), False),
        ("MIT OR", ("ISC",), (), False),
        ("(MIT", (), (), False),
        ("MIT)", (), (), False),
        ("", (), (), False),
    ],
)
def test_expressions(expression, allow, deny, allowed):
    assert license_allowed(expression, Choice(allow=allow, deny=deny)) is allowed


def test_an_empty_policy_is_met(sample):
    assert violations(Policy(), facts_of(sample)) == []


def test_the_command_says_what_is_not_met(sample, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    write_layout(sample.image, store, tmp_path / "layout", attachments=sample.attachments)
    (tmp_path / "policy.yaml").write_text("afenv-policy: 1\nname: here\nrequire: [signature]\n")
    arguments = ["-C", str(tmp_path), "verify", "layout", "--policy", "policy.yaml"]
    assert main(arguments) == 1
    assert "policy here: not met\n  no signature is attached" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["policy"] == {
        "name": "here",
        "violations": ["no signature is attached"],
        "code": "E614",
    }
    (tmp_path / "policy.yaml").write_text("afenv-policy: 1\nname: here\n")
    assert main(arguments) == 0
