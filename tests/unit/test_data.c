/* SPDX-License-Identifier: MIT */
/*
 * The example trainer's rows: what a file becomes, what is refused and how, and the order of epochs.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/finetune/data.h"

enum { START = 0, END = 1, SEQ_LEN = 8 };

static ft_tokenizer *tokenizer;

/* One token a letter: <s> is 0 and precedes every text, </s> is 1, a is 2, b is 3. */
static void write_tokenizer(int file)
{
    char text[1024];
    int n =
        snprintf(text, sizeof text,
                 "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],"
                 "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
                 "\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[0]}}},"
                 "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"<s>\":0,\"</s>\":1");
    for (int i = 0; i < 26; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, ",\"%c\":%d", 'a' + i, i + 2);
    n += snprintf(text + n, sizeof text - (size_t)n, "}}}");
    ck_assert_int_eq(write(file, text, (size_t)n), n);
}

static void setup(void)
{
    char path[] = "/tmp/lorank-tokenizer-XXXXXX";
    ft_error error = {""};
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    write_tokenizer(file);
    close(file);
    int failed = ft_tokenizer_load(path, &tokenizer, &error);
    unlink(path);
    ck_assert_msg(!failed, "%s", error.text);
}

static void teardown(void)
{
    ft_tokenizer_free(tokenizer);
}

static int read_text(const char *text, size_t bytes, ft_data *data, ft_error *error)
{
    char path[] = "/tmp/lorank-rows-XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, text, bytes), (ssize_t)bytes);
    close(file);
    int failed = ft_data_read(path, tokenizer, END, SEQ_LEN, data, error);
    unlink(path);
    return failed;
}

static ft_data read_good(const char *text)
{
    ft_data data;
    ft_error error = {""};
    int failed = read_text(text, strlen(text), &data, &error);
    ck_assert_msg(!failed, "%s", error.text);
    return data;
}

START_TEST(a_completion_row_counts_completion_and_end)
{
    ft_data data = read_good("{\"prompt\": \"ab\", \"completion\": \"cd\"}\n"
                             "\n  \t\n"
                             "{\"completion\": \"c\", \"prompt\": \"a\"}");
    /* <s> a b | c d </s>  and  <s> a | c </s> */
    ck_assert_int_eq(data.kind, FT_ROWS_COMPLETION);
    ck_assert_int_eq(data.n_rows, 2);
    ck_assert_int_eq(data.rows[0].n, 6);
    ck_assert_int_eq(data.rows[0].first_target, 3);
    ck_assert_int_eq(data.rows[1].n, 4);
    ck_assert_int_eq(data.rows[1].first_target, 2);
    ck_assert_int_eq(data.n_targets, 5);
    ck_assert_int_eq(data.longest, 5);
    ck_assert_int_eq(data.tokens[0], START);
    ck_assert_int_eq(data.tokens[3], 'c' - 'a' + 2);
    ck_assert_int_eq(data.tokens[5], END);
    ft_data_free(&data);
}
END_TEST

START_TEST(a_batch_pads_on_the_right_and_never_counts_prompt_or_padding)
{
    ft_data data = read_good(
        "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n{\"prompt\": \"a\", \"completion\": \"c\"}\n");
    ft_batch batch = {0};
    ft_error error;
    int64_t rows[] = {1, 0};
    ck_assert_int_eq(ft_batch_fill(&batch, &data, rows, 2, &error), 0);
    ck_assert_int_eq(batch.view.n_seq, 2);
    ck_assert_int_eq(batch.view.seq_len, 5);
    const int32_t *t = data.tokens, *row0 = t + data.rows[0].begin, *row1 = t + data.rows[1].begin;
    int32_t tokens[] = {row1[0], row1[1], row1[2], 0, 0, row0[0], row0[1], row0[2], row0[3], row0[4]};
    int32_t targets[] = {-1, row1[2], END, -1, -1, -1, -1, row0[3], row0[4], END};
    ck_assert_mem_eq(batch.view.tokens, tokens, sizeof tokens);
    ck_assert_mem_eq(batch.view.targets, targets, sizeof targets);
    ft_batch_free(&batch);
    ft_data_free(&data);
}
END_TEST

START_TEST(texts_become_windows_in_which_every_token_is_a_target_once)
{
    ft_data data =
        read_good("{\"text\": \"abcdefg\"}\n{\"text\": \"hjkl\"}\n{\"text\": \"\"}\n{\"text\": \"qqqq\"}\n");
    /* 9 + 6 + 2 + 6 = 23 tokens: windows begin at 0 and 8 and reach token 16; 6 are left */
    ck_assert_int_eq(data.kind, FT_ROWS_TEXT);
    ck_assert_int_eq(data.n_rows, 2);
    ck_assert_int_eq(data.n_targets, 16);
    ck_assert_int_eq(data.dropped, 6);
    for (int64_t i = 0; i < data.n_rows; i++) {
        ck_assert_int_eq(data.rows[i].begin, i * SEQ_LEN);
        ck_assert_int_eq(data.rows[i].n, SEQ_LEN + 1);
        ck_assert_int_eq(data.rows[i].first_target, 1);
    }
    ck_assert_int_eq(data.tokens[8], END);
    ck_assert_int_eq(data.tokens[9], START);
    ft_data_free(&data);
}
END_TEST

START_TEST(a_window_that_is_filled_exactly_leaves_nothing)
{
    ft_data data = read_good("{\"text\": \"abcdefg\"}\n"); /* <s> + 7 + </s> = SEQ_LEN + 1 */
    ck_assert_int_eq(data.n_rows, 1);
    ck_assert_int_eq(data.dropped, 0);
    ft_data_free(&data);
}
END_TEST

