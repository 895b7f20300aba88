"""The system layer: the files that Debian's maintainer scripts would have made.

A pure function of the packages of an environment; no script is run. What it makes, and what it leaves
out, is described in ``docs/adr/0009-no-maintainer-scripts.md``. The layer belongs on top of the layers
of the packages: its folders have the final word on modes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from afenv.documents.lock import LockedEnvironment
from afenv.layers import alternatives, dpkg_status, system_accounts, system_libraries
from afenv.layers.deb import USR_LINKS, link_path, merged_path
from afenv.layers.deb_facts import DebFacts, load_facts
from afenv.layers.system_minimal import minimal_files, minimal_links
from afenv.layers.system_shell import ShellLimitError, invocations
from afenv.layers.system_tree import SystemTree
from afenv.layers.writer import LayerWriter
from afenv.store.content import ContentStore

_ALWAYS_LINKED = ("bin", "sbin", "lib")
_LOCAL = ("bin", "etc", "games", "include", "lib", "libexec", "sbin", "share", "share/man", "src")
_FOLDERS = {
    "dev": 0o755,
    "etc/opt": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "run/lock": 0o1777,
    "srv": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    **{
        f"usr/local/{name}": 0o755
        for name in ("bin", "etc", "games", "include", "lib", "libexec", "sbin", "share", "src")
    },
    "usr/local/share/man": 0o755,
    "var/mail": 0o775,
    "var/opt": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
    f"{dpkg_status.ADMIN}/updates": 0o755,
}
_LINKS = {
    "usr/local/man": "share/man",
    "var/lock": "/run/lock",
    "var/run": "/run",
    "var/spool/mail": "../mail",
}
# Files that maintainer scripts copy when they are missing: target, source.
_COPIED = {
    "etc/inputrc": "usr/share/readline/inputrc",
    "etc/motd": "usr/share/base-files/motd",
    "etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf",
    "etc/profile": "usr/share/base-files/profile",
    "root/.bashrc": "usr/share/base-files/dot.bashrc",
    "root/.profile": "usr/share/base-files/dot.profile",
    "usr/share/info/dir": "usr/share/base-files/info.dir",
}
_UTC = "usr/share/zoneinfo/Etc/UTC"
_ACCOUNT_COMMANDS = ("adduser", "addgroup", "useradd", "groupadd")


class _Packages:
    """What all packages of an environment hold together; paths are those of a merged-/usr system."""

    def __init__(self, facts: Sequence[DebFacts]) -> None:
        self.facts = facts
        self.owner: dict[str, str] = {}
        self.kept: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        for item in facts:
            name = item.stanza.get("Package")
            self.kept.update(item.kept)
            for path in item.paths:
                self.owner[merged_path(path)] = name
            for path, target in item.links.items():
                inner = link_path(path)
                self.owner[inner] = name
                self.links[inner] = target

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders that hold something."""
        found: set[str] = set()
        for path in self.owner:
            folder = posixpath.dirname(path)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    def exists(self, path: str) -> bool:
        """Whether a package ships ``path`` (absolute)."""
        inner = merged_path(path.strip("/"))
        return inner in self.owner or inner in self.folders


def write_system(
    environment: LockedEnvironment,
    paths: Mapping[str, Path],
    writer: LayerWriter,
    *,
    store: ContentStore | None = None,
) -> list[str]:
    """Write the system layer; return warnings, sentences for people about what could not be made.

    ``paths`` are the archives of the environment's packages by sha256 (64 hexadecimal digits). With
    ``store``, what :func:`afenv.layers.deb.write_debs` kept there is used instead of the archives. Raises
    E301, E303, E304 for an archive that is not as it should be.
    """
    debs = sorted(environment.debs, key=lambda deb: (deb.name, deb.architecture))
    packages = _Packages(list(load_facts(debs, paths, store)))
    tree = SystemTree()
    warnings: list[str] = []
    _add_base(packages, tree)
    _add_accounts(packages, tree)
    warnings += tree.trust(packages.kept)
    _add_alternatives(packages, tree, warnings)
    _add_libraries(packages, tree)
    _add_dpkg(packages, tree)
    if environment.minimal:
        tree.files.update({path: (0o644, data) for path, data in minimal_files(packages.owner).items()})
        tree.links.update(minimal_links(environment, packages.owner))
    _warn(packages, warnings)
    tree.write(writer)
    return warnings


def _add_base(packages: _Packages, tree: SystemTree) -> None:
    tree.folders.update(_FOLDERS)
    tree.links.update(_LINKS)
    for name in USR_LINKS:
        if name in _ALWAYS_LINKED or f"usr/{name}" in packages.folders:
            tree.links[name] = f"usr/{name}"
    for target, source in _COPIED.items():
        if source in packages.kept and target not in packages.owner:
            tree.files[target] = (0o644, packages.kept[source])
    if any(path.startswith("usr/share/ca-certificates/") for path in packages.kept):
        tree.folders["usr/local/share/ca-certificates"] = 0o755
    for folder in packages.folders:
        if re.fullmatch(r"usr/lib/python3\.[0-9]+", folder):
            tree.folders[f"usr/local{folder[3:]}/dist-packages"] = 0o755
    if "etc/dpkg/origins/debian" in packages.owner:
        tree.links["etc/dpkg/origins/default"] = "debian"
    if _UTC in packages.owner:
        tree.links["etc/localtime"] = f"/{_UTC}"
        tree.files["etc/timezone"] = (0o644, b"Etc/UTC\n")


