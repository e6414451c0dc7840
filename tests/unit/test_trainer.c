/* SPDX-License-Identifier: MIT */
/*
 * The example trainer as a program, on a model of two small blocks: what it writes, that equal runs give equal
 * bytes, what its counts must be, what it refuses, and how it ends when interrupted.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 2, KINDS = 7, RANK = 2, RANKS = BLOCKS * KINDS * RANK, ROUNDS = 3 };

#define MODEL "tests/golden/llama-tiny"

static char folder[64]; /* of one test: rows, configuration, outputs */

static const char config_text[] = "seed: 5\n"
                                  "adapters: {modules: [{pattern: \"*_proj\", rank: 2, scale: 2}]}\n"
                                  "importance: {mode: exact}\n"
                                  "allocation: {policy: alora, n_move: 2}\n"
                                  "learning_rate: {peak: 0.01}\n"
                                  "schedule: {unit: steps, warmup: 3, recovery: 2, rounds: 3}\n"
                                  "host: {epochs: 2, batch: 4, seq_len: 16, validation_rows: 3}\n";

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void put_rows(const char *name, int n, int first)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < n; i++)
        fprintf(file, "{\"text\": \"row %d: the %d small models learn %d words\"}\n", i, first + i * i,
                i % 7);
    ck_assert_int_eq(fclose(file), 0);
}

static void setup(void)
{
    strcpy(folder, "/tmp/lorank-trainer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    put("config.yaml", config_text);
    put_rows("train.jsonl", 24, 3);
    put_rows("dev.jsonl", 8, 100);
    put_rows("test.jsonl", 8, 200);
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* Runs the program in the test's folder of names; output goes to FOLDER/stdout and FOLDER/stderr. */
static int run(const char *arguments)
{
    char command[2048];
    const char *build = getenv("LRK_BUILD");
    snprintf(command, sizeof command, "D=%s; %s/finetune %s >$D/stdout 2>$D/stderr", folder,
             build ? build : "build/release", arguments);
    int status = system(command);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define TRAIN                                                                                                \
    "--model " MODEL                                                                                         \
    " --train $D/train.jsonl --dev $D/dev.jsonl --test $D/test.jsonl --config $D/config.yaml "

static char *get(const char *name)
{
    char path[160];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is not there", path);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static int exists(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void train_ok(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, TRAIN "%s", arguments);
    int status = run(command);
    ck_assert_msg(status == 0, "exit status %d: %s", status, get("stderr"));
}

static json_t *summary_of(const char *out)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s/summary.json", folder, out);
    json_t *summary = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(summary);
    return summary;
}

static json_int_t count_of(const json_t *summary, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(summary, "run"), key));
}

START_TEST(exact_scoring_runs_the_promised_number_of_blocks)
{
    /* n_move ranks move between rounds, so only the first round's ranks are known: one round of them. */
    train_ok("--out $D/out --set schedule.rounds=1");
    json_t *summary = summary_of("out");
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

static int same_file(const char *a, const char *b, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "cmp -s %s/%s/%s %s/%s/%s", folder, a, name, folder, b, name);
    return system(command) == 0;
}

/* summary.json without the members that are times. */
static char *timeless(const char *out)
{
    json_t *summary = summary_of(out), *run_part = json_object_get(summary, "run");
    json_object_del(run_part, "train_seconds");
    json_object_del(run_part, "scoring_seconds");
    char *text = json_dumps(summary, JSON_SORT_KEYS);
    json_decref(summary);
    return text;
}

static void same_results(const char *a, const char *b)
{
    ck_assert(same_file(a, b, "adapter/adapter_model.safetensors"));
    ck_assert(same_file(a, b, "adapter/adapter_config.json"));
    ck_assert(same_file(a, b, "trace.jsonl"));
    char *first = timeless(a), *second = timeless(b);
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
}

START_TEST(equal_runs_write_equal_files_at_any_number_of_threads)
{
    train_ok("--threads 1 --out $D/a");
    train_ok("--threads 1 --out $D/b");
    train_ok("--threads 2 --out $D/c");
    same_results("a", "b");
    same_results("a", "c");
}
END_TEST

START_TEST(another_seed_gives_another_adapter)
{
    train_ok("--out $D/a");
    train_ok("--out $D/b --seed 6");
    ck_assert(!same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

static double printed_loss(const char *name)
{
    const char *at = strstr(get("stdout"), name);
    double loss = NAN;
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at + strlen(name), " loss %lf", &loss), 1);
    return loss;
}

