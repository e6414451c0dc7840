/* SPDX-License-Identifier: MIT */
/*
 * Sketches: their memory and what adds up. Passes feed them (sketch_feed.c), sketch_factor.c reads them out.
 */
#include "sketch.h"

#include <string.h>

#define DIRECTIONS 24 /* measured by bench-sketch for a cap of 20: docs/starts.md */

lrk_status lrk_sketch_options_init(lrk_sketch_options *options, size_t struct_size)
{
    const lrk_sketch_options defaults = {.directions = DIRECTIONS};
    return lrki_struct_init(options, struct_size, &defaults, sizeof defaults);
}

lrk_status lrki_sketch_options_check(lrk_context *context, const lrk_sketch_options *options)
{
    const char *wrong = NULL;
    if (options->samples != 0 && options->samples <= options->directions)
        wrong = "samples must be above directions, or 0";
    if (options->directions < 1) wrong = "directions must be >= 1";
    if (options->directions > INT32_MAX || options->samples > INT32_MAX)
        wrong = "directions and samples must fit in 31 bits";
    if (options->flags != 0) wrong = "flags must be 0";
    return wrong == NULL ? LRK_OK : lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sketch_options: %s", wrong);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

lrk_sketch *lrki_sketch_ref(lrk_sketch *sketch)
{
    __atomic_add_fetch(&sketch->references, 1, __ATOMIC_RELAXED);
    return sketch;
}

/* Accepts a half-built sketch. */
void lrki_sketch_unref(lrk_sketch *sketch)
{
    if (sketch == NULL || __atomic_sub_fetch(&sketch->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    lrk_adapters *set = sketch->adapters;
    lrk_context *context = set->context;
    int64_t n = set->n_modules;
    for (int64_t i = 0; i < sketch->n_randoms; i++) {
        const lrki_sketch_random *random = &sketch->randoms[i];
        lrki_array_free(context, random->values, random->rows * random->width, sizeof(float));
    }
    lrki_array_free(context, sketch->randoms, 2 * n, sizeof *sketch->randoms);
    lrki_array_free(context, sketch->modules, n, sizeof *sketch->modules);
    lrki_array_free(context, sketch->sums, sketch->n_sums, sizeof *sketch->sums);
    lrki_array_free(context, sketch->measures, n * LRKI_MEASURES, sizeof *sketch->measures);
    lrki_free(context, sketch->workspace, sketch->workspace_bytes);
    lrki_free(context, sketch, sizeof *sketch);
    lrki_adapters_unref(set);
}

void lrk_sketch_destroy(lrk_sketch *sketch)
{
    lrki_sketch_unref(sketch);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* k and s of every module, and the floats of all. */
static lrk_status size_modules(lrk_sketch *sketch)
{
    const lrk_adapters *set = sketch->adapters;
    for (int64_t i = 0; i < set->n_modules; i++) {
        const lrki_module *m = &set->modules[i];
        lrki_sketch_module *own = &sketch->modules[i];
        int64_t least = smaller(m->n_in, m->n_out), width, floats, bytes;
        own->directions = smaller(sketch->options.directions, least);
        own->samples = sketch->options.samples / 2 < least ? sketch->options.samples : 2 * least + 1;
        if (!lrki_add(m->n_in, m->n_out, &width) || !lrki_mul(width, own->samples, &floats) ||
            !lrki_add(sketch->n_sums, floats, &sketch->n_sums) ||
            !lrki_mul(sketch->n_sums, (int64_t)sizeof(float), &bytes))
            return lrki_fail_at(set->context, LRK_ERR_SHAPE, (lrki_place){.module = (int32_t)i},
                                "module '%s': the size of its sketch overflows", m->name);
    }
    return LRK_OK;
}

/* The random matrix of a width and side, entered if it is new, with at least so many rows. */
static lrki_sketch_random *random_of(lrk_sketch *sketch, bool of_output, int64_t width)
{
    int64_t i = 0;
    while (i < sketch->n_randoms &&
           (sketch->randoms[i].of_output != of_output || sketch->randoms[i].width != width))
        i++;
    if (i == sketch->n_randoms)
        sketch->randoms[sketch->n_randoms++] = (lrki_sketch_random){.of_output = of_output, .width = width};
    return &sketch->randoms[i];
}

static void want_rows(lrki_sketch_random *random, int64_t rows)
{
    if (random->rows < rows) random->rows = rows;
}

static lrk_status draw(lrk_sketch *sketch, lrki_sketch_random *random)
{
    lrk_context *context = sketch->adapters->context;
    random->values = lrki_array(context, random->rows * random->width, sizeof(float));
    if (random->values == NULL) return lrki_fail_nomem(context, "the random matrices of a sketch");
    for (int64_t i = 0; i < random->rows; i++) {
        uint64_t identity = 2 * (uint64_t)random->width + random->of_output;
        lrki_stream stream =
            lrki_stream_make(sketch->options.seed, LRKI_STREAM_SKETCH, identity, (uint64_t)i);
        lrki_stream_fill_normal(&stream, 1.0f, random->values + i * random->width, random->width);
    }
    return LRK_OK;
}

static lrk_status draw_all(lrk_sketch *sketch)
{
    const lrk_adapters *set = sketch->adapters;
    for (int64_t i = 0; i < set->n_modules; i++) {
        int64_t samples = sketch->modules[i].samples;
        want_rows(random_of(sketch, false, set->modules[i].n_in), samples);
        want_rows(random_of(sketch, true, set->modules[i].n_out), samples);
    }
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < sketch->n_randoms && status == LRK_OK; i++)
        status = draw(sketch, &sketch->randoms[i]);
    return status;
}

static void lay_out(lrk_sketch *sketch)
{
    const lrk_adapters *set = sketch->adapters;
    float *next = sketch->sums;
    for (int64_t i = 0; i < set->n_modules; i++) {
        const lrki_module *m = &set->modules[i];
        lrki_sketch_module *own = &sketch->modules[i];
        own->omega = random_of(sketch, false, m->n_in)->values;
        own->psi = random_of(sketch, true, m->n_out)->values;
        own->w = next;
        own->y = next += own->samples * m->n_in;
        next += own->samples * m->n_out;
        own->measures = sketch->measures + i * LRKI_MEASURES;
    }
}

static lrk_status fill(lrk_sketch *sketch)
{
    const lrk_adapters *set = sketch->adapters;
    lrk_context *context = set->context;
    sketch->modules = lrki_array(context, set->n_modules, sizeof *sketch->modules);
    sketch->randoms = lrki_array(context, 2 * set->n_modules, sizeof *sketch->randoms);
    sketch->measures = lrki_array(context, set->n_modules * LRKI_MEASURES, sizeof *sketch->measures);
    if (sketch->modules == NULL || sketch->randoms == NULL || sketch->measures == NULL)
        return lrki_fail_nomem(context, "a sketch");
    lrk_status status = size_modules(sketch);
    if (status != LRK_OK) return status;
    sketch->sums = lrki_array(context, sketch->n_sums, sizeof *sketch->sums);
    if (sketch->sums == NULL) return lrki_fail_nomem(context, "the sums of a sketch");
    status = draw_all(sketch);
    if (status == LRK_OK) lay_out(sketch);
    return status;
}

lrk_status lrk_sketch_create(lrk_adapters *adapters, const lrk_sketch_options *given, lrk_sketch **out)
{
    if (out != NULL) *out = NULL;
    lrk_status status = lrki_adapters_enter(adapters, "lrk_sketch_create");
    if (status != LRK_OK) return status;
    lrk_context *context = adapters->context;
    if (out == NULL) return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sketch_create: sketch is NULL");
    lrk_sketch_options options;
    lrk_sketch_options_init(&options, sizeof options);
    status = lrki_struct_read(context, &options, sizeof options, given, 2 * sizeof(uint32_t),
                              "lrk_sketch_options");
    if (status == LRK_OK) status = lrki_sketch_options_check(context, &options);
    if (status != LRK_OK) return status;
    if (options.samples == 0) options.samples = 2 * options.directions + 1;
    lrk_sketch *sketch = lrki_alloc_zeroed(context, sizeof *sketch);
    if (sketch == NULL) return lrki_fail_nomem(context, "a sketch");
    sketch->references = 1;
    sketch->adapters = lrki_adapters_ref(adapters);
    sketch->options = options;
    status = fill(sketch);
    if (status == LRK_OK)
        *out = sketch;
    else
        lrki_sketch_unref(sketch);
    return status;
}

/* ---- what adds up -------------------------------------------------------------------------------------------------- */

lrk_status lrki_sketch_check_idle(const lrk_sketch *sketch, const char *what)
{
    if (!__atomic_load_n(&sketch->in_use, __ATOMIC_ACQUIRE)) return LRK_OK;
    return lrki_fail(sketch->adapters->context, LRK_ERR_BUSY, "%s: an open pass feeds the sketch", what);
}

lrk_status lrk_sketch_zero(lrk_sketch *sketch)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    lrk_status status = lrki_sketch_check_idle(sketch, "lrk_sketch_zero");
    if (status != LRK_OK) return status;
    memset(sketch->sums, 0, (size_t)sketch->n_sums * sizeof *sketch->sums);
    for (int64_t i = 0; i < sketch->adapters->n_modules * LRKI_MEASURES; i++)
        sketch->measures[i] = 0.0;
    sketch->gathered = false;
    return LRK_OK;
}

/* Whether two sketches are sums of the same kind; what differs otherwise. */
static const char *difference(const lrk_sketch *a, const lrk_sketch *b)
{
    const lrk_adapters *one = a->adapters, *two = b->adapters;
    if (a->options.seed != b->options.seed) return "seeds";
    if (a->options.directions != b->options.directions) return "directions";
    if (a->options.samples != b->options.samples) return "samples";
    if (one->n_modules != two->n_modules) return "numbers of modules";
    for (int64_t i = 0; i < one->n_modules; i++)
        if (one->modules[i].n_in != two->modules[i].n_in || one->modules[i].n_out != two->modules[i].n_out)
            return "shapes of modules";
    return NULL;
}

lrk_status lrk_sketch_add(lrk_sketch *sketch, const lrk_sketch *other)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    lrk_context *context = sketch->adapters->context;
    if (other == NULL || other == sketch)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sketch_add: other is NULL or the sketch itself");
    const char *differs = difference(sketch, other);
    if (differs != NULL)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "lrk_sketch_add: the sketches have different %s",
                         differs);
    lrk_status status = lrki_sketch_check_idle(sketch, "lrk_sketch_add");
    if (status != LRK_OK) return status;
    if (__atomic_load_n(&other->in_use, __ATOMIC_ACQUIRE))
        return lrki_fail(context, LRK_ERR_BUSY, "lrk_sketch_add: an open pass feeds the other sketch");
    for (int64_t i = 0; i < sketch->n_sums; i++)
        sketch->sums[i] += other->sums[i];
    for (int64_t i = 0; i < sketch->adapters->n_modules * LRKI_MEASURES; i++)
        sketch->measures[i] += other->measures[i];
    return LRK_OK;
}

