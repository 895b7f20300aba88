"""Receipts: a build in which nothing changed is answered from one; any change is seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.resolve import code_fingerprint
from afenv.workflow import receipt


@pytest.fixture
def built(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The world, with a build whose receipt is there though its files are new."""
    for module in (receipt, code_fingerprint):
        monkeypatch.setattr(module, "RACY", 0)
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest.replace("{dependencies: [alpha, beta]}", "{file: requirements.txt}"))
    world.write("requirements.txt", "-r more.txt\nalpha\n")
    world.write("more.txt", "beta\n")
    world.result = world.afenv_json("build")
    assert known(world) == world.result
    return world


def known(world: Any, environment: str | None = None, allow_dirty: bool = False) -> Any:
    return receipt.known_result(world.project, environment, allow_dirty)


def biggest(world: Any) -> Path:
    return max(
        (world.project / ".afenv" / "default.oci" / "blobs").rglob("*"), key=lambda path: path.stat().st_size
    )


def damage(world: Any) -> None:
    blob = biggest(world)
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"\0")


CHANGES: dict[str, Callable[[Any], object]] = {
    "the manifest": lambda world: world.write(
        "afenv.yaml", (world.project / "afenv.yaml").read_text() + "# more\n"
    ),
    "the lock": lambda world: world.write("afenv.lock", (world.project / "afenv.lock").read_text() + "\n"),
    "no lock": lambda world: (world.project / "afenv.lock").unlink(),
    "a file that the manifest names": lambda world: world.write("requirements.txt", "alpha\n"),
    "a file that this one includes": lambda world: world.write("more.txt", "beta>0\n"),
    "code": lambda world: world.write("src/fit.py", "import alpha\n"),
    "more code": lambda world: world.write("src/more.py", ""),
    "less code": lambda world: (world.project / "src/fit.py").unlink(),
    "a damaged layer": damage,
    "a lost layer": lambda world: biggest(world).unlink(),
    "a foreign file": lambda world: (world.project / ".afenv/default.oci/blobs/x").write_text(""),
    "a damaged receipt": lambda world: next((world.project / ".afenv").glob("receipt-*")).write_text("[]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(built: Any, change: str) -> None:
    CHANGES[change](built)
    assert known(built) is None


def test_other_questions_have_other_receipts(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known(built, "default") is None
    assert known(built, None, True) is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert known(built) is None


def test_it_says_what_the_build_said(built: Any) -> None:
    assert built.afenv_json("build") == built.result
    status, out, err = built.afenv("build")
    assert (status, out.strip()) == (0, built.result[0]["image_id"])
    assert built.result[0]["path"] in err


def test_a_file_changed_just_now_makes_no_receipt(world: Any) -> None:
    world.afenv_json("build")
    assert known(world) is None


def test_an_answer_from_a_receipt_imports_next_to_nothing(built: Any) -> None:
    code = (
        "import sys\nfrom afenv.resolve import code_fingerprint\ncode_fingerprint.RACY = 0\n"
        f"from afenv.cli import main\nassert main(['-C', {str(built.project)!r}, 'build']) == 0\n"
        "sys.exit(','.join(sorted({'dataclasses', 'afenv.errors', 'afenv.documents.lock', 'pygit2'}"
        " & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_options_for_the_builder_are_not_passed_over(built: Any) -> None:
    for option in ("compressor=gzip", "compressor"):
        status, _, err = built.afenv("build", "--option", option)
        assert status == 2 and "E030" in err and "compressor" in err
