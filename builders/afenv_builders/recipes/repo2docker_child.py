"""The process in which repo2docker works: ``python -m afenv_builders.recipes.repo2docker_child TASK``."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def main(text: str) -> int:
    """Build one repository; ``text`` is the task in JSON. What repo2docker says goes to the output."""
    from repo2docker.app import Repo2Docker

    task = json.loads(text)
    app = Repo2Docker()
    app.repo = task["folder"]
    app.output_image_spec = task["image"]
    app.user_name, app.user_id = task["user"], task["uid"]
    app.platform = task["platform"]
    app.labels = {}
    app.run = True  # has the image loaded into the engine; nothing is started
    base = os.environ.get("AFENV_REPO2DOCKER_BASE")
    if base:
        app.base_image = base
    app.initialize()
    try:
        app.build()
    except subprocess.CalledProcessError:
        return 1  # the engine has said why
    except Exception as error:  # noqa: BLE001  what a build pack raises is not known
        sys.stdout.flush()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
