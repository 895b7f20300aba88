"""The bound: the same bytes through the C tools, one thread, from memory to nowhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Command, run
from projects import Project, blob


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of work: CPU seconds of the tool, and the bytes that went in."""

    name: str
    cpu: float
    size: int


def ar_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive (deb(5))."""
    data = archive.read_bytes()
    offset = 8
    while offset < len(data):
        header = data[offset : offset + 60]
        size = int(header[48:58])
        yield header[:16].decode().strip().rstrip("/"), data[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2


def _tool(name: str, command: Command, files: Sequence[Path]) -> Step:
    """Run a tool over files, three times; the least CPU time counts."""
    script = '"$@" > /dev/null'
    samples = [run(["sh", "-c", script, "sh", *command, *files]) for _ in range(3)]
    return Step(
        name=name, cpu=min(sample.cpu for sample in samples), size=sum(file.stat().st_size for file in files)
    )


def measure_bound(project: Project, work: Path) -> list[Step]:
    """The work that no builder of these layers can avoid, and what the C tools need for it.

    Inflate the debs, compress them again, inflate the wheels (whose own compressed streams are kept),
    and hash both forms of every layer.
    """
    (environment,) = project.lock.environments.values()
    compressed, tars = [], work / "debs.tar"
    with tars.open("wb") as output:
        for deb in environment.debs:
            for name, data in ar_members(blob(project.store, deb.file.digest)):
                if not name.startswith("data.tar"):
                    continue
                path = work / f"{deb.name}.{name}"
                path.write_bytes(data)
                tool = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}.get(path.suffix)
                if tool is None:
                    continue
                compressed.append(path)
                subprocess.run([tool, "-dc", path], stdout=output, check=True)
    built = project.build()
    layers = [layer for layer in built["layers"] if "code" not in layer["source"]]
    blobs = [blob(project.store, layer["digest"]) for layer in layers]
    wheels = [
        blob(project.store, layer["digest"])
        for layer in layers
        if not layer["source"].startswith(("debian", "system"))
    ]
    plain = work / "wheels.tar"
    with plain.open("wb") as output:
        subprocess.run(["igzip", "-dc", *wheels], stdout=output, check=True)
    return [
        _tool("xz of the debs", ["xz", "-dc"], [path for path in compressed if path.suffix == ".xz"]),
        _tool("compress the debs' files", ["igzip", "-1", "-c"], [tars]),
        _tool("inflate the wheels", ["igzip", "-dc"], wheels),
        _tool("hash plain", ["openssl", "dgst", "-sha256"], [tars, plain]),
        _tool("hash compressed", ["openssl", "dgst", "-sha256"], blobs),
    ]
