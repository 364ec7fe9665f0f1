"""Turn known failures of a run into one line with a remedy."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from segattn.base.errors import UserError, first_line
from segattn.base.runs import Run

_NO_MEMORY = ("allocate memory", "not enough memory", "out of memory")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(run: Run, config: dict[str, Any]) -> Iterator[None]:
    """Raise a known failure inside as a `UserError`, and an interruption as an interruption."""
    try:
        yield
    except Exception as error:
        for link in _chain(error):
            # torch.save raises an error of its own when a signal comes while it writes
            if isinstance(link, KeyboardInterrupt | SystemExit):
                raise link from None
            # SIGTERM to all processes of a run may reach its loader first
            if str(link).startswith("DataLoader worker") and "Terminated" in str(link):
                raise SystemExit(128 + signal.SIGTERM) from error
        text = explain(error, run, config)
        if text is None:
            raise
        raise UserError(text) from error


def explain(error: BaseException, run: Run, config: dict[str, Any]) -> str | None:
    """Return what failed and what to do about it; None for an unknown error."""
    first = first_line(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(t in str(error) for t in _NO_MEMORY)
    ):
        return f"out of memory ({first}). {_memory_advice(config)}"
    workers = [first_line(e) for e in _chain(error) if str(e).startswith("DataLoader worker")]
    if workers:  # the last one has the signal
        return (
            f"a process of the loader died ({workers[-1]}): memory or /dev/shm is probably full. "
            f"Lower loader.num_workers, or set loader.cache=false"
        )
    if "Expected more than 1 value per channel" in first:
        return (
            "batch normalisation has one pixel to average: raise loader.batch_size, take larger "
            "images or augment.crop, or lower encoder.output_stride"
        )
    if isinstance(error, MisconfigurationException) or "`val_check_interval`" in first:
        return f"Lightning cannot train this way: {first}"
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _NO_SPACE:
            return (
                f"no space left for {link.filename or run.path} ({link.strerror}). The last "
                f"checkpoint is whole: free some space and start the same command again"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the one it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _memory_advice(config: dict[str, Any]) -> str:
    """Return the knobs that save memory, the one that changes the experiment least first."""
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
    return "Try, in this order: " + "; ".join(knob for knob, helps in advice if helps)


def not_finite(loss: float, *, epoch: int, step: int, names: list[str]) -> UserError:
    """Return the error for a `loss` that is NaN or infinite, on the images `names` of its batch."""
    return UserError(
        f"the loss is {loss} at epoch {epoch}, step {step}, on the images {', '.join(names)}. Look "
        f"at them (scripts/check_data.py), or train with a lower optimizer.lr, a longer "
        f"optimizer.warmup or trainer.precision=fp32, under another name (experiment=... or "
        f"name=...); started again as it is, it would end here again"
    )
