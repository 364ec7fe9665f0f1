"""What a driver shows of its cells: a table that redraws itself, or a line per change."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.table import Table

from segattn.grid.cells import Cell, State

Show = Callable[[Cell | None], None]
"""Called with the cell whose state changed, or None just to bring the table up to date."""

# in the order of what a user wants to see where there is no room for all
_STYLES: dict[State, str] = {
    **{"running": "yellow", "failed": "red", "elsewhere": "cyan", "interrupted": "magenta"},
    **{"queued": "dim", "pending": "dim", "done": "green"},
}
_FRAME_LINES = 7  # of the table: title, heading, borders, and the prompt below it


@contextmanager
def display(cells: Sequence[Cell], *, jobs: int) -> Iterator[Show]:
    """A live table on a terminal; a log file gets a line per change instead.

    Args:
        cells: All of the grid.
        jobs: How many run at a time, for the time left.
    """
    # FORCE_COLOR, which CI sets, makes no terminal
    console = Console(force_terminal=sys.stdout.isatty())
    live = Live(console=console) if console.is_terminal else nullcontext()
    with live as shown:

        def show(cell: Cell | None = None) -> None:
            if shown is not None:
                room = max(console.height - _FRAME_LINES, 1)
                shown.update(_table(cells, jobs, room=room))
            elif cell is not None:
                console.print(_line(cell, cells, jobs), markup=False, soft_wrap=True)

        show()
        yield show


def seconds_left(cells: Sequence[Cell], *, jobs: int) -> float | None:
    """About how long the rest takes; None before anything is known.

    A cell that waits takes as long as those that ended, or else as those that run seem to take.
    """
    now = time.time()
    running = [(cell, _left(cell, now)) for cell in cells if cell.state == "running"]
    took = [cell.seconds for cell in cells if cell.seconds] or [
        now - cell.started + left for cell, left in running if left is not None
    ]
    waiting = [c for c in cells if c.state in ("pending", "queued", "interrupted", "elsewhere")]
    if not took:
        return None if running or waiting else 0.0
    each = sum(took) / len(took)
    rest = [max(each - (now - cell.started), 0) if left is None else left for cell, left in running]
    return max([(sum(rest) + each * len(waiting)) / jobs, *rest])


def _left(cell: Cell, now: float) -> float | None:
    """Seconds of a running cell, from the epochs that it has done since it was started."""
    status = cell.run.status
    if status.get("updated", 0) < cell.started:  # an earlier attempt wrote it
        return None
    done = status.get("epoch", 0) - cell.first_epoch
    return (
        (status["max_epochs"] - status["epoch"]) * (now - cell.started) / done if done > 0 else None
    )


def _line(cell: Cell, cells: Sequence[Cell], jobs: int) -> str:
    detail = f": {cell.error} (see {cell.run.log_path})" if cell.error else ""
    clock = time.strftime("%H:%M:%S")
    return f"[{clock}] {cell.run.path.name} {cell.state}{detail} ({_summary(cells, jobs)})"


def _summary(cells: Sequence[Cell], jobs: int) -> str:
    counts = {state: sum(cell.state == state for cell in cells) for state in ("done", "failed")}
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    left = seconds_left(cells, jobs=jobs)
    time_left = f", about {duration(left)} left" if left else ""
    return f"{counts['done']} of {len(cells)} cells done{failed}{time_left}"


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _table(cells: Sequence[Cell], jobs: int, *, room: int) -> Table:
    """`room`: rows that fit; more cells than that are shown by how much they matter now."""
    table = Table(title=_summary(cells, jobs), title_justify="left")
    for heading in ("cell", "state", "epoch", "left", "mIoU"):
        table.add_column(heading)
    now, order = time.time(), list(_STYLES)
    if len(cells) > room:
        table.caption = f"and {len(cells) - room} more"
        cells = sorted(cells, key=lambda cell: order.index(cell.state))[:room]
    for cell in cells:
        left = _left(cell, now) if cell.state == "running" else None
        epoch, scores = _progress(cell)
        table.add_row(
            cell.run.path.name,
            f"[{_STYLES[cell.state]}]{cell.state}",
            epoch,
            "" if left is None else duration(left),
            scores,
        )
    return table


def _progress(cell: Cell) -> tuple[str, str]:
    status = {} if cell.state == "pending" else cell.run.status
    epoch = f"{status['epoch']}/{status['max_epochs']}" if "max_epochs" in status else ""
    scores = status.get("score", {}).items()
    return epoch, "  ".join(f"{key.removesuffix('/miou')} {value:.3f}" for key, value in scores)
