"""One measured run of a case of CVMFS, in a process of its own: ``catalogue``, ``copy`` or ``embed``."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import zlib
from pathlib import Path

NAME = "made.afenv.test"


def catalogue(path: Path) -> None:
    """Read every entry of a catalogue."""
    from afenv.cvmfs.catalogue import Catalogue

    found = sum(1 for _ in Catalogue(path, "", "bench").below(""))
    print(found)


def objects(stratum: Path) -> list[tuple[str, list[Path]]]:
    """Each file of the repository's only catalogue, and its objects in order."""
    letter = (stratum / NAME / ".cvmfspublished").read_bytes().split(b"\n")
    root = next(line[1:].decode() for line in letter if line.startswith(b"C"))
    data = zlib.decompress((stratum / NAME / "data" / root[:2] / f"{root[2:]}C").read_bytes())
    database = sqlite3.connect(":memory:")
    database.deserialize(data)
    chunks: dict[tuple[int, int], list[Path]] = {}

    def place(digest: bytes, kind: str) -> Path:
        digits = digest.hex()
        return stratum / NAME / "data" / digits[:2] / f"{digits[2:]}{kind}"

    for one, two, digest in database.execute(
        "SELECT md5path_1, md5path_2, hash FROM chunks ORDER BY md5path_1, md5path_2, offset"
    ):
        chunks.setdefault((one, two), []).append(place(digest, "P"))
    return [
        (name, chunks.get((one, two)) or [place(digest, "")])
        for one, two, name, digest in database.execute(
            "SELECT md5path_1, md5path_2, name, hash FROM catalog WHERE flags & 4 AND NOT flags & 8"
        )
    ]


def copy(stratum: Path, target: Path) -> None:
    """Copy every file through zlib and SHA-256 alone."""
    target.mkdir()
    for number, (name, parts) in enumerate(objects(stratum)):
        digest = hashlib.sha256()
        with (target / f"{number}-{name[-40:]}").open("wb") as file:
            for part in parts:
                content = zlib.decompress(part.read_bytes())
                digest.update(content)
                file.write(content)
        digest.hexdigest()


def embed(stratum: Path, store_folder: Path) -> None:
    """What `afenv lock` and `afenv build` do: every file read, checked, listed, and put into layers."""
    from afenv.cvmfs.closure import closure
    from afenv.cvmfs.configuration import Configuration
    from afenv.cvmfs.hashes import parse_hash
    from afenv.cvmfs.listing import list_parts
    from afenv.cvmfs.repository import Repository
    from afenv.layers.cvmfs import CvmfsParts
    from afenv.layers.writer import LayerWriter
    from afenv.settings import Settings
    from afenv.store.content import ContentStore

    letter = (stratum / NAME / ".cvmfspublished").read_bytes().split(b"\n")
    root = parse_hash(next(line[1:].decode() for line in letter if line.startswith(b"C")))
    store, settings = ContentStore(store_folder), Settings(cache_folder=store_folder, jobs=2)
    configuration = Configuration(strata=((stratum / NAME).as_uri(),))
    snapshot = Repository(NAME, configuration, store, settings).at(root)
    parts = list_parts(snapshot, closure(snapshot, "").entries, store)
    writer_of = CvmfsParts((), store, settings)
    writer_of._snapshots[NAME] = snapshot

    def write(part: object) -> int:
        with store.writer(durable=False) as blob:
            writer = LayerWriter(blob, mtime=0)
            writer_of.write(part, writer)  # type: ignore[arg-type]
            written = writer.finish()
            blob.commit(written.digest)
            return written.size

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(settings.jobs) as pool:
        print(sum(pool.map(write, parts)))
    store.sync()


if __name__ == "__main__":
    globals()[sys.argv[1]](*map(Path, sys.argv[2:]))
