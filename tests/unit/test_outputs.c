/* SPDX-License-Identifier: MIT */
/*
 * What ranks put out: the sums that forward adds against the rows of outputs formed naively in double, for every way of
 * the kernels; bits and threads; the estimator of output shares and what it refuses.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "importance/importance.h"
#include "material.h"
#include "oracle.h"
#include "sets.h"

#define MOST_ROWS 160
#define MOST_OUT  96

Suite *outputs_suite(void);

/* ---- the oracle ------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    double own, joint;           /* of one rank          */
    double own_size, joint_size; /* with absolute values */
} sums;

/* The factor of a rank, and its H of row t: with sizes, every product by its absolute value. */
static double put_out(const lrk_adapters *set, int32_t m, int64_t j, const float *mask, const float *x,
                      bool size)
{
    const lrki_module *module = &set->modules[m];
    double h = 0, f = module->scale * (double)mask[module->first_rank + j] * (double)module->bank.gates[j];
    for (int64_t i = 0; i < module->n_in; i++) {
        double product = (double)x[i] * (double)module->bank.a[j * module->n_in + i];
        h += size ? fabs(product) : product;
    }
    return size ? fabs(f) * h : f * h;
}

/* Adds the rows of x to the sums [live ranks], row of outputs by row of outputs. */
static void oracle_outputs(const lrk_adapters *set, int32_t m, const float *mask, const float *x, int64_t ld,
                           int64_t rows, sums *to)
{
    const lrki_module *module = &set->modules[m];
    to += module->first_rank;
    for (int64_t t = 0; t < rows; t++) {
        double all[MOST_OUT] = {0}, all_size[MOST_OUT] = {0};
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < module->bank.rank; j++) {
                double c = put_out(set, m, j, mask, x + t * ld, false),
                       size = put_out(set, m, j, mask, x + t * ld, true);
                for (int64_t k = 0; k < module->n_out; k++) {
                    double b = module->bank.b[j * module->n_out + k];
                    if (pass == 0) {
                        all[k] += c * b;
                        all_size[k] += size * fabs(b);
                        continue;
                    }
                    to[j].own += c * b * c * b;
                    to[j].joint += c * b * all[k];
                    to[j].own_size += size * size * b * b;
                    to[j].joint_size += size * fabs(b) * all_size[k];
                }
            }
    }
}

/*
 * H errs by gamma(n_in) of its size and f is rounded once: f H by gamma(n_in + 2). Products of two such err by gamma of
 * twice the length; what double adds is far below, and is covered by rounding the length up.
 */
static void check_outputs(const lrk_adapters *set, const lrk_rank_output *got, const sums *want)
{
    for (int32_t m = 0; m < set->n_modules; m++) {
        const lrki_module *module = &set->modules[m];
        int64_t length = 2 * module->n_in + 8;
        for (int64_t i = module->first_rank; i < module->first_rank + module->bank.rank; i++) {
            ck_assert(oracle_within(got[i].own, want[i].own, want[i].own_size, length));
            ck_assert(oracle_within(got[i].joint, want[i].joint, want[i].joint_size, length));
        }
    }
}

/* ---- forward ---------------------------------------------------------------------------------------------------------- */

/* A group of two modules, and one alone with ranks enough for the GEMM. */
static const shape shapes[] = {
    {70, 90, 9, 0, 0, 0.5}, {70, 33, 3, 0, 0, 2.0}, {40, 96, 75, LRK_NO_GROUP, 1, 1.0}};
#define N_RANKS (9 + 3 + 75)

typedef struct forward_case {
    lrk_context *context;
    lrk_adapters *set;
    lrk_mask *mask;
    float values[N_RANKS];
    padded x[2]; /* of the group, of the third module */
    padded y[3];
} forward_case;

static void open_case(forward_case *c, lrk_context *context, int64_t rows)
{
    *c = (forward_case){.context = context, .set = set_make(context, shapes, 3, 0.0, 0)};
    set_fill(c->set, 3);
    random_floats(c->values, N_RANKS, 4);
    for (int i = 0; i < N_RANKS; i += 5)
        c->values[i] = 0; /* silent ranks among the others */
    ck_assert_int_eq(lrk_mask_create_values(c->set, c->values, N_RANKS, &c->mask), LRK_OK);
    c->x[0] = padded_make(rows, 70, 2, 5);
    c->x[1] = padded_make(rows, 40, 0, 6);
    for (int i = 0; i < 3; i++)
        c->y[i] = padded_make(rows, shapes[i].n_out, 1, 7 + (uint64_t)i);
}

