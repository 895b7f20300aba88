"""Archiving and verifying, against what no tool can avoid: reading the bytes and hashing them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cases import Bench
from measure import Contender, Sample, compare, run

MEMORY = 256 << 20  # bytes over which a run is not of bounded memory
LARGE = 1 << 30  # bytes of the payload
FILES = 40
WITHIN = 1.3


def _make(bench: Bench) -> Path:
    """A store with blobs that hold random bytes, and a list of them."""
    folder = bench.fresh("archive")
    script = """
import os, sys
from pathlib import Path
from afenv.store.content import ContentStore
store = ContentStore(Path(sys.argv[1]) / "store")
lines = []
for number in range(int(sys.argv[3])):
    with store.writer() as writer:
        for _ in range(int(sys.argv[2]) // int(sys.argv[3]) >> 20):
            writer.write(os.urandom(1 << 20))
        digest = writer.digest()
        writer.commit(digest)
    lines.append(digest)
(Path(sys.argv[1]) / "list").write_text("\\n".join(lines))
"""
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", script, folder, str(LARGE), str(FILES)], check=True)
    return folder


WRITE = """
import sys
from pathlib import Path
from afenv.archive.items import of_blob
from afenv.archive.write import write_bag
from afenv.store.content import ContentStore
store = ContentStore(Path(sys.argv[1]) / "store")
digests = (Path(sys.argv[1]) / "list").read_text().split()
items = [of_blob(f"inputs/{n}.bin", store, digest, "inputs") for n, digest in enumerate(digests)]
write_bag(Path(sys.argv[2]), items, {}, b"# bench")
"""
VERIFY = """
import sys
from pathlib import Path
from afenv.archive.fixity import check_fixity
from afenv.archive.source import open_bag
with open_bag(Path(sys.argv[1])) as source:
    assert not check_fixity(source).problems
"""


def archives(bench: Bench) -> None:
    """1 GiB of the store as a bag, and its verification, against openssl and cat"""
    folder = _make(bench)
    blobs = [str(path) for path in (folder / "store/blobs").rglob("*") if path.is_file()]
    count = len(os.sched_getaffinity(0))
    out = folder / "out"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    def python(script: str, *words: str | Path) -> Sample:
        return run([sys.executable, "-c", script, *words], sample_memory=True)

    def hashing(*algorithms: str) -> Sample:
        parts = " & ".join(
            f"printf '%s\\0' {' '.join(blobs)} | "
            f"xargs -0 -n 4 -P {max(1, count // len(algorithms))} openssl dgst -{one}"
            for one in algorithms
        )
        return run(["sh", "-c", f"{parts} & wait"])

    def one_stream() -> Sample:
        return run(["sh", "-c", f"cat {' '.join(blobs)} | openssl dgst -sha512"])

    def copying() -> Sample:
        return run(["sh", "-c", f"cat {' '.join(blobs)} > {out / 'copy'}; sync {out / 'copy'}"])

    def links() -> Contender:
        return Contender(name="openssl, sha512", prepare=clear, command=lambda: hashing("sha512"))

    def slower() -> Contender:
        """What a file cannot be written faster than: the disk, or the hash of one stream."""
        clear()
        disk, digest = copying(), one_stream()
        if disk.wall > digest.wall:
            return Contender(name="cat and sync", prepare=clear, command=copying)
        return Contender(name="openssl, sha512 of one stream", prepare=clear, command=one_stream)

    for name, words, bound in (
        ("a bag of links", (folder, out / "bag"), links()),
        ("one tar", (folder, out / "bag.tar"), slower()),
        ("one zip", (folder, out / "bag.zip"), slower()),
    ):
        ours = f"afenv, {name}"
        own = Contender(name=ours, prepare=clear, command=lambda words=words: python(WRITE, *words))
        outcome = compare(name, bench.rounds, [own, bound])
        bench.report.outcome(outcome, {bound.name: 1 / WITHIN})
        bench.report.figure(f"{name}, memory", _peak(outcome.samples[ours]) / 1e6, "MB", most=MEMORY / 1e6)
    for form in ("bag", "bag.tar", "bag.zip"):
        clear()
        python(WRITE, folder, out / form)
        ours = f"afenv, verifying {form}"
        outcome = compare(
            f"verify {form}",
            bench.rounds,
            [
                Contender(name=ours, command=lambda form=form: python(VERIFY, out / form)),
                Contender(name="openssl, both sums", command=lambda: hashing("sha512", "sha256")),
            ],
        )
        bench.report.outcome(outcome, {"openssl, both sums": 1 / WITHIN})
        bench.report.figure(
            f"verifying {form}, memory", _peak(outcome.samples[ours]) / 1e6, "MB", most=MEMORY / 1e6
        )
    shutil.rmtree(folder)


def _peak(samples: Sequence[Sample]) -> float:
    return float(max(sample.peak or 0 for sample in samples))


ARCHIVE_CASES = {"archives": archives}
