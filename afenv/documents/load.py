"""Reading the analysis manifest: find the file, read it, check it, make values of it.

Everything that is wrong is reported at once, each with its position. The way is: YAML to a tree with
positions (:mod:`~afenv.documents.yaml_tree`), the tree against the JSON Schema
(:mod:`~afenv.documents.schema`), the rules that a schema cannot state (:mod:`~afenv.documents.rules`),
values (:mod:`~afenv.documents.from_tree`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import afenv
from afenv.documents.from_tree import manifest_from_tree
from afenv.documents.manifest import FILE_NAME, FORMAT_VERSION, AnalysisManifest
from afenv.errors import AfenvError, Problem
from afenv.specs import specs_folder

if TYPE_CHECKING:
    from afenv.documents.yaml_tree import Document


# a remedy
WRITE_ONE = "Go to the folder that has it (or give -C DIR), or let `afenv init` draft one from what is here."


class KeyStore(Protocol):
    """Where checked manifests are kept: the part of the content store that is needed here."""

    def load_key(self, kind: str, key: str) -> Any | None:
        """What was saved under a key; None if there is nothing."""

    def save_key(self, kind: str, key: str, value: Any) -> None:
        """Remember a JSON value under a key."""


def find_manifest(folder: Path) -> Path:
    """The manifest of a folder; E001 if it has none."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise AfenvError(
            "E001",
            f"there is no {FILE_NAME} in {folder}",
            place=str(folder),
            remedy=WRITE_ONE,
        )
    return path


def _read(path: Path) -> bytes:
    remedy = None
    try:
        return path.read_bytes()
    except FileNotFoundError:
        message, remedy = "there is no such file", WRITE_ONE
    except OSError as error:
        message = f"cannot read: {error.strerror}"
    raise AfenvError("E001", message, place=str(path), remedy=remedy)


def _schema_bytes() -> bytes:
    return (specs_folder() / "manifest" / "v1" / "schema.json").read_bytes()


def _position(problem: Problem) -> tuple[int, int]:
    parts = (problem.place or "").rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return int(parts[1]), int(parts[2])
    return 0, 0


def check_document(document: Document) -> list[Problem]:
    """Everything that is wrong with a manifest, in the order of its lines."""
    import json

    from afenv.documents.rules import rule_problems
    from afenv.documents.schema import schema_problems

    tree = document.root.plain()
    version = tree.get("afenv") if isinstance(tree, dict) else None
    if isinstance(version, int | float) and not isinstance(version, bool) and version != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {version}"
        return [Problem("E015", message, document.value_place(("afenv",)), "afenv")]
    problems = [
        *document.problems,
        *schema_problems(document, json.loads(_schema_bytes())),
        *rule_problems(document),
    ]
    return sorted(problems, key=_position)


def _valid_tree(data: bytes, place: str) -> dict[str, Any]:
    from afenv.documents.yaml_tree import read_yaml

    document = read_yaml(data, place)
    problems = check_document(document)
    if problems:
        raise AfenvError.many(problems)
    tree: dict[str, Any] = document.root.plain()
    return tree


def parse_manifest(text: bytes, place: str) -> AnalysisManifest:
    """The manifest in some bytes; ``place`` is the file name that messages show.

    Raises E002 to E004 and E010 to E015, all problems at once.
    """
    return manifest_from_tree(_valid_tree(text, place))


def load_manifest(path: Path) -> AnalysisManifest:
    """The manifest in a file; raises E001 and what :func:`parse_manifest` raises."""
    return parse_manifest(_read(path), str(path))


def load_manifest_cached(path: Path, store: KeyStore) -> AnalysisManifest:
    """As :func:`load_manifest`, but a manifest that was valid before is not checked again.

    The checked tree is kept in the store under the digest of the file's bytes, of the schema and of
    this version of afenv, so a change of any of them leads to a new check.
    """
    data = _read(path)
    parts = (data, _schema_bytes(), afenv.__version__.encode())
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    key = "sha256:" + hashlib.sha256(digests).hexdigest()
    tree = store.load_key("manifest", key)
    if not isinstance(tree, dict):
        tree = _valid_tree(data, str(path))
        store.save_key("manifest", key, tree)
    return manifest_from_tree(tree)
