"""The cases of registries: push and pull of the image, and of one large blob, beside skopeo and oras."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from cases import Bench
from measure import Command, Contender, Sample, compare, run
from projects import AFENV

from afenv.oci.sif import sif_head

BLOB = 500_000_000  # bytes
MEMORY = 100e6  # bytes; the most that a transfer may need


def _ours(bench: Bench, *words: str | Path, memory: bool = False) -> Sample:
    environment = {"AFENV_CACHE_DIR": str(bench.work / "pull-store")}
    return run([AFENV, "-q", *words], environment=environment, sample_memory=memory)


def registry_image(bench: Bench) -> None:
    """the image, pushed to an empty registry, and pulled into a layout"""
    layout = bench.plain.layout
    tag, digest = _names(layout)
    place = ["", ""]  # the registry, and where to pull to

    def empty() -> None:
        place[0] = f"{bench.empty_registry()}/bench/image:1"

    def theirs(*command: str | Path) -> Callable[[], Sample]:
        return lambda: run([*command, place[0]])

    def skopeo_push() -> Sample:
        return run(
            ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:{tag}", f"docker://{place[0]}"]
        )

    outcome = compare(
        "push the image",
        bench.rounds,
        [
            Contender(
                name="afenv push",
                prepare=empty,
                command=lambda: _ours(bench, "push", "--no-attach", layout, place[0]),
            ),
            Contender(name="skopeo copy", prepare=empty, command=skopeo_push),
            Contender(
                name="oras cp",
                prepare=empty,
                command=theirs("oras", "cp", "--to-plain-http", "--from-oci-layout", f"{layout}@{digest}"),
            ),
        ],
    )
    bench.report.outcome(outcome, {"skopeo copy": 1.0, "oras cp": 1.0})

    def fresh() -> None:
        shutil.rmtree(bench.work / "pull-store", ignore_errors=True)
        place[1] = str(bench.fresh("pulled"))

    def theirs_pulled(command: Callable[[], Command]) -> Callable[[], Sample]:
        return lambda: run(command())

    outcome = compare(
        "pull the image",
        bench.rounds,
        [
            Contender(
                name="afenv pull",
                prepare=fresh,
                command=lambda: _ours(bench, "pull", place[0], "-o", place[1]),
            ),
            Contender(
                name="skopeo copy",
                prepare=fresh,
                command=theirs_pulled(
                    lambda: [
                        *("skopeo", "copy", "--src-tls-verify=false"),
                        *(f"docker://{place[0]}", f"oci:{place[1]}:x"),
                    ]
                ),
            ),
            Contender(
                name="oras cp",
                prepare=fresh,
                command=theirs_pulled(
                    lambda: [
                        *("oras", "cp", "--from-plain-http", place[0]),
                        *("--to-oci-layout", f"{place[1]}:x"),
                    ]
                ),
            ),
        ],
    )
    bench.report.outcome(outcome, {"skopeo copy": 1.0, "oras cp": 1.0})


def _names(layout: Path) -> tuple[str, str]:
    """The name and the digest of a layout's image."""
    import json

    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return str(entry["annotations"]["org.opencontainers.image.ref.name"]), str(entry["digest"])


def registry_blob(bench: Bench) -> None:
    """one blob of 500 MB, pushed and pulled"""
    blob = bench.fresh("blob.sif")
    with blob.open("wb") as file:
        file.write(
            sif_head(
                objects=(), partition_size=BLOB, architecture="amd64", identity=uuid.UUID(int=1), created=0
            )
        )
        for _ in range(BLOB // 1_000_000):
            file.write(os.urandom(1_000_000))
    place, pulled_to = [""], [bench.work]

    def empty() -> None:
        place[0] = f"{bench.empty_registry()}/bench/blob:1"

    outcome = compare(
        "push a blob",
        bench.rounds,
        [
            Contender(name="afenv push", prepare=empty, command=lambda: _ours(bench, "push", blob, place[0])),
            Contender(
                name="oras push",
                prepare=empty,
                command=lambda: run(
                    ["oras", "push", "--plain-http", place[0], f"{blob.name}:a/b"], folder=blob.parent
                ),
            ),
        ],
    )
    bench.report.outcome(outcome, {"oras push": 1.0})

    def fresh() -> None:
        shutil.rmtree(bench.work / "pull-store", ignore_errors=True)
        pulled_to[0] = bench.fresh("pulled")
        pulled_to[0].mkdir()

    outcome = compare(
        "pull a blob",
        bench.rounds,
        [
            Contender(
                name="afenv pull",
                prepare=fresh,
                command=lambda: _ours(bench, "pull", place[0], "-o", pulled_to[0] / "x.sif"),
            ),
            Contender(
                name="oras pull",
                prepare=fresh,
                command=lambda: run(["oras", "pull", "--plain-http", place[0], "-o", pulled_to[0]]),
            ),
        ],
    )
    bench.report.outcome(outcome, {"oras pull": 1.0})
    empty()
    pushed = _ours(bench, "push", blob, place[0], memory=True)
    fresh()
    pulled = _ours(bench, "pull", place[0], "-o", pulled_to[0] / "x.sif", memory=True)
    bench.report.figure("memory of the push", (pushed.peak or 0) / 1e6, "MB", most=MEMORY / 1e6)
    bench.report.figure("memory of the pull", (pulled.peak or 0) / 1e6, "MB", most=MEMORY / 1e6)


REGISTRY_CASES: dict[str, Callable[[Bench], None]] = {
    "registry-image": registry_image,
    "registry-blob": registry_blob,
}
