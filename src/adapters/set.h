/* SPDX-License-Identifier: MIT */
/*
 * Adapters, internal: the set's layout, and what the layers above may do to it besides the public calls.
 * Invariants: live ranks of a module are rows 0..rank-1 of its bank; identities never repeat; `change_pending` is set
 * exactly while a change is prepared; ranks change only when no pass is open.
 */
#ifndef LRKI_SET_H
#define LRKI_SET_H

#include "../core/core.h"
#include "lorank/adapters.h"
#include "lorank/mask.h"
#include "lorank/pass.h"

/* Storage of one module. Library-owned banks hold everything in one block (A, B, grad A, grad B, gates, grad gates). */
typedef struct lrki_bank {
    int64_t rank;
    int64_t capacity;
    float *a; /* [capacity x n_in]  */
    float *b; /* [capacity x n_out] */
    float *gates;
    float *grad_a; /* NULL in an inference-only set */
    float *grad_b;
    float *grad_gates;
    uint64_t *identities; /* [capacity], always the library's */
    int64_t *births;
    void *block; /* NULL when the host owns the floats */
    size_t block_bytes;
} lrki_bank;

typedef struct lrki_module {
    char *name;
    uint32_t flags;
    int32_t kind;
    int32_t stage;
    int32_t input_group;
    int64_t n_in;
    int64_t n_out;
    int64_t initial_rank;
    double scale;
    lrki_bank bank;
    int64_t first_rank; /* live ranks in the modules before: position in flat arrays over the set */
    bool has_gradient;  /* backward (or the host) wrote gradients since they were zeroed          */
} lrki_module;

/* Module indices by a hash of some key (names.c). */
typedef struct lrki_table {
    int32_t *slots; /* [n_slots] module + 1, 0: free */
    int64_t n_slots;
} lrki_table;

/*
 * One who looks at the set's gradients before an optimizer uses them up. prepare() takes what it needs and may fail;
 * observe() cannot. Owned by who listens, chained in the set.
 */
typedef struct lrki_listener {
    struct lrki_listener *next;
    void *user;
    lrk_status (*prepare)(void *user);
    void (*observe)(void *user);
} lrki_listener;

struct lrk_adapters {
    int64_t references; /* atomic */
    lrk_context *context;
    int64_t n_modules;
    lrki_module *modules;
    lrki_table names;
    uint32_t flags;
    uint64_t seed;
    double dropout;
    int32_t init;
    bool host_storage;
    lrk_storage storage;
    int64_t n_ranks; /* live, all modules */
    uint64_t generation;
    uint64_t values_version;
    uint64_t next_identity;
    int64_t open_passes;   /* atomic */
    bool gradients_in_use; /* an open pass writes the set's own gradients */
    bool change_pending;   /* a plan or restore is prepared                */
    bool
        in_host_callback; /* storage callbacks, estimator callbacks that must not change the set: see lrki_set_guard */
    bool in_storage_callback; /* the host's storage is being asked: every call with this set is refused */
    lrki_listener *listeners; /* in the order in which they came */
    struct lrki_pass_cache *pass_cache; /* finished passes kept for reuse, owned by pass.c */
};

/* LRK_ERR_ARGUMENT naming the member if a value is out of range. */
lrk_status lrki_adapters_options_check(lrk_context *context, const lrk_adapters_options *options);

/* lrk_adapters_create() with LRK_INIT_ZERO, whatever the options say: for callers that fill the set themselves. */
lrk_status lrki_adapters_create_zero(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                                     const lrk_adapters_options *options, lrk_adapters **adapters);

/* The same with A and B as their memory is: for callers that fill all of it, or give up the set. */
lrk_status lrki_adapters_create_unset(lrk_context *context, const lrk_module_spec *specs, int64_t n_modules,
                                      const lrk_adapters_options *options, lrk_adapters **adapters);

/* The spec of a module with other ranks, its scale stated as it is (resize.c). */
lrk_module_spec lrki_spec_of(const lrki_module *module, int64_t rank);

lrk_adapters *lrki_adapters_ref(lrk_adapters *adapters);
void lrki_adapters_unref(lrk_adapters *adapters);
void lrki_pass_cache_free(
    lrk_adapters *adapters); /* pass.c; called when the set dies and after rank changes */

/* LRK_ERR_BUSY with a detail that begins with `what` if a pass is open, a change is pending or a host callback runs. */
lrk_status lrki_adapters_check_idle(const lrk_adapters *adapters, const char *what);

