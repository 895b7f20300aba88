"""The metadata of a draft, judged by the JSON Schema of InvenioRDM itself, from its packages on PyPI.

The packages are unpacked and not imported: with all that they need they are a whole web application.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from afenv.workflow.submit import SubmitOptions, submit
from tests.submit.bags import METADATA, make_bag

pytestmark = pytest.mark.services
PACKAGES = ("invenio-rdm-records", "invenio-records-resources", "invenio-requests")


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Draft7Validator:
    """The schema of records, with what it refers to."""
    folder = tmp_path_factory.mktemp("invenio")
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, *PACKAGES], check=True, timeout=300)
    known = [
        (f"local://{path.relative_to(root)}", DRAFT7.create_resource(json.loads(path.read_bytes())))
        for root in folder.rglob("jsonschemas")
        for path in root.rglob("*.json")
    ]
    schemas = {name.removeprefix("local://"): one.contents for name, one in known}
    newest = max(name for name in schemas if name.startswith("records/record-v"))
    return Draft7Validator(schemas[newest], registry=Registry().with_resources(known))


@pytest.mark.parametrize("license", ["Apache-2.0", "MIT OR Apache-2.0", ""])
def test_a_draft_has_the_form_of_invenio_rdm(
    tmp_path: Path, validator: Draft7Validator, license: str
) -> None:
    bag = make_bag(tmp_path / "bag.zip", metadata={**METADATA, "license": license})
    done = submit(bag, SubmitOptions(to=("zenodo",), dry_run=True), quiet=True)
    assert [error.message for error in validator.iter_errors({"metadata": done.metadata["metadata"]})] == []


@pytest.mark.parametrize(
    ("field", "value"), [("title", 3), ("rights", [{"spdx": "MIT"}]), ("creators", [{"name": "Ada"}])]
)
def test_the_schema_finds_what_is_wrong(
    tmp_path: Path, validator: Draft7Validator, field: str, value: Any
) -> None:
    done = submit(make_bag(tmp_path / "bag.zip"), SubmitOptions(to=("zenodo",), dry_run=True), quiet=True)
    wrong = {**done.metadata["metadata"], field: value}
    assert list(validator.iter_errors({"metadata": wrong}))
