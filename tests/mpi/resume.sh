#!/bin/sh
# SPDX-License-Identifier: MIT
# resume.sh "MPIRUN" FINETUNE_MPI FINETUNE WORK_FOLDER: a run of two workers that is killed whenever it has just saved, within rounds
# too, goes on bit for bit; another number of workers is refused by an error that names both.
set -eu
. "$(dirname "$0")/common.sh"
cat >"$work/saved.yaml" <<END
seed: 7
adapters:
  dropout: 0.1
  modules: [{pattern: "*q_proj", rank: 2, scale: 2}, {pattern: "*down_proj", rank: 2, scale: 2}]
start: {kind: gradient, batches: 4, multiple: 1, directions: 8, cap: 8}
importance: {estimator: ablation, mode: exact}
allocation: {policy: alora, n_move: 2}
learning_rate: {kind: linear, peak: 0.005}
schedule: {unit: steps, warmup: 2, recovery: 2, rounds: 2}
host: {epochs: 1, batch: 12, seq_len: 32, validation_rows: 3}
END

train saved "$work/whole" $mpirun -n 2 "$program"

refused() {
    words=$1
    shift
    if "$@" $(arguments saved "$work/killed") --resume >"$work/refused.txt" 2>&1; then fail "it was not refused: $*"; fi
    grep -q "$words" "$work/refused.txt" || { cat "$work/refused.txt"; fail "refused without saying: $words"; }
}

kills=0
for i in $(seq 40); do
    $mpirun -n 2 "$program" $(arguments saved "$work/killed") --resume --checkpoint-every 5 >"$work/killed.txt" 2>"$work/killed.err" &
    child=$!
    saved=$(stat -c %Y.%i "$work/killed/checkpoint.lrk" 2>/dev/null || echo none)
    while kill -0 $child 2>/dev/null && [ "$(stat -c %Y.%i "$work/killed/checkpoint.lrk" 2>/dev/null || echo none)" = "$saved" ]; do
        sleep 0.05
    done
    kill -TERM $child 2>/dev/null && kills=$((kills + 1))
    status=0
    wait $child || status=$?
    [ $status = 0 ] && break
    if [ $i = 1 ]; then
        refused "of 2 workers, this one has 3" $mpirun -n 3 "$program"
        refused "of 2 workers, this one has 1" "$plain"
    fi
done
[ $status = 0 ] || fail "forty runs did not end"
[ $kills -ge 2 ] || fail "the run was killed $kills times"
same "$work/whole" "$work/killed"
same "$work/whole" "$work/killed.worker1"
echo "mpi resume: killed $kills times, the same adapter; 3 workers and 1 refused"
