/* SPDX-License-Identifier: MIT */
/*
 * The example trainer as a program, on a model of two small blocks: what it writes, that equal runs give equal
 * bytes, what its counts must be, what it refuses, and how it ends when interrupted.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lorank/lorank.h"
#include "trainer_rig.h"

enum { BLOCKS = 2, KINDS = 7, RANK = 2, RANKS = BLOCKS * KINDS * RANK, ROUNDS = 3 };

static json_int_t count_of(const json_t *summary, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(summary, "run"), key));
}

START_TEST(exact_scoring_runs_the_promised_number_of_blocks)
{
    /* n_move ranks move between rounds, so only the first round's ranks are known: one round of them. */
    trainer_train_ok("--out $D/out --set schedule.rounds=1");
    json_t *summary = trainer_summary_of("out");
    json_int_t blocks = 2 * BLOCKS;
    for (int stage = 0; stage < BLOCKS; stage++)
        blocks += (json_int_t)2 * KINDS * RANK * (BLOCKS - stage);
    ck_assert_int_eq(count_of(summary, "layer_forwards"), blocks);
    ck_assert_int_eq(count_of(summary, "layer_forwards_naive"), 2 * RANKS * BLOCKS);
    ck_assert_int_eq(count_of(summary, "evaluations"), 2 * RANKS + 2);
    ck_assert_int_eq(count_of(summary, "ranks_pruned"), 2);
    ck_assert_int_eq(count_of(summary, "ranks_added"), 2);
    ck_assert_int_eq(count_of(summary, "final_ranks"), RANKS);
    json_decref(summary);
}
END_TEST

START_TEST(equal_runs_write_equal_files_at_any_number_of_threads)
{
    trainer_train_ok("--threads 1 --out $D/a");
    trainer_train_ok("--threads 1 --out $D/b");
    trainer_train_ok("--threads 2 --out $D/c");
    trainer_same_results("a", "b", NULL);
    trainer_same_results("a", "c", NULL);
}
END_TEST

START_TEST(another_seed_gives_another_adapter)
{
    trainer_train_ok("--out $D/a");
    trainer_train_ok("--out $D/b --seed 6");
    ck_assert(!trainer_same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

static double printed_loss(const char *name)
{
    const char *at = strstr(trainer_get("stdout"), name);
    double loss = NAN;
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at + strlen(name), " loss %lf", &loss), 1);
    return loss;
}

START_TEST(a_saved_adapter_loads_and_gives_the_loss_of_the_summary)
{
    trainer_train_ok("--out $D/out");
    json_t *summary = trainer_summary_of("out"), *part = json_object_get(summary, "run");
    ck_assert_int_eq(
        trainer_run("--model " TRAINER_MODEL
                    " --adapter $D/out/adapter --seq-len 16 --dev $D/dev.jsonl --test $D/test.jsonl"),
        0);
    /* printed with six digits after the point */
    ck_assert_double_eq_tol(printed_loss("dev"), json_real_value(json_object_get(part, "dev_loss")), 0.5e-6);
    ck_assert_double_eq_tol(printed_loss("test"), json_real_value(json_object_get(part, "test_loss")),
                            0.5e-6);
    part = json_object_get(summary, "base");
    ck_assert_int_eq(trainer_run("--model " TRAINER_MODEL " --seq-len 16 --dev $D/dev.jsonl"), 0);
    ck_assert_double_eq_tol(printed_loss("dev"), json_real_value(json_object_get(part, "dev_loss")), 0.5e-6);
    json_decref(summary);
}
END_TEST

/* Cuts the adapter of a run into FOLDER/cut. */
static void cut_adapter(const char *out, int64_t depth)
{
    char path[128];
    lrk_context *context = NULL;
    lrk_adapters *set = NULL, *cut = NULL;
    snprintf(path, sizeof path, "%s/%s/adapter", trainer_folder, out);
    ck_assert_int_eq(lrk_context_create(NULL, &context, NULL, 0), LRK_OK);
    ck_assert_int_eq(lrk_peft_load(context, path, NULL, 0, NULL, &set), LRK_OK);
    ck_assert_int_eq(lrk_adapters_truncate(set, depth, NULL, &cut), LRK_OK);
    snprintf(path, sizeof path, "%s/cut", trainer_folder);
    ck_assert_int_eq(lrk_peft_save(cut, path, NULL), LRK_OK);
    lrk_adapters_destroy(cut);
    lrk_adapters_destroy(set);
    lrk_context_destroy(context);
}

