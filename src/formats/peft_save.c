/* SPDX-License-Identifier: MIT */
/*
 * Saving a set as a PEFT directory. Both files are complete under temporary names before the first is put in place. A
 * failure leaves what was there; a crash between the two renames leaves the new model beside the old configuration,
 * which loading refuses if they contradict each other.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lorank/peft.h"
#include "lorank/version.h"
#include "peft_parts.h"
#include "safetensors_write.h"

#include "../adapters/set.h"

typedef struct peft_writer {
    lrk_context *context;
    const lrk_adapters *adapters;
    const char *directory;
    lrki_peft_facts facts;
    lrki_peft_module *live;
    int64_t n_modules;
    lrki_out_tensor *tensors; /* two a live module; the tag is 2 * position in live, + 1 for B */
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

/* ---- metadata ---- */

static lrki_json *identities_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_integer((int64_t)bank->identities[j]));
    return array;
}

static lrki_json *births_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_integer(bank->births[j]));
    return array;
}

/* 17 digits of a double give a float back exactly. */
static lrki_json *gates_json(const lrki_bank *bank)
{
    lrki_json *array = lrki_json_new_array();
    for (int64_t j = 0; j < bank->rank; j++)
        lrki_json_append(&array, lrki_json_new_real((double)bank->gates[j]));
    return array;
}

static lrki_json *module_json(const lrki_module *module)
{
    lrki_json *json = lrki_json_new_object();
    lrki_json_put(&json, "name", lrki_json_new_text(module->name));
    lrki_json_put(&json, "flags", lrki_json_new_integer((int64_t)module->flags));
    lrki_json_put(&json, "kind", lrki_json_new_integer(module->kind));
    lrki_json_put(&json, "stage", lrki_json_new_integer(module->stage));
    lrki_json_put(&json, "input_group", lrki_json_new_integer(module->input_group));
    lrki_json_put(&json, "n_in", lrki_json_new_integer(module->n_in));
    lrki_json_put(&json, "n_out", lrki_json_new_integer(module->n_out));
    lrki_json_put(&json, "rank", lrki_json_new_integer(module->bank.rank));
    lrki_json_put(&json, "initial_rank", lrki_json_new_integer(module->initial_rank));
    lrki_json_put(&json, "scale", lrki_json_new_real(module->scale));
    lrki_json_put(&json, "identities", identities_json(&module->bank));
    lrki_json_put(&json, "births", births_json(&module->bank));
    lrki_json_put(&json, "gates", gates_json(&module->bank));
    return json;
}

/* Puts a tree as JSON text under a key of the metadata; takes the tree. */
static lrk_status put_text(lrk_context *context, lrki_json **metadata, const char *key, lrki_json *tree)
{
    lrki_bytes text;
    lrk_status status = lrki_json_print(context, tree, 0, &text);
    lrki_json_free(tree);
    if (status != LRK_OK) return status;
    lrki_json_put(metadata, key, lrki_json_new_text(text.data));
    lrki_bytes_free(context, &text);
    return LRK_OK;
}

static lrk_status put_folds(const peft_writer *writer, lrki_json **metadata)
{
    lrki_json *fold = lrki_json_new_object();
    for (int64_t i = 0; i < writer->facts.n_live; i++) {
        lrk_status status = lrki_fold_describe(writer->context, &writer->live[i], writer->facts.alpha, &fold);
        if (status != LRK_OK) {
            lrki_json_free(fold);
            return status;
        }
    }
    return put_text(writer->context, metadata, LRKI_KEY_FOLD, fold);
}

static lrk_status make_metadata(const peft_writer *writer, lrki_json **metadata)
{
    const lrk_adapters *adapters = writer->adapters;
    lrki_json *set = lrki_json_new_object(), *modules = lrki_json_new_array();
    lrki_json_put(&set, "alpha", lrki_json_new_real(writer->facts.alpha));
    lrki_json_put(&set, "next_identity", lrki_json_new_integer((int64_t)adapters->next_identity));
    for (int64_t i = 0; i < adapters->n_modules; i++)
        lrki_json_append(&modules, module_json(&adapters->modules[i]));
    *metadata = lrki_json_new_object();
    lrki_json_put(metadata, "format", lrki_json_new_text("pt"));
    lrki_json_put(metadata, LRKI_KEY_FORMAT, lrki_json_new_text(LRKI_FORMAT));
    lrki_json_put(metadata, LRKI_KEY_VERSION, lrki_json_new_text(lrk_version_text()));
    lrk_status set_status = put_text(writer->context, metadata, LRKI_KEY_SET, set);
    lrk_status status = put_text(writer->context, metadata, LRKI_KEY_MODULES, modules);
    if (status == LRK_OK) status = set_status;
    if (status == LRK_OK) status = put_folds(writer, metadata);
    if (status == LRK_OK) return LRK_OK;
    lrki_json_free(*metadata);
    *metadata = NULL;
    return status;
}

/* ---- what is written ---- */

static lrk_status collect_live(peft_writer *writer)
{
    const lrk_adapters *adapters = writer->adapters;
    writer->live = lrki_array(writer->context, adapters->n_modules, sizeof *writer->live);
    writer->tensors = lrki_array(writer->context, 2 * adapters->n_modules, sizeof *writer->tensors);
    if (writer->live == NULL || writer->tensors == NULL)
        return lrki_fail_nomem(writer->context, writer->directory);
    for (int64_t i = 0; i < adapters->n_modules; i++) {
        const lrki_module *m = &adapters->modules[i];
        lrk_status status = lrki_peft_check_name(writer->context, m->name);
        if (status != LRK_OK) return status;
        if (m->bank.rank == 0) continue;
        writer->live[writer->facts.n_live++] =
            (lrki_peft_module){m->name,  (int32_t)i, m->n_in,   m->n_out,     m->bank.rank,
                               m->scale, m->bank.a,  m->bank.b, m->bank.gates};
    }
    writer->facts.live = writer->live;
    if (writer->facts.n_live > 0) return LRK_OK;
    return lrki_fail(writer->context, LRK_ERR_UNSUPPORTED, "every module has rank 0, and PEFT has no rank 0");
}

