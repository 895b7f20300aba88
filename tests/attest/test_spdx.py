"""The bill of materials, held to the official validator."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from spdx_tools.spdx.model.document import Document
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from afenv.attest.licenses import (
    NOASSERTION,
    expression,
    from_metadata,
    from_wheel,
    learn_from_layers,
    wheel_licenses,
)
from afenv.attest.purl import code_purl
from afenv.attest.spdx import sbom
from afenv.documents.lock import LockedBase, LockedBaseLayer, LockedFile, LockedSource, LockedSubmodule
from afenv.documents.lockfile import read_lock
from afenv.oci import media
from afenv.oci.image import assemble
from afenv.specs import specs_folder
from afenv.testing import Member, make_layer

LOCKS = sorted((specs_folder() / "lock" / "v1").glob("vectors/valid/*/afenv.lock"))
IMAGE_ID = "sha256:" + "a" * 64
TIME = "2026-01-31T12:00:00Z"


def parsed(data: bytes) -> Document:
    return JsonLikeDictParser().parse(json.loads(data))


def test_the_official_validator_accepts_it(sample):
    document = parsed(sample.of(media.SPDX).content)
    assert validate_full_spdx_document(document) == []
    assert document.creation_info.spdx_version == "SPDX-2.3"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.parent.name)
def test_it_accepts_those_of_every_lock(path: Path):
    lock = read_lock(path)
    for name in lock.environments:
        assert validate_full_spdx_document(parsed(sbom(lock, name, IMAGE_ID, TIME))) == []


def test_the_validator_would_notice(sample):
    document = json.loads(sample.of(media.SPDX).content)
    document["packages"][1]["downloadLocation"] = "not a place"
    document["packages"][1]["checksums"][0]["checksumValue"] = "short"
    assert len(validate_full_spdx_document(JsonLikeDictParser().parse(document))) >= 2


def test_every_input_is_in_it(sample):
    document = json.loads(sample.of(media.SPDX).content)
    purls = {
        package["name"]: next(
            (
                ref["referenceLocator"]
                for ref in package.get("externalRefs", ())
                if ref["referenceType"] == "purl"
            ),
            None,
        )
        for package in document["packages"]
    }
    assert purls == {
        "sample": None,
        "base-files": "pkg:deb/debian/base-files@12.4%2Bdeb12u12?arch=amd64&distro=bookworm",
        "python3-six": "pkg:deb/debian/python3-six@1.16.0-4?arch=all&distro=bookworm",
        "numpy": "pkg:conda/numpy@2.2.1?build=py312_0&channel=conda-forge&subdir=linux-64&type=conda",
        "uproot": "pkg:pypi/uproot@5.5.1",
        "Dimuon": "pkg:github/group/dimuon@" + "6" * 40,
    }
    code = next(package for package in document["packages"] if package["name"] == "Dimuon")
    assert code["downloadLocation"] == "git+https://github.com/Group/Dimuon.git@" + "6" * 40
    assert {
        "referenceCategory": "PERSISTENT-ID",
        "referenceType": "swh",
        "referenceLocator": "swh:1:dir:" + "5" * 40,
    } in (code["externalRefs"])
    wheel = next(package for package in document["packages"] if package["name"] == "uproot")
    assert wheel["checksums"] == [{"algorithm": "SHA256", "checksumValue": "4" * 64}]
    assert wheel["downloadLocation"] == "https://example.org/uproot.whl"
    relations = {(one["relationshipType"], one["relatedSpdxElement"]) for one in document["relationships"]}
    contained = {package["SPDXID"] for package in document["packages"]} - {"SPDXRef-Image"}
    assert {element for kind, element in relations if kind == "CONTAINS"} == contained
    assert any(
        one["spdxElementId"].startswith("SPDXRef-deb-python3-six")
        and one["relationshipType"] == "DEPENDS_ON"
        and one["relatedSpdxElement"].startswith("SPDXRef-deb-base-files")
        for one in document["relationships"]
    )


def test_licences_are_those_that_packages_state(sample):
    document = json.loads(sample.of(media.SPDX).content)
    stated = {package["name"]: package["licenseDeclared"] for package in document["packages"]}
    assert stated["numpy"] == "BSD-3-Clause AND LicenseRef-Own"
    assert stated["sample"] == "MIT"
    assert stated["base-files"] == stated["uproot"] == NOASSERTION
    assert [one["licenseId"] for one in document["hasExtractedLicensingInfos"]] == ["LicenseRef-Own"]


def test_it_is_the_same_each_time(make_sample):
    first, second = make_sample(), make_sample()
    assert first.of(media.SPDX) == second.of(media.SPDX)
    document = json.loads(first.of(media.SPDX).content)
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert document["documentNamespace"] == f"urn:afenv:spdx:{first.image.image_id}"


def test_a_base_image_is_named(sample):
    layer = LockedBaseLayer(diff_id=IMAGE_ID, digest=IMAGE_ID, size=1, media_type=media.LAYER_GZIP)
    base = LockedBase(
        reference="docker.io/library/almalinux:9",
        digest="sha256:" + "b" * 64,
        size=1,
        media_type=media.IMAGE_MANIFEST,
        config=IMAGE_ID,
        config_size=1,
        layers=(layer,),
    )
    environment = replace(sample.lock.environments["default"], base=base)
    data = sbom(replace(sample.lock, environments={"default": environment}), "default", IMAGE_ID, TIME)
    assert validate_full_spdx_document(parsed(data)) == []
    (found,) = [one for one in json.loads(data)["packages"] if one["SPDXID"] == "SPDXRef-BaseImage"]
    assert (found["name"], found["versionInfo"]) == ("almalinux", "9")
    purl = f"pkg:oci/almalinux@sha256%3A{'b' * 64}?repository_url=docker.io/library/almalinux&tag=9"
    assert found["externalRefs"][0]["referenceLocator"] == purl


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("License-Expression: mit", "MIT"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("License: BSD", NOASSERTION),
        ("License: BSD\nLicense-Expression: Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
        ("License: Copyright\n  a text\n  of many lines", NOASSERTION),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT"),
        ("License: MIT and more\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License", NOASSERTION),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved",
            "MIT",
        ),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other", NOASSERTION),
        ("Name: x\n\nLicense: MIT", NOASSERTION),
        ("", NOASSERTION),
    ],
)
def test_what_a_wheel_states(text, found):
    assert from_metadata(text) == found


def test_licences_come_from_archives_once(sample, store, tmp_path):
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "uproot-5.5.1.dist-info/METADATA", "Name: uproot\nLicense-Expression: BSD-3-Clause\n"
        )
    assert from_wheel(path) == "BSD-3-Clause"
    data = path.read_bytes()
    digest = store.put(data)
    file = LockedFile(urls=("https://example.org/x.whl",), size=len(data), sha256=digest[7:])
    environment = sample.lock.environments["default"]
    (wheel,) = environment.wheels
    environment = replace(environment, wheels=(replace(wheel, file=file),))
    assert wheel_licenses(environment, store) == {digest[7:]: "BSD-3-Clause"}
    store.path(digest).unlink()
    assert wheel_licenses(environment, store) == {digest[7:]: "BSD-3-Clause"}
    assert wheel_licenses(sample.lock.environments["default"], store) == {}
    assert wheel_licenses(sample.lock.environments["default"], store, {"4" * 64: "MIT"}) == {"4" * 64: "MIT"}


def test_a_broken_wheel_states_nothing(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"PK\x03\x04 and then nothing")
    assert from_wheel(tmp_path / "x.whl") == NOASSERTION
    assert from_wheel(tmp_path / "y.whl") == NOASSERTION


def test_texts_are_no_expressions():
    assert expression("x" * 2000) == expression("MIT\nApache-2.0") == expression("") == NOASSERTION


def test_code_without_a_forge(sample):
    (code,) = sample.lock.code
    assert code_purl(replace(code, git=None), "dimuon") == f"pkg:generic/dimuon@{'6' * 40}"
    assert code_purl(replace(code, git=None, commit=None), "dimuon") is None
    other = replace(code, git="https://git.example.org/a/b.git")
    assert (
        code_purl(other, "x")
        == f"pkg:generic/b@{'6' * 40}?vcs_url=git%2Bhttps://git.example.org/a/b.git%40{'6' * 40}"
    )


def test_submodules_and_what_made_a_base(sample):
    (code,) = sample.lock.code
    submodule = LockedSubmodule(path="external/fit", commit="8" * 40, git="https://git.example.org/a/fit.git")
    bare = LockedSubmodule(path="external/own", commit="9" * 40)
    lock = replace(sample.lock, code=(replace(code, submodules=(submodule, bare)),))
    document = json.loads(sbom(lock, "default", IMAGE_ID, TIME))
    assert validate_full_spdx_document(JsonLikeDictParser().parse(document)) == []
    found = {one["name"]: one for one in document["packages"]}
    assert found["fit"]["downloadLocation"] == "git+https://git.example.org/a/fit.git@" + "8" * 40
    assert found["own"]["versionInfo"] == "9" * 40


def test_a_wheel_that_was_built_here(sample):
    environment = sample.lock.environments["default"]
    (wheel,) = environment.wheels
    source = LockedFile(urls=("https://example.org/uproot-5.5.1.tar.gz",), size=1, sha256="9" * 64)
    here = replace(wheel, file=replace(wheel.file, urls=()), built_from=LockedSource(file=source))
    lock = replace(sample.lock, environments={"default": replace(environment, wheels=(here,))})
    document = json.loads(sbom(lock, "default", IMAGE_ID, TIME))
    assert validate_full_spdx_document(JsonLikeDictParser().parse(document)) == []
    (found,) = [one for one in document["packages"] if one["name"] == "uproot"]
    assert found["downloadLocation"] == "https://example.org/uproot-5.5.1.tar.gz"
    assert found["sourceInfo"].endswith("9" * 64) and "packageFileName" not in found


def test_licences_come_from_layers_where_the_archives_are_gone(sample, store):
    metadata = b"Name: UpRoot\nVersion: 5.5.1\nLicense-Expression: BSD-3-Clause\n"
    layer = make_layer(
        store, [Member(path="site/uproot-5.5.1.dist-info/METADATA", content=metadata)], source="pypi:x"
    )
    image = assemble(sample.lock, "default", [layer], 0, store)
    environment = sample.lock.environments["default"]
    assert learn_from_layers(environment, image, store, {}) == {"4" * 64: "BSD-3-Clause"}
    assert wheel_licenses(environment, store) == {"4" * 64: "BSD-3-Clause"}
    other = assemble(sample.lock, "default", [make_layer(store, [], source="debian:x")], 0, store)
    assert learn_from_layers(environment, other, store, {}) == {}
