"""A real JupyterHub starts the image that selection picked, with DockerSpawner, Apptainer and Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from afenv.catalogue.merge import Contents, now, with_records
from afenv.catalogue.record import ImageRecord
from afenv.catalogue.sources import open_catalogue
from afenv.record import replace
from afenv.store.content import ContentStore
from afenv.workflow.catalogue import change, keeper
from tests.services.conftest import running_registry
from tests.services.jupyterhub_parts import (
    DEPLOY,
    EXAMPLE,
    PASSWORD,
    afenv,
    browser,
    example,
    install_proxy,
    run_in_kernel,
    running_hub,
)
from tests.services.slurm_parts import running_slurm

pytestmark = [pytest.mark.network, pytest.mark.services]

PRINTED = ("uproot 5", "pairs, half of them above 91.")  # by the notebook's cells


@dataclass(frozen=True, kw_only=True)
class World:
    """A registry with the image and a signed catalogue, which also lists what hubs must not offer."""

    folder: Path
    registry: str
    record: ImageRecord
    trust: Path

    @property
    def catalogue(self) -> str:
        return f"{self.registry}/group/catalogue"

    @property
    def facility(self) -> Path:
        return self.folder / "facility.yaml"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """configurable-http-proxy."""
    return install_proxy(tmp_path_factory.mktemp("proxy"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The example image: locked, built and pushed by afenv, catalogued with others that do not fit."""
    folder = tmp_path_factory.mktemp("world")
    with running_registry(folder) as registry:
        project = example(folder / "hub")
        afenv("build", folder=project)
        image = f"{registry}/group/hub:1.0"
        afenv("push", ".afenv/default.oci", image, folder=project)
        afenv("key", "generate", "catalogue.key", "--no-password", folder=folder)
        catalogue = f"{registry}/group/catalogue"
        afenv("catalogue", "add", image, "--catalogue", catalogue, "--key", "catalogue.key", folder=folder)
        who = keeper(catalogue, folder, key=Path("catalogue.key"), trust=[])
        (record,) = open_catalogue(who.place, who.trusted, ContentStore(folder / "store")).catalogue.records()

        def with_others(contents: Contents) -> Contents:
            return with_records(contents, others(record), now())

        change(who, with_others)
        afenv("facility", "probe", "--name", "this hub", "-o", "facility.yaml", folder=folder)
        yield World(folder=folder, registry=registry, record=record, trust=folder / "catalogue.pub")


@pytest.fixture(scope="module")
def sif(world: World, apptainer: str) -> Path:
    """The example image as a SIF."""
    path = world.folder / "hub.sif"
    afenv("build", "--target", "sif", "-o", path, folder=world.folder / "hub")
    return path


def others(record: ImageRecord) -> list[ImageRecord]:
    """Images like it: an older one, one for another hub, one without jupyterhub."""

    def made(number: int, name: str, **needs: Any) -> ImageRecord:
        return replace(
            record,
            name=name,
            version="0.9",
            digest=f"sha256:{number:064x}",
            image_id=f"sha256:{number + 100:064x}",
            needs=replace(record.needs, name=name, **needs),
            origin=replace(record.origin, created="2020-01-01T00:00:00Z"),
        )

    return [made(1, "hub"), made(2, "old-hub", jupyterhub="4.1.6"), made(3, "no-hub", jupyterhub=None)]


