/* SPDX-License-Identifier: MIT */
/*
 * Salience (SalientLoRA, Ke et al. 2024): a rank's share in the gates of its module over a window of steps, and its influence on
 * ranks whose gates move along with its own and further.
 * Invariant: an edge leads to a rank of larger variance. Its slope c / v_i > 1 and c^2 <= v_i v_j give v_j > v_i. So ranks in
 * descending order of variance find the influence of all that they point to done: there are no cycles to break, and no matrix of
 * slopes to keep.
 * A run only marks the window as read; the next step observed begins a new one, so that a round whose plan failed is tried again
 * on the same scores.
 */
#include <math.h>
#include <stdlib.h>

#include "importance.h"

#include "../kernels/kernels.h"

#define FLOOR 1e-15 /* in the published denominators: gates that stand still point nowhere */

typedef struct salience_state {
    lrk_salience_options options;
    lrki_tracker tracker; /* a row: the gate at step k in place k modulo window_last           */
    double *defects;      /* [window_last] by steps likewise; NULL: nothing was followed yet   */
    double *norms;        /* [modules] of the step that is observed                            */
    int64_t steps;        /* of the window so far, those that its rows have forgotten included */
    bool scored;          /* the window was read                                               */
} salience_state;

lrk_status lrk_salience_options_init(lrk_salience_options *options, size_t struct_size)
{
    static const lrk_salience_options defaults = {
        .window = 10, .window_last = 200, .correlation = 0.9, .slope = 2};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- observing --------------------------------------------------------------------------------------- */

static lrk_status prepare_salience(lrk_estimator *estimator)
{
    salience_state *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    if (state->defects == NULL)
        state->defects = lrki_array(context, state->options.window_last, sizeof *state->defects);
    if (state->norms == NULL)
        state->norms = lrki_array(context, estimator->adapters->n_modules, sizeof *state->norms);
    if (state->defects == NULL || state->norms == NULL) return lrki_fail_nomem(context, "a window of steps");
    return lrki_tracker_follow(estimator->adapters, &state->tracker);
}

typedef struct measuring {
    const lrk_adapters *adapters;
    double *norms; /* [modules] below 0: not measured */
} measuring;

/* |A A^T - I| + |B B^T - I| of a module; 0 without a rank. */
static void measure_module(void *data, int64_t m)
{
    const measuring *measured = data;
    const lrki_module *module = &measured->adapters->modules[m];
    const lrki_bank *bank = &module->bank;
    measured->norms[m] = bank->rank == 0 ? 0
                                         : lrki_defect_norm(bank->a, bank->rank, module->n_in) +
                                               lrki_defect_norm(bank->b, bank->rank, module->n_out);
}

/* Mean of |W W^T - I| over A and B of every module with a rank. A host whose parallel_for fails is not waited for. */
static double mean_defect(const lrk_adapters *adapters, double *norms)
{
    measuring measured = {adapters, norms};
    double sum = 0;
    int64_t matrices = 0;
    for (int64_t m = 0; m < adapters->n_modules; m++)
        norms[m] = -1;
    if (lrki_parallel_for(adapters->context, adapters->n_modules, measure_module, &measured) != LRK_OK)
        lrki_log(adapters->context, LRK_LOG_WARNING,
                 "the host's parallel_for failed: the salience estimator goes on without it");
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        if (norms[m] < 0) measure_module(&measured, m);
        sum += norms[m];
        matrices += adapters->modules[m].bank.rank > 0 ? 2 : 0;
    }
    return matrices > 0 ? sum / (double)matrices : 0;
}

static void observe_salience(lrk_estimator *estimator)
{
    salience_state *state = estimator->state;
    const lrk_adapters *adapters = estimator->adapters;
    if (state->scored) {
        lrki_tracker_restart(adapters, &state->tracker);
        state->steps = 0;
    }
    state->scored = false;
    int64_t place = state->steps++ % state->options.window_last;
    state->defects[place] = mean_defect(adapters, state->norms);
    for (int64_t m = 0; m < adapters->n_modules; m++) {
        lrki_tracked *tracked = &state->tracker.modules[m];
        for (int64_t i = 0; i < tracked->rank; i++) {
            tracked->rows[i * state->options.window_last + place] = adapters->modules[m].bank.gates[i];
            tracked->counts[i]++;
        }
    }
}

