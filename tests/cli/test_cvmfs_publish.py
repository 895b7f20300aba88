"""``afenv cvmfs publish``, ``list``, ``remove`` and ``gc`` as a user calls them."""

from __future__ import annotations

import json

import pytest

from afenv.cli import main
from afenv.oci.layout import write_layout
from afenv.oci.publishing import repository_target
from afenv.testing import make_image

NAME = "registry.example.org/group/analysis:1.0"


@pytest.fixture
def image(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_image(store)
    write_layout(found, store, tmp_path / "image.oci")
    return found


def test_the_life_of_an_image(image, tmp_path, capsys):
    to = ["--to", "out"]
    assert main(["cvmfs", "publish", "image.oci", NAME, *to]) == 0
    said = capsys.readouterr()
    assert said.out == f"{image.image_id}\n"
    assert f"published as out/{NAME}: 2 new layers, 0 shared" in said.err
    assert main(["cvmfs", "publish", "image.oci", NAME, *to]) == 0
    assert "nothing had to be done" in capsys.readouterr().err
    assert main(["cvmfs", "list", *to]) == 0
    assert capsys.readouterr().out == f"{image.image_id}  {NAME}\n"
    assert main(["cvmfs", "list", *to, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["layers"] == [layer.digest for layer in image.layers]
    assert main(["diff", "image.oci", f"out/{NAME}"]) == 0
    assert "no difference; tree sha256:" in capsys.readouterr().out
    assert main(["inspect", f"out/{NAME}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_id"] == image.image_id
    assert main(["cvmfs", "remove", NAME, *to]) == 0
    assert main(["cvmfs", "gc", *to, "--json"]) == 0
    out = capsys.readouterr().out
    assert len(json.loads(out[out.index("{") :])["removed"]) == 3
    assert list((tmp_path / "out").iterdir()) == []
    assert main(["cvmfs", "gc", *to]) == 0
    assert "nothing had to be removed" in capsys.readouterr().err


def test_a_wish_list(image, tmp_path, capsys):
    words = ["cvmfs", "publish", "image.oci", NAME, "--wish-list", "w.yaml", "--repository", "a.example.org"]
    assert main([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["method"], done["place"], done["changed"]) == ("wishes", "w.yaml", True)
    assert image.manifest_digest in (tmp_path / "w.yaml").read_text()
    assert main(words) == 0
    assert "nothing had to be done" in capsys.readouterr().err


def test_a_repository_is_below_cvmfs():
    target = repository_target("unpacked.example.org")
    assert (str(target.place), target.method) == ("/cvmfs/unpacked.example.org", "ingest")


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["publish", "image.oci", NAME], "E030", 2),
        (["publish", "image.oci", NAME, "--to", "out", "--repository", "a.b"], "E030", 2),
        (["publish", "image.oci", NAME, "--wish-list", "w.yaml"], "E030", 2),
        (["publish", "image.oci", "analysis", "--to", "out"], "E530", 2),
        (["publish", "image.oci", NAME, "--repository", "$(id)"], "E530", 2),
        (["publish", "image.oci", NAME, "--repository", "absent.afenv.invalid"], "E535", 3),
        (["publish", "absent.oci", NAME, "--to", "out"], "E001", 2),
        (["list", "--to", "absent"], "E001", 2),
        (["remove", NAME, "--to", "image.oci"], "E536", 2),
    ],
)
def test_errors_are_one_sentence(image, capsys, arguments, code, status):
    assert main(["cvmfs", *arguments]) == status
    said = capsys.readouterr().err
    assert f"error {code}: " in said
    assert len(said.splitlines()) == 2
