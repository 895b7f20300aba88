"""Asking the process in which py-rattler runs; see :mod:`afenv.resolve.conda.child`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from afenv.errors import AfenvError
from afenv.resolve.conda.channels import without_secrets

ATTEMPTS = 2
_MODULE = "afenv.resolve.conda.child"


def child_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of the process: those that could change the answer are dropped."""
    return {name: value for name, value in base.items() if not name.startswith(("CONDA_", "MAMBA_", "PIXI_"))}


def ask(question: Mapping[str, Any], *, module: str = _MODULE) -> dict[str, Any]:
    """The answer to a question; E120 if the process ended without one, twice."""
    said = ""
    for _ in range(ATTEMPTS):
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-X", "utf8", "-m", module],
                input=json.dumps(question).encode(),
                capture_output=True,
                env=child_environment(os.environ),
                check=False,
            )
        except OSError as error:
            raise AfenvError("E120", f"cannot run {sys.executable}: {error.strerror}") from None
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            report = done.stderr.decode("utf-8", "replace").strip()
            last = report.splitlines()[-1] if report else "it said nothing"
            said = f"exit status {done.returncode}: {without_secrets(last)}"
            continue
        if isinstance(answer, dict):
            return answer
    raise AfenvError("E120", f"the conda solver ended without an answer ({said})")
