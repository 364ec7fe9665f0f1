"""What a Slurm job does for its cell: run scripts/train.py, and go on after a requeue."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segattn.base.hardware import CORES
from segattn.base.runs import Run
from segattn.grid.failures import describe_exit, failure, write_failure
from segattn.grid.slurm_options import import_submitit

# the signal of the time-out, which is for this process and would kill that one
_DEAF = ("sh", "-c", 'trap "" USR2; exec "$@"', "sh")
_STOP_SECONDS = 20  # Slurm kills a job 30 s (KillWait) after it was told to requeue it


@dataclass(frozen=True)
class CellJob:
    """One task of a job; with several devices each runs the same command as another rank.

    Args:
        command: Of the process that it starts.
        run: The cell's.
    """

    command: list[str]
    run: Run

    def __call__(self) -> None:
        """Run the command to its end.

        Raises:
            RuntimeError: It failed, so that Slurm knows and ends the other tasks. The message
                says why, and the run's status as well.
        """
        before, terms = self.run.status, list[int]()
        signal.signal(signal.SIGTERM, lambda number, _: terms.append(number))
        try:
            code = self._run()
            if code != 0 or terms:
                _wait_for_slurm(terms)
        except import_submitit().core.utils.UncompletedJobError:  # by submitit's signal handler
            write_failure(self.run, "out of time; raise max_num_timeout or timeout_min")
            raise
        if code != 0:
            raise RuntimeError(failure(self.run, describe_exit(code), before=before))

    def checkpoint(self) -> Any:
        """What runs after a requeue: the same, since a run goes on from its last checkpoint.

        submitit calls this in its handler of the signal that announces the end of the time.
        """
        return import_submitit().core.utils.DelayedSubmission(self)

    def _run(self) -> int:
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        share = dict.fromkeys((CORES, "OMP_NUM_THREADS"), cores)
        with self.run.log_path.open("ab") as log:
            process = subprocess.Popen(
                [*_DEAF, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**share, **os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            return process.wait()
        finally:
            _stop(process)


def _wait_for_slurm(terms: Sequence[int]) -> None:
    """Do not return if Slurm is ending the job, which says then itself what becomes of it.

    It has sent SIGTERM to all processes, for a pre-emption, scancel, or another task that failed,
    and will send SIGKILL. An error of this one could turn a pre-emption into a failure.
    """
    time.sleep(1)  # it reaches one process after the other
    while terms:
        time.sleep(1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs, because the handler of a signal has raised an exception."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
