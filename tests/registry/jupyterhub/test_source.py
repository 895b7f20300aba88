"""Where a hub's catalogue comes from: a hub starts without it, and keeps the last good one."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from afenv.catalogue.file import make_catalogue
from afenv.errors import AfenvError
from afenv_registry.jupyterhub import CatalogueSource, Offering
from tests.registry.jupyterhub.conftest import FACILITY, image, spawner

ONE = make_catalogue("test", [image("one")], serial=1).data
TWO = make_catalogue("test", [image("one"), image("two")], serial=2).data


class Remote:
    """Gives the next answer of a list, the last one again and again; an error is raised."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


UNREACHABLE = AfenvError("E201", "cannot connect to registry.example.org")


def source(remote: Remote, kept: Path, clock: Clock | None = None) -> CatalogueSource:
    made = CatalogueSource(remote, "registry.example.org/catalogue", kept, clock=clock or Clock())
    made.wait()
    return made


def test_it_is_loaded_kept_and_asked_for_again(tmp_path: Path) -> None:
    remote, clock, kept = Remote(ONE, TWO), Clock(), tmp_path / "state" / "kept"
    made = source(remote, kept, clock)
    found = made.current()
    assert found is not None and found.count == 1 and kept.read_bytes() == ONE
    clock.now = 599
    made.current()
    made.wait()
    assert remote.asked == 1
    clock.now = 601
    made.current()
    made.wait()
    found = made.current()
    assert found is not None and found.count == 2 and kept.read_bytes() == TWO


def test_a_hub_starts_without_its_registry_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = source(Remote(UNREACHABLE), tmp_path / "kept")
    offering = Offering(made, FACILITY, hub_version="6.1.1")
    assert offering.offers_now(spawner()) == ()
    problem = offering.nothing().problems[0]
    assert problem.code == "E630" and "cannot connect to registry.example.org" in problem.message
    assert "E201" in caplog.text and "no image can be offered" in caplog.text


def test_the_last_good_copy_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = tmp_path / "kept"
    source(Remote(ONE), kept)
    made = source(Remote(UNREACHABLE), kept)
    offering = Offering(made, FACILITY, hub_version="6.1.1")
    assert [one.image.name for one in offering.offers_now(spawner())] == ["one"]
    assert "what was loaded last is used" in caplog.text


def test_it_comes_back_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    made = source(Remote(UNREACHABLE, ONE), tmp_path / "kept", clock)
    assert made.current() is None and made.problem is UNREACHABLE
    clock.now = 61
    made.current()
    made.wait()
    assert made.current() is not None and made.problem is None


@pytest.mark.parametrize("damaged", [b"", b"not a catalogue", ONE[:-5], TWO[:50] + b"x" + TWO[51:]])
def test_what_is_damaged_is_not_used(
    tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    clock, kept = Clock(), tmp_path / "kept"
    made = source(Remote(ONE, damaged), kept, clock)
    clock.now = 601
    made.current()
    made.wait()
    found = made.current()
    assert found is not None and found.count == 1 and kept.read_bytes() == ONE
    assert made.problem is not None and "E622" in caplog.text
    kept.write_bytes(damaged)
    assert source(Remote(UNREACHABLE), kept).current() is None
    assert "what was kept of the catalogue is not used" in caplog.text


def test_a_defect_in_the_thread_does_not_stop_the_hub(tmp_path: Path) -> None:
    made = source(Remote(ValueError("oops")), tmp_path / "kept")
    assert made.current() is None
    assert made.problem is not None and made.problem.code == "E900"


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert source(Remote(ONE), tmp_path / "file" / "kept").current() is not None
    assert "cannot be" in caplog.text


def test_only_the_first_one_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    release = threading.Event()

    def slow() -> bytes:
        release.wait(60)
        return ONE

    made = CatalogueSource(slow, "test", tmp_path / "kept", patience=0.2)
    started = time.monotonic()
    assert made.current(wait=False) is None
    assert time.monotonic() - started < 0.2
    assert made.current() is None
    release.set()
    assert made.current() is not None
