/* SPDX-License-Identifier: MIT */
/*
 * Writing a kohya file: down = A, up = (B diag(g))^T, alpha = s r. An alpha of 0 would be read as a scale of 1: where s r
 * rounds to 0 (s = 0 above all), s goes into up and alpha is r. With one alpha for all, s r goes into up.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kohya_parts.h"
#include "lorank/version.h"
#include "peft_parts.h"
#include "safetensors_write.h"

#include "../adapters/set.h"

enum { DOWN, UP, ALPHA, PARTS };

static const char *const suffixes[PARTS] = {LRKI_KOHYA_DOWN, LRKI_KOHYA_UP, LRKI_KOHYA_ALPHA};

typedef struct kohya_module {
    lrki_peft_module values;
    float alpha;
    double divisor; /* of s r: what is not folded into up */
    char *names[PARTS];
} kohya_module;

typedef struct kohya_saver {
    lrk_context *context;
    const lrk_adapters *adapters;
    lrk_kohya_options options;
    const lrki_dtype *dtype;
    kohya_module *live; /* [n_modules] room */
    int64_t n_live;
} kohya_saver;

/* ---- modules --------------------------------------------------------------------------------------------------------- */

static lrk_status name_module(const kohya_saver *saver, kohya_module *live)
{
    for (int part = 0; part < PARTS; part++) {
        live->names[part] =
            lrki_kohya_name(saver->context, &saver->options, live->values.name, suffixes[part]);
        if (live->names[part] == NULL) return LRK_ERR_NOMEM;
    }
    return LRK_OK;
}

static lrk_status add_module(kohya_saver *saver, int32_t i)
{
    kohya_module *live = &saver->live[saver->n_live++];
    live->values = lrki_peft_module_of(saver->adapters, i);
    const lrki_peft_module *m = &live->values;
    live->divisor = m->scale * (double)m->rank;
    live->alpha = (float)live->divisor;
    if (live->alpha == 0) live->divisor = live->alpha = (float)m->rank;
    if ((saver->options.flags & LRK_KOHYA_ONE_ALPHA) != 0) live->divisor = live->alpha = 1;
    if (!isfinite(live->alpha))
        return lrki_fail_at(saver->context, LRK_ERR_NONFINITE, (lrki_place){.module = i},
                            "module '%s': scale times rank is too large for an alpha", m->name);
    lrk_status status = lrki_fold_check(saver->context, m, live->divisor, saver->dtype);
    return status == LRK_OK ? name_module(saver, live) : status;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const kohya_module *)left)->names[DOWN], ((const kohya_module *)right)->names[DOWN]);
}

static lrk_status check_names(const kohya_saver *saver)
{
    for (int64_t i = 1; i < saver->n_live; i++) {
        const kohya_module *a = &saver->live[i - 1], *b = &saver->live[i];
        if (strcmp(a->names[DOWN], b->names[DOWN]) == 0)
            return lrki_fail(saver->context, LRK_ERR_ARGUMENT,
                             "modules '%s' and '%s' are both '%s' in the file", a->values.name,
                             b->values.name, a->names[DOWN]);
    }
    return LRK_OK;
}

