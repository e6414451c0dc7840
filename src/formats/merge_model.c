/* SPDX-License-Identifier: MIT */
/*
 * Merging a model: a file, a stream or a directory. All files are looked at before one is written. In a directory what
 * makes it a model (the index, or the only file) is written last, and an index that was there taken away first.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merge_index.h"
#include "merge_parts.h"

lrk_status lrk_merge_options_init(lrk_merge_options *options, size_t struct_size)
{
    const lrk_merge_options defaults = {.struct_size = sizeof defaults};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

/* ---- a single file ------------------------------------------------------------------------------------------------- */

static lrk_status merge_opened(lrki_merge *merge, const lrk_safetensors *file, const char *path,
                               const lrk_writer *writer)
{
    lrk_status status = lrki_merge_look(merge, file);
    if (status == LRK_OK) status = lrki_merge_check(merge);
    return status == LRK_OK ? lrki_merge_write(merge, file, path, writer) : status;
}

static lrk_status merge_file(lrki_merge *merge, const char *model, const char *merged)
{
    lrk_safetensors *file = NULL;
    lrk_status status = lrk_safetensors_open(merge->context, model, &file);
    if (status == LRK_OK) status = merge_opened(merge, file, merged, NULL);
    lrk_safetensors_close(file);
    return status;
}

/* ---- a directory --------------------------------------------------------------------------------------------------- */

typedef struct folders {
    lrki_merge *merge;
    const char *model;
    const char *merged;
    lrki_model_files files;
} folders;

static lrk_status look_at(const folders *f, int64_t i, const lrk_safetensors *file)
{
    lrk_status status = lrki_model_files_check(&f->files, i, file);
    return status == LRK_OK ? lrki_merge_look(f->merge, file) : status;
}

static lrk_status write_to(const folders *f, int64_t i, const lrk_safetensors *file)
{
    char *path = lrki_path_join(f->merge->context, f->merged, f->files.names[i]);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrki_merge_write(f->merge, file, path, NULL);
    lrki_text_free(f->merge->context, path);
    return status;
}

/* One file is open at a time: there may be more of them than descriptors. */
static lrk_status with_file(const folders *f, int64_t i,
                            lrk_status (*act)(const folders *f, int64_t i, const lrk_safetensors *file))
{
    lrk_safetensors *file = NULL;
    char *path = lrki_path_join(f->merge->context, f->model, f->files.names[i]);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrk_safetensors_open(f->merge->context, path, &file);
    if (status == LRK_OK) status = act(f, i, file);
    lrk_safetensors_close(file);
    lrki_text_free(f->merge->context, path);
    return status;
}

/* What is at `name` in the new place: removed, or refused as another model's. */
static lrk_status clear(const folders *f, const char *name, bool ours)
{
    lrk_context *context = f->merge->context;
    char *path = lrki_path_join(context, f->merged, name);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = LRK_OK;
    if (!ours && access(path, F_OK) == 0)
        status = lrki_fail(context, LRK_ERR_ARGUMENT, "%s is there: the folder holds another model", path);
    else if (ours && unlink(path) != 0 && errno != ENOENT)
        status = lrki_fail_io(context, "cannot remove", path, errno);
    lrki_text_free(context, path);
    return status;
}

/* An index that is there must not speak of a model half replaced, nor two kinds of model stand side by side. */
static lrk_status clear_place(const folders *f)
{
    bool sharded = f->files.map != NULL;
    lrk_status status = sharded ? clear(f, LRKI_MODEL_FILE, false) : LRK_OK;
    return status == LRK_OK ? clear(f, LRKI_MODEL_INDEX, sharded) : status;
}

static lrk_status write_index(const folders *f)
{
    lrki_replacement file;
    if (f->files.map == NULL) return LRK_OK;
    char *path = lrki_path_join(f->merge->context, f->merged, LRKI_MODEL_INDEX);
    if (path == NULL) return LRK_ERR_NOMEM;
    lrk_status status = lrki_replacement_begin(f->merge->context, path, &file);
    if (status == LRK_OK) status = lrki_replacement_write(&file, f->files.text.data, f->files.text.n);
    if (status == LRK_OK) status = lrki_replacement_sync(&file);
    if (status == LRK_OK) status = lrki_replacement_commit(&file);
    lrki_replacement_abandon(&file);
    lrki_text_free(f->merge->context, path);
    return status;
}

