"""``afenv verify BAG``: is the bag what was written, and is everything there that the lock names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.archive.fixity import Fixity, check_fixity, total_bytes
from afenv.archive.index import ArchiveIndex
from afenv.archive.names import CRATE, INDEX, MANIFEST, PAYLOAD, README
from afenv.archive.source import is_bag
from afenv.attest.facts import Check
from afenv.attest.keys import PublicKey, load_public, read_public
from afenv.documents.lock import Lock
from afenv.errors import AfenvError, Problem
from afenv.oci.check import layer_problems
from afenv.progress import Progress, counted
from afenv.workflow.archive_bag import Bag, open_archive
from afenv.workflow.archive_rebuild import code_digests, locked_digests, rebuild
from afenv.workflow.verify import BAD, MARKS, NO, report_on

if TYPE_CHECKING:
    from afenv.attest.statements import Vouches

__all__ = ["BagReport", "is_bag", "verify_bag"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BagReport:
    """What was found out about a bag. ``problems`` are those of its files, with codes."""

    target: str
    index: ArchiveIndex | None
    problems: tuple[Problem, ...]
    checks: tuple[Check, ...]
    violations: tuple[str, ...] = ()
    policy: str | None = None

    @property
    def exit_status(self) -> int:
        """0 if all is well, 5 if something is damaged, 1 if something is missing or forbidden."""
        verdicts = {check.verdict for check in self.checks}
        if self.problems or "bad" in verdicts:
            return BAD
        return NO if "missing" in verdicts or self.violations else 0

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        index = self.index
        return {
            "bag": self.target,
            "verified": self.exit_status == 0,
            "analysis": index.name if index else None,
            "version": index.version if index else None,
            "environments": {name: one.image_id for name, one in index.environments.items()} if index else {},
            "problems": [problem.as_json() for problem in self.problems],
            "checks": [check.as_json() for check in self.checks],
            "policy": {"name": self.policy, "violations": list(self.violations)} if self.policy else None,
        }

    def as_text(self) -> str:
        """The same for people."""
        lines = [f"bag       {self.target}"]
        if self.index is not None:
            lines.append(f"analysis  {self.index.name} {self.index.version}, {self.index.written_by}")
            lines += [f"image     {name}: {one.image_id}" for name, one in self.index.environments.items()]
        lines.append("")
        lines += [f"WRONG    {problem.code}: {problem.message}" for problem in self.problems]
        lines += [f"{MARKS[check.verdict]}  {check.name}: {check.text}" for check in self.checks]
        if self.policy:
            lines += ["", f"policy {self.policy}: {'met' if not self.violations else 'not met'}"]
            lines += [f"  {text}" for text in self.violations]
        return "\n".join(lines)


def verify_bag(
    path: Path,
    *,
    keys: Sequence[Path] = (),
    policy: Path | None = None,
    keyless: Vouches | None = None,
    content: bool = True,
    again: bool = False,
    quiet: bool = False,
) -> BagReport:
    """Verify a bag, without any connection.

    ``content`` inflates the layers and compares them with the bill of materials; ``again`` builds the images
    from the bag alone. Raises for what is no bag at all; what is wrong with one is in the report.
    """
    from afenv.archive.source import open_bag

    trusted = [*map(read_public, keys)]
    with (
        open_bag(path) as source,
        Progress("reading the archive", total_bytes(source), quiet=quiet) as progress,
    ):
        found = check_fixity(source, progress.advance)
    problems = list(found.problems)
    checks: list[Check] = []
    if not problems:
        size = sum(one.size for one in found.sums.values())
        checks.append(
            Check("fixity", "ok", f"{len(found.sums)} files, {size:,} bytes are as they were written")
        )
    try:
        with open_archive(path) as bag:
            problems += _listed(bag, found)
            if problems:
                return BagReport(
                    target=str(path), index=bag.index, problems=tuple(problems), checks=tuple(checks)
                )
            lock = bag.lock()
            checks += _documents(bag, lock)
            checks += _complete(bag, lock)
            checks += _debian(bag, lock)
            images, violations, name = _images(bag, trusted, policy, keyless, content)
            checks += images
            checks += _machines(bag)
            if again:
                checks += rebuild(bag, lock, sorted(bag.index.environments), quiet=quiet)
            return BagReport(
                target=str(path),
                index=bag.index,
                problems=(),
                checks=tuple(checks),
                violations=tuple(violations),
                policy=name,
            )
    except AfenvError as error:
        if error.exit_status == 3:
            raise
        known = {(problem.code, problem.message) for problem in problems}
        problems += [one for one in error.problems if (one.code, one.message) not in known]
        return BagReport(target=str(path), index=None, problems=tuple(problems), checks=tuple(checks))


def _listed(bag: Bag, found: Fixity) -> Iterator[Problem]:
    """Whether the index names the files that are there."""
    own = {INDEX, CRATE, README}
    present = {
        path.removeprefix(PAYLOAD): one for path, one in found.sums.items() if path.startswith(PAYLOAD)
    }
    named = {file.path for file in bag.index.files}
    for path in sorted(present.keys() - named - own):
        yield Problem("E723", f"data/{path} is not in the index", bag.place)
    for file in bag.index.files:
        one = present.get(file.path)
        if one is None:
            if f"{PAYLOAD}{file.path}" not in bag.source.files:
                yield Problem("E722", f"the bag lacks data/{file.path}, which the index names", bag.place)
        elif (one.sha256, one.size) != (file.sha256, file.size):
            yield Problem("E721", f"data/{file.path} is another than the index says", bag.place)


def _documents(bag: Bag, lock: Lock) -> Iterator[Check]:
    from afenv.documents.load import parse_manifest

    manifest = parse_manifest(bag.read(MANIFEST), f"{bag.place}, {MANIFEST}")
    if (manifest.name, manifest.version) != (lock.name, lock.version):
        yield Check("documents", "bad", "manifest and lock are of two analyses")
    else:
        yield Check("documents", "ok", "manifest, lock and index have the form of their schemas")
    try:
        crate = json.loads(_payload(bag, CRATE))
    except (ValueError, RecursionError):
        crate = None
    graph = crate.get("@graph") if isinstance(crate, dict) else None
    if not isinstance(graph, list) or not any(
        isinstance(one, dict) and one.get("@id") == CRATE for one in graph
    ):
        yield Check("crate", "bad", f"{CRATE} describes no crate")
    else:
        yield Check("crate", "ok", f"{CRATE} describes {len(graph)} entities")


def _payload(bag: Bag, path: str) -> bytes:
    with bag.source.open(PAYLOAD + path) as file:
        return file.read(1 << 30)


def _complete(bag: Bag, lock: Lock) -> Iterator[Check]:
    """Whether every byte that the lock names is there."""
    known = bag.index.by_digest()
    left_out = bag.left_out()
    wanted: dict[str, str] = code_digests(lock)
    for name in bag.index.environments:
        if name not in lock.environments:
            yield Check("inputs", "bad", f"the lock has no environment {name!r}")
            continue
        wanted |= locked_digests(lock.environments[name])
        for index in lock.environments[name].indexes:
            wanted[f"sha256:{index.sha256}"] = f"signed index of {index.suite}"
    missing = [f"{what}, {digest}" for digest, what in wanted.items() if digest not in known]
    for text in [text for text in missing if text.rpartition(", ")[2] not in left_out][:20]:
        yield Check("inputs", "bad", f"E728: the bag lacks the {text}, which the lock names")
    kept = [code.tree for code in bag.index.code]
    if kept != [code.tree for code in lock.code]:
        yield Check("code", "bad", "E728: the code of the bag is not that of the lock")
    absent = [text for text in missing if text.rpartition(", ")[2] in left_out]
    if absent:
        text = f"{len(absent)} of {len(wanted)} inputs were left out on purpose, such as the {absent[0]}"
        yield Check("inputs", "unchecked", text)
    elif not missing:
        yield Check("inputs", "ok", f"all that the lock names is here: {counted(len(wanted), 'file')}")
    data = [file for one in lock.data for file in one.files]
    here = sum(1 for file in data if file.sha256 and f"sha256:{file.sha256}" in known)
    if data and here == len(data):
        yield Check("data", "ok", f"the data is here: {counted(here, 'file')}")
    elif data:
        text = f"{here} of {counted(len(data), 'data file')} here; the others are references"
        yield Check("data", "unchecked", text)


def _debian(bag: Bag, lock: Lock) -> Iterator[Check]:
    """The chain from the key of Debian's archive to each package: signature, list of packages, digest."""
    from afenv.resolve.debian.kept import packages_path
    from afenv.resolve.debian.release import read_release

    known = bag.index.by_digest()
    keys = tuple(
        bag.read(file.path)
        for file in bag.index.files
        if file.path.startswith("inputs/debian/keys/") and file.path.endswith(".asc")
    )
    for name in bag.index.environments:
        environment = lock.environments[name]
        if not environment.indexes:
            continue
        listed = b""
        signers = set()
        architecture = environment.platform.split("/")[1]
        for index in environment.indexes:
            file = known.get(f"sha256:{index.sha256}")
            if file is None:
                return  # said already
            try:
                release = read_release(bag.read(file.path), keys, f"{bag.place}, {file.path}")
                path = packages_path(release, architecture, index)
            except AfenvError as error:
                yield Check("debian", "bad", f"{file.path}: {error.problems[0].message}")
                return
            signers.add(release.signed_by)
            packages = known.get(f"sha256:{release.files[path][1]}")
            if packages is None:
                yield Check("debian", "bad", f"E728: the bag lacks {path} of {index.suite}")
                return
            listed += _unpacked(bag.read(packages.path), path)
        strangers = [deb.name for deb in environment.debs if deb.file.sha256.encode() not in listed]
        if strangers:
            text = f"{name}: the signed indexes do not name {', '.join(strangers[:10])}"
            yield Check("debian", "bad", text)
        else:
            text = (
                f"{name}: the {len(environment.debs)} packages are in indexes signed by {', '.join(signers)}"
            )
            yield Check("debian", "ok", text)


