"""Options of Slurm jobs: a YAML file with submitit's names."""

import shutil
from pathlib import Path
from typing import Any

from segattn.base.errors import UserError
from segattn.base.files import read_yaml

_NEEDED = ("timeout_min", "max_num_timeout", "array_parallelism")
_NUMBERS = (*_NEEDED, "cpus_per_task", "signal_delay_s")
# of submitit's, those that follow from trainer.devices and trainer.num_nodes, and what needs them
_DERIVED = {
    *("nodes", "tasks_per_node", "gpus_per_node", "gpus_per_task", "num_gpus", "cpus_per_gpu"),
    *("use_srun", "stderr_to_stdout"),
}


def read_options(path: Path) -> dict[str, Any]:
    """Read a file such as experiments/slurm.yaml; what is null is left to the cluster.

    Raises:
        UserError: No such file, or an option that is missing, has a wrong type, or follows from
            the config. What submitit does not know is told when it is asked for.
    """
    if not path.is_file():
        raise UserError(f"no such file of Slurm options: {path}")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold options such as timeout_min: 60")
    if derived := sorted(_DERIVED & set(content)):
        raise UserError(f"{path}: {', '.join(derived)} follow from trainer.devices and num_nodes")
    options = {name: value for name, value in content.items() if value is not None}
    if missing := [name for name in _NEEDED if name not in options]:
        raise UserError(f"{path} must say {', '.join(missing)}")
    for name in _NUMBERS:
        value, low = options.get(name, 1), 0 if name == "max_num_timeout" else 1
        if type(value) is not int or value < low:
            raise UserError(f"{path}: {name} must be a whole number from {low}, got {value!r}")
    return options


def import_submitit() -> Any:
    """The package, which an ordinary installation does not have.

    Raises:
        UserError: It is missing; the message says how to install it.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "--executor slurm needs submitit; install it with "
            'pip install -c constraints.txt -e ".[slurm]"'
        ) from error
    return submitit


def check_slurm() -> None:
    """Raise a UserError where submitit or the clients of Slurm are missing."""
    import_submitit()
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--executor slurm needs {', '.join(missing)}, not found here; start it on a login "
            "node of the cluster, or run the grid on this machine with --executor local"
        )