/* For entry points: LRK_ERR_ARGUMENT for NULL, LRK_ERR_BUSY inside the set's storage callbacks. */
lrk_status lrki_adapters_enter(const lrk_adapters *adapters, const char *what);

/* The same, and LRK_ERR_ARGUMENT if there is no such module. */
lrk_status lrki_adapters_enter_module(const lrk_adapters *adapters, int32_t module, const char *what);

/* The same, and LRK_ERR_UNSUPPORTED for an inference-only set. */
lrk_status lrki_adapters_enter_gradients(const lrk_adapters *adapters, const char *what);

/* Gradients become 0 and modules count as without. */
void lrki_gradients_clear(lrk_adapters *adapters);

/* In double, in interleaved partial sums: the same order everywhere. */
double lrki_sum_of_squares(const float *values, int64_t n);

/* Element i, j of W W^T - I, W [rank x n], and the Frobenius norm of all of it; in double (defect.c). */
double lrki_defect(const float *w, int64_t n, int64_t i, int64_t j);
double lrki_defect_norm(const float *w, int64_t rank, int64_t n);

void lrki_gradients_listen(lrk_adapters *adapters, lrki_listener *listener);
void lrki_gradients_leave(lrk_adapters *adapters, lrki_listener *listener);

/*
 * For optimizers, before anything is changed by a step whose gradients were found finite and complete: every listener
 * prepares and may fail; then, with the gradients that the step will use, every one observes.
 */
lrk_status lrki_gradients_prepare(lrk_adapters *adapters);
void lrki_gradients_observe(lrk_adapters *adapters);

/* Module of a flat rank position. */
int32_t lrki_adapters_module_of(const lrk_adapters *adapters, int64_t flat);

/* ---- changing ranks ---------------------------------------------------------------------------------------------- */

/* What happens to one module; kept old indices ascending; unchanged modules have n_kept == rank and n_added == 0. */
typedef struct lrki_module_change {
    int64_t n_kept;
    const int64_t *kept;
    int64_t n_added;
    const uint64_t *added_ids;
    const float *added_a; /* [n_added x n_in] rows of A of the added ranks; NULL: drawn by `init` */
    const float *added_b; /* [n_added x n_out] the same of B; NULL: 0 */
} lrki_module_change;

typedef struct lrki_change lrki_change;

/*
 * Takes all memory for a change of every module (array of n_modules; pointers must stay valid until commit). Sets
 * change_pending. Added rows get A as given, or by `init` (direction.h) from the stream (seed, LRKI_STREAM_INIT_A, identity),
 * B as given or 0, gate 1, birth `step`. Library storage: modules whose rank changes get a new exact block; host storage: in place if the
 * new rank fits, else storage->prepare (LRK_ERR_BUDGET if the capacity is fixed). Fails with the set untouched.
 */
lrk_status lrki_change_prepare(lrk_adapters *adapters, const lrki_module_change *parts, int64_t step,
                               int32_t init, lrki_change **change);
/* Cannot fail; zeroes gradients, advances generation, values_version and next_identity; frees `change`. */
void lrki_change_commit(lrki_change *change);
void lrki_change_abandon(lrki_change *change);
/* Bytes of parameters (A, B, gates) that commit will copy. */
int64_t lrki_change_bytes(const lrki_change *change);

/* ---- masks --------------------------------------------------------------------------------------------------------- */

#define LRKI_MASK_ALL     0
#define LRKI_MASK_NONE    1
#define LRKI_MASK_WITHOUT 2 /* all but one rank */
#define LRKI_MASK_ONLY    3
#define LRKI_MASK_VALUES  4

struct lrk_mask {
    int64_t references; /* atomic */
    lrk_adapters *adapters;
    uint64_t generation;
    int32_t form;   /* LRKI_MASK_... */
    int32_t module; /* of the one rank */
    int64_t index;  /* of it in its module */
    float *values;  /* [n_values], form VALUES */
    int64_t n_values;
    int32_t baseline;
    int32_t first_stage;
};

lrk_mask *lrki_mask_ref(lrk_mask *mask);
void lrki_mask_unref(lrk_mask *mask);

/* ---- passes from above ----------------------------------------------------------------------------------------------- */

lrk_adapters *lrki_pass_adapters(const lrk_pass *pass);
/* While a pass is lent, lrk_pass_end() leaves it open. */
void lrki_pass_lend(lrk_pass *pass, bool lent);
/* Whether a backward reached the module since the sink was created or zeroed. */
bool lrki_sink_reached(const lrk_sink *sink, int32_t module);

#endif
