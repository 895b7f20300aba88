"""The records of dpkg in a base image, brought up to date with packages that were added.

A base has ``/var/lib/dpkg/status``, or, made without dpkg, one file per package in ``status.d``; what is
added is recorded in the form that the base has. Sources: dpkg(1), update-alternatives(1), and the files that
dpkg 1.21 writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from afenv.layers.alternatives import Choice, Group
from afenv.layers.base_tree import BaseTree, OpenBase
from afenv.layers.deb_facts import DebFacts
from afenv.layers.dpkg_status import ADMIN, INFO, status_entry

Records = dict[str, tuple[int, bytes]]

STATUS = f"{ADMIN}/status"
_PACKAGE = re.compile(r"^Package:[ \t]*(\S+)", re.M)
_ARCHITECTURE = re.compile(r"^Architecture:[ \t]*(\S+)", re.M)


def records(tree: BaseTree, facts: Sequence[DebFacts]) -> Records:
    """The files that record the packages of the base and those of ``facts``, which replace older ones."""
    before = tree.read(STATUS)
    if before is None:
        return {
            f"{STATUS}.d/{_file_name(tree, one.stanza.get('Package'))}": (
                0o644,
                _entry(one).encode("utf-8", "surrogateescape"),
            )
            for one in facts
        }
    new = {(one.stanza.get("Package"), one.stanza.get("Architecture")) for one in facts}
    kept = [
        block
        for block in re.split(r"\n[ \t]*\n", before.decode("utf-8", "surrogateescape"))
        if block.strip() and not _is_among(block, new)
    ]
    entries = [block.strip("\n") + "\n" for block in kept] + [_entry(one) for one in facts]
    return {STATUS: (0o644, "\n".join([*entries, ""]).encode("utf-8", "surrogateescape"))}


def _file_name(tree: BaseTree, package: str) -> str:
    """The file in ``status.d`` that records the package: the base's own, whatever it is called."""
    for path, kept in tree.kept.items():
        if path.startswith(f"{STATUS}.d/"):
            match = _PACKAGE.search(kept.data.decode("utf-8", "replace"))
            if match and match[1] == package:
                return path.rpartition("/")[2]
    return package


def _entry(facts: DebFacts) -> str:
    return status_entry(facts.stanza, facts.conffiles)


def _is_among(block: str, new: Iterable[tuple[str, str]]) -> bool:
    """Whether a stanza is that of a package which is there anew; ``all`` goes with any architecture."""
    package, architecture = _PACKAGE.search(block), _ARCHITECTURE.search(block)
    if package is None:
        return False
    mine = architecture[1] if architecture else ""
    return any(package[1] == name and (mine == other or "all" in (mine, other)) for name, other in new)


def left_over(base: OpenBase, facts: Sequence[DebFacts]) -> list[str]:
    """The paths of packages of the base that their newer versions have not, and nothing else has, sorted.

    The lists that dpkg keeps tell; a folder is left, and so is a link to one: a list does not tell whether
    the package had a folder there (``/bin``) or a link. Files below ``/etc`` stay, as they do for dpkg.
    """
    tree = base.tree
    replaced = {one.stanza.get("Package"): one for one in facts}
    owned = [name for name in tree.names(INFO) if "." in name]
    old = {name: _package_of(name) for name in owned}
    lists = [f"{INFO}/{name}" for name in owned if name.endswith(".list") and old[name] in replaced]
    if not lists:
        return []
    new = {_real(tree, path) for one in facts for path in (*one.paths, *one.links)}
    kept = {
        f"{INFO}/{one.stanza.info_name}.{name.rpartition('.')[2]}"
        for one in facts
        for name in owned
        if old[name] == one.stanza.get("Package")
    }
    others = [f"{INFO}/{name}" for name in owned if name.endswith(".list") and old[name] not in replaced]
    contents = base.contents([*lists, *others])
    stays = {path for name in others for path in _paths(tree, contents[name])}
    gone = {path for name in lists for path in _paths(tree, contents[name])} - new - stays
    gone |= {f"{INFO}/{name}" for name in owned if old[name] in replaced} - kept
    return sorted(
        path
        for path in gone
        if not path.startswith("etc/")
        and (path in tree.files or (path in tree.links and not tree.is_folder(path)))
        and path not in new
    )


def _package_of(name: str) -> str:
    return name.rpartition(".")[0].partition(":")[0]


def _paths(tree: BaseTree, data: bytes) -> set[str]:
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return {_real(tree, line.lstrip("/")) for line in lines if line not in ("", "/.")}


def _real(tree: BaseTree, path: str) -> str:
    parent, slash, name = path.rpartition("/")
    return f"{tree.real(parent) or parent}/{name}" if slash else name


def read_group(name: str, data: bytes) -> Group | None:
    """A link group out of its file in ``/var/lib/dpkg/alternatives``; None if it is in no known form.

    One that an administrator has set by hand is left alone: None as well.
    """
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    try:
        mode, link = lines[0], lines[1]
        group = Group(name, link)
        at = 2
        while lines[at]:
            group.slave_links[lines[at]] = lines[at + 1]
            at += 2
        at += 1
        slaves = list(group.slave_links)
        while lines[at]:
            path, priority = lines[at], int(lines[at + 1])
            given = dict(zip(slaves, lines[at + 2 : at + 2 + len(slaves)], strict=True))
            chosen = {slave: target for slave, target in given.items() if target}
            group.choices[path] = Choice(path, priority, chosen)
            at += 2 + len(slaves)
    except (IndexError, ValueError):
        return None
    return group if mode == "auto" else None
