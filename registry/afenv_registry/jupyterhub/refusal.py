"""Errors as a hub shows them to users: one sentence and what to do, instead of a failed server."""

from __future__ import annotations

from typing import Any

from afenv.errors import AfenvError, catalogue

STATUS = {"E630": 503, "E631": 400, "E633": 400}


def refusal(error: AfenvError) -> Any:
    """The error as the exception that JupyterHub shows (``tornado.web.HTTPError``); raise it."""
    from tornado.web import HTTPError

    problem = error.problems[0]
    remedy = problem.remedy if problem.remedy is not None else catalogue()[problem.code].remedy
    text = f"{problem.message[0].upper()}{problem.message[1:]}. {remedy} [{problem.code}]"
    found: Any = HTTPError(STATUS.get(problem.code, 500), text)
    found.jupyterhub_message = text  # JupyterHub, "pre_spawn_hook" and errors of spawners
    return found