@pytest.fixture
def network(docker: str) -> Iterator[tuple[str, str]]:
    """A network of Docker's for this test: its name, and the address that containers reach this host by.

    Containers that are left in it are removed, with their volumes.
    """
    name = f"afenv-test-{uuid.uuid4().hex[:8]}"

    def call(*words: str) -> str:
        return subprocess.run([docker, *words], capture_output=True, text=True, check=True).stdout.strip()

    call("network", "create", name)
    try:
        yield name, call("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name)
    finally:
        left = call("ps", "-aq", "--filter", f"network={name}").split()
        if left:
            call("rm", "-fv", *left)
        call("network", "rm", name)
        call("volume", "rm", "-f", "jupyterhub-alice")


@pytest.fixture
def images(docker: str, world: World) -> Iterator[None]:
    """Images that are pulled from the test's registry are removed again."""
    yield
    words = [docker, "images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        if name.startswith(world.registry):
            subprocess.run([docker, "rmi", "-f", name], capture_output=True, check=True)


def operators_folder(world: World, folder: Path, kind: str) -> Path:
    """A configuration of ``registry/deploy``, with the files that its operators put beside it."""
    place = folder / "operators"
    place.mkdir()
    (place / "jupyterhub_config.py").write_bytes((DEPLOY / kind / "jupyterhub_config.py").read_bytes())
    (place / "facility.yaml").write_bytes(world.facility.read_bytes())
    (place / "catalogue.pub").write_bytes(world.trust.read_bytes())
    return place


def docker_hub(world: World, network: tuple[str, str], folder: Path) -> tuple[str, dict[str, str]]:
    """The operators' configuration of DockerSpawner, and the variables that it reads."""
    place = operators_folder(world, folder, "docker")
    variables = {"AFENV_CATALOGUE": world.catalogue, "HUB_NETWORK": network[0], "HUB_IP": network[1]}
    return f"load_subconfig({str(place / 'jupyterhub_config.py')!r})\n", variables


def until(what: Callable[[], Any], seconds: float = 120.0, why: Callable[[], str] = str) -> Any:
    """What a function gives once that is true."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(WebDriverException):
            found = what()
            if found:
                return found
        time.sleep(0.25)
    raise AssertionError(why())


@pytest.mark.usefixtures("images")
def test_the_image_that_selection_picks_is_started_and_its_kernel_imports_uproot(
    world: World, proxy: tuple[str, str], network: tuple[str, str], docker: str, tmp_path: Path
) -> None:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    words = ("select", "hub", "--facility", "facility.yaml", "--catalogue", world.catalogue, "--json")
    selected = json.loads(afenv(*words, "--trust", world.trust, folder=world.folder))
    best = selected["candidates"][0] if "candidates" in selected else selected["images"][0]
    assert world.record.digest in json.dumps(best)

    configuration, variables = docker_hub(world, network, tmp_path)
    with (
        running_hub(tmp_path / "hub", configuration, proxy, variables) as hub,
        browser(tmp_path) as chromium,
    ):
        chromium.get(f"{hub.url}/hub/spawn")
        chromium.find_element(By.NAME, "username").send_keys("alice")
        chromium.find_element(By.NAME, "password").send_keys(PASSWORD + Keys.ENTER)

        # both images of this name, the newest first, and none of those that do not fit
        field = until(lambda: chromium.find_element(By.NAME, "image"), why=hub.said)
        names = [option.text for option in Select(field).options]
        assert [name.split(":")[0] for name in names] == ["hub 1.0", "hub 0.9"], hub.said()
        picture(chromium, "jupyterhub-spawn.png")
        chromium.find_element(By.CSS_SELECTOR, "#spawn_form [type=submit]").click()

        until(lambda: "/user/alice/" in chromium.current_url, 300, hub.said)
        until(
            lambda: chromium.find_elements(By.CSS_SELECTOR, "#jp-main-dock-panel, .jp-Launcher"), why=hub.said
        )
        container = subprocess.run(
            [docker, "inspect", "-f", "{{.Config.Image}} {{.Image}}", "jupyter-alice"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert container == [world.record.key, world.record.image_id]

        # the example's notebook, in the user's folder
        notebook = json.loads((EXAMPLE / "masses.ipynb").read_text())
        content = {"type": "notebook", "content": notebook}
        status, answer = hub.ask("PUT", "/user/alice/api/contents/masses.ipynb", content)
        assert status == 201, answer
        chromium.get(f"{hub.url}/user/alice/lab/tree/masses.ipynb?reset")
        until(lambda: chromium.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"), why=hub.said)
        until(lambda: idle(chromium), why=lambda: chromium.page_source[:3000])
        for _ in range(8):  # what is asked of a kernel or a menu that is not there yet is lost
            with contextlib.suppress(AssertionError, WebDriverException):
                run_all(chromium)
                until(lambda: all(text in outputs(chromium) for text in PRINTED), 30)
                break
        else:
            print(chromium.execute_script("return document.body.innerText"))
            chromium.save_screenshot(str(tmp_path / "failed.png"))
            raise AssertionError(outputs(chromium) + hub.said()[-4000:])
        until(
            lambda: chromium.find_elements(By.CSS_SELECTOR, ".jp-RenderedSVG"), why=lambda: outputs(chromium)
        )
        until(lambda: idle(chromium))
        dismiss(chromium)
        time.sleep(1 if os.environ.get("AFENV_KEEP_PICTURES") else 0)  # until it has faded
        picture(chromium, "jupyterhub.png")

        assert hub.api("DELETE", "/users/alice/server")[0] in (202, 204)
        until(lambda: "jupyter-alice" not in names_of(docker), why=hub.said)
    assert "Traceback" not in hub.said(), hub.said()


def idle(chromium: Any) -> bool:
    """Whether the notebook's kernel waits for something to do."""
    from selenium.webdriver.common.by import By

    return any(
        "Idle" in (one.get_attribute("title") or "") or one.get_attribute("data-status") == "idle"
        for one in chromium.find_elements(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator")
    )


def run_all(chromium: Any) -> None:
    """Run all cells, by the menu."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    for one in chromium.find_elements(By.CSS_SELECTOR, ".jp-Dialog .jp-mod-accept"):
        print("answered:", chromium.find_element(By.CSS_SELECTOR, ".jp-Dialog").text)
        chromium.execute_script("arguments[0].click()", one)
    dismiss(chromium)
    bar = chromium.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item")
    ActionChains(chromium).click(next(one for one in bar if one.text.strip() == "Run")).perform()
    command = '.lm-Menu-item[data-command="runmenu:run-all"]'
    until(lambda: chromium.find_elements(By.CSS_SELECTOR, command), 10, lambda: "no command to run all")
    ActionChains(chromium).click(chromium.find_element(By.CSS_SELECTOR, command)).perform()


def dismiss(chromium: Any) -> None:
    """Say no to what JupyterLab asks a new user, if it does."""
    from selenium.webdriver.common.by import By

    for one in chromium.find_elements(By.CSS_SELECTOR, ".jp-toast-button"):
        if one.text.strip() == "No":
            chromium.execute_script("arguments[0].click()", one)


def outputs(chromium: Any) -> str:
    """What the notebook's cells printed."""
    from selenium.webdriver.common.by import By

    return "\n".join(one.text for one in chromium.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output"))


def names_of(docker: str) -> str:
    """The names of Docker's containers."""
    words = [docker, "ps", "-a", "--format", "{{.Names}}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def picture(chromium: Any, name: str) -> None:
    """Keep a picture for the documentation, where that is asked for."""
    if os.environ.get("AFENV_KEEP_PICTURES"):
        chromium.save_screenshot(str(Path(__file__).parents[2] / "docs" / "how-to" / name))


APPTAINER_HUB = """
from afenv_registry.jupyterhub import (
    Offering, catalogue_source, image_form, options_from_form, use_apptainer,
)

offering = Offering(
    catalogue_source({catalogue!r}, trust=[{trust!r}], folder="afenv-catalogue"), {facility!r}
)
c.JupyterHub.spawner_class = "simple"
c.Spawner.args = ["--allow-root"]  # who runs tests may be root
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r} + "/{{username}}"
c.Spawner.options_form = image_form(offering)
c.Spawner.options_from_form = options_from_form
c.Spawner.pre_spawn_hook = use_apptainer(offering, place=lambda image: {sif!r})
"""


def test_a_process_spawner_starts_the_server_in_apptainer(
    world: World, proxy: tuple[str, str], sif: Path, tmp_path: Path
) -> None:
    configuration = APPTAINER_HUB.format(
        catalogue=world.catalogue,
        trust=str(world.trust),
        facility=str(world.facility),
        homes=str(tmp_path / "homes"),
        sif=str(sif),
    )
    (tmp_path / "homes").mkdir()
    with running_hub(tmp_path / "hub", configuration, proxy, {}) as hub:
        status, answer = hub.api("POST", "/users/bob")
        assert status == 201, answer
        status, answer = hub.api("POST", "/users/bob/server", {"image": "docker.io/evil:1"})
        assert status == 400 and "E633" in answer, answer
        status, answer = hub.api("POST", "/users/bob/server", {"cmd": "false", "environment": {"A": "b"}})
        assert status in (201, 202), answer
        until(lambda: hub.api("GET", "/users/bob")[1]["servers"].get("", {}).get("ready"), 300, hub.said)
        code = "import os, uproot; print('uproot', uproot.__version__)"
        code += "; print(os.environ['APPTAINER_NAME'], os.getcwd())"
        said = run_in_kernel(hub, "bob", code)
        assert said.startswith(PRINTED[0]) and "hub.sif" in said and str(tmp_path / "homes" / "bob") in said
        assert hub.api("DELETE", "/users/bob/server")[0] in (202, 204)
        until(lambda: not hub.api("GET", "/users/bob")[1]["servers"], why=hub.said)


BATCH_HUB = """
load_subconfig({operators!r})
c.JupyterHub.hub_ip = "127.0.0.1"
c.Spawner.args = ["--allow-root"]  # who can start slurmd is root
c.Spawner.environment = {{"SLURM_CONF": {slurm!r}}}
c.SlurmSpawner.exec_prefix = ""  # not sudo: the one user of this test is root
c.SlurmSpawner.req_options = "--output={home}/job.log"
c.SlurmSpawner.req_memory = "500M"
c.SlurmSpawner.state_exechost_exp = "127.0.0.1"  # the one node
"""


def test_batchspawner_starts_the_server_as_a_job_of_slurm(
    world: World, proxy: tuple[str, str], sif: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    operators = operators_folder(world, tmp_path, "batch")
    config = operators / "jupyterhub_config.py"
    text = config.read_text()
    assert text.count("    binds=[],") == 1
    config.write_text(text.replace("    binds=[],", f"    place=lambda image: {str(sif)!r},\n    binds=[],"))
    with running_slurm(tmp_path / "slurm") as slurm:
        configuration = BATCH_HUB.format(operators=str(config), slurm=slurm["SLURM_CONF"], home=str(home))
        variables = {"AFENV_CATALOGUE": world.catalogue, "HUB_CONNECT_IP": "127.0.0.1", **slurm}
        with running_hub(tmp_path / "hub", configuration, proxy, variables) as hub:

            def queue() -> str:
                words = ["squeue", "-h", "-o", "%j %T %m"]
                return subprocess.run(words, env=slurm, capture_output=True, text=True, check=True).stdout

            assert hub.api("POST", "/users/root")[0] in (201, 409)
            evil = {"homedir": "/", "prologue": f"touch {tmp_path}/evil"}  # batchspawner would take them
            status, answer = hub.api("POST", "/users/root/server", evil)
            assert status in (201, 202), answer
            until(lambda: hub.api("GET", "/users/root")[1]["servers"].get("", {}).get("ready"), 300, hub.said)
            assert queue().split() == ["spawner-jupyterhub", "RUNNING", "500M"]
            code = "import os, uproot; print('uproot', uproot.__version__)"
            code += "; print(os.environ['APPTAINER_NAME'], os.getcwd())"
            said = run_in_kernel(hub, "root", code)
            assert said.startswith(PRINTED[0]) and said.split()[2:] == ["hub.sif", str(Path.home())], said
            assert (home / "job.log").exists(), "the job writes what it says where the operator wants it"
            assert not (tmp_path / "evil").exists()
            assert hub.api("DELETE", "/users/root/server")[0] in (202, 204)
            until(lambda: not hub.api("GET", "/users/root")[1]["servers"], why=hub.said)
            until(lambda: not queue(), why=queue)


def test_a_hub_starts_without_its_catalogue_and_says_what_is_wrong(
    world: World, proxy: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "homes").mkdir()
    configuration = APPTAINER_HUB.format(
        catalogue="127.0.0.1:9/group/catalogue",
        trust=str(world.trust),
        facility=str(world.facility),
        homes=str(tmp_path / "homes"),
        sif="/none.sif",
    )
    with running_hub(tmp_path / "hub", configuration, proxy, {}) as hub:
        assert hub.api("POST", "/users/carol")[0] == 201
        status, answer = hub.api("POST", "/users/carol/server")
        assert status == 503 and "E630" in answer and "the catalogue cannot be had" in answer, answer
        assert "no image can be offered" in hub.said()
