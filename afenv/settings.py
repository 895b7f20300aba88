"""Settings that belong to the host and the user, never to the analysis.

They come from the environment; nothing here changes a byte of a lock or an image.

========================== =====================================================================
``AFENV_CACHE_DIR``         the content store; default ``$XDG_CACHE_HOME/afenv`` or ``~/.cache/afenv``
``AFENV_MIRRORS``           rewrite rules for downloads: ``PREFIX=REPLACEMENT`` separated by spaces; those
                           for registries begin with ``oci://``
``AFENV_OFFLINE``           ``1``: never open a connection
``AFENV_JOBS``              how many layers are written at once; default: the processors at hand
``AFENV_PYPI_UPLOAD_TIMES`` ``ignore``: accept an index that does not say when files were uploaded
``SOURCE_DATE_EPOCH``       seconds since 1970: the time of the code layer and of the image
``AFENV_RUNTIME``           what runs images: one or several, in order, of ``docker,podman,apptainer,userns``
``AFENV_FACILITY``          a facility's profile, which gives the order of runtimes without ``AFENV_RUNTIME``
                           and tells ``afenv data`` which replicas are near
``AFENV_DATA_HOSTS``        hosts of data that may see your token or proxy, such as ``*.cern.ch``
``AFENV_XROOTD``            ``xrdcp``: read XRootD by its command line, also where its Python bindings are
``AFENV_CATALOGUE``         the catalogue of images: a file, or ``HOST[:PORT]/NAME[:TAG]``
``AFENV_CATALOGUE_TRUST``   files with public keys whose signature on it counts, separated by colons
``AFENV_CATALOGUE_KEY``     the private key that signs it
``AFENV_DOCKER``            the command that starts Docker, such as ``/usr/bin/docker --context lab``
``AFENV_PODMAN``            the command that starts Podman, such as ``podman --runtime runc``
``AFENV_APPTAINER``         the command that starts Apptainer; default ``apptainer``, else ``singularity``
``AFENV_APPTAINER_IMAGE``   ``sif`` or ``sandbox``: what Apptainer runs; default: a SIF where that works
``AFENV_BWRAP``             the command that starts bubblewrap; default ``bwrap``
``AFENV_QEMU``              the command that starts QEMU; default: by the image's architecture
``AFENV_VM_…``              what virtual machines get: ``MEMORY`` in MiB, ``CPUS``, ``ACCELERATOR`` (``kvm``
                           or ``tcg``)
``AFENV_CVMFS_SERVER``      the command that publishes on CVMFS, such as ``sudo cvmfs_server``
``AFENV_GIT_TOKEN_<HOST>``  a token for git and LFS servers, such as ``AFENV_GIT_TOKEN_GIT_EXAMPLE_ORG``
``AFENV_SSH_KEY``           the key file for git over ssh; default: the agent, then those in ``~/.ssh``
``AFENV_BUILD_…``           limits of build commands: ``TIME``, ``MEMORY``, ``DISK``, ``PROCESSES``
``AFENV_CVMFS_STRATA``      where CVMFS repositories are read, as ``CVMFS_SERVER_URL``; default: the client's
``AFENV_CVMFS_PROXIES``     proxies on the way there, as ``CVMFS_HTTP_PROXY``; default: the client's
``AFENV_CVMFS_KEYS``        files or folders with public master keys; default: ``/etc/cvmfs/keys``
``AFENV_CVMFS_TRACEFILE``   the ``CVMFS_TRACEFILE`` of this host's client, ``@fqrn@`` for the repository
``AFENV_CVMFS_TRACER``      ``strace``: trace with it, also where access times tell
``AFENV_CVMFS_SHRINKWRAP``  the command ``cvmfs_shrinkwrap``; empty: never use it
``AFENV_CVMFS_TIMEOUT``     seconds that a stratum may take to answer; default: 15
``AFENV_REPO2DOCKER_BASE``  the base image of what repo2docker builds; default: its own
``AFENV_BUILDER_ID``        who builds, as a URI in the provenance; default: the CI job, where there is one
``AFENV_KEY_PASSWORD``      the password of a private key that signs
``AFENV_SUBMIT_TOKEN``      the token for the repository that `afenv submit` names
``AFENV_PLAIN_HTTP``        registries without encryption: ``HOST:PORT`` separated by spaces
``AFENV_CA_BUNDLE``         a file with certificate authorities to trust for registries, beside the system's
``AFENV_REGISTRY_HOST``     the registry that ``AFENV_REGISTRY_USER`` and ``_PASSWORD`` or ``_TOKEN`` are for
========================== =====================================================================
"""

from __future__ import annotations

import os
from pathlib import Path

from afenv.errors import AfenvError
from afenv.record import record, replace


@record
class Settings:
    """What the host and the user decide."""

    cache_folder: Path
    mirrors: tuple[tuple[str, str], ...] = ()
    offline: bool = False
    jobs: int = 0
    source_date_epoch: int | None = None

    def rewrite(self, url: str) -> str:
        """``url`` as this host reaches it: the first mirror rule whose prefix matches decides."""
        for prefix, replacement in self.mirrors:
            if url.startswith(prefix):
                return replacement + url[len(prefix) :]
        return url

    def beside(self, folder: Path) -> Settings:
        """These settings, with which URLs that begin with ``./`` or ``../`` are files beside a manifest.

        A lock has such URLs for channels that are folders of the project. ``folder`` is that of the manifest.
        """
        rules = (("./", folder.as_uri() + "/"), ("../", folder.parent.as_uri() + "/"))
        others = tuple(rule for rule in self.mirrors if rule[0] not in ("./", "../"))
        return replace(self, mirrors=(*others, *rules))


def _integer(name: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise AfenvError("E030", f"{text!r} is not a whole number of at least {least}", place=name)
    return value


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        urlsplit(text)
    except ValueError as error:
        raise AfenvError("E030", f"{text!r} is not a URL: {error}", place="AFENV_MIRRORS") from None
    return text


def load_settings(*, offline: bool = False) -> Settings:
    """The settings of this process; E030 if a variable cannot be understood."""
    environment = os.environ
    cache = environment.get("AFENV_CACHE_DIR")
    if not cache:
        base = environment.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        cache = str(Path(base) / "afenv")
    mirrors = []
    for rule in environment.get("AFENV_MIRRORS", "").split():
        prefix, separator, replacement = rule.partition("=")
        if not (separator and prefix and replacement):
            raise AfenvError("E030", f"{rule!r} is not PREFIX=REPLACEMENT", place="AFENV_MIRRORS")
        mirrors.append((prefix, _url(replacement)))
    epoch = environment.get("SOURCE_DATE_EPOCH")
    jobs = environment.get("AFENV_JOBS")
    return Settings(
        cache_folder=Path(cache).expanduser().absolute(),
        mirrors=tuple(mirrors),
        offline=offline or environment.get("AFENV_OFFLINE", "") not in ("", "0"),
        jobs=_integer("AFENV_JOBS", jobs, 1) if jobs else len(os.sched_getaffinity(0)),
        source_date_epoch=_integer("SOURCE_DATE_EPOCH", epoch, 0) if epoch else None,
    )
