"""Reading and writing facility profiles.

Reading reports everything that is wrong at once, with its position; the schema states the form and
:func:`contradictions` what a schema cannot. A profile that is written is YAML that reads as itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afenv.documents.cuda import cuda_tables, dotted, version
from afenv.documents.facility import (
    FORMAT_VERSION,
    Cpu,
    Cvmfs,
    DataProxy,
    FacilityProfile,
    FacilityRuntime,
    Gpu,
    Hub,
    Kernel,
    Place,
    Registry,
    Repository,
)
from afenv.errors import AfenvError, Problem
from afenv.record import values_of
from afenv.specs import specs_folder

if TYPE_CHECKING:
    from afenv.documents.yaml_tree import Document, DocumentPath


class KeyStore(Protocol):
    """Where the verdict on a profile is kept; the content store is one."""

    def load_key(self, kind: str, key: str) -> Any | None:
        """What was saved under a key."""
        ...  # pragma: no cover

    def save_key(self, kind: str, key: str, value: Any) -> None:
        """Save a value under a key."""
        ...  # pragma: no cover


def _line(problem: Problem) -> tuple[int, int]:
    parts = (problem.place or "").rsplit(":", 2)
    return (int(parts[1]), int(parts[2])) if len(parts) == 3 and parts[2].isdigit() else (0, 0)


def parse_facility(data: bytes, place: str) -> FacilityProfile:
    """The profile in some bytes; ``place`` is the file name that messages show.

    Raises E002 to E004 and E010 to E015, all problems at once.
    """
    from afenv.documents.schema import schema_of, schema_problems
    from afenv.documents.yaml_tree import read_yaml

    document = read_yaml(data, place)
    tree = document.root.plain()
    number = tree.get("afenv-facility") if isinstance(tree, dict) else None
    if isinstance(number, int) and not isinstance(number, bool) and number != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {number}"
        where = document.value_place(("afenv-facility",))
        raise AfenvError("E015", message, place=where, path="afenv-facility")
    problems = [*document.problems, *schema_problems(document, schema_of("facility"))]
    if not problems:
        problems = list(contradictions(document))
    if problems:
        raise AfenvError.many(sorted(problems, key=_line))
    return facility_from_tree(tree)


def read_facility(path: Path) -> FacilityProfile:
    """The profile in a file; E001 and what :func:`parse_facility` raises."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AfenvError(
            "E001",
            f"cannot be read: {error.strerror}",
            place=str(path),
            remedy="Check the path; `afenv facility probe -o FILE` writes one for the machine at hand.",
        ) from None
    return parse_facility(data, str(path))


def read_facility_cached(path: Path, store: KeyStore) -> FacilityProfile:
    """As :func:`read_facility`, but a profile that was valid before is not checked again.

    The tree is kept under the digest of the file's bytes, of schema and tables, and of this version of afenv.
    """
    import hashlib

    import afenv

    try:
        data = path.read_bytes()
    except OSError:
        return read_facility(path)
    folder = specs_folder()
    parts = (
        data,
        (folder / "facility" / "v1" / "schema.json").read_bytes(),
        (folder / "cuda.toml").read_bytes(),
    )
    digests = b"".join(hashlib.sha256(part).digest() for part in (*parts, afenv.__version__.encode()))
    key = "sha256:" + hashlib.sha256(digests).hexdigest()
    tree = store.load_key("facility", key)
    if not isinstance(tree, dict):
        profile = parse_facility(data, str(path))
        store.save_key("facility", key, facility_tree(profile))
        return profile
    return facility_from_tree(tree)


