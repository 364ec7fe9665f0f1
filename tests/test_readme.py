"""README and packaging keep their promises: commands compose, tables follow from results/."""

import re
import runpy
import shlex
import subprocess
import tomllib
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from tiny import EXPERIMENTS

from segattn.config.compose import compose_config
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
    assert len(README.splitlines()) < 150
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


def pins():
    """Version of each package in constraints.txt; several where they differ between platforms."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


def direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for text in [*project["dependencies"], *chain(*extras)]]


@pytest.mark.parametrize("requirement", direct_dependencies(), ids=lambda r: r.name)
def test_every_direct_dependency_has_a_floor_and_a_pin_above_it(requirement):
    assert any(part.operator == ">=" for part in requirement.specifier)
    assert requirement.name in pins()
    for version in pins()[requirement.name]:
        assert version in requirement.specifier


@pytest.mark.parametrize(
    ("answer", "passes"),
    [("No known vulnerabilities found", True), ("could not be audited", False)],
)
def test_an_audit_that_reached_no_advisories_does_not_pass(tmp_path, answer, passes):
    """By a pip-audit that, as the real one, fails for what it could not ask for only if strict."""
    tools = tmp_path / "audit" / "bin"
    tools.mkdir(parents=True)
    code = "0" if passes else "1"
    strict = f'case " $* " in *" --strict "*) exit {code};; esac'
    for name, lines in (("python", ""), ("pip-audit", f"echo '{answer}'\n{strict}")):
        (tools / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tools / name).chmod(0o755)
    words = ["make", "audit", f"VENV={tmp_path}", "PYTHON=true"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer in done.stdout
    assert (done.returncode == 0) == passes
    assert ("audit failed" in done.stderr) != passes