static lrk_status name_tensors(peft_writer *writer)
{
    const lrki_dtype *f32 = lrki_dtype_find("F32");
    for (int64_t i = 0; i < writer->facts.n_live; i++) {
        const lrki_peft_module *m = &writer->live[i];
        char *a = lrki_peft_tensor_name(writer->context, m->name, LRKI_PEFT_A);
        writer->tensors[2 * i] = lrki_out_matrix(a, f32, m->rank, m->n_in, 2 * i);
        char *b = a == NULL ? NULL : lrki_peft_tensor_name(writer->context, m->name, LRKI_PEFT_B);
        writer->tensors[2 * i + 1] = lrki_out_matrix(b, f32, m->n_out, m->rank, 2 * i + 1);
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
    if (tensor->tag % 2 == 0)
        memcpy(values, module->a, (size_t)(module->rank * module->n_in) * sizeof *values);
    else
        lrki_fold_store(module, writer->facts.alpha, values);
    return LRK_OK;
}

/* ---- files ---- */

static lrk_status begin(const peft_writer *writer, const char *name, lrki_replacement *file)
{
    char *path = lrki_path_join(writer->context, writer->directory, name);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrki_replacement_begin(writer->context, path, file);
    lrki_text_free(writer->context, path);
    return status;
}

static lrk_status stage_model(peft_writer *writer, lrki_json *metadata, lrki_target *model)
{
    *model = (lrki_target){.context = writer->context, .is_file = true};
    lrk_status status = begin(writer, LRKI_PEFT_MODEL, &model->file);
    if (status != LRK_OK) {
        lrki_json_free(metadata);
        return status;
    }
    status = lrki_safetensors_write(model, metadata, writer->tensors, 2 * writer->facts.n_live, fill_tensor,
                                    writer);
    return status == LRK_OK ? lrki_replacement_sync(&model->file) : status;
}

static lrk_status stage_config(const peft_writer *writer, lrki_replacement *file)
{
    lrki_bytes text = {0};
    lrk_status status = lrki_peft_config_print(writer->context, &writer->facts, &text);
    if (status == LRK_OK) status = begin(writer, LRKI_PEFT_CONFIG, file);
    if (status == LRK_OK) status = lrki_replacement_write(file, text.data, text.n);
    if (status == LRK_OK) status = lrki_replacement_sync(file);
    lrki_bytes_free(writer->context, &text);
    return status;
}

static lrk_status write_directory(peft_writer *writer, lrki_json *metadata)
{
    lrki_target model = {0};
    lrki_replacement config = {0};
    bool made = false;
    lrk_status status = lrki_folder_make(writer->context, writer->directory, &made);
    if (status == LRK_OK)
        status = stage_model(writer, metadata, &model);
    else
        lrki_json_free(metadata);
    if (status == LRK_OK) status = stage_config(writer, &config);
    if (status == LRK_OK) status = lrki_replacement_commit(&model.file);
    if (status == LRK_OK) status = lrki_replacement_commit(&config);
    lrki_target_abandon(&model);
    lrki_replacement_abandon(&config);
    if (status != LRK_OK && made) rmdir(writer->directory);
    return status;
}

static lrk_status save_with(peft_writer *writer)
{
    lrki_json *metadata = NULL;
    lrk_status status = collect_live(writer);
    if (status == LRK_OK) status = name_tensors(writer);
    if (status == LRK_OK) status = make_metadata(writer, &metadata);
    if (status == LRK_OK) status = write_directory(writer, metadata);
    return status;
}

static lrk_status check_options(lrk_context *context, const lrk_peft_options *options)
{
    if (!(options->alpha > 0) || !isfinite(options->alpha))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "alpha must be a finite number above 0");
    if (options->flags != 0) return lrki_fail(context, LRK_ERR_ARGUMENT, "unknown flags of lrk_peft_options");
    if (options->task_type != NULL && !lrki_peft_task_known(options->task_type))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "task_type '%s' is none of PEFT's", options->task_type);
    if (options->base_model != NULL && !lrki_utf8_valid(options->base_model))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "base_model is not UTF-8");
    return LRK_OK;
}

lrk_status lrk_peft_save(const lrk_adapters *adapters, const char *directory, const lrk_peft_options *options)
{
    lrk_peft_options known;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_peft_save");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (directory == NULL || directory[0] == '\0')
        return lrki_fail(context, LRK_ERR_ARGUMENT, "directory is NULL or empty");
    (void)lrk_peft_options_init(&known, sizeof known);
    status =
        lrki_struct_read(context, &known, sizeof known, options, 2 * sizeof(uint32_t), "lrk_peft_options");
    if (status == LRK_OK) status = check_options(context, &known);
    if (status != LRK_OK) return status;
    peft_writer writer = {.context = context,
                          .adapters = adapters,
                          .directory = directory,
                          .facts = {known.base_model, known.task_type, known.alpha, NULL, 0},
                          .n_modules = adapters->n_modules};
    status = save_with(&writer);
    writer_free(&writer);
    return status;
}
