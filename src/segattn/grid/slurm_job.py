"""What a Slurm job does for its cell: run scripts/train.py, and resume it after a requeue."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import submitit

from segattn.base.hardware import CORES
from segattn.base.runs import Run
from segattn.grid.failures import failure, write_failure

_STOP_SECONDS = 20  # Slurm kills a job 30 s (KillWait) after it was asked to requeue it


@dataclass(frozen=True)
class CellJob(submitit.helpers.Checkpointable):
    """One task of a job; with several devices each task runs the command as another process.

    At the end of its time submitit requeues it, and the run resumes from its checkpoint.
    """

    command: list[str]
    run: Run

    def __call__(self) -> None:
        """Run the command to its end.

        Raises:
            RuntimeError: The command failed, so that Slurm ends the other tasks. The message is
                also in the run's status.
        """
        before = self.run.status
        signal.signal(signal.SIGTERM, _wait_for_slurm)
        try:
            code = self._run()
        except submitit.core.utils.UncompletedJobError:  # submitit's signal handler raised it
            write_failure(self.run, "out of time; raise max_num_timeout or timeout_min")
            raise
        if code != 0:
            time.sleep(1)  # a SIGTERM that ended the command may reach this process later
            raise RuntimeError(failure(self.run, code, before=before))

    def _run(self) -> int:
        share = dict.fromkeys((CORES, "OMP_NUM_THREADS"), os.getenv("SLURM_CPUS_PER_TASK", "1"))
        with self.run.log_path.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**share, **os.environ, "PYTHONUNBUFFERED": "1"},
                # the signal of the end of the time is meant for submitit, and would kill the child
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        try:
            return process.wait()
        finally:  # the handler of a signal may have raised an exception
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_slurm(*_: Any) -> None:
    """Wait for the SIGKILL that follows the SIGTERM of a pre-emption or of scancel.

    An error of this process could turn a pre-emption into a failure.
    """
    while True:
        signal.pause()
