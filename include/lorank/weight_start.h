/* SPDX-License-Identifier: MIT */
/*
 * Starts from the frozen weights. Every module keeps its number of ranks, and gets with W [n_out x n_in] and its scale s
 *     PiSSA       the r leading singular triples of W ~ U diag(S) V^T: A = diag(sqrt(S / |s|)) V^T, B = U diag(sqrt(S / |s|)), the sign of
 *                 s on B (Meng, Wang and Zhang 2024, arXiv:2404.02948)
 *     OLoRA       the first r columns Q of W = Q R and rows of R: B = Q, A = R (Buyukakyuz 2024, arXiv:2406.01775)
 *     orthogonal  from r orthonormal rows drawn at random, half of which combine the rows of A and the others those of B:
 *                 A = 1/10 P^T X, B = 1/10 O^T Y, X and Y of N(0, 1), P O^T = 0, so that B^T A = 0 (in the peft package; there for even r)
 *
 * Who subtracts: PiSSA and OLoRA change what the model computes unless the frozen weight becomes W - s B^T A. The weight is the host's, so
 * the host does it, once the plan is committed and before the next forward:
 *     lrk_adapters_merge(adapters, module, -1, orientation, weight, ld)
 * for every module; orthogonal needs nothing. The adapter is then relative to that weight, not to the original. To get one of the original
 * back, keep it and merge into the changed weight, or stack what is there now on the adapter of the start with the opposite sign, which
 * doubles the rank (lrk_adapters_delta() of both, exactly: B^T A - B_0^T A_0).
 */
#ifndef LRK_WEIGHT_START_H
#define LRK_WEIGHT_START_H

#include <stdint.h>

#include "allocation.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LRK_WEIGHT_START_PISSA      0
#define LRK_WEIGHT_START_OLORA      1
#define LRK_WEIGHT_START_ORTHOGONAL 2

/* A frozen weight, borrowed: row-major f32 in an orientation of lrk_adapters_merge(). */
typedef struct lrk_weight {
    uint32_t struct_size;
    int32_t orientation; /* [LRK_WEIGHT_OUT_IN]      */
    const float *data;   /* [NULL: must be set]      */
    int64_t ld;          /* [0: its columns]         */
} lrk_weight;

typedef struct lrk_weight_start_options {
    uint32_t struct_size;
    uint32_t flags;     /* 0                                                                                       */
    int32_t method;     /* LRK_WEIGHT_START_... [PISSA]                                                             */
    int32_t iterations; /* PiSSA: of a subspace of 2 r + 8 directions, >= 0; exact where that is all of W [8]       */
    uint64_t seed;      /* of what is drawn [0]                                                                     */
    void *user;
    /* Sets the weight of a module, valid until the next call or the end; non-zero refuses. On the calling thread. Not for orthogonal. */
    int32_t (*weight)(void *user, int32_t module, lrk_weight *weight);
} lrk_weight_start_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_weight_start_options_init(lrk_weight_start_options *options, size_t struct_size);

/*
 * Makes the plan; nothing changes yet. `step` becomes the birth step of the ranks. Modules of which min(n_in, n_out) is below their rank
 * get the rest as LRK_INIT_KAIMING_UNIFORM with B = 0.
 * Errors   LRK_ERR_ARGUMENT   a value out of range, step < 0, weight NULL where it is needed, or what it sets (NULL, unknown
 *                             orientation); a module's scale is 0 (PiSSA)
 *          LRK_ERR_SHAPE      ld too small, or a weight is too large for LAPACK
 *          LRK_ERR_NONFINITE  a weight is not finite;  LRK_ERR_HOST  weight refused, parallel_for failed
 *          LRK_ERR_WORKERS    another worker failed, or its plan differs: other weights or another seed
 *          LRK_ERR_BUDGET (no rank in the set), LRK_ERR_VERSION, LRK_ERR_NOMEM.  The detail names the module.
 * Cost     (2 iterations + 2) n_in n_out (2 r + 8) multiply-adds a module in double, through parallel_for. The number of threads
 *          changes no bit. It is a function of weights and seed alone: every worker makes the same plan.
 * Owner    the caller.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_weight_start_plan(lrk_adapters *adapters, const lrk_weight_start_options *options,
                                                         int64_t step, lrk_plan **plan);

#ifdef __cplusplus
}
#endif

#endif
