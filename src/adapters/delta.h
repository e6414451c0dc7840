/* SPDX-License-Identifier: MIT */
/*
 * A module's delta by rows, for whoever has the weight in pieces. Blocks of rows are fixed by the shape alone and each is
 * one product, so that the bits are those of lrk_adapters_delta() however the rows are asked for.
 */
#ifndef LRKI_DELTA_H
#define LRKI_DELTA_H

#include "set.h"

typedef struct lrki_delta {
    lrk_context *context;
    const lrki_module *module;
    int64_t rows; /* of the orientation */
    int64_t cols;
    int64_t block_rows;
    const float *left;  /* [rank x rows] */
    const float *right; /* [rank x cols] */
    float *gated;       /* [rank x block_rows] scratch: a block's columns of left, times the gates */
} lrki_delta;

/*
 * Zero-initialise; lrki_delta_close() is right at any time. LRK_ERR_NONFINITE if a parameter of the module is not finite,
 * LRK_ERR_NOMEM. The set must not change meanwhile.
 */
lrk_status lrki_delta_open(const lrk_adapters *adapters, int32_t module, int32_t orientation,
                           lrki_delta *delta);
/* Rows first .. first + n - 1 of delta to out. `first` begins a block, and n ends one or all rows. LRK_ERR_HOST. */
lrk_status lrki_delta_rows(const lrki_delta *delta, int64_t first, int64_t n, float *out, int64_t ld);
void lrki_delta_close(lrki_delta *delta);

/* LRK_ERR_NONFINITE if a parameter of the module is not finite; the detail names tensor, rank and module. */
lrk_status lrki_parameters_check(const lrk_adapters *adapters, int32_t module);

#endif