/* What the trainer says of a depth is the loss of the adapter cut at it; and every depth has learnt. */
START_TEST(a_nested_run_gives_an_adapter_of_every_depth)
{
    trainer_train_ok("--out $D/out --set allocation.policy=fixed --set adapters.nested=cumulative "
                     "--set host.epochs=12");
    json_t *summary = trainer_summary_of("out"), *depths = json_object_get(summary, "depths");
    double base = json_real_value(json_object_get(json_object_get(summary, "base"), "dev_loss"));
    double whole = json_real_value(json_object_get(json_object_get(summary, "run"), "dev_loss"));
    int64_t n = (int64_t)json_array_size(depths);
    ck_assert_int_ge(n, 2);
    for (int64_t k = 1; k <= n; k++) {
        double loss = json_real_value(json_object_get(json_array_get(depths, (size_t)k - 1), "dev_loss"));
        ck_assert_double_lt(loss, base);
        if (k == n) ck_assert_double_eq(loss, whole);
        cut_adapter("out", k);
        ck_assert_int_eq(
            trainer_run("--model " TRAINER_MODEL " --adapter $D/cut --seq-len 16 --dev $D/dev.jsonl"), 0);
        ck_assert_double_eq_tol(printed_loss("dev"), loss,
                                2e-6); /* printed with six digits; f32 in the file */
    }
    json_decref(summary);
}
END_TEST

START_TEST(training_lowers_the_loss)
{
    trainer_train_ok("--out $D/out --set host.epochs=6");
    json_t *summary = trainer_summary_of("out");
    double base = json_real_value(json_object_get(json_object_get(summary, "base"), "test_loss"));
    double adapted = json_real_value(json_object_get(json_object_get(summary, "run"), "test_loss"));
    ck_assert_msg(adapted < base - 0.1, "test loss %g after training, %g before", adapted, base);
    json_decref(summary);
}
END_TEST

START_TEST(screened_scoring_trains_with_fewer_evaluations)
{
    trainer_train_ok("--out $D/out --set importance.mode=screened --set importance.pool=4");
    json_t *summary = trainer_summary_of("out");
    ck_assert_int_eq(count_of(summary, "rounds"), ROUNDS);
    ck_assert_int_lt(count_of(summary, "evaluations"), ROUNDS * (2 * RANKS + 2));
    json_decref(summary);
}
END_TEST

START_TEST(a_redrawn_validation_batch_changes_scores_and_nothing_else_breaks)
{
    trainer_train_ok("--out $D/a");
    trainer_train_ok("--out $D/b --set host.redraw_validation=true");
    ck_assert(!trainer_same_file("a", "b", "trace.jsonl"));
}
END_TEST

