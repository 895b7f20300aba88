"""The tree of the Debian layers against the tree that dpkg makes by running every maintainer script.

The same packages are installed by mmdebstrap. Each path that differs must be in ``KNOWN``, with its reason;
``docs/adr/0009-no-maintainer-scripts.md`` explains the groups.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedDeb, LockedEnvironment, LockedFile
from afenv.layers.deb import write_debs
from afenv.layers.model import PACKAGE_MTIME
from afenv.layers.system import write_system
from afenv.layers.writer import LayerWriter
from afenv.store.content import BlobWriter, ContentStore

from .conftest import missing

pytestmark = [pytest.mark.services, pytest.mark.network]

SETS = {
    "bookworm-small": ("bookworm", "python3,ca-certificates,usr-is-merged"),
    "trixie-small": ("trixie", "python3,ca-certificates"),
    "bookworm-large": (
        "bookworm",
        "python3,ca-certificates,usr-is-merged,libopenblas0,g++,git,locales,openmpi-bin,tzdata,vim-tiny,less,procps",
    ),
    "trixie-large": (
        "trixie",
        "python3,ca-certificates,libopenblas0,g++,git,locales,openmpi-bin,tzdata,vim-tiny,less,procps",
    ),
}

# Pattern → why the trees differ there.
KNOWN = {
    # made by mmdebstrap and apt
    "etc/apt*": "apt is told where to install from; an image is not",
    "etc/fstab": "mmdebstrap",
    "etc/hostname": "mmdebstrap; a runtime mounts its own",
    "etc/resolv.conf": "mmdebstrap; a runtime mounts its own",
    "etc/.pwd.lock": "lock",
    "etc/*-": "copies that account tools keep",
    "var/cache*": "caches",
    "var/lib/apt*": "state of apt",
    "var/lib/dpkg/arch*": "mmdebstrap; needed for foreign architectures only",
    "var/lib/dpkg/*-old": "copies that dpkg keeps",
    "var/lib/dpkg/lock*": "locks",
    "var/lib/dpkg/triggers/Lock": "lock",
    "var/log*": "logs",
    # written otherwise, on purpose
    "etc/ca-certificates.conf": "another comment",
    "etc/passwd": "an ordinary user; passwords in shadow",
    "etc/group": "an ordinary user; passwords in shadow",
    "etc/shadow": "an ordinary user; no date",
    "etc/gshadow": "an ordinary user",
    "etc/sub?id": "an ordinary user",
    "home/analyst*": "an ordinary user",
    "etc/shells": "order: dpkg's is that of configuration",
    "var/lib/shells.state": "order: dpkg's is that of configuration",
    "etc/ld.so.cache": "made from names; see test_programs_find_libraries",
    "etc/timezone": "also where Debian 13 no longer makes it",
    "usr/local/libexec": "also on Debian 12",
    "var/lib/dpkg/diversions": "diversions of dash and of the merge of /usr serve upgrades only",
    "var/lib/dpkg/status": "order of fields",
    "var/lib/dpkg/triggers/File": "order",
    # not made
    "etc/environment": "empty",
    "etc/hosts": "a runtime mounts its own",
    "etc/networks": "names of networks",
    "etc/pam.d/common-*": "pam-auth-update: logins are not for images",
    "etc/security/opasswd": "logins",
    "var/lib/pam*": "pam-auth-update",
    "etc/rc?.d*": "services are not started",
    "etc/systemd*": "services are not started",
    "var/lib/systemd*": "services are not started",
    "etc/python3*": "an option of bytecode",
    "var/lib/python*": "a mark for triggers",
    "etc/default/locale": "locales are to be chosen; C.UTF-8 is built in",
    "etc/locale.*": "locales are to be chosen; C.UTF-8 is built in",
    "etc/fonts/conf.d*": "links that an administrator chooses",
    "usr/local/share/fonts": "empty",
}


def locked(path: Path) -> LockedDeb:
    """The locked package that a file is."""
    fields = subprocess.run(
        ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    data = path.read_bytes()
    file = LockedFile(
        urls=(f"https://deb.debian.org/{path.name}",), size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    return LockedDeb(name=fields[0], version=fields[1], architecture=fields[2], source=fields[0], file=file)


def scan(root: Path) -> dict[str, tuple[Any, ...]]:
    """Kind, mode and content of every path."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder) / name
            status = path.lstat()
            inner = str(path.relative_to(root))
            mode = oct(status.st_mode & 0o1777)  # set-id bits are dropped on purpose
            if stat.S_ISLNK(status.st_mode):
                found[inner] = ("link", str(path.readlink()))
            elif stat.S_ISDIR(status.st_mode):
                found[inner] = ("folder", mode)
            elif stat.S_ISREG(status.st_mode):
                found[inner] = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
            else:
                found[inner] = ("node",)
    return found


def unpack(writer: LayerWriter, blob: BlobWriter, store: ContentStore, root: Path) -> None:
    """Finish a layer and unpack it over ``root``."""
    written = writer.finish()
    blob.commit(written.digest)
    subprocess.run(["tar", "-xzpf", store.path(written.digest), "-C", root, "--numeric-owner"], check=True)


