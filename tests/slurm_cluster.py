"""A Slurm of one node for tests: its own munged, slurmctld and slurmd in a temporary folder."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
KillWait=5
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
CPUS = 4  # more than the machine may have: cells of tests wait more than they compute


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    programs = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun"]
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install slurmctld slurmd munge)"
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed"
    return "" if os.geteuid() == 0 else "starting Slurm needs root"


class SlurmCluster:
    """Started by entering it; `SLURM_CONF` then has to be `conf` for every client."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        host = socket.gethostname().split(".")[0]
        self.conf.write_text(_CONF.format(folder=self.folder, host=host, cpus=CPUS, **ports))
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in names.items()]
        try:
            # --force: the folder of a test is closed to other users
            self._start("munged", "-F", "--force", f"--seed-file={self.folder}/seed", *options)
            _wait_for((self.folder / "munge.socket").exists, "munged")
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", host)
            _wait_for(lambda: "idle" in self.run("sinfo", "--noheader", check=False), "the node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._daemons) > 1:
            self.run("scancel", "--me", check=False)
            quiet = lambda: not self.run("squeue", "--noheader", check=False)  # noqa: E731
            _wait_for(quiet, "the end of the jobs")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def run(self, *command: str, check: bool = True) -> str:
        """Standard output of a client such as squeue."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run(command, env=environment, check=False, **pipes)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """State by id of the jobs that the cluster still knows, ended ones too."""
        words = ["squeue", "--array", "--states=all", "--noheader", "--format=%i %T"]
        return dict(line.split() for line in self.run(*words).splitlines())

    def _start(self, program: str, *words: str) -> None:
        path = shutil.which(program)
        assert path is not None
        with (self.folder / f"{program}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [path, *words],
                    env={**os.environ, "SLURM_CONF": str(self.conf)},
                    stdout=out,
                    stderr=out,
                )
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited a minute for {what}")
        time.sleep(0.1)
