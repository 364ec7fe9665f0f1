"""What this machine has, and what it does fast."""

import math
import os
import platform
import re
import resource
import sys
from pathlib import Path

import torch

from segattn.base.errors import UserError


def resolve_accelerator(accelerator: str) -> str:
    """What "auto" takes: "gpu" where CUDA is, "mps" on a Mac that has it, else "cpu".

    Raises:
        UserError: One that is not there was asked for.
    """
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there.get(accelerator, True):
        kind = "CUDA" if accelerator == "gpu" else "MPS"
        raise UserError(
            f"trainer.accelerator={accelerator}, but torch sees no {kind} device; use auto or cpu"
        )
    return accelerator


def resolve_precision(precision: str, accelerator: str) -> str:
    """bf16 where the hardware multiplies it; elsewhere it is emulated and slower than fp32.

    Raises:
        UserError: fp16 on a CPU, which does not train in it.
    """
    if precision == "fp16" and accelerator == "cpu":
        raise UserError("trainer.precision=fp16 needs a GPU; on a CPU use auto, bf16 or fp32")
    if precision != "auto":
        return precision
    if accelerator == "gpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if accelerator == "cpu" and _cpu_multiplies_bf16() else "fp32"


def set_tf32(tf32: bool | None) -> None:
    """Whether CUDA computes float32 in TF32; None, as torch comes, convolutions but no products."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32 is not False


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has AMX tiles or AVX512-BF16; torch has no public name for the question."""
    supports = [
        getattr(torch.cpu, name, lambda: False)
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    ]
    return any(bool(check()) for check in supports)


def device_name(*, gpu: bool, kind: str = "CPU") -> str:
    """Return the name of the GPU, or of the processor with "(CPU)" or "(MPS)" behind it."""
    if gpu:
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({kind})"


def process_peak_memory(device: torch.device) -> int:
    """Bytes: what torch allocated on a GPU, the resident set of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if (status := Path("/proc/self/status")).exists():
        # ru_maxrss would begin with the peak of the process that started this one
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    # kilobytes on Linux, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


CORES = "SEGATTN_CORES"
"""Environment variable: how many cores a grid gives to each process of a run."""

_MOST_WORKERS = 8  # feed a GPU; more hold memory


def num_cores() -> int:
    """Return how many cores this process may use: by affinity, and by the quota of a container."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    return max(1, int(min(len(os.sched_getaffinity(0)), _cpu_quota())))


def _cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the smallest CPU quota of this process's control groups; infinity without any."""
    lines = own.read_text(encoding="utf-8").splitlines() if own.exists() else []
    quotas = [math.inf]
    for kinds, path in (line.split(":", 2)[1:] for line in lines):
        if kinds and "cpu" not in kinds.split(","):
            continue
        base = root / "cpu" if kinds else root
        # inside a container its own group is the root, whatever path the host gives it
        for group in (base / path.lstrip("/"), *(base / path.lstrip("/")).parents):
            if group.is_relative_to(base):
                quotas.append(_quota_of(group))
    return min(quotas)


def _quota_of(group: Path) -> float:
    """Return the cores of one control group, version 2 or 1; infinity where it has no limit."""
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((group / n).read_text(encoding="utf-8").strip() for n in names)
    except OSError:
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def resolve_workers(workers: int | str, *, processes: int) -> int:
    """Return the number of loader processes; "auto" takes none on 2 cores, else all cores but one.

    Args:
        workers: A number or "auto".
        processes: Training processes on this machine, which share its cores.
    """
    cores = int(os.environ.get(CORES, num_cores() // processes))
    if workers == "auto":
        return 0 if cores <= 2 else min(cores - 1, _MOST_WORKERS)
    return int(workers)
