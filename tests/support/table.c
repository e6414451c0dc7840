/* SPDX-License-Identifier: MIT */
/*
 * The host of table.h. Fixed weights 1, 2, 1, 4 of the parts; losses start at 1 a weight for every question.
 */
#include "table.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "importance/importance.h"

#define WIDTH 4 /* n_in and n_out */

static void fill_unit_rows(table *t)
{
    for (int32_t m = 0; m < TABLE_MODULES; m++) {
        lrk_tensor a = sets_tensor(t->adapters, m, LRK_TENSOR_A),
                   b = sets_tensor(t->adapters, m, LRK_TENSOR_B);
        for (int64_t j = 0; j < a.rows; j++)
            for (int64_t i = 0; i < WIDTH; i++)
                a.data[j * WIDTH + i] = b.data[j * WIDTH + i] = i == j ? 1.0f : 0.0f;
    }
    ck_assert_int_eq(lrk_adapters_values_changed(t->adapters), LRK_OK);
}

void table_follow(table *t)
{
    int32_t flat = 0;
    for (int32_t m = 0; m < TABLE_MODULES; m++) {
        const uint64_t *identities;
        int64_t n;
        lrk_module_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(lrk_adapters_module(t->adapters, m, &info), LRK_OK);
        ck_assert_int_eq(lrk_adapters_ranks(t->adapters, m, &identities, NULL, &n), LRK_OK);
        for (int64_t i = 0; i < n; i++) {
            ck_assert_int_lt(flat, TABLE_RANKS);
            t->stages[flat] = info.stage;
            t->identities[flat++] = identities[i];
        }
    }
}

table *table_create(void)
{
    static const double weights[TABLE_PARTS] = {1, 2, 1, 4};
    static const int32_t stages[TABLE_MODULES] = {2, 0, 1, 0, 1};
    static const int64_t ranks[TABLE_MODULES] = {2, 3, 1, 2, 0};
    static const char *const names[TABLE_MODULES] = {"m0", "m1", "m2", "m3", "m4"};
    table *t = calloc(1, sizeof *t);
    ck_assert_ptr_nonnull(t);
    fault_reset(&t->fault);
    t->context = fault_context(&t->fault);
    lrk_module_spec specs[TABLE_MODULES];
    for (int i = 0; i < TABLE_MODULES; i++) {
        specs[i] = sets_spec(names[i], WIDTH, WIDTH, ranks[i]);
        specs[i].stage = stages[i];
    }
    t->adapters = sets_create(t->context, specs, TABLE_MODULES, NULL);
    fill_unit_rows(t);
    table_follow(t);
    t->n_parts = TABLE_PARTS;
    memcpy(t->weights, weights, sizeof weights);
    for (int32_t q = 0; q < TABLE_QUESTIONS; q++)
        table_set(t, q, 1.0);
    t->fail_call = t->cancel_at = t->skip_module = -1;
    return t;
}

void table_destroy(table *t)
{
    lrk_adapters_destroy(t->adapters);
    lrk_context_destroy(t->context);
    ck_assert_int_eq(t->fault.live, 0);
    ck_assert(!t->fault.bad_release);
    free(t);
}

void table_set(table *t, int32_t question, double mean)
{
    for (int32_t p = 0; p < TABLE_PARTS; p++)
        t->losses[question][p] = mean * t->weights[p];
}

void table_terms(table *t, int32_t rank, double t1, double t2)
{
    for (int32_t p = 0; p < TABLE_PARTS; p++) {
        t->losses[2 + 2 * rank][p] = t->losses[0][p] + t1 * t->weights[p];
        t->losses[3 + 2 * rank][p] = t->losses[1][p] - t2 * t->weights[p];
    }
}

/* ---- the callbacks ----------------------------------------------------------------------------------------------------- */

static int32_t question_of(const table *t, const lrk_evaluation *evaluation)
{
    if (evaluation->identity == 0) return evaluation->baseline == LRK_BASELINE_ALL ? 0 : 1;
    for (int32_t i = 0; i < TABLE_RANKS; i++)
        if (t->identities[i] == evaluation->identity)
            return 2 + 2 * i + (evaluation->baseline == LRK_BASELINE_NONE);
    ck_abort_msg("unknown identity");
}

static void note(table *t, char kind, const lrk_evaluation *e)
{
    ck_assert_int_lt(t->n_log, TABLE_LOG);
    ck_assert_uint_eq(e->struct_size, sizeof *e);
    ck_assert_int_eq(e->n_parts, t->n_parts);
    lrk_mask_info mask = {.struct_size = sizeof mask};
    ck_assert_int_eq(lrk_pass_mask_info(e->pass, &mask), LRK_OK);
    ck_assert_int_eq(mask.baseline, e->baseline);
    ck_assert_int_eq(mask.first_stage, e->first_stage);
    t->log[t->n_log++] = (table_entry){kind, e->baseline, e->first_stage, e->index, e->identity, t->calls};
}

