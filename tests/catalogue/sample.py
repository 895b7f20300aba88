"""Catalogues of any size, always the same: records as a laboratory may have them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from afenv.catalogue.record import Checked, Form, ImageRecord, Metadata, Origin
from afenv.facility.needs import CvmfsNeed, DataNeed, GpuCode, GpuNeed, Needs

WORDS = (
    "muon",
    "higgs",
    "jet",
    "tau",
    "flavour",
    "trigger",
    "photon",
    "dark",
    "heavy",
    "top",
    "kaon",
    "beam",
)
KINDS = ("mass", "search", "ratio", "decay", "width", "spectrum", "tagging", "calibration", "limits", "study")
MACHINES = (
    (1, (2, 36), (3, 2, 0), "Debian's amd64"),
    (2, (2, 34), (3, 2, 0), "the base almalinux 9"),
    (3, (2, 39), (3, 2, 0), "the base almalinux 10"),
    (1, (2, 28), (3, 2, 0), "Debian's amd64"),
    (1, (2, 17), (2, 6, 32), ""),
    (1, (2, 12), (2, 6, 18), ""),
    (3, (2, 36), (3, 2, 0), "usr/lib/libfast.so"),
    (None, None, None, ""),
)
LIBRARIES = ("libcublas.so.12", "libcudnn_ops.so.9", "libcufft.so.11", "libtorch_cuda.so", "libnccl.so.2")
CODES = (((7, 0), (8, 0), (9, 0)), ((8, 0), (9, 0)), ((6, 0), (7, 0), (7, 5)), ((9, 0),))
TOOLKITS = ((12, 4), (12, 9), (11, 8), (13, 0), (10, 2))


def digest(*parts: object) -> str:
    """A digest that depends on the parts."""
    return "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()


def _gpu(dice: random.Random) -> GpuNeed | None:
    if dice.random() < 0.7:
        return None
    toolkit = dice.choice(TOOLKITS)
    code = tuple(GpuCode(kind="cubin", capability=one) for one in dice.choice(CODES))
    code += (GpuCode(kind="ptx", capability=code[-1].capability),) if dice.random() < 0.5 else ()
    known = dice.random() < 0.8
    names = LIBRARIES[: dice.randint(1, len(LIBRARIES))]
    return GpuNeed(
        optional=dice.random() < 0.3,
        toolkit=toolkit,
        least_driver={10: (440, 33), 11: (450, 80, 2), 12: (525,), 13: (580,)}[toolkit[0]],
        least_cuda=(toolkit[0], 0),
        full_driver=None
        if dice.random() < 0.2
        else {10: (440, 33), 11: (520, 61, 5), 12: (550, 54, 14), 13: (580, 65, 6)}[toolkit[0]],
        code=code if known else None,
        files=tuple((f"opt/env/lib/{name}", code) for name in names) if known else (),
    )


def records(count: int, seed: int = 7) -> Iterator[ImageRecord]:
    """So many records: some hundred analyses, each in several versions and environments."""
    dice = random.Random(seed)
    made = 0
    number = 0
    while made < count:
        number += 1
        name = f"{dice.choice(WORDS)}-{dice.choice(KINDS)}-{number:04}"
        host = dice.choice(("registry.example.org", "docker.io", "registry.example.net:5000"))
        group = dice.choice(("team", "group/sub", "people"))
        uris = tuple(f"root://eos.example.org//eos/{name}/{part}.root" for part in range(dice.randint(1, 4)))
        data = (DataNeed(name="events", uris=uris),) if dice.random() < 0.5 else ()
        environments = [("default", _gpu(dice), dice.choice(MACHINES))]
        if dice.random() < 0.3:
            environments.append(("gpu", _gpu(dice), dice.choice(MACHINES)))
        cvmfs = ()
        if dice.random() < 0.3:
            repository = dice.choice(("sft.cern.ch", "cms.cern.ch", "lhcb.cern.ch"))
            cvmfs = (CvmfsNeed(name=repository, revision=dice.randint(100, 140)),)
        for version in range(dice.randint(1, 12)):
            for environment, gpu, (level, glibc, kernel, level_of) in environments:
                if made == count:
                    return
                made += 1
                own = digest(name, environment, version)
                created = (
                    f"20{dice.randint(20, 26)}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}T12:00:00Z"
                )
                reference = f"{host}/{group}/{name}:{version}.{dice.randint(0, 9)}"
                forms = [
                    Form(form="oci", reference=reference, digest=own, size=dice.randint(10**7, 6 * 10**9))
                ]
                if dice.random() < 0.4:
                    forms.append(
                        Form(
                            form="sif",
                            reference=f"{reference}-sif",
                            digest=digest(own, "sif"),
                            size=dice.randint(10**7, 4 * 10**9),
                        )
                    )
                if dice.random() < 0.1:
                    forms.append(Form(form="cvmfs", path=f"/cvmfs/unpacked.cern.ch/{reference}"))
                kinds = tuple(dict.fromkeys("oci" if one.form == "cvmfs" else one.form for one in forms))
                checked = None
                if dice.random() < 0.2:
                    state = dice.choice(("same", "same", "same", "moved", "vanished", "changed", "unreached"))
                    checked = Checked(time="2026-11-30T00:00:00Z", state=state)
                yield ImageRecord(
                    name=name,
                    environment=environment,
                    version=f"{version}.0",
                    reference=reference,
                    digest=own,
                    image_id=digest(own, "config"),
                    platform="linux/amd64",
                    added="2026-11-01T00:00:00Z",
                    forms=tuple(forms),
                    needs=Needs(
                        name=name if environment == "default" else f"{name}:{environment}",
                        architecture="arm64" if dice.random() < 0.05 else "amd64",
                        level=level,
                        level_of=level_of if level else "",
                        glibc=glibc,
                        kernel=kernel,
                        gpu=gpu,
                        cvmfs=cvmfs,
                        data=data,
                        network=dice.random() < 0.05,
                        forms=kinds,
                        compression=(dice.choice(("gzip", "gzip", "zstd")),),
                        layers=dice.choice((7, 40, 91, 91, 126)),
                        size=forms[0].size,
                        unpacked=None if dice.random() < 0.3 else 3 * (forms[0].size or 0),
                        registry=host,
                        unpacked_at=forms[-1].path,
                        jupyterhub=dice.choice((None, None, "5.2.1", "4.1.6")),
                        packages=dice.random() < 0.9,
                    ),
                    attached={kind: digest(own, kind) for kind in ("lock", "sbom", "provenance", "manifest")},
                    metadata=Metadata(
                        title=f"A {name.replace('-', ' ')}",
                        license="MIT",
                        authors=(f"Author {number % 97}",),
                        keywords=(dice.choice(WORDS), dice.choice(KINDS)),
                    ),
                    origin=Origin(
                        builder="https://gitlab.example.org/ci",
                        created=created,
                        source=f"https://gitlab.example.org/{group}/{name}.git",
                        commit=hashlib.sha1(own.encode()).hexdigest(),
                    ),
                    checked=checked,
                )
