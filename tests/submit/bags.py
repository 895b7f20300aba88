"""Small bags that are whole: their documents, and some bytes in the place of inputs."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from afenv.archive.crate import crate_metadata
from afenv.archive.index import parse_index
from afenv.documents.lockfile import parse_lock
from afenv.specs import specs_folder

METADATA = {
    "title": "Two muons",
    "description": "The mass of <two> muons & more.",
    "authors": [
        {"name": "Ada Maria Example", "orcid": "0000-0002-1825-0097", "affiliation": "Example University"},
        "Sample, Bo",
    ],
    "license": "Apache-2.0",
    "keywords": ["dimuon", "mass"],
    "funders": [{"name": "Example Council", "award": "EC-1"}, "Another"],
    "url": "https://example.org/dimuon",
}


def make_bag(
    path: Path,
    *,
    metadata: dict[str, Any] | None = None,
    filler: int = 4000,
    zeros: int = 0,
    restricted: bool = False,
    parts: int = 0,
) -> Path:
    """A bag in a zip; with ``parts``, cut into parts of so many bytes.

    With ``zeros`` the filler is so many bytes of zero, which take up no disk.
    """
    value = json.loads((specs_folder() / "archive/v1/examples/dimuon/afenv-archive.json").read_bytes())
    value.pop("left-out", None)
    value["restricted"] = [{"name": "cuda", "license": "EULA", "reason": "So it says."}] if restricted else []
    index = json.dumps(value).encode()
    lock = parse_lock((specs_folder() / "lock/v1/examples/dimuon/afenv.lock").read_bytes(), "lock")
    crate = crate_metadata(parse_index(index, "index"), METADATA if metadata is None else metadata, lock, [])
    files = {
        "bagit.txt": b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": b"Bag-Software-Agent: afenv\n",
        "README.md": b"Read me\n",
        "data/afenv-archive.json": index,
        "data/ro-crate-metadata.json": crate,
        "data/inputs/filler": bytes(zeros) or bytes(number * 7 % 251 for number in range(filler)),
    }
    for algorithm in ("sha256", "sha512"):
        files[f"manifest-{algorithm}.txt"] = _sums(files, algorithm, payload=True)
    for algorithm in ("sha256", "sha512"):
        files[f"tagmanifest-{algorithm}.txt"] = _sums(files, algorithm, payload=False)
    with _Sparse(path, "w") as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{path.stem}/{name}", content)
    if parts:
        _split(path, parts)
    return path


_ZEROS = bytes(1 << 20)


class _Sparse(io.FileIO):
    """A file in which long runs of zeros are holes."""

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            if len(part) == len(_ZEROS) and part == _ZEROS:
                self.seek(len(_ZEROS), io.SEEK_CUR)
            else:
                super().write(part)
        return len(view)


def _sums(files: dict[str, bytes], algorithm: str, *, payload: bool) -> bytes:
    lines = [
        f"{hashlib.new(algorithm, content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
        if name.startswith("data/") == payload and not name.startswith("tagmanifest")
    ]
    return "".join(lines).encode()


def _split(path: Path, size: int) -> None:
    from afenv.archive.parts import PartsIndex, SplitWriter
    from afenv.archive.source import open_bag

    with open_bag(path) as bag:
        members = bag.members  # type: ignore[union-attr]
    writer = SplitWriter(path.parent, path.name, size)
    writer.write(path.read_bytes())
    index = PartsIndex(name=path.stem, form="zip", parts=tuple(writer.finish()), members=tuple(members))
    path.with_name(path.name + ".parts.json").write_bytes(index.dump())
    path.unlink()