static void close_case(forward_case *c)
{
    for (int i = 0; i < 2; i++)
        padded_free(&c->x[i]);
    for (int i = 0; i < 3; i++)
        padded_free(&c->y[i]);
    lrk_mask_destroy(c->mask);
    lrk_adapters_destroy(c->set);
}

static lrk_pass *open_with(forward_case *c, lrk_rank_output *outputs)
{
    lrk_pass_options options = pass_options(MOST_ROWS);
    options.mask = c->mask;
    options.gradients = 0;
    options.outputs = outputs;
    options.n_outputs = outputs != NULL ? N_RANKS : 0;
    return pass_open(c->set, options);
}

static lrk_status forward_all(forward_case *c, lrk_pass *pass)
{
    static const int32_t group[2] = {0, 1}, alone = 2;
    lrk_matrix x = padded_view(&c->x[0]), z = padded_view(&c->x[1]);
    lrk_matrix_mut y[2] = {padded_mut(&c->y[0]), padded_mut(&c->y[1])}, w = padded_mut(&c->y[2]);
    lrk_status status = lrk_forward(pass, group, 2, &x, y, NULL, 0);
    return status == LRK_OK ? lrk_forward(pass, &alone, 1, &z, &w, NULL, 0) : status;
}

static void check_kernels(int32_t kernels, int64_t rows)
{
    lrk_context *context = context_of_kernels(kernels);
    if (context == NULL) return;
    forward_case c;
    open_case(&c, context, rows);
    lrk_rank_output outputs[N_RANKS] = {{0}};
    sums want[N_RANKS] = {{0}};
    lrk_pass *pass = open_with(&c, outputs);
    for (int times = 0; times < 2; times++) { /* it adds */
        ck_assert_int_eq(forward_all(&c, pass), LRK_OK);
        for (int32_t m = 0; m < 3; m++)
            oracle_outputs(c.set, m, c.values, c.x[m / 2].data, c.x[m / 2].ld, rows, want);
        check_outputs(c.set, outputs, want);
    }
    for (int i = 0; i < N_RANKS; i++)
        ck_assert((outputs[i].own > 0) == (c.values[i] != 0));
    lrk_pass_end(pass);
    close_case(&c);
    lrk_context_destroy(context);
}

START_TEST(outputs_are_the_squares_of_what_ranks_add)
{
    check_kernels(_i, 1);
    check_kernels(_i, 3);
    check_kernels(_i, MOST_ROWS);
}
END_TEST

START_TEST(activations_of_16_bits_are_read_as_they_are)
{
    lrk_context *context = context_of_kernels(LRK_KERNELS_AUTO);
    forward_case c;
    open_case(&c, context, MOST_ROWS);
    uint16_t *upper = malloc(MOST_ROWS * 40 * sizeof *upper);
    float *same = malloc(MOST_ROWS * 40 * sizeof *same);
    for (int i = 0; i < MOST_ROWS * 40; i++) {
        uint32_t bits;
        memcpy(&bits, &c.x[1].data[i], sizeof bits);
        upper[i] = (uint16_t)(bits >> 16);
        bits &= 0xffff0000u;
        memcpy(&same[i], &bits, sizeof bits);
    }
    lrk_rank_output outputs[N_RANKS] = {{0}};
    sums want[N_RANKS] = {{0}};
    static const int32_t alone = 2;
    lrk_matrix x = padded_view(&c.x[1]);
    lrk_matrix_mut y = padded_mut(&c.y[2]);
    x.data = upper;
    x.dtype = LRK_DTYPE_BF16;
    lrk_pass *pass = open_with(&c, outputs);
    ck_assert_int_eq(lrk_forward(pass, &alone, 1, &x, &y, NULL, 0), LRK_OK);
    oracle_outputs(c.set, 2, c.values, same, 40, MOST_ROWS, want);
    check_outputs(c.set, outputs, want);
    lrk_pass_end(pass);
    free(upper);
    free(same);
    close_case(&c);
    lrk_context_destroy(context);
}
END_TEST

