/* SPDX-License-Identifier: MIT */
#include "adapter_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_NAME "adapter_config.json"

/* ---- reading ---- */

static char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? strdup(text) : NULL;
}

/* What only passes through; a file that cannot be read has been refused before. */
static void read_config(const char *folder, adapter *read)
{
    size_t n = strlen(folder) + sizeof "/" CONFIG_NAME;
    char *path = malloc(n);
    if (path == NULL) return;
    snprintf(path, n, "%s/" CONFIG_NAME, folder);
    json_t *config = json_load_file(path, 0, NULL);
    read->base_model = text_member(config, "base_model_name_or_path");
    read->task_type = text_member(config, "task_type");
    json_decref(config);
    free(path);
}

/* 0: not given. */
static bool heads_of(const char *command, const adapter_options *options, int64_t *heads, int64_t *kv_heads)
{
    *heads = *kv_heads = 0;
    return (options->heads == NULL ||
            command_integer(command, "--heads", options->heads, 1, INT32_MAX, heads)) &&
           (options->kv_heads == NULL ||
            command_integer(command, "--kv-heads", options->kv_heads, 1, INT32_MAX, kv_heads));
}

bool adapter_read_check(const char *command, const adapter_options *options)
{
    int64_t heads, kv_heads;
    return heads_of(command, options, &heads, &kv_heads);
}

/* Without heads, names and rows are the file's own, which is enough to look at it. */
static lrk_status read_gguf(const command_run *run, const char *path, const adapter_options *options,
                            const lrk_adapters_options *inference, adapter *read)
{
    lrk_gguf_options gguf;
    (void)lrk_gguf_options_init(&gguf, sizeof gguf);
    (void)heads_of(run->command, options, &gguf.n_head, &gguf.n_kv_head);
    if (options->to == NULL) gguf.flags = LRK_GGUF_FILE_NAMES | LRK_GGUF_FILE_ORDER;
    return lrk_gguf_load(run->context, path, &gguf, NULL, 0, inference, &read->set);
}

static lrk_status read_kohya(const command_run *run, const char *path, const adapter_options *options,
                             const lrk_adapters_options *inference, adapter *read)
{
    lrk_kohya_options kohya;
    (void)lrk_kohya_options_init(&kohya, sizeof kohya);
    kohya.prefix = options->prefix != NULL ? options->prefix : "";
    return lrk_kohya_load(run->context, path, &kohya, NULL, 0, inference, &read->set);
}

/* Says why what is at `path` is no adapter. */
static bool refuse(const command_run *run, const char *path, int kind)
{
    lrk_safetensors *file = NULL;
    bool is_known = kind != FILE_UNKNOWN && kind != FILE_SAFETENSORS;
    if (is_known || lrk_safetensors_open(run->context, path, &file) == LRK_OK)
        (void)command_say(run->command, "%s: a %s file, and no adapter", path, file_kind_name(kind));
    else
        (void)command_fail(run);
    lrk_safetensors_close(file);
    return false;
}

bool adapter_read(const command_run *run, const char *path, const adapter_options *options, adapter *read)
{
    lrk_adapters_options inference;
    lrk_status status = LRK_OK;
    (void)lrk_adapters_options_init(&inference, sizeof inference);
    inference.flags = LRK_ADAPTERS_INFERENCE | (options->outline ? LRK_ADAPTERS_OUTLINE : 0);
    command_progress progress = command_progress_new(options->quiet != NULL, "MB", 1e-6);
    inference.user = &progress;
    inference.progress = command_progress_show;
    *read = (adapter){.kind = file_kind_of(path)};
    switch (read->kind) {
    case FILE_PEFT:
        status = lrk_peft_load(run->context, path, NULL, 0, &inference, &read->set);
        if (status == LRK_OK) read_config(path, read);
        break;
    case FILE_GGUF:
        status = read_gguf(run, path, options, &inference, read);
        break;
    case FILE_KOHYA:
        status = read_kohya(run, path, options, &inference, read);
        break;
    default:
        return refuse(run, path, read->kind);
    }
    command_progress_end(&progress);
    if (status == LRK_OK) return true;
    (void)command_fail(run);
    return false;
}

void adapter_free(adapter *read)
{
    lrk_adapters_destroy(read->set);
    free(read->base_model);
    free(read->task_type);
    *read = (adapter){0};
}

/* ---- writing ---- */

