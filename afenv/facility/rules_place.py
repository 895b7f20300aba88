"""Rules about what is around a job: CVMFS, network, data, the registry, JupyterHub. Pure.

=================== =================================================================================
``cvmfs``            an environment that takes software from CVMFS finds it only where it is mounted
``cvmfs.revision``   CernVM-FS: a client mounts one revision; an older one lacks what was published since
``network``          an analysis that needs the network runs only where jobs have one
``data``             a replica has to be held by the facility, or be reachable, directly or by its proxies
``registry``         an image has to be had from its registry, or be carried there as a file
``jupyterhub``       JupyterHub: the single-user server is of the hub's major version
=================== =================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from afenv.documents.cuda import version
from afenv.documents.data import is_record
from afenv.documents.facility import FacilityProfile, Repository
from afenv.facility.needs import CvmfsNeed, Needs
from afenv.facility.reason import Outcome, Reason
from afenv.facility.rules_runtime import lies_on_cvmfs

_TRACE = "Embed what is used of it in the image (delivery: embed or trace), or ask for the mount."


def place_reasons(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    """What is missing around a job."""
    for repository in needs.cvmfs:
        yield from _repository(repository, facility)
    if needs.network and facility.network != "full":
        yield from _network(facility)
    for entry in needs.data:
        yield from data_reasons(entry.name, entry.uris, facility)
    if needs.registry is not None and not _is_there(needs, facility):
        yield from _registry(needs.registry, facility)
    if facility.jupyterhub is not None:
        yield from _hub(needs, facility)


def _repository(need: CvmfsNeed, facility: FacilityProfile) -> Iterator[Reason]:
    cvmfs = facility.cvmfs
    if cvmfs is None or cvmfs.repositories is None:
        message = f"whether {need.name} is mounted is not known"
        yield Reason(rule="cvmfs", outcome="unknown", message=message)
        return
    mounted = next((one for one in cvmfs.repositories if one.name == need.name), None)
    if mounted is not None:
        yield from _revision(need, mounted)
    elif cvmfs.others:
        message = f"{need.name} is not listed; repositories that are not may be there as well"
        yield Reason(rule="cvmfs", outcome="unknown", message=message)
    else:
        message = f"the image takes software from /cvmfs/{need.name}, which is not mounted"
        yield Reason(rule="cvmfs", outcome="cannot", message=message, remedy=_TRACE)


def _revision(need: CvmfsNeed, mounted: Repository) -> Iterator[Reason]:
    if need.root_hash and need.root_hash == mounted.root_hash:
        return
    if need.revision is None and need.root_hash is None:
        return
    if mounted.revision is None or need.revision is None:
        if mounted.root_hash and need.root_hash:
            message = f"{need.name} is mounted with another root hash than the one that is locked"
            yield Reason(rule="cvmfs.revision", outcome="degraded", message=message, remedy=_TRACE)
            return
        message = f"which revision of {need.name} is mounted is not known"
        yield Reason(rule="cvmfs.revision", outcome="unknown", message=message)
    elif mounted.revision < need.revision:
        which = f"{need.name} is mounted at revision {mounted.revision}, {need.revision} is locked"
        if mounted.pinned:
            yield Reason(rule="cvmfs.revision", outcome="cannot", message=which, remedy=_TRACE)
        else:
            message = f"{which}; the mount moves on as something is published"
            remedy = "Probe again: the profile may be old."
            yield Reason(rule="cvmfs.revision", outcome="degraded", message=message, remedy=remedy)
    elif mounted.revision > need.revision:
        which = f"{need.name} is mounted at revision {mounted.revision}"
        message = f"{which}, newer than {need.revision}, which is locked"
        yield Reason(rule="cvmfs.revision", outcome="degraded", message=message, remedy=_TRACE)


def _network(facility: FacilityProfile) -> Iterator[Reason]:
    if facility.network is None:
        message = "it needs the network; whether jobs have one is not known"
        yield Reason(rule="network", outcome="unknown", message=message)
    elif facility.network == "none":
        message = "it needs the network, which jobs do not have"
        remedy = "Bring along what it fetches."
        yield Reason(rule="network", outcome="cannot", message=message, remedy=remedy)
    else:
        message = f"it needs the network; jobs reach {', '.join(facility.hosts or ())} only"
        yield Reason(rule="network", outcome="degraded", message=message, remedy="Check what it fetches.")


def data_reasons(name: str, uris: Sequence[str], facility: FacilityProfile) -> Iterator[Reason]:
    """What keeps a job there from reading data, by the places where they are."""
    remote = [uri for uri in uris if urlsplit(uri).scheme not in ("", "file")]
    if len(remote) < len(uris) or not uris:
        return  # a file goes with the analysis
    if any(uri.startswith(prefix) for uri in remote for prefix in facility.data or ()):
        return
    if any(facility.through_proxies(uri) for uri in remote):
        return
    if facility.network == "full":
        return
    if all(is_record(uri) for uri in remote):
        message = f"where the files of the data {name} are was not looked up ({', '.join(remote)})"
        remedy = "Run `afenv data pin`."
        yield Reason(rule="data", outcome="unknown", message=message, remedy=remedy)
        return
    where = f"the data {name} is at {', '.join(remote)}"
    if facility.network == "listed":
        hosts = {urlsplit(uri).hostname or "" for uri in remote}
        if any(fnmatchcase(host, pattern) for host in hosts for pattern in facility.hosts or ()):
            return
        message = f"{where}, which jobs do not reach"
    elif facility.network is None:
        message = f"{where}; whether jobs reach it is not known"
        yield Reason(rule="data", outcome="unknown", message=message)
        return
    elif facility.data is None:
        message = f"{where}; jobs have no network, and what the facility holds itself is not known"
        yield Reason(rule="data", outcome="unknown", message=message)
        return
    else:
        message = f"{where}; jobs have no network, and the facility does not hold it"
    yield Reason(rule="data", outcome="cannot", message=message, remedy="Copy the data there first.")


def _is_there(needs: Needs, facility: FacilityProfile) -> bool:
    """Whether a runtime takes the image from CVMFS, so that no registry is asked."""
    takes = (one.name in ("apptainer", "singularity") for one in facility.runtimes or ())
    return lies_on_cvmfs(needs, facility) and any(takes)


def _registry(host: str, facility: FacilityProfile) -> Iterator[Reason]:
    found = next((one for one in facility.registries or () if one.host == host), None)
    remedy = "Carry the image there as an archive or a SIF, or copy it to a registry that is reached."
    if facility.registries is None:
        message = f"whether {host} is reached from there is not known"
        yield Reason(rule="registry", outcome="unknown", message=message)
    elif found is not None and not found.reachable:
        message = f"{host} is not reached from there"
        yield Reason(rule="registry", outcome="degraded", message=message, remedy=remedy)
    elif not facility.registries:
        message = "no registry is reached from there"
        yield Reason(rule="registry", outcome="degraded", message=message, remedy=remedy)
    elif found is None:
        message = f"whether {host} is reached from there is not known"
        yield Reason(rule="registry", outcome="unknown", message=message)


def _hub(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    assert facility.jupyterhub is not None
    hub = facility.jupyterhub
    major = version(hub.version)[0]
    remedy = f'Add "jupyterhub={major}.*" (conda) or "jupyterhub=={major}.*" (PyPI) to the environment.'
    outcome: Outcome = "cannot" if hub.only else "degraded"
    if needs.jupyterhub is None:
        if not needs.packages:
            message = f"whether the image has jupyterhub {major} is not known"
            yield Reason(rule="jupyterhub", outcome="unknown", message=message)
            return
        message = f"the hub cannot start it: it has no jupyterhub; the hub is {hub.version}"
    elif version(needs.jupyterhub)[:1] != (major,):
        message = f"the hub cannot start it: it has jupyterhub {needs.jupyterhub}, the hub is {hub.version}"
    else:
        return
    yield Reason(rule="jupyterhub", outcome=outcome, message=message, remedy=remedy)
