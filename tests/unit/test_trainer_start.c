/* SPDX-License-Identifier: MIT */
/*
 * The example trainer with a gradient start: it prunes back to the budget, repeats bit for bit at any number of threads, goes on
 * from a checkpoint with the start behind it, and refuses what cannot be.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer_rig.h"

#define START                                                                                                \
    " --set start.kind=gradient --set start.batches=3 --set start.directions=8 --set start.cap=8 "           \
    "--set allocation.policy=prune "
#define EVERY " --checkpoint-every 4 "

static int64_t of_run(const char *out, const char *name)
{
    json_t *summary = trainer_summary_of(out);
    json_int_t value = json_integer_value(json_object_get(json_object_get(summary, "run"), name));
    json_decref(summary);
    return value;
}

/* 2 ranks in each of the model's modules is the budget; three times that to begin with. */
START_TEST(a_gradient_start_is_pruned_back_to_the_budget)
{
    trainer_train_ok("--out $D/plain --set allocation.policy=fixed");
    int64_t budget = of_run("plain", "final_ranks");
    trainer_train_ok("--out $D/a" START);
    char words[64];
    snprintf(words, sizeof words, "gradient start  ranks %lld ", (long long)(3 * budget));
    ck_assert_msg(strstr(trainer_get("stderr"), words) != NULL, "%s", trainer_get("stderr"));
    snprintf(words, sizeof words, "ranks %lld -> ", (long long)(3 * budget));
    ck_assert_msg(strstr(trainer_get("stdout"), words) != NULL, "%s", trainer_get("stdout"));
    ck_assert_int_eq(of_run("a", "ranks_pruned"), 2 * budget);
    ck_assert_int_eq(of_run("a", "ranks_added"), 0);
}
END_TEST

START_TEST(the_number_of_threads_changes_no_result)
{
    trainer_train_ok("--out $D/a --threads 1" START);
    trainer_train_ok("--out $D/b --threads 2" START);
    trainer_same_results("a", "b", NULL);
}
END_TEST

START_TEST(other_policies_go_on_from_it)
{
    trainer_train_ok("--out $D/a" START "--set allocation.policy=alora --set start.multiple=1");
    ck_assert_int_gt(of_run("a", "ranks_pruned"), 0);
    ck_assert_int_gt(of_run("a", "ranks_added"), 0);
    trainer_train_ok("--out $D/b" START "--set allocation.policy=fixed --set start.multiple=2");
    ck_assert_int_eq(of_run("b", "ranks_pruned"), 0);
}
END_TEST

/* The start is not made again: the run's own rounds have moved on. */
START_TEST(a_run_that_is_resumed_does_not_start_again)
{
    char before[64];
    int status = -1;
    trainer_train_ok("--out $D/a --set host.epochs=30" START EVERY);
    for (int i = 1; i < 400 && status != 0; i++) {
        snprintf(before, sizeof before, "timeout --preserve-status -s INT %.2f", 0.05 * i);
        status =
            trainer_run_under(before, TRAINER_TRAIN "--out $D/b --resume --set host.epochs=30" START EVERY);
        ck_assert_msg(status == 0 || status == 130, "status %d: %s", status, trainer_get("stderr"));
    }
    ck_assert_int_eq(status, 0);
    trainer_same_results("a", "b", "layer_forwards");
    trainer_train_ok("--out $D/b --resume --set host.epochs=30" START EVERY);
    ck_assert_ptr_null(strstr(trainer_get("stderr"), "gradient start"));
    trainer_same_results("a", "b", "layer_forwards");
}
END_TEST

/* What it counts is what the run begins with. */
START_TEST(the_dry_run_starts_too)
{
    trainer_train_ok("--out $D/a" START);
    char ranks[32], words[64];
    ck_assert_int_eq(
        sscanf(strstr(trainer_get("stderr"), "gradient start  ranks "), "gradient start  ranks %31s", ranks),
        1);
    ck_assert_int_eq(
        trainer_run("--model " TRAINER_MODEL
                    " --train $D/train.jsonl --dev $D/dev.jsonl --config $D/config.yaml --dry-run" START),
        0);
    snprintf(words, sizeof words, " of %s ranks", ranks);
    ck_assert_msg(strstr(trainer_get("stdout"), words) != NULL, "%s: %s", words, trainer_get("stdout"));
    ck_assert_ptr_null(strstr(trainer_get("stdout"), "warning"));
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    ck_assert_int_ne(trainer_run(TRAINER_TRAIN "--out $D/a" START "--set start.batches=9999"), 0);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "start.batches is 9999, but train has"));
    ck_assert_int_ne(trainer_run(TRAINER_TRAIN "--out $D/a" START "--set start.warmup=2"), 0);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "start.warmup is for a head that starts at zero"));
    ck_assert_int_ne(trainer_run(TRAINER_TRAIN "--out $D/b" START "--set allocation.policy=alora"), 0);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "multiple must be <= 1 under policy alora"));
    ck_assert_int_ne(trainer_run(TRAINER_TRAIN
                                 "--out $D/c" START
                                 "--set start.batches=1 --set start.directions=9999 --set start.cap=9999"),
                     0);
    ck_assert_msg(strstr(trainer_get("stderr"), "directions of the") != NULL, "%s", trainer_get("stderr"));
}
END_TEST

