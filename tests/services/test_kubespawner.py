"""KubeSpawner takes what the offering makes: its own traitlets, its form, its validation, and its pod."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afenv.attest.keys import generate_key, load_private
from afenv.catalogue.file import make_catalogue
from afenv.catalogue.signed import sign_catalogue
from afenv.documents.facility_file import dump_facility
from afenv_registry.jupyterhub import CatalogueSource, Offering, check_profile, profile_list, unlisted
from tests.registry.jupyterhub.conftest import FACILITY, gpu_need, image
from tests.services.conftest import missing
from tests.services.jupyterhub_parts import DEPLOY

pytestmark = pytest.mark.services

A = "nvidia-a100-sxm4-40gb"
RULE = unlisted(["registry.example.org/users/*"])
ALLOWED = "registry.example.org/users/alice/x@sha256:" + "b" * 64
RECORDS = (
    image("plain", number=3, title="<script>alert(1)</script> {{ 7*7 }}"),
    image("needs", number=2, gpu=gpu_need()),
    image("both", number=1, gpu=gpu_need(optional=True)),
)


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no cluster: KubeSpawner has no client of its API, which nothing here needs."""
    if importlib.util.find_spec("kubespawner") is None:
        missing("jupyterhub-kubespawner")
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **more: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda *words, **more: None)


def offering(folder: Path, *records: Any, **more: Any) -> Offering:
    data = make_catalogue("test", records).data
    source = CatalogueSource(lambda: data, "test", folder / "kept")
    source.wait()
    return Offering(source, FACILITY, hub_version="6.1.1", **more)


def configured(made: Offering, **options: Any) -> Any:
    """A KubeSpawner with the offering's configuration, for a user who chose something."""
    from kubespawner import KubeSpawner
    from traitlets.config import Config

    config = Config()
    config.KubeSpawner.profile_list = profile_list(made)
    config.KubeSpawner.pre_spawn_hook = check_profile(made)
    config.KubeSpawner.image = "registry.example.org/never/default:1"
    spawner = KubeSpawner(_mock=True, config=config)
    spawner.user = SimpleNamespace(
        name="alice", groups=[], id=1, url="/user/alice/", settings={}, spawners={}, escaped_name="alice"
    )
    spawner.user_options = options
    return spawner


