/* SPDX-License-Identifier: MIT */
/*
 * Saves under a third name and then moves the files up, so that at any moment at least one whole checkpoint is there under
 * a name that a resume looks at.
 */
#ifdef LORANK
#include "checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glue.h"
#include "progress.h"
#include "workers.h"

/* ---- what the run was begun with --------------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_rows(uint64_t hash, const ft_data *data)
{
    for (int64_t i = 0; i < data->n_rows; i++) {
        const ft_row *row = &data->rows[i];
        hash = hash_bytes(hash, &row->first_target, sizeof row->first_target);
        hash = hash_bytes(hash, data->tokens + row->begin, (size_t)row->n * sizeof *data->tokens);
    }
    return hash;
}

/* The configuration's text and, a line each, what the command line put in its place. */
static int read_config(ft_checkpoint *c, const ft_args *args, ft_error *error)
{
    FILE *file = fopen(args->config, "rb");
    FILE *text = open_memstream(&c->config, &c->config_bytes);
    char part[4096];
    if (text && file)
        for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
            fwrite(part, 1, n, text);
    for (int i = 0; text && i < args->n_overrides; i++)
        fprintf(text, "# %s=%s\n", args->override_key[i], args->override_value[i]);
    int failed = !text || !file || ferror(file);
    if (text && fclose(text)) failed = 1;
    if (file) fclose(file);
    return failed ? ft_fail(error, "%s: cannot be read again", args->config) : 0;
}

static int list_parts(ft_checkpoint *c, const ft_trainer *t, ft_error *error)
{
    lrk_checkpoint *list = NULL;
    if (lrk_checkpoint_create(t->context, &list)) return ft_fail_lorank(error, t->context, NULL);
    c->list = list;
    if (lrk_checkpoint_add_adapters(list, "adapter", t->adapters) ||
        lrk_checkpoint_add_optimizer(list, "adapter", t->optimizer) ||
        lrk_checkpoint_add_estimator(list, "adapter", t->estimator) ||
        lrk_checkpoint_add_allocator(list, "adapter", t->allocator) ||
        lrk_checkpoint_add_schedule(list, "adapter", t->schedule) ||
        lrk_checkpoint_set_config(list, c->config, c->config_bytes) ||
        lrk_checkpoint_set_blob(list, "rows", &c->rows, sizeof c->rows) ||
        lrk_checkpoint_set_blob(list, "workers", &c->workers, sizeof c->workers) ||
        lrk_checkpoint_set_blob(list, "loop", c->memory, c->memory_bytes))
        return ft_fail_lorank(error, t->context, NULL);
    return 0;
}

int ft_checkpoint_create(ft_checkpoint *c, const ft_trainer *trainer, const ft_args *args, void *memory,
                         size_t memory_bytes, ft_error *error)
{
    *c = (ft_checkpoint){.context = trainer->context, .memory = memory, .memory_bytes = memory_bytes};
    const char *home = ft_workers_home(args);
    c->workers = ft_workers_number();
    c->rows = hash_rows(hash_rows(UINT64_C(0xcbf29ce484222325), &trainer->task->train), &trainer->task->dev);
    return ft_output_path(home, "checkpoint.lrk", c->path, error) ||
                   ft_output_path(home, "checkpoint.previous.lrk", c->previous, error) ||
                   ft_output_path(home, "checkpoint.new.lrk", c->fresh, error) ||
                   ft_output_path(home, "checkpoint.damaged.lrk", c->damaged, error) ||
                   read_config(c, args, error) || list_parts(c, trainer, error)
               ? -1
               : 0;
}

void ft_checkpoint_free(ft_checkpoint *c)
{
    lrk_checkpoint_destroy(c->list);
    free(c->config);
    *c = (ft_checkpoint){0};
}

/* ---- saving -------------------------------------------------------------------------------------------------------------- */

static int move(const char *from, const char *to, ft_error *error)
{
    return rename(from, to) ? ft_fail(error, "cannot rename %s: %s", from, strerror(errno)) : 0;
}

/* From the first second on, in place of the bar that stands there. */
static int32_t show_saving(void *user, uint64_t done, uint64_t total)
{
    ft_progress *progress = user;
    if (ft_now() - progress->begun < 1) return 0;
    progress->total = (int64_t)(total >> 20);
    progress->is_drawn = 1;
    ft_progress_update(progress, (int64_t)(done >> 20), "MiB");
    return 0;
}

