#!/usr/bin/env bash
# Evaluate with several processes on this machine, or on several machines:
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# GPUS processes are started on this machine. Without a GPU they compute on the CPU and talk
# through gloo; GPUS=0 is one process on the CPU even where there are GPUs.
# Environment: NNODES NODE_RANK MASTER_ADDR PORT (several machines; on one machine a free port is
# taken unless PORT is given), PYTHON, OMP_NUM_THREADS.
# Exit code: that of test.py, which torchrun alone would turn into 1.
set -euo pipefail

usage() {
    echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
}
[ $# -ge 3 ] || usage
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/torchrun.sh
. "$TOOLS/torchrun.sh"
run_ranks "$GPUS" "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
