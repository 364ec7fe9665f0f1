"""scripts/gpu.sh keeps what is finished, with a stand-in for the runs themselves."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# writes one finished run and one that is under way, then trains on until it is stopped
STAND_IN = """#!/usr/bin/env bash
for name in fcn-s0 fla-s0; do
  mkdir -p runs/paper_camvid/$name/checkpoints
  echo weights > runs/paper_camvid/$name/checkpoints/last.ckpt
  echo '{"state": "running"}' > runs/paper_camvid/$name/status.json
done
echo "$@" > words.txt
echo '{"state": "done"}' > runs/paper_camvid/fcn-s0/status.json
exec sleep 60
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "gpu.sh", tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return tmp_path


def run(checkout: Path, *words: str) -> int:
    environment = {**os.environ, "PYTHON": str(checkout / "python"), "LIMIT": "1"}
    return subprocess.run(["scripts/gpu.sh", *words], cwd=checkout, env=environment).returncode


def test_runs_that_are_finished_are_packed_when_the_grid_is_cut_off(checkout):
    assert run(checkout, "out", "camvid", "/data/my camvid", "head=fcn,fla", "--jobs", "15") == 124
    assert [path.name for path in (checkout / "out").iterdir()] == ["fcn-s0.tar.gz"]
    with tarfile.open(checkout / "out" / "fcn-s0.tar.gz") as archive:
        assert sorted(archive.getnames()) == ["fcn-s0", "fcn-s0/status.json"]
    words = (checkout / "words.txt").read_text()
    assert "data.root=/data/my camvid" in words
    assert words.endswith("head=fcn,fla --jobs 15\n")


def test_unknown_part_is_named(checkout):
    assert run(checkout, "out", "cityscapes") == 2
