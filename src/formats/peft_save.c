/* SPDX-License-Identifier: MIT */
/*
 * Saving a set as a PEFT adapter. In a directory both files are complete under temporary names before the first is put in
 * place: a failure leaves what was there; a crash between the two renames leaves the new model beside the old
 * configuration, which loading refuses if they contradict each other. What is uniform or of 16 bits does not give lorank's
 * values back and carries none of its metadata (peft_metadata.c).
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lorank/peft.h"
#include "peft_parts.h"
#include "safetensors_write.h"

#include "../adapters/set.h"

typedef struct peft_writer {
    lrk_context *context;
    const lrk_adapters *adapters;
    const lrki_dtype *dtype;
    lrki_peft_facts facts;
    lrki_peft_module *live;
    int64_t n_modules;
    lrki_out_tensor *tensors; /* two a live module; the tag is 2 * position in live, + 1 for B */
    lrki_progress progress;
} peft_writer;

lrk_status lrk_peft_options_init(lrk_peft_options *options, size_t struct_size)
{
    static const lrk_peft_options defaults = {.alpha = 16};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

char *lrki_peft_tensor_name(lrk_context *context, const char *name, const char *suffix)
{
    size_t n = strlen(LRKI_PEFT_PREFIX) + strlen(name) + strlen(suffix) + 1;
    char *text = lrki_alloc_zeroed(context, n);
    if (text == NULL) {
        (void)lrki_fail_nomem(context, name);
        return NULL;
    }
    strcat(strcat(strcpy(text, LRKI_PEFT_PREFIX), name), suffix);
    return text;
}

/* ---- what is written ---- */

static lrk_status collect_live(peft_writer *writer)
{
    const lrk_adapters *adapters = writer->adapters;
    writer->live = lrki_array(writer->context, adapters->n_modules, sizeof *writer->live);
    writer->tensors = lrki_array(writer->context, 2 * adapters->n_modules, sizeof *writer->tensors);
    if (writer->live == NULL || writer->tensors == NULL)
        return lrki_fail_nomem(writer->context, "the modules to save");
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *m = &adapters->modules[i];
        lrk_status status = lrki_peft_check_name(writer->context, m->name);
        if (status != LRK_OK) return status;
        if (m->bank.rank == 0) continue;
        writer->live[writer->facts.n_live++] = lrki_peft_module_of(adapters, (int32_t)i);
        if (m->bank.rank > writer->facts.greatest_rank) writer->facts.greatest_rank = m->bank.rank;
    }
    writer->facts.live = writer->live;
    if (writer->facts.n_live > 0) return LRK_OK;
    return lrki_fail(writer->context, LRK_ERR_UNSUPPORTED, "every module has rank 0, and PEFT has no rank 0");
}

static lrk_status check_values(const peft_writer *writer)
{
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < writer->facts.n_live && status == LRK_OK; i++) {
        lrki_peft_module *m = &writer->live[i];
        if (writer->facts.is_uniform) m->width = writer->facts.greatest_rank;
        status = lrki_fold_check(writer->context, m, writer->facts.alpha, writer->dtype);
    }
    return status;
}

static lrk_status name_tensors(peft_writer *writer)
{
    for (int64_t i = 0; i < writer->facts.n_live; i++) {
        const lrki_peft_module *m = &writer->live[i];
        char *a = lrki_peft_tensor_name(writer->context, m->name, LRKI_PEFT_A);
        writer->tensors[2 * i] = lrki_out_matrix(a, writer->dtype, m->width, m->n_in, 2 * i);
        char *b = a == NULL ? NULL : lrki_peft_tensor_name(writer->context, m->name, LRKI_PEFT_B);
        writer->tensors[2 * i + 1] = lrki_out_matrix(b, writer->dtype, m->n_out, m->width, 2 * i + 1);
        if (b == NULL) return LRK_ERR_NOMEM;
    }
    return LRK_OK;
}

static void writer_free(peft_writer *writer)
{
    int64_t n = writer->n_modules;
    for (int64_t i = 0; writer->tensors != NULL && i < 2 * n; i++)
        if (writer->tensors[i].name != NULL) lrki_text_free(writer->context, (char *)writer->tensors[i].name);
    lrki_array_free(writer->context, writer->tensors, 2 * n, sizeof *writer->tensors);
    lrki_array_free(writer->context, writer->live, n, sizeof *writer->live);
}

static lrk_status fill_tensor(void *user, const lrki_out_tensor *tensor, float *values)
{
    const peft_writer *writer = user;
    const lrki_peft_module *module = &writer->live[tensor->tag / 2];
    int64_t n = module->rank * module->n_in;
    if (tensor->tag % 2 == 1) {
        lrki_fold_store(module, writer->facts.alpha, values);
        return LRK_OK;
    }
    memcpy(values, module->a, (size_t)n * sizeof *values);
    memset(values + n, 0, (size_t)(tensor->count - n) * sizeof *values);
    return LRK_OK;
}

/* ---- files ---- */

static bool is_exact(const peft_writer *writer)
{
    return !writer->facts.is_uniform && writer->dtype->from_f32 == NULL;
}

static lrk_status write_model(peft_writer *writer, lrki_target *target)
{
    lrki_json *metadata = NULL;
    lrk_status status =
        lrki_peft_metadata_make(writer->adapters, &writer->facts, is_exact(writer), &metadata);
    if (status != LRK_OK) return status;
    return lrki_safetensors_write(target, metadata, writer->tensors, 2 * writer->facts.n_live, fill_tensor,
                                  writer);
}

