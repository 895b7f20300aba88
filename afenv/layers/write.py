"""From the lock to layers in the content store: what is there already is used, the rest is written.

A layer is found by the key of its inputs: packages, places, interpreter, assembly version, compressor.
Names and URLs of the analysis are not among them, so analyses share layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import ASSEMBLY_VERSION, LockedCode, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.model import Layer, PlannedLayer, is_layer
from afenv.layers.plan import layer_source, plan_layers
from afenv.layers.write_job import Files, Job, Lost, compiles_debs, write_missing
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.layers.base_tree import Ground, OpenBase
    from afenv.layers.conda_open import OpenConda
    from afenv.layers.cvmfs import CvmfsParts
    from afenv.layers.elsewhere import Elsewhere

COMPRESSION = ("libdeflate", 1)  # name and level; a test holds it to what compresses, which is imported late


def layer_key(
    planned: PlannedLayer,
    environment: LockedEnvironment,
    *,
    mtime: int,
    lost: Lost,
    interpreter: str | None,
) -> str:
    """The key of a layer: a digest of everything that its bytes depend on; pure.

    ``mtime`` (seconds) matters for code alone; ``lost`` are the paths that packages leave to others, by
    package (``conda:NAME`` for those of conda); ``interpreter`` is the identity of what compiles, None
    without bytecode.
    """
    value: dict[str, Any] = {
        "assembly": ASSEMBLY_VERSION,
        "compressor": list(COMPRESSION),
        "kind": planned.kind,
    }
    if planned.kind == "cvmfs":  # at paths where no base has anything
        return sha256_bytes(
            canonical.compact(value | {"cvmfs": [[part.path, part.listing] for part in planned.cvmfs]})
        )
    if environment.base is not None:
        from afenv.layers.base_tree import base_identity

        value["base"] = base_identity(environment.base)
    if planned.kind == "debian":
        compiled_by = interpreter if compiles_debs(environment) else None
        value |= {"debs": [deb.file.sha256 for deb in planned.debs], "interpreter": compiled_by}
    elif planned.kind == "system":
        value["debs"] = sorted(deb.file.sha256 for deb in environment.debs)
        if environment.minimal:
            value["minimal"] = sorted(package.name for package in environment.conda)
    elif planned.kind in ("conda", "conda-environment"):
        from afenv.layers.conda_keys import environment_key, package_key

        value["conda"] = (
            [package_key(one, environment, lost, interpreter) for one in planned.conda]
            if planned.conda
            else environment_key(environment, lost)
        )
    elif planned.kind == "pypi":
        python = environment.python
        assert python is not None, "the lock has wheels and no Python"
        value |= {
            "interpreter": interpreter,
            "python": [python.version, python.executable, python.site_packages, python.scripts],
            "wheels": [[wheel.name, wheel.file.sha256, wheel.requested] for wheel in planned.wheels],
            "lost": {
                wheel.name: sorted(lost[wheel.name]) for wheel in planned.wheels if lost.get(wheel.name)
            },
        }
    else:
        assert planned.code is not None
        value |= {"into": planned.code.into, "mtime": mtime, "tree": planned.code.tree}
    return sha256_bytes(canonical.compact(value))


def write_layers(
    environment: LockedEnvironment,
    code: Sequence[LockedCode],
    store: ContentStore,
    settings: Settings,
    *,
    fetcher: Files,
    folder: Path,
    mtime: int,
    quiet: bool = False,
    warn: Callable[[str], object] | None = None,
    base: Callable[[], OpenBase] | None = None,
    elsewhere: Elsewhere | None = None,
) -> list[Layer]:
    """The layers of an environment, lowest first; those that the store lacks are written.

    ``folder`` is that of the manifest, ``mtime`` the time of the code layers; ``warn`` hears what could
    not be made of the system's files; ``base`` opens the base image, if there is one. What is written is on
    the disk after the store's next ``sync``. Layers that ``elsewhere`` knows are not written: their blobs may
    be missing here.
    Raises E301 to E304 (packages), E401 (two owners), E402, E403 (disk), E404 (interpreter), E405, and
    what the fetcher raises.
    """
    planned = plan_layers(environment, code)
    interpreter = _interpreter_identity(environment)
    opened: dict[str, OpenConda] = {}
    lost = {
        **_conda_ownership(environment, store, fetcher, settings, opened, elsewhere),
        **_ownership(environment, store, fetcher, settings, opened, elsewhere),
    }
    keys = [layer_key(one, environment, mtime=mtime, lost=lost, interpreter=interpreter) for one in planned]
    layers = [_known(store, key, one) for key, one in zip(keys, planned, strict=True)]
    if elsewhere is not None:
        _take_from(elsewhere, keys, planned, layers)
    missing = [number for number, layer in enumerate(layers) if layer is None]
    if missing:
        opened_base = base() if base is not None else None
        job = Job(
            environment=environment,
            store=store,
            settings=settings,
            fetcher=fetcher,
            folder=folder,
            mtime=mtime,
            lost=lost,
            interpreter=interpreter,
            quiet=quiet,
            warn=warn,
            base=opened_base,
            ground=_ground(opened_base),
            opened=opened,
            cvmfs=_cvmfs(environment, store, settings) if any(one.cvmfs for one in planned) else None,
        )

        def remember(number: int, layer: Layer) -> None:
            layers[missing[number]] = layer
            _remember(store, keys[missing[number]], layer)

        write_missing([planned[number] for number in missing], job, remember)
    found = [layer for layer in layers if layer is not None]
    if elsewhere is not None:
        for key, one, layer in zip(keys, planned, found, strict=True):
            elsewhere.used("layer", key, _value(layer), one)
    _check_debs(environment, planned, found, store, elsewhere)
    return found


def _take_from(
    elsewhere: Elsewhere, keys: Sequence[str], planned: Sequence[PlannedLayer], layers: list[Layer | None]
) -> None:
    """Fill in the layers that are known elsewhere."""
    wanted = [key for key, layer in zip(keys, layers, strict=True) if layer is None]
    known = elsewhere.values("layer", wanted) if wanted else {}
    for number, (key, one) in enumerate(zip(keys, planned, strict=True)):
        if layers[number] is None and key in known:
            layers[number] = _layer(known[key], one)


def _load(store: ContentStore, kind: str, key: str, elsewhere: Elsewhere | None) -> Any | None:
    """What a key leads to, here or elsewhere."""
    value = store.load_key(kind, key)
    if elsewhere is not None:
        if value is None:
            value = elsewhere.values(kind, [key]).get(key)
        if value is not None:
            elsewhere.used(kind, key, value)
    return value


def _save(store: ContentStore, kind: str, key: str, value: Any, elsewhere: Elsewhere | None) -> None:
    store.save_key(kind, key, value)
    if elsewhere is not None:
        elsewhere.used(kind, key, value)


def _cvmfs(environment: LockedEnvironment, store: ContentStore, settings: Settings) -> CvmfsParts:
    from afenv.layers.cvmfs import CvmfsParts

    return CvmfsParts(environment.cvmfs, store, settings)


def _ground(base: OpenBase | None) -> Ground | None:
    if base is None:
        return None
    from afenv.layers.base_tree import Ground

    return Ground(base.tree)


def _interpreter_identity(environment: LockedEnvironment) -> str | None:
    if not environment.bytecode:
        return None
    if environment.conda:
        from afenv.layers.conda_interpreter import conda_interpreter_id
        from afenv.layers.conda_python import conda_python

        python = conda_python(environment.conda)
        if python is not None:
            return conda_interpreter_id(python)
    if environment.python is None:
        return None
    if environment.base is not None:
        from afenv.layers.base_interpreter import base_interpreter_id

        return base_interpreter_id(environment.base, environment.python, environment.debs)
    from afenv.layers.interpreter import interpreter_id

    return interpreter_id(environment.debs, environment.python.version)


def _known(store: ContentStore, key: str, planned: PlannedLayer) -> Layer | None:
    """The layer of that key, if its blob and its listing are in the store as they should be."""
    value = store.load_key("layer", key)
    if is_layer(value) and store.trusted(value["digest"], value["size"]) and store.has(value["listing"]):
        return _layer(value, planned)
    return None


def _layer(value: Any, planned: PlannedLayer) -> Layer:
    """The layer of a saved value."""
    entrypoint = tuple(value.get("entrypoint", ()))
    return Layer(**value | {"entrypoint": entrypoint}, source=layer_source(planned))


def _remember(store: ContentStore, key: str, layer: Layer) -> None:
    store.save_key("layer", key, _value(layer))


def _value(layer: Layer) -> dict[str, Any]:
    """What is saved of a layer."""
    value = {"diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size, "listing": layer.listing}
    extra = {"variables": dict(layer.variables), "entrypoint": list(layer.entrypoint)}
    return value | {name: found for name, found in extra.items() if found}


def _conda_ownership(
    environment: LockedEnvironment,
    store: ContentStore,
    fetcher: Files,
    settings: Settings,
    opened: dict[str, OpenConda],
    elsewhere: Elsewhere | None,
) -> Lost:
    """Which paths each conda package leaves to another; what is opened for that is added to ``opened``."""
    if not environment.conda:
        return {}
    from afenv.layers.conda_keys import owners_key

    key = owners_key(environment)
    known = _load(store, "owners", key, elsewhere)
    if not isinstance(known, dict):
        from afenv.layers.conda_plan import conda_owners

        _open_conda(environment, fetcher, settings, opened)
        known = {name: sorted(paths) for name, paths in conda_owners(environment, opened).items()}
        _save(store, "owners", key, known, elsewhere)
    return {f"conda:{name}": frozenset(paths) for name, paths in known.items()}


def _open_conda(
    environment: LockedEnvironment, fetcher: Files, settings: Settings, opened: dict[str, OpenConda]
) -> None:
    if not opened:
        from afenv.layers.conda_plan import open_packages

        files = [package.file for package in environment.conda]
        paths = fetcher.files(files, title="Downloading packages")
        by_digest = {file.sha256: path for file, path in zip(files, paths, strict=True)}
        opened.update(open_packages(environment, by_digest, settings.jobs))


def _ownership(
    environment: LockedEnvironment,
    store: ContentStore,
    fetcher: Files,
    settings: Settings,
    opened: dict[str, OpenConda],
    elsewhere: Elsewhere | None,
) -> Lost:
    """Which paths each wheel leaves to another; from the store, or from the directories of all wheels."""
    python = environment.python
    if not environment.wheels or python is None:
        return {}
    wheels = [[wheel.name, wheel.file.sha256] for wheel in environment.wheels]
    places = [python.version, python.executable, python.site_packages, python.scripts]
    conda = [sorted(package.file.sha256 for package in environment.conda), environment.conda_prefix]
    parts = ["owners", ASSEMBLY_VERSION, wheels, dict(environment.owners), places]
    key = sha256_bytes(canonical.compact([*parts, conda] if environment.conda else parts))
    known = _load(store, "owners", key, elsewhere)
    if isinstance(known, dict):
        return {name: frozenset(paths) for name, paths in known.items()}
    from afenv.layers.wheel import installed_paths, open_wheel
    from afenv.layers.wheel_owners import plan_owners

    files = [deb.file for deb in environment.debs] + [wheel.file for wheel in environment.wheels]
    paths = fetcher.files(files, title="Downloading packages")[len(environment.debs) :]
    installed = {
        wheel.name: installed_paths(open_wheel(wheel, path, python, check=False))
        for wheel, path in zip(environment.wheels, paths, strict=True)
    }
    if environment.conda:
        from afenv.layers.conda_plan import check_wheels

        _open_conda(environment, fetcher, settings, opened)
        check_wheels(opened, installed)
    lost = plan_owners(installed, environment.owners, python.site_packages.strip("/"))
    _save(store, "owners", key, {name: sorted(paths) for name, paths in lost.items()}, elsewhere)
    return lost


def _check_debs(
    environment: LockedEnvironment,
    planned: Sequence[PlannedLayer],
    layers: Sequence[Layer],
    store: ContentStore,
    elsewhere: Elsewhere | None,
) -> None:
    """Two Debian packages must not own one path with different content, unless dpkg would decide so."""
    if not environment.debs:
        return
    debian = [(p, layer) for p, layer in zip(planned, layers, strict=True) if p.kind == "debian"]
    replaces = {deb.name: deb.control["Replaces"] for deb in environment.debs if "Replaces" in deb.control}
    key = sha256_bytes(canonical.compact(["deb-owners", [layer.listing for _, layer in debian], replaces]))
    if _load(store, "deb-owners", key, elsewhere) is not None:
        return
    from afenv.layers.deb import deb_conflicts
    from afenv.layers.listing import ListingEntry, read_listing

    listings: dict[str, list[ListingEntry]] = {}
    level: dict[str, int] = {}
    for number, (one, layer) in enumerate(debian):
        level |= {deb.name: number for deb in one.debs}
        if elsewhere is not None and not store.has(layer.listing):
            elsewhere.bring(layer.listing)
        for entry in read_listing(store, layer.listing):
            if entry.package:
                listings.setdefault(entry.package, []).append(entry)
    for item in deb_conflicts(listings, environment.debs):
        if level[item.winner] < level[item.loser]:
            raise AfenvError(
                "E401",
                f"{item.path} of {item.winner} would be hidden by that of {item.loser}, which it replaces",
            )
    _save(store, "deb-owners", key, True, elsewhere)