static void answer(table *t, const lrk_evaluation *e, double drift)
{
    int32_t question = question_of(t, e);
    for (int32_t p = 0; p < t->n_parts; p++)
        e->parts[p] = (lrk_loss_part){t->losses[question][p] + drift, t->weights[p]};
}

static bool fails(table *t)
{
    bool now = t->calls++ == t->fail_call;
    if (now) t->fail_call = -1;
    return now;
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    table *t = user;
    if (t->during != NULL) t->during(t, evaluations);
    if (fails(t)) return 7;
    for (int32_t i = 0; i < n; i++) {
        const lrk_evaluation *e = &evaluations[i];
        note(t, 'E', e);
        answer(t, e, e->identity == 0 ? t->drift * t->asked[e->baseline]++ : 0);
    }
    return 0;
}

static int32_t differentiate(void *user, const lrk_evaluation *e)
{
    table *t = user;
    if (t->during != NULL) t->during(t, e);
    if (fails(t)) return 8;
    note(t, 'D', e);
    answer(t, e, 0);
    float one[WIDTH] = {1, 1, 1, 1}, dy[WIDTH];
    lrk_matrix x = {.struct_size = sizeof x, .data = one, .rows = 1, .cols = WIDTH, .ld = WIDTH};
    lrk_matrix d = {.struct_size = sizeof d, .data = dy, .rows = 1, .cols = WIDTH, .ld = WIDTH};
    int64_t flat = 0;
    for (int32_t m = 0; m < TABLE_MODULES; m++) {
        int64_t rank = sets_rank(t->adapters, m);
        memset(dy, 0, sizeof dy);
        for (int64_t j = 0; j < rank; j++)
            dy[j] = (float)t->gradient[e->baseline][flat++];
        if (m == t->skip_module) continue;
        if (lrk_backward(e->pass, &m, 1, &x, NULL, 0, &d, NULL) != LRK_OK) return 9;
    }
    return 0;
}

static int32_t progress(void *user, int64_t done, int64_t total)
{
    table *t = user;
    t->done = done;
    t->total = total;
    if (t->during_progress != NULL) t->during_progress(t);
    bool cancel = t->progressed++ == t->cancel_at;
    if (cancel) t->cancel_at = -1;
    return cancel;
}

/* ---- shorthands --------------------------------------------------------------------------------------------------------- */

lrk_evaluator table_evaluator(table *t)
{
    lrk_evaluator evaluator;
    ck_assert_int_eq(lrk_evaluator_init(&evaluator, sizeof evaluator), LRK_OK);
    evaluator.user = t;
    evaluator.evaluate = evaluate;
    evaluator.differentiate = differentiate;
    evaluator.progress = progress;
    evaluator.max_rows = 1;
    evaluator.n_parts = t->n_parts;
    return evaluator;
}

lrk_estimator *table_estimator(table *t, const lrk_ablation_options *options)
{
    lrk_evaluator evaluator = table_evaluator(t);
    lrk_estimator *estimator;
    ck_assert_int_eq(lrk_estimator_create_ablation(t->adapters, &evaluator, options, &estimator), LRK_OK);
    return estimator;
}

lrk_ablation_options table_options(int32_t mode)
{
    lrk_ablation_options options;
    ck_assert_int_eq(lrk_ablation_options_init(&options, sizeof options), LRK_OK);
    options.mode = mode;
    options.n_cut = 1;
    return options;
}

void table_forget_log(table *t)
{
    t->n_log = t->calls = t->progressed = 0;
    t->asked[0] = t->asked[1] = 0;
}

lrk_score table_score(const lrk_scores *scores, int64_t i)
{
    lrk_score score = {.struct_size = sizeof score};
    ck_assert_int_eq(lrk_scores_get(scores, i, &score), LRK_OK);
    return score;
}

lrk_scores_info table_info(const lrk_scores *scores)
{
    lrk_scores_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_scores_info_get(scores, &info), LRK_OK);
    return info;
}

void table_same_scores(const lrk_scores *a, const lrk_scores *b)
{
    lrk_scores_info left = table_info(a), right = table_info(b);
    ck_assert_str_eq(left.estimator, right.estimator);
    left.estimator = right.estimator = NULL;
    ck_assert_mem_eq(&left, &right, sizeof left);
    for (int64_t i = 0; i < left.n; i++) {
        lrk_score x = table_score(a, i), y = table_score(b, i);
        ck_assert_mem_eq(&x, &y, sizeof x);
    }
}

lrk_scores *table_run(lrk_estimator *estimator)
{
    lrk_scores *scores;
    char text[256];
    lrk_status status = lrk_estimator_run(estimator, 0, &scores);
    lrk_context_error(estimator->adapters->context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    return scores;
}

void table_pause_at(table *t, lrk_estimator *estimator, int32_t at)
{
    lrk_scores *scores;
    table_forget_log(t);
    t->cancel_at = at;
    ck_assert_int_eq(lrk_estimator_run(estimator, 0, &scores), LRK_ERR_CANCELLED);
}
