/* SPDX-License-Identifier: MIT */
/*
 * Passes and sinks, internal: their layout, and the steps of a forward or backward call.
 * Invariants: an open pass counts in the set's open_passes and holds references to set, mask and sink; its claim (on the
 * set's own gradients, or on its sink) is given back when it ends; nothing in it is allocated after it was opened.
 */
#ifndef LRKI_PASS_STATE_H
#define LRKI_PASS_STATE_H

#include "../kernels/lora.h"
#include "set.h"

struct lrk_sink {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    uint64_t generation;
    uint32_t kinds;
    bool in_use;      /* atomic: an open pass writes to it */
    int64_t *offsets; /* [n_modules + 1] of a module's first float in values: grad A, grad B, grad gates */
    bool *touched;    /* [n_modules]: a backward reached the module */
    float *values;
    double *mask_gradients; /* [n_mask] */
    int64_t n_mask;         /* live ranks when it was made */
};

/* Passes that ended, kept for reuse: a list, its head in the set. */
struct lrki_pass_cache {
    struct lrki_pass_cache *next;
};

struct lrk_pass {
    struct lrki_pass_cache link; /* first: a cached pass is reached through it */
    lrk_adapters *adapters;
    int32_t mode;
    uint32_t gradients;
    uint64_t nonce;
    int64_t first_row;
    int64_t max_rows;
    lrk_mask *mask; /* NULL: all */
    uint64_t mask_hash;
    lrk_sink *sink;           /* NULL: the set's own gradients */
    lrk_sketch *sketch;       /* fed by backward; NULL: none */
    lrk_rank_output *outputs; /* [live ranks], the host's; NULL: none */
    lrk_pca *pca;             /* fed by forward; NULL: none */
    bool claimed_set;         /* this pass set the set's gradients_in_use */
    bool lent;                /* lorank's own, in the hands of a callback: not the host's to end */
    void *workspace;
    void *own; /* workspace of its own, kept while cached */
    size_t own_bytes;
    int64_t sized_rows; /* what the workspace was last measured for, to measure it once; 0: never */
    uint64_t sized_generation;
    size_t sized_bytes;
};

/* Where the derivatives of a module go; NULL: not wanted. */
typedef struct lrki_target {
    float *grad_a;
    float *grad_b;
    float *grad_gates;
    double *grad_mask;
} lrki_target;

/* How many of a module's ranks a call works on, and whether none of them changes y. */
typedef struct lrki_share {
    int64_t count;
    bool silent;
} lrki_share;

lrk_sink *lrki_sink_ref(lrk_sink *sink);
void lrki_sink_unref(lrk_sink *sink);
lrki_target lrki_sink_target(const lrk_sink *sink, int32_t module);

/* m_j of a module's rank in the pass. */
float lrki_pass_mask_value(const lrk_pass *pass, const lrki_module *module, int64_t rank);
/* Whether the pass's results depend on a rank of a module. */
bool lrki_pass_takes(const lrk_pass *pass, const lrki_module *module, int64_t rank);
lrki_share lrki_pass_share(const lrk_pass *pass, const lrki_module *module);
/* Takes the right to write the pass's gradients; LRK_ERR_BUSY if another open pass has it. */
lrk_status lrki_pass_claim(lrk_pass *pass);

/*
 * Scratch of the largest call with that many rows: for live ranks, or for the samples of a sketch. LRK_ERR_SHAPE.
 */
lrk_status lrki_workspace_size(const lrk_adapters *adapters, const lrk_sketch *sketch, int64_t max_rows,
                               size_t *bytes);

/* A number that tells masks apart. */
uint64_t lrki_mask_hash(const lrk_mask *mask);

/* ---- a forward or backward call ------------------------------------------------------------------------------------ */

typedef struct lrki_call {
    lrk_pass *pass;
    const char *name; /* of the public function, for details */
    const int32_t *modules;
    int32_t n_modules;
    lrk_matrix x;
    lrki_lora_scratch scratch;
    lrki_dropout dropout;
    lrki_lora_call lora;
    lrki_lora_size used; /* by the parts so far */
} lrki_call;

/* Checks modules and x; *call is ready for parts. */
lrk_status lrki_call_begin(lrki_call *call, lrk_pass *pass, const char *name, const int32_t *modules,
                           int32_t n_modules, const lrk_matrix *x);
/* Reads matrix i of the caller's array (y, dy or dx) and checks it against rows x cols. */
lrk_status lrki_call_matrix(const lrki_call *call, const void *array, int64_t i, int64_t cols,
                            const char *what, lrki_activations *matrix);
/*
 * Adds a part for the ranks of a module that the pass takes, lists and gradient rows included if `target` has them, and
 * returns it; the matrices are the caller's to set.
 */
lrki_lora_part *lrki_call_add(lrki_call *call, int32_t module, lrki_share share, lrki_target target);

/* ---- saved H --------------------------------------------------------------------------------------------------------- */

#define LRKI_SAVED_HEADER 64

/* Bytes that H of a module takes in a saved buffer. False on overflow. */
bool lrki_saved_part_size(const lrki_module *module, int64_t rows, int64_t *bytes);
/* Checks the buffer's size and alignment. */
lrk_status lrki_saved_check_size(const lrki_call *call, const void *saved, size_t saved_bytes);
void lrki_saved_write_header(const lrki_call *call, void *saved);
/* Refuses a buffer that was written before a change, or for another call. */
lrk_status lrki_saved_check_header(const lrki_call *call, const void *saved);

#endif
