"""From a lock and its layers to an image: config and manifest, as pure functions of their arguments.

The formats are those of the OCI image specification 1.1 (config.md, manifest.md, annotations.md). The
config holds the digests of uncompressed layers only, so the image ID does not depend on a compressor.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.cvmfs import MOUNT
from afenv.documents.lock import Lock, LockedBase, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.model import SYSTEM_PATH, Layer
from afenv.oci import media
from afenv.oci.model import Image, ImageLayer
from afenv.oci.nvidia import nvidia_variables, on_base
from afenv.store.content import ContentStore

USER = "1000:1000"
HOME = "/home/analyst"
VARIANTS = {"arm64": "v8"}


def rfc3339(seconds: int) -> str:
    """Seconds since 1970 as ``YYYY-MM-DDTHH:MM:SSZ``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def split_platform(platform: str) -> dict[str, str]:
    """``linux/arm64`` or ``linux/arm/v7`` as the config names it; E013 for anything else."""
    parts = platform.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise AfenvError("E013", f"{platform!r} is not a platform such as linux/amd64")
    value = {"os": parts[0], "architecture": parts[1]}
    variant = parts[2] if len(parts) == 3 else VARIANTS.get(parts[1])
    if variant:
        value["variant"] = variant
    return value


def local_name(lock_name: str, environment_name: str) -> str:
    """The name under which local engines know the image: lower case, ``NAME`` or ``NAME-ENVIRONMENT``."""
    text = lock_name if environment_name == "default" else f"{lock_name}-{environment_name}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "analysis"


def local_tag(version: str) -> str:
    """The analysis version as a tag (at most 128 of ``[A-Za-z0-9_.-]``, not starting with ``.`` or ``-``)."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", version).lstrip(".-")[:128] or "latest"


def image_manifest(
    config: bytes, layers: Iterable[Layer | ImageLayer], annotations: Mapping[str, str] | None = None
) -> bytes:
    """The image manifest of a config and its layers, without annotations if there are none."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.IMAGE_MANIFEST,
        "config": {"mediaType": media.IMAGE_CONFIG, "digest": sha256_bytes(config), "size": len(config)},
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers
        ],
    }
    return canonical.compact(manifest | ({"annotations": annotations} if annotations else {}))


def inputs_digest(lock: Lock, environment: LockedEnvironment) -> str:
    """One digest over everything that decides the image's content, and nothing else.

    Times, URLs and index digests of the lock are left out: locking again to the same packages and code
    gives the same digest.
    """
    python = environment.python
    return sha256_bytes(
        canonical.compact(
            {
                "assembly": lock.assembly_version,
                "platform": environment.platform,
                "debs": sorted(deb.file.sha256 for deb in environment.debs),
                **_conda_inputs(environment),
                **_base_inputs(environment),
                "wheels": sorted(wheel.file.sha256 for wheel in environment.wheels),
                "code": [[code.into, code.tree] for code in lock.code],
                "python": [python.version, python.executable, python.site_packages, python.scripts]
                if python
                else None,
                "owners": dict(environment.owners),
                "bytecode": environment.bytecode,
                "variables": dict(environment.variables),
                **({"gpu": nvidia_variables(environment.gpu)} if environment.gpu else {}),
                "entrypoint": list(environment.entrypoint),
                "workdir": environment.workdir,
                **_cvmfs_inputs(environment),
                **({"build": list(environment.build)} if environment.build else {}),
                **({"post_link": list(environment.post_link)} if environment.post_link else {}),
            }
        )
    )


def _cvmfs_inputs(environment: LockedEnvironment) -> dict[str, Any]:
    if not environment.cvmfs:
        return {}
    parts = sorted({(part.path, part.listing) for one in environment.cvmfs for part in one.parts})
    mounted = sorted((one.path, one.root_hash) for one in environment.cvmfs if one.delivery == MOUNT)
    return {"cvmfs": [list(map(list, parts)), list(map(list, mounted)), cvmfs_variables(environment)]}


