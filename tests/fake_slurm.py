"""Stands for the clients of Slurm: jobs go into the file `queue` and are never started.

A line of `queue` is what squeue prints: id, state and name. Each call of sbatch adds the lines of
one array. The files `squeue-fails` and `sbatch-fails` make the clients fail; sbatch fails after it
has taken the jobs.
"""

from pathlib import Path

_SBATCH = """#!/bin/sh
cd {folder}
id=$(($(cat jobs) + 1))
echo $id > jobs
name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
if [ "$last" ]; then
  for task in $(seq 0 $last); do echo "${{id}}_$task PENDING $name" >> queue; done
else
  echo "$id PENDING $name" >> queue
fi
if [ -e sbatch-fails ]; then echo "Socket timed out on send/recv operation" >&2; exit 1; fi
echo "Submitted batch job $id"
"""
_SQUEUE = """#!/bin/sh
cd {folder}
if [ -e squeue-fails ]; then echo "Unable to contact slurm controller" >&2; exit 1; fi
cat queue
"""


class FakeSlurm:
    def __init__(self, folder: Path, monkeypatch) -> None:
        (folder / "bin").mkdir(parents=True)
        for name, text in {"sbatch": _SBATCH, "squeue": _SQUEUE, "srun": "#!/bin/sh\n"}.items():
            path = folder / "bin" / name
            path.write_text(text.format(folder=folder))
            path.chmod(0o755)
        self.folder, self._queue = folder, folder / "queue"
        self._queue.touch()
        (folder / "jobs").write_text("6")  # the first job is 7
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")

    @property
    def jobs(self) -> list[str]:
        """Ids of the jobs in the queue."""
        return [line.split()[0] for line in self._queue.read_text().splitlines()]

    def change(self, **states: str) -> None:
        """Set the state of the jobs 7_0, ... by the names job7_0, ...; "" takes a job away."""
        lines = [line.split(maxsplit=2) for line in self._queue.read_text().splitlines()]
        changed = [(job, states.get(f"job{job}", state), name) for job, state, name in lines]
        self._queue.write_text("".join(f"{' '.join(line)}\n" for line in changed if line[1]))

    def rename(self) -> None:
        """Give all ids to jobs of other people, as Slurm does when it counts from 1 again."""
        lines = [line.split(maxsplit=2) for line in self._queue.read_text().splitlines()]
        self._queue.write_text("".join(f"{job} RUNNING segattn-other\n" for job, *_ in lines))
