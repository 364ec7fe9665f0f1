"""What a driver shows of its cells: a table that redraws itself, or a line per change."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from segattn.grid.cells import Cell, State

Show = Callable[[Cell | None], None]
"""Called with the cell whose state changed, or with None to redraw the table."""

# a terminal that is too low for the table shows the first of these states
_STYLES: dict[State, str] = {
    **{"running": "yellow", "failed": "red", "elsewhere": "cyan", "interrupted": "magenta"},
    **{"queued": "dim", "pending": "dim", "done": "green"},
}


@contextmanager
def display(cells: Sequence[Cell]) -> Iterator[Show]:
    """Show a live table on a terminal, and a line per change in a log file."""
    # without force_terminal, FORCE_COLOR (which CI sets) would pass for a terminal
    console = Console(force_terminal=sys.stdout.isatty())
    live = Live(console=console) if console.is_terminal else nullcontext()
    started, over = time.monotonic(), _count_over(cells)
    with live as shown:

        def show(cell: Cell | None = None) -> None:
            left = time_left(cells, over, elapsed=time.monotonic() - started)
            if shown is not None:
                shown.update(table(cells, left))
            elif cell is not None:
                detail = f": {cell.error} (see {cell.run.log_path})" if cell.error else ""
                name = f"[{time.strftime('%H:%M:%S')}] {cell.run.path.name}"
                text = f"{name} {cell.state}{detail} ({_summary(cells)}{left})"
                console.print(text, markup=False, soft_wrap=True)

        show()
        yield show


def time_left(cells: Sequence[Cell], at_start: int, *, elapsed: float) -> str:
    """Return a text such as ", about 0:12:00 left", from the cells that were over in `elapsed` s.

    `at_start` cells were over when the driver started; each cell counts as equally long.
    """
    over = _count_over(cells)
    if not at_start < over < len(cells):
        return ""
    seconds = elapsed * (len(cells) - over) / (over - at_start)
    return f", about {timedelta(seconds=round(seconds))} left"


def _count_over(cells: Sequence[Cell]) -> int:
    return sum(cell.state in ("done", "failed") for cell in cells)


def table(cells: Sequence[Cell], left: str = "") -> Table:
    """Return a table of all cells, titled by their number and the time `left`."""
    shown = Table("cell", "state", "epoch", "score", title_justify="left")
    shown.title = _summary(cells) + left
    order = list(_STYLES)
    for cell in sorted(cells, key=lambda cell: order.index(cell.state)):
        status = {} if cell.state == "failed" else cell.run.status  # which may be damaged
        shown.add_row(
            cell.run.path.name,
            f"[{_STYLES[cell.state]}]{cell.state}",
            f"{status['epoch']}/{status['max_epochs']}" if "epoch" in status else "",
            "  ".join(f"{key} {value:.3f}" for key, value in status.get("score", {}).items()),
        )
    return shown


def _summary(cells: Sequence[Cell]) -> str:
    """Return a text such as "4 of 18 cells done, 1 failed"."""
    counts = Counter(cell.state for cell in cells)
    others = [f", {counts[state]} {state}" for state in ("failed", "queued") if counts[state]]
    return f"{counts['done']} of {len(cells)} cells done{''.join(others)}"
