"""``afenv compare``: the results of runs, folders and archives, side by side."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from afenv.archive.names import MANIFEST, PAYLOAD
from afenv.archive.source import is_bag_name
from afenv.compare.compare import Comparison, compare_sides
from afenv.compare.rules import Rules
from afenv.compare.sides import OUTPUTS, ResultFile, Side, results_of_folder
from afenv.documents.compare import CompareRule
from afenv.documents.load import load_manifest, parse_manifest
from afenv.documents.manifest import FILE_NAME
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record
from afenv.rerun.places import RECORD
from afenv.rerun.record import read_record
from afenv.store.content import write_error

if TYPE_CHECKING:
    from afenv.workflow.archive_bag import Bag

RESULTS = "results/"


@record
class CompareOptions:
    """How to compare: the manifest with the rules, rules besides, and which files count."""

    manifest: Path | None = None
    rules: tuple[CompareRule, ...] = ()
    common: bool = False
    reference: bool = False
    quiet: bool = False


def compare(folder: Path, first: Path, second: Path, options: CompareOptions) -> Comparison:
    """Compare two sides. The rules are those of the manifest asked for, of that in ``folder``, or of a bag.

    E001 for what is not there, E781 for nothing to compare, E782 for what is no regular file, E783 without
    the libraries; those of manifests, records and archives.
    """
    with contextlib.ExitStack() as stack:
        one, of_one = _side(first, stack)
        other, of_other = _side(second, stack)
        rules, place = _rules(folder, options.manifest, (of_other, of_one))
        size = sum(file.size for side in (one, other) for file in side.files.values())
        with Progress("comparing", size, quiet=options.quiet) as progress:
            return compare_sides(
                one,
                other,
                Rules(rules=(*rules, *options.rules)),
                common=options.common,
                reference=options.reference,
                manifest=place,
                advance=progress.advance,
            )


def check_reference(path: Path) -> None:
    """That there are results to compare with, before anything runs; the errors of :func:`compare`."""
    with contextlib.ExitStack() as stack:
        side, _ = _side(path, stack)
        if not side.files:
            raise AfenvError("E781", "there are no results", place=side.place)


def _rules(
    folder: Path, asked: Path | None, bags: tuple[Bag | None, ...]
) -> tuple[tuple[CompareRule, ...], str | None]:
    """The rules, and the manifest that has them."""
    if asked is None and (folder / FILE_NAME).is_file():
        asked = folder / FILE_NAME
    if asked is not None:
        return load_manifest(asked).compare, str(asked)
    for bag in bags:
        if bag is not None:
            from afenv.archive.fixity import read_small

            place = f"{bag.place}, data/{MANIFEST}"
            return parse_manifest(read_small(bag.source, PAYLOAD + MANIFEST), place).compare, place
    return (), None


def _side(path: Path, stack: contextlib.ExitStack) -> tuple[Side, Bag | None]:
    if is_bag_name(path):
        from afenv.workflow.archive_bag import open_archive

        bag = stack.enter_context(open_archive(path))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="afenv-compare-")))
        return _archived(bag, place), bag
    if not path.is_dir():
        what = "there is no such folder or archive" if not path.exists() else "this is no folder or archive"
        remedy = None if not path.exists() else "Give the folder that the file is in."
        raise AfenvError("E001", what, place=str(path), remedy=remedy)
    if (path / RECORD).is_file():
        record = read_record(path)
        files = results_of_folder(path / OUTPUTS, _stated(record)) if (path / OUTPUTS).is_dir() else {}
        return Side(kind="run", place=str(path), files=files, about=_about(record)), None
    return Side(kind="folder", place=str(path), files=results_of_folder(path)), None


def _about(record: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: record[key] for key in ("name", "version", "ended") if key in record}
    chosen = record["chosen"]
    kept["chosen"] = sorted(
        [*(f"{name}={uri}" for name, uri in chosen.get("data", {}).items()), *chosen.get("parameters", ())]
    )
    return kept


def _stated(record: dict[str, Any]) -> dict[str, str]:
    outputs = (output for step in record["steps"] for output in step.get("outputs", ()))
    return {one["path"]: one["sha256"] for one in outputs if not one["path"].endswith("/")}


def _archived(bag: Bag, place: Path) -> Side:
    """The reference results of a bag: those of a run if it holds the folder of one, else all."""
    archived = {
        file.path.removeprefix(RESULTS): file for file in bag.index.files if file.path.startswith(RESULTS)
    }
    about: dict[str, Any] = {"name": bag.index.name, "version": bag.index.version}
    prefix = ""
    if RECORD in archived and any(path.startswith(f"{OUTPUTS}/") for path in archived):
        prefix = f"{OUTPUTS}/"
    files: dict[str, ResultFile] = {}
    for path, file in sorted(archived.items()):
        hidden = any(part.startswith(".") for part in PurePosixPath(path).parts)
        if not path.startswith(prefix) or hidden:
            continue
        files[path[len(prefix) :]] = ResultFile(
            size=file.size, sha256=file.sha256, bring=_bring(bag, file, place / str(len(files)))
        )
    if not files:
        remedy = "`afenv archive --results DIR` writes an archive with reference results."
        raise AfenvError("E781", "the archive has no reference results", place=bag.place, remedy=remedy)
    return Side(kind="archive", place=bag.place, files=files, about=about)


def _bring(bag: Bag, file: Any, target: Path) -> Callable[[], Path]:
    def bring() -> Path:
        if not target.exists():
            digest = hashlib.sha256()
            try:
                with bag.source.open(PAYLOAD + file.path) as source, target.open("xb") as out:
                    while data := source.read(1 << 20):
                        digest.update(data)
                        out.write(data)
            except OSError as error:
                raise write_error(error, target) from error
            if digest.hexdigest() != file.sha256:
                text = f"data/{file.path} has another content than was written"
                raise AfenvError("E721", text, place=bag.place)
        return target

    return bring
