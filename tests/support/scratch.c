/* SPDX-License-Identifier: MIT */
/*
 * Files of tests (scratch.h).
 */
#include "scratch.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void scratch_init(scratch *s)
{
    const char *root = getenv("TMPDIR");
    int n = snprintf(s->dir, sizeof s->dir, "%s/lorank-test-XXXXXX",
                     root != NULL && *root != '\0' ? root : P_tmpdir);
    ck_assert(n > 0 && (size_t)n < sizeof s->dir);
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
}

void scratch_remove(const char *dir)
{
    char path[2 * SCRATCH_PATH];
    DIR *open_dir = opendir(dir);
    ck_assert_ptr_nonnull(open_dir);
    for (struct dirent *entry = readdir(open_dir); entry != NULL; entry = readdir(open_dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (remove(path) != 0) scratch_remove(path);
    }
    closedir(open_dir);
    ck_assert_int_eq(remove(dir), 0);
}

void scratch_fini(scratch *s)
{
    scratch_remove(s->dir);
}

const char *scratch_path(scratch *s, const char *name)
{
    int n = snprintf(s->path, sizeof s->path, "%s/%s", s->dir, name);
    ck_assert(n > 0 && (size_t)n < sizeof s->path);
    return s->path;
}

void scratch_write(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, n, file), n);
    ck_assert_int_eq(fclose(file), 0);
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    ck_assert_int_ge(size, 0);
    rewind(file);
    char *data = calloc((size_t)size + 1, 1);
    ck_assert_ptr_nonnull(data);
    ck_assert_uint_eq(fread(data, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    *n = (size_t)size;
    return data;
}

bool scratch_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int scratch_count(const char *dir)
{
    DIR *open_dir = opendir(dir);
    ck_assert_ptr_nonnull(open_dir);
    int n = 0;
    for (struct dirent *entry = readdir(open_dir); entry != NULL; entry = readdir(open_dir))
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(open_dir);
    return n;
}
