/* SPDX-License-Identifier: MIT */
/*
 * The example trainer stopped and gone on with: checkpoints change no result, a run that was interrupted, or killed, ends
 * like one that was not, a damaged checkpoint makes room for the one before, and a run goes on only with what it was
 * begun with. tests/kill_test.sh does the same on the bundled model, many times.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer_rig.h"

/* Evaluations within a round count too, so that some checkpoints lie inside of scoring. */
#define EVERY " --checkpoint-every 4 "

static const char detail_of_blocks[] =
    "layer_forwards"; /* the stage cache starts anew where a run is saved in scoring */

START_TEST(checkpoints_change_no_result)
{
    trainer_train_ok("--out $D/a");
    trainer_train_ok("--out $D/b" EVERY);
    ck_assert(!trainer_exists("a/checkpoint.lrk"));
    ck_assert(trainer_exists("b/checkpoint.lrk") && trainer_exists("b/checkpoint.previous.lrk"));
    ck_assert(!trainer_exists("b/checkpoint.new.lrk"));
    trainer_same_results("a", "b", detail_of_blocks);
}
END_TEST

START_TEST(a_finished_run_that_is_resumed_stays_as_it_is)
{
    trainer_train_ok("--out $D/a" EVERY);
    trainer_train_ok("--out $D/b" EVERY);
    trainer_train_ok("--out $D/b --resume" EVERY);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "going on after step"));
    trainer_same_results("a", "b", NULL);
}
END_TEST

/* Long enough that it is stopped a few times. */
#define LONG "--set host.epochs=30 "

/* Stops the run with a signal after ever longer times until it gets through. */
static void stop_until_done(const char *signal, const char *arguments)
{
    char before[64];
    int status = -1;
    for (int i = 1; i < 400 && status != 0; i++) {
        snprintf(before, sizeof before, "timeout --preserve-status -s %s %.2f", signal, 0.05 * i);
        status = trainer_run_under(before, arguments);
        ck_assert_msg(status == 0 || status == 130 || status == 137, "status %d: %s", status,
                      trainer_get("stderr"));
    }
    ck_assert_int_eq(status, 0);
}

START_TEST(a_run_stopped_by_a_signal_ends_like_one_that_was_not)
{
    static const char *const signals[] = {"INT", "KILL"};
    trainer_train_ok("--out $D/a " LONG EVERY);
    stop_until_done(signals[_i], TRAINER_TRAIN "--out $D/b --resume " LONG EVERY);
    trainer_same_results("a", "b", _i == 0 ? detail_of_blocks : NULL);
}
END_TEST

START_TEST(adalora_ends_the_same_too)
{
    const char *const kinds[] = {"", "--set importance.estimator=salience --set importance.window=2 "};
    char arguments[800];
    snprintf(arguments, sizeof arguments, "--out $D/a " TRAINER_ADALORA LONG EVERY "%s", kinds[_i]);
    trainer_train_ok(arguments);
    snprintf(arguments, sizeof arguments,
             TRAINER_TRAIN "--out $D/b --resume " TRAINER_ADALORA LONG EVERY "%s", kinds[_i]);
    stop_until_done("KILL", arguments);
    trainer_same_results("a", "b", NULL);
}
END_TEST

/* Every other policy, under scores of every kind: from evaluations, from derivatives, from steps, from what is there. */
static const char *const policies[] = {
    "--set allocation.policy=elalora --set allocation.n_move=1 --set importance.estimator=output ",
    "--set allocation.policy=elalora --set allocation.n_move=1 --set importance.estimator=taylor ",
    "--set allocation.policy=increlora --set allocation.budget=40 --set allocation.grow_modules=2 "
    "--set importance.estimator=magnitude ",
    "--set allocation.policy=prune --set allocation.budget=10 --set importance.estimator=selection ",
    "--set allocation.policy=prune --set allocation.budget=10 --set importance.estimator=sensitivity "
    "--set start.kind=gradient --set start.multiple=1.5 --set start.cap=4 --set start.directions=5 ",
    "--set allocation.policy=prune --set allocation.budget=10 --set importance.mode=two_point ",
    "--set allocation.policy=threshold --set allocation.threshold=0 --set importance.estimator=gate "
    "--set adapters.gates=gaussian --set optimizer.train_gates=true --set optimizer.gate_threshold=0.1 "
    "--set optimizer.gate_dense_steps=3 --set optimizer.gate_rise_steps=9 --set optimizer.gate_stairs=5 ",
    "--set importance.mode=exact --set importance.reversed=true ",
    "--set importance.estimator=random ",
};
#define N_POLICIES (int)(sizeof policies / sizeof *policies)

START_TEST(every_policy_ends_the_same_too)
{
    char arguments[1000];
    snprintf(arguments, sizeof arguments, "--out $D/a " LONG EVERY "%s", policies[_i]);
    trainer_train_ok(arguments);
    snprintf(arguments, sizeof arguments, TRAINER_TRAIN "--out $D/b --resume " LONG EVERY "%s", policies[_i]);
    stop_until_done("KILL", arguments);
    trainer_same_results("a", "b", NULL);
}
END_TEST

