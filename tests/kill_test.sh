#!/bin/sh
# SPDX-License-Identifier: MIT
# kill_test.sh PROGRAM WORK_FOLDER [KILLS] [SEED]: trains the bundled model with short configurations, kills the trainer
# (SIGKILL) at random moments, resumes it until it is done, and compares adapter, trace and summary (its times aside) with
# those of a run that was never stopped, byte for byte; in turns with exact and screened scores, until there were KILLS
# kills. Between runs the checkpoint that was saved last is damaged now and then, so that the one before must serve.
set -eu
program=$1 work=$2 least=${3:-30} seed=${4:-$(date +%s)}
rm -rf "$work" && mkdir -p "$work"
echo "kill test: seed $seed, at least $least kills"

# drawn = the next of the seed's numbers, uniform in [0, 1)
draws=0
draw() {
    draws=$((draws + 1))
    drawn=$(awk -v seed="$seed" -v n="$draws" 'BEGIN {srand(seed * 1000 + n); rand(); printf "%.4f\n", rand()}')
}

config() {
    cat >"$work/$1.yaml" <<END
seed: 7
adapters:
  dropout: 0.1
  modules: [{pattern: "*q_proj", rank: 2, scale: 2}, {pattern: "*down_proj", rank: 2, scale: 2}]
importance: {estimator: ablation, mode: $1}
allocation: {policy: alora, n_move: 2, protect_rounds: 1}
learning_rate: {kind: linear, peak: 0.005}
schedule: {unit: steps, warmup: 6, recovery: 5, rounds: 4}
host: {epochs: 0.5, batch: 8, seq_len: 32, validation_rows: 3, evaluate_every: 4, redraw_validation: true}
END
}

head -n 60 examples/data/austen/train.jsonl >"$work/train.jsonl"
head -n 6 examples/data/austen/dev.jsonl >"$work/dev.jsonl"
# start OUT MODE [OPTION...]
start() {
    out=$1 mode=$2
    shift 2
    exec "$program" --model examples/models/gloss-llama --train "$work/train.jsonl" --dev "$work/dev.jsonl" \
        --test "$work/dev.jsonl" --config "$work/$mode.yaml" --out "$out" --checkpoint-every 3 --threads 1 \
        --report-command true "$@" >"$out.log" 2>&1
}

now() { date +%s.%N; }
# Waits SECONDS, or until PROCESS ends.
wait_for() { timeout "$1" tail --pid="$2" -f /dev/null 2>/dev/null || true; }

same() {
    for file in adapter/adapter_model.safetensors adapter/adapter_config.json trace.jsonl; do
        cmp "$1/$file" "$2/$file" || exit 1
    done
    for run in "$1" "$2"; do
        grep -v _seconds "$run/summary.json" >"$run/facts"
    done
    diff "$1/facts" "$2/facts" || exit 1
}

for mode in exact screened; do
    config $mode
    begun=$(now)
    (start "$work/$mode" $mode) || { cat "$work/$mode.log"; exit 1; }
    whole=$(echo "$begun $(now)" | awk '{print $2 - $1}')
    eval "whole_$mode=$whole"
    echo "$mode: never stopped, $whole s"
done

kills=0 runs=0 damaged=0
while [ "$kills" -lt "$least" ]; do
    mode=$([ $((runs % 2)) = 0 ] && echo exact || echo screened)
    out="$work/run$runs"
    eval "whole=\$whole_$mode"
    here=0
    while :; do
        (start "$out" $mode --resume) &
        process=$!
        draw
        wait_for "$(awk -v whole="$whole" -v u="$drawn" 'BEGIN {print whole * (0.1 + 0.4 * u)}')" $process
        if kill -9 $process 2>/dev/null; then
            wait $process 2>/dev/null || true
            here=$((here + 1))
        else
            wait $process || { cat "$out.log"; exit 1; }
            break
        fi
        draw
        if [ -f "$out/checkpoint.previous.lrk" ] && [ -f "$out/checkpoint.lrk" ] && [ "${drawn#0.}" -lt 2000 ]; then
            truncate -s -1 "$out/checkpoint.lrk"
            damaged=$((damaged + 1))
        fi
    done
    same "$work/$mode" "$out"
    kills=$((kills + here)) runs=$((runs + 1))
    echo "run $runs, $mode: $here kills, equal"
done
echo "kill test: ok, $kills kills over $runs runs, $damaged checkpoints damaged on the way, seed $seed"
