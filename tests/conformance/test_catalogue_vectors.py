"""Every vector of the catalogue: the valid are read and written again, the others have code and place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from afenv.catalogue.file import Catalogue
from afenv.catalogue.merge import contents_of
from afenv.catalogue.signed import TrustedKey, check_signature
from afenv.documents.schema import schema_errors
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "catalogue" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    data = (folder / "catalogue.zst").read_bytes()
    expected = json.loads((folder / "expected.json").read_bytes())
    found = Catalogue(data, "c.zst")
    assert (found.count, found.serial) == (expected["count"], expected["serial"])
    header = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    assert schema_errors(header, SCHEMA) == []
    contents = contents_of(found)
    again = contents.file(found.serial)
    assert contents_of(again).same(contents) and again.more == found.more
    assert again.index == found.index and again.tables == found.tables
    assert (found.signature is not None) == expected.get("signed", False)
    if found.signature is not None:
        key = TrustedKey(pem=(folder / "key.pub").read_bytes(), place="key.pub")
        assert check_signature(found, [key]) == "key.pub"


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        list(Catalogue((folder / "catalogue.zst").read_bytes(), "c.zst").records())
    (problem,) = caught.value.problems
    assert {"code": problem.code, "path": problem.path} == expected
    assert folder.name.startswith(expected["code"])
