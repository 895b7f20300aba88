"""The golden image on a base image, which must never change either; see ``regenerate.py``.

    python tests/golden/on_base.py

writes ``golden_on_base.json``. The base is a plain tar made here, with what decides about the bytes on top of
it: links at the top, owners of folders, accounts, dpkg's records, alternatives, a package that is replaced.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from afenv.layers.write import write_layers
from afenv.oci.base import base_of_image
from afenv.oci.image import assemble
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher
from afenv.testing import Member, folder, make_foreign_image, symlink

GOLDEN = Path(__file__).with_name("golden_on_base.json")
STATUS = b"""\
Package: shell
Status: install ok installed
Version: 0.9
Architecture: amd64

Package: other
Status: install ok installed
Version: 1
Architecture: all
"""
PAGER = b"auto\n/usr/bin/pager\n\n/bin/more\n3\n\n"
BASE = [
    folder("usr"),
    *(folder(f"usr/{name}") for name in ("bin", "lib", "share")),
    *(symlink(name, f"usr/{name}") for name in ("bin", "lib")),
    folder("usr/local", mode=0o2775, gid=50),
    symlink("analysis", "srv/analysis"),
    folder("srv", uid=1000, gid=1000, mode=0o750),
    folder("etc"),
    Member(path="etc/os-release", content=b"ID=debian\nVERSION_CODENAME=bookworm\n"),
    Member(path="etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\n"),
    Member(path="etc/group", content=b"root:x:0:\n"),
    Member(path="etc/shadow", content=b"root:*:1::::::\n", mode=0o640, gid=42),
    Member(path="etc/ld.so.conf", content=b"/usr/lib\n"),
    Member(path="etc/skel/.profile", content=b"# profile\n"),
    Member(path="usr/bin/bash", mode=0o755),
    Member(path="usr/bin/more", mode=0o755),
    Member(path="usr/bin/old-sh", mode=0o755),
    Member(path="var/lib/dpkg/status", content=STATUS),
    Member(path="var/lib/dpkg/info/shell.list", content=b"/.\n/bin\n/bin/old-sh\n/bin/golden-sh\n"),
    Member(path="var/lib/dpkg/info/other.list", content=b"/.\n/bin/more\n"),
    Member(path="var/lib/dpkg/alternatives/pager", content=PAGER),
]
SETTINGS = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "BASE=1"],
    "Cmd": ["bash"],
    "Labels": {"maintainer": "nobody"},
    "ExposedPorts": {"8888/tcp": {}},
}


def regenerate() -> ModuleType:
    """The program that makes the packages."""
    spec = importlib.util.spec_from_file_location(
        "golden_packages_on_base", GOLDEN.with_name("regenerate.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(work: Path, *, jobs: int = 2) -> dict[str, Any]:
    """Build the image with a new store under ``work``, and return what it is."""
    golden = regenerate()
    store = ContentStore(work / "store")
    settings = Settings(cache_folder=work / "store", offline=True, jobs=jobs)
    code = work / "code"
    code.mkdir(parents=True)
    lock = golden.make_lock(store, code, settings)
    image = make_foreign_image(store, [BASE], settings=SETTINGS, compression="")
    reference = "registry.example.org/base:1"
    base, opened = base_of_image(image, store, reference=reference, platform="linux/amd64")
    environment = dataclasses.replace(
        lock.environments["default"],
        base=base,
        entrypoint=(),
        debs=tuple(deb for deb in lock.environments["default"].debs if not deb.name.startswith("base-")),
    )
    lock = dataclasses.replace(lock, environments={"default": environment})
    layers = write_layers(
        environment,
        lock.code,
        store,
        settings,
        fetcher=Fetcher(store, settings, quiet=True),
        folder=code,
        mtime=golden.CREATED,
        quiet=True,
        base=lambda: opened,
    )
    built = assemble(lock, "default", layers, golden.CREATED, store)
    return {
        "assembly_version": lock.assembly_version,
        "image_id": built.image_id,
        "manifest_digest": built.manifest_digest,
        "layers": [
            {"source": layer.source, "diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size}
            for layer in built.layers
        ],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        GOLDEN.write_text(json.dumps(build(Path(work)), indent=2) + "\n")
    print(f"wrote {GOLDEN.name}")


if __name__ == "__main__":
    main()
