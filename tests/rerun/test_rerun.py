"""A run from beginning to end, with the real scheduler and an engine that runs commands on the host."""

from __future__ import annotations

import _thread
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.rerun.launcher import described
from afenv.rerun.record import read_record
from afenv.rerun.run import step_images
from afenv.run.request import RunRequest

from .conftest import Analysis


def test_what_is_out_of_date_runs_and_nothing_else(analysis: Analysis) -> None:
    record = analysis.run()
    assert analysis.ran() == ["generate", "select", "count"]
    assert analysis.output("n.txt").split() == ["5"]
    assert analysis.output("plots/deep/one") == "plot\n"
    assert record["status"] == "complete"
    assert not list(analysis.run_folder.path.glob("work/*"))
    assert not list(analysis.run_folder.path.glob("outputs/**/.snakemake*"))

    text = (analysis.run_folder.path / "Snakefile").read_text()  # for people to read
    assert "rule step_select:" in text
    assert '        "outputs/gen/numbers.txt",' in text
    assert "    # seq 1 5 > gen/numbers.txt" in text
    assert analysis.images["other"].image_id in text

    # nothing has changed, though a file has another time
    os.utime(analysis.place / "events.txt")
    assert analysis.plan().stale == ()
    again = analysis.run()
    assert {**again, "started": 0, "ended": 0} == {**record, "started": 0, "ended": 0}

    # an output that goes away, or is not what was written
    (analysis.run_folder.path / "outputs/kept.txt").write_text("other\n")
    plan = analysis.plan()
    assert plan.verdicts["select"].reason == "the output kept was changed"
    assert plan.verdicts["count"].reason == "select runs again"
    analysis.run()
    assert analysis.ran() == ["select", "(count)"]  # select has written the same again
    assert analysis.output("n.txt").split() == ["5"]

    # a parameter, a command, an image, and data
    assert analysis.plan(params=("n=9",)).verdicts["generate"].reason == "n has another value"
    analysis.run(params=("generate.n=4",))
    assert analysis.ran() == ["generate", "select", "count"]
    analysis.text = analysis.text.replace("wc -l <", "wc -c <")
    assert analysis.plan(params=("n=4",)).verdicts["count"].reason == "its command has changed"
    analysis.run(params=("n=4",))
    assert analysis.ran() == ["count"]
    (analysis.place / "events.txt").write_text("other\nevents\n")
    assert analysis.plan(params=("n=4",)).verdicts["select"].reason == "the input events is another one"
    analysis.run(params=("n=4",))
    assert analysis.ran() == ["select", "count"]
    assert analysis.output("kept.txt") == "1\n2\n4\nother\nevents\n"
    analysis.images["default"] = analysis.images["other"]
    assert analysis.plan(params=("n=4",)).verdicts["generate"].reason == "its image is another one"
    assert analysis.plan(params=("n=3",)).verdicts["generate"].reason == "its image is another one"


def test_some_steps_and_what_they_need(analysis: Analysis) -> None:
    record = analysis.run("select")
    assert [step["name"] for step in record["steps"]] == ["generate", "select"]
    record = analysis.run()
    assert analysis.ran() == ["count"]
    record = analysis.run("generate")
    assert [step["name"] for step in record["steps"]] == ["generate", "select", "count"]


FAILING = """
afenv: 1
name: failing
environments: {default: {base: {debian: bookworm}}}
steps:
  - {name: first, run: "echo 1 > {outputs.o}", outputs: {o: first.txt}}
  - name: second
    run: |
      echo half > {outputs.o}
      echo some words; echo "the last words" >&2
      COMMAND
    inputs: [first.o]
    outputs: {o: second.txt}
    resources: {time: 2s}
  - {name: third, run: "cat {inputs.second.o} > {outputs.o}", inputs: [second.o], outputs: {o: third.txt}}
"""


def test_a_step_that_fails_and_the_run_that_goes_on_from_there(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "false\n      true")
    with pytest.raises(AfenvError) as caught:
        analysis.run()
    problem = caught.value.problems[0]
    assert (caught.value.code, caught.value.exit_status) == ("E752", 1)
    assert "the step second ended with status 1" in problem.message
    assert "some words\n    the last words" in problem.message
    assert problem.place == str(analysis.run_folder.log("second"))
    assert not (analysis.run_folder.path / "outputs/second.txt").exists()
    record = read_record(analysis.run_folder.path)
    assert record["status"] == "incomplete"
    assert [step["status"] for step in record["steps"]] == ["done", "failed", "not-run"]
    assert analysis.plan().verdicts["second"].reason == "it did not end well the last time"
    analysis.text = FAILING.replace("COMMAND", "true")
    analysis.run()
    assert analysis.ran() == ["second", "third"]
    assert analysis.output("third.txt") == "half\n"


