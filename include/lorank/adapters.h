/* SPDX-License-Identifier: MIT */
/*
 * Adapter sets: the low-rank updates of a model's linear layers.
 *
 * For a module with frozen weight W [n_out x n_in], y = W x, an adapter adds  s * B^T diag(g) A x  with
 *     A [rank x n_in], B [rank x n_out] (stored transposed: rank j is row j of A and row j of B), gates g [rank],
 *     scale s, fixed at creation and independent of the live rank.
 * Row-major f32. A rank carries an identity (a number from 1 that is never used twice in a set) and a birth step;
 * indices within a module change when ranks are dropped, identities do not.
 *
 * Threads: handle-exclusive unless a function says otherwise. Passes (pass.h) read a set and may run concurrently.
 * Borrowed pointers stay valid until the next committed plan, restore or destruction.
 */
#ifndef LRK_ADAPTERS_H
#define LRK_ADAPTERS_H

#include <stddef.h>
#include <stdint.h>

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_adapters lrk_adapters;
typedef struct lrk_snapshot lrk_snapshot;

/* Kinds of module. 1 (embedding) and 2 (convolution) are reserved. */
#define LRK_KIND_LINEAR 0

/* How a spec states its scale s. */
#define LRK_SCALE_EXPLICIT   0 /* s = scale                        */
#define LRK_SCALE_ALPHA      1 /* s = scale / scale_rank           */
#define LRK_SCALE_ALPHA_SQRT 2 /* s = scale / sqrt(scale_rank)     */

/* Flags of a module spec. */
#define LRK_MODULE_MAY_LACK_GRADIENT 0x1u /* an optimizer step without a gradient for it is no error (experts) */

#define LRK_NO_GROUP (-1) /* input_group of a module that shares its input with none */

/* How rows of A (and of B) start. */
#define LRK_INIT_KAIMING_UNIFORM 0 /* A ~ U(-1/sqrt(n_in), 1/sqrt(n_in)), B = 0 */
#define LRK_INIT_GAUSSIAN        1 /* A ~ N(0, 1/n_in), B = 0                   */
#define LRK_INIT_ZERO            2 /* A = 0, B = 0: the host fills them         */
/*
 * The row of KAIMING_UNIFORM without its components along the module's rows before it (their span, in double), stretched to
 * length 1/sqrt(3), the root mean square length of such a row; B = 0. Where less than 1e-6 of its length is left, as
 * when a module has more ranks than inputs, the row of KAIMING_UNIFORM itself.
 */
#define LRK_INIT_ORTHOGONAL 3
/* A and B ~ N(0, 0.02^2) (AdaLoRA's form B diag(g) A), for initial ranks; with LRK_GATES_ZERO the update is 0. */
#define LRK_INIT_TRIPLET 4

/* How gates of initial ranks start; those of ranks that come later start at 1. */
#define LRK_GATES_ONE      0
#define LRK_GATES_GAUSSIAN 1 /* N(0, 1), from the stream of (seed, identity): SoRA, CoDyRA */
#define LRK_GATES_ZERO     2 /* the update is 0, and A and B have no gradient until gates have moved: AdaLoRA */

/* One adapted layer. lrk_module_spec_init() sets the defaults given in brackets. */
typedef struct lrk_module_spec {
    uint32_t struct_size;
    uint32_t flags;     /* LRK_MODULE_... [0]                                                                   */
    const char *name;   /* UTF-8, not empty, unique in the set; copied [NULL: must be set]                      */
    int32_t kind;       /* LRK_KIND_LINEAR [0]                                                                  */
    int32_t stage;      /* >= 0: position in the model; masks report the first stage that they change [0]       */
    int64_t n_in;       /* >= 1 [0: must be set]                                                                */
    int64_t n_out;      /* >= 1 [0: must be set]                                                                */
    int64_t rank;       /* initial rank, >= 0 [0]                                                               */
    int32_t input_group;/* modules with the same non-negative group read the same x: same n_in [LRK_NO_GROUP]   */
    int32_t scale_rule; /* LRK_SCALE_... [LRK_SCALE_EXPLICIT]                                                   */
    double scale;       /* finite: s itself, or alpha [1]                                                       */
    int64_t scale_rank; /* r_ref >= 0 of the alpha rules; 0: the initial rank, which must then be >= 1 [0]      */
} lrk_module_spec;

