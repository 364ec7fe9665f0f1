"""A grid of stand-in cells and a driver of it, in this process or in one of its own."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from processes import hear_signals
from tiny import EXPERIMENTS

from segattn.base.runs import RESULT_SCHEMA
from segattn.grid import Cell, expand, run_grid
from segattn.training.train import claim

STAND_IN = Path(__file__).with_name("stand_in_train.py")
HEADS = ["fcn", "fla"]

_DRIVER = """
import sys
from pathlib import Path
from driven_grid import ablate_main
sys.exit(ablate_main(Path(sys.argv.pop(1)))())
"""


def ablate_main(folder: Path) -> Callable[[], int]:
    """main() of scripts/ablate.py without reports and on the stand-in, which writes no config."""
    main = runpy.run_path(str(EXPERIMENTS.parent / "scripts/ablate.py"))["main"]
    names = main.__globals__
    names["ROOT"], names["expand"] = folder, expand_and_claim
    names["write_reports"] = lambda cells: print("report of", len(cells), "cells")
    return main


def expand_and_claim(*words, **options) -> list[Cell]:
    cells = expand(*words, **options)
    for cell in cells:
        claim(cell.run, cell.config)
    return cells


class DrivenGrid:
    """An ablation `two` of heads x seeds below `folder`; see stand_in_train.py for the faults."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.experiments = folder, folder / "experiments"
        for path in EXPERIMENTS.rglob("*.yaml"):
            target = self.experiments / path.relative_to(EXPERIMENTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        sizes = ["data.num_train=8", "data.num_val=1", "data.num_test=1", "experiment=grid"]
        places = [f"runs_dir={folder}", f"data.root={folder / 'scenes'}"]
        content = {"axes": {"head": HEADS, "seed": [0, 1]}, "overrides": [*sizes, *places]}
        (self.experiments / "ablation/two.yaml").write_text(yaml.safe_dump(content))
        (folder / "scripts").mkdir()
        (folder / "scripts/train.py").write_bytes(STAND_IN.read_bytes())
        (folder / "schema").write_text(str(RESULT_SCHEMA))
        self.script = folder / "scripts/train.py"

    def cells(self, *overrides: str, here: bool = True) -> list[Cell]:
        words = ["ablation=two", *overrides]
        return expand_and_claim(words, folder=self.experiments, here=here)

    def run(self, *overrides: str, **options) -> tuple[list[Cell], list[Cell]]:
        """Run the grid here; return all cells, and those that are not done."""
        cells = self.cells(*overrides)
        run_grid(cells, script=self.script, **{"jobs": 2, **options})
        return cells, [cell for cell in cells if cell.state != "done"]

    def start(self, *words: str, **options) -> subprocess.Popen:
        """scripts/ablate.py on this grid."""
        command = [sys.executable, "-c", _DRIVER, str(self.folder), "ablation=two", *words]
        tests = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = {**os.environ, "PYTHONPATH": tests, "PYTHONUNBUFFERED": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        pipes["preexec_fn"] = hear_signals
        return subprocess.Popen(command, env=environment, **pipes, **options)

    def work(self, event: str) -> list[str]:
        """Cells that were started, failed or done, one entry for each time."""
        path = self.folder / "grid/work.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return sorted(line.split()[1] for line in lines if line.split()[0] == event)