START_TEST(a_saved_adapter_loads_and_gives_the_loss_of_the_summary)
{
    train_ok("--out $D/out");
    json_t *summary = summary_of("out"), *part = json_object_get(summary, "run");
    ck_assert_int_eq(run("--model " MODEL
                         " --adapter $D/out/adapter --seq-len 16 --dev $D/dev.jsonl --test $D/test.jsonl"),
                     0);
    /* printed with six digits after the point */
    ck_assert_double_eq_tol(printed_loss("dev"), json_real_value(json_object_get(part, "dev_loss")), 0.5e-6);
    ck_assert_double_eq_tol(printed_loss("test"), json_real_value(json_object_get(part, "test_loss")),
                            0.5e-6);
    part = json_object_get(summary, "base");
    ck_assert_int_eq(run("--model " MODEL " --seq-len 16 --dev $D/dev.jsonl"), 0);
    ck_assert_double_eq_tol(printed_loss("dev"), json_real_value(json_object_get(part, "dev_loss")), 0.5e-6);
    json_decref(summary);
}
END_TEST

START_TEST(training_lowers_the_loss)
{
    train_ok("--out $D/out --set host.epochs=6");
    json_t *summary = summary_of("out");
    double base = json_real_value(json_object_get(json_object_get(summary, "base"), "test_loss"));
    double adapted = json_real_value(json_object_get(json_object_get(summary, "run"), "test_loss"));
    ck_assert_msg(adapted < base - 0.1, "test loss %g after training, %g before", adapted, base);
    json_decref(summary);
}
END_TEST

START_TEST(screened_scoring_trains_with_fewer_evaluations)
{
    train_ok("--out $D/out --set importance.mode=screened --set importance.pool=4");
    json_t *summary = summary_of("out");
    ck_assert_int_eq(count_of(summary, "rounds"), ROUNDS);
    ck_assert_int_lt(count_of(summary, "evaluations"), ROUNDS * (2 * RANKS + 2));
    json_decref(summary);
}
END_TEST

START_TEST(a_redrawn_validation_batch_changes_scores_and_nothing_else_breaks)
{
    train_ok("--out $D/a");
    train_ok("--out $D/b --set host.redraw_validation=true");
    ck_assert(!same_file("a", "b", "trace.jsonl"));
}
END_TEST

START_TEST(recomputing_blocks_changes_no_bit)
{
    train_ok("--out $D/a");
    train_ok("--out $D/b --set host.recompute=true");
    ck_assert(same_file("a", "b", "adapter/adapter_model.safetensors"));
}
END_TEST

START_TEST(completion_rows_train_and_count_exact_matches)
{
    char rows[4096] = "";
    for (int i = 0; i < 24; i++)
        snprintf(rows + strlen(rows), sizeof rows - strlen(rows),
                 "{\"prompt\": \"%d is\", \"completion\": \" %s\"}\n", i, i % 2 ? "odd" : "even");
    put("train.jsonl", rows);
    put("dev.jsonl", rows);
    put("test.jsonl", rows);
    train_ok("--out $D/out --set host.epochs=20 --set learning_rate.peak=0.03");
    json_t *summary = summary_of("out");
    double accuracy = json_real_value(json_object_get(json_object_get(summary, "run"), "test_accuracy"));
    ck_assert_msg(accuracy >= 0.5, "exact match %g", accuracy);
    json_decref(summary);
}
END_TEST

START_TEST(patience_ends_training_early)
{
    train_ok("--out $D/out --set host.epochs=30 --set host.patience=2 --set learning_rate.peak=1 --set "
             "schedule.rounds=0");
    ck_assert_ptr_null(strstr(get("stderr"), "180/180"));
}
END_TEST

START_TEST(without_a_test_file_no_test_loss_is_told)
{
    ck_assert_int_eq(run("--model " MODEL
                         " --train $D/train.jsonl --dev $D/dev.jsonl --config $D/config.yaml --out $D/out "
                         "--set host.epochs=1 --set schedule.rounds=0"),
                     0);
    ck_assert_ptr_nonnull(strstr(get("stdout"), "adapted  dev loss"));
    ck_assert_ptr_null(strstr(get("stdout"), "test loss"));
}
END_TEST