/* A glob over module names (fnmatch(3), '*' matches dots too) and what its matches get. */
typedef struct lrk_module_pattern {
    uint32_t struct_size;
    uint32_t flags;      /* added to the module's own flags [0]  */
    const char *pattern; /* copied [NULL: must be set]           */
    int64_t rank;        /* [0]                                  */
    int32_t scale_rule;  /* [LRK_SCALE_EXPLICIT]                 */
    int32_t reserved;    /* 0                                    */
    double scale;        /* [1]                                  */
    int64_t scale_rank;  /* [0]                                  */
} lrk_module_pattern;

/*
 * Buffers of one module in memory that the host owns. Row strides are tight: a, grad_a [capacity x n_in];
 * b, grad_b [capacity x n_out]; gates, grad_gates [capacity]. Gradient pointers are NULL in an inference-only set.
 */
typedef struct lrk_module_buffers {
    uint32_t struct_size;
    uint32_t flags;
    float *a;
    float *b;
    float *gates;
    float *grad_a;
    float *grad_b;
    float *grad_gates;
    int64_t capacity; /* ranks that fit, >= the rank asked for */
} lrk_module_buffers;

#define LRK_STORAGE_FIXED 0x1u /* capacities never change: a plan that would exceed one is infeasible (a cap) */

/*
 * Host-owned storage. prepare() supplies buffers for module `module` with room for `rank` ranks, or returns non-zero to
 * refuse; it is called for every module at creation, and during the preparation of a plan (or a restore) for modules
 * whose new rank exceeds their capacity (never with LRK_STORAGE_FIXED). The old buffers stay in use until commit().
 * commit(): the new buffers are in use now, the old ones are the host's again. abandon(): the new buffers are not used.
 * A module whose new rank fits its capacity is compacted in place; rows past its rank are never touched. Every prepare()
 * that returned 0 is followed by one commit() or abandon(), at creation too. All three must be given, run on the thread
 * that called lorank and must not call lorank with the same set (LRK_ERR_BUSY).
 */
typedef struct lrk_storage {
    uint32_t struct_size;
    uint32_t flags; /* LRK_STORAGE_FIXED or 0 */
    void *user;
    int32_t (*prepare)(void *user, int32_t module, int64_t rank, lrk_module_buffers *buffers);
    void (*commit)(void *user, int32_t module);
    void (*abandon)(void *user, int32_t module);
} lrk_storage;

#define LRK_ADAPTERS_INFERENCE 0x1u /* no gradients: training passes, sinks and optimizers are refused */
/*
 * No rank lives at first: initial_rank tells how many the specs ask for. Loading a file then reads what says which modules,
 * shapes, ranks and scales it has, and no values: they are not checked, take no time and no memory. With lorank's own PEFT
 * metadata, initial_rank is the rank in the file.
 */
#define LRK_ADAPTERS_OUTLINE 0x2u

typedef struct lrk_adapters_options {
    uint32_t struct_size;
    uint32_t flags;             /* LRK_ADAPTERS_... [0]                                                 */
    uint64_t seed;              /* of initial values and dropout [0]                                    */
    double dropout;             /* probability in [0, 1) that an input feature is dropped in training [0] */
    int32_t init;               /* LRK_INIT_... [LRK_INIT_KAIMING_UNIFORM]                              */
    int32_t gates;              /* LRK_GATES_... [LRK_GATES_ONE]                                        */
    const lrk_storage *storage; /* copied [NULL: memory from the context's allocator]                   */
    void *user;                 /* of progress                                                          */
    /*
     * Loading and resizing alone, with the values: told after each module, in bytes of A and B filled. Non-zero: LRK_ERR_CANCELLED,
     * and there is no set [NULL]
     */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total);
} lrk_adapters_options;

