"""The rooms: a room imports only those before it, and nothing imports the scripts' last one."""

import ast
from pathlib import Path

import segattn

PACKAGE = Path(segattn.__file__).parent
ROOMS = (
    *("metrics", "base", "data", "models", "config", "tracking", "training", "evaluation", "grid"),
    *("analysis", "benchmark"),
)


def imported_rooms(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.split(".")[1] for name in names if name.startswith("segattn.")}
    return ours & set(ROOMS)


def test_every_file_has_its_room_and_arrows_go_one_way():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    for place, room in enumerate(ROOMS):
        before = {*ROOMS[: place + 1]} - ({"analysis"} if room == "benchmark" else set())
        for file in (PACKAGE / room).rglob("*.py"):
            assert imported_rooms(file) <= before, file


def test_tests_mirror_the_rooms():
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders == set(ROOMS)
