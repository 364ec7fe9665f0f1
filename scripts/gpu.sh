#!/usr/bin/env bash
# Everything that waits for a GPU: the GPU tests, then CamVid at 360 x 480 from scratch.
# usage: scripts/gpu.sh CAMVID OUT [ablate.py overrides, e.g. head=fcn,fla seed=0,1,2,3,4]
# Few heads a call where time is short; OUT receives each run folder without its checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
camvid=$1 out=$2
shift 2
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
  "$python" -m pytest -m gpu
fi
"$python" scripts/ablate.py ablation=heads data=camvid data.root="$camvid" logger=none \
  experiment=camvid-360x480 seed=0,1,2,3,4 "$@"
tar --exclude checkpoints --exclude log.txt -C runs -czf "$out/camvid-360x480.tar.gz" camvid-360x480