static lrk_status write_config(const peft_writer *writer, lrki_target *target)
{
    lrki_bytes text = {0};
    lrk_status status = lrki_peft_config_print(writer->context, &writer->facts, &text);
    if (status == LRK_OK) status = lrki_target_write(target, text.data, text.n);
    lrki_bytes_free(writer->context, &text);
    return status;
}

static lrk_status prepare(peft_writer *writer)
{
    lrk_status status = collect_live(writer);
    if (status == LRK_OK) status = check_values(writer);
    return status == LRK_OK ? name_tensors(writer) : status;
}

static lrk_status open_in(const char *directory, const char *name, lrk_context *context, lrki_target *target)
{
    char *path = lrki_path_join(context, directory, name);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrki_target_open(context, path, target);
    lrki_text_free(context, path);
    return status;
}

static lrk_status write_directory(peft_writer *writer, const char *directory)
{
    lrki_target model = {0}, config = {0};
    bool made = false;
    lrk_status status = lrki_folder_make(writer->context, directory, &made);
    if (status == LRK_OK) status = open_in(directory, LRKI_PEFT_MODEL, writer->context, &model);
    model.progress = writer->progress;
    if (status == LRK_OK) status = write_model(writer, &model);
    if (status == LRK_OK) status = open_in(directory, LRKI_PEFT_CONFIG, writer->context, &config);
    if (status == LRK_OK) status = write_config(writer, &config);
    if (status == LRK_OK) status = lrki_replacement_sync(&model.file);
    if (status == LRK_OK) status = lrki_replacement_sync(&config.file);
    if (status == LRK_OK) status = lrki_replacement_commit(&model.file);
    if (status == LRK_OK) status = lrki_replacement_commit(&config.file);
    lrki_target_abandon(&model);
    lrki_target_abandon(&config);
    if (status != LRK_OK && made) rmdir(directory);
    return status;
}

static lrk_status write_writers(peft_writer *writer, const lrk_writer *config, const lrk_writer *model)
{
    lrki_target to_model = {0}, to_config = {0};
    lrk_status status = lrki_target_writer(writer->context, model, &to_model);
    if (status == LRK_OK) status = lrki_target_writer(writer->context, config, &to_config);
    to_model.progress = writer->progress;
    if (status == LRK_OK) status = write_model(writer, &to_model);
    return status == LRK_OK ? write_config(writer, &to_config) : status;
}

/* ---- the calls ---- */

static lrk_status check_options(lrk_context *context, const lrk_peft_options *options)
{
    if (!(options->alpha > 0) || !isfinite(options->alpha))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "alpha must be a finite number above 0");
    if ((options->flags & ~(LRK_PEFT_UNIFORM | LRK_PEFT_FAN_IN_FAN_OUT)) != 0 || options->reserved != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT,
                         "unknown flags of lrk_peft_options, or reserved is not 0");
    if (lrki_dtype_of(options->dtype) == NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "unknown dtype %d", (int)options->dtype);
    if (options->task_type != NULL && !lrki_peft_task_known(options->task_type))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "task_type '%s' is none of PEFT's", options->task_type);
    if (options->base_model != NULL && !lrki_utf8_valid(options->base_model))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "base_model is not UTF-8");
    return LRK_OK;
}

/* Where it goes: a directory, or else two writers. */
static lrk_status save(const lrk_adapters *adapters, const char *directory, const lrk_writer *config,
                       const lrk_writer *model, const lrk_peft_options *options)
{
    lrk_peft_options known;
    lrk_context *context = adapters->context;
    (void)lrk_peft_options_init(&known, sizeof known);
    lrk_status status =
        lrki_struct_read(context, &known, sizeof known, options, 2 * sizeof(uint32_t), "lrk_peft_options");
    if (status == LRK_OK) status = check_options(context, &known);
    if (status != LRK_OK) return status;
    peft_writer writer = {.context = context,
                          .adapters = adapters,
                          .dtype = lrki_dtype_of(known.dtype),
                          .facts = {.base_model = known.base_model,
                                    .task_type = known.task_type,
                                    .alpha = known.alpha,
                                    .is_uniform = (known.flags & LRK_PEFT_UNIFORM) != 0,
                                    .fan_in_fan_out = (known.flags & LRK_PEFT_FAN_IN_FAN_OUT) != 0},
                          .n_modules = adapters->n_modules,
                          .progress = {known.user, known.progress}};
    status = prepare(&writer);
    if (status == LRK_OK)
        status =
            directory != NULL ? write_directory(&writer, directory) : write_writers(&writer, config, model);
    writer_free(&writer);
    return status;
}

lrk_status lrk_peft_save(const lrk_adapters *adapters, const char *directory, const lrk_peft_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_peft_save");
    if (status != LRK_OK) return status;
    if (directory == NULL || directory[0] == '\0')
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "directory is NULL or empty");
    return save(adapters, directory, NULL, NULL, options);
}

lrk_status lrk_peft_write(const lrk_adapters *adapters, const lrk_writer *config, const lrk_writer *model,
                          const lrk_peft_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_peft_write");
    if (status != LRK_OK) return status;
    if (config == NULL || model == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "a writer is NULL");
    return save(adapters, NULL, config, model, options);
}
