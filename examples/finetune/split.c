/* SPDX-License-Identifier: MIT */
/*
 * Patterns are run by PCRE2 with Unicode classes. The files are written for Oniguruma; the patterns in
 * use mean the same in both, but for U+180E, which PCRE2 counts as a space. The text was checked to be
 * UTF-8 by the caller: PCRE2 would check it all again at every match.
 */
#include "split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

const char ft_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum { MAX_STEPS = 16 };

struct ft_splitter {
    pcre2_code *pattern[MAX_STEPS]; /* NULL: the step that adds a space */
    int n_steps;
};

typedef struct run {
    const ft_splitter *splitter;
    ft_word_fn *word;
    void *user;
    ft_error *error;
} run;

static int run_step(const run *r, int step, const char *text, size_t bytes);

ft_splitter *ft_splitter_create(void)
{
    return calloc(1, sizeof(ft_splitter));
}

void ft_splitter_free(ft_splitter *splitter)
{
    if (!splitter) return;
    for (int i = 0; i < splitter->n_steps; i++)
        pcre2_code_free(splitter->pattern[i]);
    free(splitter);
}

static int add_step(ft_splitter *splitter, pcre2_code *pattern, ft_error *error)
{
    if (splitter->n_steps == MAX_STEPS) {
        pcre2_code_free(pattern);
        return ft_fail(error, "the pre-tokenizer has more than %d steps", MAX_STEPS);
    }
    splitter->pattern[splitter->n_steps++] = pattern;
    return 0;
}

int ft_splitter_add_pattern(ft_splitter *splitter, const char *pattern, ft_error *error)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!compiled) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof why);
        return ft_fail(error, "pattern '%s', at character %zu: %s", pattern, (size_t)at + 1,
                       (const char *)why);
    }
    return add_step(splitter, compiled, error);
}

int ft_splitter_add_prefix_space(ft_splitter *splitter, ft_error *error)
{
    return add_step(splitter, NULL, error);
}

static int prefix_space(const run *r, int step, const char *text, size_t bytes)
{
    if (text[0] == ' ') return run_step(r, step + 1, text, bytes);
    char *copy = malloc(bytes + 1);
    if (!copy) return ft_fail_memory(r->error, "a piece of text");
    copy[0] = ' ';
    memcpy(copy + 1, text, bytes);
    int failed = run_step(r, step + 1, copy, bytes + 1);
    free(copy);
    return failed;
}

/* The next non-empty match at or after `from`. 1: found, 0: none left, -1: error. */
static int next_match(const run *r, int step, const char *text, size_t bytes, size_t from,
                      pcre2_match_data *match, size_t *begin, size_t *end)
{
    int rc = pcre2_match(r->splitter->pattern[step], (PCRE2_SPTR)text, bytes, from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match, NULL);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(rc, why, sizeof why);
        return ft_fail(r->error, "the pre-tokenizer's pattern: %s", (const char *)why);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
    if (span[0] < from || span[1] < span[0])
        return ft_fail(r->error, "the pre-tokenizer's pattern looks behind itself");
    *begin = span[0];
    *end = span[1];
    return 1;
}

static int split(const run *r, int step, const char *text, size_t bytes, pcre2_match_data *match)
{
    for (size_t at = 0, begin = 0, end = 0; at < bytes; at = end) {
        int found = next_match(r, step, text, bytes, at, match, &begin, &end);
        if (found < 0) return -1;
        if (!found) return run_step(r, step + 1, text + at, bytes - at);
        if (run_step(r, step + 1, text + at, begin - at)) return -1;
        if (run_step(r, step + 1, text + begin, end - begin)) return -1;
    }
    return 0;
}

static int run_step(const run *r, int step, const char *text, size_t bytes)
{
    if (bytes == 0) return 0;
    if (step == r->splitter->n_steps) return r->word(r->user, text, bytes, r->error);
    if (!r->splitter->pattern[step]) return prefix_space(r, step, text, bytes);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(r->splitter->pattern[step], NULL);
    if (!match) return ft_fail_memory(r->error, "a match");
    int failed = split(r, step, text, bytes, match);
    pcre2_match_data_free(match);
    return failed;
}

int ft_splitter_run(const ft_splitter *splitter, const char *text, size_t bytes, ft_word_fn *word, void *user,
                    ft_error *error)
{
    run r = {splitter, word, user, error};
    return run_step(&r, 0, text, bytes);
}