def _add_accounts(packages: _Packages, tree: SystemTree) -> None:
    kept = packages.kept
    shell = "/bin/bash" if "usr/bin/bash" in packages.owner else "/bin/sh"
    masters = (kept.get(f"usr/share/base-passwd/{name}.master", b"") for name in ("passwd", "group"))
    tree.files.update(system_accounts.account_files(*masters, shell=shell))
    home = system_accounts.HOME.lstrip("/")
    # Everything belongs to root; with the mode of /tmp, whoever runs the image can use the folder.
    tree.folders[home] = 0o1777
    for path, data in kept.items():
        if path.startswith("etc/skel/"):
            tree.files[home + path[len("etc/skel") :]] = (0o644, data)
    template = kept.get("usr/share/debianutils/shells")
    if template is not None:
        folder = "usr/share/debianutils/shells.d/"
        packaged = {path[len(folder) :]: data for path, data in kept.items() if path.startswith(folder)}
        moved = {name: f"usr/{name}" for name in USR_LINKS}
        shells, state = system_accounts.shell_files(template, packaged, moved)
        tree.files["etc/shells"] = (0o644, shells)
        tree.files["var/lib/shells.state"] = (0o644, state)


def _add_alternatives(packages: _Packages, tree: SystemTree, warnings: list[str]) -> None:
    groups: dict[str, alternatives.Group] = {}
    for facts in packages.facts:
        script = facts.scripts.get("postinst")
        if script is None:
            continue
        name, architecture = facts.stanza.get("Package"), facts.stanza.get("Architecture")
        found, problems = alternatives.read_script(name, architecture, script, packages.exists)
        warnings.extend(problems)
        for words in found:
            warnings.extend(alternatives.install(groups, words, name))
    for link, target in alternatives.links(groups.values(), packages.exists).items():
        path = merged_path(link.lstrip("/"))
        if path in packages.owner and path not in packages.links:
            warnings.append(f"{link} is a file of {packages.owner[path]}; no alternative takes its place")
        else:
            tree.links[path] = target
    for group in groups.values():
        tree.files[f"{alternatives.ADMIN}/{group.name}"] = (0o644, group.admin_file())


def _add_libraries(packages: _Packages, tree: SystemTree) -> None:
    architectures = {facts.stanza.get("Architecture") for facts in packages.facts}
    flags = next((value for name, value in system_libraries.FLAGS.items() if name in architectures), None)
    if flags is None or "etc/ld.so.conf" not in packages.owner:
        return
    files: dict[str, list[str]] = {}
    links: dict[str, dict[str, str]] = {}
    optimised: set[str] = set()
    for path in packages.owner:
        folder, _, name = path.rpartition("/")
        if "glibc-hwcaps/" in path:
            optimised.add(name)
        elif path in packages.links:
            links.setdefault(folder, {})[name] = packages.links[path]
        else:
            files.setdefault(folder, []).append(name)
    for path, target in tree.links.items():
        folder, _, name = path.rpartition("/")
        links.setdefault(folder, {})[name] = target
    entries: list[tuple[str, str]] = []
    for folder in system_libraries.search_folders(packages.kept):
        inner = merged_path(folder.lstrip("/"))
        names = system_libraries.library_names(f"/{inner}", files.get(inner, ()), links.get(inner, {}))
        # A library with variants for newer processors is left to the loader's own search.
        entries += [(name, f"{folder}/{name}") for name in names if name not in optimised]
    if entries:
        tree.files[system_libraries.PATH] = (0o644, system_libraries.cache_file(entries, flags))


def _add_dpkg(packages: _Packages, tree: SystemTree) -> None:
    status = "\n".join(dpkg_status.status_entry(facts.stanza, facts.conffiles) for facts in packages.facts)
    tree.files[f"{dpkg_status.ADMIN}/status"] = (0o644, status.encode("utf-8", "surrogateescape"))
    tree.files[f"{dpkg_status.ADMIN}/diversions"] = (0o644, b"")
    tree.files[f"{dpkg_status.INFO}/format"] = (0o644, b"1\n")
    interests = [(facts.stanza.info_name, facts.triggers) for facts in packages.facts if facts.triggers]
    for name, data in dpkg_status.trigger_files(interests).items():
        tree.files[f"{dpkg_status.ADMIN}/triggers/{name}"] = (0o644, data)
    tree.files[f"{dpkg_status.ADMIN}/triggers/Unincorp"] = (0o644, b"")


def _warn(packages: _Packages, warnings: list[str]) -> None:
    """Say what maintainer scripts would do that no part of this module does in their place."""
    for facts in packages.facts:
        name = facts.stanza.get("Package")
        for kind, arguments in (("preinst", ("install",)), ("postinst", ("configure", ""))):
            script = facts.scripts.get(kind, b"").decode("utf-8", "surrogateescape")
            try:
                found = invocations(
                    script,
                    [*_ACCOUNT_COMMANDS, "dpkg-divert"],
                    exists=packages.exists,
                    variables={"DPKG_MAINTSCRIPT_PACKAGE": name},
                    arguments=arguments,
                )
            except ShellLimitError:
                continue  # alternatives are reported where they are looked for
            for words, _certain in found:
                if any("usr-is-merged" in (word or "") for word in words):
                    continue  # a diversion for the time of an upgrade of the C library
                path = (words[-1] or "").strip("/")
                if words[0] in _ACCOUNT_COMMANDS and name not in ("base-passwd", "passwd"):
                    warnings.append(
                        f"{name}: the account or group {words[-1] or 'that it wants'} is not made"
                    )
                elif "--add" in words and packages.owner.get(merged_path(path), name) != name:
                    warnings.append(f"{name}: it would divert /{path}, which is left in its place")
