"""Dockerfiles, built by the Docker engine at hand."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

CHUNK = 1 << 20


def engine() -> Any:
    """A client of the engine that ``DOCKER_HOST`` names, else of the one at the usual socket; E415."""
    try:
        import docker
    except ImportError:
        raise AfenvError("E415", "the Python package docker is not installed") from None
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except docker.errors.DockerException as error:
        raise AfenvError("E415", f"no Docker engine answers: {error}") from None
    return client


class DockerRecipes:
    """Builds a Dockerfile through the engine's own builder, or BuildKit where the file needs that."""

    def build(
        self, folder: Path, options: Mapping[str, Any], archive: Path, say: Callable[[str], None]
    ) -> str:
        """As :class:`afenv.oci.recipes.RecipeBuilder` has it."""
        client = engine()
        recipe, platform = str(options["file"]), str(options["platform"])
        try:
            image = _build(client, folder, recipe, platform, say)
            if image is None:
                say("The Dockerfile needs BuildKit: building again with it.")
                image = _build_with_buildkit(folder, recipe, platform, say)
            save(client, image, archive)
            return str(client.version()["Version"])
        finally:
            client.close()


def _build(client: Any, folder: Path, recipe: str, platform: str, say: Callable[[str], None]) -> str | None:
    """The ID of the image; None if the Dockerfile asks for what only BuildKit has."""
    import docker

    image = ""
    try:
        answers = client.api.build(
            path=str(folder), dockerfile=recipe, platform=platform, rm=True, forcerm=True, decode=True
        )
        for answer in answers:
            if "error" in answer:
                words = " ".join(str(answer["error"]).split())
                if "BuildKit" in words or "buildkit" in words:
                    return None
                raise AfenvError("E416", f"the Docker engine says: {words}")
            for line in str(answer.get("stream") or answer.get("status") or "").splitlines():
                if line.strip():
                    say(line.rstrip())
            image = (answer.get("aux") or {}).get("ID", image)
    except docker.errors.APIError as error:
        words = str(error.explanation or error)
        if "buildkit" in words.lower():
            return None
        raise AfenvError("E416", f"the Docker engine says: {words}") from None
    except (docker.errors.DockerException, OSError) as error:
        raise AfenvError("E415", f"the connection to the Docker engine broke: {error}") from None
    if not image:
        raise AfenvError("E416", "the Docker engine does not name the image that it built")
    return image


def _build_with_buildkit(folder: Path, recipe: str, platform: str, say: Callable[[str], None]) -> str:
    command = os.environ.get("AFENV_DOCKER", "docker")
    with tempfile.TemporaryDirectory(prefix="afenv-") as temporary:
        name = Path(temporary) / "image"
        words = [command, "build", "--progress=plain", "--platform", platform, "--iidfile", str(name)]
        words += ["--file", str(folder / recipe), str(folder)]
        status = run_command(words, {"DOCKER_BUILDKIT": "1"}, say)
        if status != 0 or not name.exists():
            raise AfenvError("E416", f"docker build ended with status {status}")
        return name.read_text().strip()


def run_command(words: list[str], variables: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Run a command whose output is passed on line by line, and return its exit status; E415."""
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise AfenvError("E415", f"{words[0]} cannot be started: {error.strerror}") from None
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip():
                    say(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def save(client: Any, image: str, archive: Path) -> None:
    """Write an image of the engine to an archive; E415, or E402 and its kin for the disk."""
    import docker

    from afenv.store.content import write_error

    try:
        pieces: Iterator[bytes] = client.api.get_image(image, chunk_size=CHUNK)
        with archive.open("wb") as file:
            for piece in pieces:
                try:
                    file.write(piece)
                except OSError as error:
                    raise write_error(error, archive) from error
    except docker.errors.DockerException as error:
        raise AfenvError("E415", f"the Docker engine does not give the image: {error}") from None
