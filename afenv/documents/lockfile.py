"""Reading and writing the lock, ``afenv.lock``.

The file is canonical JSON, indented: two locks that say the same are the same bytes. A key that has its
default is left out, packages are sorted by name and version, and keys that this version does not know
(at the top, and in an environment) are kept.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.documents.cvmfs import cvmfs_json
from afenv.documents.data import LockedData
from afenv.documents.lock import (
    FORMAT_VERSION,
    Lock,
    LockedBase,
    LockedBuilder,
    LockedCode,
    LockedConda,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedGpu,
    LockedIndex,
    LockedPython,
    LockedResult,
    LockedWheel,
)
from afenv.documents.lock_reader import lock_from_json
from afenv.documents.request import request_digest
from afenv.errors import AfenvError

__all__ = ["dump_lock", "environment_json", "parse_lock", "read_lock", "request_digest", "write_lock"]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def parse_lock(data: bytes, place: str) -> Lock:
    """The lock in some bytes; E015 if its format is newer, E022 if it is damaged."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_constant)
        if "\\ud" in text or "\\uD" in text:  # half of a surrogate pair cannot be written again
            canonical.compact(value)
    except json.JSONDecodeError as error:
        where = f"{place}:{error.lineno}:{error.colno}"
        raise AfenvError("E022", f"not JSON: {error.msg}", place=where) from None
    except (ValueError, RecursionError) as error:
        raise AfenvError("E022", f"not JSON: {error}", place=place) from None
    return lock_from_json(value, place)