int ft_checkpoint_save(ft_checkpoint *c, const lrk_snapshot *best, ft_error *error)
{
    ft_progress progress;
    lrk_checkpoint_options options;
    ft_progress_begin(&progress, "saving", 0);
    lrk_checkpoint_options_init(&options, sizeof options);
    options.user = &progress;
    if (progress.is_terminal) /* given progress, saving reads all of the run once more */
        options.progress = show_saving;
    int failed = lrk_checkpoint_set_snapshot(c->list, "best", best) ||
                 lrk_checkpoint_save(c->list, c->fresh, &options);
    ft_progress_end(&progress);
    if (failed) return ft_fail_lorank(error, c->context, NULL);
    if (rename(c->path, c->previous) && errno != ENOENT)
        return ft_fail(error, "cannot rename %s: %s", c->path, strerror(errno));
    return move(c->fresh, c->path, error);
}

/* ---- going on ------------------------------------------------------------------------------------------------------------ */

/* The checkpoint saved last is damaged and the one before is whole: the first is put aside, so that it replaces nothing. */
static int put_aside(const ft_checkpoint *c, ft_error *error)
{
    fprintf(stderr, "finetune: %s; it is now %s, going on from the one before\n", error->text, c->damaged);
    return move(c->path, c->damaged, error);
}

/* Opens the last whole checkpoint; *file stays NULL if there never was one. */
static int open_last(const ft_checkpoint *c, lrk_checkpoint_file **file, ft_error *error)
{
    lrk_status last = lrk_checkpoint_open(c->context, c->path, NULL, file);
    if (!last) return 0;
    ft_fail_lorank(error, c->context, NULL);
    if (last != LRK_ERR_FORMAT && last != LRK_ERR_NOT_FOUND) return -1;
    lrk_status before = lrk_checkpoint_open(c->context, c->previous, NULL, file);
    if (!before) return last == LRK_ERR_FORMAT ? put_aside(c, error) : 0;
    if (before == LRK_ERR_NOT_FOUND) return last == LRK_ERR_NOT_FOUND ? 0 : -1;
    return ft_fail_lorank(error, c->context, NULL);
}

/* Whether text or blob are those of this run. */
static int check_same(const ft_checkpoint *c, lrk_checkpoint_file *file, ft_error *error)
{
    uint64_t rows = 0;
    int64_t workers = 0;
    size_t n = 0, bytes = 0;
    char *config = malloc(c->config_bytes + 1);
    if (!config) return ft_fail_memory(error, "a checkpoint");
    int same = !lrk_checkpoint_read_config(file, config, c->config_bytes, &n) && n == c->config_bytes &&
               memcmp(config, c->config, n) == 0;
    free(config);
    if (!same)
        return ft_fail(error,
                       "the checkpoint was made with another configuration, or other --set and --seed");
    if (lrk_checkpoint_read_blob(file, "rows", &rows, sizeof rows, &n) || rows != c->rows)
        return ft_fail(error, "the checkpoint was made with other rows of train or dev");
    if (lrk_checkpoint_read_blob(file, "workers", &workers, sizeof workers, &n))
        return ft_fail(error, "the checkpoint was made by another version of this program");
    if (workers != c->workers)
        return ft_fail(error,
                       "the checkpoint was made by a run of %lld workers, this one has %lld: sums would be "
                       "grouped otherwise, and no run be the same",
                       (long long)workers, (long long)c->workers);
    if (lrk_checkpoint_read_blob(file, "loop", NULL, 0, &bytes) || bytes != c->memory_bytes)
        return ft_fail(error, "the checkpoint was made by another version of this program");
    return 0;
}

static int restore_from(ft_checkpoint *c, lrk_checkpoint_file *file, lrk_snapshot **best, ft_error *error)
{
    size_t n;
    if (check_same(c, file, error)) return -1;
    if (lrk_checkpoint_restore(file, c->list, NULL) ||
        lrk_checkpoint_read_blob(file, "loop", c->memory, c->memory_bytes, &n))
        return ft_fail_lorank(error, c->context, NULL);
    lrk_status status = lrk_checkpoint_take_snapshot(c->list, "best", best);
    return status && status != LRK_ERR_NOT_FOUND ? ft_fail_lorank(error, c->context, NULL) : 0;
}

int ft_checkpoint_restore(ft_checkpoint *c, lrk_snapshot **best, int *found, ft_error *error)
{
    lrk_checkpoint_file *file = NULL;
    int failed = open_last(c, &file, error);
    *found = file != NULL;
    if (!failed) error->text[0] = '\0';
    if (!failed && file) failed = restore_from(c, file, best, error);
    lrk_checkpoint_close(file);
    return failed;
}
#endif