typedef struct lrk_module_info {
    uint32_t struct_size;
    uint32_t flags;      /* LRK_MODULE_...                         */
    const char *name;    /* borrowed until the set is destroyed    */
    int32_t kind;
    int32_t stage;
    int64_t n_in;
    int64_t n_out;
    int64_t rank;        /* live ranks                             */
    int64_t initial_rank;
    int64_t capacity;    /* ranks that fit its storage without growing */
    int32_t input_group;
    int32_t reserved;
    double scale;        /* s                                      */
} lrk_module_info;

typedef struct lrk_adapters_info {
    uint32_t struct_size;
    uint32_t flags;           /* LRK_ADAPTERS_...                                                              */
    int64_t modules;
    int64_t ranks;            /* live ranks in all                                                             */
    int64_t parameters;       /* sum of rank * (n_in + n_out); gates are not counted                           */
    uint64_t generation;      /* grows with every committed plan and every restore that changes ranks          */
    uint64_t values_version;  /* grows when parameters change: step, commit, restore, merge into them, host says so */
    uint64_t next_identity;   /* the identity that the next new rank gets                                      */
    size_t memory;            /* bytes that the set holds, gradients included, without buffers of the host     */
} lrk_adapters_info;

/* Tensors of a module, and (for sinks) the derivative by the pass's mask. */
#define LRK_TENSOR_A          0 /* [rank x n_in]                */
#define LRK_TENSOR_B          1 /* [rank x n_out]               */
#define LRK_TENSOR_GATES      2 /* [rank x 1]                   */
#define LRK_TENSOR_GRAD_A     3
#define LRK_TENSOR_GRAD_B     4
#define LRK_TENSOR_GRAD_GATES 5

/* A borrowed tensor: rows x cols, row stride ld elements (ld == cols). Rank 0 gives rows 0. */
typedef struct lrk_tensor {
    uint32_t struct_size;
    uint32_t flags;
    float *data;
    int64_t rows;
    int64_t cols;
    int64_t ld;
    uint64_t generation; /* of the set when it was borrowed */
} lrk_tensor;

/* A borrowed run of consecutive floats: all parameters or all gradients (A, B; then gates apart) of one module. */
typedef struct lrk_segment {
    uint32_t struct_size;
    int32_t module;
    float *data;
    int64_t count;
} lrk_segment;

#define LRK_FLAT_PARAMETERS 0 /* A and B of every module         */
#define LRK_FLAT_GRADIENTS  1 /* their gradients                 */

/* Setting the defaults. Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_module_spec_init(lrk_module_spec *spec, size_t struct_size);
LRK_API lrk_status lrk_module_pattern_init(lrk_module_pattern *pattern, size_t struct_size);
LRK_API lrk_status lrk_adapters_options_init(lrk_adapters_options *options, size_t struct_size);

/*
 * Creates a set with one adapter per spec; module i is specs[i] (an array stepped by specs[0].struct_size).
 * Initial ranks get identities 1, 2, ... in module order and birth step 0, gates by `gates`, and values drawn from a random
 * stream keyed by (seed, identity), so that they do not depend on the order or number of other modules' draws.
 * Errors   LRK_ERR_ARGUMENT  NULL or empty name, duplicate name, unknown kind, flag, rule or init, stage < 0,
 *                            n_modules < 1, scale not finite, dropout outside [0, 1), alpha rule without a rank
 *          LRK_ERR_SHAPE     n_in or n_out < 1, rank < 0, members of an input group differ in n_in, a size overflows
 *          LRK_ERR_HOST      storage->prepare refused      LRK_ERR_VERSION, LRK_ERR_NOMEM
 *          The detail names the module.
 * Threads  any.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_create(lrk_context *context, const lrk_module_spec *specs,
                                                       int64_t n_modules, const lrk_adapters_options *options,
                                                       lrk_adapters **adapters);

/*
 * Creates a set from a host's module list and patterns: each module takes rank and scale from the first pattern that
 * matches its name and is left out if none does (find indices with lrk_adapters_find()). rank and scale fields of
 * `modules` are ignored.
 * Errors   as lrk_adapters_create(), and
 *          LRK_ERR_NOT_FOUND  a pattern decides no module: it matches none, or earlier patterns took all that it
 *                             matches; the detail names the pattern
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_create_matching(lrk_context *context, const lrk_module_spec *modules,
                                                                int64_t n_modules, const lrk_module_pattern *patterns,
                                                                int64_t n_patterns,
                                                                const lrk_adapters_options *options,
                                                                lrk_adapters **adapters);

/* Unit of a budget. */
#define LRK_BUDGET_RANKS      0
#define LRK_BUDGET_PARAMETERS 1 /* sum of rank * (n_in + n_out) */