START_TEST(outputs_do_not_depend_on_threads_change_nothing_and_ask_for_no_memory)
{
    lrk_rank_output first[N_RANKS] = {{0}};
    padded plain[3];
    fault f;
    fault_reset(&f);
    f.kernels = LRK_KERNELS_AUTO;
    lrk_context *context = fault_context(&f);
    for (f.threads = 1; f.threads <= 3; f.threads++) {
        lrk_rank_output outputs[N_RANKS] = {{0}};
        forward_case c;
        open_case(&c, context, MOST_ROWS);
        lrk_pass *pass = open_with(&c, f.threads > 1 ? outputs : NULL);
        int64_t asked = f.alloc.calls;
        ck_assert_int_eq(forward_all(&c, pass), LRK_OK);
        ck_assert_int_eq(f.alloc.calls, asked);
        lrk_pass_end(pass);
        for (int i = 0; i < 3; i++) {
            if (f.threads == 1) plain[i] = padded_copy(&c.y[i]);
            ck_assert(padded_same(&plain[i], &c.y[i]));
        }
        if (f.threads == 2) memcpy(first, outputs, sizeof first);
        if (f.threads == 3) ck_assert_mem_eq(first, outputs, sizeof first);
        close_case(&c);
    }
    f.threads = 1;
    forward_case c;
    lrk_rank_output outputs[N_RANKS] = {{0}};
    open_case(&c, context, MOST_ROWS);
    lrk_pass *pass = open_with(&c, outputs);
    ck_assert_int_eq(forward_all(&c, pass), LRK_OK);
    ck_assert_mem_eq(first, outputs, sizeof first);
    lrk_pass_end(pass);
    close_case(&c);
    for (int i = 0; i < 3; i++)
        padded_free(&plain[i]);
    lrk_context_destroy(context);
    ck_assert_int_eq(f.live, 0);
}
END_TEST

/* A loop that fails in forward or in the sums is reported. */
START_TEST(a_loop_that_fails_ends_the_call)
{
    fault f;
    fault_reset(&f);
    lrk_context *context = fault_context(&f);
    forward_case c;
    lrk_rank_output outputs[N_RANKS] = {{0}};
    open_case(&c, context, MOST_ROWS);
    lrk_pass *pass = open_with(&c, outputs);
    f.loop.calls = 0;
    ck_assert_int_eq(forward_all(&c, pass), LRK_OK);
    int64_t loops = f.loop.calls;
    ck_assert_int_ge(loops, 2);
    for (int64_t i = 0; i < loops; i++) {
        f.loop.calls = 0;
        f.loop.fail_at = i;
        ck_assert_int_eq(forward_all(&c, pass), LRK_ERR_HOST);
    }
    f.loop.fail_at = -1;
    ck_assert_int_eq(forward_all(&c, pass), LRK_OK);
    lrk_pass_end(pass);
    close_case(&c);
    lrk_context_destroy(context);
    ck_assert_int_eq(f.live, 0);
}
END_TEST

START_TEST(outputs_of_another_number_of_ranks_are_refused)
{
    fault f;
    fault_reset(&f);
    lrk_context *context = fault_context(&f);
    forward_case c;
    open_case(&c, context, 1);
    lrk_rank_output outputs[N_RANKS] = {{0}};
    lrk_pass_options options = pass_options(1);
    lrk_pass *pass = NULL;
    options.n_outputs = N_RANKS;
    ck_assert_int_eq(lrk_pass_begin(c.set, &options, &pass), LRK_ERR_ARGUMENT);
    options.outputs = outputs;
    options.n_outputs = N_RANKS - 1;
    ck_assert_int_eq(lrk_pass_begin(c.set, &options, &pass), LRK_ERR_SHAPE);
    ck_assert_ptr_null(pass);
    close_case(&c);
    lrk_context_destroy(context);
}
END_TEST

/* ---- the estimator ---------------------------------------------------------------------------------------------------- */

#define LINEAR_RANKS 7

/* A host whose model is its modules side by side; its losses are 3 in 2 parts of weight 1 and 2. */
typedef struct linear {
    fault f;
    lrk_context *context;
    lrk_adapters *set;
    padded x[4], y[4];
    int calls;
    bool fails;
} linear;

static const shape linear_shapes[] = {{5, 6, 2, LRK_NO_GROUP, 0, 1.0},
                                      {4, 7, 3, LRK_NO_GROUP, 0, 0.5},
                                      {6, 3, 0, LRK_NO_GROUP, 1, 1.0},
                                      {6, 3, 2, LRK_NO_GROUP, 1, 0.25}};

