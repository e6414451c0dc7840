/* SPDX-License-Identifier: MIT */
/*
 * Loading a PEFT adapter from a directory or from readers: opens and parses both files and hands them to the loader for
 * what lorank wrote (peft_own.c), or for what others did (peft_foreign.c).
 */
#include <stddef.h>

#include "loaded.h"
#include "lorank/peft.h"
#include "peft_parts.h"
#include "stream.h"

#define CONFIG_MOST ((uint64_t)64 << 20)

static lrk_status parse_config(const lrki_source *source, lrki_json **config)
{
    lrki_bytes text;
    lrk_status status = lrki_source_load(source, CONFIG_MOST, &text);
    if (status != LRK_OK) return status;
    status = lrki_json_parse(source->context, text.data, text.n, source->name, config);
    lrki_bytes_free(source->context, &text);
    return status;
}

static lrk_status load(lrki_peft_files *files, const lrki_source *source, const lrk_module_spec *modules,
                       int64_t n_modules, const lrk_adapters_options *options, lrk_adapters **adapters)
{
    lrki_json *config = NULL;
    bool is_own = lrki_peft_is_own(files->model);
    if (is_own && modules != NULL)
        return lrki_fail(files->context, LRK_ERR_ARGUMENT,
                         "%s: modules are given, but lorank's metadata names its own", files->model_name);
    lrk_status status = parse_config(source, &config);
    files->config_name = source->name;
    files->config = config;
    if (status == LRK_OK)
        status = is_own ? lrki_peft_own_load(files, options, adapters)
                        : lrki_peft_foreign_load(files, modules, n_modules, options, adapters);
    lrki_json_free(config);
    return status;
}

static lrk_status load_paths(lrk_context *context, const char *model, const char *config,
                             const lrk_module_spec *modules, int64_t n_modules,
                             const lrk_adapters_options *options, lrk_adapters **adapters)
{
    lrki_source source = {0};
    lrk_safetensors *file = NULL;
    lrk_status status = lrk_safetensors_open(context, model, &file);
    if (status == LRK_OK) status = lrki_source_open(context, config, &source);
    lrki_peft_files files = {.context = context, .model_name = model, .model = file};
    if (status == LRK_OK) status = load(&files, &source, modules, n_modules, options, adapters);
    lrki_source_close(&source);
    lrk_safetensors_close(file);
    return status;
}

lrk_status lrk_peft_load(lrk_context *context, const char *directory, const lrk_module_spec *modules,
                         int64_t n_modules, const lrk_adapters_options *adapters_options,
                         lrk_adapters **adapters)
{
    lrk_status status = lrki_loaded_arguments(context, directory, "directory", modules, n_modules, adapters);
    if (status != LRK_OK) return status;
    if (directory[0] == '\0') return lrki_fail(context, LRK_ERR_ARGUMENT, "directory is empty");
    char *model = lrki_path_join(context, directory, LRKI_PEFT_MODEL);
    char *config = model == NULL ? NULL : lrki_path_join(context, directory, LRKI_PEFT_CONFIG);
    status = config == NULL
                 ? LRK_ERR_NOMEM
                 : load_paths(context, model, config, modules, n_modules, adapters_options, adapters);
    lrki_text_free(context, config);
    lrki_text_free(context, model);
    return status;
}

lrk_status lrk_peft_load_readers(lrk_context *context, const lrk_reader *config, const lrk_reader *model,
                                 const lrk_module_spec *modules, int64_t n_modules,
                                 const lrk_adapters_options *adapters_options, lrk_adapters **adapters)
{
    lrki_source source = {0}, names;
    lrk_safetensors *file = NULL;
    lrk_status status = lrki_loaded_arguments(context, config, "config reader", modules, n_modules, adapters);
    if (status == LRK_OK && model == NULL)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "model reader is NULL");
    if (status == LRK_OK) status = lrki_source_reader(context, config, &source);
    if (status == LRK_OK) status = lrki_source_reader(context, model, &names);
    if (status == LRK_OK) status = lrk_safetensors_open_reader(context, model, &file);
    if (status != LRK_OK) return status;
    lrki_peft_files files = {.context = context, .model_name = names.name, .model = file};
    status = load(&files, &source, modules, n_modules, adapters_options, adapters);
    lrk_safetensors_close(file);
    return status;
}
