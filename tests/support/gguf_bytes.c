/* SPDX-License-Identifier: MIT */
/* GGUF files built and taken apart (gguf_bytes.h). */
#include "gguf_bytes.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

gguf_bytes gguf_bytes_new(void)
{
    return (gguf_bytes){.fail_at = -1};
}

void gguf_bytes_free(gguf_bytes *bytes)
{
    free(bytes->data);
    *bytes = gguf_bytes_new();
}

void gguf_put(gguf_bytes *bytes, const void *data, size_t n)
{
    bytes->data = realloc(bytes->data, bytes->n + n + 1);
    ck_assert_ptr_nonnull(bytes->data);
    if (n > 0) memcpy(bytes->data + bytes->n, data, n);
    bytes->n += n;
}

void gguf_put_u32(gguf_bytes *bytes, uint32_t value)
{
    gguf_put(bytes, &value, 4);
}

void gguf_put_u64(gguf_bytes *bytes, uint64_t value)
{
    gguf_put(bytes, &value, 8);
}

void gguf_put_text(gguf_bytes *bytes, const char *text)
{
    gguf_put_u64(bytes, strlen(text));
    gguf_put(bytes, text, strlen(text));
}

void gguf_pad(gguf_bytes *bytes, size_t alignment)
{
    while (bytes->n % alignment != 0)
        gguf_put(bytes, "", 1);
}

static int32_t append(void *user, const void *data, size_t n)
{
    gguf_bytes *bytes = user;
    if (bytes->calls++ == bytes->fail_at) return 5;
    gguf_put(bytes, data, n);
    return 0;
}

lrk_writer gguf_bytes_writer(gguf_bytes *bytes)
{
    return (lrk_writer){
        .struct_size = sizeof(lrk_writer), .user = bytes, .write = append, .name = "test bytes"};
}

static int32_t copy_out(void *user, uint64_t offset, void *data, size_t n)
{
    gguf_bytes *bytes = user;
    ck_assert_uint_le(offset, bytes->n);
    ck_assert_uint_le(n, bytes->n - offset);
    if (bytes->calls++ == bytes->fail_at) return 5;
    memcpy(data, bytes->data + offset, n);
    return 0;
}

lrk_reader gguf_bytes_reader(gguf_bytes *bytes)
{
    return (lrk_reader){.struct_size = sizeof(lrk_reader),
                        .user = bytes,
                        .read_at = copy_out,
                        .size = bytes->n,
                        .name = "test bytes"};
}

/* ---- building ------------------------------------------------------------------------------------------------------ */

gguf_sketch gguf_right(void)
{
    static const float alpha = 8;
    return (gguf_sketch){.magic = "GGUF",
                         .version = 3,
                         .type = "adapter",
                         .architecture = "llama",
                         .adapter = "lora",
                         .alpha = &alpha,
                         .names = {"blk.0.attn_v.weight.lora_a", "blk.0.attn_v.weight.lora_b"},
                         .n_dims = {2, 2},
                         .ne = {{3, 2, 1, 1}, {2, 4, 1, 1}}};
}

static void put_keys(gguf_bytes *bytes, const gguf_sketch *sketch)
{
    const char *const keys[] = {"general.type", "general.architecture", "adapter.type"};
    const char *const texts[] = {sketch->type, sketch->architecture, sketch->adapter};
    for (int i = 0; i < 3; i++) {
        if (texts[i] == NULL) continue;
        gguf_put_text(bytes, keys[i]);
        gguf_put_u32(bytes, 8);
        gguf_put_text(bytes, texts[i]);
    }
    if (sketch->alpha != NULL) {
        gguf_put_text(bytes, "adapter.lora.alpha");
        gguf_put_u32(bytes, 6);
        gguf_put(bytes, sketch->alpha, 4);
    }
    if (sketch->alignment != 0) {
        gguf_put_text(bytes, "general.alignment");
        gguf_put_u32(bytes, 4);
        gguf_put_u32(bytes, sketch->alignment);
    }
    gguf_put(bytes, sketch->extra, sketch->extra_bytes);
}

static uint64_t elements(const gguf_sketch *sketch, int i)
{
    uint64_t n = 1;
    for (uint32_t d = 0; d < sketch->n_dims[i] && d < 4; d++)
        n *= sketch->ne[i][d];
    return n;
}

static void put_values(gguf_bytes *bytes, const gguf_sketch *sketch, int i, size_t alignment)
{
    uint64_t n = elements(sketch, i);
    for (uint64_t k = 0; k < n && n < 1000; k++) {
        float value = sketch->values[i] == NULL ? (float)(k + 1) : sketch->values[i][k];
        gguf_put(bytes, &value, sketch->types[i] == 0 ? 4 : 2);
    }
    gguf_pad(bytes, alignment);
}

gguf_bytes gguf_build(const gguf_sketch *sketch)
{
    gguf_bytes bytes = gguf_bytes_new(), data = gguf_bytes_new();
    size_t alignment = sketch->alignment == 0 ? 32 : sketch->alignment;
    if ((alignment & (alignment - 1)) != 0) alignment = 32;
    int64_t n_keys = (sketch->type != NULL) + (sketch->architecture != NULL) + (sketch->adapter != NULL) +
                     (sketch->alpha != NULL) + (sketch->alignment != 0) + sketch->n_extra;
    int n = (sketch->names[0] != NULL) + (sketch->names[1] != NULL);
    gguf_put(&bytes, sketch->magic, 4);
    gguf_put_u32(&bytes, sketch->version);
    gguf_put_u64(&bytes, (uint64_t)(n + sketch->more_tensors));
    gguf_put_u64(&bytes, (uint64_t)(n_keys + sketch->more_keys));
    put_keys(&bytes, sketch);
    for (int i = 0; i < n; i++) {
        gguf_put_text(&bytes, sketch->names[i]);
        gguf_put_u32(&bytes, sketch->n_dims[i]);
        for (uint32_t d = 0; d < sketch->n_dims[i]; d++)
            gguf_put_u64(&bytes, sketch->ne[i][d % 4]);
        gguf_put_u32(&bytes, sketch->types[i]);
        gguf_put_u64(&bytes, (uint64_t)((int64_t)data.n + sketch->shift[i]));
        put_values(&data, sketch, i, alignment);
    }
    gguf_pad(&bytes, alignment);
    gguf_put(&bytes, data.data, data.n);
    bytes.n -= (size_t)sketch->less_data;
    gguf_bytes_free(&data);
    return bytes;
}

