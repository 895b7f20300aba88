"""What differs between two images, or between two locks: packages, files, configuration.

Images may be in different forms (:mod:`afenv.oci.forms`). Where one of them is not an OCI image, the files
are compared that a runtime shows (:func:`afenv.oci.tree.portable`) and times do not count; where one is a
folder whose files all belong to one ordinary user, who cannot give files away, owners do not count either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from afenv.errors import AfenvError
from afenv.oci.files import Entry, LayerFiles
from afenv.oci.forms import Tree, open_tree
from afenv.oci.model import Image
from afenv.oci.packages import Package, find_packages, holds_packages
from afenv.oci.tree import portable, tree_digest
from afenv.progress import counted

LIMIT = 50  # lines of one section that people are shown


class Change(NamedTuple):
    """One thing that differs: ``old`` or ``new`` is None where it is missing there."""

    what: str
    old: str | None
    new: str | None

    def as_text(self) -> str:
        """One line, with ``+``, ``-`` or ``~`` in front."""
        if self.old is None:
            return f"+ {self.what} {self.new}".rstrip()
        if self.new is None:
            return f"- {self.what} {self.old}".rstrip()
        return f"~ {self.what} {self.old} → {self.new}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What differs, by section: ``config``, ``packages``, ``files``.

    ``times`` are paths of which nothing but the modification time differs, which counts if ``timed``;
    ``layers`` says how many layers are shared; ``trees`` are the digests of both trees of files, as far as
    they were read.
    """

    config: tuple[Change, ...] = ()
    packages: tuple[Change, ...] = ()
    files: tuple[Change, ...] = ()
    times: tuple[str, ...] = ()
    layers: Mapping[str, int] | None = None
    trees: tuple[str, str] | None = None
    timed: bool = True
    same_id: bool = False

    @property
    def differs(self) -> bool:
        """Whether anything differs."""
        times = self.times if self.timed else ()
        return not self.same_id and bool(self.config or self.packages or self.files or times)

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; nothing is left out of it."""
        return {
            "differs": self.differs,
            "layers": self.layers,
            "trees": dict(zip(("old", "new"), self.trees, strict=True)) if self.trees else None,
            "times": list(self.times),
            **{
                section: [change._asdict() for change in getattr(self, section)]
                for section in ("config", "packages", "files")
            },
        }

    def as_text(self, limit: int = LIMIT) -> str:
        """For people: at most ``limit`` lines of each section, and how many more there are."""
        if not self.differs:
            return f"no difference; tree {self.trees[0]}" if self.trees else "no difference"
        text = []
        for section in ("config", "packages", "files"):
            changes = getattr(self, section)
            if changes:
                text.append(f"{section} ({len(changes)})")
                text += [f"  {change.as_text()}" for change in changes[:limit]]
                if len(changes) > limit:
                    text.append(f"  … and {len(changes) - limit} more (--json has all)")
        if self.times and self.timed:
            text.append(f"times: {counted(len(self.times), 'path')}, different in modification time only")
        if self.trees is not None:
            same = self.trees[0] == self.trees[1]
            text.append(
                f"files: the same, tree {self.trees[0]}" if same else f"trees: {' → '.join(self.trees)}"
            )
        if self.layers is not None:
            shared, old, new = (self.layers[key] for key in ("shared", "old", "new"))
            text.append(f"layers: {shared} shared, {old} only in the first, {new} only in the second")
        return "\n".join(text)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """The differences of two mappings, sorted by key."""
    return tuple(
        Change(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _package_map(packages: Iterable[Package]) -> dict[str, str]:
    """Versions by kind and name; where one name occurs several times, all versions."""
    versions: dict[str, list[str]] = {}
    for package in sorted(packages):
        versions.setdefault(f"{package.kind} {package.name}", []).append(package.version)
    return {name: ", ".join(found) for name, found in versions.items()}


def _config_map(config: Mapping[str, Any]) -> dict[str, str]:
    settings = config.get("config") or {}
    found = {key: str(config[key]) for key in ("architecture", "os", "variant", "created") if config.get(key)}
    for variable in settings.get("Env") or ():
        name, _, value = variable.partition("=")
        found[f"variable {name}"] = value
    for key, value in (settings.get("Labels") or {}).items():
        found[f"label {key}"] = str(value)
    for key, value in settings.items():
        if key not in ("Env", "Labels") and value:
            found[key] = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


_KINDS = {"f": "file", "d": "folder", "l": "link", "c": "character device", "b": "device", "p": "pipe"}


def _describe(entry: Entry) -> str:
    text = f"{_KINDS[entry.kind]} {entry.mode:04o} {entry.uid}:{entry.gid}"
    if entry.kind == "f":
        return f"{text} {entry.size} B sha256:{entry.sha256[:12]}"
    return f"{text} to {entry.target}" if entry.target else text


def file_changes(
    old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Paths that differ in kind, mode, owner, content, target or extended attributes; and those that
    differ in their modification time only."""
    found, times = [], []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        if before is not None and after is not None and replace(before, mtime=after.mtime) == after:
            times.append(path)
            continue
        texts = [None if one is None else _describe(one) for one in (before, after)]
        if texts[0] == texts[1] and before is not None and after is not None:
            texts = [f"{_describe(one)} {dict(one.xattrs)}" for one in (before, after)]
        found.append(Change(path, *texts))
    return tuple(found), tuple(times)


