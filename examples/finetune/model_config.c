/* SPDX-License-Identifier: MIT */
/*
 * Reads config.json of a Hugging Face Llama model.  Decides what this
 * implementation can run: any key that would change the arithmetic and is not
 * implemented is refused by name, so that a model never runs wrongly in
 * silence.  Keys that do not touch inference are ignored.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model_internal.h"

enum { LARGEST_SIZE = 1 << 24, MOST_LAYERS = 4096 };

/* One file being read; the first complaint wins. */
typedef struct reader {
    const char *path;
    const json_t *root;
    char *err;
    size_t err_bytes;
    int failed;
} reader;

#define REFUSE(r, ...)                                                                                       \
    do {                                                                                                     \
        char reason_[192];                                                                                   \
        snprintf(reason_, sizeof reason_, __VA_ARGS__);                                                      \
        if (!(r)->failed) model_fail((r)->err, (r)->err_bytes, "%s: %s", (r)->path, reason_);                \
        (r)->failed = 1;                                                                                     \
    } while (0)

/* NULL where the key is absent or null. */
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value) ? NULL : value;
}

static int64_t size_of(reader *r, const char *key, int64_t fallback)
{
    const json_t *value = value_of(r->root, key);
    if (value == NULL && fallback > 0) return fallback;
    if (value == NULL)
        REFUSE(r, "%s is missing", key);
    else if (!json_is_integer(value) || json_integer_value(value) < 1 ||
             json_integer_value(value) > LARGEST_SIZE)
        REFUSE(r, "%s must be an integer in 1..%d", key, LARGEST_SIZE);
    else
        return json_integer_value(value);
    return 1;
}

static double number_of(reader *r, const json_t *object, const char *key, double fallback)
{
    const json_t *value = value_of(object, key);
    if (value == NULL) return fallback;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number > 0) || !isfinite(number)) {
        REFUSE(r, "%s must be a positive number", key);
        return fallback;
    }
    return number;
}

static int flag_of(reader *r, const char *key)
{
    const json_t *value = value_of(r->root, key);
    if (value != NULL && !json_is_boolean(value)) REFUSE(r, "%s must be true or false", key);
    return value != NULL && json_is_true(value);
}

/* A token id or a list of them, of which the first counts; -1 where there is none. */
static int32_t token_of(reader *r, const char *key, int64_t vocab)
{
    const json_t *value = value_of(r->root, key);
    if (json_is_array(value)) value = json_array_get(value, 0);
    if (value == NULL) return -1;
    int64_t token = json_is_integer(value) ? json_integer_value(value) : -1;
    if (token < -1 || token >= vocab) REFUSE(r, "%s %lld is outside the vocabulary", key, (long long)token);
    return (int32_t)token;
}

static void require_text(reader *r, const char *key, const char *wanted, int may_lack)
{
    const json_t *value = value_of(r->root, key);
    if (value == NULL && may_lack) return;
    const char *text = json_string_value(value);
    if (text == NULL)
        REFUSE(r, "%s is missing or no string", key);
    else if (strcmp(text, wanted) != 0)
        REFUSE(r, "%s \"%.64s\" is not supported, only \"%s\"", key, text, wanted);
}

/* rope_scaling, or rope_parameters: anything but the plain embedding is refused. */
static void require_plain_rope(reader *r, const char *key)
{
    const json_t *rope = value_of(r->root, key);
    if (rope == NULL) return;
    if (!json_is_object(rope)) {
        REFUSE(r, "%s must be an object or null", key);
        return;
    }
    const json_t *type =
        value_of(rope, "rope_type") != NULL ? value_of(rope, "rope_type") : value_of(rope, "type");
    const char *text = type == NULL ? "default" : json_string_value(type);
    if (text == NULL || strcmp(text, "default") != 0)
        REFUSE(r, "%s of type \"%.64s\" is not supported, only \"default\"", key, text != NULL ? text : "?");
    else if (type == NULL && value_of(rope, "factor") != NULL)
        REFUSE(r, "%s with a factor is not supported", key);
    if (number_of(r, rope, "partial_rotary_factor", 1) != 1)
        REFUSE(r, "%s.partial_rotary_factor other than 1 is not supported", key);
}

