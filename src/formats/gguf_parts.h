/* SPDX-License-Identifier: MIT */
/*
 * What reading and writing GGUF adapters share: the format's constants, the reader of its container, and the rules
 * that map modules to tensors and rows to rows.
 */
#ifndef LRKI_GGUF_PARTS_H
#define LRKI_GGUF_PARTS_H

#include "dtype.h"
#include "lorank/gguf.h"
#include "stream.h"

#define LRKI_GGUF_MAGIC     "GGUF"
#define LRKI_GGUF_VERSION   3
#define LRKI_GGUF_ALIGNMENT 32 /* unless general.alignment says otherwise */
#define LRKI_GGUF_DIMS      4
#define LRKI_GGUF_NAME      64 /* bytes of a tensor name with its NUL (GGML_MAX_NAME) */

#define LRKI_GGUF_TOKENS "token_embd" /* the tensor whose pairs are stored otherwise */
#define LRKI_GGUF_WEIGHT ".weight"
#define LRKI_GGUF_A      LRKI_GGUF_WEIGHT ".lora_a"
#define LRKI_GGUF_B      LRKI_GGUF_WEIGHT ".lora_b"

#define LRKI_GGUF_KEY_TYPE         "general.type"
#define LRKI_GGUF_KEY_ARCHITECTURE "general.architecture"
#define LRKI_GGUF_KEY_NAME         "general.name"
#define LRKI_GGUF_KEY_ALIGNMENT    "general.alignment"
#define LRKI_GGUF_KEY_FILE_TYPE    "general.file_type"
#define LRKI_GGUF_KEY_QUANTIZATION "general.quantization_version"
#define LRKI_GGUF_KEY_ADAPTER      "adapter.type"
#define LRKI_GGUF_KEY_ALPHA        "adapter.lora.alpha"
#define LRKI_GGUF_KEY_INVOCATION   "adapter.alora.invocation_tokens"
#define LRKI_GGUF_KEY_VERSION      "lorank.version"

/* Types of metadata values. */
#define LRKI_GGUF_U32    4
#define LRKI_GGUF_F32    6
#define LRKI_GGUF_STRING 8
#define LRKI_GGUF_ARRAY  9

/* ---- types of tensors (gguf_types.c) ---- */

typedef struct lrki_gguf_type {
    int32_t number;    /* ggml's            */
    int32_t file_type; /* general.file_type */
    const char *name;
    const lrki_dtype *dtype; /* NULL: one that does not convert */
} lrki_gguf_type;

/* Fills *type; false for a number that ggml does not have. */
bool lrki_gguf_type_find(int32_t number, lrki_gguf_type *type);
/* The type of a LRK_DTYPE_...; false for another value. */
bool lrki_gguf_type_of(int32_t dtype, lrki_gguf_type *type);

/* ---- the container, read (gguf_cursor.c, gguf_keys.c, gguf_tensors.c) ---- */

/* Reads a source from its beginning, in pieces. A read beyond the end is LRK_ERR_FORMAT. */
typedef struct lrki_gguf_cursor {
    const lrki_source *source;
    uint64_t at;
    uint64_t piece_at;
    size_t piece_n;
    unsigned char piece[4096];
} lrki_gguf_cursor;

lrk_status lrki_gguf_take(lrki_gguf_cursor *cursor, void *data, size_t n);
lrk_status lrki_gguf_take_u32(lrki_gguf_cursor *cursor, uint32_t *value);
lrk_status lrki_gguf_take_u64(lrki_gguf_cursor *cursor, uint64_t *value);
lrk_status lrki_gguf_skip(lrki_gguf_cursor *cursor, uint64_t n);
uint64_t lrki_gguf_left(const lrki_gguf_cursor *cursor);
/* LRK_ERR_FORMAT: "<source>: <what>" */
lrk_status lrki_gguf_fail(const lrki_source *source, const char *what);

typedef struct lrki_gguf_tensor {
    char name[LRKI_GGUF_NAME];
    int64_t ne[LRKI_GGUF_DIMS]; /* fastest first; 1 for those that the file does not give */
    int64_t count;              /* elements, > 0                                          */
    uint64_t offset;            /* in the file                                            */
    const lrki_dtype *dtype;
} lrki_gguf_tensor;

/* A file's header. Zero-initialise; lrki_gguf_file_free() is right at any time. */
typedef struct lrki_gguf_file {
    lrk_context *context;
    const lrki_source *source;
    int64_t n_keys;
    int64_t n_key_slots;
    char **keys;
    char type[LRKI_GGUF_NAME];
    char architecture[LRKI_GGUF_NAME];
    char adapter[LRKI_GGUF_NAME];
    float alpha; /* 0: absent */
    uint32_t alignment;
    int64_t n;
    int64_t n_slots;
    lrki_gguf_tensor *tensors; /* in order of the file */
    const lrki_gguf_tensor **by_name;
} lrki_gguf_file;

/* Reads and checks everything but the tensors' values. */
lrk_status lrki_gguf_file_read(lrk_context *context, const lrki_source *source, lrki_gguf_file *file);
void lrki_gguf_file_free(lrki_gguf_file *file);
/* Its steps. */
lrk_status lrki_gguf_keys_read(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t n);
lrk_status lrki_gguf_tensors_read(lrki_gguf_file *file, lrki_gguf_cursor *cursor, uint64_t n);
/* All values of a tensor as f32. */
lrk_status lrki_gguf_values(const lrki_gguf_file *file, const lrki_gguf_tensor *tensor, float *values);

/* ---- names and rows (gguf_rules.c) ---- */

typedef struct lrki_gguf_rule {
    const char *module;
    const char *tensor;
    int32_t rows;
} lrki_gguf_rule;

typedef struct lrki_gguf_rules {
    lrk_context *context;
    lrk_gguf_options options; /* its architecture is not NULL */
    lrki_gguf_rule *own;      /* the caller's */
} lrki_gguf_rules;

/* Checks the options' flags, heads and rules. Zero-initialise; lrki_gguf_rules_free() is right at any time. */
lrk_status lrki_gguf_rules_make(lrk_context *context, const lrk_gguf_options *options,
                                lrki_gguf_rules *rules);
void lrki_gguf_rules_free(lrki_gguf_rules *rules);

/* The tensor of a module, without ".weight", and its rows' order. LRK_ERR_NOT_FOUND, LRK_ERR_UNSUPPORTED. */
lrk_status lrki_gguf_tensor_of(const lrki_gguf_rules *rules, const char *module, char base[LRKI_GGUF_NAME],
                               int32_t *rows);
/* The module of a tensor, freed by lrki_text_free(), and its rows' order. LRK_ERR_NOT_FOUND, LRK_ERR_NOMEM. */
lrk_status lrki_gguf_module_of(const lrki_gguf_rules *rules, const char *base, char **module, int32_t *rows);

/* Rows of a head whose rows are permuted, 0 if they are not. LRK_ERR_ARGUMENT, LRK_ERR_SHAPE; `name` is for the detail. */
lrk_status lrki_gguf_head_rows(const lrki_gguf_rules *rules, int32_t rows, const char *name, int64_t n_out,
                               int64_t *head);
/* Row in the file of a module's row. */
int64_t lrki_gguf_file_row(int64_t row, int64_t head);

#endif