def test_an_output_that_is_left_out(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "rm {outputs.o}")
    with pytest.raises(AfenvError, match=r"ended well and did not write o \(second\.txt\)") as caught:
        analysis.run()
    assert caught.value.code == "E753"
    assert not (analysis.run_folder.path / "outputs/third.txt").exists()


def test_a_step_that_takes_too_long(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "sleep 60")
    started = time.monotonic()
    with pytest.raises(AfenvError, match="ended after 2 s, its longest time") as caught:
        analysis.run()
    assert caught.value.code == "E756"
    assert time.monotonic() - started < 40


def test_several_that_fail_are_all_named(analysis: Analysis) -> None:
    steps = "".join(f"  - {{name: s{n}, run: 'sleep 1; exit {n}'}}\n" for n in (3, 4))
    analysis.text = (
        f"afenv: 1\nname: f\nenvironments: {{default: {{base: {{debian: bookworm}}}}}}\nsteps:\n{steps}"
    )
    with pytest.raises(AfenvError) as caught:
        analysis.run()
    assert sorted(re.findall("status [0-9]", str(caught.value))) == ["status 3", "status 4"]


PARALLEL = """
afenv: 1
name: parallel
environments: {default: {base: {debian: bookworm}}}
steps:
"""
WAITING = """
  - name: NAME
    parameters: {other: {type: string, default: OTHER}}
    run: |
      touch here
      for i in $(seq 300); do
          if [ -e ../../{parameters.other}/here/here ]; then sleep 1; exit 0; fi
          sleep 0.1
      done
      exit 1
"""


def test_steps_run_in_parallel(analysis: Analysis) -> None:
    one, two = (WAITING.replace("NAME", a).replace("OTHER", b) for a, b in ("xy", "yx"))
    analysis.text = PARALLEL + one + two
    assert analysis.run()["status"] == "complete"


