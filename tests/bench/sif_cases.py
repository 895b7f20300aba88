"""SIFs: afenv against `apptainer build` and against mksquashfs alone, on the same image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cases import Bench
from measure import Contender, Outcome, Sample, compare, run

from afenv.oci.merge import TarLayers, merged_members, tar_of, with_indexes
from afenv.oci.read import open_image

ZSTD = ("-comp", "zstd", "-Xcompression-level", "3")
GZIP = ("-comp", "gzip", "-Xcompression-level", "6")


def write_merged(layout: Path, path: Path) -> None:
    """The tar that a packer alone is given."""
    with open_image(layout) as opened:

        def attempt(indexes: object) -> None:
            with path.open("wb") as file:
                file.writelines(tar_of(merged_members(TarLayers(opened), indexes=indexes)))  # type: ignore[arg-type]

        with_indexes(TarLayers(opened), attempt)


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
            Contender(name="afenv", command=lambda: ours(bench, own)),
            Contender(name="mksquashfs -tar alone, zstd 3", command=lambda: packer(tar, alone, ZSTD)),
            Contender(name="apptainer build, zstd 3", command=lambda: apptainer(layout, theirs, arguments)),
        ],
    )
    bench.report.outcome(outcome, {"apptainer build, zstd 3": 4})
    ratio = 1 / outcome.ratio("mksquashfs -tar alone, zstd 3")[0]
    bench.report.figure("afenv / mksquashfs -tar alone", ratio, "×", most=1.3)
    memory = ours(bench, own, sample_memory=True)
    bench.report.figure("memory of afenv and mksquashfs", (memory.peak or 0) / 1e6, "MB", most=500)
    _sizes(bench, own, alone, theirs)
    shutil.rmtree(folder)


def sif_default(bench: Bench) -> None:
    """the same against `apptainer build` as it comes (gzip 9), once, as it takes minutes"""
    folder = bench.fresh("sif-default")
    folder.mkdir()
    own, theirs = folder / "afenv.sif", folder / "apptainer.sif"
    ours(bench, own)
    outcome = compare(
        "sif-default",
        1,
        [
            Contender(name="afenv", command=lambda: ours(bench, own)),
            Contender(name="apptainer build", command=lambda: apptainer(bench.plain.layout, theirs)),
        ],
    )
    bench.report.outcome(outcome, {"apptainer build": 20})
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