def contradictions(document: Document) -> Iterator[Problem]:
    """What contradicts itself in a profile that its schema accepts: E014; E012 for missing hosts."""
    from afenv.documents.yaml_tree import format_path

    tree = document.root.plain()

    def wrong(message: str, path: DocumentPath, code: str = "E014", remedy: str | None = None) -> Problem:
        return Problem(code, message, document.value_place(path), format_path(path), remedy)

    network = tree.get("network")
    if network == "listed" and "hosts" not in tree:
        yield wrong("the key 'hosts' is missing, which 'network: listed' needs", ("network",), "E012")
    if "hosts" in tree and network != "listed":
        yield wrong(f"hosts are listed, and the network is {network or 'not known'}", ("hosts",))
    architecture = tree.get("architecture", "amd64")
    if architecture != "amd64":
        for section, key in (("cpu", "level"), ("kernel", "vsyscall")):
            if key in tree.get(section, {}):
                yield wrong(f"{architecture} has no {key}: only amd64 does", (section, key))
    lists: tuple[tuple[DocumentPath, list[Any], tuple[str, ...]], ...] = (
        (("runtimes",), tree.get("runtimes", []), ("name",)),
        (("cvmfs", "repositories"), tree.get("cvmfs", {}).get("repositories", []), ("name",)),
        (("registries",), tree.get("registries", []), ("host",)),
        (("storage",), tree.get("storage", []), ("path", "purpose")),
    )
    for path, entries, keys in lists:
        seen = set()
        for index, entry in enumerate(entries):
            identity = tuple(entry.get(key) for key in keys)
            if identity in seen:
                yield wrong(f"{identity[0]!r} is listed twice", (*path, index, keys[0]), remedy="Merge them.")
            seen.add(identity)
    for index, runtime in enumerate(tree.get("runtimes", [])):
        if tree.get("user-namespaces") is False and (runtime.get("rootless") or runtime["name"] == "userns"):
            key = "rootless" if runtime.get("rootless") else "name"
            message = f"{runtime['name']} needs user namespaces, and there are none"
            yield wrong(message, ("runtimes", index, key))
        if runtime.get("gpu") and tree.get("gpus") == []:
            message = f"{runtime['name']} shows GPUs, and there are none"
            yield wrong(message, ("runtimes", index, "gpu"))
    for index, gpu in enumerate(tree.get("gpus", [])):
        yield from (wrong(text, ("gpus", index, key)) for text, key in _gpu_contradictions(gpu))


def _gpu_contradictions(gpu: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tables = cuda_tables()
    driver = version(gpu["driver"]) if "driver" in gpu else None
    capability = version(gpu["compute-capability"]) if "compute-capability" in gpu else None
    family = tables.architecture(capability) if capability else None
    if driver and family:
        what = f"{family.name} ({gpu['compute-capability']})"
        if family.last_driver is not None and driver[0] > family.last_driver:
            yield f"the last driver for {what} is R{family.last_driver}, found {gpu['driver']}", "driver"
        first = tables.full_driver(family.first) if family.first else None
        if first and family.first and driver[0] < first[0]:
            least = f"R{first[0]}, that of CUDA {dotted(family.first)}"
            yield f"the first driver for {what} is {least}; found {gpu['driver']}", "driver"
    if driver and "cuda" in gpu:
        full = tables.full_driver(version(gpu["cuda"]))
        if full and driver[0] < full[0]:
            yield f"CUDA {gpu['cuda']} comes with driver R{full[0]}; found driver {gpu['driver']}", "cuda"


def _values(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in tree.items()}


def facility_from_tree(tree: Mapping[str, Any]) -> FacilityProfile:
    """The profile that a valid tree stands for."""
    values = _values({key: value for key, value in tree.items() if key != "afenv-facility"})
    kinds: dict[str, Any] = {"cpu": Cpu, "kernel": Kernel, "jupyterhub": Hub}
    for name, kind in kinds.items():
        if name in values:
            values[name] = kind(**_values(values[name]))
    lists: dict[str, Any] = {
        "runtimes": FacilityRuntime,
        "gpus": Gpu,
        "registries": Registry,
        "storage": Place,
        "data_proxies": DataProxy,
    }
    for name, kind in lists.items():
        if name in values:
            values[name] = tuple(kind(**_values(entry)) for entry in values[name])
    for name in ("hosts", "data"):
        if name in values:
            values[name] = tuple(values[name])
    if "cvmfs" in values:
        found = values["cvmfs"].get("repositories")
        values["cvmfs"] = Cvmfs(
            repositories=tuple(Repository(**_values(one)) for one in found) if found is not None else None,
            others=values["cvmfs"].get("others", False),
        )
    return FacilityProfile(**values)


def _tree(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_tree(entry) for entry in value]
    if hasattr(value, "__slots__") and hasattr(value, "_defaults"):
        fields = {name: entry for name, entry in values_of(value).items() if entry is not None}
        kept = {name: entry for name, entry in fields.items() if entry != value._defaults.get(name, ...)}
        return {name.replace("_", "-"): _tree(entry) for name, entry in kept.items()}
    return value


def facility_tree(profile: FacilityProfile) -> dict[str, Any]:
    """The profile as plain values, in the order of its keys; what has its default is left out."""
    tree: dict[str, Any] = {"afenv-facility": FORMAT_VERSION, **_tree(profile)}
    return tree


def dump_facility(profile: FacilityProfile) -> str:
    """The profile as YAML, one line for each entry of a list."""
    lines = []
    for key, value in facility_tree(profile).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", *(f"  - {_flow(entry)}" for entry in value)]
        elif key == "cvmfs" and value.get("repositories"):
            lines += [f"{key}:", "  repositories:"]
            lines += [f"    - {_flow(entry)}" for entry in value["repositories"]]
            lines += ["  others: true"] if value.get("others") else []
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value on one line, as JSON, which YAML reads."""
    return json.dumps(value, ensure_ascii=False)
