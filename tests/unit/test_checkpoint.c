/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints of a whole run: wherever it is stopped - after any step, after any answer of a scoring run, before and after
 * every rank change - a fresh process that restores goes on to the same bytes as the run that was never stopped.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "resume.h"

enum { MOST_POINTS = 1024 };

typedef struct points {
    resume_bytes saved[MOST_POINTS];
    int n;
} points;

static void keep(resume_run *run, void *user)
{
    points *p = user;
    ck_assert_int_lt(p->n, MOST_POINTS);
    p->saved[p->n++] = resume_save(run->checkpoint);
}

static void free_points(points *p)
{
    for (int i = 0; i < p->n; i++)
        free(p->saved[i].data);
}

/* How runs are taken to their end. */
static void (*go)(resume_run *run) = resume_go;

/* The last checkpoint of the run, and one of every point on the way. */
static resume_bytes run_through(const resume_shape *shape, points *p, uint64_t *digest)
{
    resume_run *run = resume_create(shape);
    run->point = p != NULL ? keep : NULL;
    run->user = p;
    go(run);
    resume_bytes last = resume_save(run->checkpoint);
    *digest = sets_digest(run->toy->adapters);
    resume_destroy(run);
    return last;
}

static void resume_at(const resume_shape *shape, const resume_bytes *point, const resume_bytes *last,
                      uint64_t digest)
{
    resume_run *run = resume_create(shape);
    ck_assert_int_eq(resume_load(run, point->data, point->n), LRK_OK);
    resume_bytes again = resume_save(run->checkpoint);
    ck_assert(resume_same(&again, point));
    go(run);
    resume_bytes end = resume_save(run->checkpoint);
    ck_assert(resume_same(&end, last));
    ck_assert(sets_digest(run->toy->adapters) == digest);
    free(again.data);
    free(end.data);
    resume_destroy(run);
}

static void resume_everywhere(const resume_shape *shape, int least)
{
    points p = {.n = 0};
    uint64_t digest, alone;
    resume_bytes last = run_through(shape, &p, &digest);
    resume_bytes unwatched = run_through(shape, NULL, &alone);
    ck_assert(resume_same(&last, &unwatched)); /* saving changes nothing */
    ck_assert_int_ge(p.n, least);
    for (int i = 0; i < p.n; i++)
        resume_at(shape, &p.saved[i], &last, digest);
    free_points(&p);
    free(last.data);
    free(unwatched.data);
}

/* Exact: every rank is asked about twice a round, so most points lie within a scoring run. */
START_TEST(an_exact_run_goes_on_bit_for_bit_from_any_point)
{
    resume_shape shape = resume_default();
    shape.repeats = 1;
    resume_everywhere(&shape, RESUME_STEPS + 3 * 16);
}
END_TEST

START_TEST(a_screened_run_goes_on_bit_for_bit_from_any_point)
{
    resume_shape shape = resume_default();
    shape.mode = LRK_ABLATION_SCREENED;
    shape.protect_rounds = 1;
    shape.flags = LRK_ALORA_REFILL;
    shape.toy.dropout = 0.25;
    resume_everywhere(&shape, RESUME_STEPS + 3 * 6);
}
END_TEST

START_TEST(a_two_point_run_goes_on_bit_for_bit_from_any_point)
{
    resume_shape shape = resume_default();
    shape.mode = LRK_ABLATION_TWO_POINT;
    shape.steps = LRK_STEPS_GLOBAL;
    shape.toy.parts = 1;
    resume_everywhere(&shape, RESUME_STEPS + 3 * 2);
}
END_TEST

/* Driven by lrk_schedule_run(): saved as train_step() begins, and from event(). */
START_TEST(a_driven_run_goes_on_bit_for_bit_from_any_point)
{
    resume_shape shape = resume_default();
    shape.mode = LRK_ABLATION_SCREENED;
    go = resume_go_driven;
    resume_everywhere(&shape, RESUME_STEPS + 3 + 3 * 6);
    go = resume_go;
}
END_TEST

START_TEST(random_scores_go_on_bit_for_bit_from_any_point)
{
    resume_shape shape = resume_default();
    shape.mode = RESUME_RANDOM;
    shape.toy.dropout = 0.5;
    resume_everywhere(&shape, RESUME_STEPS);
}
END_TEST

/* A restore into handles with a history: identities used since stay used, all the rest is the file's. */
START_TEST(a_run_that_went_wrong_goes_back_in_place)
{
    resume_shape shape = resume_default();
    points p = {.n = 0};
    uint64_t digest;
    resume_bytes last = run_through(&shape, &p, &digest);
    resume_run *run = resume_create(&shape);
    resume_go(run);
    lrk_adapters_info before = sets_info(run->toy->adapters);
    lrk_mask *mask;
    ck_assert_int_eq(lrk_mask_create_all(run->toy->adapters, &mask), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_snapshot(run->checkpoint, "best", NULL), LRK_OK);
    lrk_snapshot_destroy(run->best);
    run->best = NULL;
    ck_assert_int_eq(resume_load(run, p.saved[1].data, p.saved[1].n), LRK_OK);
    lrk_adapters_info after = sets_info(run->toy->adapters);
    ck_assert_uint_gt(after.generation, before.generation);
    ck_assert_uint_gt(after.values_version, before.values_version);
    ck_assert_uint_eq(after.next_identity, before.next_identity);
    ck_assert_int_eq(run->history.step, 1);
    lrk_pass_options options;
    lrk_pass *pass;
    lrk_pass_options_init(&options, sizeof options);
    options.max_rows = 1;
    options.mask = mask;
    ck_assert_int_eq(lrk_pass_begin(run->toy->adapters, &options, &pass), LRK_ERR_STALE);
    lrk_mask_destroy(mask);
    resume_go(run);
    ck_assert_int_eq(run->history.step, RESUME_STEPS);
    resume_destroy(run);
    free_points(&p);
    free(last.data);
}
END_TEST

