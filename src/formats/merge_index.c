/* SPDX-License-Identifier: MIT */
/*
 * The files of a model's directory. An index is held against its shards in both directions, so that no tensor can be in
 * two of them, or in none.
 */
#include "merge_index.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_MOST ((int64_t)100000000)
#define COPY_BYTES ((size_t)1 << 20)

/* ---- the index --------------------------------------------------------------------------------------------------------- */

static lrk_status fail_index(const lrki_model_files *files, const char *tensor, const char *what)
{
    return lrki_fail(files->context, LRK_ERR_FORMAT, LRKI_MODEL_INDEX ": tensor '%s' %s", tensor, what);
}

static bool is_known(const lrki_model_files *files, const char *name)
{
    for (int64_t i = files->n - 1; i >= 0; i--) /* an index names a shard many times in a row */
        if (strcmp(files->names[i], name) == 0) return true;
    return false;
}

/* A shard is a file in the directory of its index, and named like one. */
static bool is_shard_name(const char *name)
{
    size_t n = strlen(name), ending = strlen(".safetensors");
    return n > ending && name[0] != '.' && strchr(name, '/') == NULL &&
           strcmp(name + n - ending, ".safetensors") == 0;
}

static lrk_status list_shards(lrki_model_files *files)
{
    files->map = lrki_json_get(files->index, "weight_map");
    if (!lrki_json_is_object(files->map) || lrki_json_count(files->map) == 0)
        return lrki_fail(files->context, LRK_ERR_FORMAT,
                         LRKI_MODEL_INDEX ": weight_map is missing, empty or not an object");
    files->room = lrki_json_count(files->map);
    files->names = lrki_array(files->context, files->room, sizeof *files->names);
    if (files->names == NULL) return lrki_fail_nomem(files->context, LRKI_MODEL_INDEX);
    for (lrki_json_cursor c = lrki_json_first(files->map); c.at != NULL; c = lrki_json_next(files->map, c)) {
        const char *name = lrki_json_text(c.value);
        if (name == NULL || !is_shard_name(name))
            return fail_index(files, c.key, "is not in a .safetensors file beside the index");
        if (!is_known(files, name)) files->names[files->n++] = name;
    }
    return LRK_OK;
}

static lrk_status read_index(lrki_model_files *files, const char *path)
{
    lrk_status status = lrki_file_load(files->context, path, INDEX_MOST, &files->text);
    if (status == LRK_OK)
        status = lrki_json_parse(files->context, files->text.data, files->text.n, path, &files->index);
    return status == LRK_OK ? list_shards(files) : status;
}

static lrk_status use_single_file(lrki_model_files *files)
{
    files->room = files->n = 1;
    files->names = lrki_array(files->context, 1, sizeof *files->names);
    if (files->names == NULL) return lrki_fail_nomem(files->context, LRKI_MODEL_FILE);
    files->names[0] = LRKI_MODEL_FILE;
    return LRK_OK;
}

static bool is_file(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
}

lrk_status lrki_model_files_read(lrk_context *context, const char *directory, lrki_model_files *files)
{
    *files = (lrki_model_files){.context = context};
    char *single = lrki_path_join(context, directory, LRKI_MODEL_FILE), *index = NULL;
    if (single != NULL) index = lrki_path_join(context, directory, LRKI_MODEL_INDEX);
    lrk_status status = LRK_ERR_NOMEM;
    if (index != NULL && is_file(single))
        status = use_single_file(files);
    else if (index != NULL && is_file(index))
        status = read_index(files, index);
    else if (index != NULL)
        status = lrki_fail(context, LRK_ERR_NOT_FOUND,
                           "%s: neither " LRKI_MODEL_FILE " nor " LRKI_MODEL_INDEX " is there", directory);
    if (single != NULL) lrki_text_free(context, single);
    if (index != NULL) lrki_text_free(context, index);
    return status;
}

void lrki_model_files_free(lrki_model_files *files)
{
    if (files->context == NULL) return;
    if (files->names != NULL)
        lrki_array_free(files->context, files->names, files->room, sizeof *files->names);
    lrki_json_free(files->index);
    lrki_bytes_free(files->context, &files->text);
    *files = (lrki_model_files){0};
}

