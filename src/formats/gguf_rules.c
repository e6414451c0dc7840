/* SPDX-License-Identifier: MIT */
/*
 * Names and rows: which tensor of the base model a module is, and where its rows go. A rule is two patterns with at most
 * one '#', which stands for a number as printf("%d") writes it; the number is copied from one side to the other.
 */
#include <string.h>

#include "gguf_parts.h"
#include "json.h"

#define DIGITS_MOST 9

/* ---- the architectures' own rules ---- */

#define LLAMA_LIKE(q_rows, k_rows)                                                                           \
    {"model.layers.#.self_attn.q_proj", "blk.#.attn_q", q_rows},                                             \
        {"model.layers.#.self_attn.k_proj", "blk.#.attn_k", k_rows},                                         \
        {"model.layers.#.self_attn.v_proj", "blk.#.attn_v", LRK_GGUF_ROWS_PLAIN},                            \
        {"model.layers.#.self_attn.o_proj", "blk.#.attn_output", LRK_GGUF_ROWS_PLAIN},                       \
        {"model.layers.#.mlp.gate_proj", "blk.#.ffn_gate", LRK_GGUF_ROWS_PLAIN},                             \
        {"model.layers.#.mlp.up_proj", "blk.#.ffn_up", LRK_GGUF_ROWS_PLAIN},                                 \
        {"model.layers.#.mlp.down_proj", "blk.#.ffn_down", LRK_GGUF_ROWS_PLAIN},                             \
        {"lm_head", "output", LRK_GGUF_ROWS_PLAIN},                                                          \
    {                                                                                                        \
        NULL, NULL, 0                                                                                        \
    }

static const lrki_gguf_rule llama_rules[] = {LLAMA_LIKE(LRK_GGUF_ROWS_Q, LRK_GGUF_ROWS_K)};
static const lrki_gguf_rule qwen2_rules[] = {LLAMA_LIKE(LRK_GGUF_ROWS_PLAIN, LRK_GGUF_ROWS_PLAIN)};
static const lrki_gguf_rule gpt2_rules[] = {
    {"transformer.h.#.attn.c_attn", "blk.#.attn_qkv", LRK_GGUF_ROWS_PLAIN},
    {"transformer.h.#.attn.c_proj", "blk.#.attn_output", LRK_GGUF_ROWS_PLAIN},
    {"transformer.h.#.mlp.c_fc", "blk.#.ffn_up", LRK_GGUF_ROWS_PLAIN},
    {"transformer.h.#.mlp.c_proj", "blk.#.ffn_down", LRK_GGUF_ROWS_PLAIN},
    {"lm_head", "output", LRK_GGUF_ROWS_PLAIN},
    {NULL, NULL, 0},
};

static const struct {
    const char *name;
    const char *prefix; /* of modules, may be left out: the name inside the head's base model */
    const lrki_gguf_rule *rules;
} architectures[] = {
    {"llama", "model.", llama_rules},
    {"qwen2", "model.", qwen2_rules},
    {"gpt2", "transformer.", gpt2_rules},
};

/* ---- patterns ---- */

/* Length of the number that `text` begins with, 0 if there is none. */
static size_t number_length(const char *text)
{
    size_t n = strspn(text, "0123456789");
    return n > DIGITS_MOST || (n > 1 && text[0] == '0') ? 0 : n;
}

/* True if the whole text fits; *number is then the number's place in it (of length 0 without '#'). */
static bool fits(const char *pattern, const char *text, const char **number, size_t *n)
{
    size_t before = strcspn(pattern, "#");
    *number = text + before;
    *n = 0;
    if (strncmp(pattern, text, before) != 0) return false;
    if (pattern[before] == '\0') return text[before] == '\0';
    *n = number_length(*number);
    return *n > 0 && strcmp(pattern + before + 1, *number + *n) == 0;
}

/* Bytes of the expanded pattern with its NUL. */
static size_t expanded_size(const char *pattern, size_t n)
{
    return strlen(pattern) + (strchr(pattern, '#') == NULL ? 0 : n - 1) + 1;
}

static void expand(const char *pattern, const char *number, size_t n, char *text)
{
    size_t before = strcspn(pattern, "#");
    memcpy(text, pattern, before);
    if (pattern[before] == '\0') n = 0;
    memcpy(text + before, number, n);
    strcpy(text + before + n, pattern + before + (pattern[before] == '#'));
}

