"""What a person reads where there is no solution."""

from __future__ import annotations

from typing import Any

import pytest

from afenv.resolve.conda import explain


def test_unknown_packages(physics: Any) -> None:
    said = physics.fails("E101", "nunpy", "hist", "zzzzzz")
    assert "there is no conda package 'nunpy' in ./channel" in said
    assert "Did you mean numpy?" in said
    assert "'zzzzzz'" in said


def test_a_version_that_does_not_exist(physics: Any) -> None:
    assert "'python=3.13'; there are: 3.12.3, 3.11.9" in physics.fails("E101", "python=3.13", "hist")


def test_only_what_collides_is_named(physics: Any) -> None:
    said = physics.fails("E102", "hist", "root", "fonts", "python=3.12", "libz")
    assert "root and python=3.12 cannot be installed together" in said
    assert "numpy <2" in said
    assert "hist" not in said
    assert "candidates" not in said


def test_a_dependency_that_does_not_exist(physics: Any) -> None:
    physics.channel.add("broken", "1", ["nothere >=2"])
    assert "nothere >=2, which no package fits" in physics.fails("E102", "broken", "hist")


def test_a_gpu_that_is_not_there(physics: Any) -> None:
    physics.channel.add("cudart", "12.4", ["__cuda >=12"])
    physics.channel.add("torch", "2.1", ["cudart"])
    said = physics.fails("E102", "torch", "hist")
    assert "cudart 12.4 (for torch) needs a GPU with CUDA >=12" in said
    assert 'gpu: {cuda: ">=12"}' in said
    said = physics.fails("E102", "cudart=12.4", cuda="11.8")
    assert "cudart 12.4 needs a GPU with CUDA >=12; the environment's gpu section allows CUDA 11.8" in said


def test_a_gpu_that_does_not_go_with_a_constraint(physics: Any) -> None:
    physics.channel.add("new", "1", constrains=["__cuda >=13"])
    assert physics.chosen("new") == {"new": "1 0"}
    assert "needs a GPU with CUDA >=13" in physics.fails("E102", "new", cuda="12.2")


def test_an_old_base(physics: Any) -> None:
    physics.channel.add("modern", "1", ["__glibc >=2.39"])
    said = physics.fails("E102", "modern")
    assert "modern 1 needs the C library (glibc) >=2.39; the base bookworm has 2.36" in said
    assert physics.chosen("modern", glibc=(2, 41)) == {"modern": "1 0"}


def test_a_virtual_package_that_is_asked_for(physics: Any) -> None:
    assert "'__glibc >=2.40' is asked for, and __glibc is 2.36" in physics.fails("E102", "__glibc >=2.40")
    assert physics.chosen("__glibc >=2.30", "libz") == {"libz": "1.3 0"}


def test_an_index_that_is_damaged(physics: Any) -> None:
    (physics.folder / "channel" / "linux-64" / "repodata.json").write_text("{")
    assert "the index of a channel is damaged" in physics.fails("E202", "hist")


def test_another_virtual_package(physics: Any) -> None:
    physics.channel.add("odd", "1", ["__odd >=2"])
    assert "odd 1 needs __odd >=2, which is absent" in physics.fails("E102", "odd")
    assert physics.chosen("odd", virtual={"__odd": "2"}) == {"odd": "1 0"}


@pytest.mark.parametrize("spec", ["=3", "numpy==", "a b[", "nu*"])
def test_what_is_no_specification(physics: Any, spec: str) -> None:
    assert repr(spec) in physics.fails("E013", "hist", spec)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (
            "E202",
            "GatewayError",
            "HTTP status server error (503 Service Unavailable) for url (https://x.org/a)",
        ),
        ("E201", "GatewayError", "error sending request for url (https://a:b@x.org/r.json) dns error"),
        ("E202", "GatewayError", "failed to parse repodata.json Caused by: EOF while parsing an object"),
        ("E013", "InvalidVersionError", "malformed version string 'x y'"),
        ("E402", "GatewayError", "failed to write: No space left on device (os error 28)"),
        ("E120", "PanicException", "index out of bounds"),
    ],
)
def test_other_failures(code: str, kind: str, text: str) -> None:
    error = explain.failed({"kind": kind, "text": text}, offline=False)
    assert error.code == code
    assert "a:b" not in str(error)
