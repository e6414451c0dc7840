/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing checkpoints: the first byte chooses the handles and whether checksums are put right (so that what lies behind them
 * is reached), the rest is the file. Whatever it says, a refused file leaves every handle as it was, and an accepted one
 * leaves a run that can go on: it trains, scores, plans and commits.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/checkpoint.h"
#include "formats/checksum.h"
#include "lorank/lorank.h"

enum {
    MODULES = 3,
    PARTS = 2,
    MOST_BYTES = 1 << 16,
    REPAIR = 1,
    PARTIAL = 2,
    MODE_SHIFT = 2,
    SALIENCE = 3, /* a mode beside those of ablation */
    BLOB_MOST = 64
};

typedef struct fuzz_run {
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_optimizer *optimizer;
    lrk_estimator *estimator;
    lrk_allocator *allocator;
    lrk_schedule *schedule;
    lrk_checkpoint *checkpoint;
} fuzz_run;

static void must(int holds)
{
    if (!holds) abort();
}

/* ---- a run without a model ------------------------------------------------------------------------------------------- */

static void fill_parts(const lrk_evaluation *evaluation)
{
    for (int32_t p = 0; p < evaluation->n_parts; p++)
        evaluation->parts[p] = (lrk_loss_part){1.0 + (double)(evaluation->identity % 7) / (p + 2), p + 1.0};
}

static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    for (int32_t i = 0; i < n; i++)
        fill_parts(&evaluations[i]);
    return 0;
}

static int32_t differentiate(void *user, const lrk_evaluation *evaluation)
{
    (void)user;
    const float row[4] = {1, 2, 3, 4};
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_matrix x = {sizeof x, LRK_DTYPE_F32, row, 1, m + 2, m + 2},
                   dy = {sizeof dy, LRK_DTYPE_F32, row, 1, 2, 2};
        if (lrk_backward(evaluation->pass, &m, 1, &x, NULL, 0, &dy, NULL) != LRK_OK) return 1;
    }
    fill_parts(evaluation);
    return 0;
}

static void create_set(fuzz_run *run)
{
    static const char *const names[MODULES] = {"a", "b", "c"};
    lrk_module_spec specs[MODULES];
    for (int32_t m = 0; m < MODULES; m++) {
        lrk_module_spec_init(&specs[m], sizeof specs[m]);
        specs[m].name = names[m];
        specs[m].stage = m;
        specs[m].n_in = m + 2;
        specs[m].n_out = 2;
        specs[m].rank = 2;
    }
    must(lrk_adapters_create(run->context, specs, MODULES, NULL, &run->adapters) == LRK_OK);
}

static void create_salience(fuzz_run *run)
{
    lrk_salience_options salience;
    lrk_salience_options_init(&salience, sizeof salience);
    salience.window = 1;
    salience.window_last = 3;
    salience.n_rounds = 2;
    must(lrk_estimator_create_salience(run->adapters, &salience, &run->estimator) == LRK_OK);
}

static void create_ablation(fuzz_run *run, int32_t mode)
{
    lrk_evaluator evaluator;
    lrk_evaluator_init(&evaluator, sizeof evaluator);
    evaluator.evaluate = evaluate;
    evaluator.differentiate = differentiate;
    evaluator.max_rows = 1;
    evaluator.n_parts = PARTS;
    lrk_ablation_options ablation;
    lrk_ablation_options_init(&ablation, sizeof ablation);
    ablation.mode = mode;
    ablation.n_cut = ablation.pool = mode == LRK_ABLATION_SCREENED ? 2 : 1;
    ablation.noise_floor_repeats = mode == LRK_ABLATION_EXACT;
    must(lrk_estimator_create_ablation(run->adapters, &evaluator, &ablation, &run->estimator) == LRK_OK);
}

static void create_parts(fuzz_run *run, int32_t mode)
{
    lrk_alora_options alora;
    lrk_alora_options_init(&alora, sizeof alora);
    alora.n_move = 1;
    alora.protect_rounds = mode == LRK_ABLATION_EXACT;
    lrk_schedule_options schedule;
    lrk_schedule_options_init(&schedule, sizeof schedule);
    schedule.warmup = schedule.recovery = 1;
    schedule.rounds = 2;
    schedule.total_steps = 4;
    mode == SALIENCE ? create_salience(run) : create_ablation(run, mode);
    must(lrk_allocator_create_alora(run->adapters, &alora, &run->allocator) == LRK_OK);
    must(lrk_optimizer_create_adamw(run->adapters, NULL, &run->optimizer) == LRK_OK);
    must(lrk_schedule_create(run->context, &schedule, &run->schedule) == LRK_OK);
}

static void bind(fuzz_run *run)
{
    lrk_participant participant = {.struct_size = sizeof participant};
    lrk_round_binding binding;
    lrk_round_binding_init(&binding, sizeof binding);
    must(lrk_optimizer_participant(run->optimizer, &participant) == LRK_OK);
    binding.estimator = run->estimator;
    binding.allocator = run->allocator;
    binding.participants = &participant;
    binding.n_participants = 1;
    must(lrk_schedule_bind(run->schedule, &binding) == LRK_OK);
}

static void list(fuzz_run *run)
{
    must(lrk_checkpoint_create(run->context, &run->checkpoint) == LRK_OK);
    must(lrk_checkpoint_add_adapters(run->checkpoint, "s", run->adapters) == LRK_OK);
    must(lrk_checkpoint_add_optimizer(run->checkpoint, "o", run->optimizer) == LRK_OK);
    must(lrk_checkpoint_add_estimator(run->checkpoint, "e", run->estimator) == LRK_OK);
    must(lrk_checkpoint_add_allocator(run->checkpoint, "p", run->allocator) == LRK_OK);
    must(lrk_checkpoint_add_schedule(run->checkpoint, "t", run->schedule) == LRK_OK);
}

