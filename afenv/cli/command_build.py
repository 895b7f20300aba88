"""``afenv build``."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from afenv.cli.output import print_json, show_built
from afenv.workflow.receipt import known_result

if TYPE_CHECKING:
    from afenv.attest.sign import Signer
    from afenv.workflow.remote_cache import CacheOptions


def run(options: Namespace) -> int:
    """Build the images, write them, and say what they are."""
    _check_company(options)
    built = _known(options)
    if built is None:
        from afenv.workflow.build import build_project
        from afenv.workflow.project import open_project

        _draft(options)
        project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
        output = options.folder_of_analysis / options.output if options.output else None
        found = build_project(
            project,
            environment=options.environment,
            output=output,
            target=options.target,
            locked=options.locked,
            allow_dirty=options.allow_dirty,
            check=options.check,
            push=options.push,
            attach=not options.no_attach,
            signer=_signer(options),
            cache=_cache(options),
            builder_options={**_builder_options(options.option), "digest": options.json},
            check_reproducible=options.check_reproducible,
        )
        built = [one.as_json() for one in found]
    if options.json:
        print_json(built)
        return 0
    for one in built:
        show_built(one, quiet=options.quiet)
    return 0


def _check_company(options: Namespace) -> None:
    """E030 for an option that does nothing without another one."""
    cache = options.cache_from or options.cache_to
    for given, name, needed, others in (
        (options.sign, "--sign", options.push, "--push; `afenv sign` signs a layout"),
        (options.no_attach, "--no-attach", options.push, "--push"),
        (options.cache_key, "--cache-key", cache, "--cache-from or --cache-to"),
        (options.cache_trust, "--cache-trust", cache, "--cache-from or --cache-to"),
    ):
        if given and not needed:
            from afenv.errors import AfenvError

            raise AfenvError("E030", f"{name} goes with {others}")


def _draft(options: Namespace) -> None:
    """Give a repository without a manifest one, as far as its files tell what belongs into it."""
    from afenv.documents.manifest import FILE_NAME

    if options.locked or (options.folder_of_analysis / FILE_NAME).exists():
        return
    import sys

    from afenv.workflow.init import init_for_build

    for line in init_for_build(options.folder_of_analysis):
        print(line, file=sys.stderr)


def _builder_options(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            from afenv.errors import AfenvError

            raise AfenvError("E030", f"{word!r} is not NAME=VALUE")
        found[name] = value
    return found


def _signer(options: Namespace) -> Signer | None:
    if not options.sign:
        return None
    from afenv.workflow.sign import file_signer

    return file_signer(options.folder_of_analysis / options.sign)


def _cache(options: Namespace) -> CacheOptions | None:
    if not options.cache_from and not options.cache_to:
        return None
    from afenv.errors import AfenvError
    from afenv.workflow.remote_cache import CacheOptions

    if options.offline:
        raise AfenvError("E030", "a remote cache needs a connection: it does not go with --offline")
    return CacheOptions(
        source=options.cache_from,
        destination=options.cache_to,
        key=options.cache_key,
        trust=tuple(options.cache_trust),
    )


def _known(options: Namespace) -> list[dict[str, object]] | None:
    """What the last build gave, if it was the plain one and nothing has changed since."""
    if options.output or options.target != "oci" or options.check or options.push:
        return None
    if options.check_reproducible or options.cache_from or options.cache_to or options.option:
        return None
    return known_result(options.folder_of_analysis, options.environment, options.allow_dirty)