static int32_t evaluate_linear(void *user, const lrk_evaluation *evaluation, int32_t n)
{
    linear *l = user;
    l->calls++;
    ck_assert_int_eq(n, 1);
    ck_assert(evaluation->baseline == LRK_BASELINE_ALL && evaluation->first_stage == LRK_NO_STAGE);
    for (int32_t m = 0; m < 4; m++) {
        lrk_matrix x = padded_view(&l->x[m]);
        lrk_matrix_mut y = padded_mut(&l->y[m]);
        if (lrk_forward(evaluation->pass, &m, 1, &x, &y, NULL, 0) != LRK_OK) return 1;
    }
    evaluation->parts[0] = (lrk_loss_part){1, 1};
    evaluation->parts[1] = (lrk_loss_part){2, 2};
    return l->fails;
}

static void linear_open(linear *l)
{
    *l = (linear){0};
    fault_reset(&l->f);
    l->context = fault_context(&l->f);
    l->set = set_make(l->context, linear_shapes, 4, 0.0, 0);
    set_fill(l->set, 8);
    for (int m = 0; m < 4; m++) {
        l->x[m] = padded_make(11, linear_shapes[m].n_in, 0, 20 + (uint64_t)m);
        l->y[m] = padded_make(11, linear_shapes[m].n_out, 0, 30 + (uint64_t)m);
    }
}

static void linear_close(linear *l)
{
    for (int m = 0; m < 4; m++) {
        padded_free(&l->x[m]);
        padded_free(&l->y[m]);
    }
    lrk_adapters_destroy(l->set);
    lrk_context_destroy(l->context);
    ck_assert_int_eq(l->f.live, 0);
    ck_assert(!l->f.bad_release);
}

static lrk_evaluator linear_evaluator(linear *l)
{
    lrk_evaluator host;
    ck_assert_int_eq(lrk_evaluator_init(&host, sizeof host), LRK_OK);
    host.user = l;
    host.evaluate = evaluate_linear;
    host.max_rows = 11;
    host.n_parts = 2;
    return host;
}

static lrk_estimator *linear_estimator(linear *l, int32_t level)
{
    lrk_evaluator host = linear_evaluator(l);
    lrk_output_options options;
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_output_options_init(&options, sizeof options), LRK_OK);
    ck_assert_int_eq(options.level, LRK_OUTPUT_RANK);
    options.level = level;
    ck_assert_int_eq(lrk_estimator_create_output(l->set, &host, &options, &estimator), LRK_OK);
    return estimator;
}

static void linear_oracle(const linear *l, sums want[LINEAR_RANKS])
{
    static const float ones[LINEAR_RANKS] = {1, 1, 1, 1, 1, 1, 1};
    memset(want, 0, LINEAR_RANKS * sizeof *want);
    for (int32_t m = 0; m < 4; m++)
        oracle_outputs(l->set, m, ones, l->x[m].data, l->x[m].ld, 11, want);
}

static void check_info(const lrk_scores *scores, const char *name)
{
    lrk_scores_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_scores_info_get(scores, &info), LRK_OK);
    ck_assert_str_eq(info.estimator, name);
    ck_assert_int_eq(info.n, LINEAR_RANKS);
    ck_assert_int_eq(info.n_exact, 0);
    ck_assert_int_eq(info.evaluations, 1);
    ck_assert_double_eq(info.loss_all, 1);
    ck_assert(isnan(info.loss_none));
}

static double score_of(const lrk_scores *scores, int64_t i)
{
    lrk_score score = {.struct_size = sizeof score};
    ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
    ck_assert(isnan(score.t1) && isnan(score.noise) && score.flags == 0);
    return score.score;
}

/* A quotient of two sums, each within its bound of the oracle's: by the rule for quotients, to first order twice. */
static double quotient_bound(double part, double part_error, double whole, double whole_error)
{
    return 2 * (part_error / whole + part * whole_error / (whole * whole));
}

START_TEST(shares_of_ranks_are_what_each_adds_alone)
{
    linear l;
    sums want[LINEAR_RANKS];
    linear_open(&l);
    linear_oracle(&l, want);
    double total = 0, error = 0, sum = 0;
    for (int i = 0; i < LINEAR_RANKS; i++) {
        total += want[i].own;
        error += oracle_gamma(20) * want[i].own_size;
    }
    lrk_estimator *estimator = linear_estimator(&l, LRK_OUTPUT_RANK);
    lrk_estimate cost = {.struct_size = sizeof cost};
    ck_assert_int_eq(lrk_estimator_estimate(estimator, &cost), LRK_OK);
    ck_assert(cost.evaluations == 1 && cost.evaluations_most == 1 && cost.differentiations == 0);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    check_info(scores, "output.rank");
    for (int i = 0; i < LINEAR_RANKS; i++) {
        double own = oracle_gamma(20) * want[i].own_size;
        ck_assert_double_eq_tol(score_of(scores, i), want[i].own / total,
                                quotient_bound(want[i].own, own, total, error));
        sum += score_of(scores, i);
    }
    ck_assert_double_eq_tol(sum, 1, LINEAR_RANKS * 0x1p-52);
    ck_assert_int_eq(l.calls, 1);
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    linear_close(&l);
}
END_TEST

