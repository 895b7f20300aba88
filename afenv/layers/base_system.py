"""The system layer on a base image: what the base lacks for our user, and what added Debian packages need.

The base's own files are changed as little as possible: an account is added where there is none for our user;
the records of dpkg, the alternatives and the loader's cache are brought up to date with what was added. What
a replaced package had and its newer version has not is removed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv.documents.lock import LockedEnvironment
from afenv.layers import (
    alternatives,
    base_facts,
    dpkg_status,
    system_accounts,
    system_libraries,
)
from afenv.layers.base_dpkg import Records, left_over, read_group, records
from afenv.layers.base_tree import BaseTree, OpenBase
from afenv.layers.deb_facts import DebFacts, load_facts
from afenv.layers.plan import needs_account
from afenv.layers.system_tree import SystemTree
from afenv.layers.writer import LayerWriter
from afenv.store.content import ContentStore

_ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}
_WHITEOUT = ".wh."
# Files that maintainer scripts copy when they are missing: target, source.
_COPIED = {
    "etc/inputrc": "usr/share/readline/inputrc",
    "etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf",
}


def write_base_system(
    environment: LockedEnvironment,
    base: OpenBase,
    paths: Mapping[str, Path],
    writer: LayerWriter,
    *,
    store: ContentStore | None = None,
) -> list[str]:
    """Write the layer; return warnings, sentences for people about what could not be made.

    ``paths`` are the archives of the environment's Debian packages by sha256. Raises E301, E303, E304 for
    an archive that is not as it should be, and what reading the base raises.
    """
    tree = SystemTree()
    warnings: list[str] = []
    if needs_account(environment):
        _add_account(base.tree, tree)
    debs = sorted(environment.debs, key=lambda deb: (deb.name, deb.architecture))
    if debs:
        facts = list(load_facts(debs, paths, store))
        whole = _Whole(base.tree, facts)
        _add_copied(whole, tree)
        warnings += tree.trust(whole.kept)  # the package of them is among those that were added
        _add_alternatives(whole, tree, warnings)
        _add_records(base, facts, tree)
        _remove_left_over(base, facts, tree)
        if environment.platform in _ARCHITECTURES:
            _add_libraries(whole, tree, _ARCHITECTURES[environment.platform])
    tree.write(writer)
    return warnings


class _Whole:
    """The base and the added packages together; paths are those that the base's links lead to."""

    def __init__(self, tree: BaseTree, facts: Sequence[DebFacts]) -> None:
        self.tree = tree
        self.facts = facts
        self.files: set[str] = set()
        self.links: dict[str, str] = {}
        self.kept: dict[str, bytes] = {}
        for one in facts:
            self.files.update(map(self.place, one.paths))
            self.links.update({self.place(path): target for path, target in one.links.items()})
            self.kept.update(one.kept)
        self.folders: set[str] = set()
        for path in (*self.files, *self.links):
            while path := posixpath.dirname(path):
                self.folders.add(path)

    def place(self, path: str) -> str:
        parent, slash, name = path.rpartition("/")
        return f"{self.tree.real(parent) or parent}/{name}" if slash else name

    def exists(self, path: str) -> bool:
        """Whether something is at ``path`` (absolute)."""
        inner = self.place(path.strip("/"))
        return inner in self.files or inner in self.links or inner in self.folders or self.tree.exists(inner)


def _add_account(tree: BaseTree, found: SystemTree) -> None:
    """An account with the number of our user, beside those that the base has."""
    if tree.read("etc/passwd") is None:
        masters = b"", tree.read("etc/group") or b""
        shell = base_facts.shell(tree) or "/sbin/nologin"
        found.files.update(system_accounts.account_files(*masters, shell=shell))
    else:
        number = str(system_accounts.USER_ID)
        taken = {record[0] for record in base_facts.accounts(tree)}
        name = next(name for name in (system_accounts.USER, "afenv", f"u{number}") if name not in taken)
        shell = base_facts.shell(tree) or "/sbin/nologin"
        lines = {
            "etc/passwd": f"{name}:x:{number}:{number}:{name}:{system_accounts.HOME}:{shell}",
            "etc/shadow": f"{name}:*::0:99999:7:::",
        }
        groups = base_facts.accounts(tree, "etc/group")
        if not any(record[2] == number for record in groups):
            group = name if all(record[0] != name for record in groups) else f"g{number}"
            lines |= {"etc/group": f"{group}:x:{number}:", "etc/gshadow": f"{group}:*::"}
        for path, line in lines.items():
            kept = tree.kept.get(tree.real(path) or path)
            if kept is not None:
                text = kept.data if kept.data.endswith(b"\n") or not kept.data else kept.data + b"\n"
                found.files[tree.real(path) or path] = kept.mode, text + f"{line}\n".encode()
    home = system_accounts.HOME.lstrip("/")
    # Everything belongs to root; with the mode of /tmp, whoever runs the image can use the folder.
    found.folders[home] = 0o1777
    for path, kept in tree.kept.items():
        if path.startswith("etc/skel/"):
            found.files[home + path[len("etc/skel") :]] = 0o644, kept.data


