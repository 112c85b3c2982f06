#!/usr/bin/env bash
# Train with several processes on this machine, or on several machines:
#   tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# GPUS processes are started on this machine. Without a GPU they compute on the CPU and talk
# through gloo; GPUS=0 is one process on the CPU even where there are GPUs.
# Environment: NNODES NODE_RANK MASTER_ADDR PORT (several machines; on one machine a free port is
# taken unless PORT is given), MAX_RESTARTS (how often all ranks are started again, from the newest
# checkpoint, when one has died), PYTHON, OMP_NUM_THREADS.
# Exit code: that of train.py, which torchrun alone would turn into 1.
set -euo pipefail

usage() {
    echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
}
[ $# -ge 2 ] || usage
CONFIG=$1
GPUS=$2
shift 2
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/torchrun.sh
. "$TOOLS/torchrun.sh"
run_ranks "$GPUS" "$TOOLS/train.py" "$CONFIG" --launcher pytorch "$@"
