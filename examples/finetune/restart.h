/* SPDX-License-Identifier: MIT */
/* Settings that OpenMP and OpenBLAS read before main runs. */
#ifndef FT_RESTART_H
#define FT_RESTART_H

/*
 * Starts the program again, once, if the environment lacks one of these:
 *   OMP_WAIT_POLICY=passive   threads that wait by spinning slow each other down many times over as soon as anything
 *                             else wants the processors
 *   OPENBLAS_CORETYPE         where OpenBLAS does not know a newer processor and falls back to its SSE kernels (Prescott),
 *                             3 to 5 times slower: SkylakeX with AVX-512, Haswell with AVX2
 * What the user has set stays. Returns if there is nothing to do, or if the system cannot: results are right all the same.
 */
void ft_restart_tuned(char **argv);

#endif