def test_two_reruns_in_one_folder(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afenv.rerun.places.PATIENCE", 0.2)
    analysis.run_folder.make()
    with analysis.run_folder.held():
        with pytest.raises(AfenvError, match="another rerun works in this folder") as caught:
            analysis.run()
        assert caught.value.code == "E754"
    analysis.run()


def test_steps_run_in_no_virtual_machine(analysis: Analysis) -> None:
    request = RunRequest(command=(), workdir=analysis.place, uid=0, gid=0)
    with pytest.raises(AfenvError, match="virtual machines") as caught:
        step_images({}, analysis.store, request, runtime="qemu")
    assert caught.value.code == "E030"


def test_a_folder_that_holds_something_else(analysis: Analysis) -> None:
    analysis.run_folder.path.mkdir()
    (analysis.run_folder.path / "thesis.tex").touch()
    with pytest.raises(AfenvError) as caught:
        analysis.run()
    assert caught.value.code == "E755"
    assert [path.name for path in analysis.run_folder.path.iterdir()] == ["thesis.tex"]
    shutil.rmtree(analysis.run_folder.path)
    analysis.run_folder.path.touch()
    with pytest.raises(AfenvError, match="no folder") as caught:
        analysis.run()
    assert caught.value.code == "E755"


def test_what_the_machine_does_not_have() -> None:
    from afenv.documents.steps import Resources, Step
    from afenv.rerun.run import check_resources
    from afenv.steps.graph import StepGraph

    graph = StepGraph([Step(name="big", run="x", resources=Resources(cores=3, memory=1 << 60))])
    with pytest.raises(AfenvError) as caught:
        check_resources(graph, ["big"], 2)
    assert [problem.code for problem in caught.value.problems] == ["E759", "E759"]
    check_resources(graph, [], 2)


def test_without_snakemake(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AfenvError, match="not installed") as caught:
        analysis.run()
    assert (caught.value.code, caught.value.exit_status) == ("E757", 3)
    assert "afenv[rerun]" in str(caught.value)


def test_the_digest_of_a_folder_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "f/a").mkdir(parents=True)
    (tmp_path / "f/a/z").write_text("z")
    (tmp_path / "f/b").write_text("b")
    lines = subprocess.run(
        ["/bin/sh", "-c", "sha256sum a/z b | sha256sum"],
        cwd=tmp_path / "f",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = described(str(tmp_path / "f"))
    assert found["sha256"] == lines.split()[0]
    assert (found["size"], found["files"]) == (2, 2)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever adopted it to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_ends_the_steps_and_leaves_nothing(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "echo $$ > ../pid; sleep 60").replace("2s", "2h")
    pid_file = analysis.run_folder.path / "work/second/pid"

    def interrupt() -> None:
        for _ in range(600):
            if pid_file.exists() and pid_file.read_text().strip():
                break
            time.sleep(0.05)

        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        analysis.run()
    thread.join()
    pid = int(pid_file.read_text())
    assert not _lives(pid)
    record = read_record(analysis.run_folder.path)
    assert [step["status"] for step in record["steps"]] == ["done", "interrupted", "not-run"]
    assert not (analysis.run_folder.path / "outputs/second.txt").exists()
    analysis.text = FAILING.replace("COMMAND", "true")
    analysis.run()
    assert analysis.ran() == ["second", "third"]


def test_what_a_killed_rerun_leaves_ends_and_the_next_one_goes_on(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "echo $$ > ../pid; sleep 60").replace("2s", "2h")
    pid_file = analysis.run_folder.path / "work/second/pid"
    child = os.fork()
    if child == 0:
        try:
            analysis.run()
        finally:
            os._exit(0)
    for _ in range(600):
        if pid_file.exists() and pid_file.read_text().strip():
            break
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pid = int(pid_file.read_text())
    for _ in range(200):
        if not _lives(pid):
            break
        time.sleep(0.1)
    assert not _lives(pid)
    analysis.text = FAILING.replace("COMMAND", "true")
    analysis.run()
    assert analysis.ran() == ["second", "third"]
    assert analysis.output("third.txt") == "half\n"


def test_a_launcher_that_is_killed(analysis: Analysis) -> None:
    analysis.text = FAILING.replace("COMMAND", "kill -9 $PPID $(ps -o ppid= -p $PPID); sleep 1").replace(
        "2s", "2h"
    )
    with pytest.raises(AfenvError):
        analysis.run()
    assert not (analysis.run_folder.path / "outputs/second.txt").exists()
    analysis.text = FAILING.replace("COMMAND", "true")
    analysis.run()
    assert analysis.ran() == ["second", "third"]


def test_prmon_measures_where_it_is(tmp_path: Path) -> None:
    from afenv.rerun.launcher import _accounting

    class Usage:
        ru_utime, ru_stime, ru_maxrss = 1.0, 0.5, 100

    assert _accounting(str(tmp_path), Usage, 0, str(tmp_path / "none")) == (
        {"user": 1.0, "system": 0.5},
        {"peak": 102400, "source": "rusage"},
    )
    assert _accounting(str(tmp_path), Usage, 1 << 20, "none")[1] == {"peak": 1 << 20, "source": "sampled"}
    (tmp_path / ".afenv-usage").write_text("0m0.0s 0m0.0s\n1m2.5s 0m0.25s\n4096\n")
    assert _accounting(str(tmp_path), Usage, 0, str(tmp_path / "none")) == (
        {"user": 62.5, "system": 0.25},
        {"peak": 4096, "source": "cgroup"},
    )
    summary = {"Avg": {}, "Max": {"utime": 7, "stime": 2, "pss": 3, "rss": 9, "wtime": 10}}
    (tmp_path / "prmon.json").write_text(json.dumps(summary))
    assert _accounting(str(tmp_path), Usage, 0, str(tmp_path / "prmon.json")) == (
        {"user": 7.0, "system": 2.0},
        {"peak": 3072, "source": "prmon"},
    )


def test_the_launcher_needs_no_packages() -> None:
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); print(len(sys.modules), 'afenv' in sys.modules)"
    )
    launcher = sys.modules["afenv.rerun.launcher"].__file__ or ""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, launcher], capture_output=True, text=True, check=True
    )
    modules, afenv = done.stdout.split()
    assert int(modules) < 100
    assert afenv == "False"
