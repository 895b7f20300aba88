"""Build commands and post-link scripts in the lock: they are there, and change nothing else of it."""

from __future__ import annotations

import json
from typing import Any

BUILD = "    build: [make]\n"


def environment(world: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.lock()["environments"]["default"]
    return found


def test_a_change_of_commands_resolves_nothing(world: Any) -> None:
    manifest = (world.project / "afenv.yaml").read_text()
    world.afenv_json("lock")
    before = environment(world)
    asked = len(world.asked)
    world.write("afenv.yaml", manifest + BUILD)
    status, out, _ = world.afenv("lock", "--check")
    assert status == 1, out
    world.afenv_json("lock")
    after = environment(world)
    assert len(world.asked) == asked
    assert after["build"] == ["make"]
    assert {**before, "build": ["make"], "request": after["request"]} == after
    world.write("afenv.yaml", manifest)
    world.afenv_json("lock")
    assert environment(world) == before


def test_a_result_stays_until_the_commands_are_gone(world: Any) -> None:
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest + BUILD)
    world.afenv_json("lock")
    lock = world.lock()
    result = {"inputs": "sha256:" + "1" * 64, "diff-id": "sha256:" + "2" * 64}
    lock["environments"]["default"]["built"] = result
    world.write("afenv.lock", json.dumps(lock))
    assert world.afenv("lock", "--check")[0] == 0
    world.write("afenv.yaml", manifest + "    build: [make all]\n")
    world.afenv_json("lock")
    assert environment(world)["built"] == result
    world.afenv_json("lock", "--upgrade")
    assert environment(world)["built"] == result
    world.write("afenv.yaml", manifest)
    world.afenv_json("lock")
    assert "built" not in environment(world)