def read_lock(path: Path) -> Lock:
    """The lock in a file; E020 if there is none, and what :func:`parse_lock` raises."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AfenvError("E020", f"there is no {path.name}", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E022", f"cannot read: {error.strerror}", place=str(path)) from None
    return parse_lock(data, str(path))


def _file_json(file: LockedFile) -> dict[str, Any]:
    return {"urls": list(file.urls), "size": file.size, "sha256": file.sha256}


def _deb_json(deb: LockedDeb) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": deb.name,
        "version": deb.version,
        "architecture": deb.architecture,
        "source": deb.source,
        **_file_json(deb.file),
    }
    if deb.requested:
        value["requested"] = True
    if deb.control:
        value["control"] = dict(deb.control)
    return value


def _conda_json(package: LockedConda) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build-number": package.build_number,
        "channel": package.channel,
        "subdir": package.subdir,
        **_file_json(package.file),
    }
    optional: dict[str, Any] = {
        "md5": package.md5,
        "noarch": package.noarch,
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "requested": package.requested,
        "record": dict(package.record),
    }
    return value | {key: entry for key, entry in optional.items() if entry}


def _wheel_json(wheel: LockedWheel) -> dict[str, Any]:
    value: dict[str, Any] = {"name": wheel.name, "version": wheel.version, **_file_json(wheel.file)}
    if wheel.requested:
        value["requested"] = True
    if wheel.dependencies:
        value["dependencies"] = list(wheel.dependencies)
    if wheel.built_from is not None:
        requires = [_wheel_json(one) for one in wheel.built_from.requires]
        value["built-from"] = _file_json(wheel.built_from.file) | ({"requires": requires} if requires else {})
    return value


def _index_json(index: LockedIndex) -> dict[str, Any]:
    return {
        "url": index.url,
        "suite": index.suite,
        "date": index.date,
        "sha256": index.sha256,
        "signed-by": index.signed_by,
    }


def _base_json(base: LockedBase) -> dict[str, Any]:
    value: dict[str, Any] = {
        "reference": base.reference,
        "digest": base.digest,
        "size": base.size,
        "media-type": base.media_type,
        "config": base.config,
        "config-size": base.config_size,
        "layers": [
            {
                "diff-id": layer.diff_id,
                "digest": layer.digest,
                "size": layer.size,
                "media-type": layer.media_type,
            }
            for layer in base.layers
        ],
    }
    for key in ("index", "system", "glibc", "shell", "user", "home"):
        text = getattr(base, key)
        if text is not None:
            value[key] = text
    if not base.merged_usr:
        value["merged-usr"] = False
    return value


def _builder_json(builder: LockedBuilder) -> dict[str, Any]:
    return {"name": builder.name, "version": builder.version, "tree": builder.tree}


def _python_json(python: LockedPython) -> dict[str, Any]:
    return {
        "version": python.version,
        "executable": python.executable,
        "site-packages": python.site_packages,
        "scripts": python.scripts,
    }


def _code_json(code: LockedCode) -> dict[str, Any]:
    value: dict[str, Any] = {"into": code.into, "tree": code.tree, "swhid": code.swhid}
    for key in ("git", "rev", "folder", "commit", "revision", "date"):
        text = getattr(code, key)
        if text is not None:
            value[key] = text
    if code.submodules:
        value["submodules"] = [
            {"path": one.path, "commit": one.commit, **({"git": one.git} if one.git else {})}
            for one in code.submodules
        ]
    if code.lfs:
        value["lfs"] = [{"path": one.path, "sha256": one.sha256, "size": one.size} for one in code.lfs]
    for key in ("exported", "dirty"):
        if getattr(code, key):
            value[key] = True
    return value


def _result_json(result: LockedResult | None) -> dict[str, Any] | None:
    return {"inputs": result.inputs, "diff-id": result.diff_id} if result else None


def _gpu_json(gpu: LockedGpu) -> dict[str, Any]:
    value: dict[str, Any] = {"cuda": gpu.cuda}
    for key in ("architectures", "found_in"):
        if getattr(gpu, key):
            value[key.replace("_", "-")] = list(getattr(gpu, key))
    for key in ("optional", "toolkit", "least_cuda", "least_driver", "full_driver", "last_driver"):
        if getattr(gpu, key):
            value[key.replace("_", "-")] = getattr(gpu, key)
    return value


def _data_json(data: LockedData) -> dict[str, Any]:
    value: dict[str, Any] = {"name": data.name, "uri": data.uri, "request": data.request}
    files = []
    for file in sorted(data.files, key=lambda file: file.path):
        entry: dict[str, Any] = {"path": file.path, "uris": list(file.uris)}
        if file.size is not None:
            entry["size"] = file.size
        if file.checksums:
            entry["checksums"] = dict(file.checksums)
        files.append(entry)
    return value | ({"files": files} if files else {})


def environment_json(environment: LockedEnvironment) -> dict[str, Any]:
    """The JSON object of one environment, as the lock has it."""
    debs = sorted(environment.debs, key=lambda deb: (deb.name, deb.version))
    conda = sorted(environment.conda, key=lambda package: (package.name, package.version, package.build))
    wheels = sorted(environment.wheels, key=lambda wheel: (wheel.name, wheel.version))
    value: dict[str, Any] = {
        **environment.extra,
        "request": environment.request,
        "platform": environment.platform,
        "as-of": environment.as_of,
    }
    optional: dict[str, Any] = {
        "base": _base_json(environment.base) if environment.base else None,
        "builder": _builder_json(environment.builder) if environment.builder else None,
        "minimal": environment.minimal,
        "suite": environment.suite,
        "indexes": [_index_json(index) for index in environment.indexes],
        "debs": [_deb_json(deb) for deb in debs],
        "conda": [_conda_json(package) for package in conda],
        "conda-prefix": environment.conda_prefix,
        "virtual-packages": dict(environment.virtual_packages),
        "python": _python_json(environment.python) if environment.python else None,
        "wheels": [_wheel_json(wheel) for wheel in wheels],
        "owners": dict(environment.owners),
        "variables": dict(environment.variables),
        "gpu": _gpu_json(environment.gpu) if environment.gpu else None,
        "cvmfs": [cvmfs_json(one) for one in environment.cvmfs],
        "entrypoint": list(environment.entrypoint),
        "workdir": environment.workdir,
        "post-link": list(environment.post_link),
        "linked": _result_json(environment.linked),
        "build": list(environment.build),
        "built": _result_json(environment.built),
    }
    value.update((key, item) for key, item in optional.items() if item)
    if not environment.bytecode:
        value["bytecode"] = False
    return value


def dump_lock(lock: Lock) -> bytes:
    """The canonical bytes of a lock."""
    value: dict[str, Any] = {
        **lock.extra,
        "afenv-lock": FORMAT_VERSION,
        "assembly-version": lock.assembly_version,
        "name": lock.name,
        "version": lock.version,
        "environments": {name: environment_json(entry) for name, entry in lock.environments.items()},
    }
    if lock.metadata:
        value["metadata"] = dict(lock.metadata)
    if lock.code:
        value["code"] = [_code_json(code) for code in lock.code]
    if lock.data:
        value["data"] = [_data_json(data) for data in sorted(lock.data, key=lambda data: data.name)]
    return canonical.indented(value)


def write_lock(path: Path, lock: Lock) -> bool:
    """Write a lock, all of it or nothing; whether the file changed. E402 or E403 if that cannot be done."""
    data = dump_lock(lock)
    if path.is_file() and path.read_bytes() == data:
        return False
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = "no space left on the device" if full else f"cannot write: {error.strerror}"
        raise AfenvError("E402" if full else "E403", message, place=str(path)) from error
    return True
