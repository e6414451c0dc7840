/* SPDX-License-Identifier: MIT */
/*
 * Importance: one score per live rank, higher = keep.
 *
 * AB-LoRA (Liu et al. 2024, eq. 6): IS(r) = S(M) - S(M without r) + S(M_r), S = -cross-entropy on a validation batch,
 * M_r = the base model plus rank r alone. lorank computes, with L = mean loss,
 *     score(r) = t1 + t2,   t1 = L(M without r) - L(M),   t2 = L(base) - L(M_r),
 * which differs from IS by a constant and so ranks the same, and sits on one scale with its first-order form
 *     two-point score(r) = -dL/dm_r at m = 1  -  dL/dm_r at m = 0.
 *
 * Estimators ask the host to run its model under passes that lorank opens. All of a run's numbers are in double.
 * Threads: handle-exclusive. Callbacks run on the thread that called lrk_estimator_run(); inside them the host may use
 * the passes it was given, and any call that only reads the set; steps, plans, restores and a nested run of the same
 * estimator are refused with LRK_ERR_BUSY.
 */
#ifndef LRK_IMPORTANCE_H
#define LRK_IMPORTANCE_H

#include <stdint.h>

#include "adapters.h"
#include "pass.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lrk_estimator lrk_estimator;
typedef struct lrk_scores lrk_scores;

/* Loss of one part of the validation batch: sum of the losses of its targets, and their weight (number). */
typedef struct lrk_loss_part {
    double loss_sum;
    double weight;
} lrk_loss_part;

/*
 * One evaluation that the host is asked for. The host runs its model over the whole validation batch with `pass`
 * (opened by lorank in evaluate mode under the mask) and fills parts[0..n_parts). Stages below first_stage give the same
 * as under the baseline: a host that kept the baseline's activations starts there. Requests come ordered by ascending
 * first stage within each baseline; the baselines themselves have LRK_NO_STAGE and come first.
 */
typedef struct lrk_evaluation {
    uint32_t struct_size;
    int32_t baseline;    /* LRK_BASELINE_...                                  */
    int32_t first_stage; /* LRK_NO_STAGE for the baseline itself              */
    int32_t n_parts;
    lrk_pass *pass;      /* lorank's; ended by lorank after the call, not by lrk_pass_end() */
    lrk_loss_part *parts;
    int64_t index;       /* of this evaluation in the run, from 0             */
    uint64_t identity;   /* of the rank left out or alone, 0 for a baseline   */
} lrk_evaluation;

/*
 * The host's side of scoring. Non-zero from evaluate or differentiate ends the run with LRK_ERR_HOST; non-zero from
 * progress ends it with LRK_ERR_CANCELLED, and the next lrk_estimator_run() goes on where it stopped.
 *   evaluate       n evaluations (1 <= n <= max_per_call), n passes to run side by side or one after the other. Those of
 *                  one call have one baseline; a baseline itself is asked for alone.
 *   differentiate  forward and backward of the mean loss (loss_sum / weight over all parts) with the pass, dx chains
 *                  included; lorank collects dL/dm from it and nothing else. Needed by screened and two-point, under the
 *                  baselines, and by selection, under weights of all ranks: what is cached of it is the baseline's where
 *                  first_stage is LRK_NO_STAGE alone. Also fills parts.
 *   progress       done of total evaluations (differentiations count as evaluations here); may be NULL.
 * A part weighs the same in every evaluation of a run (LRK_ERR_HOST: the host changed its validation batch). If a call of
 * lorank fails in a callback, return non-zero: its words are added to those of LRK_ERR_HOST.
 */
#define LRK_EVALUATOR_DIFFERENTIATE_IS_BASELINE 0x1u /* differentiate gives bit for bit the losses that evaluate gives
                                                        under its baseline, and leaves as much cached: screened then
                                                        does not ask for the baselines again */

typedef struct lrk_evaluator {
    uint32_t struct_size;
    uint32_t flags; /* LRK_EVALUATOR_... [0] */
    void *user;
    int32_t (*evaluate)(void *user, const lrk_evaluation *evaluations, int32_t n);
    int32_t (*differentiate)(void *user, const lrk_evaluation *evaluation);
    int32_t (*progress)(void *user, int64_t done, int64_t total);
    int64_t max_rows;     /* most rows of an x in these passes, >= 1 [0: must be set] */
    int32_t n_parts;      /* parts of the validation batch, 1..4096 [1]               */
    int32_t max_per_call; /* evaluations that one call may ask for, 1..1024 [1]       */
} lrk_evaluator;