/* Modules 0, 1 and 3 have ranks 0-1, 2-4 and 5-6. */
static const int module_of[LINEAR_RANKS] = {0, 0, 1, 1, 1, 3, 3};

START_TEST(shares_of_modules_add_up_from_the_least_and_count_cross_terms)
{
    linear l;
    sums want[LINEAR_RANKS];
    linear_open(&l);
    linear_oracle(&l, want);
    double g[4] = {0}, total = 0, error = 0;
    for (int i = 0; i < LINEAR_RANKS; i++) {
        g[module_of[i]] += want[i].joint;
        error += oracle_gamma(20) * want[i].joint_size;
        total += want[i].joint;
    }
    lrk_estimator *estimator = linear_estimator(&l, LRK_OUTPUT_MODULE);
    lrk_scores *scores;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
    check_info(scores, "output.module");
    for (int i = 0; i < LINEAR_RANKS; i++) {
        double below = 0;
        for (int m = 0; m < 4; m++)
            if (g[m] <= g[module_of[i]]) below += g[m];
        ck_assert_double_eq_tol(score_of(scores, i), below / total,
                                quotient_bound(below, error, total, error));
    }
    lrk_scores_destroy(scores);
    lrk_estimator_destroy(estimator);
    linear_close(&l);
}
END_TEST

/* LoRA-drop by its words: in descending order until the shares reach T; the policy threshold at 1 - T does the same. */
START_TEST(the_threshold_keeps_the_modules_that_lora_drop_keeps)
{
    static const double wanted[] = {0.2, 0.5, 0.8, 0.9, 0.97, 0.999};
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
        linear l;
        sums want[LINEAR_RANKS];
        linear_open(&l);
        linear_oracle(&l, want);
        double g[4] = {0}, total = 0, reached = 0;
        bool kept[4] = {false};
        for (int i = 0; i < LINEAR_RANKS; i++)
            g[module_of[i]] += want[i].joint;
        for (int m = 0; m < 4; m++)
            total += g[m];
        while (reached < wanted[w]) {
            int most = -1;
            for (int m = 0; m < 4; m++)
                if (!kept[m] && (most < 0 || g[m] > g[most])) most = m;
            kept[most] = true;
            reached += g[most] / total;
        }
        lrk_estimator *estimator = linear_estimator(&l, LRK_OUTPUT_MODULE);
        lrk_scores *scores;
        lrk_threshold_options options;
        lrk_allocator *allocator;
        lrk_plan *plan;
        ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_OK);
        lrk_threshold_options_init(&options, sizeof options);
        options.threshold = 1 - wanted[w];
        ck_assert_int_eq(lrk_allocator_create_threshold(l.set, &options, &allocator), LRK_OK);
        ck_assert_int_eq(lrk_allocator_plan(allocator, scores, 1, &plan), LRK_OK);
        ck_assert_int_eq(lrk_plan_prepare(plan, NULL, 0), LRK_OK);
        ck_assert_int_eq(lrk_plan_commit(plan), LRK_OK);
        for (int m = 0; m < 4; m++)
            ck_assert_int_eq(sets_rank(l.set, m), kept[m] ? linear_shapes[m].rank : 0);
        lrk_plan_destroy(plan);
        lrk_allocator_destroy(allocator);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
        linear_close(&l);
    }
}
END_TEST

static void expect(const linear *l, lrk_status got, lrk_status want, const char *words)
{
    char text[512];
    lrk_context_error(l->context, text, sizeof text);
    ck_assert_msg(got == want, "%s: %s", lrk_status_name(got), text);
    ck_assert_msg(strstr(text, words) != NULL, "'%s' is not in '%s'", words, text);
}

