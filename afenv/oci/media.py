"""Media types and annotation keys, as ``specs/media-types.toml`` lists them."""

from __future__ import annotations

IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"

LOCK = "application/vnd.afenv.lock.v1+json"
ANALYSIS_MANIFEST = "application/vnd.afenv.manifest.v1+yaml"
SPDX = "application/spdx+json"
IN_TOTO = "application/vnd.in-toto+json"
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CACHE_ENTRY = "application/vnd.afenv.cache.entry.v1+json"
SIF_CONFIG = "application/vnd.sylabs.sif.config.v1+json"
SIF_LAYER = "application/vnd.sylabs.sif.layer.v1.sif"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"

OCI_PREFIX = "org.opencontainers.image."
REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"

ANALYSIS = "org.afenv.analysis"
ENVIRONMENT = "org.afenv.environment"
ASSEMBLY_VERSION = "org.afenv.assembly-version"
INPUTS = "org.afenv.inputs"
REQUEST = "org.afenv.request"
LAYOUT = "org.afenv.layout"
ATTACHMENTS = "org.afenv.attachments"
