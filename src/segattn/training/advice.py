"""UserErrors that a user can do something about, told as what to do."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from segattn.base.errors import UserError, first_line
from segattn.base.runs import Run

_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(run: Run, config: dict[str, Any]) -> Iterator[None]:
    """Turn an error inside into a `UserError` where there is something to say about it.

    Args:
        run: For its folder.
        config: Of the run; only knobs that it leaves room for are proposed.
    """
    try:
        yield
    except Exception as error:
        # torch makes an error of its own of a signal that comes while it writes a file
        for link in _chain(error):
            if isinstance(link, KeyboardInterrupt | SystemExit):
                raise link from None
        # whoever ends the run ends its loader, as Slurm does
        if _signal_of_worker(error) == "Terminated":
            raise SystemExit(128 + signal.SIGTERM) from error
        text = explain(error, run, config)
        if text is None:
            raise
        raise UserError(text) from error


def explain(error: BaseException, run: Run, config: dict[str, Any]) -> str | None:
    """What to do about an error; None if it is not known."""
    first = first_line(error)
    if _is_out_of_memory(error):
        return f"out of memory ({first}). {_memory_advice(config)}"
    if _signal_of_worker(error) in ("Killed", "Bus error", ""):
        return (
            f"a process of the loader was killed ({first}): the machine is out of memory, or its "
            f"shared memory (/dev/shm) is full. Lower loader.num_workers, or set loader.cache=false"
        )
    if "No working C++ compiler" in str(error):
        return "trainer.compile=true needs a C++ compiler on a CPU: install g++, or set it to false"
    if "Expected more than 1 value per channel" in str(error):
        return (
            "batch normalisation has one pixel to average: raise loader.batch_size, take larger "
            "images or augment.crop, or lower encoder.output_stride"
        )
    if isinstance(error, MisconfigurationException) or "`val_check_interval`" in first:
        return f"Lightning cannot train this way: {first}"
    if full := _full_disk(error):
        return (
            f"no space left for {full.filename or run.path} ({full.strerror}). The last checkpoint "
            f"is whole: free some space and start the same command again"
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _signal_of_worker(error: BaseException) -> str | None:
    """What ended a process of the loader, as torch names it; None if none of them ended.

    Empty where torch's error of the signal was lost, since it came amid code that drops errors.
    """
    texts = [str(link) for link in _chain(error) if str(link).startswith("DataLoader worker (pid")]
    signals = [text.partition("by signal: ")[2].split(".")[0] for text in texts]
    return max(signals, default=None)  # the empty string is less than any other


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # the CPU's allocator raises a plain RuntimeError
    return isinstance(error, RuntimeError | OSError) and any(t in str(error) for t in _NO_MEMORY)


def _full_disk(error: BaseException) -> OSError | None:
    """The error of a full disk, quota or file limit that `error` is or was raised from."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _NO_SPACE:
            return link
    return None


def _memory_advice(config: dict[str, Any]) -> str:
    """Knobs in the order of how little they change the experiment."""
    loader, head, gpu = config["loader"], config["head"], config["trainer"]["accelerator"] == "gpu"
    advice = [
        ("loader.eval_batch_size=1 (no effect on scores)", loader["eval_batch_size"] > 1),
        ("loader.cache=false", loader["cache"] and not gpu),
        ("head.implementation=auto", head.get("implementation", "auto") != "auto"),
        ("trainer.precision=bf16", config["trainer"]["precision"] == "fp32" and gpu),
        ("more trainer.devices", gpu),
        ("protocol=sliding for the test", config["protocol"]["name"] == "whole"),
        ("a smaller augment.crop", True),
        ("encoder.output_stride=16", config["encoder"]["output_stride"] < 16),
        ("a smaller loader.batch_size", loader["batch_size"] > 1),
    ]
    knobs = "; ".join(knob for knob, helps in advice if helps)
    return f"What helps, the first changing the experiment least: {knobs}"


def not_finite(loss: float, *, epoch: int, step: int, names: list[str]) -> UserError:
    """The fault of a loss that is NaN or infinite.

    Args:
        loss: As it came out.
        epoch: From 0, as in metrics.jsonl.
        step: Of the run, from 0.
        names: Of the images of the batch.
    """
    return UserError(
        f"the loss is {loss} at epoch {epoch}, step {step}, on the images {', '.join(names)}. Look "
        f"at them (scripts/check_data.py), or train with a lower optimizer.lr, a longer "
        f"optimizer.warmup or trainer.precision=fp32, under another name (experiment=... or "
        f"name=...); started again as it is, it would end here again"
    )