#define LRK_ABLATION_EXACT     0 /* every rank ablated: 2 evaluations a rank, and the two baselines      */
#define LRK_ABLATION_SCREENED  1 /* two-point for all, the lowest ablated exactly                        */
#define LRK_ABLATION_TWO_POINT 2 /* two-point alone: has a blind spot at large ranks at a flat optimum   */

/*
 * Order of a run: [differentiate under all, then none;] all, its repeats, all without each rank; none, its repeats,
 * each rank alone. Screened repeats the two groups of ranks for those that join the pool, without asking for the
 * baselines again: a host that keeps activations keeps those of both baselines until the run ends.
 *
 * Screened: the pool are the `pool` ranks of lowest two-point score; they are ablated exactly; while a rank outside is
 * estimated below the cut (the n_cut-th lowest exact score of the pool) the ranks estimated below it join, lowest
 * first, at most pool_step at a time. Reported with it: exact scores for the pool, two-point scores for the rest.
 */
typedef struct lrk_ablation_options {
    uint32_t struct_size;
    uint32_t flags;              /* 0                                                                            */
    int32_t mode;                /* LRK_ABLATION_... [LRK_ABLATION_EXACT]                                        */
    int32_t noise_floor_repeats; /* extra evaluations of each baseline that measure the host's own noise, >= 0;
                                    two-point evaluates none and takes none [0]                                  */
    int64_t n_cut;               /* screened: ranks that will be pruned, n_A >= 1, and those among the lowest that
                                    floors or protection keep [0: must be set for screened]                      */
    int64_t pool;                /* screened: first pool, >= n_cut; LRK_POOL_DEFAULT: max(16, 2 n_cut), at most
                                    pool_limit [LRK_POOL_DEFAULT]                                                */
    int64_t pool_step;           /* screened: most that join at once, >= 1 [4]                                   */
    int64_t pool_limit;          /* screened: most ranks ablated exactly, >= n_cut and pool; reaching it while a rank
                                    outside is estimated below the cut is logged; LRK_POOL_UNLIMITED [the default] */
} lrk_ablation_options;

#define LRK_POOL_DEFAULT   (-1)
#define LRK_POOL_UNLIMITED (-1)

/* Cost of a run, known beforehand. */
typedef struct lrk_estimate {
    uint32_t struct_size;
    uint32_t flags;
    int64_t evaluations;      /* that the run will ask for; screened: with the first pool     */
    int64_t evaluations_most; /* the most it can ask for                                      */
    int64_t differentiations;
    int64_t ranks;            /* live ranks scored                                            */
} lrk_estimate;

/* Flags of a score. */
#define LRK_SCORE_EXACT       0x1u /* by ablation; else estimated                                    */
#define LRK_SCORE_BELOW_FLOOR 0x2u /* |score| is not above the measured noise floor                  */

typedef struct lrk_score {
    uint32_t struct_size;
    uint32_t flags;    /* LRK_SCORE_...                                                               */
    uint64_t identity;
    int32_t module;
    int32_t reserved;
    int64_t index;     /* of the rank in its module                                                   */
    double score;      /* what policies order by                                                      */
    double t1;         /* its two terms; NaN for estimators without terms                             */
    double t2;
    double noise;      /* standard error of an exact score over n >= 2 parts, else NaN: with s_p the part's terms of
                          the score and w_p its weight, sqrt(n/(n-1) sum (s_p - score w_p)^2) / sum w_p */
    double estimate;   /* two-point score where it was computed, else NaN                             */
} lrk_score;

