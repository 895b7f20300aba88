"""The forms for Apptainer: the contract, and what is in the files."""

from __future__ import annotations

import shutil

import pytest

from afenv.testing import BuilderContract
from afenv_builders.apptainer import ApptainerBuilder

PACKER = pytest.mark.skipif(
    not (shutil.which("mksquashfs") or shutil.which("tar2sqfs")), reason="squashfs-tools are not here"
)


@PACKER
class TestSif(BuilderContract):
    builder = ApptainerBuilder()
    target = "sif"


@PACKER
class TestGzipSif(BuilderContract):
    builder = ApptainerBuilder()
    target = "sif"
    options = {"compressor": "gzip"}


@PACKER
class TestSquashfs(BuilderContract):
    builder = ApptainerBuilder()
    target = "squashfs"


class TestSandbox(BuilderContract):
    builder = ApptainerBuilder()
    target = "sandbox"