static void create_run(fuzz_run *run, int32_t mode)
{
    *run = (fuzz_run){0};
    must(lrk_context_create(NULL, &run->context, NULL, 0) == LRK_OK);
    create_set(run);
    create_parts(run, mode);
    bind(run);
    list(run);
}

static void destroy_run(fuzz_run *run)
{
    lrk_checkpoint_destroy(run->checkpoint);
    lrk_schedule_destroy(run->schedule);
    lrk_optimizer_destroy(run->optimizer);
    lrk_allocator_destroy(run->allocator);
    lrk_estimator_destroy(run->estimator);
    lrk_adapters_destroy(run->adapters);
    lrk_context_destroy(run->context);
}

/* Steps to the end. What was loaded may be out of bounds for a policy or not finite: refused, never a crash. */
static void go_on(fuzz_run *run)
{
    lrk_schedule_event event = {.struct_size = sizeof event};
    must(lrk_schedule_now(run->schedule, &event) == LRK_OK);
    if (event.kind == LRK_EVENT_ROUND_DUE && lrk_schedule_retry(run->schedule, &event) != LRK_OK) return;
    while (!event.finished) {
        if (lrk_adapters_gradients_written(run->adapters) != LRK_OK) return;
        if (lrk_optimizer_step(run->optimizer, 0.1) != LRK_OK) return;
        if (lrk_schedule_step(run->schedule, &event) != LRK_OK) return;
        must(lrk_schedule_now(run->schedule, &event) == LRK_OK);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */

typedef struct digest {
    uint64_t value;
} digest;

static int32_t add_to_digest(void *user, const void *data, size_t n)
{
    digest *d = user;
    for (size_t i = 0; i < n; i++)
        d->value = (d->value ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return 0;
}

/* Of everything that the handles hold. */
static uint64_t digest_of(const fuzz_run *run)
{
    digest d = {0xcbf29ce484222325u};
    lrk_writer writer = {.struct_size = sizeof writer, .user = &d, .write = add_to_digest};
    must(lrk_checkpoint_write(run->checkpoint, &writer, NULL) == LRK_OK);
    return d.value;
}

static void put_checksum(unsigned char *bytes, uint64_t begin, uint64_t n)
{
    uint32_t checksum = lrki_checksum(0, bytes + begin, n);
    memcpy(bytes + begin + n, &checksum, sizeof checksum);
}

/* Puts checksums right as far as header and table make sense. */
static void repair(unsigned char *bytes, uint64_t size)
{
    uint64_t table, at = LRKI_CHECKPOINT_HEADER, content;
    if (size < LRKI_CHECKPOINT_HEADER) return;
    memcpy(bytes, LRKI_CHECKPOINT_MAGIC, 8);
    memcpy(bytes + 24, &size, sizeof size);
    put_checksum(bytes, 0, LRKI_CHECKPOINT_HEADER - 4);
    memcpy(&table, bytes + 16, sizeof table);
    if (table < 4 || table > size - LRKI_CHECKPOINT_HEADER) return;
    put_checksum(bytes, at, table - 4);
    content = at + table;
    for (uint64_t end = at + table - 4; end - at >= LRKI_CHECKPOINT_ENTRY;) {
        uint32_t length;
        uint64_t n;
        memcpy(&length, bytes + at + 12, sizeof length);
        memcpy(&n, bytes + at + 16, sizeof n);
        if (length > end - at - LRKI_CHECKPOINT_ENTRY || n > size - content || size - content - n < 4) return;
        put_checksum(bytes, content, n);
        at += LRKI_CHECKPOINT_ENTRY + length;
        content += n + 4;
    }
}

static void look_at(lrk_checkpoint_file *file)
{
    lrk_checkpoint_info info = {.struct_size = sizeof info};
    must(lrk_checkpoint_info_get(file, &info) == LRK_OK);
    for (int64_t i = 0; i < info.sections; i++) {
        unsigned char blob[BLOB_MOST];
        size_t n;
        lrk_checkpoint_section section = {.struct_size = sizeof section};
        must(lrk_checkpoint_section_get(file, i, &section) == LRK_OK);
        if (section.kind == LRK_SECTION_BLOB)
            (void)!lrk_checkpoint_read_blob(file, section.name, blob, sizeof blob, &n);
    }
}

static void restore(fuzz_run *run, lrk_checkpoint_file *file, uint32_t flags)
{
    uint64_t before = digest_of(run);
    const lrk_checkpoint_options options = {.struct_size = sizeof options, .flags = flags};
    if (lrk_checkpoint_restore(file, run->checkpoint, &options) == LRK_OK)
        go_on(run);
    else
        must(digest_of(run) == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MOST_BYTES) return 0;
    int32_t options = data[0];
    size_t n = size - 1;
    unsigned char *bytes = malloc(n + 1);
    must(bytes != NULL);
    memcpy(bytes, data + 1, n);
    if (options & REPAIR) repair(bytes, n);
    fuzz_run run;
    create_run(&run, options >> MODE_SHIFT & 3);
    lrk_reader reader = {.struct_size = sizeof reader};
    lrk_checkpoint_file *file;
    must(lrk_reader_memory(&reader, bytes, n) == LRK_OK);
    if (lrk_checkpoint_open_reader(run.context, &reader, NULL, &file) == LRK_OK) {
        look_at(file);
        restore(&run, file, options & PARTIAL ? LRK_RESTORE_PARTIAL : 0);
        lrk_checkpoint_close(file);
    }
    destroy_run(&run);
    free(bytes);
    return 0;
}
