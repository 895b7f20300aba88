"""SIFs: afenv against `apptainer build` and against mksquashfs alone, on the same image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cases import Bench
from measure import Contender, Outcome, Sample, compare, run
from projects import blob

from afenv.oci.merge import TarLayers, merged_members, tar_of, with_indexes
from afenv.oci.read import open_image
from afenv.oci.squashfs_layers import KIND

ZSTD = ("-comp", "zstd", "-Xcompression-level", "3")
CHANGED, FIRST = "afenv, after a change", "afenv, nothing packed yet"
ALONE = "mksquashfs -tar alone, zstd 3"
GZIP = ("-comp", "gzip", "-Xcompression-level", "6")


def write_merged(layout: Path, path: Path) -> None:
    """The tar that a packer alone is given."""
    with open_image(layout) as opened:
        layers = TarLayers(opened)

        def attempt(indexes: object) -> None:
            with path.open("wb") as file:
                file.writelines(tar_of(merged_members(layers, indexes=indexes)))  # type: ignore[arg-type]

        with_indexes(layers, attempt)


def packer(tar: Path, output: Path, options: tuple[str, ...]) -> Sample:
    """mksquashfs alone, reading a merged tar from the page cache."""
    output.unlink(missing_ok=True)
    words = ["mksquashfs", "-", output, "-tar", *options, "-quiet", "-no-progress"]
    return run(["/bin/sh", "-c", 'exec "$@" <"$0"', tar, *words], environment={"SOURCE_DATE_EPOCH": "1"})


def apptainer(layout: Path, output: Path, *options: str) -> Sample:
    """`apptainer build` from the layout, without its cache."""
    output.unlink(missing_ok=True)
    place = output.parent
    environment = {"APPTAINER_CACHEDIR": str(place / "cache"), "APPTAINER_TMPDIR": str(place)}
    command = ["apptainer", "--silent", "build", "--disable-cache", *options, output, f"oci:{layout}"]
    return run(command, environment=environment)


def ours(bench: Bench, output: Path, *options: str, sample_memory: bool = False) -> Sample:
    """`afenv build --target sif`, with all layers cached."""
    output.unlink(missing_ok=True)
    words = ["build", "--target", "sif", "-o", output.absolute(), *options]
    return bench.plain.afenv(*words, sample_memory=sample_memory)


def drop_packed(store: Path) -> None:
    """Remove the layers that are kept packed, as if no SIF had been made of them."""
    keys = store / "keys" / KIND
    for key in keys.rglob("*.json"):
        digest, *_ = json.loads(key.read_bytes())
        blob(store, digest).unlink()
    shutil.rmtree(keys, ignore_errors=True)


def contenders(bench: Bench, output: Path) -> list[Contender]:
    """afenv twice: after a change of the code, and where no layer was packed before."""

    def change() -> None:
        bench.plain.change_code()
        bench.plain.build()

    return [
        Contender(name=CHANGED, prepare=change, command=lambda: ours(bench, output)),
        Contender(
            name=FIRST, prepare=lambda: drop_packed(bench.plain.store), command=lambda: ours(bench, output)
        ),
    ]


def _sizes(bench: Bench, *paths: Path) -> None:
    for path in paths:
        bench.report.figure(f"size of {path.name}", path.stat().st_size / 1e6, "MB")


def sif(bench: Bench) -> None:
    """a SIF from cached layers, zstd"""
    folder = bench.fresh("sif")
    folder.mkdir()
    layout, tar = bench.plain.layout, folder / "merged.tar"
    write_merged(layout, tar)
    own, alone, theirs = folder / "afenv.sif", folder / "mksquashfs.squashfs", folder / "apptainer.sif"
    ours(bench, own)  # everything is in the page cache
    arguments = f"--mksquashfs-args={' '.join(ZSTD)}"
    outcome: Outcome = compare(
        "sif",
        bench.rounds,
        [
            *contenders(bench, own),
            Contender(name=ALONE, command=lambda: packer(tar, alone, ZSTD)),
            Contender(name="apptainer build, zstd 3", command=lambda: apptainer(layout, theirs, arguments)),
        ],
    )
    bench.report.outcome(outcome, {"apptainer build, zstd 3": 4})
    first = outcome.beside(FIRST)
    bench.report.outcome(first, {"apptainer build, zstd 3": 4})
    bench.report.figure(f"{FIRST} / {ALONE}", 1 / first.ratio(ALONE)[0], "×", most=1.3)
    drop_packed(bench.plain.store)
    memory = ours(bench, own, sample_memory=True)
    bench.report.figure("memory of afenv", (memory.peak or 0) / 1e6, "MB", most=500)
    _sizes(bench, own, alone, theirs)
    shutil.rmtree(folder)


def sif_default(bench: Bench) -> None:
    """the same against `apptainer build` as it comes (gzip 9), which takes minutes"""
    folder = bench.fresh("sif-default")
    folder.mkdir()
    own, theirs = folder / "afenv.sif", folder / "apptainer.sif"
    ours(bench, own)
    outcome = compare(
        "sif-default",
        bench.rounds,
        [
            *contenders(bench, own),
            Contender(name="apptainer build", command=lambda: apptainer(bench.plain.layout, theirs)),
        ],
    )
    bench.report.outcome(outcome, {"apptainer build": 20})
    bench.report.outcome(outcome.beside(FIRST), {"apptainer build": 20})
    _sizes(bench, own, theirs)
    shutil.rmtree(folder)


def sif_gzip(bench: Bench) -> None:
    """a SIF from cached layers, gzip, once"""
    folder = bench.fresh("sif-gzip")
    folder.mkdir()
    tar = folder / "merged.tar"
    write_merged(bench.plain.layout, tar)
    own, alone = folder / "afenv-gzip.sif", folder / "mksquashfs-gzip.squashfs"
    outcome = compare(
        "sif-gzip",
        1,
        [
            Contender(name="afenv, gzip 6", command=lambda: ours(bench, own, "--option", "compressor=gzip")),
            Contender(name="mksquashfs -tar alone, gzip 6", command=lambda: packer(tar, alone, GZIP)),
        ],
    )
    bench.report.outcome(outcome, {})
    ratio = 1 / outcome.ratio("mksquashfs -tar alone, gzip 6")[0]
    bench.report.figure("afenv / mksquashfs -tar alone, gzip", ratio, "×", most=1.3)
    _sizes(bench, own, alone)
    shutil.rmtree(folder)


SIF_CASES: dict[str, Callable[[Bench], None]] = {
    "sif": sif,
    "sif-default": sif_default,
    "sif-gzip": sif_gzip,
}
