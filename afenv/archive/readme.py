"""The README of a bag, for someone who has nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv.archive.index import ArchiveIndex

_TEXT = """\
# {title}

This is an archive of the analysis `{name}`, version {version}, written by {written_by}. It holds the
image that the analysis ran in, everything that the image was built from, and what describes both. Nothing in
it needs a network.

{description}## What is here

| in `data/` | |
|---|---|
| `afenv.yaml`, `afenv.lock` | what was asked for, and every byte that came of it, by sha256 |
| `image/` | the image: an OCI image layout (image-spec 1.1) |
| `sif/` | the same for Apptainer or Singularity, where it was written |
| `vm/` | the same as a virtual machine for QEMU, where it was written |
| `inputs/debian/` | Debian packages, as an archive with its signed index |
| `inputs/conda/` | conda packages, as channels |
| `inputs/pypi/` | Python packages: wheels and source archives |
| `inputs/base/` | the base image, save the layers that are in `image/` |
| `inputs/code/` | the code: git bundles or tars, and LFS content by sha256 |
| `attached/`, `keys/` | bill of materials (SPDX), provenance (SLSA), signatures and keys |
| `specs/` | the specifications of all these formats |
| `workflow/` | the steps of the analysis for Snakemake, where it has any |
| `software/` | afenv itself, and the Python packages that it needs |
| `data/`, `results/` | data and reference results, where they were archived |
| `afenv-archive.json` | every file with its size and sha256, and what it belongs to |
| `ro-crate-metadata.json` | the same for research catalogues (RO-Crate 1.2) |

The images:

{images}
{notes}## Is it whole?

Every file is in `manifest-sha256.txt` and `manifest-sha512.txt`. Without any other software:

    sha512sum --quiet -c manifest-sha512.txt

`bagit.py --validate .` and `afenv verify .` do the same, and afenv looks at more: signatures, and whether
every byte that the lock names is here.

## Run it

With a tool that takes OCI layouts, such as skopeo:

    skopeo copy oci:data/image:{reference} docker-daemon:{reference}

With Apptainer: `apptainer run data/sif/NAME.sif`, or `apptainer build NAME.sif oci:data/image:{reference}`.

Without either: the layers are gzip-compressed tar files. `data/image/index.json` names the image manifest,
and that the layers from the lowest up; unpack them on one another into a folder, and use `chroot` or `bwrap`.

{machines}{steps}## Build it again

Python 3.11 or newer on Linux is needed. afenv comes with the bag; install it beside it, for nothing may be
added here:

    python3 -m venv ../afenv
    ../afenv/bin/pip install --no-index --find-links data/software {install}
    ../afenv/bin/afenv verify --rebuild .

That builds the image anew from `data/inputs` alone, and says whether it has the same image ID. To go on
working with the analysis:

    ../afenv/bin/afenv restore . --to project -o ../analysis
    ../afenv/bin/afenv -C ../analysis rerun

The second one is for an analysis with steps. {scheduler}

"""


_MACHINES = """\
## Boot it, where no kernel or processor runs it any more

With QEMU and a shell, and nothing else of this bag or from anywhere:

    sh data/vm/{first}/run.sh COMMAND ARGUMENT ...

That boots the image with a Linux kernel of its own and runs the command in the folder at hand, which the
machine shares. The program of QEMU that it starts is {system}. With `AFENV_VM_ACCELERATOR=kvm` before it, it
is fast where that works; the script says what else can be set. `data/specs/vm/v1/spec.md` tells how machine
and host speak with each other.

"""


_STEPS = """\
## Run the steps

Snakemake 8 or newer and Apptainer run the steps in the image, without afenv, in a folder beside this bag:

    mkdir ../run
    cp -r data/workflow ../run/
    ln -s "$PWD/data/sif" ../run/sif
    cp -r data/data ../run/workflow/afenv-data
    cd ../run/workflow && snakemake

`data/data` has the data where it was archived; else bring it by its references, which are in `afenv.lock`.
`config.yaml` has the values of the parameters.

"""


_WITH = "Snakemake, which it needs, is here as well."
_WITHOUT = "It needs Snakemake besides (`../afenv/bin/pip install 'afenv[rerun]'`), which is not here."


def readme_text(index: ArchiveIndex, metadata: Mapping[str, Any]) -> bytes:
    """The README, in Markdown."""
    from afenv.oci.image import local_name, local_tag

    def has(name: str) -> bool:
        return any(file.path.startswith(f"software/{name}-") for file in index.files)

    extras = [extra for extra, package in (("rerun", "snakemake"), ("compare", "uproot")) if has(package)]
    images = "".join(
        f"- `{name}` for {one.platform}: image ID `{one.image_id}`\n"
        for name, one in sorted(index.environments.items())
    )
    first = sorted(index.environments)[0]
    notes = "".join(f"- {note}\n" for note in index.notes)
    if index.left_out:
        notes += "- Left out because of their licences, and needed to build the image again:\n"
        for one in index.left_out:
            where = f" ({one.urls[0]})" if one.urls else ""
            notes += f"    - {one.name}: sha256 `{one.sha256}`{where}\n"
    booted = [name for name, one in sorted(index.environments.items()) if one.vm]
    machines = _MACHINES.format(first=booted[0], system=_system(index, booted[0])) if booted else ""
    description = str(metadata.get("description") or "").strip()
    return _TEXT.format(
        title=metadata.get("title") or index.name,
        name=index.name,
        version=index.version,
        written_by=index.written_by,
        description=description + "\n\n" if description else "",
        images=images,
        install=f"'afenv[{','.join(extras)}]'" if extras else "afenv",
        scheduler=_WITH if has("snakemake") else _WITHOUT,
        steps=_STEPS if any(file.path == "workflow/Snakefile" for file in index.files) else "",
        machines=machines,
        notes=f"Of this bag:\n\n{notes}\n" if notes else "\n",
        reference=f"{local_name(index.name, first)}:{local_tag(index.version)}",
    ).encode()


def _system(index: ArchiveIndex, environment: str) -> str:
    arm = index.environments[environment].platform.startswith("linux/arm64")
    return "`qemu-system-aarch64`" if arm else "`qemu-system-x86_64`"
