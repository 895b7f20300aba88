"""From the JSON of a lock to frozen values, by hand: this is on the way of every command.

The verdict is that of ``specs/lock/v1/schema.json``; vectors hold the two together. The first thing
that is wrong is reported with its path in the document: a lock is written by afenv, so there is nothing
to correct by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from afenv.documents.cvmfs import CVMFS_PATH, LockedCvmfs, LockedCvmfsPart, LockedCvmfsResult
from afenv.documents.data import CHECKSUM_DIGITS, INSIDE, LockedData, LockedDataFile
from afenv.documents.lock import (
    FORMAT_VERSION,
    Lock,
    LockedBase,
    LockedBaseLayer,
    LockedBuilder,
    LockedCode,
    LockedConda,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedGpu,
    LockedIndex,
    LockedLfs,
    LockedPython,
    LockedResult,
    LockedSource,
    LockedSubmodule,
    LockedWheel,
)
from afenv.errors import AfenvError

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MD5 = re.compile(r"[0-9a-f]{32}\Z")
_NOARCH = re.compile(r"(?:python|generic)\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_GIT_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_SWHID = re.compile(r"swh:1:dir:[0-9a-f]{40}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_PLATFORM = re.compile(r"linux/[a-z0-9]+(?:/[a-z0-9]+)?\Z")

_MISSING = object()


class _Damaged(Exception):
    """Something is not as the format says; the path is completed on the way out."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def within(self, step: str) -> _Damaged:
        if self.path and not self.path.startswith("["):
            step += "."
        return _Damaged(self.message, step + self.path)


