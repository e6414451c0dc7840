/* SPDX-License-Identifier: MIT */
/* Fields of a trace's lines, each checked before it is believed. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "run_parts.h"

#define MOST_COUNT 1000000000000 /* sums and small multiples of what is read must fit */
#define MOST_REAL  1e100         /* so must differences and ratios                    */

bool run_fail(run_reader *in, const char *format, ...)
{
    va_list args;
    int n = snprintf(in->error, (size_t)in->error_size, "%s:%" PRId64 ": ", in->path, in->line);
    va_start(args, format);
    if (n > 0 && n < in->error_size) vsnprintf(in->error + n, (size_t)(in->error_size - n), format, args);
    va_end(args);
    return false;
}

bool run_fail_field(run_reader *in, const char *key, const char *wanted)
{
    return run_fail(in, "field '%s' is missing or not %s", key, wanted);
}

bool run_is_count(json_t *field)
{
    return json_is_integer(field) && json_integer_value(field) >= 0 &&
           json_integer_value(field) <= MOST_COUNT;
}

bool run_want_count(run_reader *in, json_t *object, const char *key, int64_t *value)
{
    json_t *field = json_object_get(object, key);
    if (!run_is_count(field)) return run_fail_field(in, key, "an integer >= 0 (up to 10^12)");
    *value = json_integer_value(field);
    return true;
}

double run_real_of(json_t *field)
{
    return fmin(fmax(json_number_value(field), -MOST_REAL), MOST_REAL);
}

bool run_is_real(json_t *field, double *value)
{
    *value = json_is_number(field) ? run_real_of(field) : NAN;
    return json_is_number(field) || json_is_null(field);
}

bool run_want_real(run_reader *in, json_t *object, const char *key, double *value)
{
    return run_is_real(json_object_get(object, key), value) || run_fail_field(in, key, "a number or null");
}

bool run_want_text(run_reader *in, json_t *object, const char *key, char **value)
{
    json_t *field = json_object_get(object, key);
    if (!json_is_string(field)) return run_fail_field(in, key, "a text");
    *value = run_copy(json_string_value(field));
    return true;
}

bool run_want_array(run_reader *in, json_t *object, const char *key, json_t **value)
{
    *value = json_object_get(object, key);
    return json_is_array(*value) || run_fail_field(in, key, "an array");
}

bool run_want_module(run_reader *in, json_t *object, int64_t *module)
{
    if (!run_want_count(in, object, "module", module)) return false;
    return *module < in->r->n_modules || run_fail(in, "field 'module': there is no module %" PRId64, *module);
}
