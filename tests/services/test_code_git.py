"""Code from the real git: smart HTTP, ssh, git LFS, credential helpers, and SWHIDs by Software Heritage."""

from __future__ import annotations

import base64
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.services

CORE = "/usr/lib/git-core"
DATA = bytes(range(256)) * 4000
LOCK = """
import json, sys
from pathlib import Path
from afenv.documents.lockfile import _code_json
from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers.code import code_files
from afenv.layers.codetree import show
from afenv.resolve.code import resolve_code
from afenv.settings import load_settings
from afenv.store.content import ContentStore
url, rev, here = sys.argv[1:]
settings = load_settings()
store = ContentStore(settings.cache_folder)
source = CodeSource(git=url, rev=rev) if rev else CodeSource(folder=url)
try:
    locked = resolve_code(source, Path(here), store, settings)
    names = [show(file.path) for file, _ in code_files(locked, Path(here), store, settings)]
    print(json.dumps({"lock": _code_json(locked), "files": names}))
except AfenvError as error:
    print(json.dumps({"code": error.code, "message": str(error)}))
"""


def program(name: str) -> str:
    """The path of a program; without it, fail in CI and skip elsewhere."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{CORE}")
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{name} is needed")
        pytest.skip(f"{name} is needed")
    return found


@dataclass
class World:
    """A home folder of its own, and repositories in ``served`` that the real git made."""

    home: Path
    commits: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def served(self) -> Path:
        return self.home / "served"

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SSH_"))}
        own = {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "none"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "AFENV_CACHE_DIR": str(self.home / "cache"),
        }
        return {**clean, **own, **self.variables}

    def run(self, *command: str | Path, at: Path | None = None) -> str:
        done = subprocess.run(
            [str(word) for word in command], cwd=at or self.home, env=self.environment(),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def git(self, *arguments: str | Path, at: Path | None = None) -> str:
        return self.run("git", *arguments, at=at)

    def afenv(self, url: str, rev: str = "", at: Path | None = None) -> dict[str, Any]:
        """What afenv locks, in a process with this home, or the error that it gives."""
        shutil.rmtree(self.home / "cache", ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-c", LOCK, url, rev, str(at or self.home)], env=self.environment(),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        found["said"] = done.stdout + done.stderr
        return found

    def expected(self, name: str, rev: str) -> tuple[str, str]:
        """Tree and SWHID of a clone by the real git, without what is not exported."""
        clone = self.home / "clone"
        shutil.rmtree(clone, ignore_errors=True)
        self.git("clone", "-q", "--recurse-submodules", "-b", rev, self.served / f"{name}.git", clone)
        for place in (clone, *clone.rglob("*")):
            shutil.rmtree(place / ".git", ignore_errors=True)
            if place.is_dir():
                (place / ".git").unlink(missing_ok=True)
        shutil.rmtree(clone / "internal")
        script = "import sys; from swh.model.from_disk import Directory; "
        script += "print(Directory.from_disk(path=sys.argv[1].encode(), max_content_length=None).swhid())"
        swhid = self.run(sys.executable, "-c", script, clone)
        self.git("init", "-q", at=clone)
        plain = [f"filter.lfs.{key}=" for key in ("clean", "process")] + ["filter.lfs.required=false"]
        options = [word for item in plain for word in ("-c", item)]
        self.git(*options, "add", "-A", "-f", at=clone)
        return self.git("write-tree", at=clone), swhid


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """``main`` has LFS content, export rules, and the submodule ``lib``, which has LFS content of its own."""
    for name in ("git", "git-lfs", "git-http-backend"):
        program(name)
    world = World(tmp_path_factory.mktemp("git"))
    (world.home / ".gitconfig").write_text(
        "[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[advice]\n\tdetachedHead = false\n'
        "[safe]\n\tdirectory = *\n"
    )
    world.git("lfs", "install", "--skip-repo")
    for name in ("lib", "main"):
        bare, work = world.served / f"{name}.git", world.home / name
        world.git("init", "-q", "--bare", bare)
        world.git("clone", "-q", bare.as_uri(), work)
        world.git("lfs", "track", "*.root", at=work)
        (work / "data").mkdir()
        (work / "data" / f"{name}.root").write_bytes(name.encode() + DATA)
        (work / "select.py").write_text(f"print('{name}')\n")
        (work / "run.sh").write_text("#!/bin/sh\n")
        (work / "run.sh").chmod(0o755)
        (work / "latest").symlink_to("data")
    plain = world.home / "plain"
    world.git("init", "-q", "--bare", world.served / "plain.git")
    world.git("clone", "-q", world.served / "plain.git", plain)
    (plain / "select.py").write_text("1")
    _commit(world, plain, "first")
    main = world.home / "main"
    _commit(world, world.home / "lib", "first")
    world.git("submodule", "add", "-q", "../lib.git", "libs/lib", at=main)
    (main / "internal").mkdir()
    (main / "internal" / "notes").write_text("x")
    with (main / ".gitattributes").open("a") as file:
        file.write("internal export-ignore\n")
    _commit(world, main, "first")
    world.git("tag", "-a", "-m", "one", "v1", at=main)
    world.git("push", "-q", "origin", "v1", at=main)
    world.commits["v1"] = world.git("rev-parse", "v1^{commit}", at=main)
    (main / "select.py").write_text("print('newer')\n")
    _commit(world, main, "second")
    world.commits["main"] = world.git("rev-parse", "HEAD", at=main)
    return world


def _commit(world: World, work: Path, message: str) -> None:
    world.git("add", "-A", at=work)
    world.git("commit", "-q", "-m", message, at=work)
    world.git("push", "-q", "origin", "main", at=work)


@pytest.fixture
def world(made: World) -> World:
    return World(made.home, made.commits)


def check(found: dict[str, Any], world: World, rev: str) -> None:
    """The lock's tree and SWHIDs are those of git and of Software Heritage."""
    assert "lock" in found, found
    lock = found["lock"]
    tree, swhid = world.expected("main", rev)
    assert (lock["tree"], lock["swhid"]) == (tree, swhid)
    assert lock["commit"] == world.commits[rev]
    assert lock["revision"] == f"swh:1:rev:{world.commits[rev]}"
    assert lock["exported"]
    assert [one["path"] for one in lock["submodules"]] == ["libs/lib"]
    assert [one["path"] for one in lock["lfs"]] == ["data/main.root", "libs/lib/data/lib.root"]
    assert "libs/lib/select.py" in found["files"]
    assert "internal/notes" not in found["files"]


