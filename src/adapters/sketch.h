/* SPDX-License-Identifier: MIT */
/*
 * Gradient sketches, internal: their layout, how a backward call feeds one, and its factors.
 * Invariants: sums and measures are one block each; random matrices are not written after creation; `in_use` is set
 * exactly while an open pass feeds the sketch, and then the workspace fits every call of that pass.
 */
#ifndef LRKI_SKETCH_H
#define LRKI_SKETCH_H

#include "../core/workers.h"
#include "lorank/sketch.h"
#include "pass_state.h"

#define LRKI_MEASURES 4 /* of a module: rows, active rows, |x|^2, |dy|^2 */

/* Rows of N(0, 1): prefixes of it serve all modules of that width on that side. */
typedef struct lrki_sketch_random {
    int64_t width;
    int64_t rows;
    bool of_output; /* Psi, else Omega */
    float *values;  /* [rows x width]  */
} lrki_sketch_random;

typedef struct lrki_sketch_module {
    int64_t directions; /* k */
    int64_t samples;    /* s */
    const float *omega; /* [s x n_in]: Omega transposed */
    const float *psi;   /* [s x n_out]                  */
    float *w;           /* [s x n_in]                   */
    float *y;           /* [s x n_out]: Y transposed    */
    double *measures;   /* [LRKI_MEASURES]              */
} lrki_sketch_module;

struct lrk_sketch {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    lrk_sketch_options options; /* with samples as used */
    bool in_use;                /* atomic */
    bool gathered;              /* since it was zero: it holds what all workers were fed */
    lrki_sketch_module *modules;
    lrki_sketch_random *randoms; /* [2 x n_modules], n_randoms of them used */
    int64_t n_randoms;
    float *sums;
    int64_t n_sums;
    double *measures; /* [n_modules x LRKI_MEASURES] */
    void *workspace;
    size_t workspace_bytes;
};

/* LRK_ERR_ARGUMENT naming the member if a value is out of range. */
lrk_status lrki_sketch_options_check(lrk_context *context, const lrk_sketch_options *options);

lrk_sketch *lrki_sketch_ref(lrk_sketch *sketch);
void lrki_sketch_unref(lrk_sketch *sketch);
/* LRK_ERR_BUSY if an open pass feeds it. */
lrk_status lrki_sketch_check_idle(const lrk_sketch *sketch, const char *what);
/* What all workers that make a plan of it must have in common: its bits. */
lrki_claim lrki_sketch_claim(const lrk_sketch *sketch);

/* ---- feeding ------------------------------------------------------------------------------------------------------- */

/* Makes room for calls of at most max_rows rows. The sketch is claimed. */
lrk_status lrki_sketch_reserve(lrk_sketch *sketch, int64_t max_rows);
/* Adds a backward call's rows; dy is the caller's checked array. */
lrk_status lrki_sketch_feed(lrk_sketch *sketch, const lrki_call *call, const lrk_matrix *dy);

/* ---- factors ------------------------------------------------------------------------------------------------------- */

typedef struct lrki_sketch_factors {
    int64_t n_in;
    int64_t n_out;
    int64_t n;      /* k of the module            */
    int64_t found;  /* values above rounding      */
    double *values; /* [n] descending             */
    double *right;  /* [n x n_in]                 */
    double *left;   /* [n x n_out]                */
} lrki_sketch_factors;

/* Told of a module's factors, on any thread, while other modules are told of theirs. */
typedef void (*lrki_sketch_use)(void *user, int32_t module, const lrki_sketch_factors *factors);

/*
 * Factors modules first .. first + n - 1 through the parallel loop: there LAPACK keeps to one thread, so that its bits do not
 * depend on their number. LRK_ERR_NONFINITE of the lowest module concerned, LRK_ERR_NOMEM, LRK_ERR_HOST, LRK_ERR_SHAPE;
 * `use` may have been told of some modules then. It must not allocate.
 */
lrk_status lrki_sketch_each(const lrk_sketch *sketch, int32_t first, int32_t n, lrki_sketch_use use,
                            void *user);

#endif
