"""A working Python 3.11 with physics packages, from Debian and PyPI.

afenv locks and downloads the sources, so its cache, mirrors and offline mode are those of this program.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cuda import WHEEL, cuda_packages
from debs import WANTED, library_packages, python_packages
from packages import Package
from wheels import wheel_package

from afenv.documents.lockfile import read_lock
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher

SOURCES = Path(__file__).with_name("sources")


BZ2 = frozenset({"importlib-metadata", "libuuid", "zipp"})  # in the older of the two formats


def core_packages() -> Iterator[Package]:
    """The packages."""
    for package in _packages():
        yield replace(package, extension=".tar.bz2") if package.name in BZ2 else package


def _packages() -> Iterator[Package]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "sources"
        shutil.copytree(SOURCES, folder)
        command = [sys.executable, "-m", "afenv", "-q", "-C", str(folder), "lock"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        environment = read_lock(folder / "afenv.lock").environments["default"]
    settings = load_settings()
    fetcher = Fetcher(ContentStore(settings.cache_folder), settings, quiet=True)
    wanted = [deb for deb in environment.debs if deb.name in WANTED]
    paths = fetcher.files([deb.file for deb in wanted], title="Debian packages")
    debs = {deb.name: (deb.version, path) for deb, path in zip(wanted, paths, strict=True)}
    yield from library_packages(debs)
    yield from python_packages(debs)
    paths = fetcher.files([wheel.file for wheel in environment.wheels], title="wheels")
    for wheel, path in zip(environment.wheels, paths, strict=True):
        if wheel.name == WHEEL:
            yield from cuda_packages(path, wheel.version)
        else:
            yield wheel_package(path, wheel.file.file_name)
