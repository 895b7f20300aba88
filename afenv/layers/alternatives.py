"""Alternatives: the links that ``update-alternatives --install`` would have made.

Source of the semantics and of the administrative files: update-alternatives(1), and the files that dpkg
1.21 and 1.22 write. All groups are in automatic mode: the highest priority wins, at equal priority the
first path in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from afenv.layers.system_shell import ShellLimitError, invocations
from afenv.layers.system_shell_words import Invocation

FOLDER = "etc/alternatives"
ADMIN = "var/lib/dpkg/alternatives"
COMMAND = "update-alternatives"


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate of a group: its path, its priority, and the paths of its slaves by their name."""

    path: str
    priority: int
    slaves: dict[str, str]


@dataclass(slots=True)
class Group:
    """A link group: the generic link, the links of the slaves by name, and the choices by path."""

    name: str
    link: str
    slave_links: dict[str, str] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)

    def best(self) -> Choice:
        """The choice of automatic mode."""
        return min(self.choices.values(), key=lambda choice: (-choice.priority, choice.path))

    def admin_file(self) -> bytes:
        """The group's file in ``/var/lib/dpkg/alternatives``."""
        lines = ["auto", self.link]
        slaves = sorted(self.slave_links)
        for name in slaves:
            lines += [name, self.slave_links[name]]
        lines.append("")
        for path in sorted(self.choices):
            choice = self.choices[path]
            lines += [path, str(choice.priority), *(choice.slaves.get(name, "") for name in slaves)]
        lines.append("")
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def read_script(
    package: str, architecture: str, script: bytes, exists: Callable[[str], bool]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The certain invocations of ``update-alternatives`` in a ``postinst``, and warnings for the rest."""
    if COMMAND.encode() not in script or b"--install" not in script:
        return [], []
    first = script.partition(b"\n")[0]
    if not first.startswith(b"#!") or not first.split(b"/")[-1].split()[0].endswith(b"sh"):
        return [], [f"{package}: its postinst, which is not a shell script, may install alternatives"]
    try:
        found = invocations(
            script.decode("utf-8", "surrogateescape"),
            [COMMAND],
            exists=exists,
            variables={
                "DPKG_MAINTSCRIPT_PACKAGE": package,
                "DPKG_MAINTSCRIPT_ARCH": architecture,
                "DPKG_MAINTSCRIPT_NAME": "postinst",
            },
        )
    except ShellLimitError as error:
        return [], [f"{package}: alternatives are not installed: its postinst is not understood ({error})"]
    certain: list[tuple[str, ...]] = []
    warnings: list[str] = []
    for invocation in found:
        words = known_words(invocation)
        if words is not None:
            certain.append(words)
        elif "--install" in invocation.words:
            shown = " ".join("…" if word is None else word for word in invocation.words[1:8])
            warnings.append(f"{package}: an alternative may be missing: {COMMAND} {shown}")
    return certain, list(dict.fromkeys(warnings))


def known_words(invocation: Invocation) -> tuple[str, ...] | None:
    """The words of an invocation that certainly runs with certainly these words."""
    if not invocation.certain or None in invocation.words:
        return None
    return tuple(word for word in invocation.words if word is not None)


def install(groups: dict[str, Group], words: Iterable[str], package: str) -> list[str]:
    """Apply one invocation to ``groups``; what cannot be applied comes back as warnings."""
    arguments = list(words)[1:]
    shown = f"{package}: not applied: {COMMAND} {' '.join(arguments[:6])}"
    master: tuple[str, str, str, int] | None = None
    slaves: list[tuple[str, str, str]] = []
    while arguments:
        option = arguments.pop(0)
        if option == "--install" and len(arguments) >= 4 and re.fullmatch("-?[0-9]{1,9}", arguments[3]):
            master = (arguments[0], arguments[1], arguments[2], int(arguments[3]))
            del arguments[:4]
        elif option == "--slave" and len(arguments) >= 3:
            slaves.append((arguments[0], arguments[1], arguments[2]))
            del arguments[:3]
        elif option in ("--log", "--altdir", "--admindir"):
            del arguments[:1]
        elif option in ("--remove", "--remove-all", "--auto", "--display", "--query", "--list"):
            return []  # nothing was installed before
        elif not option.startswith("--") or option in ("--set", "--config", "--install", "--slave"):
            return [shown]
    if master is None:
        return []
    link, name, path, priority = master
    paths = [link, path, *(part for slave in slaves for part in (slave[0], slave[2]))]
    if not all(_valid_path(item) for item in paths):
        return [shown]
    if any(
        "/" in item or not item or item in (".", "..") for item in (name, *(slave[1] for slave in slaves))
    ):
        return [shown]
    group = groups.setdefault(name, Group(name, link))
    group.link = link
    for slave_link, slave_name, _unused in slaves:
        group.slave_links[slave_name] = slave_link
    group.choices[path] = Choice(path, priority, {slave[1]: slave[2] for slave in slaves})
    return []


def _valid_path(path: str) -> bool:
    parts = path.split("/")
    return path.startswith("/") and "\n" not in path and not {"", ".", ".."} & set(parts[1:])


def links(groups: Iterable[Group], exists: Callable[[str], bool]) -> dict[str, str]:
    """The symbolic links, by absolute path: generic link → ``/etc/alternatives/NAME`` → chosen path.

    A slave whose file does not ``exist`` gets no link, as with the real tool.
    """
    result: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: group.name):
        best = group.best()
        result[group.link] = f"/{FOLDER}/{group.name}"
        result[f"/{FOLDER}/{group.name}"] = best.path
        for name, link in sorted(group.slave_links.items()):
            path = best.slaves.get(name)
            if path and exists(path):
                result[link] = f"/{FOLDER}/{name}"
                result[f"/{FOLDER}/{name}"] = path
    return result