/* Between the micro-batches of a step the gradients that are there belong to the state. */
START_TEST(gradients_between_micro_batches_are_kept)
{
    resume_shape shape = resume_default();
    resume_run *run = resume_create(&shape), *other = resume_create(&shape);
    toy_train(run->toy, 1);
    resume_bytes bytes = resume_save(run->checkpoint);
    ck_assert_int_eq(resume_load(other, bytes.data, bytes.n), LRK_OK);
    toy_train(run->toy, 2);
    toy_train(other->toy, 2);
    ck_assert_int_eq(lrk_optimizer_step(run->optimizer, 0.1), LRK_OK);
    ck_assert_int_eq(lrk_optimizer_step(other->optimizer, 0.1), LRK_OK);
    ck_assert(sets_digest(run->toy->adapters) == sets_digest(other->toy->adapters));
    free(bytes.data);
    resume_destroy(run);
    resume_destroy(other);
}
END_TEST

/* Scores that the host holds go along, and still serve for a plan. */
START_TEST(scores_between_scoring_and_plan_are_kept)
{
    resume_shape shape = resume_default();
    resume_run *run = resume_create(&shape), *other = resume_create(&shape);
    lrk_scores *scores, *restored;
    lrk_plan *plan, *same;
    uint64_t a, b;
    ck_assert_int_eq(lrk_estimator_run(run->estimator, 0, &scores), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_set_scores(run->checkpoint, "round", scores), LRK_OK);
    resume_bytes bytes = resume_save(run->checkpoint);
    ck_assert_int_eq(resume_load(other, bytes.data, bytes.n), LRK_OK);
    ck_assert_int_eq(lrk_checkpoint_take_scores(other->checkpoint, "round", &restored), LRK_OK);
    lrk_scores_info then = {.struct_size = sizeof then}, now = {.struct_size = sizeof now};
    ck_assert_int_eq(lrk_scores_info_get(scores, &then), LRK_OK);
    ck_assert_int_eq(lrk_scores_info_get(restored, &now), LRK_OK);
    ck_assert_str_eq(then.estimator, now.estimator);
    then.estimator = now.estimator = NULL;
    ck_assert_mem_eq(&then, &now, sizeof then);
    for (int64_t i = 0; i < then.n; i++) {
        lrk_score x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
        ck_assert_int_eq(lrk_scores_get(scores, i, &x), LRK_OK);
        ck_assert_int_eq(lrk_scores_get(restored, i, &y), LRK_OK);
        ck_assert_mem_eq(&x, &y, sizeof x);
    }
    ck_assert_int_eq(lrk_allocator_plan(run->allocator, scores, 1, &plan), LRK_OK);
    ck_assert_int_eq(lrk_allocator_plan(other->allocator, restored, 1, &same), LRK_OK);
    lrk_plan_digest(plan, &a);
    lrk_plan_digest(same, &b);
    ck_assert(a == b);
    ck_assert_int_eq(lrk_plan_abandon(plan), LRK_OK);
    ck_assert_int_eq(lrk_plan_abandon(same), LRK_OK);
    lrk_plan_destroy(plan);
    lrk_plan_destroy(same);
    lrk_scores_destroy(restored);
    ck_assert_int_eq(lrk_checkpoint_take_scores(other->checkpoint, "round", &restored), LRK_ERR_NOT_FOUND);
    ck_assert_ptr_null(restored);
    lrk_scores_destroy(scores);
    free(bytes.data);
    resume_destroy(run);
    resume_destroy(other);
}
END_TEST

Suite *checkpoint_suite(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *all = tcase_create("checkpoint");
    tcase_set_timeout(all, 120);
    tcase_add_test(all, an_exact_run_goes_on_bit_for_bit_from_any_point);
    tcase_add_test(all, a_screened_run_goes_on_bit_for_bit_from_any_point);
    tcase_add_test(all, a_two_point_run_goes_on_bit_for_bit_from_any_point);
    tcase_add_test(all, a_driven_run_goes_on_bit_for_bit_from_any_point);
    tcase_add_test(all, random_scores_go_on_bit_for_bit_from_any_point);
    tcase_add_test(all, a_run_that_went_wrong_goes_back_in_place);
    tcase_add_test(all, gradients_between_micro_batches_are_kept);
    tcase_add_test(all, scores_between_scoring_and_plan_are_kept);
    suite_add_tcase(suite, all);
    return suite;
}