lrk_status lrki_model_files_check(const lrki_model_files *files, int64_t i, const lrk_safetensors *file)
{
    int64_t at, n = lrk_safetensors_count(file), expected = 0;
    if (files->map == NULL) return LRK_OK;
    for (lrki_json_cursor c = lrki_json_first(files->map); c.at != NULL; c = lrki_json_next(files->map, c)) {
        if (strcmp(lrki_json_text(c.value), files->names[i]) != 0) continue;
        if (lrk_safetensors_find(file, c.key, &at) != LRK_OK)
            return fail_index(files, c.key, "is not in the file that is said to hold it");
        expected++;
    }
    for (int64_t t = 0; expected != n && t < n; t++) {
        lrk_safetensors_tensor facts = {.struct_size = sizeof facts};
        lrk_status status = lrk_safetensors_get(file, t, &facts);
        if (status != LRK_OK) return status;
        const char *said = lrki_json_text(lrki_json_get(files->map, facts.name));
        if (said == NULL || strcmp(said, files->names[i]) != 0)
            return fail_index(files, facts.name, "is in a file that is not said to hold it");
    }
    return LRK_OK;
}

/* ---- the other files --------------------------------------------------------------------------------------------------- */

/* Weights in whatever form: those that were not merged must not stand beside those that were. */
static bool is_weights(const char *name)
{
    static const char *const endings[] = {".safetensors", ".index.json", ".bin", ".pt",   ".pth",
                                          ".ckpt",        ".gguf",       ".h5",  ".onnx", ".msgpack"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t ending = strlen(endings[i]);
        if (n >= ending && strcmp(name + n - ending, endings[i]) == 0) return true;
    }
    return false;
}

static lrk_status copy_bytes(lrk_context *context, const char *from, const char *to, char *buffer)
{
    int fd;
    int64_t size;
    lrki_replacement file;
    lrk_status status = lrki_file_open(context, from, &fd, &size);
    if (status != LRK_OK) return status;
    status = lrki_replacement_begin(context, to, &file);
    for (int64_t at = 0; status == LRK_OK && at < size; at += (int64_t)COPY_BYTES) {
        size_t n = size - at < (int64_t)COPY_BYTES ? (size_t)(size - at) : COPY_BYTES;
        status = lrki_file_read_at(context, fd, from, at, buffer, n);
        if (status == LRK_OK) status = lrki_replacement_write(&file, buffer, n);
    }
    if (status == LRK_OK) status = lrki_replacement_sync(&file);
    if (status == LRK_OK) status = lrki_replacement_commit(&file);
    lrki_replacement_abandon(&file);
    close(fd);
    return status;
}

static lrk_status copy_file(lrk_context *context, const char *from, const char *to, const char *name,
                            char *buffer)
{
    char *source = lrki_path_join(context, from, name), *target = NULL;
    if (source == NULL) return LRK_ERR_NOMEM;
    lrk_status status = LRK_OK;
    if (is_file(source)) {
        target = lrki_path_join(context, to, name);
        status = target == NULL ? LRK_ERR_NOMEM : copy_bytes(context, source, target, buffer);
    }
    lrki_text_free(context, source);
    if (target != NULL) lrki_text_free(context, target);
    return status;
}

static lrk_status copy_listed(lrk_context *context, DIR *directory, const char *from, const char *to,
                              char *buffer)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) return errno == 0 ? LRK_OK : lrki_fail_io(context, "cannot list", from, errno);
        if (is_weights(entry->d_name)) continue;
        lrk_status status = copy_file(context, from, to, entry->d_name, buffer);
        if (status != LRK_OK) return status;
    }
}

lrk_status lrki_model_copy_others(lrk_context *context, const char *from, const char *to)
{
    DIR *directory = opendir(from);
    if (directory == NULL) return lrki_fail_io(context, "cannot list", from, errno);
    char *buffer = lrki_alloc(context, COPY_BYTES);
    lrk_status status = buffer != NULL ? copy_listed(context, directory, from, to, buffer)
                                       : lrki_fail_nomem(context, "copying files");
    lrki_free(context, buffer, COPY_BYTES);
    closedir(directory);
    return status;
}
