"""The golden image: a small lock of packages made here, whose image must never change.

    python tests/golden/regenerate.py

writes ``golden.json``. The packages are made without a compressor (stored, or one hand-made deflate
stream), so that their bytes depend on nothing but this file. They hold one of each thing that decides about
bytes: links of both kinds, modes, configuration files, diversions, alternatives, users, wheel scripts.

A change of ``golden.json`` changes images that people have: it needs a new assembly version, or a reason in
the commit's message.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afenv.documents.lock import (
    Lock,
    LockedCode,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedPython,
    LockedWheel,
)
from afenv.documents.manifest import CodeSource
from afenv.layers.write import write_layers
from afenv.oci.image import assemble
from afenv.resolve.code import resolve_code
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher

GOLDEN = Path(__file__).with_name("golden.json")
CREATED = 1767225600  # 2026-01-01T00:00:00Z

PASSWD = "root:*:0:0:root:/root:/bin/sh\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
GROUP = "root:*:0:\ndaemon:*:1:\nstaff:*:50:\n"

# per package: control fields, control files, and files as (path, content, mode) or (path, kind, target)
Entry = tuple[str, bytes | str, int | str]
DEBS: Mapping[str, tuple[Mapping[str, str], Mapping[str, str], Sequence[Entry]]] = {
    "base-files": (
        {"Essential": "yes"},
        {"conffiles": "/etc/debian_version\n"},
        [
            ("bin", "directory", 0o755),
            ("etc/debian_version", b"12.0\n", 0o644),
            ("tmp", "directory", 0o1777),
            ("usr/lib/os-release", b'ID=golden\nVERSION_ID="1"\n', 0o644),
            ("etc/os-release", "symbolic link", "../usr/lib/os-release"),
            ("usr/share/base-files/profile", b"umask 022\n", 0o644),
        ],
    ),
    "base-passwd": (
        {"Essential": "yes"},
        {},
        [
            ("usr/share/base-passwd/passwd.master", PASSWD.encode(), 0o644),
            ("usr/share/base-passwd/group.master", GROUP.encode(), 0o644),
        ],
    ),
    "shell": (
        {"Depends": "base-files", "Provides": "sh"},
        {"postinst": "#!/bin/sh\nset -e\nupdate-alternatives --install /usr/bin/pager pager /bin/less 5\n"},
        [
            ("bin/golden-sh", b"#!shell\n" * 1000, 0o755),
            ("bin/sh", "symbolic link", "golden-sh"),
            ("bin/same-sh", "hard link", "bin/golden-sh"),
            ("bin/less", b"less\n", 0o755),
            ("bin/su", b"su\n", 0o4755),
            ("usr/share/doc/shell/umlaut-\u00e9.txt", "é".encode(), 0o644),
        ],
    ),
    "python-golden": (
        {"Depends": "shell"},
        {},
        [("usr/bin/python3.11", b"python\n", 0o755), ("usr/bin/python3", "symbolic link", "python3.11")],
    ),
}
WHEELS: Mapping[str, Mapping[str, bytes]] = {
    "alpha": {
        "alpha/__init__.py": b"VALUE = 1\n",
        "alpha/data.bin": bytes(range(256)) * 64,
        "alpha/empty.txt": b"",
        "alpha-1.0.data/scripts/alpha-run": b"#!python\nprint('alpha')\n",
        "alpha-1.0.dist-info/entry_points.txt": b"[console_scripts]\nalpha = alpha:main\n",
    },
    "beta": {"beta/__init__.py": b"import alpha\n", "beta.py": b"# a module\n"},
}
CODE: Mapping[str, bytes] = {"fit.py": b"import alpha\n", "data/numbers.txt": b"1\n2\n3\n"}


def make_deb(name: str) -> bytes:
    """A deb(5) with uncompressed members."""
    fields, control_files, entries = DEBS[name]
    control = {"Package": name, "Version": "1.0", "Architecture": "amd64", "Maintainer": "A <a@example.org>"}
    text = "".join(f"{key}: {value}\n" for key, value in (control | dict(fields)).items())
    text += "Description: golden\n"
    scripts: list[Entry] = [(key, value.encode(), 0o755) for key, value in control_files.items()]
    members = {
        "debian-binary": b"2.0\n",
        "control.tar": make_tar([("control", text.encode(), 0o644), *scripts]),
        "data.tar": make_tar(entries),
    }
    archive = b"!<arch>\n"
    for member, data in members.items():
        archive += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        archive += data + b"\n" * (len(data) % 2)
    return archive


def make_tar(entries: Sequence[Entry]) -> bytes:
    """A tar of the entries with the folders above them, as dpkg-deb writes it."""
    stream = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(path: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> None:
            member = tarfile.TarInfo(f"./{path}")
            member.type, member.mode, member.size, member.mtime = kind, mode, len(data), 1700000000
            member.linkname = target
            member.uname = member.gname = "root"
            tar.addfile(member, io.BytesIO(data))

        for path, content, detail in entries:
            for parent in reversed([str(one) for one in Path(path).parents if str(one) != "."]):
                if parent not in seen:
                    add(parent, tarfile.DIRTYPE, 0o755)
                    seen.add(parent)
            if isinstance(content, bytes):
                assert isinstance(detail, int)
                add(path, tarfile.REGTYPE, detail, content)
            elif isinstance(detail, int):
                add(path, tarfile.DIRTYPE, detail)
                seen.add(path)
            elif content == "hard link":
                add(path, tarfile.LNKTYPE, 0o755, target=f"./{detail}")
            else:
                add(path, tarfile.SYMTYPE, 0o777, target=detail)
    return stream.getvalue()


def make_wheel(name: str) -> bytes:
    """A wheel whose entries are stored, or have a deflate stream made by hand, in turn."""
    info = f"{name}-1.0.dist-info"
    files = {
        **WHEELS[name],
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: golden\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record_hash(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    return make_zip(files)


def make_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip archive (APPNOTE.TXT 4.3); each second entry is deflated, as one block that is not compressed."""
    body, directory = b"", b""
    for number, (path, data) in enumerate(files.items()):
        stream, method = data, 0
        if number % 2:
            stream, method = struct.pack("<BHH", 1, len(data), 0xFFFF ^ len(data)) + data, 8
        date = (2020 - 1980) << 9 | 1 << 5 | 1
        common = struct.pack(
            "<HHHHHIIIHH", 20, 0, method, 0, date, zlib.crc32(data), len(stream), len(data), len(path), 0
        )
        mode = 0o100644 << 16
        directory += b"PK\1\2" + struct.pack("<H", 3 << 8 | 20) + common
        directory += struct.pack("<HHHII", 0, 0, 0, mode, len(body)) + path.encode()
        body += b"PK\3\4" + common + path.encode() + stream
    count = len(files)
    return (
        body
        + directory
        + b"PK\5\6"
        + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    )


