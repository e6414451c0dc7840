#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: counts.sh BENCH_KERNELS OBJECTS OUT. What lorank and OpenBLAS execute and move for one call, counted instead of timed:
#   1. whole calls with AVX2, under callgrind: instructions, loads and stores for each vector multiply-add (of 8 floats) that the
#      formula needs, and the bytes that a first-level cache of 32 KiB and a second level of 1 MiB take in, over those of
#      every operand once. Prefetches count as instructions; the simulated caches ignore them.
#   2. the innermost loops of the AVX-512 kernels in OBJECTS, by kind of instruction.
# Needs valgrind and objdump. COUNT_SHAPES replaces the list: lines of "op tokens d rank dtype".
set -eu
bench=$1 objects=$2 out=$3
here=$(dirname "$0")
mkdir -p "$out"
# All that the benchmark would otherwise set and start itself again for, which valgrind cannot follow.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OPENBLAS_CORETYPE=Haswell

shapes() {
  for op in forward backward; do
    for tokens in 1 16; do for d in 576 768; do for rank in 1 8 64; do echo $op $tokens $d $rank f32; done; done; done
    for rank in 1 4 7 8 12 16 32 64; do echo $op 512 768 $rank f32; done
    echo $op 128 4096 8 f32
    for dtype in f32 bf16 f16; do echo $op 64 4096 8 $dtype; done
  done
}

# who op tokens d rank dtype
count() {
  calls=$((1 + 63 / $3))
  valgrind -q --tool=callgrind --cache-sim=yes --D1=32768,8,64 --LL=1048576,8,64 --compress-strings=no --compress-pos=no \
    --toggle-collect=count_calls --callgrind-out-file="$out/calls.out" \
    "$bench" --count "$1" --calls $calls --kernels avx2 --op "$2" --tokens "$3" --d "$4" --rank "$5" --dtype "$6" 2>"$out/log" ||
    { cat "$out/log" >&2; exit 1; }
  awk -f "$here/counts.awk" -v who="$1" -v op="$2" -v tokens="$3" -v d="$4" -v rank="$5" -v dtype="$6" -v calls=$calls "$out/calls.out"
}

echo "Whole calls, AVX2: for each vector multiply-add of 8 floats; bytes taken in over the bytes of every operand once"
printf '%-8s %6s %5s %4s %-4s %-6s %11s | %6s %6s %6s %6s %6s | %6s %6s | %6s %6s\n' op tokens d rank type who "instr/call" \
  dot update pack rest all loads stores "L1 in" "L2 in"
{ if [ -n "${COUNT_SHAPES:-}" ]; then echo "$COUNT_SHAPES"; else shapes; fi; } | while read -r op tokens d rank dtype; do
  count lorank "$op" "$tokens" "$d" "$rank" "$dtype"
  if [ "$dtype" = f32 ]; then count blas "$op" "$tokens" "$d" "$rank" "$dtype"; fi
done

echo
echo "Innermost loops, AVX-512: instructions of one turn"
printf '%-14s %4s %6s %7s %9s %8s %7s %6s %6s\n' kernel fma loads stores prefetch convert shuffle other all
objdump -d --no-show-raw-insn "$objects" | awk -f "$here/loops.awk"