def _add_copied(whole: _Whole, found: SystemTree) -> None:
    for target, source in _COPIED.items():
        if source in whole.kept and not whole.exists(target):
            found.files[target] = 0o644, whole.kept[source]


def _add_alternatives(whole: _Whole, found: SystemTree, warnings: list[str]) -> None:
    groups: dict[str, alternatives.Group] = {}
    for facts in whole.facts:
        script = facts.scripts.get("postinst")
        if script is None:
            continue
        name, architecture = facts.stanza.get("Package"), facts.stanza.get("Architecture")
        invocations, problems = alternatives.read_script(name, architecture, script, whole.exists)
        warnings.extend(problems)
        for words in invocations:
            one: dict[str, alternatives.Group] = {}
            alternatives.install(one, words, name)
            left = False
            for key in one.keys() - groups.keys():  # what the base has of the group comes first
                data = whole.tree.read(f"{alternatives.ADMIN}/{key}")
                known = read_group(key, data) if data is not None else None
                if known is not None:
                    groups[key] = known
                elif data is not None:
                    left = True
                    warnings.append(f"{name}: the alternatives of {key} stay as the base image has them")
            if not left:
                warnings.extend(alternatives.install(groups, words, name))
    for link, target in alternatives.links(groups.values(), whole.exists).items():
        path = whole.place(link.lstrip("/"))
        if path in whole.files or path in whole.tree.folders or path in whole.tree.files:
            warnings.append(f"{link} is there already; no alternative takes its place")
        else:
            found.links[path] = target
    for group in groups.values():
        found.files[f"{alternatives.ADMIN}/{group.name}"] = 0o644, group.admin_file()


def _add_records(base: OpenBase, facts: Sequence[DebFacts], found: SystemTree) -> None:
    new: Records = records(base.tree, facts)
    found.files.update(new)
    interests = [(one.stanza.info_name, one.triggers) for one in facts if one.triggers]
    for name, data in dpkg_status.trigger_files(interests).items():
        path = f"{dpkg_status.ADMIN}/triggers/{name}"
        before = base.tree.read(path)
        if name == "File" or before is None:
            lines = dict.fromkeys([*(before or b"").splitlines(True), *data.splitlines(True)])
            if lines:
                found.files[path] = 0o644, b"".join(lines)


def _remove_left_over(base: OpenBase, facts: Sequence[DebFacts], found: SystemTree) -> None:
    for path in left_over(base, facts):
        parent, _, name = path.rpartition("/")
        if path not in found.files and path not in found.links:
            found.files[f"{parent}/{_WHITEOUT}{name}".lstrip("/")] = 0o644, b""


def _add_libraries(whole: _Whole, found: SystemTree, architecture: str) -> None:
    """The loader's cache anew, if the base has one and libraries were added."""
    tree = whole.tree
    flags = system_libraries.FLAGS.get(architecture)
    configuration = {path: kept.data for path, kept in tree.kept.items() if path.startswith("etc/ld.so.conf")}
    configuration |= {path: data for path, data in whole.kept.items() if path.startswith("etc/ld.so.conf")}
    added = {posixpath.dirname(path) for path in whole.files if ".so" in path}
    if flags is None or not tree.is_file(system_libraries.PATH) or not added:
        return
    entries: list[tuple[str, str]] = []
    for folder in system_libraries.search_folders(configuration):
        inner = tree.real(folder.strip("/")) or folder.strip("/")
        names = {path.rpartition("/")[2] for path in whole.files if posixpath.dirname(path) == inner}
        links = {
            path.rpartition("/")[2]: target
            for path, target in whole.links.items()
            if posixpath.dirname(path) == inner
        }
        for name in tree.names(inner):
            path = f"{inner}/{name}"
            if path in tree.files:
                names.add(name)
            elif path in tree.links and name not in names:
                links.setdefault(name, tree.links[path])
        optimised = {name.rpartition("/")[2] for name in whole.files if f"{inner}/glibc-hwcaps/" in name} | {
            path.rpartition("/")[2] for path in tree.walk(f"{inner}/glibc-hwcaps")
        }
        found_names = system_libraries.library_names(f"/{inner}", names, links)
        entries += [(name, f"{folder}/{name}") for name in found_names if name not in optimised]
    found.files[system_libraries.PATH] = 0o644, system_libraries.cache_file(entries, flags)
