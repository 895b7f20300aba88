"""The port of builders, and how they are found.

A builder turns an image into what a facility runs. It is found through the entry point group
``afenv.builders``: each entry point names a class without arguments that has the two methods of
:class:`Builder`. Built-in builders have entry points too; for their own targets they come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from afenv.errors import AfenvError
from afenv.oci.model import Descriptor, Image
from afenv.store.content import ContentStore

GROUP = "afenv.builders"
# the targets of the built-in builders; to ask the entry points takes 20 ms
BUILT_IN = {
    "afenv_builders.apptainer:ApptainerBuilder": ("sandbox", "sif", "squashfs"),
    "afenv_builders.oci:OciBuilder": ("docker", "oci", "oci-archive"),
}


class Builder(Protocol):
    """What builds one or more kinds of output.

    ``options`` has ``target``, the kind asked for; ``path``, the file or folder to write
    (``pathlib.Path``), where the target has one; ``quiet``; ``digest``, which is False where nobody is
    going to look at the descriptor's digest, so that it may be left empty; and what the builder documents
    (as texts where the command line gives them). The descriptor that comes back names what was built: a
    builder that writes the same thing twice returns the same digest. Failures are AfenvErrors.
    """

    def supports(self, target: str) -> bool:
        """Whether this builder builds outputs of that kind, such as ``oci``."""
        ...  # pragma: no cover

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Build the output; all blobs of ``image`` are in ``store``."""
        ...  # pragma: no cover


def find_builder(target: str) -> Builder:
    """The built-in builder of ``target``, else the first one, by the name of its entry point, that
    supports it; E030 if there is none."""
    for value, targets in BUILT_IN.items():
        if target in targets:
            from importlib import import_module

            module, _, name = value.partition(":")
            built_in: Builder = getattr(import_module(module), name)()
            return built_in
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in found:
        builder: Builder = point.load()()
        if builder.supports(target):
            return builder
    known = {point.name for point in found if point.value not in BUILT_IN}.union(*BUILT_IN.values())
    raise AfenvError("E030", f"no builder makes {target!r}; there are: {', '.join(sorted(known))}")
