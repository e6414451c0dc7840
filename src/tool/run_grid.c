/* SPDX-License-Identifier: MIT */
/*
 * The grid that heat maps draw: a module's name is split at its first component that is a number. The number is its
 * layer (the column), what stands around it its kind (the row). A module without one has a row of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "run.h"

typedef struct grid_name {
    char *key;   /* rows with equal keys are one row */
    char *label; /* without what stands before the layer */
    int64_t layer;
    bool has_layer;
} grid_name;

static bool all_digits(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9') return false;
    return n > 0 && n < 10;
}

/* The first component that is a number, and its length; NULL if there is none. */
static const char *find_layer(const char *name, size_t *length)
{
    for (const char *at = name;; at += *length + 1) {
        *length = strcspn(at, ".");
        if (all_digits(at, *length)) return at;
        if (at[*length] == '\0') return NULL;
    }
}

static grid_name split(const char *name)
{
    size_t length = 0;
    const char *layer = find_layer(name, &length);
    grid_name split_name = {run_copy(name), NULL, 0, layer != NULL};
    if (layer == NULL) {
        split_name.label = run_copy(name);
        return split_name;
    }
    split_name.layer = strtoll(layer, NULL, 10);
    char *at = split_name.key + (layer - name);
    *at = '*';
    memmove(at + 1, at + length, strlen(at + length) + 1);
    split_name.label = run_copy(at[1] == '.' ? at + 2 : split_name.key);
    return split_name;
}

static int find_row(run *r, grid_name *rows, const grid_name *name)
{
    for (int i = 0; i < r->n_rows; i++)
        if (strcmp(rows[i].key, name->key) == 0) return i;
    rows[r->n_rows] = *name;
    return r->n_rows++;
}

static int by_value(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void make_columns(run *r, const grid_name *names)
{
    int n = 0;
    r->col_layers = run_alloc(r->n_modules + 1, sizeof *r->col_layers);
    for (int64_t i = 0; i < r->n_modules; i++)
        if (names[i].has_layer) r->col_layers[n++] = names[i].layer;
    r->has_layers = n > 0;
    qsort(r->col_layers, (size_t)n, sizeof *r->col_layers, by_value);
    for (int i = 0; i < n; i++)
        if (i == 0 || r->col_layers[i] != r->col_layers[r->n_cols - 1])
            r->col_layers[r->n_cols++] = r->col_layers[i];
    if (n == 0) r->n_cols = 1;
    for (int64_t i = 0; i < r->n_modules; i++) {
        if (!names[i].has_layer) continue;
        const int64_t *at = bsearch(&names[i].layer, r->col_layers, (size_t)r->n_cols, sizeof *at, by_value);
        r->modules[i].col = (int)(at - r->col_layers);
        r->modules[i].has_layer = true;
    }
}

/* Short labels, unless two rows would have the same. */
static void make_labels(run *r, const grid_name *rows)
{
    r->row_labels = run_alloc(r->n_rows, sizeof *r->row_labels);
    for (int i = 0; i < r->n_rows; i++) {
        int same = 0;
        for (int j = 0; j < r->n_rows; j++)
            same += strcmp(rows[i].label, rows[j].label) == 0;
        r->row_labels[i] = run_copy(same > 1 ? rows[i].key : rows[i].label);
    }
}

void run_make_grid(run *r)
{
    grid_name *names = run_alloc(r->n_modules, sizeof *names);
    grid_name *rows = run_alloc(r->n_modules, sizeof *rows);
    for (int64_t i = 0; i < r->n_modules; i++) {
        names[i] = split(r->modules[i].name);
        r->modules[i].row = find_row(r, rows, &names[i]);
    }
    make_columns(r, names);
    make_labels(r, rows);
    for (int64_t i = 0; i < r->n_modules; i++) {
        free(names[i].key);
        free(names[i].label);
    }
    free(names);
    free(rows);
}
