#!/usr/bin/env bash
# Train on a SLURM cluster:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments of train.py]
# GPUS processes, one for each GPU. GPUS_PER_NODE=0 asks for no GPU: GPUS processes on CPUs.
# SRUN_ARGS are further options of srun. Jobs that share a machine need ports of their own:
#   --cfg-options +env_cfg.dist_cfg.port=29500. The old --options 'dist_params.port=29500', and
#   dist_params = dict(backend='nccl', port=29500) in CONFIG, are still accepted.
#
# NOTICE seconds (120) before the time limit, or when the job is preempted, the run saves a
# checkpoint and ends with 75. It always resumes from what WORK_DIR holds, so the same command goes
# on; in a batch job (sbatch --requeue --wrap "tools/slurm_train.sh ...") the job puts itself into
# the queue again.
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
NOTICE=${NOTICE-120}
rm -f "$WORK_DIR/preempted"
code=0
run_tasks "$PARTITION" "$JOB" "$TOOLS/train.py" "$CONFIG" --work-dir "$WORK_DIR" \
    --resume --launcher slurm "$@" || code=$?
# The marker says it, not the code: srun answers with the code of whichever task was last.
if [ -e "$WORK_DIR/preempted" ]; then
    code=75
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        echo "preempted: job $SLURM_JOB_ID goes back into the queue" >&2
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo 'preempted: start the same command again to go on' >&2
    fi
fi
exit "$code"
