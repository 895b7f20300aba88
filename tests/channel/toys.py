"""Small packages that a solver and an image can be tried with: versions, variants, activation."""

from __future__ import annotations

import json
from collections.abc import Iterator

from packages import PLACEHOLDER, TIME, File, Package

DAY = 86400
PYTHON_ABI = ("python >=3.11,<3.12.0a0", "python_abi 3.11.* *_cp311")

HELLO = '''\
"""Says hello."""
from __future__ import annotations
import sys

__version__ = "{version}"


def main() -> int:
    print("hello from toynoarch", __version__, *sys.argv[1:])
    return 0
'''

ACTIVATE = """\
export TOYENV_HOME="${CONDA_PREFIX}/share/toyenv"
export TOYENV_WORDS='two words'
if [ -n "${PYTHONPATH:-}" ]; then export TOYENV_SAW_PYTHONPATH=1; fi
"""

DEACTIVATE = "unset TOYENV_HOME TOYENV_WORDS TOYENV_SAW_PYTHONPATH\n"


def _hello(version: str, timestamp: int) -> Package:
    site = f"site-packages/toynoarch-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: toynoarch\nVersion: {version}\n"
    return Package(
        name="toynoarch",
        version=version,
        build="pyh0000000_0",
        noarch="python",
        depends=("python >=3.9",),
        entry_points=("toyhello = toynoarch:main", "toyhello2 = toynoarch.sub:main"),
        timestamp=timestamp,
        files=(
            File(path="site-packages/toynoarch/__init__.py", content=HELLO.format(version=version).encode()),
            File(
                path="site-packages/toynoarch/sub/__init__.py",
                content=b"from toynoarch import main as main\n",
            ),
            File(path=f"{site}/METADATA", content=metadata.encode()),
            File(path=f"{site}/INSTALLER", content=b"conda\n"),
            File(
                path="python-scripts/toyscript",
                content=f"#!{PLACEHOLDER}/bin/python\nprint('toyscript')\n".encode(),
                mode=0o755,
                prefix="text",
            ),
            File(path="share/toynoarch/data.txt", content=b"data\n"),
        ),
    )


def _environment() -> Package:
    variables = json.dumps({"TOYENV_JSON": "from a file", "TOYENV_LEVEL": "3"}).encode()
    return Package(
        name="toyenv",
        version="1.2",
        noarch="generic",
        summary="sets variables when its environment is activated",
        files=(
            File(path="etc/conda/activate.d/toyenv_activate.sh", content=ACTIVATE.encode(), mode=0o755),
            File(path="etc/conda/deactivate.d/toyenv_deactivate.sh", content=DEACTIVATE.encode(), mode=0o755),
            File(path="etc/conda/env_vars.d/toyenv.json", content=variables),
            File(path="share/toyenv/table.txt", content=b"1 2 3\n"),
        ),
    )


def _gpu(variant: str) -> Package:
    cuda = variant == "cuda12"
    code = f'VARIANT = "{variant}"\n\n\ndef device() -> str:\n    return "{"gpu" if cuda else "cpu"}"\n'
    blob = bytes(range(256)) * 256 if cuda else b"cpu"
    return Package(
        name="toygpu",
        version="2.1.0",
        build=f"{variant}_py311_{200 if cuda else 0}",
        build_number=200 if cuda else 0,
        subdir="linux-64",
        depends=(*PYTHON_ABI, *(("__cuda >=12", "toycudart >=12,<13.0a0") if cuda else ())),
        track_features="" if cuda else "toygpu-cpu",
        files=(
            File(path="lib/python3.11/site-packages/toygpu/__init__.py", content=code.encode()),
            File(path="lib/python3.11/site-packages/toygpu/kernels.bin", content=blob),
        ),
    )


def _cudart(version: str) -> Package:
    major = version.split(".")[0]
    return Package(
        name="toycudart",
        version=version,
        subdir="linux-64",
        constrains=(f"__cuda >={major}",),
        files=(
            File(path=f"lib/libtoycudart.so.{version}", content=b"\x7fNOT-AN-ELF" + version.encode()),
            File(path=f"lib/libtoycudart.so.{major}", kind="symlink", target=f"libtoycudart.so.{version}"),
        ),
    )


def toy_packages() -> Iterator[Package]:
    """The packages."""
    yield _hello("1.0", TIME)
    yield _hello("1.1", TIME + 30 * DAY)
    yield _hello("2.0", TIME + 200 * DAY)
    yield _environment()
    yield _gpu("cuda12")
    yield _gpu("cpu")
    yield _cudart("11.8.0")
    yield _cudart("12.4.1")
    yield Package(  # cannot be had together with toynoarch 2
        name="toyold", version="0.9", noarch="generic", depends=("toynoarch <2",), constrains=("toyenv <1",)
    )
    yield Package(
        name="toyconflict", version="1.0", noarch="generic", depends=("toyold", "toyenv >=1", "toynoarch >=2")
    )
    yield Package(name="toyglibc", version="1.0", subdir="linux-64", depends=("__glibc >=2.99",))
