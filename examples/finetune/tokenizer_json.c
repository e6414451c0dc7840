/* SPDX-License-Identifier: MIT */
/*
 * Reads tokenizer.json. Whatever would change ids and is not implemented is refused with its name; a
 * key that only matters elsewhere (offsets, for one) is passed over.
 */
#include "tokenizer_parts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Far above real vocabularies; keeps id arithmetic and table sizes small. */
enum { MAX_IDS = 1 << 24 };

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "(no type)";
}

static int is_type(const json_t *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

/* Absent, null, false, "" and 0 all mean that a feature is not used. */
static int unused(const json_t *value)
{
    if (json_is_string(value)) return json_string_length(value) == 0;
    if (json_is_number(value)) return json_number_value(value) == 0.0;
    return !value || json_is_null(value) || json_is_false(value);
}

static int refuse_used(const json_t *object, const char *const *keys, const char *where, ft_error *error)
{
    for (; *keys; keys++)
        if (!unused(json_object_get(object, *keys)))
            return ft_fail(error, "%s uses '%s', which is not supported", where, *keys);
    return 0;
}

/* ---- model ---- */

static int read_id(const json_t *value, int32_t *id)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= MAX_IDS)
        return -1;
    *id = (int32_t)json_integer_value(value);
    return 0;
}

static int count_ids(const json_t *vocab, const json_t *added, int32_t *n_ids, ft_error *error)
{
    const char *spelling;
    json_t *value, *copy = (json_t *)vocab;
    int32_t id = 0, largest = -1;
    json_object_foreach(copy, spelling, value)
    {
        if (read_id(value, &id)) return ft_fail(error, "token '%s' has no usable id", spelling);
        if (id > largest) largest = id;
    }
    size_t i;
    json_array_foreach(added, i, value)
    {
        if (read_id(json_object_get(value, "id"), &id))
            return ft_fail(error, "added token %zu has no usable id", i);
        if (id > largest) largest = id;
    }
    if (largest < 0) return ft_fail(error, "the vocabulary is empty");
    *n_ids = largest + 1;
    return 0;
}

static int read_vocab(ft_tokenizer *t, json_t *vocab, ft_error *error)
{
    const char *spelling;
    json_t *value;
    json_object_foreach(vocab, spelling, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        if (ft_bpe_add_token(t->bpe, id, spelling, strlen(spelling), error)) return -1;
    }
    return 0;
}

/* A merge is "a b", or ["a", "b"] in newer files, where tokens may hold spaces. */
static int read_merge(ft_tokenizer *t, const json_t *merge, size_t i, ft_error *error)
{
    const char *left = json_string_value(json_array_get(merge, 0));
    const char *right = json_string_value(json_array_get(merge, 1));
    if (left && right && json_array_size(merge) == 2)
        return ft_bpe_add_merge(t->bpe, left, strlen(left), right, strlen(right), error);
    left = json_string_value(merge);
    right = left ? strchr(left, ' ') : NULL;
    if (!right || right == left || !right[1] || strchr(right + 1, ' '))
        return ft_fail(error, "merge %zu is not a pair of tokens", i);
    return ft_bpe_add_merge(t->bpe, left, (size_t)(right - left), right + 1, strlen(right + 1), error);
}

static int read_model(ft_tokenizer *t, const json_t *root, ft_error *error)
{
    static const char *const not_supported[] = {
        "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", NULL};
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    json_t *merges = json_object_get(model, "merges"), *merge;
    size_t i;
    if (!json_is_object(model)) return ft_fail(error, "it has no 'model'");
    if (json_object_get(model, "type") && !is_type(model, "BPE"))
        return ft_fail(error, "model type '%s' is not supported, only BPE", type_of(model));
    if (refuse_used(model, not_supported, "the model", error)) return -1;
    if (!json_is_object(vocab) || !json_is_array(merges))
        return ft_fail(error, "the model lacks 'vocab' or 'merges'");
    if (count_ids(vocab, json_object_get(root, "added_tokens"), &t->n_ids, error)) return -1;
    t->whole_first = json_is_true(json_object_get(model, "ignore_merges"));
    t->bpe = ft_bpe_create(t->n_ids, json_array_size(merges));
    if (!t->bpe) return ft_fail_memory(error, "the vocabulary");
    if (read_vocab(t, vocab, error)) return -1;
    json_array_foreach(merges, i, merge)
    {
        if (read_merge(t, merge, i, error)) return -1;
    }
    return 0;
}

