#!/bin/sh
# SPDX-License-Identifier: MIT
# Breaks the library in the ways of tests/mutation/table.txt, one at a time, in a copy of the tree, and runs the library's
# suites on each: at least 95 % must be caught. `tests/mutation.sh 12 40` tries the table's lines 12 and 40 alone.
set -eu
table=tests/mutation/table.txt
tree=build/mutation
least=95
# Suites of the example trainer, the command, configurations and texts do not look at what is broken here.
suites=$(ls tests/unit | sed -n 's/^test_\(.*\)\.c$/\1/p' | grep -vE '^(data|tokenizer|llama.*|report.*|finetune.*|trainer.*|safetensors.*|gguf_damage|trace.*|replay_command|pattern.*|config.*|core)$' | tr '\n' ' ')

# Splits a row into $file, $FRAGMENT and $REPLACEMENT.
read_row()
{
    file=${1%% @@ *}
    rest=${1#* @@ }
    FRAGMENT=${rest%% @@ *}
    REPLACEMENT=${rest#* @@ }
    export FRAGMENT REPLACEMENT
}

# $file of a tree with the fragment replaced, to standard output; fails unless it stands there exactly once.
mutated()
{
    awk 'BEGIN { what = ENVIRON["FRAGMENT"]; by = ENVIRON["REPLACEMENT"] }
         { line = $0; out = ""
           while ((at = index(line, what)) > 0) {
               n++; out = out substr(line, 1, at - 1) by; line = substr(line, at + length(what)) }
           print out line }
         END { exit n == 1 ? 0 : 1 }' "$1/$file"
}

build()
{
    (cd "$tree" && make -j2 BUILD=build NATIVE= OPENMP= CFLAGS=-O1 SUITES="$suites" build/run-tests >make.log 2>&1)
}

# Suites that are likely to notice, to be asked before all the others.
near()
{
    case $1 in
    */forward.c | */call.c | */saved.c | */sink.c | */pass.c) echo lora pass pass_calls mask outputs ;;
    */lora_outputs.c) echo outputs ;;
    src/kernels/*) echo skinny fetching lora lora_kernels kernels ;;
    src/adapters/gather.c) echo worker_starts ;;
    src/adapters/filling.c) echo progress ;;
    src/adapters/defect.c) echo orthogonality ;;
    src/adapters/pca*) echo pca pca_refusals eva ;;
    src/adapters/set.c) echo create outline adalora gates ;;
    src/adapters/nested.c) echo nested ;;
    src/adapters/stack.c) echo gradient_init ;;
    src/adapters/*) echo change create match mask merge snapshot gradients ;;
    src/importance/salience.c) echo salience salience_state ;;
    src/importance/*) echo importance importance_hosts scores screened screened_model two_point random outputs ;;
    src/allocation/eva.c | src/allocation/start.c) echo eva gradient_start gradient_start_refusals ;;
    src/allocation/gora.c) echo gora ;;
    src/allocation/twonn.c | src/allocation/gelora.c) echo gelora ;;
    src/allocation/*_start.c | src/allocation/gradient_init.c) echo weight_start gradient_init gradient_start gradient_start_refusals ;;
    src/allocation/*) echo alora plan transaction limits round round_training ;;
    src/formats/peft* | src/formats/base64.c) echo unfold residual files peft peft_modes peft_refusals peft_foreign peft_damage ;;
    src/formats/kohya* | src/formats/loaded.c) echo kohya kohya_refusals gguf peft_foreign outline ;;
    src/formats/merge*) echo merge_model merge_refusals ;;
    src/formats/recording* | src/formats/rank_list*) echo replay replay_refusals rank_list ;;
    src/formats/stream.c) echo progress ;;
    src/formats/checkpoint*) echo checkpoint_progress checkpoint_faults checkpoint_refusals checkpoint_damage checkpoint ;;
    src/training/*) echo adamw moments schedule learning_rate ;;
    esac
}

# One process for all tests: forking costs more than they do.
run()
{
    (cd "$tree" && CK_FORK=no OMP_NUM_THREADS=1 timeout "$limit" build/run-tests >run.log 2>&1)
}

suite()
{
    for name in $(near "$file"); do
        CK_RUN_SUITE=$name run || return 1
    done
    run
}

is_row()
{
    case $1 in '' | '#'*) return 1 ;; esac
}

bad=0
number=0
while IFS= read -r row; do
    number=$((number + 1))
    is_row "$row" || continue
    read_row "$row"
    mutated . >/dev/null || { echo "$table:$number: does not stand exactly once in $file: $FRAGMENT"; bad=1; }
done <$table
[ $bad = 0 ] || exit 2

rm -rf "$tree"
mkdir -p "$tree/examples"
cp -R Makefile include src tests docs "$tree"
cp -R examples/finetune "$tree/examples"
mkdir "$tree/whole"
cp -R src "$tree/whole"
build || { cat "$tree/make.log"; exit 2; }
limit=300
begin=$(date +%s)
file=
suite || { tail -20 "$tree/run.log"; echo "the suite fails without any mutation"; exit 2; }
limit=$((10 + 4 * ($(date +%s) - begin)))

tried=0
caught=0
number=0
while IFS= read -r row; do
    number=$((number + 1))
    is_row "$row" || continue
    [ $# = 0 ] || case " $* " in *" $number "*) ;; *) continue ;; esac
    read_row "$row"
    mutated "$tree/whole" >"$tree/$file"
    build || { grep -m3 error "$tree/make.log"; echo "$table:$number: does not compile"; exit 2; }
    tried=$((tried + 1))
    if suite; then
        echo "SURVIVED $table:$number: $file: $FRAGMENT -> $REPLACEMENT"
    else
        caught=$((caught + 1))
        echo "caught   $table:$number: $file: $FRAGMENT -> $REPLACEMENT"
    fi
    cp "$tree/whole/$file" "$tree/$file"
done <$table
echo "mutation: $caught of $tried caught"
[ $((100 * caught)) -ge $((least * tried)) ]