/* Gates begin at 1: without their derivative they would stay there, and the adapters be equal. */
START_TEST(gates_are_trained_where_the_text_says_so)
{
    trainer_train_ok("--out $D/a --set allocation.policy=fixed");
    trainer_train_ok("--out $D/b --set allocation.policy=fixed --set optimizer.train_gates=true");
    ck_assert(!trainer_same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

/* 14 modules of rank 2, down to 10 ranks. */
START_TEST(adalora_trains_from_a_text)
{
    trainer_train_ok("--out $D/a " TRAINER_ADALORA);
    json_t *summary = trainer_summary_of("a");
    ck_assert_int_eq(count_of(summary, "ranks_pruned"), RANKS - 10);
    json_decref(summary);
    trainer_train_ok("--out $D/b " TRAINER_ADALORA_FORM);
    ck_assert(!trainer_same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

START_TEST(recomputing_blocks_changes_no_bit)
{
    trainer_train_ok("--out $D/a");
    trainer_train_ok("--out $D/b --set host.recompute=true");
    ck_assert(trainer_same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

START_TEST(completion_rows_train_and_count_exact_matches)
{
    char rows[4096] = "";
    for (int i = 0; i < 24; i++)
        snprintf(rows + strlen(rows), sizeof rows - strlen(rows),
                 "{\"prompt\": \"%d is\", \"completion\": \" %s\"}\n", i, i % 2 ? "odd" : "even");
    trainer_put("train.jsonl", rows);
    trainer_put("dev.jsonl", rows);
    trainer_put("test.jsonl", rows);
    trainer_train_ok("--out $D/out --set host.epochs=20 --set learning_rate.peak=0.03");
    json_t *summary = trainer_summary_of("out");
    double accuracy = json_real_value(json_object_get(json_object_get(summary, "run"), "test_accuracy"));
    ck_assert_msg(accuracy >= 0.5, "exact match %g", accuracy);
    json_decref(summary);
}
END_TEST

START_TEST(patience_ends_training_early)
{
    trainer_train_ok(
        "--out $D/out --set host.epochs=30 --set host.patience=2 --set learning_rate.peak=1 --set "
        "schedule.rounds=0");
    ck_assert_ptr_null(strstr(trainer_get("stderr"), "180/180"));
}
END_TEST

START_TEST(without_a_test_file_no_test_loss_is_told)
{
    ck_assert_int_eq(
        trainer_run("--model " TRAINER_MODEL
                    " --train $D/train.jsonl --dev $D/dev.jsonl --config $D/config.yaml --out $D/out "
                    "--set host.epochs=1 --set schedule.rounds=0"),
        0);
    ck_assert_ptr_nonnull(strstr(trainer_get("stdout"), "adapted  dev loss"));
    ck_assert_ptr_null(strstr(trainer_get("stdout"), "test loss"));
}
END_TEST

START_TEST(the_list_names_what_a_text_may_choose)
{
    const char *const lines[] = {"\nestimator   salience      importance.estimator: salience  (",
                                 "\npolicy      alora         allocation.policy: alora  (",
                                 "\npolicy      threshold     allocation.policy: threshold  (",
                                 "\ninitial     ranks_from    adapters.ranks_from: ",
                                 "\ninitial     gora          start.kind: gora  (",
                                 "\ntraining    nested        adapters.nested: "};
    ck_assert_int_eq(trainer_run("--list"), 0);
    const char *text = trainer_get("stdout");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(text, lines[i]) != NULL, "no line%s", lines[i]);
}
END_TEST

START_TEST(a_dry_run_writes_nothing_and_knows_the_counts)
{
    trainer_train_ok("--dry-run --out $D/out");
    ck_assert(!trainer_exists("out"));
    const char *text = trainer_get("stdout");
    ck_assert_ptr_nonnull(strstr(text, "3 rounds, each 58 evaluations (at most 58) and 0 gradients"));
    ck_assert_ptr_nonnull(strstr(text, "each round moves 2 of 28 ranks (7.1 %)"));
    ck_assert_ptr_null(strstr(text, "warning"));
    trainer_train_ok("--dry-run --set allocation.n_move=3");
    ck_assert_ptr_nonnull(strstr(trainer_get("stdout"), "warning: moving more than 10 % of the ranks"));
}
END_TEST

static const struct {
    const char *arguments, *says;
} wrong[] = {
    {"--out", "'--out' is no option, or lacks its value"},
    {"--frobnicate", "'--frobnicate' is no option"},
    {"stray", "unexpected argument 'stray'"},
    {"--threads 0", "--threads: '0' is not a number from 1"},
    {"--set seed", "--set: 'seed' is not KEY=VALUE"},
    {"--demo nothing", "--demo: no task 'nothing'"},
    {"--model " TRAINER_MODEL, "training needs --train"},
    {"--model " TRAINER_MODEL " --train $D/train.jsonl", "training needs --dev"},
    {TRAINER_TRAIN, "training needs --out"},
    {TRAINER_TRAIN "--out $D/a/b/c", "--out: "},
    {TRAINER_TRAIN "--out $D/train.jsonl", "is not a directory"},
    {TRAINER_TRAIN "--out $D/out --model /nonexistent", "/nonexistent/config.json"},
    {TRAINER_TRAIN "--out $D/out --train /nonexistent", "/nonexistent: No such file"},
    {TRAINER_TRAIN "--out $D/out --config /nonexistent", "/nonexistent"},
    {TRAINER_TRAIN "--out $D/out --train $D/config.yaml", "config.yaml:1:"},
    {TRAINER_TRAIN "--out $D/out --set nothing=1", "nothing"},
    {TRAINER_TRAIN "--out $D/out --set host.batch=0", "batch"},
    {TRAINER_TRAIN "--out $D/out --set host.batch=1000", "too few for a batch of 1000"},
    {TRAINER_TRAIN "--out $D/out --set host.validation_rows=4000", "validation_rows is 4000, but dev has"},
    {TRAINER_TRAIN "--out $D/out --set host.seq_len=65", "the sequence length 65 exceeds the 64 positions"},
    {TRAINER_TRAIN "--out $D/out --set schedule.warmup=1000", "total_steps must be >= 1006"},
    {TRAINER_TRAIN "--out $D/out --seed abc", "seed"},
    {TRAINER_TRAIN "--out $D/out --dev $D/pairs.jsonl", "pairs.jsonl: its rows are of another kind"},
    {"--model " TRAINER_MODEL " --adapter /nonexistent --dev $D/dev.jsonl", "/nonexistent"},
    {"--model " TRAINER_MODEL " --generate word --max-tokens x", "--max-tokens: 'x' is not a number"},
};

START_TEST(what_is_wrong_gives_one_line_and_status_2_and_writes_nothing)
{
    trainer_put("pairs.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    int status = trainer_run(wrong[_i].arguments);
    const char *text = trainer_get("stderr"), *end = strchr(text, '\n');
    ck_assert_msg(status == 2, "exit status %d: %s", status, text);
    ck_assert_msg(strncmp(text, "finetune: ", 10) == 0 && end && end[1] == '\0', "not one line: %s", text);
    ck_assert_msg(strstr(text, wrong[_i].says) != NULL, "'%s' lacks '%s'", text, wrong[_i].says);
    ck_assert(!trainer_exists("out"));
}
END_TEST

static void be_the_program(void)
{
    char out[96], err[96], program[256], arguments[4][96];
    const char *build = getenv("LRK_BUILD");
    static const char *const names[] = {"train.jsonl", "dev.jsonl", "config.yaml", "out"};
    snprintf(program, sizeof program, "%s/finetune", build ? build : "build/release");
    for (int i = 0; i < 4; i++)
        snprintf(arguments[i], sizeof arguments[i], "%s/%s", trainer_folder, names[i]);
    snprintf(out, sizeof out, "%s/stdout", trainer_folder);
    snprintf(err, sizeof err, "%s/stderr", trainer_folder);
    if (!freopen(out, "wb", stdout) || !freopen(err, "wb", stderr)) _exit(99);
    execl(program, program, "--model", TRAINER_MODEL, "--train", arguments[0], "--dev", arguments[1],
          "--config", arguments[2], "--out", arguments[3], "--set", "host.epochs=9999", (char *)NULL);
    _exit(99);
}

START_TEST(an_interrupt_saves_the_best_adapter)
{
    int status = 0;
    trainer_put("stderr", "");
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) be_the_program();
    for (int i = 0; i < 600 && !strstr(trainer_get("stderr"), "best"); i++)
        usleep(50000);
    ck_assert_int_eq(kill(child, SIGINT), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 130, "status %d: %s", status,
                  trainer_get("stderr"));
    ck_assert_ptr_nonnull(strstr(trainer_get("stdout"), "interrupted: the best adapter so far is in"));
    ck_assert_int_eq(
        trainer_run("--model " TRAINER_MODEL " --adapter $D/out/adapter --seq-len 16 --dev $D/dev.jsonl"), 0);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(peak_memory_is_what_the_dry_run_says)
{
    /* the bundled model: with a smaller one the program itself would be nearly all there is */
    static const char bundled[] =
        "--model examples/models/gloss-llama --train examples/data/austen/train.jsonl "
        "--dev $D/dev.jsonl --config examples/finetune/austen.yaml --set host.epochs=0.1 "
        "--set host.validation_rows=1 --set schedule.unit=steps --set schedule.warmup=2 "
        "--set schedule.recovery=2 --set schedule.rounds=1 ";
    char command[1024];
    double estimate = 0, peak = 0;
    snprintf(command, sizeof command, "%s --dry-run", bundled);
    ck_assert_int_eq(trainer_run(command), 0);
    const char *at = strstr(trainer_get("stdout"), "peak memory");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "peak memory %lf MiB", &estimate), 1);
    snprintf(command, sizeof command, "%s --out $D/out", bundled);
    ck_assert_int_eq(trainer_run(command), 0);
    at = strstr(trainer_get("stdout"), "peak memory");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "peak memory %lf MiB", &peak), 1);
    ck_assert_msg(fabs(estimate - peak) <= 0.15 * peak, "estimated %.1f MiB, was %.1f MiB", estimate, peak);
}
END_TEST
#endif

Suite *trainer_suite(void)
{
    Suite *suite = suite_create("trainer");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, trainer_setup, trainer_teardown);
    tcase_add_test(tests, exact_scoring_runs_the_promised_number_of_blocks);
    tcase_add_test(tests, equal_runs_write_equal_files_at_any_number_of_threads);
    tcase_add_test(tests, another_seed_gives_another_adapter);
    tcase_add_test(tests, a_saved_adapter_loads_and_gives_the_loss_of_the_summary);
    tcase_add_test(tests, training_lowers_the_loss);
    tcase_add_test(tests, a_nested_run_gives_an_adapter_of_every_depth);
    tcase_add_test(tests, screened_scoring_trains_with_fewer_evaluations);
    tcase_add_test(tests, a_redrawn_validation_batch_changes_scores_and_nothing_else_breaks);
    tcase_add_test(tests, gates_are_trained_where_the_text_says_so);
    tcase_add_test(tests, adalora_trains_from_a_text);
    tcase_add_test(tests, recomputing_blocks_changes_no_bit);
    tcase_add_test(tests, completion_rows_train_and_count_exact_matches);
    tcase_add_test(tests, patience_ends_training_early);
    tcase_add_test(tests, without_a_test_file_no_test_loss_is_told);
    tcase_add_test(tests, the_list_names_what_a_text_may_choose);
    tcase_add_test(tests, a_dry_run_writes_nothing_and_knows_the_counts);
    tcase_add_loop_test(tests, what_is_wrong_gives_one_line_and_status_2_and_writes_nothing, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(tests, an_interrupt_saves_the_best_adapter);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* whose shadows take memory too */
    tcase_add_test(tests, peak_memory_is_what_the_dry_run_says);
#endif
    suite_add_tcase(suite, tests);
    return suite;
}