/*
 * Sets the ranks of specs (stepped by specs[0].struct_size, which must have all members of 0.1) as evenly as the budget
 * allows: every module gets the greatest rank that all can have, then modules in an order drawn from the seed one more
 * each, as far as it fits. The scale stays what it is at the rank that the spec had (lrk_rank_list_apply()).
 * Errors   LRK_ERR_SHAPE  n_in or n_out < 1, or a sum overflows;  LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_specs_uniform(lrk_context *context, lrk_module_spec *specs, int64_t n_specs,
                                                     int64_t budget, int32_t unit, uint64_t seed);

/* Gives up the caller's reference (other handles may keep the set alive). NULL is ignored. Since 0.1 */
LRK_API void lrk_adapters_destroy(lrk_adapters *adapters);

/* Totals and counters. info->struct_size must be set. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_adapters_info_get(const lrk_adapters *adapters, lrk_adapters_info *info);

/* One module. Errors: LRK_ERR_ARGUMENT (no such module). Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_adapters_module(const lrk_adapters *adapters, int32_t module, lrk_module_info *info);

/*
 * Index of the module of that name. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOT_FOUND (index is -1). Threads: shared-read.
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_find(const lrk_adapters *adapters, const char *name, int32_t *index);

/*
 * Borrows one tensor of a module for reading and writing. A host that writes A, B or gates calls
 * lrk_adapters_values_changed() before the next pass.
 * Errors   LRK_ERR_ARGUMENT     no such module or tensor
 *          LRK_ERR_UNSUPPORTED  a gradient of an inference-only set
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_tensor(const lrk_adapters *adapters, int32_t module, int32_t which,
                                                       lrk_tensor *tensor);

/*
 * Identities and birth steps of a module's ranks, in index order. The pointers are borrowed; *n gets the rank.
 * identities or births may be NULL. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1
 */
LRK_API lrk_status lrk_adapters_ranks(const lrk_adapters *adapters, int32_t module, const uint64_t **identities,
                                      const int64_t **births, int64_t *n);

/*
 * Module and index of a live rank. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOT_FOUND (not live: both are -1).
 * Threads: shared-read. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_find_rank(const lrk_adapters *adapters, uint64_t identity,
                                                          int32_t *module, int64_t *index);

/*
 * The host wrote parameters itself: what was made from the old ones (saved buffers, scores, paused runs) is LRK_ERR_STALE.
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_BUSY (a pass is open). Since 0.1
 */
LRK_API lrk_status lrk_adapters_values_changed(lrk_adapters *adapters);

/*
 * Flat views for an all-reduce or a foreign optimizer: runs of consecutive floats that together hold all of
 * LRK_FLAT_..., in module order; library-owned storage gives one run a module (A then B), host-owned storage two.
 * Writes up to `capacity` segments (stepped by segments[0].struct_size) and *n, the number there are; segments may be
 * NULL with capacity 0. Gradients written through them count as present for the optimizer only after
 * lrk_adapters_gradients_written().
 * Errors   LRK_ERR_ARGUMENT; LRK_ERR_UNSUPPORTED  gradients of an inference-only set.   Since 0.1
 */
