"""Writes the reference pages that follow from a schema, a catalogue or a program.

    python docs/generate.py            writes the pages
    python docs/generate.py --check    writes nothing; exit status 1 if a page is not what would be written

A page is a function without arguments that returns its text; ``PAGES`` names the file of each. The pages
of documents need nothing but the folder ``specs``; that of the command line needs afenv itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
SPECS = ROOT / "specs"

Schema = Mapping[str, Any]

_LINE = "^[^\\u0000-\\u001f]+$"  # any line of text, which needs no explanation


def _generated_from(source: str) -> str:
    return f"<!-- Generated from {source} by docs/generate.py. Do not edit. -->"


def _resolved(schema: Schema, root: Schema) -> Schema:
    """A schema with what it refers to; its own keywords win."""
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    return {**_resolved(root["$defs"][name], root), **schema} if name else schema


_TYPES = {
    "array": "list",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "object": "mapping",
    "string": "text",
}


def _kind(schema: Schema, root: Schema) -> str:
    """The type of a value in a few words."""
    if "enum" in schema:
        return " \\| ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    types = schema.get("type", "string")
    if isinstance(types, list):
        return " or ".join(_TYPES[name] for name in types)
    if types == "array":
        items = _resolved(schema["items"], root)
        return "list of mappings" if "properties" in items else f"list of {_plural(_kind(items, root))}"
    return _TYPES[types]


def _plural(kind: str) -> str:
    return {"whole number": "whole numbers", "mapping": "mappings"}.get(kind, kind)


def _needs(schema: Schema) -> Iterator[str]:
    """Sentences about keys that need or exclude each other."""

    def words(names: list[str], conjunction: str) -> str:
        quoted = [f"`{name}`" for name in names]
        return f" {conjunction} ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))

    if "anyOf" in schema:
        yield f"Has {words([name for branch in schema['anyOf'] for name in branch['required']], 'or')}."
    for key, names in schema.get("dependentRequired", {}).items():
        yield f"`{key}` needs {words(names, 'and')}."
    for key, condition in schema.get("dependentSchemas", {}).items():
        yield f"`{key}` excludes {words(condition['propertyNames']['not']['enum'], 'and')}."
    for branch in ("then", "else"):
        rule = schema.get(branch, {}).get("propertyNames")
        if rule:
            yield f"{words(rule['not']['enum'], 'and')} {rule['x-expected']}."


def _members(path: str, schema: Schema, root: Schema) -> tuple[str, Schema] | None:
    """Where the members of a value are described: its own, those of its items, or those of its values."""
    if "properties" in schema:
        return path, schema
    if "items" in schema:
        return _members(f"{path}[]", _resolved(schema["items"], root), root)
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return _members(f"{path}.{schema.get('x-key', 'NAME')}", _resolved(values, root), root)
    return None


def _row(key: str, schema: Schema, root: Schema, required: bool) -> str:
    text = schema["description"]
    expected = schema.get("x-expected")
    if expected and "pattern" in schema and schema["pattern"] != _LINE:
        text += f" Expected: {expected}."
    notes = []
    if required:
        notes.append("required")
    if "default" in schema:
        notes.append(f"default `{json.dumps(schema['default'])}`")
    if "x-support" in schema:
        notes.append(schema["x-support"])
    cells = (f"`{key}`", _kind(schema, root), "; ".join(notes), text.replace("|", "\\|"))
    return "| " + " | ".join(cells) + " |"


def _sections(path: str, schema: Schema, root: Schema) -> Iterator[str]:
    """The section of a mapping, then those of the mappings inside it."""
    yield f"## {f'`{path}`' if path else 'Top level'}\n"
    yield from (f"{sentence}\n" for sentence in (" ".join(_needs(schema)),) if sentence)
    yield "| key | value | | meaning |\n|---|---|---|---|"
    inside = []
    for key, value in schema["properties"].items():
        resolved = _resolved(value, root)
        yield _row(key, resolved, root, key in schema.get("required", ()))
        members = _members(f"{path}.{key}" if path else key, resolved, root)
        if members:
            inside.append(members)
    yield ""
    for place, members_schema in inside:
        yield from _sections(place, members_schema, root)


def _document(folder: str, title: str, introduction: str) -> str:
    schema = json.loads((SPECS / folder / "schema.json").read_text(encoding="utf-8"))
    lines = [_generated_from(f"specs/{folder}/schema.json"), f"# {title}\n", f"{introduction}\n"]
    return "\n".join([*lines, *_sections("", schema, schema)]).rstrip("\n") + "\n"


def manifest_page() -> str:
    """``docs/reference/manifest.md``, from the schema of the analysis manifest."""
    return _document(
        "manifest/v1",
        "The analysis manifest, `afenv.yaml`",
        "Every key of the manifest. What the sections mean together is in the\n"
        "[specification](../../specs/manifest/v1/spec.md); whole manifests are in its\n"
        "[examples](../../specs/manifest/v1/examples).",
    )


def lock_page() -> str:
    """``docs/reference/lock.md``, from the schema of the lock."""
    return _document(
        "lock/v1",
        "The lock, `afenv.lock`",
        "Every key of the lock, which `afenv lock` writes. The rules of its form are in the\n"
        "[specification](../../specs/lock/v1/spec.md).",
    )


def facility_page() -> str:
    """``docs/reference/facility.md``, from the schema of the facility profile."""
    return _document(
        "facility/v1",
        "The facility profile",
        "Every key of a profile, which `afenv facility probe` writes and `afenv check` judges by. What is\n"
        "absent is not known. The rules are in the [specification](../../specs/facility/v1/spec.md), whole\n"
        "profiles in its [examples](../../specs/facility/v1/examples).",
    )


def run_page() -> str:
    """``docs/reference/run.md``, from the schema of the record of a run."""
    return _document(
        "run/v1",
        "The record of a run",
        "Every key of `record.json`, which `afenv rerun` writes. What it means is in the\n"
        "[specification](../../specs/run/v1/spec.md).",
    )


def comparison_page() -> str:
    """``docs/reference/comparison.md``, from the schema of the verdict on two results."""
    return _document(
        "comparison/v1",
        "The verdict on two results",
        "Every key of what `afenv compare --json` prints. What it means is in the\n"
        "[specification](../../specs/comparison/v1/spec.md).",
    )


_RANGES = {
    "E00": "The file",
    "E01": "The manifest",
    "E02": "The lock",
    "E03": "Usage",
    "E1": "Resolving",
    "E2": "Network",
    "E3": "Integrity",
    "E4": "Building",
    "E5": "Running",
    "E64": "Data",
    "E65": "Data",
    "E6": "Registries",
    "E72": "Archives: reading them",
    "E73": "Archives: writing and restoring them",
    "E74": "Archives: submitting them",
    "E75": "Steps and runs",
    "E76": "Records of runs",
    "E77": "Steps for other engines",
    "E78": "Comparison",
    "E9": "Others",
}


def errors_page() -> str:
    """``docs/reference/errors.md``, from the error catalogue."""
    table = tomllib.loads((SPECS / "errors.toml").read_text(encoding="utf-8"))
    lines = [
        _generated_from("specs/errors.toml"),
        "# Errors\n",
        "Each error has a code, a place and a remedy. The exit status is 0 when all is well, 1 when the",
        "answer is no, 2 for wrong usage or an invalid document, 3 when something needed is missing on this",
        "machine, 4 for the network and registries, 5 when content does not have its digest, 130 when",
        "interrupted.\n",
    ]
    current = ""
    for code in sorted(table):
        entry = table[code]
        prefix = next(prefix for prefix in _RANGES if code.startswith(prefix))
        if _RANGES[prefix] != current:
            current = _RANGES[prefix]
            lines += [
                *([""] if lines[-1].startswith("|") else []),
                f"## {current}\n",
                "| code | name | meaning | what to do | exit status |",
                "|---|---|---|---|---|",
            ]
        cells = (code, entry["name"], entry["meaning"], entry["remedy"], str(entry["exit"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


_TABLE = re.compile(r"=+ +=+\n(.*?)\n=+ +=+\n", re.DOTALL)


def _variables(text: str) -> Iterator[str]:
    """The rows of a docstring's table of variables."""
    found = _TABLE.search(text)
    assert found is not None, "the docstring has no table"
    for line in re.sub(r"\n +", " ", found[1]).splitlines():  # what is indented goes on
        name, meaning = line.split(maxsplit=1)
        yield f"| {name} | {meaning} |".replace("``", "`")