START_TEST(what_has_no_share_is_refused)
{
    linear l;
    linear_open(&l);
    lrk_evaluator host = linear_evaluator(&l);
    lrk_output_options options;
    lrk_estimator *e = (lrk_estimator *)&l;
    lrk_scores *scores;
    lrk_output_options_init(&options, sizeof options);
    options.level = 2;
    expect(&l, lrk_estimator_create_output(l.set, &host, &options, &e), LRK_ERR_ARGUMENT,
           "level 2 is unknown");
    ck_assert_ptr_null(e);
    options.level = 0;
    options.flags = 4;
    expect(&l, lrk_estimator_create_output(l.set, &host, &options, &e), LRK_ERR_ARGUMENT,
           "unknown bits: 0x4");
    expect(&l, lrk_estimator_create_output(l.set, NULL, NULL, &e), LRK_ERR_ARGUMENT, "evaluator must not");
    expect(&l, lrk_estimator_create_output(l.set, &host, NULL, NULL), LRK_ERR_ARGUMENT, "estimator must not");
    host.max_rows = 0;
    expect(&l, lrk_estimator_create_output(l.set, &host, NULL, &e), LRK_ERR_ARGUMENT, "max_rows");
    ck_assert_int_eq(lrk_estimator_create_output(NULL, &host, NULL, &e), LRK_ERR_ARGUMENT);
    for (int32_t level = 0; level < 2; level++) {
        e = linear_estimator(&l, level);
        l.fails = true;
        expect(&l, lrk_estimator_run(e, 0, &scores), LRK_ERR_HOST, "evaluate() returned 1");
        l.fails = false;
        l.x[1].data[3] = NAN;
        expect(&l, lrk_estimator_run(e, 0, &scores), LRK_ERR_NONFINITE, level == 0 ? "rank" : "module 'm1'");
        l.x[1].data[3] = 0;
        for (int32_t m = 0; m < 4; m++)
            if (linear_shapes[m].rank > 0)
                memset(l.set->modules[m].bank.b, 0,
                       (size_t)(linear_shapes[m].rank * linear_shapes[m].n_out) * sizeof(float));
        expect(&l, lrk_estimator_run(e, 0, &scores), LRK_ERR_STATE, "no rank adds anything");
        ck_assert_ptr_null(scores);
        set_fill(l.set, 8);
        ck_assert_int_eq(lrk_estimator_run(e, 0, &scores), LRK_OK);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(e);
    }
    linear_close(&l);
}
END_TEST

static lrk_status share_both(void *user)
{
    linear *l = user;
    lrk_status status = LRK_OK;
    for (int32_t level = 0; level < 2 && status == LRK_OK; level++) {
        lrk_evaluator host = linear_evaluator(l);
        lrk_output_options options;
        lrk_estimator *estimator = NULL;
        lrk_scores *scores = NULL;
        lrk_output_options_init(&options, sizeof options);
        options.level = level;
        status = lrk_estimator_create_output(l->set, &host, &options, &estimator);
        if (status == LRK_OK) status = lrk_estimator_run(estimator, 0, &scores);
        lrk_scores_destroy(scores);
        lrk_estimator_destroy(estimator);
    }
    return status;
}

static void nothing(void *user)
{
    (void)user;
}

START_TEST(every_lack_of_memory_is_reported)
{
    linear l;
    linear_open(&l);
    ck_assert_int_eq(share_both(&l), LRK_OK); /* the set keeps a pass */
    sets_each_fault(&l.f, share_both, nothing, &l);
    linear_close(&l);
}
END_TEST

Suite *outputs_suite(void)
{
    Suite *suite = suite_create("outputs");
    TCase *tests = tcase_create("outputs");
    tcase_add_loop_test(tests, outputs_are_the_squares_of_what_ranks_add, 0, N_KERNELS);
    tcase_add_test(tests, activations_of_16_bits_are_read_as_they_are);
    tcase_add_test(tests, outputs_do_not_depend_on_threads_change_nothing_and_ask_for_no_memory);
    tcase_add_test(tests, a_loop_that_fails_ends_the_call);
    tcase_add_test(tests, outputs_of_another_number_of_ranks_are_refused);
    tcase_add_test(tests, shares_of_ranks_are_what_each_adds_alone);
    tcase_add_test(tests, shares_of_modules_add_up_from_the_least_and_count_cross_terms);
    tcase_add_test(tests, the_threshold_keeps_the_modules_that_lora_drop_keeps);
    tcase_add_test(tests, what_has_no_share_is_refused);
    tcase_add_test(tests, every_lack_of_memory_is_reported);
    suite_add_tcase(suite, tests);
    return suite;
}