class _Record:
    """A JSON object whose keys are taken one by one; what is left over is unknown."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Damaged(f"expected an object, found {_kind(value)}")
        self.left = dict(value)

    def take(self, key: str, convert: Callable[[Any], T]) -> T:
        """A key that has to be there."""
        value = self.left.pop(key, _MISSING)
        if value is _MISSING:
            raise _Damaged(f"the key {key!r} is missing")
        try:
            return convert(value)
        except _Damaged as damaged:
            raise damaged.within(key) from None

    def take_or(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """A key that may be absent."""
        return self.take(key, convert) if key in self.left else default

    def end(self) -> None:
        """Nothing may be left over."""
        for key in self.left:
            raise _Damaged(f"unknown key {key!r}", key)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Damaged(f"expected text, found {_kind(value) if value != '' else 'empty text'}")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Damaged(f"expected text, found {_kind(value)}")
    return value


def _form(pattern: re.Pattern[str], expected: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise _Damaged(f"expected {expected}, found {value if isinstance(value, str) else _kind(value)}")
        return value

    return convert


_md5 = _form(_MD5, "32 hexadecimal digits")
_noarch = _form(_NOARCH, "python or generic")
_sha256 = _form(_SHA256, "64 hexadecimal digits")
_digest = _form(_DIGEST, "sha256: and 64 hexadecimal digits")
_git_hash = _form(_GIT_HASH, "a git hash of 40 or 64 hexadecimal digits")
_swhid = _form(_SWHID, "swh:1:dir: and 40 hexadecimal digits")
_revision = _form(re.compile(r"swh:1:rev:[0-9a-f]{40}\Z"), "swh:1:rev: and 40 hexadecimal digits")
_time = _form(_TIME, "a time such as 2026-01-31T12:00:00Z")
_platform = _form(_PLATFORM, "a platform such as linux/amd64")
_glibc = _form(re.compile(r"[0-9]+\.[0-9]+\Z"), "a version such as 2.28")
_numbers = _form(re.compile(r"[0-9]+(?:\.[0-9]+)*\Z"), "a version such as 12.4")
_cvmfs_path = _form(CVMFS_PATH, "a path below /cvmfs")
_repository = _form(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z"), "the name of a CVMFS repository")
_root_hash = _form(
    re.compile(r"(?!0{40})[0-9a-f]{40}(?:-rmd160|-shake128)?\Z"), "a root hash of CVMFS that is not zero"
)
_delivery = _form(re.compile(r"(?:mount|embed|trace)\Z"), "mount, embed or trace")
_path = _form(re.compile(r"/[^\x00]*\Z"), "an absolute path")
_inside = _form(INSIDE, "a path that stays inside its folder")


def _integer(least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int):
            raise _Damaged(f"expected a whole number, found {_kind(value)}")
        if whole < least:
            raise _Damaged(f"expected at least {least}, found {whole}")
        return whole

    return convert


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Damaged(f"expected true or false, found {_kind(value)}")
    return value


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Damaged(f"expected an object, found {_kind(value)}")
    return value


def _list(convert: Callable[[Any], T], least: int = 0) -> Callable[[Any], tuple[T, ...]]:
    def convert_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise _Damaged(f"expected a list, found {_kind(value)}")
        if len(value) < least:
            raise _Damaged("expected a list that is not empty")
        result = []
        for index, item in enumerate(value):
            try:
                result.append(convert(item))
            except _Damaged as damaged:
                raise damaged.within(f"[{index}]") from None
        return tuple(result)

    return convert_all


def _by_name(convert: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    def convert_all(value: Any) -> dict[str, T]:
        result = {}
        for key, item in _object(value).items():
            try:
                result[key] = convert(item)
            except _Damaged as damaged:
                raise damaged.within(key) from None
        return result

    return convert_all


_texts = _list(_text)
_urls = _list(_text, 1)
_size = _integer(0)
_positive = _integer(1)
_text_map = _by_name(_any_text)


def _object_of(read: Callable[[_Record], T]) -> Callable[[Any], T]:
    """The reader of a JSON object that has the keys which ``read`` takes, and no others."""

    def convert(value: Any) -> T:
        record = _Record(value)
        found = read(record)
        record.end()
        return found

    return convert


def _file(record: _Record) -> LockedFile:
    return LockedFile(
        urls=record.take("urls", _urls),
        size=record.take("size", _size),
        sha256=record.take("sha256", _sha256),
    )


@_object_of
def _deb(record: _Record) -> LockedDeb:
    return LockedDeb(
        name=record.take("name", _text),
        version=record.take("version", _text),
        architecture=record.take("architecture", _text),
        source=record.take("source", _text),
        file=_file(record),
        requested=record.take_or("requested", _boolean, False),
        control=record.take_or("control", _text_map, {}),
    )


@_object_of
def _conda(record: _Record) -> LockedConda:
    return LockedConda(
        name=record.take("name", _text),
        version=record.take("version", _text),
        build=record.take("build", _any_text),
        build_number=record.take("build-number", _size),
        channel=record.take("channel", _text),
        subdir=record.take("subdir", _text),
        file=_file(record),
        md5=record.take_or("md5", _md5, None),
        noarch=record.take_or("noarch", _noarch, None),
        depends=record.take_or("depends", _texts, ()),
        constrains=record.take_or("constrains", _texts, ()),
        requested=record.take_or("requested", _boolean, False),
        record=record.take_or("record", _object, {}),
    )


@_object_of
def _wheel(record: _Record) -> LockedWheel:
    return LockedWheel(
        name=record.take("name", _text),
        version=record.take("version", _text),
        file=_file(record),
        requested=record.take_or("requested", _boolean, False),
        dependencies=record.take_or("dependencies", _texts, ()),
        built_from=record.take_or("built-from", _source, None),
    )


@_object_of
def _build_wheel(record: _Record) -> LockedWheel:
    return LockedWheel(
        name=record.take("name", _text), version=record.take("version", _text), file=_file(record)
    )


def _source(value: Any) -> LockedSource:
    record = _Record(value)
    source = LockedSource(file=_file(record), requires=record.take_or("requires", _list(_build_wheel), ()))
    record.end()
    return source


def _result(value: Any) -> LockedResult:
    record = _Record(value)
    result = LockedResult(inputs=record.take("inputs", _digest), diff_id=record.take("diff-id", _digest))
    record.end()
    return result


@_object_of
def _index(record: _Record) -> LockedIndex:
    return LockedIndex(
        url=record.take("url", _text),
        suite=record.take("suite", _text),
        date=record.take("date", _time),
        sha256=record.take("sha256", _sha256),
        signed_by=record.take("signed-by", _text),
    )


@_object_of
def _base_layer(record: _Record) -> LockedBaseLayer:
    return LockedBaseLayer(
        diff_id=record.take("diff-id", _digest),
        digest=record.take("digest", _digest),
        size=record.take("size", _size),
        media_type=record.take("media-type", _text),
    )


@_object_of
def _base(record: _Record) -> LockedBase:
    return LockedBase(
        reference=record.take("reference", _text),
        digest=record.take("digest", _digest),
        size=record.take("size", _size),
        media_type=record.take("media-type", _text),
        index=record.take_or("index", _digest, None),
        config=record.take("config", _digest),
        config_size=record.take("config-size", _size),
        layers=record.take("layers", _list(_base_layer, 1)),
        system=record.take_or("system", _text, None),
        glibc=record.take_or("glibc", _glibc, None),
        shell=record.take_or("shell", _path, None),
        user=record.take_or("user", _text, None),
        home=record.take_or("home", _path, None),
        merged_usr=record.take_or("merged-usr", _boolean, True),
    )


@_object_of
def _builder(record: _Record) -> LockedBuilder:
    return LockedBuilder(
        name=record.take("name", _text),
        version=record.take("version", _text),
        tree=record.take("tree", _git_hash),
    )


@_object_of
def _python(record: _Record) -> LockedPython:
    return LockedPython(
        version=record.take("version", _text),
        executable=record.take("executable", _path),
        site_packages=record.take("site-packages", _path),
        scripts=record.take("scripts", _path),
    )


@_object_of
def _submodule(record: _Record) -> LockedSubmodule:
    return LockedSubmodule(
        path=record.take("path", _text),
        commit=record.take("commit", _git_hash),
        git=record.take_or("git", _text, None),
    )


@_object_of
def _lfs(record: _Record) -> LockedLfs:
    return LockedLfs(
        path=record.take("path", _text),
        sha256=record.take("sha256", _sha256),
        size=record.take("size", _size),
    )


@_object_of
def _code(record: _Record) -> LockedCode:
    return LockedCode(
        into=record.take("into", _path),
        tree=record.take("tree", _git_hash),
        swhid=record.take("swhid", _swhid),
        git=record.take_or("git", _text, None),
        rev=record.take_or("rev", _text, None),
        folder=record.take_or("folder", _text, None),
        commit=record.take_or("commit", _git_hash, None),
        revision=record.take_or("revision", _revision, None),
        date=record.take_or("date", _time, None),
        submodules=record.take_or("submodules", _list(_submodule), ()),
        lfs=record.take_or("lfs", _list(_lfs), ()),
        exported=record.take_or("exported", _boolean, False),
        dirty=record.take_or("dirty", _boolean, False),
    )


@_object_of
def _gpu(record: _Record) -> LockedGpu:
    return LockedGpu(
        cuda=record.take("cuda", _text),
        architectures=record.take_or("architectures", _list(_glibc), ()),
        optional=record.take_or("optional", _boolean, False),
        toolkit=record.take_or("toolkit", _numbers, None),
        found_in=record.take_or("found-in", _texts, ()),
        least_cuda=record.take_or("least-cuda", _numbers, None),
        least_driver=record.take_or("least-driver", _numbers, None),
        full_driver=record.take_or("full-driver", _numbers, None),
        last_driver=record.take_or("last-driver", _numbers, None),
    )


@_object_of
def _data_file(record: _Record) -> LockedDataFile:
    return LockedDataFile(
        path=record.take("path", _inside),
        size=record.take_or("size", _size, None),
        checksums=record.take_or("checksums", _checksums, {}),
        uris=record.take("uris", _urls),
    )


def _checksums(value: Any) -> dict[str, str]:
    found = {}
    for algorithm, text in _object(value).items():
        digits = CHECKSUM_DIGITS.get(algorithm)
        if digits is None:
            raise _Damaged(f"unknown checksum algorithm {algorithm!r}", algorithm)
        convert = _form(re.compile(rf"[0-9a-f]{{{digits}}}\Z"), f"{digits} hexadecimal digits")
        try:
            found[algorithm] = convert(text)
        except _Damaged as damaged:
            raise damaged.within(algorithm) from None
    return found


@_object_of
def _data(record: _Record) -> LockedData:
    return LockedData(
        name=record.take("name", _text),
        uri=record.take("uri", _text),
        request=record.take("request", _digest),
        files=record.take_or("files", _data_files, ()),
    )


def _data_files(value: Any) -> tuple[LockedDataFile, ...]:
    return _once(_list(_data_file)(value), "path")


def _all_data(value: Any) -> tuple[LockedData, ...]:
    return _once(_list(_data)(value), "name")


def _once(found: tuple[T, ...], key: str) -> tuple[T, ...]:
    """The values, of which no two have the same key."""
    seen = set()
    for index, one in enumerate(found):
        if (name := getattr(one, key)) in seen:
            raise _Damaged(f"{name!r} stands twice", f"[{index}].{key}")
        seen.add(name)
    return found


@_object_of
def _cvmfs_part(record: _Record) -> LockedCvmfsPart:
    return LockedCvmfsPart(
        path=record.take("path", _cvmfs_path),
        files=record.take("files", _size),
        size=record.take("size", _size),
        listing=record.take("listing", _digest),
    )


@_object_of
def _cvmfs_result(record: _Record) -> LockedCvmfsResult:
    return LockedCvmfsResult(
        inputs=record.take("inputs", _digest),
        paths=record.take_or("paths", _list(_cvmfs_path), ()),
        variables=record.take_or("variables", _text_map, {}),
    )


@_object_of
def _cvmfs(record: _Record) -> LockedCvmfs:
    return LockedCvmfs(
        path=record.take("path", _cvmfs_path),
        repository=record.take("repository", _repository),
        root_hash=record.take("root-hash", _root_hash),
        revision=record.take("revision", _size),
        timestamp=record.take("timestamp", _time),
        view=record.take_or("view", _boolean, False),
        delivery=record.take_or("delivery", _delivery, "mount"),
        run=record.take_or("run", _text, None),
        tag=record.take_or("tag", _text, None),
        platform=record.take_or("platform", _text, None),
        parts=record.take_or("parts", _list(_cvmfs_part), ()),
        traced=record.take_or("traced", _cvmfs_result, None),
        setup=record.take_or("setup", _cvmfs_result, None),
    )


def _environment(value: Any) -> LockedEnvironment:
    record = _Record(value)
    return LockedEnvironment(
        request=record.take("request", _digest),
        platform=record.take("platform", _platform),
        as_of=record.take("as-of", _time),
        base=record.take_or("base", _base, None),
        builder=record.take_or("builder", _builder, None),
        minimal=record.take_or("minimal", _boolean, False),
        suite=record.take_or("suite", _text, None),
        indexes=record.take_or("indexes", _list(_index), ()),
        debs=record.take_or("debs", _list(_deb), ()),
        conda=record.take_or("conda", _list(_conda), ()),
        conda_prefix=record.take_or("conda-prefix", _path, None),
        virtual_packages=record.take_or("virtual-packages", _text_map, {}),
        python=record.take_or("python", _python, None),
        wheels=record.take_or("wheels", _list(_wheel), ()),
        owners=record.take_or("owners", _text_map, {}),
        bytecode=record.take_or("bytecode", _boolean, True),
        variables=record.take_or("variables", _text_map, {}),
        gpu=record.take_or("gpu", _gpu, None),
        cvmfs=record.take_or("cvmfs", _list(_cvmfs), ()),
        entrypoint=record.take_or("entrypoint", _texts, ()),
        workdir=record.take_or("workdir", _path, None),
        post_link=record.take_or("post-link", _texts, ()),
        linked=record.take_or("linked", _result, None),
        build=record.take_or("build", _texts, ()),
        built=record.take_or("built", _result, None),
        extra=record.left,
    )


def lock_from_json(value: Any, place: str) -> Lock:
    """The lock that a JSON value stands for; E015 if its format is newer, E022 if it is damaged."""
    try:
        record = _Record(value)
        version = record.take("afenv-lock", _positive)
        if version != FORMAT_VERSION:
            message = f"expected format version {FORMAT_VERSION}, found {version}"
            raise AfenvError("E015", message, place=place, path="afenv-lock")
        return Lock(
            name=record.take("name", _text),
            version=record.take("version", _text),
            metadata=record.take_or("metadata", _object, {}),
            assembly_version=record.take("assembly-version", _positive),
            code=record.take_or("code", _list(_code), ()),
            data=record.take_or("data", _all_data, ()),
            environments=record.take("environments", _by_name(_environment)),
            extra=record.left,
        )
    except _Damaged as damaged:
        raise AfenvError("E022", damaged.message, place=place, path=damaged.path or None) from None
