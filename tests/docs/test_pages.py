"""What the pages say: links lead somewhere, commands are understood, manifests are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from afenv.cli.parser import build_parser
from afenv.documents.load import load_manifest
from afenv.specs import specs_folder

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("specs/**/*.md"), *ROOT.glob("*/README.md")]
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> Iterator[str]:
    """The lines of code blocks that call afenv, without redirections and what follows them."""
    text = page.read_text()
    blocks = [body for language, body in FENCE.findall(text) if language in ("", "bash", "console")]
    indented = [line for line in FENCE.sub("", text).splitlines() if line.startswith("    ")]
    for line in [*"\n".join(blocks).splitlines(), *indented]:
        found = re.match(r"\s*(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?afenv( .*)?$", line)
        if found:
            yield re.split(r" (?:>|\||\|\||&&|#) ", found[1] or "", maxsplit=1)[0]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_understood(page: Path) -> None:
    for command in commands(page):
        arguments = shlex.split(re.sub(r"\$\{?\w+\}?", "value", command))
        options = build_parser().parse_args(arguments)  # exits, and so fails, on a wrong one
        assert options.command, command


def test_commands_are_found_in_the_pages_at_all() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 20


def test_manifest_in_the_readme_is_valid(tmp_path: Path) -> None:
    (body,) = [
        body for language, body in FENCE.findall((ROOT / "README.md").read_text()) if language == "yaml"
    ]
    (tmp_path / "afenv.yaml").write_text(body)
    manifest = load_manifest(tmp_path / "afenv.yaml")
    assert "uproot" in manifest.environments["default"].pypi.dependencies  # type: ignore[union-attr]


def test_readme_has_its_two_commands_of_one_line_each() -> None:
    text = (ROOT / "README.md").read_text()
    for which in ("first", "second"):
        found = re.search(rf"<!-- {which} command -->\n```bash\n([^\n]+)\n```", text)
        assert found, which


def test_every_error_code_in_the_pages_exists() -> None:
    known = set(re.findall(r"^\[(E\d{3})\]", (specs_folder() / "errors.toml").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"\bE\d{3}\b", page.read_text())) <= known, name(page)


def test_every_variable_in_the_pages_is_in_the_reference() -> None:
    rows = (ROOT / "docs/reference/cli.md").read_text().split("## Environment variables")[1]
    known = re.findall(r"`(AFENV_\w+)`", rows)
    families = ("AFENV_REGISTRY_", *re.findall(r"`(AFENV_\w+_)[…<]", rows))
    for page in [ROOT / "README.md", *ROOT.glob("docs/how-to/*.md")]:
        named = set(re.findall(r"`(AFENV_\w+)", page.read_text()))
        assert [one for one in named if one not in known and not one.startswith(families)] == [], name(page)


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    assert set(ROOT.glob("docs/**/*.md")) - linked == {index}


def test_files_to_change_exist() -> None:
    text = (ROOT / "docs" / "where-to-change.md").read_text()
    named = set(re.findall(r"`((?:afenv|builders|registry|specs|tests|docs)/[^`\s]*)`", text))
    assert len(named) > 100
    assert [one for one in named if not list(ROOT.glob(one.rstrip("/")))] == []


def test_decisions_have_numbers_of_their_own_and_a_status() -> None:
    pages = sorted(ROOT.glob("docs/adr/*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers[0] == 1 and len(set(numbers)) == len(numbers)
    for page in pages:
        head = page.read_text().split("\n## ", 1)[0]
        assert head.startswith(f"# {int(page.name[:4])}. "), name(page)
        assert re.search(r"\bStatus: (accepted|replaced by \d{4})", head), name(page)
