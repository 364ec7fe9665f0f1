#!/usr/bin/env bash
# What waits for a GPU, each part within minutes; cut off, it leaves what is finished:
#   scripts/gpu.sh OUT tests                      of what only CUDA computes; 90 s
#   scripts/gpu.sh OUT benchmark                  attention in bf16 and float32, training steps; 60 s
#   scripts/gpu.sh OUT camvid CAMVID [words]      the ablation, cells side by side on one card
# Words are those of scripts/ablate.py, such as head=fcn,fla seed=0,1,2 encoder.weights=FILE --jobs 15.
# OUT receives text, tables and an archive of each finished run without its checkpoint, 1 to 2 MB.
# LIMIT=570 ends a part after so many seconds. Neither Jupyter nor W&B need be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd) part=$2
shift 2
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=(timeout "${LIMIT:-3600}" "${PYTHON:-python3}")

benchmark() { # PRECISION PART [words]
  "${python[@]}" scripts/benchmark.py "$2" --precision "$1" --limit 64 --out "$out/benchmark-$1" "${@:3}"
}

pack() { # EXPERIMENT: what is finished and not packed yet
  local status name
  for status in runs/"$1"/*/status.json; do
    name=$(basename "$(dirname "$status")")
    if [ ! -e "$out/$name.tar.gz" ] && grep -qs '"state": "done"' "$status"; then
      tar --exclude checkpoints --exclude log.txt -C "runs/$1" -czf "$out/.$name" "$name"
      mv "$out/.$name" "$out/$name.tar.gz"
    fi
  done
}

case $part in
  tests) # files by name: others import what need not be installed
    "${python[@]}" -m pytest -m gpu $(grep -rl "mark[.]gpu" tests) 2>&1 | tee "$out/tests.txt" ;;
  benchmark)
    for precision in bf16 fp32; do
      benchmark "$precision" blocks --seconds 0.25 \
        --shapes 1,512,96,96 2,512,97,97 8,64,45,60 1,512,128,256
    done
    benchmark bf16 steps --batch-size 8 --seconds 1 --heads fcn danet fla
    ;;
  camvid)
    "${python[@]}" scripts/ablate.py ablation=paper_camvid "data.root=$1" logger=none \
      --jobs "$(nproc)" "${@:2}" &
    trap 'kill $! 2>/dev/null' INT TERM
    while kill -0 $! 2>/dev/null; do
      sleep 2
      pack paper_camvid
    done
    code=0
    wait $! || code=$?
    pack paper_camvid
    exit $code
    ;;
  *)
    echo "unknown part $part: tests, benchmark or camvid" >&2
    exit 2
    ;;
esac