/* ---- the window -------------------------------------------------------------------------------------- */

/* Of one rank. */
typedef struct series {
    const float *gates; /* [window_last] as they are kept                          */
    bool whole;         /* it was there at all steps of the window                 */
    double mean;
    double variance; /* sum of squares of what deviates; 0 unless it is whole      */
    int64_t rank;    /* among all                                                  */
    double reach;    /* what an edge to it counts: its influence, 1 if that is 0   */
} series;

typedef struct window {
    const salience_state *state;
    int64_t n; /* steps                                                      */
    int64_t n_ranks;
    double *weights;    /* [n]                                                        */
    series *series;     /* [n_ranks] in descending order of variance, once sorted     */
    double *deviations; /* [n x n_ranks] in that order                                */
    double *products;   /* [n_ranks]                                                  */
} window;

static int64_t window_at(const lrk_salience_options *options, uint64_t round)
{
    if (round >= (uint64_t)options->n_rounds) return options->window_last;
    double left = 1.0 - (double)round / (double)options->n_rounds;
    double shorter = (double)options->window_last - (double)options->window;
    return llround((double)options->window_last - shorter * left * left * left);
}

static void free_window(lrk_context *context, window *w)
{
    lrki_array_free(context, w->weights, w->n, sizeof *w->weights);
    lrki_array_free(context, w->series, w->n_ranks, sizeof *w->series);
    lrki_array_free(context, w->deviations, w->n_ranks, (size_t)w->n * sizeof *w->deviations);
    lrki_array_free(context, w->products, w->n_ranks, sizeof *w->products);
}

static lrk_status make_window(const lrk_estimator *estimator, uint64_t round, window *w)
{
    const salience_state *state = estimator->state;
    lrk_context *context = estimator->adapters->context;
    int64_t kept = state->steps < state->options.window_last ? state->steps : state->options.window_last;
    int64_t n = window_at(&state->options, round);
    *w = (window){.state = state, .n = n < kept ? n : kept, .n_ranks = estimator->adapters->n_ranks};
    w->weights = lrki_array(context, w->n, sizeof *w->weights);
    w->series = lrki_array(context, w->n_ranks, sizeof *w->series);
    w->deviations = lrki_array(context, w->n_ranks, (size_t)w->n * sizeof *w->deviations);
    w->products = lrki_array(context, w->n_ranks, sizeof *w->products);
    if (w->weights != NULL && w->series != NULL && w->deviations != NULL && w->products != NULL)
        return LRK_OK;
    free_window(context, w);
    return lrki_fail_nomem(context, "a window of gates");
}

/* Where step t of the window is kept. */
static int64_t place_of(const window *w, int64_t t)
{
    return (w->state->steps - w->n + t) % w->state->options.window_last;
}

/* 1 / o_t scaled to [0, 1] over the window, o_t the defect, multiplied out so that o_t may be 0; 1 where all are the same. */
static lrk_status weigh_steps(lrk_context *context, const window *w)
{
    double least = INFINITY, most = 0;
    for (int64_t t = 0; t < w->n; t++) {
        double o = w->state->defects[place_of(w, t)];
        if (!isfinite(o))
            return lrki_fail(context, LRK_ERR_NONFINITE,
                             "salience estimator: A or B was not finite at a step of the window");
        least = fmin(least, o);
        most = fmax(most, o);
    }
    for (int64_t t = 0; t < w->n; t++) {
        double o = w->state->defects[place_of(w, t)];
        w->weights[t] = o > least ? least / o * ((most - o) / (most - least)) : 1;
    }
    return LRK_OK;
}

/* ---- share ------------------------------------------------------------------------------------------- */

static double sum_gates(const window *w, const float *gates)
{
    double sum = 0;
    for (int64_t t = 0; t < w->n; t++)
        sum += w->weights[t] * fabs((double)gates[place_of(w, t)]);
    return sum;
}

static void share_within_modules(lrk_scores *scores)
{
    for (int64_t begin = 0, end; begin < scores->info.n; begin = end) {
        double total = 0;
        for (end = begin; end < scores->info.n && scores->scores[end].module == scores->scores[begin].module;)
            total += scores->scores[end++].score;
        for (int64_t k = begin; k < end; k++)
            scores->scores[k].t1 = total > 0 ? scores->scores[k].score / total : 0;
    }
}