def _option_rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A row for each argument and option of a command, in the order of its help."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction | argparse._VersionAction):
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest
        if action.choices:
            metavar = " \\| ".join(map(str, action.choices))
        if not action.option_strings:
            name = f"[{metavar}]" if action.nargs in ("?", "*") else metavar
        elif action.nargs == 0:
            name = ", ".join(action.option_strings)
        else:
            name = f"{', '.join(action.option_strings)} {metavar}"
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| `{name}` | {text.replace('|', chr(92) + '|')} |"


def _command(
    name: str, parser: argparse.ArgumentParser, common: Container[str], level: int = 2
) -> Iterator[str]:
    """The section of a command, then those of its actions where these are commands of their own."""
    yield f"{'#' * level} `{name}`\n"
    yield f"{parser.description}\n"
    rows = [row for row in _option_rows(parser) if row not in common]
    yield from ("| argument or option | |\n|---|---|", *rows, "") if rows else ()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, one in action.choices.items():
                yield from _command(f"{name} {word}", one, common, level + 1)


def cli_page() -> str:
    """``docs/reference/cli.md``, from the parser and from the docstring that names the variables."""
    from afenv import settings
    from afenv.cli.parser import EPILOG, build_parser

    parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    common = set(_option_rows(parser))
    lines = [
        _generated_from("afenv/cli/parser.py"),
        "# The command line\n",
        f"```text\n{EPILOG}\n```\n",
        "## Options of every command\n",
        "They may stand before or after the command's name.\n",
        "| option | |\n|---|---|",
        *_option_rows(parser),
        "",
    ]
    for name, command in commands.choices.items():
        lines += _command(f"afenv {name}", command, common)
    lines += ["## Environment variables\n", "| variable | |\n|---|---|"]
    lines += _variables(settings.__doc__ or "")
    return "\n".join(lines) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "manifest.md": manifest_page,
    REFERENCE / "lock.md": lock_page,
    REFERENCE / "facility.md": facility_page,
    REFERENCE / "run.md": run_page,
    REFERENCE / "comparison.md": comparison_page,
    REFERENCE / "errors.md": errors_page,
    REFERENCE / "cli.md": cli_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` tell which would change."""
    check = arguments == ["--check"]
    if arguments and not check:
        sys.stderr.write(__doc__ or "")
        return 2
    different = []
    for path, page in PAGES.items():
        text = page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in different:
        name = path.relative_to(ROOT)
        told = f"{name} is not up to date; run: python docs/generate.py" if check else f"wrote {name}"
        sys.stdout.write(f"{told}\n")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
