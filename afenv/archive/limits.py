"""Which packages may not be passed on to everybody, by the table ``specs/redistribution.toml``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from afenv.archive.index import Restricted
from afenv.specs import specs_folder

FILE = "redistribution.toml"


@cache
def _rules() -> list[dict[str, Any]]:
    import tomllib

    with (specs_folder() / FILE).open("rb") as file:
        rules: list[dict[str, Any]] = tomllib.load(file)["rule"]
    return rules


def restriction(package: str, license_text: str, *, non_free: bool = False) -> Restricted | None:
    """Why a package (``KIND:NAME``) may not be passed on freely; None if nothing is known against it.

    ``license_text`` is what it states of its licence, ``non_free`` that it comes from Debian's section of
    that name.
    """
    stated = license_text.lower()
    for rule in _rules():
        by_name = any(fnmatchcase(package, pattern) for pattern in rule.get("packages", ()))
        by_license = any(fnmatchcase(stated, pattern.lower()) for pattern in rule.get("licenses", ()))
        # a rule with both is about these packages under these licences
        both = "packages" in rule and "licenses" in rule
        if not (by_name and by_license if both else by_name or by_license):
            continue
        if not rule["limits"]:
            return None
        name = license_text if rule["license"].startswith("as stated") else rule["license"]
        return Restricted(name=package, license=name, reason=rule["reason"])
    if non_free:
        reason = "Debian has it in non-free: its licence does not meet the Debian Free Software Guidelines."
        return Restricted(name=package, license="non-free", reason=reason)
    return None
