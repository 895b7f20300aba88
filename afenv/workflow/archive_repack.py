"""Wheels out of what is installed: the same bytes each time (binary distribution format, PyPA).

For afenv itself, and for packages of which the index has no wheel, so that one was built when they were
installed. Only those of pure Python are packed: their files are those of the wheel.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from afenv.errors import AfenvError
from afenv.resolve.pypi_inputs import normalised

_TIME = (1980, 1, 1, 0, 0, 0)
_MADE_HERE = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_build.json", "uv_cache.json")


def repacked(distribution: metadata.Distribution) -> tuple[str, bytes]:
    """File name and content of a wheel out of an installed distribution of pure Python.

    E736 where it is none, or has files elsewhere that a wheel would have to bring.
    """
    name = distribution.metadata["Name"]
    kind = distribution.read_text("WHEEL") or ""
    tags = [line.partition(":")[2].strip() for line in kind.splitlines() if line.startswith("Tag:")]
    if "Root-Is-Purelib: true" not in kind or not all(tag.endswith("-none-any") for tag in tags):
        raise AfenvError("E736", f"{name} has no wheel, and is not of pure Python")
    scripts = {one.name for one in distribution.entry_points if one.group.endswith("_scripts")}
    contents: dict[str, bytes] = {}
    for file in distribution.files or ():
        path = file.as_posix()
        if path.endswith(".pyc") or (file.parent.name.endswith(".dist-info") and file.name in _MADE_HERE):
            continue
        if path.startswith(".."):
            if file.name not in scripts:
                raise AfenvError("E736", f"{name} has no wheel, and a file at {path}")
            continue  # an installer makes it again
        contents[path] = Path(str(file.locate())).read_bytes()
    stem = f"{normalised(name).replace('-', '_')}-{distribution.version}"
    tag = sorted(tags)[0] if tags else "py3-none-any"
    return f"{stem}-{tag}.whl", wheel_of(contents, f"{stem}.dist-info")


def wheel_of(contents: Mapping[str, bytes], info: str) -> bytes:
    """A wheel of these files, with the RECORD in the folder ``info``, which comes last."""
    held = next((path.partition("/")[0] for path in contents if ".dist-info/" in path), info)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name in sorted(contents):
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(contents[name])])
    writer.writerow([f"{held}/RECORD", "", ""])
    whole = {**contents, f"{held}/RECORD": rows.getvalue().encode()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(whole, key=lambda name: (name.startswith(held), name)):
            member = zipfile.ZipInfo(name, _TIME)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, whole[name])
    return out.getvalue()
