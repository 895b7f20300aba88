"""What a valid manifest has to fulfil beyond its schema: names that refer to something, no contradictions.

The rules look at the tree before it is known to be valid, so that all problems are reported at once;
each skips what has a wrong type, which the schema reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from afenv.documents.data import is_one_file, is_uri
from afenv.documents.manifest import DEFAULT_CODE_FOLDER
from afenv.documents.tree_parts import as_mapping, mappings, texts
from afenv.documents.yaml_tree import Document, DocumentPath, format_path
from afenv.errors import Problem

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml\Z")


class _Rules:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.tree = as_mapping(document.root.plain())

    def problem(self, code: str, message: str, path: DocumentPath, remedy: str | None = None) -> Problem:
        return Problem(code, message, self.document.value_place(path), format_path(path), remedy)

    def code(self) -> Iterator[Problem]:
        """Code sources go into separate folders."""
        seen: list[tuple[PurePosixPath, int]] = []
        for index, source in mappings(self.tree.get("code")):
            into = source.get("into", DEFAULT_CODE_FOLDER)
            if not isinstance(into, str) or not into.startswith("/") or not source.keys() & {"git", "path"}:
                continue
            folder = PurePosixPath(into)
            path: DocumentPath = ("code", index, "into") if "into" in source else ("code", index)
            for other, first in seen:
                if folder == other:
                    message = f"goes into {folder}, as code[{first}] does"
                elif folder.is_relative_to(other):
                    message = f"goes into {folder}, which is inside {other}, where code[{first}] goes"
                elif other.is_relative_to(folder):
                    message = f"goes into {folder}, which holds {other}, where code[{first}] goes"
                else:
                    continue
                yield self.problem("E014", message, path, "Give one of the two another `into`.")
                break
            seen.append((folder, index))

    def names(self) -> Iterator[Problem]:
        """Data and steps have names of their own."""
        for section in ("data", "steps"):
            seen: dict[str, int] = {}
            for index, item in mappings(self.tree.get(section)):
                name = item.get("name")
                if isinstance(name, str):
                    if name in seen:
                        message = f"the name {name!r} is taken by {section}[{seen[name]}]"
                        yield self.problem("E014", message, (section, index, "name"))
                    seen.setdefault(name, index)

    def data(self) -> Iterator[Problem]:
        """Size and checksums are those of one file, with one checksum for each algorithm."""
        for index, entry in mappings(self.tree.get("data")):
            seen: dict[str, str] = {}
            for position, text in texts(entry.get("checksums")):
                algorithm = text.partition(":")[0]
                if seen.setdefault(algorithm, text) != text:
                    message = f"the file has another {algorithm} already, {seen[algorithm]}"
                    yield self.problem("E014", message, ("data", index, "checksums", position))
            uri = entry.get("uri")
            if not isinstance(uri, str):
                continue
            replicas = [(("replicas", position), text) for position, text in texts(entry.get("replicas"))]
            wrong = [(path, text) for path, text in ((("uri",), uri), *replicas) if not is_uri(text)]
            for path, text in wrong:
                message = f"expected a URI with a host and port that can be, found {text!r}"
                yield self.problem("E013", message, ("data", index, *path))
            if wrong or is_one_file(uri):
                continue
            for key in ("size", "checksums", "replicas"):
                if key in entry:
                    message = f"{uri} is not one file, and {key} is about one"
                    remedy = "Leave it out: `afenv data pin` finds it for each file."
                    yield self.problem("E014", message, ("data", index, key), remedy)

    def pypi(self) -> Iterator[Problem]:
        """Requirements have the form of PEP 508; extras and groups have a file that defines them."""
        from packaging.requirements import InvalidRequirement, Requirement

        for name, environment in as_mapping(self.tree.get("environments")).items():
            section = as_mapping(as_mapping(environment).get("pypi"))
            here: DocumentPath = ("environments", name, "pypi")
            for index, text in texts(section.get("dependencies")):
                try:
                    Requirement(text)
                except InvalidRequirement as error:
                    reason = str(error).split("\n")[0].rstrip(".")
                    message = f"expected a requirement such as uproot>=5, found {text!r}: {reason}"
                    yield self.problem("E013", message, (*here, "dependencies", index))
            lock = section.get("lock")
            if isinstance(lock, str) and not _PYLOCK.search(PurePosixPath(lock).name):
                message = f"expected a file named pylock.toml or pylock.NAME.toml (PEP 751), found {lock!r}"
                yield self.problem("E013", message, (*here, "lock"))
            source = section.get("file", lock)
            if not (isinstance(source, str) and source.endswith(".toml")):
                for key in ("extras", "groups"):
                    if section.get(key):
                        message = f"{key!r} needs a pyproject.toml as 'file' or a pylock.toml as 'lock'"
                        yield self.problem("E014", message, (*here, key))


def rule_problems(document: Document) -> list[Problem]:
    """Every rule that a manifest breaks (E013, E014)."""
    from afenv.documents.step_rules import step_problems

    rules = _Rules(document)
    return [*rules.code(), *rules.names(), *rules.data(), *rules.pypi(), *step_problems(document, rules.tree)]