static bool kind_from_name(const char *name, int *kind)
{
    for (*kind = FILE_PEFT; *kind <= FILE_KOHYA; ++*kind)
        if (strcmp(name, file_kind_name(*kind)) == 0) return true;
    return false;
}

static bool dtype_from_name(const char *name, int32_t *dtype)
{
    static const char *const names[] = {"f32", "bf16", "f16"};
    for (*dtype = LRK_DTYPE_F32; *dtype <= LRK_DTYPE_F16; ++*dtype)
        if (strcmp(name, names[*dtype]) == 0) return true;
    return false;
}

static bool are_one(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

bool adapter_options_check(const char *command, const adapter_options *options, const char *in,
                           const char *out)
{
    int kind;
    int32_t dtype;
    double alpha;
    if (options->to != NULL && !kind_from_name(options->to, &kind)) {
        (void)command_usage(command, "--to is peft, gguf or kohya, not", options->to);
        return false;
    }
    if (options->dtype != NULL && !dtype_from_name(options->dtype, &dtype)) {
        (void)command_usage(command, "--dtype is f32, bf16 or f16, not", options->dtype);
        return false;
    }
    if (options->alpha != NULL && !command_real(command, "--alpha", options->alpha, &alpha)) return false;
    if (!adapter_read_check(command, options)) return false;
    if (strcmp(in, out) != 0 && !are_one(in, out)) return true;
    (void)command_usage(command, "OUT would replace IN", NULL);
    return false;
}

static lrk_status write_peft(const adapter *a, const lrk_adapters *set, const char *path,
                             const adapter_options *options, int32_t dtype, double alpha,
                             command_progress *progress)
{
    lrk_peft_options peft;
    (void)lrk_peft_options_init(&peft, sizeof peft);
    peft.flags = (options->uniform != NULL ? LRK_PEFT_UNIFORM : 0) |
                 (options->fan_in_fan_out != NULL ? LRK_PEFT_FAN_IN_FAN_OUT : 0);
    peft.base_model = options->base_model != NULL ? options->base_model : a->base_model;
    peft.task_type = options->task_type != NULL ? options->task_type : a->task_type;
    peft.alpha = alpha;
    peft.dtype = dtype;
    peft.user = progress;
    peft.progress = command_progress_show;
    return lrk_peft_save(set, path, &peft);
}

static lrk_status write_gguf(const command_run *run, const lrk_adapters *set, const char *path,
                             const adapter_options *options, int32_t dtype, double alpha,
                             command_progress *progress)
{
    lrk_gguf_options gguf;
    (void)lrk_gguf_options_init(&gguf, sizeof gguf);
    (void)heads_of(run->command, options, &gguf.n_head, &gguf.n_kv_head);
    gguf.architecture = options->architecture;
    gguf.name = options->name;
    gguf.alpha = alpha;
    gguf.dtype = dtype;
    gguf.user = progress;
    gguf.progress = command_progress_show;
    return lrk_gguf_save(set, path, &gguf);
}

static lrk_status write_kohya(const lrk_adapters *set, const char *path, const adapter_options *options,
                              int32_t dtype, command_progress *progress)
{
    lrk_kohya_options kohya;
    (void)lrk_kohya_options_init(&kohya, sizeof kohya);
    kohya.flags = options->dotted != NULL ? LRK_KOHYA_DOTTED : 0;
    kohya.prefix = options->prefix;
    kohya.dtype = dtype;
    kohya.user = progress;
    kohya.progress = command_progress_show;
    return lrk_kohya_save(set, path, &kohya);
}

int adapter_write(const command_run *run, const adapter *a, const lrk_adapters *set, const char *path,
                  const adapter_options *options)
{
    int kind = a->kind;
    int32_t dtype = LRK_DTYPE_F32;
    double alpha = 16;
    command_progress progress = command_progress_new(options->quiet != NULL, "MB", 1e-6);
    lrk_status status = LRK_OK;
    if (options->to != NULL) (void)kind_from_name(options->to, &kind);
    if (options->dtype != NULL) (void)dtype_from_name(options->dtype, &dtype);
    if (options->alpha != NULL) alpha = strtod(options->alpha, NULL);
    if (kind == FILE_PEFT)
        status = write_peft(a, set, path, options, dtype, alpha, &progress);
    else if (kind == FILE_KOHYA)
        status = write_kohya(set, path, options, dtype, &progress);
    else
        status = write_gguf(run, set, path, options, dtype, alpha, &progress);
    command_progress_end(&progress);
    return status == LRK_OK ? 0 : command_fail(run);
}