def _shared(a: Image, b: Image) -> dict[str, int]:
    old, new = (Counter(layer.diff_id for layer in image.layers) for image in (a, b))
    return {"shared": (old & new).total(), "old": (old - new).total(), "new": (new - old).total()}


def _config_changes(a: Tree, b: Tree) -> tuple[Change, ...]:
    """Of the fields that both sides have; none if one of them has no config."""
    if a.config is None or b.config is None:
        return ()
    common = a.config.keys() & b.config.keys()
    if a.form == b.form:
        common = a.config.keys() | b.config.keys()
    old, new = (
        _config_map({key: config[key] for key in common if key in config}) for config in (a.config, b.config)
    )
    return changes(old, new)


def _one_user(tree: Tree, files: Mapping[str, Entry]) -> bool:
    """Whether this is a folder in which everything belongs to one ordinary user."""
    owners = {entry.uid for entry in files.values()}
    return tree.form == "folder" and len(owners) == 1 and 0 not in owners


def _diff_trees(a: Tree, b: Tree) -> Difference:
    images = a.form == b.form == "oci"
    shared = _shared(a.image, b.image) if a.image and b.image else None
    if images and a.image and b.image and a.image.image_id == b.image.image_id:
        return Difference(same_id=True, layers=shared)
    known: dict[str, LayerFiles] = {}
    old = a.files(keep=holds_packages, known=known)
    new = b.files(keep=holds_packages, known=known)
    packages = changes(_package_map(find_packages(old)), _package_map(find_packages(new)))
    if not images:
        old, new = portable(old), portable(new)
    if _one_user(a, old) or _one_user(b, new):
        old, new = (
            {path: replace(entry, uid=0, gid=0) for path, entry in files.items()} for files in (old, new)
        )
    files, times = file_changes(old, new)
    return Difference(
        config=_config_changes(a, b),
        packages=packages,
        files=files,
        times=times,
        layers=shared,
        trees=(tree_digest(old.values()), tree_digest(new.values())),
        timed=images,
    )


def _is_lock(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:
        return False


def _lock_packages(path: Path) -> dict[str, str]:
    from afenv.documents.lockfile import read_lock

    lock = read_lock(path)
    found = {f"code {code.into}": code.tree for code in lock.code}
    for name, environment in lock.environments.items():
        prefix = "" if len(lock.environments) == 1 else f"{name}: "
        if environment.base is not None:
            found[f"{prefix}base {environment.base.reference}"] = environment.base.digest
        found |= {f"{prefix}cvmfs {one.path}": f"revision {one.revision}" for one in environment.cvmfs}
        found |= {f"{prefix}conda {one.name}": f"{one.version} {one.build}" for one in environment.conda}
        found |= {f"{prefix}deb {deb.name}": deb.version for deb in environment.debs}
        found |= {f"{prefix}python {wheel.name}": wheel.version for wheel in environment.wheels}
    return found


def diff(a: Path, b: Path) -> Difference:
    """Compare two images in any of their forms, or two locks by their packages and code.

    OCI images with one image ID are equal by their digests and are not read further. E001 or E510 if one
    cannot be read, E030 for an image against a lock.
    """
    locks = [_is_lock(path) for path in (a, b)]
    if all(locks):
        return Difference(packages=changes(_lock_packages(a), _lock_packages(b)))
    if any(locks):
        raise AfenvError("E030", "an image can be compared with an image, and a lock with a lock")
    with open_tree(a) as old, open_tree(b) as new:
        return _diff_trees(old, new)