@pytest.fixture(scope="module", params=SETS)
def trees(request, tmp_path_factory):
    """What mmdebstrap made, what the layers hold, and the warnings."""
    for tool in ("mmdebstrap", "dpkg-deb", "chroot"):
        if shutil.which(tool) is None:
            missing(tool)
    if os.geteuid() != 0:
        missing("root, for chroot,")
    suite, packages = SETS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    truth, ours = folder / "truth", folder / "ours"
    command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={packages}"]
    command += ["--skip=essential/unlink,cleanup/apt", suite, str(truth), "http://deb.debian.org/debian"]
    subprocess.run(command, check=True)
    archives = [(locked(path), path) for path in sorted(truth.glob("var/cache/apt/archives/*.deb"))]
    store = ContentStore(folder / "store")
    ours.mkdir()
    environment = LockedEnvironment(
        request="",
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        suite=suite,
        debs=tuple(deb for deb, _ in archives),
    )
    debs, paths = zip(*archives, strict=True)
    with store.writer(durable=False) as blob:
        writer = LayerWriter(blob, mtime=PACKAGE_MTIME)
        write_debs(debs, paths, writer, store=store)
        unpack(writer, blob, store, ours)
    with store.writer(durable=False) as blob:
        writer = LayerWriter(blob, mtime=PACKAGE_MTIME)
        warnings = write_system(environment, {}, writer, store=store)
        unpack(writer, blob, store, ours)
    yield truth, ours, warnings, len(archives)
    shutil.rmtree(folder)


def test_the_trees_are_equal_but_for_what_is_known(trees):
    truth, ours, _, _ = trees
    expected, found = scan(truth), scan(ours)
    unexplained = {
        path: (expected.get(path), found.get(path))
        for path in sorted({*expected, *found})
        if expected.get(path) != found.get(path)
        and not path.startswith("dev/")
        and "__pycache__" not in path
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in KNOWN)
    }
    assert unexplained == {}


def test_what_is_said_to_be_missing(trees):
    assert set(trees[2]) <= {
        "libibverbs1: the account or group rdma is not made",
        "openssh-client: the account or group _ssh is not made",
    }


def test_the_status_is_that_of_dpkg_but_for_the_order_of_fields(trees):
    def stanzas(root: Path) -> dict[str, list[str]]:
        text = (root / "var/lib/dpkg/status").read_text()
        blocks = [block.splitlines() for block in text.strip().split("\n\n")]
        return {
            # dpkg also lists the configuration files that an upgrade would remove
            block[0]: sorted(
                line.rstrip()
                for line in block
                if line != "Conffiles:" and not line.endswith("remove-on-upgrade")
            )
            for block in blocks
        }

    truth, ours, _, _ = trees
    assert stanzas(ours) == stanzas(truth)


@pytest.fixture(scope="module")
def run(trees):
    """Runs a command in our tree."""
    root = trees[1]
    null = root / "dev/null"
    if not null.exists():
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    def run(*command: str) -> str:
        done = subprocess.run(
            ["chroot", root, *command],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin", "HOME": "/root"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_dpkg_is_content(trees, run):
    assert run("dpkg", "-l").count("\nii ") == trees[3]
    assert run("dpkg", "--audit") == ""
    assert run("dpkg", "-V") == ""
    assert run("dpkg", "-S", "/usr/bin/python3") == "python3-minimal: /usr/bin/python3\n"
    assert "/etc/debian_version" in run("dpkg", "-L", "base-files")
    assert run("update-alternatives", "--query", "pager").count("Status: auto") == 1


def test_programs_run(run):
    assert run("id", "analyst").startswith("uid=1000(analyst) gid=1000(analyst)")
    assert "This is perl" in run("perl", "-v")
    count = run("python3", "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))")
    assert int(count) > 100
    assert run("awk", "BEGIN {print 6 * 7}") == "42\n"


def test_programs_find_libraries(trees, run):
    find = "import ctypes.util; print(ctypes.util.find_library('{}'))"
    assert run("python3", "-c", find.format("c")) == "libc.so.6\n"
    if (trees[1] / "etc/alternatives/libblas.so.3-x86_64-linux-gnu").is_symlink():
        assert run("python3", "-c", find.format("blas")) == "libblas.so.3\n"
        load = "import ctypes; ctypes.CDLL('libblas.so.3').dgemm_; ctypes.CDLL('liblapack.so.3')"
        run("python3", "-c", load)


def test_what_compiles_and_links(trees, run):
    if not (trees[1] / "usr/bin/g++").exists():
        pytest.skip("a small set")
    run("sh", "-c", "echo 'int main() {}' > /tmp/x.cc && c++ /tmp/x.cc -o /tmp/x && /tmp/x")
    assert "git version" in run("git", "--version")
    assert "Open MPI" in run("mpirun", "--version") or "open-mpi" in run("mpirun", "--version")
    assert "VIM" in run("vi", "--version")
