"""What a result is, by its name; and how two of one kind are read and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from afenv.compare.numbers import Tree
from afenv.compare.outcome import DIFFERENT, INCOMPARABLE, Content, Unreadable
from afenv.compare.pyhf import by_name, is_workspace
from afenv.compare.rules import Limits, Rules
from afenv.compare.tables import compare_csv, compare_text, read_csv
from afenv.errors import AfenvError

SUFFIXES = {
    ".root": "root",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".csv": "csv",
    ".tsv": "csv",
    ".npy": "numpy",
    ".npz": "numpy",
    ".png": "image",
    ".ipynb": "notebook",
    ".txt": "text",
    ".log": "text",
    ".md": "text",
    ".tex": "text",
    ".dat": "text",
    ".html": "text",
    ".xml": "text",
}
LARGEST = 512 << 20  # bytes of a file that is read at once

Compare = Callable[[Path, Path, str, Rules], Content]


def kind_of(name: str) -> str:
    """The kind of a file, by the end of its name; ``bytes`` if that says nothing."""
    return SUFFIXES.get(PurePosixPath(name).suffix.lower(), "bytes")


def compare_content(kind: str, first: Path, second: Path, name: str, rules: Rules) -> Content:
    """Compare two files whose bytes differ, of one kind. E783 if libraries are missing."""
    try:
        return _KINDS[kind](first, second, name, rules)
    except Unreadable as error:
        which = {"first": "the first", "second": "the second", "both": "neither"}[error.side]
        verb = "can be read" if error.side == "both" else "cannot be read"
        message = f"{which} {verb} as {kind}: {error.message.rstrip(' ,;:')}"
        return Content(kind=kind, outcome=INCOMPARABLE, reason="unreadable", message=message)
    except OverflowError as error:
        return Content(kind=kind, outcome=INCOMPARABLE, reason="too-large", message=str(error))


def both(read: Callable[[Path], Any], first: Path, second: Path) -> tuple[Any, Any]:
    """What a reader makes of two files; :class:`Unreadable` says which of them it is not for."""
    found: list[Any] = []
    problems: list[tuple[str, str]] = []
    for side, path in (("first", first), ("second", second)):
        try:
            found.append(read(path))
        except (ValueError, OSError, RecursionError, MemoryError) as error:
            text = str(error).strip().splitlines() or [type(error).__name__]
            problems.append((side, text[0][:200]))
    if problems:
        side = problems[0][0] if len(problems) == 1 else "both"
        raise Unreadable(side, problems[0][1])
    return found[0], found[1]


def library(name: str) -> Any:
    """A library of the extra ``compare``; E783 if it is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise AfenvError("E783", f"comparing these results needs {name.partition('.')[0]}") from None


def at(rules: Rules, name: str) -> Callable[[str], Limits]:
    """The limits for a part of a file."""
    return lambda part: rules.limits(name, part)


def _bytes_of(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MiB")
    return path.read_bytes()


def _text(path: Path) -> str:
    return _bytes_of(path).decode("utf-8-sig")


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _compare_json(first: Path, second: Path, name: str, rules: Rules) -> Content:
    one, other = both(_json, first, second)
    if is_workspace(one) and is_workspace(other) and rules.limits(name).kind != "json":
        return _workspaces(one, other, name, rules)
    return Tree("json", at(rules, name)).compare(one, other)


def _workspaces(one: Any, other: Any, name: str, rules: Rules) -> Content:
    trees = []
    for side, tree in (("first", one), ("second", other)):
        try:
            trees.append(by_name(tree))
        except ValueError as error:
            raise Unreadable(side, str(error)) from None
    return Tree("pyhf", at(rules, name)).compare(*trees)


def _compare_pyhf(first: Path, second: Path, name: str, rules: Rules) -> Content:
    return _workspaces(*both(_json, first, second), name, rules)


def _yaml(path: Path) -> Any:
    from afenv.documents.yaml_tree import read_yaml

    try:
        return read_yaml(_bytes_of(path), "").node(()).plain()
    except AfenvError as error:
        problem = error.problems[0]
        line = (problem.place or "").strip(":").partition(":")[0]
        raise ValueError(f"line {line}: {problem.message}" if line else problem.message) from None


def _compare_yaml(first: Path, second: Path, name: str, rules: Rules) -> Content:
    return Tree("yaml", at(rules, name)).compare(*both(_yaml, first, second))


def _compare_csv(first: Path, second: Path, name: str, rules: Rules) -> Content:
    import csv

    tab = name.lower().endswith(".tsv")

    def read(path: Path) -> Any:
        try:
            return read_csv(_text(path), tab=tab)
        except csv.Error as error:
            raise ValueError(str(error)) from None

    return compare_csv(*both(read, first, second), at(rules, name))


def _compare_text(first: Path, second: Path, name: str, rules: Rules) -> Content:
    return compare_text(*both(_text, first, second), rules.limits(name))


def _notebook(path: Path) -> Any:
    """Cells and their outputs, without times, counters and other metadata of a run."""
    tree = _json(path)
    try:
        return [
            {
                "type": cell["cell_type"],
                "source": _joined(cell["source"]),
                "outputs": [_output(one) for one in cell.get("outputs", ())],
            }
            for cell in tree["cells"]
        ]
    except (TypeError, KeyError, AttributeError):
        raise ValueError("it is no notebook") from None


def _joined(text: Any) -> Any:
    return "".join(text) if isinstance(text, list) else text


def _output(output: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: output[key] for key in ("output_type", "name", "ename", "evalue") if key in output
    }
    if "text" in output:
        kept["text"] = _joined(output["text"])
    if "data" in output:
        kept["data"] = {kind: _joined(value) for kind, value in output["data"].items()}
    return kept


def _compare_notebook(first: Path, second: Path, name: str, rules: Rules) -> Content:
    return Tree("notebook", at(rules, name)).compare(*both(_notebook, first, second))


def _compare_bytes(first: Path, second: Path, name: str, rules: Rules) -> Content:
    message = "the bytes differ; this kind of file is not compared by meaning"
    return Content(kind="bytes", outcome=DIFFERENT, reason="bytes", message=message)


def _compare_root(first: Path, second: Path, name: str, rules: Rules) -> Content:
    from afenv.compare.root import compare_root

    return compare_root(first, second, name, rules)


def _compare_numpy(first: Path, second: Path, name: str, rules: Rules) -> Content:
    from afenv.compare.numpy_files import compare_numpy

    return compare_numpy(first, second, name, rules)


def _compare_image(first: Path, second: Path, name: str, rules: Rules) -> Content:
    from afenv.compare.images import compare_images

    return compare_images(first, second, name, rules)


_KINDS: dict[str, Compare] = {
    "root": _compare_root,
    "json": _compare_json,
    "pyhf": _compare_pyhf,
    "yaml": _compare_yaml,
    "csv": _compare_csv,
    "numpy": _compare_numpy,
    "image": _compare_image,
    "notebook": _compare_notebook,
    "text": _compare_text,
    "bytes": _compare_bytes,
}