LRK_API lrk_status lrk_adapters_flat(const lrk_adapters *adapters, int32_t which, lrk_segment *segments,
                                     int64_t capacity, int64_t *n);

/*
 * All gradients become 0 and every module counts as without gradient, also while a pass is open, which goes on adding.
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_UNSUPPORTED (inference-only set). Since 0.1
 */
LRK_API lrk_status lrk_adapters_zero_gradients(lrk_adapters *adapters);

/*
 * The host wrote gradients itself: every module counts as having one.
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_UNSUPPORTED (inference-only set). Since 0.1
 */
LRK_API lrk_status lrk_adapters_gradients_written(lrk_adapters *adapters);

/*
 * Multiplies all gradients (gates' included) by `factor` (unscaling of mixed precision, averaging, clipping) and sets
 * *finite to 1 if all results are finite, else 0; finite may be NULL. A host with mixed precision skips its step at 0.
 * Errors   LRK_ERR_ARGUMENT (factor not finite), LRK_ERR_UNSUPPORTED.   Since 0.1
 */
LRK_API lrk_status lrk_adapters_scale_gradients(lrk_adapters *adapters, double factor, int32_t *finite);

/*
 * Sum of squares of the gradients of A and B in double, in a fixed order, so that a host can clip jointly with its own
 * parameters. NaN and infinity propagate. Errors: LRK_ERR_ARGUMENT, LRK_ERR_UNSUPPORTED. Since 0.1
 */
LRK_API lrk_status lrk_adapters_gradient_norm2(const lrk_adapters *adapters, double *norm2);

/*
 * Copies A, B, gates, identities and birth steps into memory of the context's. The snapshot belongs to the caller and keeps
 * the set alive.
 * Errors   LRK_ERR_ARGUMENT, LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_snapshot_create(lrk_adapters *adapters, lrk_snapshot **snapshot);

/*
 * Puts the set back to the snapshot, ranks included; gradients become 0. Identities used since stay used. Optimizers
 * of the set return LRK_ERR_STALE until they are realigned if ranks changed (optimizer.h).
 * Errors   LRK_ERR_ARGUMENT  snapshot of another set
 *          LRK_ERR_BUSY      a pass is open or a plan is prepared
 *          LRK_ERR_HOST      storage->prepare refused     LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_snapshot_restore(const lrk_snapshot *snapshot, lrk_adapters *adapters);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_snapshot_destroy(lrk_snapshot *snapshot);

/* Orientation of a weight in memory. */
#define LRK_WEIGHT_OUT_IN 0 /* W [n_out x n_in], as in torch.nn.Linear */
#define LRK_WEIGHT_IN_OUT 1 /* W [n_in x n_out], as in GPT-2's Conv1D  */

/*
 * Adds sign * s * B^T diag(g) A to a row-major f32 weight: merge with sign +1, unmerge with -1. Unmerging restores W up
 * to rounding (|error| <= 2 eps (|W| + |delta|) an element); a host that needs W back bit for bit keeps a copy.
 * ld >= the number of columns of the orientation.
 * Errors   LRK_ERR_ARGUMENT   no such module, sign not +1 or -1, unknown orientation, NULL weight
 *          LRK_ERR_SHAPE      ld too small, or the size of the weight overflows
 *          LRK_ERR_NONFINITE  a parameter of the module is not finite (W untouched)
 *          LRK_ERR_HOST       gemm failed; W is then unspecified
 *          LRK_ERR_NOMEM      no scratch for 64 rows of delta (W untouched)
 * Special  rank 0: W unchanged.
 * Threads  shared-read; W is the caller's.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_merge(const lrk_adapters *adapters, int32_t module, int32_t sign,
                                                      int32_t orientation, float *weight, int64_t ld);

/*
 * Writes delta = s * B^T diag(g) A, exactly what merging adds, in the given orientation (rank 0: zeros). Otherwise as
 * lrk_adapters_merge(). Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_adapters_delta(const lrk_adapters *adapters, int32_t module,
                                                      int32_t orientation, float *delta, int64_t ld);

#ifdef __cplusplus
}
#endif

#endif
