#!/usr/bin/env bash
# Everything that waits for a GPU, one part a call where time is short:
#   scripts/gpu.sh OUT tests
#   scripts/gpu.sh OUT benchmark                      attention and training steps, fp32 and bf16
#   scripts/gpu.sh OUT camvid CAMVID [ablate.py overrides, e.g. head=fcn,fla seed=0,1,2,3,4]
#   scripts/gpu.sh OUT deviations CAMVID [overrides]
# OUT receives an archive: tables, or each run folder without its checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1 part=$2
shift 2
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}

ablate() { # ABLATION EXPERIMENT CAMVID [overrides]
  local ablation=$1 experiment=$2 camvid=$3
  shift 3
  "$python" scripts/ablate.py ablation="$ablation" data=camvid data.root="$camvid" logger=none \
    experiment="$experiment" seed=0,1,2,3,4 "$@"
  tar --exclude checkpoints --exclude log.txt -C runs -czf "$out/$experiment.tar.gz" "$experiment"
}

case $part in
  tests) "$python" -m pytest -m gpu ;;
  benchmark)
    for dtype in fp32 bf16; do
      "$python" scripts/benchmark.py --dtype "$dtype" --seconds 2 --out "benchmark-$dtype"
    done
    tar -czf "$out/benchmark.tar.gz" benchmark-fp32 benchmark-bf16
    ;;
  camvid) ablate heads camvid-360x480 "$@" ;;
  deviations) ablate deviations deviations-camvid-360x480 "$@" ;;
  *) echo "unknown part $part: tests, benchmark, camvid or deviations" >&2; exit 2 ;;
esac
