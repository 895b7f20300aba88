"""Where repositories are read from, through which proxies, and which keys vouch for them.

afenv's own settings go first, then what the host's CVMFS client is told, then what a mount itself tells:

==========================  ========================================================================
``AFENV_CVMFS_STRATA``      URLs as in ``CVMFS_SERVER_URL``, separated by ``;`` or spaces; ``@fqrn@`` stands
                            for the repository's name and is added where it is missing
``AFENV_CVMFS_PROXIES``     as ``CVMFS_HTTP_PROXY``: groups separated by ``;``, proxies of a group by ``|``
``AFENV_CVMFS_KEYS``        files or folders with public master keys, separated by ``:``
``AFENV_CVMFS_TIMEOUT``     seconds for a connection, and for a byte to come
==========================  ========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from afenv.errors import AfenvError
from afenv.record import record

CLIENT = Path("/etc/cvmfs")
TIMEOUT = 15.0
DIRECT = "DIRECT"

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(CVMFS_[A-Z_]+)=(.*?)\s*\Z")


@record
class Configuration:
    """How one repository is reached.

    ``strata`` are URLs of the repository, the preferred first; ``proxies`` are URLs and ``DIRECT``, in order,
    empty for those of the environment (``http_proxy``); ``keys`` are files.
    """

    strata: tuple[str, ...]
    proxies: tuple[str, ...] = ()
    keys: tuple[Path, ...] = ()
    timeout: float = TIMEOUT


def configure(
    repository: str,
    environment: Mapping[str, str],
    *,
    client: Path = CLIENT,
    mount: Mapping[str, str] | None = None,
) -> Configuration:
    """The configuration of one repository; E140 if no stratum is known, E030 for a bad setting.

    ``client`` is the folder of the client's configuration, ``mount`` what
    :func:`afenv.cvmfs.mounted.attributes` tells.
    """
    told = client_settings(repository, client)
    mount = mount or {}
    strata = environment.get("AFENV_CVMFS_STRATA") or told.get("CVMFS_SERVER_URL") or mount.get("host_list")
    strata = strata or mount.get("host") or ""
    urls = tuple(_stratum(url, repository) for url in re.split(r"[;\s]+", strata) if url)
    if not urls:
        raise AfenvError("E140", f"no stratum of {repository} is known", place="AFENV_CVMFS_STRATA")
    proxies = environment.get("AFENV_CVMFS_PROXIES") or told.get("CVMFS_HTTP_PROXY") or ""
    timeout = environment.get("AFENV_CVMFS_TIMEOUT")
    return Configuration(
        strata=urls,
        proxies=tuple(_proxy(one) for one in re.split(r"[;|\s]+", proxies) if one and one != "auto"),
        keys=tuple(_keys(repository, environment, told, client)),
        timeout=_seconds(timeout) if timeout else TIMEOUT,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise AfenvError("E030", f"{text!r} is not a number of seconds", place="AFENV_CVMFS_TIMEOUT")
    return value


def _stratum(url: str, repository: str) -> str:
    url = url.replace("@fqrn@", repository).replace("@org@", repository.partition(".")[0]).rstrip("/")
    if "://" not in url:
        if not url.startswith("/"):
            message = f"{url!r} is neither a URL nor an absolute path"
            raise AfenvError("E030", message, place="AFENV_CVMFS_STRATA")
        url = Path(url).as_uri()
    return url if url.endswith(f"/{repository}") else f"{url}/{repository}"


def _proxy(text: str) -> str:
    return text if text == DIRECT or "://" in text else f"http://{text}"


def _keys(
    repository: str, environment: Mapping[str, str], told: Mapping[str, str], client: Path
) -> Iterator[Path]:
    """Key files: those that are set; else those of the client, for the repository's domain or for all."""
    given = environment.get("AFENV_CVMFS_KEYS")
    if given:
        for place in given.split(":"):
            path = Path(place).expanduser()
            if path.is_dir():
                yield from sorted(path.rglob("*.pub"))
            else:
                yield path
        return
    named = [Path(name) for name in told.get("CVMFS_PUBLIC_KEY", "").split(":") if name]
    if named:
        yield from named
        return
    folder = Path(told.get("CVMFS_KEYS_DIR") or client / "keys")
    own = folder / f"{repository}.pub"
    if own.is_file():
        yield own
        return
    domain = folder / repository.partition(".")[2]
    yield from sorted((domain if domain.is_dir() else folder).rglob("*.pub"))


def client_settings(repository: str, client: Path = CLIENT) -> dict[str, str]:
    """What the files of the client's configuration say for a repository, as plain assignments.

    In the client's order: ``default.conf``, ``default.d``, ``default.local``, then the domain's, then the
    repository's own. Lines that need a shell are passed over.
    """
    domain = repository.partition(".")[2]
    files = [client / "default.conf", *sorted(client.glob("default.d/*.conf")), client / "default.local"]
    for folder, name in (("domain.d", domain), ("config.d", repository)):
        files += [client / folder / f"{name}.conf", client / folder / f"{name}.local"]
    found: dict[str, str] = {}
    for file in files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            match = _ASSIGNMENT.match(line)
            if match is None:
                continue
            value = match[2].partition(" #")[0].strip()
            if value[:1] in "\"'" and value[-1:] == value[:1] and len(value) > 1:
                value = value[1:-1]
            if not re.search(r"[$`\\]", value):
                found[match[1]] = value
    return found