/* ---- influence --------------------------------------------------------------------------------------- */

static int more_varied_first(const void *left, const void *right)
{
    const series *a = left, *b = right;
    if (a->variance != b->variance) return a->variance > b->variance ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static double deviation(const window *w, const series *s, int64_t t)
{
    return s->whole ? (double)s->gates[place_of(w, t)] - s->mean : 0;
}

static void measure_series(const window *w, series *s)
{
    for (int64_t t = 0; t < w->n; t++)
        s->mean += (double)s->gates[place_of(w, t)];
    s->mean /= (double)w->n;
    for (int64_t t = 0; t < w->n; t++)
        s->variance += deviation(w, s, t) * deviation(w, s, t);
}

static void sort_series(const window *w)
{
    qsort(w->series, (size_t)w->n_ranks, sizeof *w->series, more_varied_first);
    for (int64_t t = 0; t < w->n; t++)
        for (int64_t p = 0; p < w->n_ranks; p++)
            w->deviations[t * w->n_ranks + p] = deviation(w, &w->series[p], t);
}

/* products[q] of series p with those before it: step after step, so that the inner loop has no order of its own to keep. */
static void multiply(const window *w, int64_t p)
{
    for (int64_t q = 0; q < p; q++)
        w->products[q] = 0;
    for (int64_t t = 0; t < w->n; t++) {
        const double *row = w->deviations + t * w->n_ranks;
        for (int64_t q = 0; q < p; q++)
            w->products[q] += row[p] * row[q];
    }
}

/* Weight of the edge from a to b, 0: none. */
static double edge(const lrk_salience_options *options, const series *a, const series *b, double product)
{
    double correlation = product / (sqrt(a->variance * b->variance) + FLOOR);
    double slope = product / (a->variance + FLOOR);
    return correlation >= options->correlation && slope >= options->slope ? slope : 0;
}

/* t2 of every rank; of series p from those before it. */
static void find_influence(const window *w, lrk_scores *scores)
{
    double total = 0;
    for (int64_t p = 0; p < w->n_ranks; p++) {
        double influence = 0;
        multiply(w, p);
        for (int64_t q = 0; q < p; q++)
            influence +=
                edge(&w->state->options, &w->series[p], &w->series[q], w->products[q]) * w->series[q].reach;
        w->series[p].reach = influence > 0 ? influence : 1;
        scores->scores[w->series[p].rank].t2 = influence;
        total += influence;
    }
    for (int64_t k = 0; k < scores->info.n && total > 0; k++)
        scores->scores[k].t2 /= total;
}

/* ---- scoring ----------------------------------------------------------------------------------------- */

/* Sums of gates become scores for a while, so that one that is not finite is named by its rank. */
static lrk_status read_window(const window *w, lrk_scores *scores)
{
    const salience_state *state = w->state;
    for (int64_t k = 0; k < w->n_ranks; k++) {
        lrk_score *score = &scores->scores[k];
        const lrki_tracked *tracked = &state->tracker.modules[score->module];
        series *s = &w->series[k];
        *s = (series){.gates = tracked->rows + score->index * state->options.window_last,
                      .whole = tracked->counts[score->index] >= w->n,
                      .rank = k};
        score->score = sum_gates(w, s->gates);
        measure_series(w, s);
    }
    return lrki_scores_check_finite(scores);
}

static lrk_status fill(lrk_estimator *estimator, uint64_t round, lrk_scores *scores)
{
    lrk_context *context = estimator->adapters->context;
    window w;
    lrk_status status = make_window(estimator, round, &w);
    if (status != LRK_OK) return status;
    status = weigh_steps(context, &w);
    if (status == LRK_OK) status = read_window(&w, scores);
    if (status == LRK_OK) {
        sort_series(&w);
        find_influence(&w, scores);
        share_within_modules(scores);
        for (int64_t k = 0; k < scores->info.n; k++)
            scores->scores[k].score = scores->scores[k].t1 + scores->scores[k].t2;
        status = lrki_scores_check_finite(scores);
    }
    free_window(context, &w);
    return status;
}

static lrk_status run_salience(lrk_estimator *estimator, uint64_t nonce, lrk_scores **scores)
{
    salience_state *state = estimator->state;
    lrk_status status = prepare_salience(estimator);
    if (status == LRK_OK) status = lrki_tracker_check_seen(estimator->adapters, &state->tracker, "salience");
    if (status != LRK_OK) return status;
    lrk_scores *made = lrki_scores_new(estimator->adapters, "salience");
    if (made == NULL) return LRK_ERR_NOMEM;
    status = lrki_estimator_agree(estimator, fill(estimator, nonce, made), made);
    if (status != LRK_OK) {
        lrk_scores_destroy(made);
        return status;
    }
    state->scored = true;
    *scores = made;
    return LRK_OK;
}

static void free_state(lrk_adapters *adapters, salience_state *state)
{
    lrki_tracker_free(adapters, &state->tracker);
    lrki_array_free(adapters->context, state->defects, state->options.window_last, sizeof *state->defects);
    lrki_array_free(adapters->context, state->norms, adapters->n_modules, sizeof *state->norms);
    state->defects = state->norms = NULL;
}

static void fini_salience(lrk_estimator *estimator)
{
    free_state(estimator->adapters, estimator->state);
}

/* ---- in checkpoints ---------------------------------------------------------------------------------- */

static void same_salience(const lrk_estimator *estimator, lrki_state *state)
{
    const lrk_salience_options *options = &((const salience_state *)estimator->state)->options;
    lrki_state_same_i64(state, "window", options->window);
    lrki_state_same_i64(state, "window_last", options->window_last);
    lrki_state_same_i64(state, "n_rounds", options->n_rounds);
    lrki_state_same_f64(state, "correlation", options->correlation);
    lrki_state_same_f64(state, "slope", options->slope);
}

static bool has_window(const lrk_estimator *estimator)
{
    return ((const salience_state *)estimator->state)->tracker.modules != NULL;
}

static void move_steps(lrki_state *state, salience_state *own)
{
    lrki_state_flag(state, &own->scored);
    lrki_state_within(state, "steps of the window", &own->steps, 0, INT64_MAX / 2);
    lrki_state_bytes(state, own->defects, (size_t)own->options.window_last * sizeof *own->defects);
}

static void save_window(const lrk_estimator *estimator, lrki_state *state)
{
    salience_state own = *(const salience_state *)estimator->state; /* saving only reads */
    move_steps(state, &own);
    lrki_tracker_save(estimator->adapters, &own.tracker, state);
}

static void drop_window(lrk_estimator *estimator, void *run)
{
    free_state(estimator->adapters, run);
    lrki_free(estimator->adapters->context, run, sizeof(salience_state));
}

/* What no window of steps can be; a defect may be NaN, as rows may. */
static void check_loaded(const lrk_adapters *adapters, const salience_state *load, lrki_state *state)
{
    for (int64_t k = 0; k < load->options.window_last && state->status == LRK_OK; k++)
        if (load->defects[k] < 0) (void)lrki_state_fail(state, LRK_ERR_FORMAT, "a step's defect is below 0");
    for (int64_t m = 0; m < adapters->n_modules; m++)
        for (int64_t i = 0; i < load->tracker.modules[m].rank && state->status == LRK_OK; i++)
            if (load->tracker.modules[m].counts[i] > load->steps)
                (void)lrki_state_fail(state, LRK_ERR_FORMAT,
                                      "a rank was observed more often than there were steps");
}

static lrk_status load_window(lrk_estimator *estimator, lrki_state *state, const lrki_adapters_load *set,
                              void **run)
{
    (void)set; /* records carry identities: they are fitted to the ranks when next used */
    const salience_state *own = estimator->state;
    lrk_context *context = estimator->adapters->context;
    salience_state *load = lrki_alloc_zeroed(context, sizeof *load);
    lrki_tracker *tracker = NULL;
    *run = NULL;
    if (load == NULL) return lrki_state_fail_nomem(state);
    load->options = own->options;
    load->defects = lrki_array(context, own->options.window_last, sizeof *load->defects);
    if (load->defects == NULL)
        (void)lrki_state_fail_nomem(state);
    else
        move_steps(state, load);
    load->tracker.per_rank = own->tracker.per_rank;
    if (state->status == LRK_OK) (void)lrki_tracker_load(estimator->adapters, &own->tracker, state, &tracker);
    if (state->status == LRK_OK) {
        lrki_tracker_adopt(estimator->adapters, &load->tracker, tracker);
        check_loaded(estimator->adapters, load, state);
    }
    if (state->status == LRK_OK)
        *run = load;
    else
        drop_window(estimator, load);
    return state->status;
}

static void adopt_window(lrk_estimator *estimator, void *run)
{
    salience_state *own = estimator->state;
    free_state(estimator->adapters, own);
    own->steps = 0;
    own->scored = false;
    if (run == NULL) return;
    *own = *(salience_state *)run;
    lrki_free(estimator->adapters->context, run, sizeof(salience_state));
}

static const lrki_estimator_resume resume_salience = {.same = same_salience,
                                                      .has_run = has_window,
                                                      .save_run = save_window,
                                                      .load_run = load_window,
                                                      .adopt_run = adopt_window,
                                                      .drop_run = drop_window};

/* ---- options ----------------------------------------------------------------------------------------- */

static lrk_status check_options(lrk_context *context, const lrk_salience_options *options)
{
    if (options->flags != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "flags has unknown bits: 0x%x", options->flags);
    if (options->reserved != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "reserved must be 0");
    if (options->window < 1)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "window must be >= 1, is %d", (int)options->window);
    if (options->window_last < options->window)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "window_last must be >= window, is %d",
                         (int)options->window_last);
    if (options->n_rounds < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "n_rounds must be >= 0, is %d", (int)options->n_rounds);
    if (!(options->correlation >= 0 && options->correlation <= 1))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "correlation must be in [0, 1], is %g",
                         options->correlation);
    if (!(options->slope > 1))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "slope must be > 1, is %g", options->slope);
    return LRK_OK;
}

