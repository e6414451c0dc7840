/* SPDX-License-Identifier: MIT */
/*
 * Module specs: what a spec may say. Everything that a caller wrote is read once into a known struct and judged here;
 * what concerns several modules (duplicate names, input groups) is set.c's.
 */
#include "spec.h"

#include <math.h>
#include <string.h>

#define HEAD        (2 * sizeof(uint32_t)) /* struct_size and flags */
#define KNOWN_FLAGS LRK_MODULE_MAY_LACK_GRADIENT
#define PLACE(m)    ((lrki_place){.module = (m)})
#define BAD(what, ...)                                                                                       \
    lrki_fail_at(context, LRK_ERR_ARGUMENT, PLACE(module), "module '%s': " what, __VA_ARGS__)
#define MISFIT(what, ...)                                                                                    \
    lrki_fail_at(context, LRK_ERR_SHAPE, PLACE(module), "module '%s': " what, __VA_ARGS__)

static const lrk_module_spec spec_defaults = {
    .struct_size = sizeof(lrk_module_spec), .input_group = LRK_NO_GROUP, .scale = 1.0};

lrk_status lrk_module_spec_init(lrk_module_spec *spec, size_t struct_size)
{
    return lrki_struct_init(spec, struct_size, &spec_defaults, sizeof spec_defaults);
}

lrk_status lrki_element_read(lrk_context *context, void *known, size_t known_size, const void *array,
                             int64_t i, const char *name)
{
    return lrki_struct_read_at(context, known, known_size, array, i, HEAD, name);
}

/* Length of the UTF-8 sequence at s, 0 if it is none (RFC 3629: no surrogates, no overlong forms). */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
    if (s[0] == 0xed && s[1] > 0x9f) return 0;
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
    return n;
}

static bool is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s != '\0') {
        int n = utf8_length(s);
        if (n == 0) return false;
        s += n;
    }
    return true;
}

lrk_status lrki_spec_read(lrk_context *context, const lrk_module_spec *specs, int64_t i,
                          lrk_module_spec *spec)
{
    *spec = spec_defaults;
    lrk_status status = lrki_element_read(context, spec, sizeof *spec, specs, i, "lrk_module_spec");
    if (status != LRK_OK) return status;
    if (spec->name == NULL || spec->name[0] == '\0')
        return lrki_fail_at(context, LRK_ERR_ARGUMENT, PLACE((int32_t)i), "module %lld has no name",
                            (long long)i);
    if (!is_utf8(spec->name))
        return lrki_fail_at(context, LRK_ERR_ARGUMENT, PLACE((int32_t)i),
                            "the name of module %lld is not UTF-8", (long long)i);
    return LRK_OK;
}

const char *lrki_scale_resolve(int32_t rule, double scale, int64_t scale_rank, int64_t rank, double *s)
{
    if (rule != LRK_SCALE_EXPLICIT && rule != LRK_SCALE_ALPHA && rule != LRK_SCALE_ALPHA_SQRT)
        return "unknown scale rule";
    if (scale_rank < 0) return "scale_rank is negative";
    double reference = (double)(scale_rank > 0 ? scale_rank : rank);
    if (rule != LRK_SCALE_EXPLICIT && reference < 1)
        return "the alpha rule needs scale_rank or an initial rank of at least 1";
    *s = scale;
    if (rule == LRK_SCALE_ALPHA) *s = scale / reference;
    if (rule == LRK_SCALE_ALPHA_SQRT) *s = scale / sqrt(reference);
    return isfinite((float)*s) ? NULL : "scale is not finite";
}

void lrki_spec_set_rank(lrk_module_spec *spec, int64_t rank)
{
    bool own = spec->scale_rule != LRK_SCALE_EXPLICIT && spec->scale_rank == 0;
    if (own && spec->rank >= 1) spec->scale_rank = spec->rank;
    spec->rank = rank;
}

static lrk_status check_shape(lrk_context *context, const lrk_module_spec *spec, int32_t module)
{
    const char *name = spec->name;
    if (spec->n_in < 1) return MISFIT("n_in %lld is less than 1", name, (long long)spec->n_in);
    if (spec->n_out < 1) return MISFIT("n_out %lld is less than 1", name, (long long)spec->n_out);
    if (spec->rank < 0) return MISFIT("rank %lld is negative", name, (long long)spec->rank);
    int64_t both, bytes;
    if (!lrki_add(spec->n_in, spec->n_out, &both) || !lrki_mul(both, (int64_t)sizeof(float), &bytes))
        return MISFIT("n_in + n_out overflows", name);
    return LRK_OK;
}

lrk_status lrki_spec_check(lrk_context *context, const lrk_module_spec *spec, int32_t module, double *scale)
{
    const char *name = spec->name;
    if ((spec->flags & ~KNOWN_FLAGS) != 0) return BAD("unknown flags 0x%x", name, (unsigned)spec->flags);
    if (spec->kind != LRK_KIND_LINEAR) return BAD("unknown kind %d", name, (int)spec->kind);
    if (spec->stage < 0) return BAD("stage %d is negative", name, (int)spec->stage);
    if (spec->input_group < LRK_NO_GROUP) return BAD("input_group %d", name, (int)spec->input_group);
    lrk_status status = check_shape(context, spec, module);
    if (status != LRK_OK) return status;
    const char *problem =
        lrki_scale_resolve(spec->scale_rule, spec->scale, spec->scale_rank, spec->rank, scale);
    return problem == NULL ? LRK_OK : BAD("%s", name, problem);
}