typedef struct lrk_scores_info {
    uint32_t struct_size;
    uint32_t flags;
    const char *estimator;    /* "ablation.exact", "ablation.screened", ...: borrowed from the scores     */
    int64_t n;                /* ranks                                                                    */
    int64_t n_exact;
    int64_t evaluations;      /* that the host ran                                                        */
    int64_t differentiations;
    double loss_all;          /* mean loss with all ranks, NaN if not evaluated                           */
    double loss_none;         /* mean loss of the base                                                    */
    double noise_floor;       /* largest |change| of loss_all from evaluating again plus that of loss_none: the most
                                 that it can move a score, NaN: unknown                                   */
    double split_correlation; /* Spearman correlation of scores from even and from odd parts, over the exactly
                                 scored ranks; NaN: unknown                                               */
    uint64_t generation;      /* of the set that was scored                                               */
    uint64_t values_version;
} lrk_scores_info;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_evaluator_init(lrk_evaluator *evaluator, size_t struct_size);
LRK_API lrk_status lrk_ablation_options_init(lrk_ablation_options *options, size_t struct_size);

/*
 * AB-LoRA. options may be NULL (exact).
 * Errors   LRK_ERR_ARGUMENT  evaluate missing; differentiate missing in a mode that needs it; unknown mode; max_rows,
 *                            n_parts, max_per_call, n_cut, pool, pool_step or pool_limit out of range
 *          LRK_ERR_UNSUPPORTED  screened or two-point on an inference-only set;  LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_ablation(lrk_adapters *adapters,
                                                                 const lrk_evaluator *evaluator,
                                                                 const lrk_ablation_options *options,
                                                                 lrk_estimator **estimator);

/*
 * Control: scores uniform in [0, 1), keyed by (seed, identity, nonce of the run). Errors: ARGUMENT, NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_random(lrk_adapters *adapters, uint64_t seed,
                                                               lrk_estimator **estimator);

/*
 * The host's own estimator: score() fills scores[0..n), one per live rank, module after module in index order
 * (identities[i] says which); non-zero ends the run with LRK_ERR_HOST, a non-finite score with LRK_ERR_NONFINITE.
 * `name` is copied. Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1
 */
typedef struct lrk_custom_estimator {
    uint32_t struct_size;
    uint32_t flags; /* 0 */
    void *user;
    const char *name;
    int32_t (*score)(void *user, const uint64_t *identities, double *scores, int64_t n);
} lrk_custom_estimator;

LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_custom(lrk_adapters *adapters,
                                                               const lrk_custom_estimator *custom,
                                                               lrk_estimator **estimator);

/*
 * Sensitivity (AdaLoRA, Zhang et al. 2023, eq. 7-11). For every element w of a rank, at every step with gradient d,
 *     I = |w d|,   Ibar <- beta1 Ibar + (1 - beta1) I,   Ubar <- beta2 Ubar + (1 - beta2) |I - Ibar|  (the new Ibar),
 *     s(w) = Ibar Ubar,   averages are kept as floats and start at 0;
 *     triplet  score = s(g) + mean_j s(a_j) + mean_k s(b_k)   paper and code of AdaLoRA, and of PEFT; g the gate
 *     pair     score = mean_j s(a_j) + mean_k s(b_k)          for plain LoRA, whose gates are not trained
 * g dL/dg is taken as sum_j a_j dL/da_j, which equals it; so gates need no gradients of their own.
 * w is the value that the gradient was taken at (AdaLoRA's code takes it after the optimizer's step). A new rank starts
 * at zero averages: LRK_SENSITIVITY_CORRECTED divides Ibar by 1 - beta1^k and Ubar by 1 - beta2^k, k its own observed
 * steps. Memory: 2 floats an element.
 */
#define LRK_SENSITIVITY_TRIPLET 0
#define LRK_SENSITIVITY_PAIR    1

#define LRK_SENSITIVITY_CORRECTED 0x1u

typedef struct lrk_sensitivity_options {
    uint32_t struct_size;
    uint32_t flags;   /* LRK_SENSITIVITY_CORRECTED [0]           */
    int32_t form;     /* LRK_SENSITIVITY_... [TRIPLET]           */
    int32_t reserved; /* 0                                       */
    double beta1;     /* in [0, 1) [0.85]                        */
    double beta2;     /* in [0, 1) [0.85]                        */
} lrk_sensitivity_options;

/*
 * First-order Taylor (Molchanov et al. 2017): with g1 = -dL/dm at m = 1, the first-order t1, averaged over the gradients
 * observed since the last scoring (sum over the rank's own steps / their number, 0 if there are none),
 *     absolute  score = |mean g1|        signed  score = mean g1,        -g1 = sum_j a_j dL/da_j.
 */