def test_file_urls(world: World) -> None:
    for rev in ("v1", "main"):
        check(world.afenv((world.served / "main.git").as_uri(), rev), world, rev)


def test_revisions_are_those_of_software_heritage(world: World) -> None:
    """The identifier out of the commit's own fields, as the specification computes it."""
    raw = world.git("cat-file", "commit", "v1", at=world.home / "main")
    script = """
import hashlib, sys
from swh.model.git_objects import revision_git_object
from swh.model.model import Person, Revision, RevisionType, TimestampWithTimezone
head, _, message = sys.stdin.buffer.read().partition(b"\\n\\n")
lines = [line.split(b" ", 1) for line in head.split(b"\\n")]
fields = dict(lines)
def when(text):
    return TimestampWithTimezone.from_dict({
        "timestamp": int(text.split()[-2]), "offset_bytes": text.split()[-1],
    })
def who(text):
    return Person.from_fullname(text.rsplit(b" ", 2)[0])
revision = Revision(
    message=message, author=who(fields[b"author"]), committer=who(fields[b"committer"]),
    date=when(fields[b"author"]), committer_date=when(fields[b"committer"]), type=RevisionType.GIT,
    directory=bytes.fromhex(fields[b"tree"].decode()), synthetic=False,
    parents=tuple(bytes.fromhex(value.decode()) for key, value in lines if key == b"parent"),
)
print(revision.swhid())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=raw + "\n", capture_output=True, text=True, check=True
    )
    found = world.afenv((world.served / "main.git").as_uri(), "v1")
    assert found["lock"]["revision"] == done.stdout.strip()


def test_the_checkout_at_hand(world: World) -> None:
    """As the real git and git-lfs leave it."""
    clone = world.home / "at-hand"
    shutil.rmtree(clone, ignore_errors=True)
    world.git("clone", "-q", world.served / "main.git", clone)
    found = world.afenv(".", at=clone)
    assert found["code"] == "E130"
    assert "git submodule update --init --recursive" in found["message"]
    world.git("submodule", "update", "-q", "--init", "--recursive", at=clone)
    for touched in (False, True):
        if touched:  # git's index does not vouch for the content any more
            for path in clone.rglob("*.root"):
                os.utime(path, (1, 1))
        found = world.afenv(".", at=clone)
        assert "lock" in found, found
        assert (found["lock"]["tree"], found["lock"]["swhid"]) == world.expected("main", "main")
        assert not found["lock"].get("dirty")
    (clone / "libs" / "lib" / "data" / "lib.root").write_bytes(b"other")
    found = world.afenv(".", at=clone)
    assert found["code"] == "E109"
    assert "libs/lib/data/lib.root" in found["message"]


def test_a_checkout_that_git_lfs_did_not_fill(world: World) -> None:
    clone = world.home / "pointers"
    shutil.rmtree(clone, ignore_errors=True)
    world.variables["GIT_LFS_SKIP_SMUDGE"] = "1"
    world.git("clone", "-q", "--recurse-submodules", world.served / "main.git", clone)
    assert (clone / "data" / "main.root").stat().st_size < 1000
    found = world.afenv(".", at=clone)
    del world.variables["GIT_LFS_SKIP_SMUDGE"]
    assert "lock" in found, found
    assert found["lock"]["tree"] == world.expected("main", "main")[0]


# HTTP


@dataclass
class Web:
    """Git over smart HTTP and LFS by its documented API, behind a password."""

    url: str = ""
    user: str = "me"
    secret: str = "open-SECRET"
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def do_GET(self) -> None:
            body = self.body()
            path, _, query = self.path.partition("?")
            made.asked.append(path)
            if path.startswith("/objects/"):
                oid = path.removeprefix("/objects/")
                (found,) = world.served.glob(f"*.git/lfs/objects/*/*/{oid}")
                return self.answer(200, found.read_bytes())
            expected = "Basic " + base64.b64encode(f"{made.user}:{made.secret}".encode()).decode()
            if self.headers.get("Authorization") != expected:
                return self.answer(401, WWW_Authenticate="Basic realm=x", LFS_Authenticate="Basic realm=x")
            if path.endswith("/info/lfs/objects/batch"):
                return self.batch(path, json.loads(body))
            environment = {
                "GIT_PROJECT_ROOT": str(world.served), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "PATH": os.environ["PATH"], "HOME": str(world.home),
            }  # fmt: skip
            done = subprocess.run(
                [f"{CORE}/git-http-backend"], input=body, env=environment, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            status = int(fields.pop("Status", "200").split()[0])
            return self.answer(status, content, **{name.replace("-", "_"): v for name, v in fields.items()})

        do_POST = do_GET

        def batch(self, path: str, question: Any) -> None:
            objects = (
                world.served / path.strip("/").removesuffix("/info/lfs/objects/batch") / "lfs" / "objects"
            )
            answers = []
            for item in question["objects"]:
                oid = item["oid"]
                if (objects / oid[:2] / oid[2:4] / oid).is_file():
                    action = {"download": {"href": f"{made.url}/objects/{oid}"}}
                    answers.append({**item, "authenticated": True, "actions": action})
                else:
                    answers.append({**item, "error": {"code": 404, "message": "Object does not exist"}})
            content = json.dumps({"transfer": "basic", "objects": answers}).encode()
            self.answer(200, content, Content_Type="application/vnd.git-lfs+json")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def helper(world: World, secret: str) -> Path:
    """A credential helper that gives ``secret`` and notes what it is told."""
    notes = world.home / "helper.log"
    notes.unlink(missing_ok=True)
    script = world.home / "helper"
    lines = [f'echo "$1" >> {notes}', '[ "$1" = get ] || exit 0', f"echo username=me; echo password={secret}"]
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o755)
    world.variables |= {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper", "GIT_CONFIG_VALUE_0": str(script),
    }  # fmt: skip
    return notes


def nowhere(secret: str, world: World, found: dict[str, Any]) -> None:
    """The secret is in no output and no file of the cache."""
    assert secret not in found["said"]
    for path in (world.home / "cache").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_private_repositories_by_credential_helper(world: World, web: Web) -> None:
    url = f"{web.url}/main.git"
    found = world.afenv(url, "v1")
    assert found["code"] == "E131"
    assert "AFENV_GIT_TOKEN_127_0_0_1" in found["message"]
    notes = helper(world, "wrong-SECRET")
    found = world.afenv(url, "v1")
    assert found["code"] == "E131"
    assert "erase" in notes.read_text()
    nowhere("SECRET", world, found)
    notes = helper(world, web.secret)
    found = world.afenv(url, "v1")
    assert "store" in notes.read_text()
    assert "erase" not in notes.read_text()
    nowhere("SECRET", world, found)
    world.variables.clear()
    check(found, world, "v1")
    assert [one["git"] for one in found["lock"]["submodules"]] == [f"{web.url}/lib.git"]


def test_private_repositories_by_token(world: World, web: Web) -> None:
    web.user = "oauth2"
    world.variables["AFENV_GIT_TOKEN_127_0_0_1"] = web.secret
    found = world.afenv(f"{web.url}/main.git", "main")
    nowhere("SECRET", world, found)
    check(found, world, "main")
    web.user = "deploy"  # for a token that has a user of its own, the URL says it
    found = world.afenv(f"http://deploy@{web.url.partition('//')[2]}/main.git", "main")
    nowhere("SECRET", world, found)
    check(found, world, "main")


def test_a_mirror_with_a_password(world: World, web: Web) -> None:
    """What a mirror rule says of this host is used, and kept nowhere."""
    mirror = web.url.replace("//", f"//{web.user}:{web.secret}@")
    world.variables["AFENV_MIRRORS"] = f"https://git.example.org/={mirror}/"
    found = world.afenv("https://git.example.org/main.git", "v1")
    nowhere("SECRET", world, found)
    check(found, world, "v1")
    assert [one["git"] for one in found["lock"]["submodules"]] == ["https://git.example.org/lib.git"]
    world.variables["AFENV_MIRRORS"] = f"https://git.example.org/={mirror.replace('SECRET', 'SECRET-x')}/"
    found = world.afenv("https://git.example.org/main.git", "v1")
    assert found["code"] == "E131"
    nowhere("SECRET", world, found)


def test_history_is_not_fetched(world: World, web: Web) -> None:
    web.user = "oauth2"
    world.variables["AFENV_GIT_TOKEN_127_0_0_1"] = web.secret
    found = world.afenv(f"{web.url}/main.git", "main")
    assert "lock" in found, found
    clones = sorted(path.name for path in (world.home / "cache" / "git").iterdir())
    assert len(clones) == 2
    assert all(
        name.endswith(".tip") for name in clones if (world.home / "cache/git" / name / "shallow").exists()
    )
    counts = [
        world.git("rev-list", "--all", "--count", at=world.home / "cache" / "git" / name) for name in clones
    ]
    assert counts == ["1", "1"]


def test_the_server_of_the_tests_is_one_for_git_lfs_too(world: World, web: Web) -> None:
    """So what afenv is tested with is the protocol, and not its own idea of it."""
    helper(world, web.secret)
    clone = world.home / "by-git-lfs"
    shutil.rmtree(clone, ignore_errors=True)
    world.git("clone", "-q", f"{web.url}/main.git", clone)
    assert (clone / "data" / "main.root").read_bytes() == b"main" + DATA


# ssh


@dataclass
class Ssh:
    port: int
    host_key: str

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def known(self, world: World, key: str | None = None) -> None:
        (world.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key or self.host_key}\n")


@pytest.fixture(scope="module")
def sshd(made: World) -> Iterator[Ssh]:
    """An sshd of its own that takes the key of ``made``'s home."""
    daemon, keygen = program("sshd"), program("ssh-keygen")
    home = made.home / ".ssh"
    home.mkdir(mode=0o700)
    for name in ("host", "other"):
        made.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", made.home / f"{name}_key")
    made.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", made.home / "user_key")
    made.run(keygen, "-q", "-t", "ed25519", "-N", "a passphrase", "-f", made.home / "locked_key")
    keys = [(made.home / f"{name}_key.pub").read_text() for name in ("user", "locked")]
    (home / "authorized").write_text("".join(keys))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (made.home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {made.home}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
    )
    with (made.home / "sshd.log").open("wb") as log:
        process = subprocess.Popen([daemon, "-D", "-e", "-f", made.home / "sshd_config"], stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (made.home / "sshd.log").read_text()
            time.sleep(0.05)
        kind, key, *_ = (made.home / "host_key.pub").read_text().split()
        yield Ssh(port, f"{kind} {key}")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def agent(made: World, sshd: Ssh) -> Iterator[Callable[[str], str]]:
    """An ssh agent; it gives the socket after a key was loaded."""
    listening = made.home / "agent"
    process = subprocess.Popen([program("ssh-agent"), "-D", "-a", listening], stdout=subprocess.DEVNULL)
    while not listening.exists():
        time.sleep(0.01)

    def load(name: str) -> str:
        variables = {**made.environment(), "SSH_AUTH_SOCK": str(listening)}
        subprocess.run(["ssh-add", "-q", made.home / name], env=variables, check=True, capture_output=True)
        return str(listening)

    yield load
    process.terminate()
    process.wait()


@pytest.fixture
def ssh_home(world: World, sshd: Ssh) -> Iterator[Path]:
    """The .ssh folder: the host is known, and there is no key."""
    sshd.known(world)
    yield world.home / ".ssh"
    for path in (world.home / ".ssh").glob("id_*"):
        path.unlink()


def test_ssh_with_a_key_file(world: World, sshd: Ssh, ssh_home: Path) -> None:
    url = sshd.url(world.served / "plain.git")
    found = world.afenv(url, "main")
    assert found["code"] == "E131", found
    shutil.copy(world.home / "user_key", ssh_home / "id_ed25519")
    found = world.afenv(url, "main")
    tree = world.git("rev-parse", "main^{tree}", at=world.served / "plain.git")
    assert (found["lock"]["tree"], found["lock"]["git"]) == (tree, url)
    (ssh_home / "id_ed25519").rename(world.home / "elsewhere")
    world.variables["AFENV_SSH_KEY"] = str(world.home / "elsewhere")
    assert world.afenv(url, "main")["lock"]["tree"] == tree


def test_ssh_with_an_agent(world: World, sshd: Ssh, ssh_home: Path, agent: Callable[[str], str]) -> None:
    world.variables["SSH_AUTH_SOCK"] = agent("user_key")
    found = world.afenv(sshd.url(world.served / "plain.git"), "main")
    assert "lock" in found, found
    assert (ssh_home / "known_hosts").read_text().count("\n") == 1


def test_an_unknown_host_is_not_trusted(world: World, sshd: Ssh, ssh_home: Path) -> None:
    shutil.copy(world.home / "user_key", ssh_home / "id_ed25519")
    other = " ".join((world.home / "other_key.pub").read_text().split()[:2])
    for text in ("", f"[127.0.0.1]:{sshd.port} {other}\n", f"localhost {sshd.host_key}\n", None):
        known = ssh_home / "known_hosts"
        known.unlink(missing_ok=True)
        if text is not None:
            known.write_text(text)
        found = world.afenv(sshd.url(world.served / "plain.git"), "main")
        assert found["code"] == "E132", (text, found)
        assert (known.read_text() if known.exists() else None) == text


def test_a_key_with_a_passphrase_needs_the_agent(world: World, sshd: Ssh, ssh_home: Path) -> None:
    shutil.copy(world.home / "locked_key", ssh_home / "id_ed25519")
    found = world.afenv(sshd.url(world.served / "plain.git"), "main")
    assert found["code"] == "E131", found


def test_lfs_over_ssh(world: World, sshd: Ssh, ssh_home: Path, web: Web) -> None:
    """The ssh server names the LFS server, as ``git-lfs-authenticate`` of the large forges does."""
    shutil.copy(world.home / "user_key", ssh_home / "id_ed25519")
    (ssh_home / "config").write_text(
        f"Host *\n\tUserKnownHostsFile {ssh_home}/known_hosts\n\tIdentityFile {ssh_home}/id_ed25519\n"
    )
    token = "Basic " + base64.b64encode(f"{web.user}:{web.secret}".encode()).decode()
    answer = json.dumps({"href": f"{web.url}/lib.git/info/lfs", "header": {"Authorization": token}})
    program_folder = world.home / "programs"
    program_folder.mkdir(exist_ok=True)
    fake = program_folder / "ssh"
    fake.write_text(
        f"#!/bin/sh\nexec {program('ssh')} -F {ssh_home}/config -o SetEnv='AFENV_TEST=1' \"$@\"\n"
    )
    fake.chmod(0o755)
    authenticate = program_folder / "git-lfs-authenticate"
    authenticate.write_text(f"#!/bin/sh\n[ \"$2\" = download ] && printf '%s' '{answer}'\n")
    authenticate.chmod(0o755)
    keys = (ssh_home / "authorized").read_text()
    command = f'command="PATH={program_folder}:$PATH; eval $SSH_ORIGINAL_COMMAND" '
    (ssh_home / "authorized").write_text("".join(command + line + "\n" for line in keys.splitlines()))
    world.variables["PATH"] = f"{program_folder}:{os.environ['PATH']}"
    try:
        found = world.afenv(sshd.url(world.served / "lib.git"), "main")
    finally:
        (ssh_home / "authorized").write_text(keys)
    assert "lock" in found, found
    assert [one["path"] for one in found["lock"]["lfs"]] == ["data/lib.root"]
    nowhere("SECRET", world, found)
    assert "/lib.git/info/lfs/objects/batch" in web.asked