lrk_status lrk_sketch_sums(lrk_sketch *sketch, float **sums, int64_t *n_sums, double **measures,
                           int64_t *n_measures)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    if (sums == NULL || n_sums == NULL || measures == NULL || n_measures == NULL)
        return lrki_fail(sketch->adapters->context, LRK_ERR_ARGUMENT, "lrk_sketch_sums: a result is NULL");
    lrk_status status = lrki_sketch_check_idle(sketch, "lrk_sketch_sums");
    if (status != LRK_OK) return status;
    *sums = sketch->sums;
    *n_sums = sketch->n_sums;
    *measures = sketch->measures;
    *n_measures = sketch->adapters->n_modules * LRKI_MEASURES;
    return LRK_OK;
}

lrk_status lrk_sketch_info_get(const lrk_sketch *sketch, int32_t module, lrk_sketch_info *info)
{
    if (sketch == NULL) return LRK_ERR_ARGUMENT;
    const lrk_adapters *set = sketch->adapters;
    if (module < 0 || module >= set->n_modules)
        return lrki_fail(set->context, LRK_ERR_ARGUMENT, "lrk_sketch_info_get: there is no module %d",
                         (int)module);
    const lrki_sketch_module *own = &sketch->modules[module];
    const lrk_sketch_info facts = {.directions = own->directions,
                                   .samples = own->samples,
                                   .rows = own->measures[0],
                                   .active_rows = own->measures[1],
                                   .x_norm2 = own->measures[2],
                                   .dy_norm2 = own->measures[3]};
    return lrki_struct_write(set->context, info, &facts, sizeof facts, "lrk_sketch_info");
}
