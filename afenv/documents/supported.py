"""What the format defines and this version does not do yet: said at once, never passed over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError, Problem


def check_supported(
    manifest: AnalysisManifest, environment_names: Iterable[str], path: Path | None = None
) -> None:
    """Raise E016 for every section that these environments, or the manifest as a whole, ask for in vain.

    With the ``path`` of the manifest, the problems carry its lines. A name that is not an environment
    is E031.
    """
    found: list[tuple[str, ...]] = []
    for name in environment_names:
        environment = manifest.environments.get(name)
        if environment is None:
            choices = ", ".join(manifest.environments)
            raise AfenvError("E031", f"there is no environment {name!r}; there is: {choices}")
        found += [("environments", name, section) for section in environment.unsupported]
    if not found:
        return
    document = None
    if path is not None:
        from afenv.documents.yaml_tree import read_yaml

        document = read_yaml(path.read_bytes(), str(path))
    raise AfenvError.many(
        [
            Problem(
                "E016",
                f"the section {'.'.join(place[2:] or place)!r} is not supported yet",
                document.key_place(place) if document else None,
                ".".join(place),
            )
            for place in found
        ]
    )