static lrk_status check_chosen(lrk_context *context, const void *options)
{
    return check_options(context, options);
}

static void init_chosen(void *options)
{
    (void)lrk_salience_options_init(options, sizeof(lrk_salience_options));
}

static lrk_status create_chosen(lrk_adapters *adapters, const lrki_estimator_terms *terms,
                                const void *options, lrk_estimator **estimator)
{
    lrk_salience_options chosen = *(const lrk_salience_options *)options;
    chosen.n_rounds = terms->n_rounds;
    return lrk_estimator_create_salience(adapters, &chosen, estimator);
}

#define KEY(...) LRKI_KEY(lrk_salience_options, "importance", __VA_ARGS__)
static const lrki_key keys[] = {KEY("window", INTEGER4, window, ),
                                KEY("window_last", INTEGER4, window_last, ),
                                KEY("correlation", REAL, correlation, ),
                                KEY("slope", REAL, slope, ),
                                {.name = NULL}};
#undef KEY

const lrki_estimator_type lrki_estimator_salience = {
    .state_size = sizeof(salience_state),
    .resume = &resume_salience,
    .estimate = lrki_estimate_nothing,
    .run = run_salience,
    .fini = fini_salience,
    .prepare = prepare_salience,
    .observe = observe_salience,
    .method =
        {.summary =
             "SalientLoRA's share and influence of gates over a window of steps; for gates that are trained",
         .keys = keys,
         .size = LRKI_METHOD_SIZE(lrk_salience_options),
         .init = init_chosen},
    .check = check_chosen,
    .create = create_chosen};

/* ---- creation ---------------------------------------------------------------------------------------- */

lrk_status lrk_estimator_create_salience(lrk_adapters *adapters, const lrk_salience_options *options,
                                         lrk_estimator **estimator)
{
    if (estimator != NULL) *estimator = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_estimator_create_salience");
    if (status != LRK_OK) return status;
    salience_state state = {0};
    lrk_salience_options *known = &state.options;
    (void)lrk_salience_options_init(known, sizeof *known);
    if (options != NULL)
        status = lrki_struct_read(adapters->context, known, sizeof *known, options, 8, "salience options");
    if (status == LRK_OK) status = check_options(adapters->context, known);
    if (status != LRK_OK) return status;
    state.tracker.per_rank = known->window_last;
    return lrki_estimator_create(adapters, LRKI_KIND_salience, "salience estimator", &state, estimator);
}
