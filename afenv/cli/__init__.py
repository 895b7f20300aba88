"""The command line: it parses, calls one function of :mod:`afenv.workflow`, and prints.

Errors become one sentence each and the exit status of their code; with ``--json`` they are one JSON
object on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afenv.errors import Problem

INTERRUPTED = 130
SHOWN = 10  # problems of one code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if arguments is not None:
        return _main(arguments)
    import gc
    import io

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be Unicode
    # jsonschema takes 2 s to import it where it is installed, as JupyterLab has it, for a check not used here
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    gc.set_threshold(100_000)  # looking for cycles takes a tenth of a short run, and there are hardly any
    try:
        return _main(sys.argv[1:])
    finally:
        gc.freeze()  # nor is there a reason to look for them at the end


def _main(arguments: Sequence[str]) -> int:
    from afenv.cli.parser import build_parser

    options = build_parser(_command(arguments)).parse_args(arguments)
    if options.command is None:
        build_parser().print_help()
        return 0
    as_json = bool(getattr(options, "json", False))
    try:
        from importlib import import_module

        module = import_module(f"afenv.cli.command_{options.command}")
        status = int(module.run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        from afenv.errors import Problem

        _report((Problem("E901", "interrupted"),), as_json)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output went away (`afenv inspect … | head`): not an error of ours
        sys.stderr.close()
        return 0
    except Exception as error:
        from afenv.errors import AfenvError

        if isinstance(error, AfenvError):
            _report(error.problems, as_json)
            return error.exit_status
        if options.debug:
            raise
        return _internal(error, as_json)
    return status


def _command(arguments: Sequence[str]) -> str | None:
    """The word that is the command, unless help on all of them is asked for."""
    words = iter(arguments)
    for word in words:
        if word == "-C":
            next(words, None)
        elif word in ("-h", "--help"):
            return None
        elif not word.startswith("-"):
            return word
    return None


def _internal(error: Exception, as_json: bool) -> int:
    import traceback

    from afenv.errors import AfenvError, Problem

    frame = traceback.extract_tb(error.__traceback__)[-1]
    problem = Problem(
        "E900",
        f"{type(error).__name__}: {error}",
        place=f"{frame.filename}:{frame.lineno}",
        remedy="This is a defect of afenv. Run again with --debug and report what it prints.",
    )
    if isinstance(error, OSError):
        from pathlib import Path

        from afenv.store.content import write_error

        problem = write_error(error, Path(str(error.filename or ""))).problems[0]
    _report((problem,), as_json)
    return AfenvError.many((problem,)).exit_status


def _report(problems: Sequence[Problem], as_json: bool) -> None:
    if as_json:
        from afenv import canonical

        text = canonical.shown({"errors": [problem.as_json() for problem in problems]}, on_one_line=True)
    else:
        text = "\n".join(_lines(problems))
    print(text, file=sys.stderr)


def _lines(problems: Sequence[Problem]) -> Iterator[str]:
    """The problems for people; of many of one kind, such as each download without a network, the first.

    What is to be done about several in a row is said once, after the last.
    """
    counts: dict[str, int] = {}
    shown: list[Problem] = []
    for problem in problems:
        counts[problem.code] = counts.get(problem.code, 0) + 1
        if counts[problem.code] <= SHOWN:
            shown.append(problem)
    for problem, following in zip(shown, (*shown[1:], None), strict=True):
        yield problem.render(advised=following is None or following.advice != problem.advice)
    for code, count in counts.items():
        if count > SHOWN:
            yield f"and {count - SHOWN} more of {code}"