def _unpacked(data: bytes, path: str) -> bytes:
    import gzip
    import lzma

    opener = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path[-3:])
    return opener(data) if opener else data


def _machines(bag: Bag) -> Iterator[Check]:
    """Whether each virtual machine is of the image beside it, and has the files that it names."""
    from afenv.workflow.archive_vm import machine_in

    for name in sorted(bag.index.environments):
        try:
            kept = machine_in(bag, name)
        except AfenvError as error:
            yield Check("vm", "bad", f"{name}: {error.code}: {error.problems[0].message}")
            continue
        if kept is not None:
            text = f"the virtual machine names this image and its own files; Linux {kept.machine.release}"
            yield Check("vm", "ok", f"{name}: {text}")


def _images(
    bag: Bag,
    trusted: Sequence[PublicKey],
    policy: Path | None,
    keyless: Vouches | None,
    content: bool,
) -> tuple[list[Check], list[str], str | None]:
    from afenv.attest.policy import read_policy

    rules = read_policy(policy) if policy else None
    own = [
        load_public(bag.read(file.path), place=f"{bag.place}, {file.path}")
        for file in bag.index.files
        if file.path.startswith("keys/")
    ]
    checks: list[Check] = []
    violations: list[str] = []
    name = None
    left_out = bag.left_out()
    for environment in sorted(bag.index.environments):
        opened, attachments = bag.image(environment)
        whole = not any(layer.digest in left_out for layer in opened.image.layers)
        if not whole:
            text = f"{environment}: layers were left out on purpose; the others were not inflated"
            checks.append(Check("image", "unchecked", text))
        reading = content and whole
        wrong = layer_problems(opened) if reading else []
        checks += [Check("image", "bad", f"{environment}: {one.place}: {one.message}") for one in wrong]
        if reading and not wrong:
            layers = counted(len(opened.image.layers), "layer")
            text = f"{environment}: the diff_ids are those of its {layers}"
            checks.append(Check("image", "ok", text))
        keys = [*trusted, *(rules.keys if rules else ())] or own
        report = report_on(
            environment, opened, attachments, keys, rules, policy, keyless, reading and not wrong
        )
        checks += [Check(one.name, one.verdict, f"{environment}: {one.text}") for one in report.checks]
        violations += report.violations
        name = report.policy
    if own and not trusted and not (rules and rules.keys):
        text = "the keys are those of the bag itself; say with --key whom you trust"
        checks.append(Check("keys", "unchecked", text))
    return checks, violations, name
