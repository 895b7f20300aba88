"""Errors: one class, one catalogue.

Every error that a user can meet has a code. The catalogue, ``specs/errors.toml``, gives each code
its meaning, what to do next, and the exit status; the code that raises adds the particulars. The
catalogue is read only when an error is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from afenv.specs import specs_folder


class CatalogueEntry(NamedTuple):
    """What ``specs/errors.toml`` says of a code."""

    code: str
    name: str
    meaning: str
    remedy: str
    exit_status: int


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """The error catalogue, by code."""
    import tomllib

    with (specs_folder() / "errors.toml").open("rb") as file:
        table = tomllib.load(file)
    return {
        code: CatalogueEntry(
            code=code,
            name=entry["name"],
            meaning=entry["meaning"],
            remedy=entry["remedy"],
            exit_status=entry["exit"],
        )
        for code, entry in table.items()
    }


class Problem(NamedTuple):
    """One thing that is wrong: what, where, and what to do next.

    ``place`` is ``file:line:column``, a file, a URL or another position that a person can go to;
    ``path`` is the path in the document, such as ``environments.default.base.debian``.
    """

    code: str
    message: str
    place: str | None = None
    path: str | None = None
    remedy: str | None = None

    @property
    def advice(self) -> str:
        """What to do next: the problem's own remedy, else that of its code."""
        return self.remedy if self.remedy is not None else catalogue()[self.code].remedy

    def as_json(self) -> dict[str, str | None]:
        """The problem as the ``--json`` output shows it."""
        return {
            "code": self.code,
            "message": self.message,
            "place": self.place,
            "path": self.path,
            "remedy": self.advice,
        }

    def render(self, *, advised: bool = True) -> str:
        """The problem as a person reads it: place, code, sentence; then, if ``advised``, the remedy on its
        own line.
        """
        where = f"{self.place}: " if self.place else ""
        inside = f" (at {self.path})" if self.path else ""
        first = f"{where}error {self.code}: {self.message}{inside}"
        return f"{first}\n  {self.advice}" if advised and self.advice else first


class AfenvError(Exception):
    """An error that is shown to the user, with everything that is wrong at once.

    Raise it with one code and message, or build it from several problems with :meth:`many`. The exit
    status is that of the first problem's code.
    """

    problems: tuple[Problem, ...]

    def __init__(
        self,
        code: str,
        message: str,
        *,
        place: str | None = None,
        path: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(code, message)
        self.problems = (Problem(code, message, place, path, remedy),)

    @classmethod
    def many(cls, problems: Sequence[Problem]) -> AfenvError:
        """One error out of several problems; there must be at least one."""
        error = cls(problems[0].code, problems[0].message)
        error.problems = tuple(problems)
        return error

    def __reduce__(self) -> Any:  # crosses process borders with all its problems
        return (AfenvError.many, (self.problems,))

    @property
    def code(self) -> str:
        """The code of the first problem."""
        return self.problems[0].code

    @property
    def exit_status(self) -> int:
        """The exit status that the command line gives for this error."""
        return catalogue()[self.code].exit_status

    def __str__(self) -> str:
        return "\n".join(problem.render() for problem in self.problems)