#define LRK_TAYLOR_ABSOLUTE 0
#define LRK_TAYLOR_SIGNED   1

typedef struct lrk_taylor_options {
    uint32_t struct_size;
    uint32_t flags;   /* 0                               */
    int32_t form;     /* LRK_TAYLOR_... [ABSOLUTE]       */
    int32_t reserved; /* 0                               */
} lrk_taylor_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_sensitivity_options_init(lrk_sensitivity_options *options, size_t struct_size);
LRK_API lrk_status lrk_taylor_options_init(lrk_taylor_options *options, size_t struct_size);

/*
 * Estimators that observe: see lrk_estimator_observe(). options may be NULL. A run before any gradient of a live rank was
 * observed gives LRK_ERR_STATE. What they hold follows its ranks by identity through plans and restores, and is part of
 * checkpoints.
 * Errors   LRK_ERR_ARGUMENT (a value out of range), LRK_ERR_UNSUPPORTED (inference-only set), LRK_ERR_VERSION,
 *          LRK_ERR_NOMEM.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_sensitivity(lrk_adapters *adapters,
                                                                    const lrk_sensitivity_options *options,
                                                                    lrk_estimator **estimator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_taylor(lrk_adapters *adapters,
                                                               const lrk_taylor_options *options,
                                                               lrk_estimator **estimator);

/*
 * Read off the parameters, in double.
 *     magnitude  |s g| |a| |b| (Euclidean norms): the Frobenius norm of the rank's part of the weight
 *     gate       |g| (SoRA, Ding et al. 2023; CoDyRA, Lu et al. 2024)
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_magnitude(lrk_adapters *adapters,
                                                                  lrk_estimator **estimator);
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_gate(lrk_adapters *adapters, lrk_estimator **estimator);

/*
 * Output share (LoRA-drop, Zhou et al. 2024): of what the adapters add to the activations, how much comes from here. With
 * the sums over the rows of the validation batch that lrk_pass_options.outputs describes,
 *     rank    score_j = own_j / sum over all ranks of own. A rank's |o_j|^2 alone: cross terms belong to no rank.
 *     module  with g_m = sum over the ranks of module m of joint = sum_t |dW_m x_t|^2, LoRA-drop's own measure, and shares
 *             g_m / sum g: every rank of m gets the sum of the shares of m and of all modules below it in the order
 *             (g, module). So the policy threshold at 1 - T keeps LoRA-drop's modules, in descending order until their
 *             shares reach T, and policies that prune a number take whole modules, least first. Since modules are the
 *             unit, cross terms count.
 * A run is one evaluate() with all ranks, whose rows lorank sums while the host calls lrk_forward(): once for every row
 * and module (a host that computes a layer twice counts it twice). progress is not called; loss_all is known.
 * Errors   creating: LRK_ERR_ARGUMENT (unknown level or flag; the evaluator as for ablation), LRK_ERR_VERSION,
 *          LRK_ERR_NOMEM; running, beside those of lrk_estimator_run(): LRK_ERR_STATE  nothing is added anywhere (every B
 *          is 0: train first)
 * Special  a module that adds nothing has share 0.   Since 0.1
 */
#define LRK_OUTPUT_RANK   0
#define LRK_OUTPUT_MODULE 1

typedef struct lrk_output_options {
    uint32_t struct_size;
    uint32_t flags;   /* 0                      */
    int32_t level;    /* LRK_OUTPUT_... [RANK]  */
    int32_t reserved; /* 0                      */
} lrk_output_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_output_options_init(lrk_output_options *options, size_t struct_size);
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_output(lrk_adapters *adapters,
                                                               const lrk_evaluator *evaluator,
                                                               const lrk_output_options *options,
                                                               lrk_estimator **estimator);

