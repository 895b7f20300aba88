"""From the JSON of a lock to frozen values, by hand: this is on the way of every command.

The verdict is that of ``specs/lock/v1/schema.json``; vectors hold the two together. The first thing
that is wrong is reported with its path in the document: a lock is written by afenv, so there is nothing
to correct by hand.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from afenv.documents.cvmfs import CVMFS_PATH, LockedCvmfs, LockedCvmfsPart, LockedCvmfsResult
from afenv.documents.data import CHECKSUM_DIGITS, INSIDE, LockedData, LockedDataFile
from afenv.documents.json_reader import (
    Damaged,
    Record,
    any_text,
    boolean,
    by_name,
    form,
    integer,
    json_object,
    list_of,
    object_of,
    text,
)
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

_md5 = form(re.compile(r"[0-9a-f]{32}\Z"), "32 hexadecimal digits")
_noarch = form(re.compile(r"(?:python|generic)\Z"), "python or generic")
_sha256 = form(re.compile(r"[0-9a-f]{64}\Z"), "64 hexadecimal digits")
_digest = form(re.compile(r"sha256:[0-9a-f]{64}\Z"), "sha256: and 64 hexadecimal digits")
_git_hash = form(re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z"), "a git hash of 40 or 64 hexadecimal digits")
_swhid = form(re.compile(r"swh:1:dir:[0-9a-f]{40}\Z"), "swh:1:dir: and 40 hexadecimal digits")
_revision = form(re.compile(r"swh:1:rev:[0-9a-f]{40}\Z"), "swh:1:rev: and 40 hexadecimal digits")
_time = form(
    re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z"),
    "a time such as 2026-01-31T12:00:00Z",
)
_platform = form(re.compile(r"linux/[a-z0-9]+(?:/[a-z0-9]+)?\Z"), "a platform such as linux/amd64")
_glibc = form(re.compile(r"[0-9]+\.[0-9]+\Z"), "a version such as 2.28")
_numbers = form(re.compile(r"[0-9]+(?:\.[0-9]+)*\Z"), "a version such as 12.4")
_cvmfs_path = form(CVMFS_PATH, "a path below /cvmfs")
_repository = form(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z"), "the name of a CVMFS repository")
_root_hash = form(
    re.compile(r"(?!0{40})[0-9a-f]{40}(?:-rmd160|-shake128)?\Z"), "a root hash of CVMFS that is not zero"
)
_delivery = form(re.compile(r"(?:mount|embed|trace)\Z"), "mount, embed or trace")
_path = form(re.compile(r"/[^\x00]*\Z"), "an absolute path")
_inside = form(INSIDE, "a path that stays inside its folder")

_texts = list_of(text)
_urls = list_of(text, 1)
_size = integer(0)
_positive = integer(1)
_text_map = by_name(any_text)


def _file(record: Record) -> LockedFile:
    return LockedFile(
        urls=record.take("urls", _urls),
        size=record.take("size", _size),
        sha256=record.take("sha256", _sha256),
    )


@object_of
def _deb(record: Record) -> LockedDeb:
    return LockedDeb(
        name=record.take("name", text),
        version=record.take("version", text),
        architecture=record.take("architecture", text),
        source=record.take("source", text),
        file=_file(record),
        requested=record.take_or("requested", boolean, False),
        control=record.take_or("control", _text_map, {}),
    )


@object_of
def _conda(record: Record) -> LockedConda:
    return LockedConda(
        name=record.take("name", text),
        version=record.take("version", text),
        build=record.take("build", any_text),
        build_number=record.take("build-number", _size),
        channel=record.take("channel", text),
        subdir=record.take("subdir", text),
        file=_file(record),
        md5=record.take_or("md5", _md5, None),
        noarch=record.take_or("noarch", _noarch, None),
        depends=record.take_or("depends", _texts, ()),
        constrains=record.take_or("constrains", _texts, ()),
        requested=record.take_or("requested", boolean, False),
        record=record.take_or("record", json_object, {}),
    )


@object_of
def _wheel(record: Record) -> LockedWheel:
    return LockedWheel(
        name=record.take("name", text),
        version=record.take("version", text),
        file=_file(record),
        requested=record.take_or("requested", boolean, False),
        dependencies=record.take_or("dependencies", _texts, ()),
        built_from=record.take_or("built-from", _source, None),
    )


@object_of
def _build_wheel(record: Record) -> LockedWheel:
    return LockedWheel(
        name=record.take("name", text), version=record.take("version", text), file=_file(record)
    )


def _source(value: Any) -> LockedSource:
    record = Record(value)
    source = LockedSource(file=_file(record), requires=record.take_or("requires", list_of(_build_wheel), ()))
    record.end()
    return source


def _result(value: Any) -> LockedResult:
    record = Record(value)
    result = LockedResult(inputs=record.take("inputs", _digest), diff_id=record.take("diff-id", _digest))
    record.end()
    return result


@object_of
def _index(record: Record) -> LockedIndex:
    return LockedIndex(
        url=record.take("url", text),
        suite=record.take("suite", text),
        date=record.take("date", _time),
        sha256=record.take("sha256", _sha256),
        signed_by=record.take("signed-by", text),
    )


@object_of
def _base_layer(record: Record) -> LockedBaseLayer:
    return LockedBaseLayer(
        diff_id=record.take("diff-id", _digest),
        digest=record.take("digest", _digest),
        size=record.take("size", _size),
        media_type=record.take("media-type", text),
    )


@object_of
def _base(record: Record) -> LockedBase:
    return LockedBase(
        reference=record.take("reference", text),
        digest=record.take("digest", _digest),
        size=record.take("size", _size),
        media_type=record.take("media-type", text),
        index=record.take_or("index", _digest, None),
        config=record.take("config", _digest),
        config_size=record.take("config-size", _size),
        layers=record.take("layers", list_of(_base_layer, 1)),
        system=record.take_or("system", text, None),
        glibc=record.take_or("glibc", _glibc, None),
        shell=record.take_or("shell", _path, None),
        user=record.take_or("user", text, None),
        home=record.take_or("home", _path, None),
        merged_usr=record.take_or("merged-usr", boolean, True),
    )


@object_of
def _builder(record: Record) -> LockedBuilder:
    return LockedBuilder(
        name=record.take("name", text),
        version=record.take("version", text),
        tree=record.take("tree", _git_hash),
    )


@object_of
def _python(record: Record) -> LockedPython:
    return LockedPython(
        version=record.take("version", text),
        executable=record.take("executable", _path),
        site_packages=record.take("site-packages", _path),
        scripts=record.take("scripts", _path),
    )


@object_of
def _submodule(record: Record) -> LockedSubmodule:
    return LockedSubmodule(
        path=record.take("path", text),
        commit=record.take("commit", _git_hash),
        git=record.take_or("git", text, None),
    )


@object_of
def _lfs(record: Record) -> LockedLfs:
    return LockedLfs(
        path=record.take("path", text),
        sha256=record.take("sha256", _sha256),
        size=record.take("size", _size),
    )


@object_of
def _code(record: Record) -> LockedCode:
    return LockedCode(
        into=record.take("into", _path),
        tree=record.take("tree", _git_hash),
        swhid=record.take("swhid", _swhid),
        git=record.take_or("git", text, None),
        rev=record.take_or("rev", text, None),
        folder=record.take_or("folder", text, None),
        commit=record.take_or("commit", _git_hash, None),
        revision=record.take_or("revision", _revision, None),
        date=record.take_or("date", _time, None),
        submodules=record.take_or("submodules", list_of(_submodule), ()),
        lfs=record.take_or("lfs", list_of(_lfs), ()),
        exported=record.take_or("exported", boolean, False),
        dirty=record.take_or("dirty", boolean, False),
    )


@object_of
def _gpu(record: Record) -> LockedGpu:
    return LockedGpu(
        cuda=record.take("cuda", text),
        architectures=record.take_or("architectures", list_of(_glibc), ()),
        optional=record.take_or("optional", boolean, False),
        toolkit=record.take_or("toolkit", _numbers, None),
        found_in=record.take_or("found-in", _texts, ()),
        least_cuda=record.take_or("least-cuda", _numbers, None),
        least_driver=record.take_or("least-driver", _numbers, None),
        full_driver=record.take_or("full-driver", _numbers, None),
        last_driver=record.take_or("last-driver", _numbers, None),
    )


@object_of
def _data_file(record: Record) -> LockedDataFile:
    return LockedDataFile(
        path=record.take("path", _inside),
        size=record.take_or("size", _size, None),
        checksums=record.take_or("checksums", _checksums, {}),
        uris=record.take("uris", _urls),
    )


def _checksums(value: Any) -> dict[str, str]:
    found = {}
    for algorithm, digest in json_object(value).items():
        digits = CHECKSUM_DIGITS.get(algorithm)
        if digits is None:
            raise Damaged(f"unknown checksum algorithm {algorithm!r}", algorithm)
        convert = form(re.compile(rf"[0-9a-f]{{{digits}}}\Z"), f"{digits} hexadecimal digits")
        try:
            found[algorithm] = convert(digest)
        except Damaged as damaged:
            raise damaged.within(algorithm) from None
    return found


@object_of
def _data(record: Record) -> LockedData:
    return LockedData(
        name=record.take("name", text),
        uri=record.take("uri", text),
        request=record.take("request", _digest),
        files=record.take_or("files", _data_files, ()),
    )


def _data_files(value: Any) -> tuple[LockedDataFile, ...]:
    return _once(list_of(_data_file)(value), "path")


def _all_data(value: Any) -> tuple[LockedData, ...]:
    return _once(list_of(_data)(value), "name")


def _once(found: tuple[T, ...], key: str) -> tuple[T, ...]:
    """The values, of which no two have the same key."""
    seen = set()
    for index, one in enumerate(found):
        if (name := getattr(one, key)) in seen:
            raise Damaged(f"{name!r} stands twice", f"[{index}].{key}")
        seen.add(name)
    return found


@object_of
def _cvmfs_part(record: Record) -> LockedCvmfsPart:
    return LockedCvmfsPart(
        path=record.take("path", _cvmfs_path),
        files=record.take("files", _size),
        size=record.take("size", _size),
        listing=record.take("listing", _digest),
    )


@object_of
def _cvmfs_result(record: Record) -> LockedCvmfsResult:
    return LockedCvmfsResult(
        inputs=record.take("inputs", _digest),
        paths=record.take_or("paths", list_of(_cvmfs_path), ()),
        variables=record.take_or("variables", _text_map, {}),
    )


@object_of
def _cvmfs(record: Record) -> LockedCvmfs:
    return LockedCvmfs(
        path=record.take("path", _cvmfs_path),
        repository=record.take("repository", _repository),
        root_hash=record.take("root-hash", _root_hash),
        revision=record.take("revision", _size),
        timestamp=record.take("timestamp", _time),
        view=record.take_or("view", boolean, False),
        delivery=record.take_or("delivery", _delivery, "mount"),
        run=record.take_or("run", text, None),
        tag=record.take_or("tag", text, None),
        platform=record.take_or("platform", text, None),
        parts=record.take_or("parts", list_of(_cvmfs_part), ()),
        traced=record.take_or("traced", _cvmfs_result, None),
        setup=record.take_or("setup", _cvmfs_result, None),
    )


def _environment(value: Any) -> LockedEnvironment:
    record = Record(value)
    return LockedEnvironment(
        request=record.take("request", _digest),
        platform=record.take("platform", _platform),
        as_of=record.take("as-of", _time),
        base=record.take_or("base", _base, None),
        builder=record.take_or("builder", _builder, None),
        minimal=record.take_or("minimal", boolean, False),
        suite=record.take_or("suite", text, None),
        indexes=record.take_or("indexes", list_of(_index), ()),
        debs=record.take_or("debs", list_of(_deb), ()),
        conda=record.take_or("conda", list_of(_conda), ()),
        conda_prefix=record.take_or("conda-prefix", _path, None),
        virtual_packages=record.take_or("virtual-packages", _text_map, {}),
        python=record.take_or("python", _python, None),
        wheels=record.take_or("wheels", list_of(_wheel), ()),
        owners=record.take_or("owners", _text_map, {}),
        bytecode=record.take_or("bytecode", boolean, True),
        variables=record.take_or("variables", _text_map, {}),
        gpu=record.take_or("gpu", _gpu, None),
        cvmfs=record.take_or("cvmfs", list_of(_cvmfs), ()),
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
        record = Record(value)
        version = record.take("afenv-lock", _positive)
        if version != FORMAT_VERSION:
            message = f"expected format version {FORMAT_VERSION}, found {version}"
            raise AfenvError("E015", message, place=place, path="afenv-lock")
        return Lock(
            name=record.take("name", text),
            version=record.take("version", text),
            metadata=record.take_or("metadata", json_object, {}),
            assembly_version=record.take("assembly-version", _positive),
            code=record.take_or("code", list_of(_code), ()),
            data=record.take_or("data", _all_data, ()),
            environments=record.take("environments", by_name(_environment)),
            extra=record.left,
        )
    except Damaged as damaged:
        raise AfenvError("E022", damaged.message, place=place, path=damaged.path or None) from None