/* Older files keep rope_theta at the top, newer ones in rope_parameters. */
static double rope_theta_of(reader *r)
{
    const json_t *rope = value_of(r->root, "rope_parameters");
    double outer = number_of(r, r->root, "rope_theta", 0);
    double inner = json_is_object(rope) ? number_of(r, rope, "rope_theta", 0) : 0;
    if (outer > 0 && inner > 0 && outer != inner)
        REFUSE(r, "rope_theta %g contradicts rope_parameters.rope_theta %g", outer, inner);
    return inner > 0 ? inner : outer > 0 ? outer : 10000.0;
}

static void require_supported(reader *r)
{
    static const char *const unsupported[] = {"attention_bias", "mlp_bias"};
    require_text(r, "model_type", "llama", 0);
    require_text(r, "hidden_act", "silu", 1);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (flag_of(r, unsupported[i])) REFUSE(r, "%s true is not supported", unsupported[i]);
    if (value_of(r->root, "quantization_config") != NULL) REFUSE(r, "quantization_config is not supported");
    if (number_of(r, r->root, "partial_rotary_factor", 1) != 1)
        REFUSE(r, "partial_rotary_factor other than 1 is not supported");
    require_plain_rope(r, "rope_scaling");
    require_plain_rope(r, "rope_parameters");
}

static void read_sizes(reader *r, llama_config *c)
{
    c->hidden = size_of(r, "hidden_size", 0);
    c->intermediate = size_of(r, "intermediate_size", 0);
    c->n_layers = size_of(r, "num_hidden_layers", 0);
    c->n_heads = size_of(r, "num_attention_heads", 0);
    c->vocab = size_of(r, "vocab_size", 0);
    c->n_kv_heads = size_of(r, "num_key_value_heads", c->n_heads);
    c->max_positions = size_of(r, "max_position_embeddings", 2048);
    if (value_of(r->root, "head_dim") == NULL && c->hidden % c->n_heads != 0)
        REFUSE(r, "hidden_size %lld is no multiple of num_attention_heads %lld", (long long)c->hidden,
               (long long)c->n_heads);
    c->head_dim = size_of(r, "head_dim", c->hidden >= c->n_heads ? c->hidden / c->n_heads : 1);
    if (c->head_dim % 2 != 0) REFUSE(r, "head_dim %lld is odd", (long long)c->head_dim);
    if (c->n_heads % c->n_kv_heads != 0)
        REFUSE(r, "num_attention_heads %lld is no multiple of num_key_value_heads %lld",
               (long long)c->n_heads, (long long)c->n_kv_heads);
    if (c->n_layers > MOST_LAYERS) REFUSE(r, "num_hidden_layers is above %d", MOST_LAYERS);
    if ((double)c->n_heads * (double)c->head_dim > LARGEST_SIZE)
        REFUSE(r, "num_attention_heads times head_dim is above %d", LARGEST_SIZE);
}

static void read_config(reader *r, llama_config *c)
{
    if (!json_is_object(r->root)) {
        REFUSE(r, "is no JSON object");
        return;
    }
    require_supported(r);
    read_sizes(r, c);
    c->rope_theta = rope_theta_of(r);
    c->rms_norm_eps = number_of(r, r->root, "rms_norm_eps", 1e-6);
    c->tied_head = flag_of(r, "tie_word_embeddings");
    c->bos_token = token_of(r, "bos_token_id", c->vocab);
    c->eos_token = token_of(r, "eos_token_id", c->vocab);
    c->pad_token = token_of(r, "pad_token_id", c->vocab);
}

int llama_config_read(const char *dir, llama_config *config, char *err, size_t err_bytes)
{
    char path[4096];
    json_error_t problem;
    *config = (llama_config){0};
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return model_fail(err, err_bytes, "%.64s...: path too long", dir);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL && problem.line > 0)
        return model_fail(err, err_bytes, "%s:%d: %s", path, problem.line, problem.text);
    if (root == NULL) return model_fail(err, err_bytes, "%s: %s", path, problem.text);
    reader r = {.path = path, .root = root, .err = err, .err_bytes = err_bytes};
    read_config(&r, config);
    json_decref(root);
    return r.failed ? -1 : 0;
}