/*
 * Selection weights (AutoLoRA, Zhang et al. 2024, arXiv:2403.09113), to first order: in a module of r ranks
 *     w_j = r softmax(alpha)_j,   alpha = 0 at first,   dL/dalpha_j = w_j (G_j - 1/r sum_k w_k G_k),   G_j = dL/dm_j at m = w,
 * L the mean loss on the validation batch under the mask w, and alpha moved by `steps` steps of Adam (rate, betas 0.5 and 0.999,
 * 1e-8) at the A, B and gates that the set has. The score is w_j: 1 on average in every module, whose rank by AutoLoRA's rule,
 * softmax >= 1/r, is the number of its scores >= 1. What the published method does besides - A and B trained under the weights, a
 * fresh batch every step, the second-order term of a one-step unroll - is not here. Since Adam's steps are as long whatever the
 * gradient's size, scores tell sides of 1 apart rather than ranks on the same side: meant for the policy threshold below 1.
 * A run asks for `steps` differentiations of the whole set, the first under weights of 1, and keeps nothing; progress is not called;
 * loss_all is known.
 * Errors   creating: LRK_ERR_ARGUMENT (steps < 1, rate not > 0, an unknown flag; the evaluator, with differentiate),
 *          LRK_ERR_UNSUPPORTED (inference-only set), LRK_ERR_VERSION, LRK_ERR_NOMEM
 * Special  the only rank of a module, and all of a module without derivatives (B = 0, gates 0), have score 1.   Since 0.1
 */
typedef struct lrk_selection_options {
    uint32_t struct_size;
    uint32_t flags;   /* 0                                                             */
    int32_t steps;    /* >= 1 [16]                                                     */
    int32_t reserved; /* 0                                                             */
    double rate;      /* > 0; the logarithm of a weight moves by about that a step [0.1] */
} lrk_selection_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_selection_options_init(lrk_selection_options *options, size_t struct_size);
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_selection(lrk_adapters *adapters,
                                                                  const lrk_evaluator *evaluator,
                                                                  const lrk_selection_options *options,
                                                                  lrk_estimator **estimator);

/*
 * Salience (SalientLoRA, Ke et al. 2024; as its code has it, github.com/Heyest/SalientLoRA), for gates that are trained. A window
 * is the last n steps observed since the last scoring, g_it the gate of rank i and o_t the mean of |W W^T - I|_F over the
 * matrices W (A and B of every module with a rank) before the optimizer's step t of it. With u_t = 1/o_t scaled to [0, 1] over
 * the window, and over its steps v_i = sum (g_i - mean g_i)^2, c_ij = sum (g_i - mean g_i) (g_j - mean g_j),
 *     share      t1_i = sum_t u_t |g_it| / the same sum over all ranks of i's module
 *     edge i->j  of weight w_ij = c_ij / (v_i + 1e-15), if that is >= slope and c_ij / (sqrt(v_i v_j) + 1e-15) >= correlation
 *     influence  f_i = sum_j w_ij max(f_j, 1), 0 without edges from i;   t2_i = f_i / sum over all ranks of the set of f
 *     score      t1 + t2
 * Round t (the run's nonce) reads n = window_last - (window_last - window) (1 - t / n_rounds)^3 steps, rounded, or as many as
 * there are: all of them for t >= n_rounds. A slope > 1 leads to a rank that varies more than its own, so that edges form no
 * cycles, which the published code would look for. A rank keeps its gates by identity, through plans and restores; one that was
 * not there at a step of the window counts as gate 0 at it and has no edges.
 * Memory: window_last floats a rank; a run takes as many doubles and R^2 n / 2 products, R the ranks of the set. Observing a step
 * costs a product of rows for every pair of ranks of a module, by modules in the context's parallel loop.
 * Special  gates that stand still have no edges: without any, all t2 are 0 and scores are shares;  a module whose gates are all
 *          0 has shares 0;  o the same at all steps: u = 1;  o_t = 0: u_t = 1, and 0 where o > 0;  equal values have equal
 *          scores;  a set without ranks has no scores.
 */
typedef struct lrk_salience_options {
    uint32_t struct_size;
    uint32_t flags;      /* 0                                                                  */
    int32_t window;      /* steps that round 0 reads, >= 1 [10]                                */
    int32_t window_last; /* those that the last would read, >= window [200]                    */
    int32_t n_rounds;    /* in which the window grows, >= 0 [0: window_last from the beginning] */
    int32_t reserved;    /* 0                                                                  */
    double correlation;  /* in [0, 1] [0.9]                                                    */
    double slope;        /* > 1 [2]                                                            */
} lrk_salience_options;