static lrk_status merge_files(const folders *f)
{
    bool made;
    lrk_context *context = f->merge->context;
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < f->files.n && status == LRK_OK; i++)
        status = with_file(f, i, look_at);
    if (status == LRK_OK) status = lrki_merge_check(f->merge);
    if (status == LRK_OK) status = lrki_folder_make(context, f->merged, &made);
    if (status == LRK_OK) status = clear_place(f);
    if (status == LRK_OK) status = lrki_model_copy_others(context, f->model, f->merged);
    for (int64_t i = 0; i < f->files.n && status == LRK_OK; i++)
        status = with_file(f, i, write_to);
    return status == LRK_OK ? write_index(f) : status;
}

static lrk_status merge_folder(lrki_merge *merge, const char *model, const char *merged)
{
    folders f = {.merge = merge, .model = model, .merged = merged};
    lrk_status status = lrki_model_files_read(merge->context, model, &f.files);
    if (status == LRK_OK) status = merge_files(&f);
    lrki_model_files_free(&f.files);
    return status;
}

/* ---- the calls ----------------------------------------------------------------------------------------------------- */

static lrk_status merge_paths(lrki_merge *merge, const char *model, const char *merged)
{
    struct stat from, to;
    if (stat(model, &from) != 0 && errno == ENOENT)
        return lrki_fail(merge->context, LRK_ERR_NOT_FOUND, "there is no model at %s", model);
    if (stat(model, &from) != 0) return lrki_fail_io(merge->context, "cannot examine", model, errno);
    if (stat(merged, &to) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
        return lrki_fail(merge->context, LRK_ERR_ARGUMENT, "%s is %s: a model is merged into another place",
                         merged, model);
    return S_ISDIR(from.st_mode) ? merge_folder(merge, model, merged) : merge_file(merge, model, merged);
}

static lrk_status merge_stream(lrki_merge *merge, const lrk_reader *model, const lrk_writer *merged)
{
    lrk_safetensors *file = NULL;
    lrk_status status = lrk_safetensors_open_reader(merge->context, model, &file);
    if (status == LRK_OK) status = merge_opened(merge, file, NULL, merged);
    lrk_safetensors_close(file);
    return status;
}

/* The report begins empty, and one that cannot be filled is refused before anything is done. */
static lrk_status begin(const lrk_adapters *adapters, const lrk_merge_options *options,
                        lrk_merge_report *report, lrki_merge *merge)
{
    lrk_status status = LRK_OK;
    *merge = (lrki_merge){.context = adapters->context, .adapters = adapters};
    merge->report = (lrk_merge_report){.struct_size = sizeof merge->report, .worst_module = LRKI_NO_MODULE};
    if (report != NULL) status = lrki_merge_report(merge, report);
    return status == LRK_OK ? lrki_merge_begin(merge, options) : status;
}

lrk_status lrk_merge_model(const lrk_adapters *adapters, const char *model, const char *merged,
                           const lrk_merge_options *options, lrk_merge_report *report)
{
    lrki_merge merge;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_merge_model");
    if (status != LRK_OK) return status;
    if (model == NULL || model[0] == '\0' || merged == NULL || merged[0] == '\0')
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_merge_model: a path is NULL or empty");
    status = begin(adapters, options, report, &merge);
    if (status == LRK_OK) status = merge_paths(&merge, model, merged);
    if (status == LRK_OK) status = lrki_merge_report(&merge, report);
    lrki_merge_end(&merge);
    return status;
}

lrk_status lrk_merge_stream(const lrk_adapters *adapters, const lrk_reader *model, const lrk_writer *merged,
                            const lrk_merge_options *options, lrk_merge_report *report)
{
    lrki_merge merge;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_merge_stream");
    if (status != LRK_OK) return status;
    if (model == NULL || merged == NULL)
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "lrk_merge_stream: reader or writer is NULL");
    status = begin(adapters, options, report, &merge);
    if (status == LRK_OK) status = merge_stream(&merge, model, merged);
    if (status == LRK_OK) status = lrki_merge_report(&merge, report);
    lrki_merge_end(&merge);
    return status;
}
