/* SPDX-License-Identifier: MIT */
/* Rows as JSON (rows.h). */
#include "rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void put(json_t *row, const char *key, double value)
{
    json_object_set_new(row, key, isnan(value) ? json_null() : json_real(value));
}

static void put_other(json_t *json, const bench_row *row)
{
    bool f32 = row->shape.dtype == GRID_F32;
    timing_stats other = timing_stats_of(row->times, ROW_OTHER);
    timing_stats ratio = timing_ratio(row->times, ROW_OTHER, ROW_LORANK);
    timing_stats inverse = timing_ratio(row->times, ROW_LORANK, ROW_OTHER);
    put(json, "blas_us", f32 ? other.minimum : NAN);
    put(json, "blas_median_us", f32 ? other.median : NAN);
    put(json, "blas_ratio_low", f32 ? ratio.quartile : NAN);
    put(json, "blas_ratio_median", f32 ? ratio.median : NAN);
    put(json, "blas_ratio_high", f32 ? ratio.upper : NAN);
    put(json, "f32_us", f32 ? NAN : other.minimum);
    put(json, "f32_ratio_median", f32 ? NAN : inverse.median);
}

json_t *rows_make(const bench_row *row)
{
    const bench_shape *s = &row->shape;
    timing_stats lorank = timing_stats_of(row->times, ROW_LORANK);
    double bytes_us = timing_stats_of(row->times, ROW_FLOOR).minimum;
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:i, s:s}", "op", grid_op_name(row->op), "tokens",
                  (json_int_t)s->tokens, "d_in", (json_int_t)s->n_in, "d_out", (json_int_t)s->n_out, "rank",
                  (json_int_t)s->rank, "threads", row->threads, "dtype", grid_dtype_name(s->dtype));
    put(json, "lorank_us", lorank.minimum);
    put(json, "lorank_median_us", lorank.median);
    put_other(json, row);
    put(json, "torch_us", row->torch ? row->torch_us : NAN);
    put(json, "torch_median_us", row->torch ? row->torch_median_us : NAN);
    put(json, "floor_us", bytes_us > row->flops_us ? bytes_us : row->flops_us);
    put(json, "floor_bytes_us", bytes_us);
    put(json, "floor_flops_us", row->flops_us);
    put(json, "max_rel_error", isinf(row->max_rel_error) ? HUGE_VAL : row->max_rel_error);
    put(json, "handover_ns", row->handover_ns);
    json_object_set_new(json, "repetitions", json_integer(row->times->repetitions));
    json_object_set_new(json, "sets", json_integer(row->sets));
    return json;
}

double rows_number(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *rows_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text != NULL ? text : "";
}

static bool same_key(const json_t *a, const json_t *b)
{
    static const char *const keys[] = {"op", "tokens", "d_in", "d_out", "rank", "threads", "dtype"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i]))) return false;
    return true;
}

void rows_put(json_t *rows, json_t *row)
{
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (same_key(json_array_get(rows, i), row)) {
            json_array_set_new(rows, i, row);
            return;
        }
    json_array_append_new(rows, row);
}

json_t *rows_load(const char *path)
{
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error);
    if (json_is_array(json_object_get(file, "rows"))) return file;
    fprintf(stderr, "bench-kernels: %s: %s\n", path, file == NULL ? error.text : "no array of rows");
    json_decref(file);
    return NULL;
}

/* Every folder on the way to the file. */
static void make_folders(const char *path)
{
    char folder[1024];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        mkdir(folder, 0777);
    }
}

bool rows_save(const char *path, json_t *header, json_t *rows)
{
    json_t *file = json_pack("{s:O, s:O}", "header", header, "rows", rows);
    make_folders(path);
    bool ok = json_dump_file(file, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    if (!ok) fprintf(stderr, "bench-kernels: %s: %s\n", path, strerror(errno));
    json_decref(file);
    return ok;
}
