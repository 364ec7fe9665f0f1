"""README and packaging keep their promises: commands compose, tables follow from results/."""

import re
import runpy
import shlex
import tomllib

import pytest
import yaml
from tiny import EXPERIMENTS

from segattn.config import compose_config
from segattn.grid import expand

ROOT = EXPERIMENTS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    }
    | set(re.findall(r"`((?:make|python) [^`]+)`", README))
)


def commands(program: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(program)]


def test_readme_is_short_and_its_files_exist():
    assert len(README.splitlines()) < 200
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_tables_follow_from_the_committed_results():
    script = runpy.run_path(str(ROOT / "scripts/readme.py"))
    assert README.count("<!-- table:") >= 1
    for path in script["FILES"]:
        text = path.read_text(encoding="utf-8")
        assert script["fill"](text) == text, f"{path.name}: run python scripts/readme.py"


@pytest.mark.parametrize("command", commands("make"))
def test_make_target_exists(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("command", commands("python scripts/train.py"))
def test_train_command_composes(command):
    overrides = [word for word in shlex.split(command)[2:] if "=" in word]
    assert compose_config(overrides, folder=EXPERIMENTS)


@pytest.mark.parametrize("command", commands("python scripts/ablate.py"))
def test_ablate_command_expands(command):
    overrides = [word for word in shlex.split(command)[2:] if not word.startswith("--")]
    assert len(expand(overrides, folder=EXPERIMENTS)) >= 6


def test_environment_repeats_no_version():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert packages == {"pip": ["-c constraints.txt", "-e .[dev]"]}


def test_every_dependency_has_a_lower_bound_and_an_exact_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = (ROOT / "constraints.txt").read_text()
    assert "://" not in constraints
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", constraints, re.MULTILINE))
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["dev"], *extras["export"]]:
        name, bound = re.match(r"([A-Za-z0-9._-]+)(>=)?", requirement).groups()
        assert bound == ">=", requirement
        assert name in pinned, name
