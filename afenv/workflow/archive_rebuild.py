"""Building the images of a bag again, from the bag alone, and naming what comes out otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from afenv.archive.code import restore_code
from afenv.archive.index import ArchivedFile
from afenv.archive.names import LOCK, MANIFEST
from afenv.attest.facts import Check
from afenv.documents.lock import Lock, LockedEnvironment, LockedWheel
from afenv.errors import AfenvError
from afenv.oci.diff import file_changes
from afenv.oci.files import read_layer
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage
from afenv.progress import counted
from afenv.record import replace
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.workflow.archive_bag import Bag
from afenv.workflow.project import Project

_DEPTH = ("a", "b", "c", "d", "e")  # folders above the project, for code that lies beside it
SHOWN = 10  # paths that are named


def locked_digests(environment: LockedEnvironment) -> dict[str, str]:
    """Every file that the lock of an environment names: what it is, by digest."""
    found: dict[str, str] = {}
    for deb in environment.debs:
        found[deb.file.digest] = f"Debian package {deb.name} {deb.version}"
    for package in environment.conda:
        found[package.file.digest] = f"conda package {package.name} {package.version}"
    for wheel in environment.wheels:
        found |= _wheel(wheel)
    base = environment.base
    if base is not None:
        found[base.digest] = f"manifest of the base {base.reference}"
        found[base.config] = f"config of the base {base.reference}"
        found |= {layer.digest: f"layer of the base {base.reference}" for layer in base.layers}
    return found


def _wheel(wheel: LockedWheel) -> dict[str, str]:
    found = {wheel.file.digest: f"wheel of {wheel.name} {wheel.version}"}
    if wheel.built_from is not None:
        found[wheel.built_from.file.digest] = f"source archive of {wheel.name} {wheel.version}"
        for one in wheel.built_from.requires:
            found |= _wheel(one)
    return found


def code_digests(lock: Lock) -> dict[str, str]:
    """The LFS content that the lock names, by digest."""
    return {
        f"sha256:{one.sha256}": f"LFS content of {one.path}"
        for code in lock.code
        if code.git is not None
        for one in code.lfs
    }


@contextmanager
def project_of_bag(
    bag: Bag, lock: Lock, names: Sequence[str], folder: Path, store: ContentStore, *, quiet: bool
) -> Iterator[Project]:
    """The analysis of a bag as a project in ``folder``, with its inputs in ``store``, and no connection."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_bytes(bag.read(LOCK))
    (folder / MANIFEST).write_bytes(bag.read(MANIFEST))
    for file in bag.index.files:
        if file.path.startswith("project/"):
            path = folder / file.path.removeprefix("project/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bag.read(file.path))
    settings = replace(
        load_settings(offline=True),
        cache_folder=store.folder,
        mirrors=(),
        source_date_epoch=bag.index.epoch,
    ).beside(folder)
    bring_into_store(bag, lock, names, store)
    for kept, code in zip(bag.index.code, lock.code, strict=True):
        restore_code(kept, code, folder, store, settings, bag.source)
    yield Project(folder=folder, settings=settings, store=store, quiet=quiet)


def bring_into_store(bag: Bag, lock: Lock, names: Sequence[str], store: ContentStore) -> None:
    """Everything that the lock names for some environments, from the bag into a store."""
    known = bag.index.by_digest()
    wanted = code_digests(lock)
    for name in names:
        wanted |= locked_digests(lock.environments[name])
    with store.in_use():
        for digest, what in wanted.items():
            file = known.get(digest)
            if file is None:
                if digest in bag.left_out():
                    continue
                raise AfenvError("E728", f"the bag lacks the {what}, {digest}", place=bag.place)
            bag.into_store(file, store)
        store.sync()


def rebuild(bag: Bag, lock: Lock, names: Sequence[str], *, quiet: bool) -> list[Check]:
    """Build the images again in a folder of their own, and compare them with those of the bag."""
    checks = []
    known = bag.index.by_digest()
    with tempfile.TemporaryDirectory(prefix="afenv-rebuild-") as temporary:
        top = Path(temporary)
        store = ContentStore(top / "store")
        folder = top.joinpath(*_DEPTH, "project")
        able = []
        for name in names:
            missing = _missing(lock.environments[name], known)
            if any(one.parts for one in lock.environments[name].cvmfs):
                text = f"{name}: what is embedded of CVMFS is in the image's layers, and not kept as an input"
                checks.append(Check("rebuild", "unchecked", text))
            elif missing:
                text = f"{name}: the bag lacks {counted(len(missing), 'input')}, such as {missing[0]}"
                checks.append(Check("rebuild", "unchecked", text))
            else:
                able.append(name)
        if not able:
            return checks
        with project_of_bag(bag, lock, able, folder, store, quiet=quiet) as project:
            for name in able:
                checks += _rebuilt(bag, project, lock, name)
    return checks


def _missing(environment: LockedEnvironment, known: Mapping[str, ArchivedFile]) -> list[str]:
    return [what for digest, what in locked_digests(environment).items() if digest not in known]


def _rebuilt(bag: Bag, project: Project, lock: Lock, name: str) -> list[Check]:
    from afenv.workflow.build import image_of_lock

    try:
        image = image_of_lock(project, lock, name, bag.index.epoch)
    except AfenvError as error:
        if error.exit_status == 3:  # such as bubblewrap
            raise
        text = "; ".join(problem.message for problem in error.problems)
        return [Check("rebuild", "bad", f"{name}: it cannot be built from the bag: {error.code}: {text}")]
    expected = bag.index.environments[name].image_id
    if image.image_id == expected:
        return [Check("rebuild", "ok", f"{name}: built from the bag alone, it is {image.image_id} again")]
    opened, _ = bag.image(name)
    checks = [Check("rebuild", "bad", f"{name}: it is {image.image_id}, and the bag has {expected}")]
    rebuilt = OpenedImage(image=image, blobs=project.store, path=project.folder)
    checks += [Check("rebuild", "bad", f"{name}: {text}") for text in layer_differences(opened, rebuilt)]
    return checks


def layer_differences(old: OpenedImage, new: OpenedImage) -> Iterator[str]:
    """What differs between two images: the layers, and the paths in them."""
    before, after = old.image.layers, new.image.layers
    if len(before) != len(after):
        yield f"it had {counted(len(before), 'layer')}, and has {len(after)}"
    different = 0
    for number, (one, other) in enumerate(zip(before, after, strict=False)):
        if one.diff_id == other.diff_id:
            continue
        different += 1
        where = f"layer {number + 1} ({other.source or one.source or one.digest})"
        with old.layer(number) as left, new.layer(number) as right:
            found, times = file_changes(read_layer(left).entries, read_layer(right).entries)
        texts = [change.as_text() for change in found]
        texts += [f"~ {path} has another time" for path in times]
        yield from (f"{where}: {text}" for text in texts[:SHOWN])
        if len(texts) > SHOWN:
            yield f"{where}: and {len(texts) - SHOWN} more"
        if not texts:
            yield f"{where}: the same files in another form"
    if not different and len(before) == len(after):
        yield from _config_differences(old.image, new.image)


def _config_differences(old: Image, new: Image) -> Iterator[str]:
    before, after = old.configuration(), new.configuration()
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"the config's {key} differs: {before.get(key)} and {after.get(key)}"[:400]