START_TEST(a_dry_run_writes_nothing_and_knows_the_counts)
{
    train_ok("--dry-run --out $D/out");
    ck_assert(!exists("out"));
    const char *text = get("stdout");
    ck_assert_ptr_nonnull(strstr(text, "3 rounds, each 58 evaluations (at most 58) and 0 gradients"));
    ck_assert_ptr_nonnull(strstr(text, "each round moves 2 of 28 ranks (7.1 %)"));
    ck_assert_ptr_null(strstr(text, "warning"));
    train_ok("--dry-run --set allocation.n_move=3");
    ck_assert_ptr_nonnull(strstr(get("stdout"), "warning: moving more than 10 % of the ranks"));
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
    {"--model " MODEL, "training needs --train"},
    {"--model " MODEL " --train $D/train.jsonl", "training needs --dev"},
    {TRAIN, "training needs --out"},
    {TRAIN "--out $D/a/b/c", "--out: "},
    {TRAIN "--out $D/train.jsonl", "is not a directory"},
    {TRAIN "--out $D/out --model /nonexistent", "/nonexistent/config.json"},
    {TRAIN "--out $D/out --train /nonexistent", "/nonexistent: No such file"},
    {TRAIN "--out $D/out --config /nonexistent", "/nonexistent"},
    {TRAIN "--out $D/out --train $D/config.yaml", "config.yaml:1:"},
    {TRAIN "--out $D/out --set nothing=1", "nothing"},
    {TRAIN "--out $D/out --set host.batch=0", "batch"},
    {TRAIN "--out $D/out --set host.batch=1000", "too few for a batch of 1000"},
    {TRAIN "--out $D/out --set host.validation_rows=4000", "validation_rows is 4000, but dev has"},
    {TRAIN "--out $D/out --set host.seq_len=65", "the sequence length 65 exceeds the 64 positions"},
    {TRAIN "--out $D/out --set schedule.warmup=1000", "total_steps must be >= 1006"},
    {TRAIN "--out $D/out --seed abc", "seed"},
    {TRAIN "--out $D/out --dev $D/pairs.jsonl", "pairs.jsonl: its rows are of another kind"},
    {"--model " MODEL " --adapter /nonexistent --dev $D/dev.jsonl", "/nonexistent"},
    {"--model " MODEL " --generate word --max-tokens x", "--max-tokens: 'x' is not a number"},
};

START_TEST(what_is_wrong_gives_one_line_and_status_2_and_writes_nothing)
{
    put("pairs.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    int status = run(wrong[_i].arguments);
    const char *text = get("stderr"), *end = strchr(text, '\n');
    ck_assert_msg(status == 2, "exit status %d: %s", status, text);
    ck_assert_msg(strncmp(text, "finetune: ", 10) == 0 && end && end[1] == '\0', "not one line: %s", text);
    ck_assert_msg(strstr(text, wrong[_i].says) != NULL, "'%s' lacks '%s'", text, wrong[_i].says);
    ck_assert(!exists("out"));
}
END_TEST

static void be_the_program(void)
{
    char out[96], err[96], program[256], arguments[4][96];
    const char *build = getenv("LRK_BUILD");
    static const char *const names[] = {"train.jsonl", "dev.jsonl", "config.yaml", "out"};
    snprintf(program, sizeof program, "%s/finetune", build ? build : "build/release");
    for (int i = 0; i < 4; i++)
        snprintf(arguments[i], sizeof arguments[i], "%s/%s", folder, names[i]);
    snprintf(out, sizeof out, "%s/stdout", folder);
    snprintf(err, sizeof err, "%s/stderr", folder);
    if (!freopen(out, "wb", stdout) || !freopen(err, "wb", stderr)) _exit(99);
    execl(program, program, "--model", MODEL, "--train", arguments[0], "--dev", arguments[1], "--config",
          arguments[2], "--out", arguments[3], "--set", "host.epochs=9999", (char *)NULL);
    _exit(99);
}

START_TEST(an_interrupt_saves_the_best_adapter)
{
    int status = 0;
    put("stderr", "");
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) be_the_program();
    for (int i = 0; i < 600 && !strstr(get("stderr"), "best"); i++)
        usleep(50000);
    ck_assert_int_eq(kill(child, SIGINT), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 130, "status %d: %s", status, get("stderr"));
    ck_assert_ptr_nonnull(strstr(get("stdout"), "interrupted: the best adapter so far is in"));
    ck_assert_int_eq(run("--model " MODEL " --adapter $D/out/adapter --seq-len 16 --dev $D/dev.jsonl"), 0);
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
    ck_assert_int_eq(run(command), 0);
    const char *at = strstr(get("stdout"), "peak memory");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "peak memory %lf MiB", &estimate), 1);
    snprintf(command, sizeof command, "%s --out $D/out", bundled);
    ck_assert_int_eq(run(command), 0);
    at = strstr(get("stdout"), "peak memory");
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
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, exact_scoring_runs_the_promised_number_of_blocks);
    tcase_add_test(tests, equal_runs_write_equal_files_at_any_number_of_threads);
    tcase_add_test(tests, another_seed_gives_another_adapter);
    tcase_add_test(tests, a_saved_adapter_loads_and_gives_the_loss_of_the_summary);
    tcase_add_test(tests, training_lowers_the_loss);
    tcase_add_test(tests, screened_scoring_trains_with_fewer_evaluations);
    tcase_add_test(tests, a_redrawn_validation_batch_changes_scores_and_nothing_else_breaks);
    tcase_add_test(tests, recomputing_blocks_changes_no_bit);
    tcase_add_test(tests, completion_rows_train_and_count_exact_matches);
    tcase_add_test(tests, patience_ends_training_early);
    tcase_add_test(tests, without_a_test_file_no_test_loss_is_told);
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