static const char *after_prefix(const char *pattern, const char *prefix)
{
    size_t n = prefix == NULL ? 0 : strlen(prefix);
    return n > 0 && strncmp(pattern, prefix, n) == 0 ? pattern + n : pattern;
}

/* ---- the caller's rules ---- */

static bool one_number_at_most(const char *pattern)
{
    const char *number = strchr(pattern, '#');
    return number == NULL || strchr(number + 1, '#') == NULL;
}

static bool is_rule(const lrk_gguf_rule *rule)
{
    return rule->module != NULL && rule->tensor != NULL && rule->module[0] != '\0' &&
           rule->tensor[0] != '\0' && lrki_utf8_valid(rule->module) && lrki_utf8_valid(rule->tensor) &&
           one_number_at_most(rule->module) && one_number_at_most(rule->tensor) &&
           (strchr(rule->module, '#') == NULL) == (strchr(rule->tensor, '#') == NULL);
}

static lrk_status read_rule(lrki_gguf_rules *rules, int64_t i)
{
    lrk_gguf_rule rule;
    (void)lrk_gguf_rule_init(&rule, sizeof rule);
    lrk_status status = lrki_struct_read_at(rules->context, &rule, sizeof rule, rules->options.rules, i,
                                            2 * sizeof(uint32_t), "lrk_gguf_rule");
    if (status != LRK_OK) return status;
    if (!is_rule(&rule) || rule.flags != 0 || rule.rows < LRK_GGUF_ROWS_PLAIN || rule.rows > LRK_GGUF_ROWS_K)
        return lrki_fail(rules->context, LRK_ERR_ARGUMENT,
                         "rule %lld ('%s') is no rule: two names, '#' once in both or in neither, known rows",
                         (long long)i, rule.module == NULL ? "" : rule.module);
    rules->own[i] = (lrki_gguf_rule){rule.module, rule.tensor, rule.rows};
    return LRK_OK;
}

lrk_status lrki_gguf_rules_make(lrk_context *context, const lrk_gguf_options *options, lrki_gguf_rules *rules)
{
    *rules = (lrki_gguf_rules){.context = context, .options = *options};
    if ((options->flags & ~(LRK_GGUF_FILE_NAMES | LRK_GGUF_FILE_ORDER)) != 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "unknown flags of lrk_gguf_options");
    if (options->n_head < 0 || options->n_kv_head < 0)
        return lrki_fail(context, LRK_ERR_ARGUMENT, "n_head or n_kv_head is negative");
    if (options->n_rules < 0 || (options->n_rules > 0 && options->rules == NULL))
        return lrki_fail(context, LRK_ERR_ARGUMENT, "rules is NULL, or n_rules is negative");
    rules->own = lrki_array(context, options->n_rules, sizeof *rules->own);
    if (rules->own == NULL) return lrki_fail_nomem(context, "rules");
    lrk_status status = LRK_OK;
    for (int64_t i = 0; i < options->n_rules && status == LRK_OK; i++)
        status = read_rule(rules, i);
    return status;
}

void lrki_gguf_rules_free(lrki_gguf_rules *rules)
{
    lrki_array_free(rules->context, rules->own, rules->options.n_rules, sizeof *rules->own);
    *rules = (lrki_gguf_rules){0};
}

/* ---- looking up ---- */

typedef struct rule_match {
    const lrki_gguf_rule *rule;
    const char *number;
    size_t n;
} rule_match;

static bool match_rule(const lrki_gguf_rule *rule, const char *module, const char *tensor, const char *prefix,
                       rule_match *match)
{
    match->rule = rule;
    if (tensor != NULL) return fits(rule->tensor, tensor, &match->number, &match->n);
    return fits(rule->module, module, &match->number, &match->n) ||
           fits(after_prefix(rule->module, prefix), module, &match->number, &match->n);
}

