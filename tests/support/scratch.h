/* SPDX-License-Identifier: MIT */
/*
 * A folder for one test's files, in TMPDIR or the system's place for such. Everything ck_asserts on failure.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#define SCRATCH_PATH 512

typedef struct scratch {
    char dir[SCRATCH_PATH];
    char path[SCRATCH_PATH]; /* of the last scratch_path() */
} scratch;

void scratch_init(scratch *s);
void scratch_fini(scratch *s); /* removes the folder with all in it */

/* Removes a folder with all in it. */
void scratch_remove(const char *dir);

/* "<dir>/<name>", valid until the next call. */
const char *scratch_path(scratch *s, const char *name);
void scratch_write(const char *path, const void *data, size_t n);
/* The whole file with a NUL after it; free() it. */
char *scratch_read(const char *path, size_t *n);
bool scratch_exists(const char *path);
/* Number of files in a folder. */
int scratch_count(const char *dir);

#endif