static void same_at_any_number_of_threads(const char *kind)
{
    char arguments[256];
    for (int threads = 1; threads <= 2; threads++) {
        snprintf(arguments, sizeof arguments,
                 "--out $D/%s%d --threads %d --set start.batches=3 --set allocation.policy=fixed --set "
                 "start.kind=%s",
                 kind, threads, threads, kind);
        trainer_train_ok(arguments);
    }
    char one[32], two[32], words[64];
    snprintf(one, sizeof one, "%s1", kind);
    snprintf(two, sizeof two, "%s2", kind);
    trainer_same_results(one, two, NULL);
    snprintf(words, sizeof words, "%s start  ranks ", kind);
    ck_assert_msg(strstr(trainer_get("stderr"), words) != NULL, "%s", trainer_get("stderr"));
}

START_TEST(eva_gives_out_the_budget_that_it_finds)
{
    trainer_train_ok("--out $D/plain --set allocation.policy=fixed");
    same_at_any_number_of_threads("eva");
    ck_assert_int_eq(of_run("eva1", "final_ranks"), of_run("plain", "final_ranks"));
    trainer_train_ok("--out $D/moved --set start.kind=eva --set start.whiten=true");
    ck_assert_int_gt(of_run("moved", "ranks_pruned"), 0);
}
END_TEST

START_TEST(gelora_counts_dimensions)
{
    same_at_any_number_of_threads("gelora");
    ck_assert_int_gt(of_run("gelora1", "final_ranks"), 0);
    trainer_train_ok(
        "--out $D/mle --set start.kind=gelora --set start.estimate=mle --set allocation.policy=fixed");
    ck_assert_int_ne(trainer_run(TRAINER_TRAIN "--out $D/c --set start.kind=gelora --set start.batches=1 "
                                               "--set host.batch=1"),
                     0);
    ck_assert_msg(strstr(trainer_get("stderr"), "1 points differ") != NULL, "%s", trainer_get("stderr"));
}
END_TEST

START_TEST(starts_of_both_factors_train)
{
    static const char *const kinds[] = {"orthogonal", "lora_one", "lora_ga", "pissa", "olora"};
    char arguments[128], words[64];
    trainer_train_ok("--out $D/plain --set allocation.policy=fixed");
    same_at_any_number_of_threads(kinds[_i]);
    snprintf(words, sizeof words, "%s1", kinds[_i]);
    ck_assert_int_eq(of_run(words, "final_ranks"), of_run("plain", "final_ranks"));
    if (_i < 2) return;
    snprintf(arguments, sizeof arguments, "--out $D/c --set start.kind=%s --checkpoint-every 2", kinds[_i]);
    ck_assert_int_ne(trainer_run_under("", strcat(strcpy((char[512]){0}, TRAINER_TRAIN), arguments)), 0);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "which checkpoints do not hold"));
}
END_TEST

/* What is exported adapts the model as it was: it has twice the ranks, and the loss that training ended with. */
START_TEST(what_was_subtracted_is_taken_off_in_the_export)
{
    trainer_train_ok("--out $D/a --set start.kind=pissa --set allocation.policy=fixed");
    char *config = trainer_get("a/adapter/adapter_config.json");
    ck_assert_ptr_nonnull(strstr(config, "\"r\": 4"));
    json_t *summary = trainer_summary_of("a");
    double of_training = json_real_value(json_object_get(json_object_get(summary, "run"), "test_loss")),
           loss = 0;
    json_decref(summary);
    ck_assert_int_eq(
        trainer_run("--model " TRAINER_MODEL " --adapter $D/a/adapter --seq-len 16 --test $D/test.jsonl"), 0);
    const char *line = strstr(trainer_get("stdout"), "test  loss ");
    ck_assert_msg(line != NULL && sscanf(line, "test  loss %lf", &loss) == 1, "%s", trainer_get("stdout"));
    ck_assert_double_eq_tol(loss, of_training, 1e-4); /* the sum of two products, each rounded to f32 */
}
END_TEST

Suite *trainer_start_suite(void);

Suite *trainer_start_suite(void)
{
    Suite *suite = suite_create("trainer_start");
    TCase *tests = tcase_create("trainer_start");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, trainer_setup, trainer_teardown);
    tcase_add_test(tests, a_gradient_start_is_pruned_back_to_the_budget);
    tcase_add_test(tests, the_number_of_threads_changes_no_result);
    tcase_add_test(tests, other_policies_go_on_from_it);
    tcase_add_test(tests, a_run_that_is_resumed_does_not_start_again);
    tcase_add_test(tests, the_dry_run_starts_too);
    tcase_add_test(tests, eva_gives_out_the_budget_that_it_finds);
    tcase_add_test(tests, gelora_counts_dimensions);
    tcase_add_loop_test(tests, starts_of_both_factors_train, 0, 5);
    tcase_add_test(tests, what_was_subtracted_is_taken_off_in_the_export);
    tcase_add_test(tests, what_cannot_be_is_refused);
    suite_add_tcase(suite, tests);
    return suite;
}
