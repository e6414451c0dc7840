/* SPDX-License-Identifier: MIT */
/*
 * Finding the host's module for a name in a file: the same name, or one that ends with the other after a dot. Modules are
 * sorted by their names read backwards, where all names that end alike are neighbours.
 */
#include <stdlib.h>
#include <string.h>

#include "peft_parts.h"

/* Compares backwards from the ends, at most `most` bytes. */
static int compare_ends(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t n = n_a < n_b ? n_a : n_b;
    for (size_t i = 1; i <= n; i++) {
        unsigned char x = (unsigned char)a[n_a - i], y = (unsigned char)b[n_b - i];
        if (x != y) return x < y ? -1 : 1;
    }
    return (n_a > n_b) - (n_a < n_b);
}

static int by_end(const void *left, const void *right)
{
    const lrk_module_spec *a = *(const lrk_module_spec *const *)left,
                          *b = *(const lrk_module_spec *const *)right;
    return compare_ends(a->name, strlen(a->name), b->name, strlen(b->name));
}

lrk_status lrki_peft_names_make(lrk_context *context, const lrk_module_spec *specs, int64_t n,
                                lrki_peft_names *names)
{
    *names = (lrki_peft_names){.context = context, .specs = specs, .n = n};
    names->sorted = lrki_array(context, n, sizeof *names->sorted);
    if (names->sorted == NULL) return lrki_fail_nomem(context, "names of modules");
    for (int64_t i = 0; i < n; i++)
        names->sorted[i] = &specs[i];
    qsort(names->sorted, (size_t)n, sizeof *names->sorted, by_end);
    return LRK_OK;
}

void lrki_peft_names_free(lrki_peft_names *names)
{
    if (names->sorted != NULL)
        lrki_array_free(names->context, names->sorted, names->n, sizeof *names->sorted);
    names->sorted = NULL;
}

/* First place at which a name is not before `end`. */
static int64_t lower_bound(const lrki_peft_names *names, const char *end)
{
    int64_t low = 0, high = names->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const char *name = names->sorted[middle]->name;
        if (compare_ends(name, strlen(name), end, strlen(end)) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static int64_t find_exact(const lrki_peft_names *names, const char *name)
{
    int64_t at = lower_bound(names, name);
    if (at == names->n || strcmp(names->sorted[at]->name, name) != 0) return LRKI_NAMES_NONE;
    return names->sorted[at] - names->specs;
}

int64_t lrki_peft_names_find(const lrki_peft_names *names, const char *dotted)
{
    int64_t found = find_exact(names, dotted + 1);
    if (found != LRKI_NAMES_NONE) return found;
    for (const char *dot = strchr(dotted + 1, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        int64_t shorter = find_exact(names, dot + 1);
        if (shorter == LRKI_NAMES_NONE) continue;
        if (found != LRKI_NAMES_NONE) return LRKI_NAMES_SEVERAL;
        found = shorter;
    }
    for (int64_t at = lower_bound(names, dotted); at < names->n && ends_with(names->sorted[at]->name, dotted);
         at++) {
        if (found != LRKI_NAMES_NONE) return LRKI_NAMES_SEVERAL;
        found = names->sorted[at] - names->specs;
    }
    return found;
}