/* ---- added tokens ---- */

static int read_added_token(ft_tokenizer *t, const json_t *token, ft_error *error)
{
    static const char *const not_supported[] = {"single_word", "lstrip", "rstrip", NULL};
    const char *text = json_string_value(json_object_get(token, "content"));
    if (!text || !*text) return ft_fail(error, "an added token has no 'content'");
    if (refuse_used(token, not_supported, text, error)) return -1;
    char *copy = strdup(text);
    if (!copy) return ft_fail_memory(error, "the added tokens");
    t->added[t->n_added++] = (ft_added_token){
        .text = copy,
        .bytes = strlen(copy),
        .id = (int32_t)json_integer_value(json_object_get(token, "id")),
        .special = json_is_true(json_object_get(token, "special")),
        .late = json_is_true(json_object_get(token, "normalized")),
    };
    return 0;
}

static int read_added(ft_tokenizer *t, const json_t *root, ft_error *error)
{
    const json_t *list = json_object_get(root, "added_tokens"), *token;
    size_t i;
    if (!list || json_is_null(list)) return 0;
    if (!json_is_array(list)) return ft_fail(error, "'added_tokens' is not a list");
    t->added = calloc(json_array_size(list) + 1, sizeof *t->added);
    if (!t->added) return ft_fail_memory(error, "the added tokens");
    json_array_foreach(list, i, token)
    {
        if (read_added_token(t, token, error)) return -1;
    }
    return 0;
}

/* ---- pre-tokenizer ---- */

static int read_byte_level(ft_tokenizer *t, const json_t *step, ft_error *error)
{
    const json_t *space = json_object_get(step, "add_prefix_space"),
                 *regex = json_object_get(step, "use_regex");
    if (!json_is_false(space) && ft_splitter_add_prefix_space(t->splitter, error)) return -1;
    if (json_is_false(regex)) return 0;
    return ft_splitter_add_pattern(t->splitter, ft_gpt2_pattern, error);
}

static int read_split(ft_tokenizer *t, const json_t *step, ft_error *error)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    if (!pattern) return ft_fail(error, "pre-tokenizer Split: only a pattern of kind Regex is supported");
    if (!behavior || strcmp(behavior, "Isolated") != 0)
        return ft_fail(error, "pre-tokenizer Split: behavior '%s' is not supported, only Isolated",
                       behavior ? behavior : "(none)");
    if (json_is_true(json_object_get(step, "invert")))
        return ft_fail(error, "pre-tokenizer Split: 'invert' is not supported");
    return ft_splitter_add_pattern(t->splitter, pattern, error);
}

static int read_step(ft_tokenizer *t, const json_t *step, ft_error *error)
{
    if (is_type(step, "ByteLevel")) return read_byte_level(t, step, error);
    if (is_type(step, "Split")) return read_split(t, step, error);
    if (!is_type(step, "Digits"))
        return ft_fail(error, "pre-tokenizer '%s' is not supported (ByteLevel, Split, Digits are)",
                       type_of(step));
    int each = json_is_true(json_object_get(step, "individual_digits"));
    return ft_splitter_add_pattern(t->splitter, each ? "\\p{N}" : "\\p{N}+", error);
}

static int read_pre_tokenizer(ft_tokenizer *t, const json_t *root, ft_error *error)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer"),
                 *steps = json_object_get(pre, "pretokenizers");
    t->splitter = ft_splitter_create();
    if (!t->splitter) return ft_fail_memory(error, "the pre-tokenizer");
    size_t n = is_type(pre, "Sequence") ? json_array_size(steps) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *step = is_type(pre, "Sequence") ? json_array_get(steps, i) : pre;
        if (is_type(step, "ByteLevel") != (i + 1 == n))
            return ft_fail(error, "pre-tokenizer '%s': exactly the last step must be ByteLevel",
                           type_of(step));
        if (read_step(t, step, error)) return -1;
    }
    return n ? 0 : ft_fail(error, "the pre-tokenizer has no steps");
}

