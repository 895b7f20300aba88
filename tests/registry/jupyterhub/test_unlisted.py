"""Images that are not listed: what the rule allows, in Python and in the form's expression."""

from __future__ import annotations

import re

import pytest

from afenv.errors import AfenvError
from afenv_registry.jupyterhub import unlisted

D = "@sha256:" + "a" * 64
RULE = unlisted(["registry.example.org/users/*", "registry.example.org:5000/one"])
BY_TAG = unlisted(["registry.example.org/users/*"], pinned="tag")


@pytest.mark.parametrize(
    "text",
    [
        f"registry.example.org/users/alice/hub{D}",
        f"registry.example.org/users/a{D}",
        f"registry.example.org/users/alice/hub:1.0{D}",
        f"registry.example.org:5000/one{D}",
    ],
)
def test_allowed(text: str) -> None:
    assert RULE.check(text) == text
    assert re.match(RULE.regex, text)


@pytest.mark.parametrize(
    "text",
    [
        "registry.example.org/users/alice/hub:1.0",
        f"registry.example.org/others/hub{D}",
        f"registryXexample.org/users/hub{D}",
        f"registry.example.org/users{D}",
        f"registry.example.org/users/../secret{D}",
        f"registry.example.org/users/{D}",
        f"registry.example.org:5000/one/more{D}",
        f"evil.org/registry.example.org/users/hub{D}",
        f"registry.example.org/users/hub{D}\n",
        f"registry.example.org/users/hub{D}\nimage: evil",
        f"registry.example.org/users/hub{D} evil",
        "registry.example.org/users/{value}",
        f"registry.example.org/users/{{{{ x }}}}{D}",
        "registry.example.org/users/hub@sha256:" + "A" * 64,
        f"registry.example.org/users/{'a' * 600}{D}",
        "",
        None,
        ["registry.example.org/users/hub" + D],
        {"a": 1},
        7,
    ],
)
def test_not_allowed(text: object) -> None:
    with pytest.raises(AfenvError) as raised:
        RULE.check(text)
    assert raised.value.code == "E631"
    assert "registry.example.org" in str(raised.value) or "users" in str(raised.value)
    if isinstance(text, str) and len(text) < 500:
        assert not re.match(RULE.regex, text), "KubeSpawner's own check lets it through"


def test_by_tag() -> None:
    for text in ("registry.example.org/users/hub:1.0", f"registry.example.org/users/hub{D}"):
        assert BY_TAG.check(text) == text
    with pytest.raises(AfenvError):
        BY_TAG.check("registry.example.org/users/hub")


@pytest.mark.parametrize(
    "repositories",
    [
        [],
        ["*"],
        ["registry.example.org"],
        ["registry.example.org/"],
        ["users/*"],
        ["registry.example.org/a|b"],
        ["registry.example.org/(a+)+"],
        ["registry.example.org/*/x"],
        ["https://registry.example.org/x"],
        [".*"],
    ],
)
def test_bad_rules(repositories: list[str]) -> None:
    with pytest.raises(AfenvError) as raised:
        unlisted(repositories)
    assert raised.value.code == "E632"


def test_a_rule_pins_in_a_known_way() -> None:
    with pytest.raises(AfenvError, match="E632"):
        unlisted(["registry.example.org/x"], pinned="anything")  # type: ignore[arg-type]
