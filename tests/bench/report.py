"""The report: lines as they come, and JSON at the end."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import Outcome


class Report:
    """Prints each result, and remembers it. A target that is missed is marked, and changes no exit status."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {
            "machine": {
                "processors": len(os.sched_getaffinity(0)),
                "kernel": platform.release(),
                "python": platform.python_version(),
                "load": os.getloadavg()[0],
            },
            "cases": {},
            "figures": {},
        }

    def title(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def outcome(self, outcome: Outcome, targets: Mapping[str, float]) -> None:
        """One line per contender: median and range of the wall time, CPU, and the ratio to ours."""
        for name in outcome.samples:
            low, high = outcome.spread(name)
            line = f"  {name:<30} {outcome.median(name):8.2f} s  ({low:.2f}–{high:.2f})"
            if name == outcome.ours:
                line += f"  {outcome.cpu(name):.2f} CPU s"
            else:
                ratio, least, most = outcome.ratio(name)
                line += f"  {ratio:5.1f}×  ({least:.1f}–{most:.1f})"
            if name in targets:
                line += self._verdict(outcome.ratio(name)[0] >= targets[name], f"at least {targets[name]:g}×")
            print(line, flush=True)
        self.results["cases"][outcome.case] = outcome.as_json()

    def figure(self, name: str, value: float, unit: str, *, most: float | None = None) -> None:
        """One number, and the most that it should be."""
        line = f"  {name:<46} {value:10.2f} {unit}"
        if most is not None:
            line += self._verdict(value <= most, f"at most {most:.3g} {unit}".rstrip())
        print(line, flush=True)
        self.results["figures"][name] = {"value": round(value, 4), "unit": unit, "most": most}

    @staticmethod
    def _verdict(reached: bool, target: str) -> str:
        return f"   {'reached' if reached else 'MISSED'}: {target}"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.results, indent=2, ensure_ascii=False) + "\n")
