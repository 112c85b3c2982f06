# Sourced by slurm_train.sh and slurm_test.sh: start one process for each GPU with srun.
# shellcheck shell=bash

# run_tasks PARTITION JOB SCRIPT [ARGUMENTS]: runs srun and answers with its exit code.
run_tasks() {
    local partition=$1 job=$2
    shift 2
    local gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
    local resources=(--ntasks="$gpus" --cpus-per-task="${CPUS_PER_TASK:-5}")
    if [ "$per_node" -gt 0 ]; then
        # A job smaller than a node takes only what it uses.
        if [ "$gpus" -lt "$per_node" ]; then
            per_node=$gpus
        fi
        resources+=(--gres="gpu:$per_node" --ntasks-per-node="$per_node")
    fi
    local extra=()
    read -r -a extra <<<"${SRUN_ARGS:-}"
    local root
    root=$(dirname "$TOOLS")
    if [ -d "$root/isda_suite" ]; then
        export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
    fi
    local signal=()
    if [ -n "${NOTICE:-}" ]; then
        signal=(--signal="USR1@$NOTICE")
    fi
    srun --partition="$partition" --job-name="$job" "${resources[@]}" "${signal[@]}" \
        --kill-on-bad-exit=1 "${extra[@]}" "${PYTHON:-python}" -u "$@"
}
