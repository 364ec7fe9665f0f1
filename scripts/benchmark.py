"""Attention against its published form: time, memory, FLOPs, alternating in one run.

python scripts/benchmark.py                    # everything, on a GPU if there is one
python scripts/benchmark.py blocks --shapes 1,512,96,96
python scripts/benchmark.py steps --device cpu --precision bf16

Parts: blocks, memory (of a training step against the size of the map), and steps (a whole training
step of each head with our block and with the published one). Each leaves a CSV file and a Markdown
table under --out, memory a figure too.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report its starts and stops

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

from segattn.base.commandline import as_path, plain_errors
from segattn.base.hardware import device_name
from segattn.benchmark import display
from segattn.benchmark.pairs import BLOCKS
from segattn.benchmark.suite import (
    SHAPES,
    SIDES,
    Row,
    blocks,
    limit_memory,
    memory_curves,
    training_steps,
)

ROOT = Path(__file__).resolve().parents[1]

CHANNELS = 512  # of the memory curve
PARTS = ("blocks", "memory", "steps")
HEADS = ["fcn", *BLOCKS]  # with a published form of their block
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def shape(text: str) -> tuple[int, int, int, int]:
    try:
        batch, channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not B,C,H,W, e.g. 1,512,96,96") from None
    if channels < 8:  # queries have an eighth of them
        raise argparse.ArgumentTypeError(f"{text!r} needs C of at least 8")
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
    parser.add_argument("--heads", nargs="+", default=HEADS, choices=HEADS, help="of steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=DTYPES,
        help="float32, or autocast as in training",
    )
    parser.add_argument("--batch-size", type=int, default=4, help="of part steps")
    parser.add_argument("--encoder", default="resnet18", help="of steps")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each comparison")
    parser.add_argument("--limit", type=float, default=16.0, help="GiB beyond which nothing fits")
    parser.add_argument("--out", type=as_path, default=ROOT / "results" / "benchmark")
    arguments = parser.parse_args()
    arguments.parts = arguments.parts or list(PARTS)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)}; choose of {', '.join(PARTS)}")
    if arguments.seconds < 0 or min(arguments.batch_size, *arguments.sides) < 1:
        parser.error("--seconds must be at least 0, --batch-size and --sides at least 1")
    return arguments


def main() -> None:
    arguments = parse()
    device, dtype = torch.device(arguments.device), DTYPES[arguments.precision]
    limit_memory(arguments.limit, device)
    with plain_errors():
        arguments.out.mkdir(parents=True, exist_ok=True)
        for part in arguments.parts:
            run(part, arguments, device=device, dtype=dtype)


def run(
    part: str, arguments: argparse.Namespace, *, device: torch.device, dtype: torch.dtype
) -> None:
    """Measure one part; its files grow row by row, so an interrupted run leaves what it has."""
    rows = []
    measured = measure(part, arguments, {"device": device, "dtype": dtype})
    for row in track(measured, description=part, console=Console(stderr=True)):
        rows.append(row)
        frame = pd.DataFrame(rows)
        frame.to_csv(arguments.out / f"{part}.csv", index=False)
        text = (
            f"{display.to_markdown(display.TABLES[part](frame))}\n{how_made(arguments, device)}\n"
        )
        (arguments.out / f"{part}.md").write_text(text, encoding="utf-8")
    print(text, flush=True)
    if part == "memory":
        figure = display.memory_figure(frame, channels=CHANNELS, limit=arguments.limit)
        figure.savefig(arguments.out / "memory.png", dpi=150)


def measure(part: str, arguments: argparse.Namespace, where: dict[str, Any]) -> Iterator[Row]:
    """Rows of the part, as they are known."""
    if part == "memory":
        return memory_curves(CHANNELS, arguments.sides, **where)
    if part == "blocks":
        return blocks(arguments.shapes, seconds=arguments.seconds, **where)
    return training_steps(
        arguments.heads,
        batch_size=arguments.batch_size,
        encoder=arguments.encoder,
        seconds=arguments.seconds,
        **where,
    )


def how_made(arguments: argparse.Namespace, device: torch.device) -> str:
    command = " ".join(["python scripts/benchmark.py", *sys.argv[1:]])
    hardware = f"{device_name(gpu=device.type == 'cuda')}, {torch.get_num_threads()} threads"
    dtype = f", {arguments.precision}"
    measured = "medians, ratios ours / published"
    return f"`{command}`: {hardware}, torch {torch.__version__}{dtype}; {measured}."


if __name__ == "__main__":
    main()