/* ---- post-processor ---- */

/* A template is a list of {"Sequence": ...}, once, and {"SpecialToken": {"id": TEXT}}. */
static int read_template(ft_tokenizer *t, const json_t *post, ft_error *error)
{
    const json_t *pieces = json_object_get(post, "single"), *piece;
    int seen_text = 0;
    size_t i;
    json_array_foreach(pieces, i, piece)
    {
        const char *id = json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        if (!id) {
            if (seen_text++ || !json_object_get(piece, "Sequence"))
                return ft_fail(error, "post-processor: piece %zu of 'single' is not supported", i);
            continue;
        }
        json_t *ids = json_object_get(json_object_get(json_object_get(post, "special_tokens"), id), "ids"),
               *value;
        size_t k;
        if (json_array_size(ids) == 0) return ft_fail(error, "post-processor: token '%s' has no ids", id);
        json_array_foreach(ids, k, value)
        {
            int32_t token = 0;
            if (read_id(value, &token) || token >= t->n_ids)
                return ft_fail(error, "post-processor: token '%s' has an id outside the vocabulary", id);
            if (ft_tokens_push(seen_text ? &t->after : &t->before, token))
                return ft_fail_memory(error, "the template");
        }
    }
    return seen_text ? 0 : ft_fail(error, "post-processor: 'single' does not hold the text");
}

static int read_post_processor(ft_tokenizer *t, const json_t *post, int depth, ft_error *error)
{
    if (!post || json_is_null(post) || is_type(post, "ByteLevel")) return 0;
    if (is_type(post, "TemplateProcessing")) return read_template(t, post, error);
    if (!is_type(post, "Sequence") || depth > 0)
        return ft_fail(error, "post-processor '%s' is not supported (ByteLevel, TemplateProcessing are)",
                       type_of(post));
    const json_t *list = json_object_get(post, "processors"), *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (read_post_processor(t, item, depth + 1, error)) return -1;
    }
    return 0;
}

/* ---- the file ---- */

static int read_root(ft_tokenizer *t, const json_t *root, ft_error *error)
{
    static const char *const not_supported[] = {"truncation", "padding", NULL};
    const json_t *normalizer = json_object_get(root, "normalizer"),
                 *decoder = json_object_get(root, "decoder");
    if (!json_is_object(root)) return ft_fail(error, "it is not a JSON object");
    if (!unused(normalizer))
        return ft_fail(error, "normalizer '%s' is not supported (none is)", type_of(normalizer));
    if (!unused(decoder) && !is_type(decoder, "ByteLevel"))
        return ft_fail(error, "decoder '%s' is not supported, only ByteLevel", type_of(decoder));
    if (refuse_used(root, not_supported, "the file", error)) return -1;
    if (read_model(t, root, error) || read_added(t, root, error) || read_pre_tokenizer(t, root, error))
        return -1;
    return read_post_processor(t, json_object_get(root, "post_processor"), 0, error);
}

int ft_tokenizer_load(const char *path, ft_tokenizer **out, ft_error *error)
{
    json_error_t why;
    ft_error inner;
    *out = NULL;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root && why.line < 1) return ft_fail(error, "%s: %s", path, why.text);
    if (!root) return ft_fail(error, "%s:%d:%d: %s", path, why.line, why.column, why.text);
    ft_tokenizer *t = calloc(1, sizeof *t);
    int failed = t ? read_root(t, root, &inner) : ft_fail_memory(&inner, "the tokenizer");
    json_decref(root);
    if (failed) {
        ft_tokenizer_free(t);
        return ft_fail(error, "%s: %s", path, inner.text);
    }
    *out = t;
    return 0;
}
