"""Attention against its published form: time, memory, FLOPs, alternating in one run.

python scripts/benchmark.py                    # everything, on a GPU if there is one
python scripts/benchmark.py blocks --shapes 1,512,96,96
python scripts/benchmark.py heads steps --device cpu

Parts: blocks and heads (against the published formulation), memory (of a training step against the
size of the map), and steps (a whole training step, choice by choice, where its time goes, and a
whole training against a bare loop). Each leaves a CSV file and a Markdown table under --out, memory
a figure too.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report its starts and stops

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

from segattn.benchmark import display
from segattn.benchmark.end_to_end import end_to_end
from segattn.benchmark.suite import SHAPES, SIDES, compare, limit_memory, memory_curves
from segattn.benchmark.training import training_steps
from segattn.hardware import device_name
from segattn.heads import HEADS

ROOT = Path(__file__).resolve().parents[1]
Tables = dict[str, list[dict[str, object]]]  # rows by name of the table

CHANNELS = 512  # of the memory curve
PARTS = ("blocks", "heads", "memory", "steps")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def shape(text: str) -> tuple[int, int, int, int]:
    try:
        batch, channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not B,C,H,W, e.g. 1,512,96,96") from None
    if channels < 32:  # a head has C / 4 channels, its queries an eighth of them
        raise argparse.ArgumentTypeError(f"{text!r} needs C of at least 32")
    return batch, channels, height, width


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default all"
    )
    parser.add_argument("--shapes", type=shape, nargs="+", default=SHAPES, metavar="B,C,H,W")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="maps of part memory")
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS, help="of steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=DTYPES,
        help="of blocks, heads and memory: float32, or autocast as in training",
    )
    parser.add_argument("--batch-size", type=int, default=4, help="of part steps")
    parser.add_argument("--encoder", default="resnet18", help="of steps")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each comparison")
    parser.add_argument("--limit", type=float, default=16.0, help="GiB beyond which nothing fits")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmark")
    arguments = parser.parse_args()
    arguments.parts = arguments.parts or list(PARTS)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)}; choose of {', '.join(PARTS)}")
    return arguments


def main() -> None:
    arguments = parse()
    device, dtype = torch.device(arguments.device), DTYPES[arguments.precision]
    limit_memory(arguments.limit, device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        run(part, arguments, device=device, dtype=dtype)


def run(
    part: str, arguments: argparse.Namespace, *, device: torch.device, dtype: torch.dtype
) -> None:
    """Measure one part; its files grow row by row, so an interrupted run leaves what it has."""
    tables: Tables = {}
    rows = measure(part, arguments, device=device, dtype=dtype)
    for new in track(rows, description=part, console=Console(stderr=True)):
        for name in new:
            tables.setdefault(name, []).extend(new[name])
        write(tables, arguments, device)
    for name in tables:
        print((arguments.out / f"{name}.md").read_text(encoding="utf-8"), flush=True)
    if part == "memory":
        frame = pd.DataFrame(tables[part])
        figure = display.memory_figure(frame, channels=CHANNELS, limit=arguments.limit)
        figure.savefig(arguments.out / "memory.png", dpi=150)


def measure(
    part: str, arguments: argparse.Namespace, *, device: torch.device, dtype: torch.dtype
) -> Iterator[Tables]:
    """Rows of each table of the part, as they are known."""
    if part == "steps":
        for steps, phases in training_steps(
            arguments.heads,
            device=device,
            batch_size=arguments.batch_size,
            encoder=arguments.encoder,
            seconds=4 * arguments.seconds,  # four or five choices
        ):
            yield {"steps": steps, "phases": phases}
        for row in end_to_end(
            arguments.heads,
            device=device,
            batch_size=arguments.batch_size,
            experiments=ROOT / "experiments",
        ):
            yield {"end_to_end": [row]}
    elif part == "memory":
        for row in memory_curves(CHANNELS, arguments.sides, device=device, dtype=dtype):
            yield {part: [row]}
    else:
        options = {"device": device, "dtype": dtype, "seconds": arguments.seconds}
        for row in compare(part, arguments.shapes, **options):
            yield {part: [row]}


def write(tables: Tables, arguments: argparse.Namespace, device: torch.device) -> None:
    """CSV files, and Markdown tables with a line under each that says how it was made."""
    for name, rows in tables.items():
        frame = pd.DataFrame(rows)
        frame.to_csv(arguments.out / f"{name}.csv", index=False)
        made = how_made(name, arguments, device)
        text = f"{display.to_markdown(display.TABLES[name](frame))}\n{made}\n"
        (arguments.out / f"{name}.md").write_text(text, encoding="utf-8")


def how_made(name: str, arguments: argparse.Namespace, device: torch.device) -> str:
    command = " ".join(["python scripts/benchmark.py", *sys.argv[1:]])
    hardware = f"{device_name(gpu=device.type == 'cuda')}, {torch.get_num_threads()} threads"
    dtype = f", {arguments.precision}"
    what = display.MEASURED.get(name, "medians, ratios ours / published")
    return f"`{command}`: {hardware}, torch {torch.__version__}{dtype}; {what}."


if __name__ == "__main__":
    main()
