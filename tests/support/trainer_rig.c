/* SPDX-License-Identifier: MIT */
/* The example trainer as tests run it (trainer_rig.h). */
#include "trainer_rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char trainer_folder[64];

static const char config_text[] = "seed: 5\n"
                                  "adapters: {modules: [{pattern: \"*_proj\", rank: 2, scale: 2}]}\n"
                                  "importance: {mode: exact}\n"
                                  "allocation: {policy: alora, n_move: 2}\n"
                                  "learning_rate: {peak: 0.01}\n"
                                  "schedule: {unit: steps, warmup: 3, recovery: 2, rounds: 3}\n"
                                  "host: {epochs: 2, batch: 4, seq_len: 16, validation_rows: 3}\n";

void trainer_put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", trainer_folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

void trainer_put_rows(const char *name, int n, int first)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", trainer_folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < n; i++)
        fprintf(file, "{\"text\": \"row %d: the %d small models learn %d words\"}\n", i, first + i * i,
                i % 7);
    ck_assert_int_eq(fclose(file), 0);
}

void trainer_setup(void)
{
    strcpy(trainer_folder, "/tmp/lorank-trainer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(trainer_folder));
    trainer_put("config.yaml", config_text);
    trainer_put_rows("train.jsonl", 24, 3);
    trainer_put_rows("dev.jsonl", 8, 100);
    trainer_put_rows("test.jsonl", 8, 200);
}

void trainer_teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", trainer_folder);
    ck_assert_int_eq(system(command), 0);
}

int trainer_run_under(const char *before, const char *arguments)
{
    char command[2048];
    const char *build = getenv("LRK_BUILD");
    snprintf(command, sizeof command, "D=%s; %s %s/finetune %s >$D/stdout 2>$D/stderr", trainer_folder,
             before, build ? build : "build/release", arguments);
    int status = system(command);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int trainer_run(const char *arguments)
{
    return trainer_run_under("", arguments);
}

char *trainer_get(const char *name)
{
    char path[160];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/%s", trainer_folder, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is not there", path);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

int trainer_exists(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", trainer_folder, name);
    return access(path, F_OK) == 0;
}

void trainer_train_ok(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, TRAINER_TRAIN "%s", arguments);
    int status = trainer_run(command);
    ck_assert_msg(status == 0, "exit status %d: %s", status, trainer_get("stderr"));
}

json_t *trainer_summary_of(const char *out)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s/summary.json", trainer_folder, out);
    json_t *summary = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(summary);
    return summary;
}

int trainer_same_file(const char *a, const char *b, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "cmp -s %s/%s/%s %s/%s/%s", trainer_folder, a, name, trainer_folder, b,
             name);
    return system(command) == 0;
}

char *trainer_timeless(const char *out, const char *without)
{
    json_t *summary = trainer_summary_of(out), *run_part = json_object_get(summary, "run");
    json_object_del(run_part, "train_seconds");
    json_object_del(run_part, "scoring_seconds");
    json_object_del(run_part, "evaluation_seconds");
    json_object_del(run_part, "start_seconds");
    if (without) json_object_del(run_part, without);
    char *text = json_dumps(summary, JSON_SORT_KEYS);
    json_decref(summary);
    return text;
}

void trainer_same_results(const char *a, const char *b, const char *without)
{
    ck_assert(trainer_same_file(a, b, "adapter/adapter_model.safetensors"));
    ck_assert(trainer_same_file(a, b, "adapter/adapter_config.json"));
    ck_assert(trainer_same_file(a, b, "trace.jsonl"));
    char *first = trainer_timeless(a, without), *second = trainer_timeless(b, without);
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
}