START_TEST(nested_ranks_end_the_same_too)
{
    const char *const kinds[] = {"cumulative", "frozen"};
    char nested[160], arguments[400];
    snprintf(nested, sizeof nested, "--set adapters.nested=%s --set allocation.policy=fixed ", kinds[_i]);
    snprintf(arguments, sizeof arguments, "--out $D/a %s" LONG EVERY, nested);
    trainer_train_ok(arguments);
    snprintf(arguments, sizeof arguments, TRAINER_TRAIN "--out $D/b --resume %s" LONG EVERY, nested);
    stop_until_done("KILL", arguments);
    trainer_same_results("a", "b", NULL);
}
END_TEST

static void damage(const char *name, const char *how)
{
    char command[256];
    snprintf(command, sizeof command, "cd '%s' && %s '%s'", trainer_folder, how, name);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_damaged_checkpoint_makes_room_for_the_one_before)
{
    trainer_train_ok("--out $D/a" EVERY);
    trainer_train_ok("--out $D/b" EVERY);
    damage("b/checkpoint.lrk", "truncate -s -9");
    trainer_train_ok("--out $D/b --resume" EVERY);
    const char *said = trainer_get("stderr");
    ck_assert_ptr_nonnull(strstr(said, "checkpoint.lrk: truncated: it ends within"));
    ck_assert_ptr_nonnull(strstr(said, "going on from the one before"));
    ck_assert(trainer_exists("b/checkpoint.damaged.lrk"));
    trainer_same_results("a", "b", NULL);
    damage("b/checkpoint.lrk", "rm"); /* as after a crash between the two renames */
    trainer_train_ok("--out $D/b --resume" EVERY);
    trainer_same_results("a", "b", NULL);
    damage("b/checkpoint.lrk", "truncate -s -9");
    damage("b/checkpoint.previous.lrk", "truncate -s 5");
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --resume" EVERY), 1);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "checkpoint.previous.lrk: truncated"));
    damage("b/checkpoint.previous.lrk", "rm");
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --resume" EVERY), 1);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "checkpoint.lrk: truncated"));
}
END_TEST

START_TEST(without_a_checkpoint_the_run_begins)
{
    trainer_train_ok("--out $D/a");
    trainer_train_ok("--out $D/b --resume");
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "no checkpoint yet: from the start"));
    trainer_same_results("a", "b", NULL);
}
END_TEST

/* A trace that is shorter than it was cannot be gone on with: what happened is unknown. */
START_TEST(a_trace_that_lost_lines_is_an_error)
{
    trainer_train_ok("--out $D/b" EVERY);
    damage("b/trace.jsonl", "truncate -s 100");
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --resume" EVERY), 1);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "trace.jsonl has 100 bytes and had"));
}
END_TEST

START_TEST(a_run_goes_on_only_with_what_it_was_begun_with)
{
    trainer_train_ok("--out $D/b" EVERY);
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --resume --seed 6" EVERY), 1);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "another configuration"));
    trainer_put_rows("train.jsonl", 24, 4);
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --resume" EVERY), 1);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "other rows of train or dev"));
}
END_TEST

START_TEST(checkpoints_are_for_training)
{
    ck_assert_int_eq(trainer_run("--model " TRAINER_MODEL " --dev $D/dev.jsonl --resume"), 2);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "are for training"));
    ck_assert_int_eq(trainer_run(TRAINER_TRAIN "--out $D/b --checkpoint-every 0"), 2);
    ck_assert_ptr_nonnull(strstr(trainer_get("stderr"), "--checkpoint-every: '0' is not a number"));
}
END_TEST

Suite *trainer_resume_suite(void)
{
    Suite *suite = suite_create("trainer_resume");
    TCase *tests = tcase_create("trainer_resume");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, trainer_setup, trainer_teardown);
    tcase_add_test(tests, checkpoints_change_no_result);
    tcase_add_loop_test(tests, adalora_ends_the_same_too, 0, 2);
    tcase_add_loop_test(tests, every_policy_ends_the_same_too, 0, N_POLICIES);
    tcase_add_loop_test(tests, nested_ranks_end_the_same_too, 0, 2);
    tcase_add_test(tests, a_finished_run_that_is_resumed_stays_as_it_is);
    tcase_add_loop_test(tests, a_run_stopped_by_a_signal_ends_like_one_that_was_not, 0, 2);
    tcase_add_test(tests, a_damaged_checkpoint_makes_room_for_the_one_before);
    tcase_add_test(tests, without_a_checkpoint_the_run_begins);
    tcase_add_test(tests, a_trace_that_lost_lines_is_an_error);
    tcase_add_test(tests, a_run_goes_on_only_with_what_it_was_begun_with);
    tcase_add_test(tests, checkpoints_are_for_training);
    suite_add_tcase(suite, tests);
    return suite;
}