/* Errors: LRK_ERR_ARGUMENT. Threads: pure. Since 0.1 */
LRK_API lrk_status lrk_salience_options_init(lrk_salience_options *options, size_t struct_size);

/*
 * An estimator that observes: as lrk_estimator_create_sensitivity(), errors too; a run adds LRK_ERR_NONFINITE for a gate, and for
 * A or B, of a step in the window. options may be NULL. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_salience(lrk_adapters *adapters,
                                                                 const lrk_salience_options *options,
                                                                 lrk_estimator **estimator);

/*
 * Control: the scores of `inner` (kept alive) negated, terms and estimates too; named "reversed.<inner>". Resetting it
 * resets the inner one, a checkpoint that lists it holds what the inner one keeps (list one of the two).
 * Errors: LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_create_reversed(lrk_estimator *inner, lrk_estimator **estimator);

/*
 * Lets the estimator look at the set's gradients of one training step. lorank's optimizers do it for every estimator of
 * their set, so that only hosts with an optimizer of their own call this, once a step, before that optimizer changes the
 * parameters. Gradients are seen as they lie in the set, before any clipping by lorank's optimizer. Estimators that do
 * not observe return LRK_OK. Cost: one pass over the parameters.
 * Errors   LRK_ERR_NO_GRADIENT  a module that may not lack one has none;  LRK_ERR_NONFINITE  a gradient is not finite:
 *                               details name the module
 *          LRK_ERR_BUSY         a pass is open, a plan is prepared, or called from a callback
 *          LRK_ERR_ARGUMENT, LRK_ERR_NOMEM. After a failure nothing was observed.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_observe(lrk_estimator *estimator);

/* Gives up the caller's reference. NULL is ignored. Since 0.1 */
LRK_API void lrk_estimator_destroy(lrk_estimator *estimator);

/* What a run would cost now. Errors: LRK_ERR_ARGUMENT. Since 0.1 */
LRK_API lrk_status lrk_estimator_estimate(const lrk_estimator *estimator, lrk_estimate *estimate);

/*
 * Scores every live rank, or goes on with a cancelled or failed run. `nonce` (the round's number) keys random scores.
 * Errors   LRK_ERR_CANCELLED  progress asked to stop: call again to go on
 *          LRK_ERR_HOST       a callback failed: what was evaluated is kept, call again to go on
 *          LRK_ERR_NONFINITE  a loss is not finite or a weight not positive; the detail names module and rank
 *          LRK_ERR_NO_GRADIENT  differentiate ran no backward of a module that may not lack one; the detail names it
 *          LRK_ERR_STALE      a paused run, and parameters or ranks have changed since: lrk_estimator_reset() first
 *          LRK_ERR_BUSY       called from a callback of the estimator, or a plan is prepared
 *          LRK_ERR_NOMEM
 * Owner    the scores are the caller's.   Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_estimator_run(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores);

/* Forgets a paused run. NULL is ignored. Since 0.1 */
LRK_API void lrk_estimator_reset(lrk_estimator *estimator);

/*
 * Scores from the host (computed elsewhere, or broadcast by another worker): values[i] for the live ranks, module after
 * module in index order. Errors: LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (n), LRK_ERR_NONFINITE, LRK_ERR_NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_scores_create(lrk_adapters *adapters, const double *values, int64_t n,
                                                     lrk_scores **scores);

/* NULL is ignored. Since 0.1 */
LRK_API void lrk_scores_destroy(lrk_scores *scores);

/* Facts of the run. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_scores_info_get(const lrk_scores *scores, lrk_scores_info *info);

/* Score i of n, module after module in index order. Errors: LRK_ERR_ARGUMENT. Threads: shared-read. Since 0.1 */
LRK_API lrk_status lrk_scores_get(const lrk_scores *scores, int64_t i, lrk_score *score);

/*
 * Indices (as for lrk_scores_get()) of the n lowest scores in ascending order under the total order (score, module,
 * identity). Errors: LRK_ERR_ARGUMENT, LRK_ERR_SHAPE (n > scores), LRK_ERR_NOMEM. Since 0.1
 */
LRK_API LRK_WARN_UNUSED lrk_status lrk_scores_lowest(const lrk_scores *scores, int64_t n, int64_t *indices);

#ifdef __cplusplus
}
#endif

#endif
