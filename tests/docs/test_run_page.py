"""The commands of the page about running are ones that afenv understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from afenv.cli.parser import build_parser
from afenv.errors import catalogue
from afenv.settings import __doc__ as settings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run.md"
TEXT = PAGE.read_text()
COMMANDS = re.findall(r"^    (afenv [^|&\n]*)", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(command: str) -> None:
    assert build_parser().parse_args(shlex.split(command)[1:]).command in ("run", "shell")


def test_the_page_names_what_there_is() -> None:
    assert len(COMMANDS) > 6
    assert set(re.findall(r"E\d{3}", TEXT)) <= set(catalogue())
    for name in set(re.findall(r"AFENV_[A-Z_]+", TEXT)):
        assert name in str(settings)
