# Sourced by dist_train.sh and dist_test.sh: start the ranks of this machine with torchrun.
# shellcheck shell=bash

# run_ranks GPUS SCRIPT [ARGUMENTS]: exits with the code of the script.
run_ranks() {
    local gpus=$1
    shift
    case $gpus in
        '' | *[!0-9]*) usage ;;
        0)
            gpus=1
            export CUDA_VISIBLE_DEVICES=-1
            ;;
    esac
    local place
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        # A free port of torchrun's own choice: two runs on one machine do not collide.
        place=(--standalone)
    else
        place=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
    fi
    # In a checkout the package lies beside tools/; in a wheel it is installed.
    local root
    root=$(dirname "$TOOLS")
    if [ -d "$root/isda_suite" ]; then
        export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
    fi
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"
    if [ "${MAX_RESTARTS:-0}" != 0 ]; then
        # Ranks that are started again must not find the addresses of the dead ones in torchrun's
        # store. Without restarts its store is the safer one: it is open before the ranks start, so
        # no other program can take its port, and it outlives every rank.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    fi
    ISDA_EXIT_CODE_FILE=$(mktemp)
    export ISDA_EXIT_CODE_FILE
    trap 'rm -f "$ISDA_EXIT_CODE_FILE"' EXIT

    "${PYTHON:-python}" -m torch.distributed.run "${place[@]}" \
        --nproc_per_node="$gpus" --max-restarts="${MAX_RESTARTS:-0}" "$@" &
    local ranks=$!
    # bash itself would keep a signal until torchrun has ended.
    trap 'kill -TERM "$ranks" 2>/dev/null || true' TERM INT
    local code=0
    wait "$ranks" || code=$?
    while kill -0 "$ranks" 2>/dev/null; do
        code=0
        wait "$ranks" || code=$?
    done
    if [ "$code" -ne 0 ] && [ -s "$ISDA_EXIT_CODE_FILE" ]; then
        code=$(cat "$ISDA_EXIT_CODE_FILE")
    fi
    exit "$code"
}