/* The first rule for a module, or for a tensor if that is not NULL. */
static bool find_rule(const lrki_gguf_rules *rules, const char *module, const char *tensor, rule_match *match)
{
    for (int64_t i = 0; i < rules->options.n_rules; i++)
        if (match_rule(&rules->own[i], module, tensor, NULL, match)) return true;
    for (size_t a = 0; a < sizeof architectures / sizeof architectures[0]; a++) {
        if (strcmp(architectures[a].name, rules->options.architecture) != 0) continue;
        for (const lrki_gguf_rule *rule = architectures[a].rules; rule->module != NULL; rule++)
            if (match_rule(rule, module, tensor, architectures[a].prefix, match)) return true;
    }
    return false;
}

lrk_status lrki_gguf_tensor_of(const lrki_gguf_rules *rules, const char *module, char base[LRKI_GGUF_NAME],
                               int32_t *rows)
{
    rule_match match;
    bool renamed = (rules->options.flags & LRK_GGUF_FILE_NAMES) == 0;
    bool found = find_rule(rules, module, renamed ? NULL : module, &match);
    if (renamed && !found)
        return lrki_fail(rules->context, LRK_ERR_NOT_FOUND,
                         "module '%s': no rule of architecture '%s' names its tensor", module,
                         rules->options.architecture);
    if (!renamed && !lrki_utf8_valid(module))
        return lrki_fail(rules->context, LRK_ERR_ARGUMENT, "module '%s': its name is not UTF-8", module);
    size_t size = renamed ? expanded_size(match.rule->tensor, match.n) : strlen(module) + 1;
    if (size + strlen(LRKI_GGUF_A) > LRKI_GGUF_NAME)
        return lrki_fail(rules->context, LRK_ERR_UNSUPPORTED,
                         "module '%s': its tensors' names would have more than 63 bytes", module);
    if (renamed)
        expand(match.rule->tensor, match.number, match.n, base);
    else
        strcpy(base, module);
    *rows = found ? match.rule->rows : LRK_GGUF_ROWS_PLAIN;
    if (strcmp(base, LRKI_GGUF_TOKENS) != 0) return LRK_OK;
    return lrki_fail(rules->context, LRK_ERR_UNSUPPORTED, "module '%s': an adapter of the token embeddings",
                     module);
}

lrk_status lrki_gguf_module_of(const lrki_gguf_rules *rules, const char *base, char **module, int32_t *rows)
{
    rule_match match;
    bool renamed = (rules->options.flags & LRK_GGUF_FILE_NAMES) == 0;
    bool found = find_rule(rules, NULL, base, &match);
    if (renamed && !found)
        return lrki_fail(rules->context, LRK_ERR_NOT_FOUND,
                         "tensor '%s': no rule of architecture '%s' names its module", base,
                         rules->options.architecture);
    *rows = found ? match.rule->rows : LRK_GGUF_ROWS_PLAIN;
    *module = lrki_alloc_zeroed(rules->context,
                                renamed ? expanded_size(match.rule->module, match.n) : strlen(base) + 1);
    if (*module == NULL) return lrki_fail_nomem(rules->context, base);
    if (renamed)
        expand(match.rule->module, match.number, match.n, *module);
    else
        strcpy(*module, base);
    return LRK_OK;
}

/* ---- rows ---- */

lrk_status lrki_gguf_head_rows(const lrki_gguf_rules *rules, int32_t rows, const char *name, int64_t n_out,
                               int64_t *head)
{
    const lrk_gguf_options *options = &rules->options;
    *head = 0;
    if (rows == LRK_GGUF_ROWS_PLAIN || (options->flags & LRK_GGUF_FILE_ORDER) != 0) return LRK_OK;
    int64_t n = rows == LRK_GGUF_ROWS_K && options->n_kv_head > 0 ? options->n_kv_head : options->n_head;
    if (n == 0)
        return lrki_fail(rules->context, LRK_ERR_ARGUMENT,
                         "module '%s': its rows are permuted in the file: n_head must be set", name);
    if (n_out % n != 0 || n_out / n % 2 != 0)
        return lrki_fail(rules->context, LRK_ERR_SHAPE,
                         "module '%s': %lld rows are not %lld heads of an even number of rows", name,
                         (long long)n_out, (long long)n);
    *head = n_out / n;
    return LRK_OK;
}

int64_t lrki_gguf_file_row(int64_t row, int64_t head)
{
    if (head == 0) return row;
    int64_t within = row % head, half = head / 2;
    return row - within + 2 * (within % half) + within / half;
}