/* ---- taking apart -------------------------------------------------------------------------------------------------- */

typedef struct taker {
    const gguf_bytes *bytes;
    size_t at;
} taker;

static const unsigned char *take(taker *t, size_t n)
{
    ck_assert_uint_le(n, t->bytes->n - t->at);
    t->at += n;
    return t->bytes->data + t->at - n;
}

static uint64_t take_number(taker *t, int n)
{
    const unsigned char *bytes = take(t, (size_t)n);
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static void take_text(taker *t, char text[64])
{
    uint64_t n = take_number(t, 8);
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_lt(n, 64);
    memcpy(text, take(t, n), n);
    text[n] = '\0';
}

static void take_key(taker *t, gguf_key *key)
{
    take_text(t, key->key);
    key->type = (uint32_t)take_number(t, 4);
    key->value = t->bytes->data + t->at;
    ck_assert(key->type == 4 || key->type == 6 || key->type == 8);
    take(t, key->type == 8 ? take_number(t, 8) : 4);
}

static uint64_t take_tensor(taker *t, gguf_tensor *tensor)
{
    take_text(t, tensor->name);
    ck_assert_uint_eq(take_number(t, 4), 2);
    tensor->ne[0] = take_number(t, 8);
    tensor->ne[1] = take_number(t, 8);
    tensor->type = (uint32_t)take_number(t, 4);
    ck_assert(tensor->type == 0 || tensor->type == 1 || tensor->type == 30);
    return take_number(t, 8);
}

static void expect_zeros(taker *t, size_t alignment)
{
    while (t->at % alignment != 0)
        ck_assert_uint_eq(*take(t, 1), 0);
}

void gguf_parse(const gguf_bytes *bytes, gguf_file *file)
{
    uint64_t offsets[GGUF_MOST];
    taker t = {bytes, 0};
    ck_assert_mem_eq(take(&t, 4), "GGUF", 4);
    ck_assert_uint_eq(take_number(&t, 4), 3);
    file->n_tensors = take_number(&t, 8);
    file->n_keys = take_number(&t, 8);
    ck_assert_uint_le(file->n_tensors, GGUF_MOST);
    ck_assert_uint_le(file->n_keys, GGUF_MOST);
    for (uint64_t i = 0; i < file->n_keys; i++)
        take_key(&t, &file->keys[i]);
    for (uint64_t i = 0; i < file->n_tensors; i++)
        offsets[i] = take_tensor(&t, &file->tensors[i]);
    expect_zeros(&t, 32);
    file->header = t.at;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        gguf_tensor *tensor = &file->tensors[i];
        ck_assert_uint_eq(offsets[i], t.at - file->header);
        tensor->data = take(&t, tensor->ne[0] * tensor->ne[1] * (tensor->type == 0 ? 4 : 2));
        expect_zeros(&t, 32);
    }
    ck_assert_uint_eq(t.at, bytes->n);
}

const gguf_key *gguf_find_key(const gguf_file *file, const char *key)
{
    const gguf_key *found = NULL;
    for (uint64_t i = 0; i < file->n_keys; i++) {
        if (strcmp(file->keys[i].key, key) != 0) continue;
        ck_assert_ptr_null(found);
        found = &file->keys[i];
    }
    return found;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name)
{
    const gguf_tensor *found = NULL;
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        if (strcmp(file->tensors[i].name, name) != 0) continue;
        ck_assert_ptr_null(found);
        found = &file->tensors[i];
    }
    ck_assert_msg(found != NULL, "no tensor %s", name);
    return found;
}

void gguf_expect_text(const gguf_file *file, const char *key, const char *text)
{
    const gguf_key *found = gguf_find_key(file, key);
    ck_assert_msg(found != NULL, "no key %s", key);
    ck_assert_uint_eq(found->type, 8);
    ck_assert_uint_eq(found->value[0], strlen(text));
    ck_assert_mem_eq(found->value + 8, text, strlen(text));
}

/* sign, exponent of `exponent_bits`, fraction: IEEE 754 from the definition. */
static double decode(uint32_t bits, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    uint32_t fraction = bits & ((1u << fraction_bits) - 1);
    int exponent = (int)(bits >> fraction_bits & ((1u << exponent_bits) - 1));
    double sign = bits >> (exponent_bits + fraction_bits) & 1u ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp((double)fraction + (double)(1u << fraction_bits), exponent - bias - fraction_bits);
}

double gguf_value(const gguf_tensor *tensor, uint64_t i)
{
    uint32_t bits = 0;
    memcpy(&bits, tensor->data + i * (tensor->type == 0 ? 4 : 2), tensor->type == 0 ? 4 : 2);
    if (tensor->type == 0) return decode(bits, 8, 23);
    return tensor->type == 1 ? decode(bits, 5, 10) : decode(bits, 8, 7);
}
