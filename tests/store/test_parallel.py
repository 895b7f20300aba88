"""The same work for many files: what fails is collected, and what all would meet ends everything."""

from __future__ import annotations

import threading

import pytest

from afenv.errors import AfenvError
from afenv.store.parallel import for_each


def run(codes: list[str], **more: tuple[str, ...]) -> tuple[list[int], dict[int, str]]:
    """Which items were worked on, one after the other, and the codes of their problems."""
    seen: list[int] = []

    def work(item: int, _: threading.Event) -> None:
        seen.append(item)
        if codes[item]:
            raise AfenvError(codes[item], "made up")

    found = for_each(range(len(codes)), work, threads=1, name="test", **more)
    return seen, {at: problem.code for at, problem in found.items()}


def test_a_problem_of_one_file_is_its_own() -> None:
    assert run(["", "E301", "", "E201"]) == ([0, 1, 2, 3], {1: "E301", 3: "E201"})


def test_a_full_disk_ends_everything() -> None:
    assert run(["", "E402", "", ""]) == ([0, 1], {1: "E402"})
    assert run(["E402", "E649", ""], fatal=("E649",)) == ([0, 1], {0: "E402", 1: "E649"})


def test_a_defect_is_raised() -> None:
    def work(item: int, _: threading.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each(range(3), work, threads=2, name="test")
