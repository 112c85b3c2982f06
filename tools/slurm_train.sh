#!/usr/bin/env bash
# Train on a SLURM cluster:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments of train.py]
# GPUS processes, one for each GPU. GPUS_PER_NODE=0 asks for no GPU: GPUS processes on CPUs.
# SRUN_ARGS are further options of srun; --options 'dist_params.port=29500' is still accepted.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB CONFIG WORK_DIR [arguments of train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB=$2
CONFIG=$3
WORK_DIR=$4
shift 4
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/srun.sh
. "$TOOLS/srun.sh"
run_tasks "$PARTITION" "$JOB" "$TOOLS/train.py" "$CONFIG" --work-dir "$WORK_DIR" \
    --launcher slurm "$@"