def cvmfs_variables(environment: LockedEnvironment) -> dict[str, str]:
    """The variables that the setup scripts of views set, as they were evaluated; later views go before."""
    found: dict[str, str] = {}
    for one in environment.cvmfs:
        if one.setup is not None:
            found |= one.setup.variables
    return found


def _conda_inputs(environment: LockedEnvironment) -> dict[str, Any]:
    if not environment.conda:
        return {}
    packages = sorted([package.name, package.file.sha256] for package in environment.conda)
    return {"conda": packages, "conda_prefix": environment.conda_prefix}


def _base_inputs(environment: LockedEnvironment) -> dict[str, Any]:
    base = environment.base
    if base is None:
        return {"minimal": True} if environment.minimal else {}
    return {"base": [base.config, [layer.diff_id for layer in base.layers]]}


def _author(value: Any) -> str:
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)


def labels(lock: Lock, environment_name: str, created: int) -> dict[str, str]:
    """The labels of the config: those that OCI defines, then our own."""
    environment = lock.environments[environment_name]
    metadata = lock.metadata
    authors = ", ".join(filter(None, (_author(author) for author in metadata.get("authors") or ())))
    oci = {
        "title": metadata.get("title") or lock.name,
        "description": metadata.get("description"),
        "version": lock.version,
        "licenses": metadata.get("license"),
        "authors": authors,
        "url": metadata.get("url"),
        "created": rfc3339(created),
        "revision": next((code.commit for code in lock.code if code.commit), None),
        "source": next((code.git for code in lock.code if code.git), None),
    }
    if environment.base is not None and environment.builder is None:
        base = environment.base
        oci |= {"base.name": base.reference, "base.digest": base.index or base.digest}
    found = {media.OCI_PREFIX + key: str(value) for key, value in oci.items() if value}
    if environment.builder is not None:
        builder = environment.builder
        found |= {media.BUILDER: f"{builder.name} {builder.version}", media.REPRODUCIBLE: "false"}
    return found | {
        media.ANALYSIS: lock.name,
        media.ENVIRONMENT: environment_name,
        media.ASSEMBLY_VERSION: str(lock.assembly_version),
        media.INPUTS: inputs_digest(lock, environment),
        **_cvmfs_labels(environment),
    }


def _cvmfs_labels(environment: LockedEnvironment) -> dict[str, str]:
    """What a runtime has to know of CVMFS: the repositories that must be mounted, and the revisions."""
    mounted = {one.repository: one for one in environment.cvmfs if one.delivery == MOUNT}
    if not mounted:
        return {}
    revisions = [f"{name}={one.revision}:{one.root_hash}" for name, one in sorted(mounted.items())]
    return {media.CVMFS: " ".join(sorted(mounted)), media.CVMFS_REVISIONS: " ".join(revisions)}


def _runtime_config(lock: Lock, environment: LockedEnvironment, layers: Sequence[Layer]) -> dict[str, Any]:
    added = {name: value for layer in layers for name, value in layer.variables.items()}
    added |= cvmfs_variables(environment)
    path = added.pop("PATH", ":".join(SYSTEM_PATH)).split(":")
    if environment.python and environment.python.scripts not in path:
        path.insert(0, environment.python.scripts)
    variables = {"LANG": "C.UTF-8", "PATH": ":".join(path)} | nvidia_variables(environment.gpu)
    variables |= added | dict(environment.variables)
    workdir = environment.workdir or (lock.code[0].into if lock.code else HOME)
    config: dict[str, Any] = {
        "User": USER,
        "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
        "WorkingDir": workdir,
    }
    before = [word for layer in layers for word in layer.entrypoint]
    if before or environment.entrypoint:
        config["Entrypoint"] = [*before, *environment.entrypoint]
    if not environment.entrypoint:
        has_bash = any(deb.name == "bash" for deb in environment.debs)
        config["Cmd"] = ["/bin/bash" if has_bash else "/bin/sh"]
    return config