static const struct {
    const char *text, *says;
} refused[] = {
    {"", ": it holds no rows"},
    {"\n\n", ": it holds no rows"},
    {"{\"text\": \"abc\"}\n", ": 5 tokens do not fill one window of 8"},
    {"{\"text\": \"abc\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}", ":2: the row is of another kind"},
    {"{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"text\": \"abc\"}", ":3: the row is of another kind"},
    {"{\"prompt\": \"a\"}", ":1: the row lacks 'completion'"},
    {"{\"completion\": \"a\"}", ":1: the row lacks 'prompt'"},
    {"{}", ":1: the row lacks 'prompt'"},
    {"{\"prompt\": \"a\", \"completion\": \"b\", \"label\": 3}", ":1: unexpected key 'label'"},
    {"{\"text\": \"a\", \"prompt\": \"b\"}", ":1: unexpected key 'prompt'"},
    {"{\"prompt\": 3, \"completion\": \"b\"}", ":1: the value of 'prompt' is not a string"},
    {"{\"text\": null}", ":1: the value of 'text' is not a string"},
    {"[1]", ":1: the row is not an object"},
    {"{\"prompt\": \"a\", \"completion\": \"\"}", ":1: the completion is empty"},
    {"{\"prompt\": \"abcd\", \"completion\": \"efgh\"}",
     ":1: the row takes 9 tokens, the sequence length is 8"},
    {"{\"text\": \"a\"}\n{\"text\": \"b\"", ":2:12: "},
    {"{\"text\": \"a\"} x", ":1:15: "},
    {"{\"text\": \"a\", \"text\": \"b\"}", "duplicate object key"},
    {"{\"text\": \"a\xff\"}", ":1:12: not UTF-8 (byte 0xFF)"},
    {"\xc3", ":1:1: not UTF-8 (byte 0xC3)"},
};

START_TEST(what_is_wrong_is_said_with_file_and_line)
{
    ft_data data;
    ft_error error = {""};
    ck_assert_int_eq(read_text(refused[_i].text, strlen(refused[_i].text), &data, &error), -1);
    ck_assert_msg(strncmp(error.text, "/tmp/lorank-rows-", 17) == 0, "'%s' does not name the file",
                  error.text);
    ck_assert_msg(strstr(error.text, refused[_i].says) != NULL, "'%s' lacks '%s'", error.text,
                  refused[_i].says);
    ck_assert_ptr_null(data.rows);
    ck_assert_ptr_null(data.tokens);
}
END_TEST

START_TEST(a_nul_byte_is_refused)
{
    ft_data data;
    ft_error error;
    ck_assert_int_eq(read_text("{\"text\": \"a\0b\"}\n", 16, &data, &error), -1);
    ck_assert_ptr_nonnull(strstr(error.text, ":1:"));
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    ft_data data;
    ft_error error;
    ck_assert_int_eq(ft_data_read("/nonexistent/rows.jsonl", tokenizer, END, SEQ_LEN, &data, &error), -1);
    ck_assert_str_eq(error.text, "/nonexistent/rows.jsonl: No such file or directory");
}
END_TEST

START_TEST(a_shuffle_is_a_permutation_that_depends_on_seed_and_stream)
{
    enum { N = 100 };
    int64_t a[N], b[N];
    int seen[N] = {0};
    ft_shuffle(a, N, 7, 0);
    for (int i = 0; i < N; i++) {
        ck_assert_int_ge(a[i], 0);
        ck_assert_int_lt(a[i], N);
        ck_assert_int_eq(seen[a[i]]++, 0);
    }
    ft_shuffle(b, N, 7, 0);
    ck_assert_mem_eq(a, b, sizeof a);
    ft_shuffle(b, N, 7, 1);
    ck_assert_mem_ne(a, b, sizeof a);
    ft_shuffle(b, N, 8, 0);
    ck_assert_mem_ne(a, b, sizeof a);
}
END_TEST

START_TEST(a_shuffle_puts_every_item_everywhere_about_equally_often)
{
    enum { N = 4, ROUNDS = 24000 };
    int count[N][N] = {{0}};
    int64_t order[N];
    for (uint64_t s = 0; s < ROUNDS; s++) {
        ft_shuffle(order, N, 3, s);
        for (int i = 0; i < N; i++)
            count[i][order[i]]++;
    }
    /* binomial, p = 1/4: standard deviation sqrt(24000 * 3/16) = 67; five of them around 6000 */
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            ck_assert_int_le(abs(count[i][j] - ROUNDS / N), 336);
}
END_TEST

Suite *data_suite(void);

Suite *data_suite(void)
{
    Suite *suite = suite_create("data");
    TCase *tests = tcase_create("data");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_completion_row_counts_completion_and_end);
    tcase_add_test(tests, a_batch_pads_on_the_right_and_never_counts_prompt_or_padding);
    tcase_add_test(tests, texts_become_windows_in_which_every_token_is_a_target_once);
    tcase_add_test(tests, a_window_that_is_filled_exactly_leaves_nothing);
    tcase_add_loop_test(tests, what_is_wrong_is_said_with_file_and_line, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tests, a_nul_byte_is_refused);
    tcase_add_test(tests, a_missing_file_is_named);
    tcase_add_test(tests, a_shuffle_is_a_permutation_that_depends_on_seed_and_stream);
    tcase_add_test(tests, a_shuffle_puts_every_item_everywhere_about_equally_often);
    suite_add_tcase(suite, tests);
    return suite;
}
