#!/usr/bin/env bash
# Evaluate on a SLURM cluster:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [arguments of test.py]
# GPUS processes, one for each GPU. GPUS_PER_NODE=0 asks for no GPU: GPUS processes on CPUs.
# SRUN_ARGS are further options of srun. Jobs that share a machine need ports of their own:
#   --cfg-options +env_cfg.dist_cfg.port=29500. The old --options 'dist_params.port=29500', and
#   dist_params = dict(backend='nccl', port=29500) in CONFIG, are still accepted.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT [arguments of test.py]" >&2
    exit 2
fi
PARTITION=$1
JOB=$2
CONFIG=$3
CHECKPOINT=$4
shift 4
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/srun.sh
. "$TOOLS/srun.sh"
run_tasks "$PARTITION" "$JOB" "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher slurm "$@"