def _config_on_base(
    lock: Lock,
    environment: LockedEnvironment,
    base: LockedBase,
    below: Mapping[str, Any],
    layers: Sequence[Layer],
) -> dict[str, Any]:
    """The settings of an image on a base, whose config is ``below``."""
    from afenv.oci import base_config

    settings = base_config.settings_of(below)
    inherited = on_base(environment.gpu, base_config.variables_of(below))
    added = {name: value for layer in layers for name, value in layer.variables.items()}
    added |= cvmfs_variables(environment)
    ours = added.pop("PATH", "").split(":") if "PATH" in added else []
    path = base_config.merged_path(ours, inherited.get("PATH"), SYSTEM_PATH)
    if environment.python and environment.wheels and environment.python.scripts not in path:
        path.insert(0, environment.python.scripts)
    variables = (
        {"LANG": "C.UTF-8"} | inherited | {"PATH": ":".join(path)} | added | dict(environment.variables)
    )
    before = [word for layer in layers for word in layer.entrypoint]
    entrypoint = [*before, *(environment.entrypoint or settings.get("Entrypoint") or ())]
    command = settings.get("Cmd")
    if not command and not entrypoint and base.shell:
        command = [base.shell]
    folder = settings.get("WorkingDir") or "/"
    whole = environment.builder is not None  # the image is not ours: it runs as the user it says
    if folder == "/" and base.user is None and not whole:
        folder = base.home or HOME
    config: dict[str, Any] = base_config.taken_over(below) | {
        "User": str(settings.get("User") or "") if whole else base.user or USER,
        "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
        "WorkingDir": environment.workdir or (lock.code[0].into if lock.code and not whole else folder),
    }
    if entrypoint:
        config["Entrypoint"] = entrypoint
    if command and not environment.entrypoint:
        config["Cmd"] = list(command)
    return config


def _base_layers(base: LockedBase) -> list[Layer]:
    return [
        Layer(
            diff_id=layer.diff_id,
            digest=layer.digest,
            size=layer.size,
            source=f"base:{base.reference}",
            listing="",
            media_type=layer.media_type,
        )
        for layer in base.layers
    ]


def assemble(
    lock: Lock, environment_name: str, layers: Sequence[Layer], created: int, store: ContentStore
) -> Image:
    """The image of one environment; its config and manifest are put into ``store``.

    ``layers`` are given from the lowest up, without those of a base image, whose config has to be in the
    store; ``created`` is in seconds since 1970. E031 for an environment that the lock does not have.
    """
    environment = lock.environments.get(environment_name)
    if environment is None:
        raise AfenvError(
            "E031", f"no environment {environment_name!r}; there are: {', '.join(sorted(lock.environments))}"
        )
    own_labels = labels(lock, environment_name, created)
    history = [{"created": rfc3339(created), "created_by": f"afenv: {layer.source}"} for layer in layers]
    base = environment.base
    if base is None:
        settings = _runtime_config(lock, environment, layers) | {"Labels": own_labels}
    else:
        from afenv.oci import base_config

        below = json.loads(store.read(base.config))
        settings = _config_on_base(lock, environment, base, below, layers)
        settings["Labels"] = base_config.labels_of(below) | own_labels
        history = base_config.history_of(below, base) + history
        layers = [*_base_layers(base), *layers]
    config = canonical.compact(
        split_platform(environment.platform)
        | {
            "created": rfc3339(created),
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
        }
    )
    manifest = image_manifest(config, layers, own_labels | {media.REQUEST: environment.request})
    store.put(config)
    store.put(manifest)
    return Image(
        config=config,
        manifest=manifest,
        layers=tuple(
            ImageLayer(
                diff_id=layer.diff_id,
                digest=layer.digest,
                size=layer.size,
                media_type=layer.media_type,
                source=layer.source,
            )
            for layer in layers
        ),
        name=local_name(lock.name, environment_name),
        tag=local_tag(lock.version),
    )
