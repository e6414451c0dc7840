/* SPDX-License-Identifier: MIT */
/* safetensors files built and looked into (st_bytes.h). */
#include "st_bytes.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"

static void put_format(gguf_bytes *text, const char *format, int64_t a, int64_t b)
{
    char part[80];
    int n = snprintf(part, sizeof part, format, a, b);
    gguf_put(text, part, (size_t)n);
}

static void put_string(gguf_bytes *text, const char *string)
{
    gguf_put(text, "\"", 1);
    gguf_put(text, string, strlen(string));
    gguf_put(text, "\"", 1);
}

static void put_entry(gguf_bytes *text, const st_entry *entry, size_t at)
{
    put_string(text, entry->name);
    gguf_put(text, ":{\"dtype\":", 10);
    put_string(text, entry->dtype);
    gguf_put(text, ",\"shape\":[", 10);
    for (int32_t d = 0; d < entry->n_dims; d++)
        put_format(text, d > 0 ? ",%" PRId64 : "%" PRId64, entry->shape[d], 0);
    put_format(text, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", (int64_t)at,
               (int64_t)(at + entry->bytes));
}

gguf_bytes st_build(const st_entry *entries, int n, const char *metadata)
{
    gguf_bytes file = gguf_bytes_new(), text = gguf_bytes_new();
    size_t at = 0;
    gguf_put(&text, "{", 1);
    if (metadata != NULL) {
        gguf_put(&text, "\"__metadata__\":", 15);
        gguf_put(&text, metadata, strlen(metadata));
    }
    for (int i = 0; i < n; i++) {
        if (i > 0 || metadata != NULL) gguf_put(&text, ",", 1);
        put_entry(&text, &entries[i], at);
        at += entries[i].bytes;
    }
    gguf_put(&text, "}", 1);
    gguf_put_u64(&file, text.n);
    gguf_put(&file, text.data, text.n);
    for (int i = 0; i < n; i++)
        for (size_t b = 0; b < entries[i].bytes; b++) {
            unsigned char byte = (unsigned char)(b + 1);
            gguf_put(&file, entries[i].data != NULL ? (const unsigned char *)entries[i].data + b : &byte, 1);
        }
    gguf_bytes_free(&text);
    return file;
}

size_t st_header(const gguf_bytes *file)
{
    uint64_t n;
    ck_assert_uint_ge(file->n, sizeof n);
    memcpy(&n, file->data, sizeof n);
    ck_assert_uint_le(n, file->n - sizeof n);
    return (size_t)n + sizeof n;
}

static char *header_text(const gguf_bytes *file)
{
    size_t n = st_header(file) - sizeof(uint64_t);
    char *text = malloc(n + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, file->data + sizeof(uint64_t), n);
    text[n] = '\0';
    return text;
}

bool st_has(const gguf_bytes *file, const char *text)
{
    char *header = header_text(file);
    bool has = strstr(header, text) != NULL;
    free(header);
    return has;
}

bool st_look(const gguf_bytes *file, const char *name, st_found *found)
{
    char key[256];
    uint64_t begin, end;
    char *header = header_text(file);
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"", name);
    const char *at = strstr(header, key);
    memset(found, 0, sizeof *found);
    if (at != NULL) {
        at += strlen(key);
        ck_assert_int_eq(sscanf(at, "%15[A-Z0-9_]", found->dtype), 1);
        at += strlen(found->dtype);
        ck_assert_int_eq(strncmp(at, "\",\"shape\":[", 11), 0);
        at += 11;
        (void)sscanf(at, "%63[0-9,]", found->shape);
        at += strlen(found->shape);
        ck_assert_int_eq(sscanf(at, "],\"data_offsets\":[%" SCNu64 ",%" SCNu64 "]}", &begin, &end), 2);
        found->data = file->data + st_header(file) + begin;
        found->bytes = (size_t)(end - begin);
        ck_assert(begin <= end && st_header(file) + end <= file->n);
    }
    free(header);
    return at != NULL;
}

st_found st_find(const gguf_bytes *file, const char *name)
{
    st_found found;
    ck_assert_msg(st_look(file, name, &found), "no tensor '%s'", name);
    return found;
}

double st_value(const st_found *tensor, int64_t i)
{
    float single;
    double wide;
    uint16_t half;
    if (strcmp(tensor->dtype, "F64") == 0) {
        memcpy(&wide, tensor->data + 8 * i, sizeof wide);
        return wide;
    }
    if (strcmp(tensor->dtype, "F32") == 0) {
        memcpy(&single, tensor->data + 4 * i, sizeof single);
        return (double)single;
    }
    memcpy(&half, tensor->data + 2 * i, sizeof half);
    return half_decode(strcmp(tensor->dtype, "F16") == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16, half);
}
