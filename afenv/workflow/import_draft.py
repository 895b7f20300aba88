"""``afenv import``: a manifest drafted from the workflow of another engine.

The draft is valid. What could not be taken over stands in it as a comment that begins with TODO, one for each
thing; nothing is left out silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.documents.load import parse_manifest
from afenv.documents.manifest import FILE_NAME
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError
from afenv.workflow.init_findings import normalised_name


@dataclass(slots=True)
class Draft:
    """What was taken over: ``images`` are references by environment, the rest as in a manifest."""

    source: str
    name: str
    title: str | None = None
    images: dict[str, str] = field(default_factory=dict)
    cvmfs: list[str] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)

    def environment(self, image: str | None, step: str) -> str:
        """The name of the environment that stands on an image; ``default`` is the first one."""
        if not image:
            self.todo.append(f"the step {step} names no image: choose its environment")
            image = ""
        reference = image.removeprefix("docker://")
        if reference and not _REFERENCE.match(reference):
            self.todo.append(f"the step {step} has the image {image}, which is no reference of a registry")
            reference = ""
        for name, known in self.images.items():
            if known == reference:
                return name
        base = re.sub(r"[^a-z0-9]+", "-", re.split(r"[:@]", reference.rsplit("/", 1)[-1])[0].lower()).strip(
            "-"
        )
        base = f"image-{base}" if not base[:1].isalpha() else base
        name = "default" if not self.images else base[:60].strip("-")
        number = 2
        while name in self.images:
            name, number = f"{base[:56]}-{number}", number + 1
        self.images[name] = reference
        return name

    def add_data(self, uri: str, wanted: str) -> str:
        """The name of the data at a URI, or a path beside the manifest."""
        uri = uri if re.match(r"[a-z][a-z0-9+.-]*:", uri) else f"file:{uri}"
        for one in self.data:
            if one["uri"] == uri:
                return str(one["name"])
        name = identifier(wanted, (one["name"] for one in self.data))
        self.data.append({"name": name, "uri": uri})
        return name


_REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?\Z"
)


def identifier(text: str, taken: Iterable[str] = ()) -> str:
    """A text as a name in a manifest, other than those that are taken."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:56] or "x"
    base = base if base[0].isalpha() else f"x-{base}"
    used, name, number = set(taken), base, 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    return name


def import_workflow(path: Path) -> str:
    """The text of a manifest; E001 and E775 for a file that cannot be read, E776 for a circle of steps."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AfenvError("E775", "the file is not text in UTF-8", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot read it: {error.strerror}", place=str(path)) from None
    draft = Draft(source=path.name, name=normalised_name(path.resolve().parent.name))
    if path.suffix in (".yml", ".yaml"):
        _from_yaml(path, read_mapping(path), draft)
    else:
        from afenv.workflow.import_snakefile import take_snakefile

        take_snakefile(text, path, draft)
    if not draft.steps:
        raise AfenvError("E775", "there is no step in it that can be taken over", place=str(path))
    result = _text(draft)
    parse_manifest(result.encode(), FILE_NAME)
    return result


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; E001, or E775 if it holds none."""
    try:
        tree = read_yaml(path.read_bytes(), path.name).root.plain()
    except OSError as error:
        raise AfenvError("E001", f"cannot read it: {error.strerror}", place=str(path)) from None
    except AfenvError as error:
        first = error.problems[0]
        raise AfenvError("E775", first.message, place=first.place or str(path)) from None
    if not isinstance(tree, dict):
        raise AfenvError("E775", "expected a mapping", place=str(path))
    return tree


def _from_yaml(path: Path, tree: dict[str, Any], draft: Draft) -> None:
    if isinstance(tree.get("workflow"), dict):
        from afenv.workflow.import_reana import take_reana

        take_reana(tree, path, draft)
    elif isinstance(tree.get("spec"), dict):
        from afenv.workflow.import_recast import take_recast

        take_recast(tree, path, draft)
    else:
        message = "it is neither a reana.yaml (`workflow:`) nor a recast.yml (`spec:`)"
        raise AfenvError("E775", message, place=str(path))


def _text(draft: Draft) -> str:
    from afenv.export.yaml_text import block

    first = f"# Drafted by `afenv import {_line(draft.source)}`; edit it as you like."
    lines = [f"{first} Next: `afenv lock`, then `afenv build`."]
    lines += [f"# TODO: {_line(one)}." for one in dict.fromkeys(draft.todo)]
    top: dict[str, Any] = {"afenv": 1, "name": draft.name, "version": "0"}
    if draft.title:
        top["metadata"] = {"title": _line(draft.title)}
    top["code"] = [{"path": "."}]
    top["environments"] = {name: _environment(draft, image) for name, image in draft.images.items()}
    if draft.data:
        top["data"] = draft.data
    top["steps"] = draft.steps
    return "\n".join(lines) + "\n\n" + block(top)


def _environment(draft: Draft, image: str) -> dict[str, Any]:
    base: Mapping[str, Any] = {"oci": image} if image else {"debian": "bookworm"}
    environment: dict[str, Any] = {"base": base}
    if draft.cvmfs:
        environment["cvmfs"] = [{"path": f"/cvmfs/{name}"} for name in draft.cvmfs]
    return environment


def _line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).rstrip(".")


def shown(value: Any) -> str:
    """A value of a foreign file as a comment has it."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"
