"""Accounts: Debian's own, which ``base-passwd`` has as a master copy, and one ordinary user.

Sources of the formats: passwd(5), group(5), shadow(5), gshadow(5).
"""

from __future__ import annotations

USER = "analyst"
USER_ID = 1000
HOME = f"/home/{USER}"

_USERS = "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
_GROUPS = "root:*:0:\nusers:*:100:\nnogroup:*:65534:\n"


def account_files(passwd_master: bytes, group_master: bytes, *, shell: str) -> dict[str, tuple[int, bytes]]:
    """Mode and content, by path, of the account files; an empty master means the least that is needed.

    All passwords are locked. ``shell`` is that of the ordinary user.
    """
    passwd = _records(passwd_master or _USERS.encode(), 7)
    passwd.append([USER, "x", str(USER_ID), str(USER_ID), USER, HOME, shell])
    group = _records(group_master or _GROUPS.encode(), 4)
    group.append([USER, "x", str(USER_ID), ""])
    # The day of the last change is left empty: it would be the day of the build.
    shadow = [[record[0], "*", "", "0", "99999", "7", "", "", ""] for record in passwd]
    gshadow = [[record[0], "*", "", ""] for record in group]
    return {
        "etc/passwd": (0o644, _lines(passwd)),
        "etc/group": (0o644, _lines(group)),
        "etc/shadow": (0o640, _lines(shadow)),
        "etc/gshadow": (0o640, _lines(gshadow)),
        "etc/subuid": (0o644, b""),
        "etc/subgid": (0o644, b""),
    }


def _records(data: bytes, width: int) -> list[list[str]]:
    records: list[list[str]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) == width and fields[0] and fields[0] != USER:
            fields[1] = "x"
            records.append(fields)
    return records


def _lines(records: list[list[str]]) -> bytes:
    return "".join(":".join(record) + "\n" for record in records).encode()


def shell_files(template: bytes, packaged: dict[str, bytes], moved: dict[str, str]) -> tuple[bytes, bytes]:
    """``/etc/shells`` and ``/var/lib/shells.state`` as update-shells(8) makes them.

    ``packaged`` are the files of ``/usr/share/debianutils/shells.d`` by name; ``moved`` tells where
    folders at the top lead to. Each shell is listed under both of its paths.
    """
    known: dict[str, None] = {}
    for data in [template, *(packaged[name] for name in sorted(packaged))]:
        for line in data.decode("utf-8", "replace").splitlines():
            path = line.partition("#")[0]
            if path:
                known[path] = None
                first, slash, rest = path.lstrip("/").partition("/")
                if slash and first in moved:
                    known[f"/{moved[first]}/{rest}"] = None
    lines = template.decode("utf-8", "replace").splitlines()
    listed = {line.partition("#")[0] for line in lines}
    lines += [path for path in known if path not in listed]
    return "".join(f"{line}\n" for line in lines).encode(), "".join(f"{path}\n" for path in known).encode()