async def pod(spawner: Any) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Image, resources and node selector of the pod that KubeSpawner would ask Kubernetes for."""
    await spawner.run_pre_spawn_hook()
    await spawner.load_user_options()
    spawner.get_env = dict
    made = (await spawner.get_pod_manifest()).to_dict()
    (container,) = made["spec"]["containers"]
    return container["image"], container["resources"], made["spec"]["node_selector"] or {}


def options_of(spawner: Any, form: dict[str, str]) -> dict[str, str]:
    """What KubeSpawner makes of a form."""
    found: dict[str, str] = spawner.options_from_form({key: [value] for key, value in form.items()})
    return found


def test_the_form(tmp_path: Path) -> None:
    spawner = configured(offering(tmp_path, *RECORDS, unlisted=RULE))
    form = asyncio.run(spawner.get_options_form())
    for text in ('value="cpu"', f'value="cpu-{A}"', f'value="{A}"', 'value="another-image"', 'pattern="^(?:'):
        assert text in form
    assert "<script>alert" not in form and "{{" not in form.partition("<script>")[0]


def test_image_and_hardware_are_chosen_apart(tmp_path: Path) -> None:
    made = offering(tmp_path, *RECORDS)
    spawner = configured(made)
    key = next(one.key for one in made.all_offers().offered if one.image.name == "both")
    profile = f"cpu-{A}"
    prefix = f"profile-option-{profile}--"
    form = {"profile": profile, prefix + "image": key, prefix + "hardware": A, "cmd": "rm", "image": "evil"}
    spawner.user_options = options_of(spawner, form)
    assert spawner.user_options == {"profile": profile, "image": key, "hardware": A}
    found, resources, selector = asyncio.run(pod(spawner))
    assert found == f"registry.example.org/group/both@sha256:{1:064x}"
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert selector == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}

    plain = configured(made, profile=profile, image=key, hardware="cpu")
    found, resources, selector = asyncio.run(pod(plain))
    assert found.endswith(f"/both@sha256:{1:064x}")
    assert "nvidia.com/gpu" not in (resources["limits"] or {}) and selector == {}


def test_without_options_the_first_image_starts_on_the_first_hardware(tmp_path: Path) -> None:
    found, resources, _ = asyncio.run(pod(configured(offering(tmp_path, *RECORDS))))
    assert found == f"registry.example.org/group/plain@sha256:{3:064x}"
    assert "nvidia.com/gpu" not in (resources["limits"] or {})


def test_an_image_that_is_not_listed_by_rule(tmp_path: Path) -> None:
    made = offering(tmp_path, *RECORDS, unlisted=RULE)
    spawner = configured(made, **{"profile": "another-image", "image--unlisted-choice": ALLOWED})
    assert asyncio.run(pod(spawner))[0] == ALLOWED


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"profile": "another-image", "image--unlisted-choice": "docker.io/library/evil:1"}, 400, "E631"),
        ({"profile": "another-image", "image--unlisted-choice": ALLOWED + "\n"}, 400, "E631"),
        ({"profile": "another-image", "image--unlisted-choice": ["x"]}, 400, "E631"),
        ({"profile": "another-image"}, 400, "E633"),
        ({"profile": "cpu", "hardware": A}, 400, "E633"),
        ({"profile": "cpu", "image--unlisted-choice": ALLOWED}, 400, "E633"),
        ({"profile": "nothing"}, 400, "E633"),
    ],
)
def test_what_no_form_offers_is_refused_in_words(
    tmp_path: Path, options: dict[str, Any], status: int, code: str
) -> None:
    from tornado.web import HTTPError

    spawner = configured(offering(tmp_path, *RECORDS, unlisted=RULE), **options)
    with pytest.raises(HTTPError) as raised:
        asyncio.run(pod(spawner))
    assert raised.value.status_code == status
    assert code in raised.value.jupyterhub_message and "\n" not in raised.value.jupyterhub_message

    # without the hook KubeSpawner itself does not start it either
    async def alone() -> None:
        await spawner.load_user_options()

    with pytest.raises((HTTPError, ValueError, KeyError, TypeError)):
        asyncio.run(alone())


def test_no_image_fits(tmp_path: Path) -> None:
    from tornado.web import HTTPError

    spawner = configured(offering(tmp_path, image("old", hub="5.2.1")))
    assert "jupyterhub 5.2.1" in asyncio.run(spawner.get_options_form())
    with pytest.raises(HTTPError) as raised:
        asyncio.run(pod(spawner))
    assert raised.value.status_code == 503 and "E630" in raised.value.jupyterhub_message
    assert spawner.image == "registry.example.org/never/default:1"


def test_the_values_for_zero_to_jupyterhub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python in the operators' values makes a configuration, which KubeSpawner accepts."""
    from kubespawner import KubeSpawner
    from ruamel.yaml import YAML
    from traitlets.config import Config

    values = YAML(typ="safe").load(DEPLOY / "kubernetes" / "values.yaml")
    private, public = generate_key()
    key = load_private(private)
    (tmp_path / "catalogue.pub").write_bytes(public)
    (tmp_path / "facility.yaml").write_text(dump_facility(FACILITY))
    (tmp_path / "catalogue.zst").write_bytes(sign_catalogue(make_catalogue("test", RECORDS), key).data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFENV_HUB_FOLDER", str(tmp_path))
    monkeypatch.setenv("AFENV_CATALOGUE", str(tmp_path / "catalogue.zst"))
    config = Config()
    for text in values["hub"]["extraConfig"].values():
        exec(compile(text, "values.yaml", "exec"), {"c": config})
    spawner = KubeSpawner(_mock=True, config=config)
    spawner.user = SimpleNamespace(name="alice", groups=[])
    profiles = asyncio.run(spawner.profile_list(spawner))
    assert [one["slug"] for one in profiles] == ["cpu", "another-image"]  # the GPU is for a group
    assert values["prePuller"]["hook"]["enabled"] is False


@pytest.mark.parametrize(
    ("kind", "name"), [("docker", "dockerspawner.DockerSpawner"), ("batch", "batchspawner.SlurmSpawner")]
)
def test_the_configurations_of_operators_load(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from traitlets.config import PyFileConfigLoader
    from traitlets.utils.importstring import import_item

    private, public = generate_key()
    (tmp_path / "catalogue.pub").write_bytes(public)
    (tmp_path / "facility.yaml").write_text(dump_facility(FACILITY))
    signed = sign_catalogue(make_catalogue("test", RECORDS), load_private(private))
    (tmp_path / "catalogue.zst").write_bytes(signed.data)
    (tmp_path / "jupyterhub_config.py").write_bytes((DEPLOY / kind / "jupyterhub_config.py").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFENV_CATALOGUE", str(tmp_path / "catalogue.zst"))
    config = PyFileConfigLoader("jupyterhub_config.py", str(tmp_path)).load_config()
    assert config.JupyterHub.spawner_class == name
    spawner = import_item(name)(config=config)
    spawner.user = SimpleNamespace(name="alice", groups=[])
    form = asyncio.run(spawner.options_form(spawner))
    assert 'value="both 1.0"' in form and "<script>" not in form
