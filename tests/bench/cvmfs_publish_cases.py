"""Unpacked images for CVMFS: afenv against `umoci unpack` and `apptainer build --sandbox`, to a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cases import Bench
from measure import Contender, Sample, compare, run
from projects import AFENV

from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.store.content import ContentStore

NAME = "registry.example.org/bench/plain:1"


def publish(bench: Bench, root: Path) -> Sample:
    """`afenv cvmfs publish --to`: the flat tree, and each layer once more."""
    return run([AFENV, "--quiet", "cvmfs", "publish", bench.plain.layout, NAME, "--to", root])


def umoci(layout: Path, output: Path) -> Sample:
    """`umoci unpack`: one tree, with a record of it for packing it again."""
    return run(["umoci", "unpack", "--keep-dirlinks", "--image", f"{layout}:image", output])


def apptainer(layout: Path, output: Path) -> Sample:
    """`apptainer build --sandbox`, without its cache: one tree."""
    environment = {"APPTAINER_CACHEDIR": str(output.parent / "cache"), "APPTAINER_TMPDIR": str(output.parent)}
    command = ["apptainer", "--silent", "build", "--disable-cache", "--sandbox", output, f"oci:{layout}"]
    return run(command, environment=environment)


def cvmfs_publish(bench: Bench) -> None:
    """an unpacked image in a folder: afenv (flat tree and layers), umoci and apptainer (one tree)"""
    folder = bench.fresh("cvmfs")
    folder.mkdir()
    layout = folder / "layout"
    with open_image(bench.plain.layout) as opened:  # under a name that umoci takes
        write_layout(opened.image, ContentStore(bench.store), layout, reference="image")
    own, unpacked, sandbox = folder / "afenv", folder / "umoci", folder / "sandbox"

    def gone(path: Path) -> Callable[[], None]:
        return lambda: shutil.rmtree(path, ignore_errors=True)

    outcome = compare(
        "cvmfs-publish",
        bench.rounds,
        [
            Contender(name="afenv cvmfs publish", command=lambda: publish(bench, own), prepare=gone(own)),
            Contender(name="umoci unpack", command=lambda: umoci(layout, unpacked), prepare=gone(unpacked)),
            Contender(
                name="apptainer build --sandbox",
                command=lambda: apptainer(layout, sandbox),
                prepare=gone(sandbox),
            ),
        ],
    )
    bench.report.outcome(outcome, {})
    again = compare(
        "cvmfs-publish-again",
        bench.rounds,
        [Contender(name="afenv cvmfs publish, nothing to do", command=lambda: publish(bench, own))],
    )
    bench.report.outcome(again, {})
    shutil.rmtree(folder)


CVMFS_PUBLISH_CASES: dict[str, Callable[[Bench], None]] = {"cvmfs-publish": cvmfs_publish}