static lrk_status collect(kohya_saver *saver)
{
    const lrk_adapters *adapters = saver->adapters;
    lrk_status status = LRK_OK;
    saver->live = lrki_array(saver->context, adapters->n_modules, sizeof *saver->live);
    if (saver->live == NULL) return lrki_fail_nomem(saver->context, "the modules of an adapter");
    for (int32_t i = 0; i < adapters->n_modules && status == LRK_OK; i++)
        if (adapters->modules[i].bank.rank > 0) status = add_module(saver, i);
    if (status != LRK_OK) return status;
    if (saver->n_live == 0)
        return lrki_fail(saver->context, LRK_ERR_UNSUPPORTED,
                         "every module has rank 0: there is nothing to write");
    qsort(saver->live, (size_t)saver->n_live, sizeof *saver->live, by_name);
    return check_names(saver);
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

static lrk_status fill(void *user, const lrki_out_tensor *tensor, float *values)
{
    const kohya_saver *saver = user;
    const kohya_module *live = &saver->live[tensor->tag / PARTS];
    const lrki_peft_module *m = &live->values;
    if (tensor->tag % PARTS == ALPHA)
        values[0] = live->alpha;
    else if (tensor->tag % PARTS == DOWN)
        memcpy(values, m->a, (size_t)(m->rank * m->n_in) * sizeof *m->a);
    else
        lrki_fold_store(m, live->divisor, values);
    return LRK_OK;
}

static void describe(const kohya_saver *saver, lrki_out_tensor *tensors)
{
    const lrki_dtype *f32 = lrki_dtype_find("F32");
    for (int64_t i = 0; i < saver->n_live; i++) {
        const lrki_peft_module *m = &saver->live[i].values;
        char *const *names = saver->live[i].names;
        int64_t tag = PARTS * i;
        tensors[tag + DOWN] = lrki_out_matrix(names[DOWN], saver->dtype, m->rank, m->n_in, tag + DOWN);
        tensors[tag + UP] = lrki_out_matrix(names[UP], saver->dtype, m->n_out, m->rank, tag + UP);
        tensors[tag + ALPHA] = (lrki_out_tensor){.name = names[ALPHA], .dtype = f32, .tag = tag + ALPHA};
    }
}

static lrk_status write_all(kohya_saver *saver, lrki_target *target)
{
    lrki_out_tensor *tensors = lrki_array(saver->context, PARTS * saver->n_live, sizeof *tensors);
    if (tensors == NULL) return lrki_fail_nomem(saver->context, "the tensors of an adapter");
    lrki_json *metadata = lrki_json_new_object();
    lrki_json_put(&metadata, "format", lrki_json_new_text("pt"));
    lrki_json_put(&metadata, "lorank.version", lrki_json_new_text(lrk_version_text()));
    describe(saver, tensors);
    lrk_status status = lrki_safetensors_write(target, metadata, tensors, PARTS * saver->n_live, fill, saver);
    lrki_array_free(saver->context, tensors, PARTS * saver->n_live, sizeof *tensors);
    return status;
}

/* ---- the calls ------------------------------------------------------------------------------------------------------- */

static lrk_status prepare(kohya_saver *saver, const lrk_kohya_options *options)
{
    lrk_status status = lrki_kohya_options(saver->context, options, &saver->options);
    if (status != LRK_OK) return status;
    saver->dtype = lrki_dtype_of(saver->options.dtype);
    return collect(saver);
}

static void saver_free(kohya_saver *saver)
{
    for (int64_t i = 0; i < PARTS * saver->n_live; i++)
        lrki_text_free(saver->context, saver->live[i / PARTS].names[i % PARTS]);
    lrki_array_free(saver->context, saver->live, saver->adapters->n_modules, sizeof *saver->live);
}

/* Where it goes: a path, or else a writer. */
static lrk_status save(const lrk_adapters *adapters, const char *path, const lrk_writer *writer,
                       const lrk_kohya_options *options)
{
    lrki_target target = {0};
    kohya_saver saver = {.context = adapters->context, .adapters = adapters};
    lrk_status status = prepare(&saver, options);
    if (status == LRK_OK)
        status = path != NULL ? lrki_target_open(saver.context, path, &target)
                              : lrki_target_writer(saver.context, writer, &target);
    target.progress = (lrki_progress){saver.options.user, saver.options.progress};
    if (status == LRK_OK) status = write_all(&saver, &target);
    if (status == LRK_OK) status = lrki_target_commit(&target);
    lrki_target_abandon(&target);
    saver_free(&saver);
    return status;
}

lrk_status lrk_kohya_save(const lrk_adapters *adapters, const char *path, const lrk_kohya_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_kohya_save");
    if (status != LRK_OK) return status;
    if (path == NULL || path[0] == '\0')
        return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "path is NULL or empty");
    return save(adapters, path, NULL, options);
}

lrk_status lrk_kohya_write(const lrk_adapters *adapters, const lrk_writer *writer,
                           const lrk_kohya_options *options)
{
    lrk_status status = lrki_adapters_enter(adapters, "lrk_kohya_write");
    if (status != LRK_OK) return status;
    if (writer == NULL) return lrki_fail(adapters->context, LRK_ERR_ARGUMENT, "writer is NULL");
    return save(adapters, NULL, writer, options);
}