def _record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _locked_file(store: ContentStore, name: str, data: bytes) -> LockedFile:
    digest = store.put(data)
    url = f"https://packages.example.org/{name}"
    return LockedFile(urls=(url,), size=len(data), sha256=digest.removeprefix("sha256:"))


def make_lock(store: ContentStore, folder: Path, settings: Settings) -> Lock:
    """The lock, with the packages in the store and the code in the folder."""
    debs = [
        LockedDeb(
            name=name,
            version="1.0",
            architecture="amd64",
            source=name,
            file=_locked_file(store, f"{name}_1.0_amd64.deb", make_deb(name)),
            requested=name == "python-golden",
            control=dict(DEBS[name][0]),
        )
        for name in sorted(DEBS)
    ]
    wheels = [
        LockedWheel(
            name=name,
            version="1.0",
            file=_locked_file(store, f"{name}-1.0-py3-none-any.whl", make_wheel(name)),
            requested=name == "beta",
        )
        for name in sorted(WHEELS)
    ]
    return Lock(
        name="golden",
        version="1.0",
        metadata={"title": "A golden image", "license": "Apache-2.0"},
        assembly_version=1,
        code=(make_code(folder, store, settings),),
        environments={
            "default": LockedEnvironment(
                request="sha256:" + "0" * 64,
                platform="linux/amd64",
                as_of="2026-01-01T00:00:00Z",
                suite="bookworm",
                debs=tuple(debs),
                python=LockedPython(
                    version="3.11.2",
                    executable="/usr/bin/python3.11",
                    site_packages="/usr/local/lib/python3.11/dist-packages",
                    scripts="/usr/local/bin",
                ),
                wheels=tuple(wheels),
                bytecode=False,
                variables={"GOLDEN": "1"},
                entrypoint=("python3",),
            )
        },
    )


def make_code(folder: Path, store: ContentStore, settings: Settings) -> LockedCode:
    """Code in a plain folder, locked."""
    for path, data in CODE.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o644)
    return resolve_code(CodeSource(folder="."), folder, store, settings)


def build(work: Path, *, jobs: int = 2) -> dict[str, Any]:
    """Build the image with a new store under ``work``, and return what it is."""
    store = ContentStore(work / "store")
    settings = Settings(cache_folder=work / "store", offline=True, jobs=jobs)
    folder = work / "code"
    folder.mkdir(parents=True)
    lock = make_lock(store, folder, settings)
    layers = write_layers(
        lock.environments["default"],
        lock.code,
        store,
        settings,
        fetcher=Fetcher(store, settings, quiet=True),
        folder=folder,
        mtime=CREATED,
        quiet=True,
    )
    image = assemble(lock, "default", layers, CREATED, store)
    return {
        "assembly_version": lock.assembly_version,
        "image_id": image.image_id,
        "manifest_digest": image.manifest_digest,
        "layers": [
            {"source": layer.source, "diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size}
            for layer in image.layers
        ],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        GOLDEN.write_text(json.dumps(build(Path(work)), indent=2) + "\n")
    print(f"wrote {GOLDEN.name}")


if __name__ == "__main__":
    main()
