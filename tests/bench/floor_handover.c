/* SPDX-License-Identifier: MIT */
/* Handing a word from thread to thread and back (floor.h). */
#include <math.h>

#include "floor.h"
#include "machine.h"
#include "timing.h"

#define ROUNDS 200
#define TRIALS 5

#ifdef _OPENMP
#include <omp.h>

/* The word counts up; thread `me` waits for its turns, the even or the odd numbers. */
static void take_turns(int *word, int me)
{
    for (int turn = me; turn < 2 * ROUNDS; turn += 2) {
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != turn)
            ;
        __atomic_store_n(word, turn + 1, __ATOMIC_RELEASE);
    }
}

static double one_trial(void)
{
    _Alignas(64) int word = 0;
    double ns = NAN;
#pragma omp parallel num_threads(2) shared(word, ns)
    if (omp_get_num_threads() == 2) {
        int me = omp_get_thread_num();
#pragma omp barrier
        double start = timing_now();
        take_turns(&word, me);
        if (me == 0) ns = 1e3 * (timing_now() - start) / (2 * ROUNDS);
    }
    return ns;
}
#else
static double one_trial(void)
{
    return NAN;
}
#endif

double floor_handover_ns(void)
{
    double least = NAN;
    for (int trial = 0; trial < TRIALS && machine_threads() > 1; trial++)
        least = fmin(least, one_trial());
    return least;
}
