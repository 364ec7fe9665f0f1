"""What a machine or an environment says of itself is believed only where it is meant for us."""

import os

import pytest
from pytorch_lightning.utilities import rank_zero_only

from segattn.base import hardware
from segattn.base.distributed import find_rank, is_main
from segattn.base.hardware import num_cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ({}, float("inf")),
        ({"cpu.max": "50000 100000", "machine/job/cpu.max": "max 100000"}, 0.5),
        ({"cpu.max": "max 100000", "machine/job/cpu.max": "300000 100000"}, 3.0),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    own = tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/docker/1f\n1:name=systemd:/x\n0::/machine/job\n")
    found = hardware._cpu_quota(tmp_path / "cgroup", own)
    assert found == cores
    monkeypatch.setattr(hardware, "_cpu_quota", lambda: found)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert num_cores() == max(1, min(64, int(min(cores, 64))))


LEFT_OVER = {
    "RANK": "1",
    "LOCAL_RANK": "3",
    "WORLD_SIZE": "4",
    "SLURM_PROCID": "2",
    "SLURM_NTASKS": "4",
    "JSM_NAMESPACE_RANK": "1",
}


@pytest.fixture(autouse=True)
def first_process(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    monkeypatch.setenv("SEGATTN_LAUNCHER", "")


@pytest.mark.parametrize("name", LEFT_OVER)
def test_a_run_of_one_process_is_its_first_whatever_another_program_left(monkeypatch, name):
    monkeypatch.setenv(name, LEFT_OVER[name])
    rank_zero_only.rank = 1
    find_rank(1)
    assert is_main()
    assert name not in os.environ


def test_of_several_processes_each_knows_who_started_it(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    find_rank(2)  # nobody of ours did: the variables are left over
    assert is_main()
    assert "LOCAL_RANK" not in os.environ
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SEGATTN_LAUNCHER", str(os.getppid()))
    find_rank(2)  # Lightning in the parent did
    assert not is_main()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("RANK", "0")
    find_rank(2)
    assert is_main()
