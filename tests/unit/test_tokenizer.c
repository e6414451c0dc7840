/* SPDX-License-Identifier: MIT */
/*
 * The example trainer's tokenizer against what Hugging Face `tokenizers` made of the same texts
 * (tests/golden/tokenizer, with the script that made it), and what it must refuse.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/finetune/tokenizer.h"

#define GOLDEN "tests/golden/tokenizer/"

static const char *const shapes[] = {"prefix_space", "split", "digits"};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static ft_tokenizer *load(const char *shape)
{
    char path[256];
    ft_error error = {""};
    ft_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, GOLDEN "%s.json", shape);
    ck_assert_msg(ft_tokenizer_load(path, &tokenizer, &error) == 0, "%s", error.text);
    return tokenizer;
}

static void compare(const ft_tokens *got, const json_t *want, const char *text)
{
    ck_assert_msg(got->count == json_array_size(want), "'%s': %zu ids instead of %zu", text, got->count,
                  json_array_size(want));
    for (size_t i = 0; i < got->count; i++)
        ck_assert_msg(got->id[i] == json_integer_value(json_array_get(want, i)), "'%s': id %zu is %d", text,
                      i, got->id[i]);
}

static void check_case(const ft_tokenizer *tokenizer, const json_t *item)
{
    ft_error error;
    ft_tokens plain = {0}, full = {0};
    const char *text = json_string_value(json_object_get(item, "text"));
    ck_assert_int_eq(ft_tokenizer_encode(tokenizer, text, strlen(text), &plain, &error), 0);
    compare(&plain, json_object_get(item, "plain_ids"), text);
    ck_assert_int_eq(ft_tokenizer_push_before(tokenizer, &full, &error), 0);
    ck_assert_int_eq(ft_tokenizer_encode(tokenizer, text, strlen(text), &full, &error), 0);
    ck_assert_int_eq(ft_tokenizer_push_after(tokenizer, &full, &error), 0);
    compare(&full, json_object_get(item, "ids"), text);

    char *decoded = NULL;
    size_t bytes = 0;
    ck_assert_int_eq(ft_tokenizer_decode(tokenizer, full.id, full.count, 1, &decoded, &bytes, &error), 0);
    ck_assert_str_eq(decoded, json_string_value(json_object_get(item, "decoded")));
    ck_assert_uint_eq(bytes, strlen(decoded));
    free(decoded);
    ft_tokens_free(&plain);
    ft_tokens_free(&full);
}

START_TEST(ids_and_decoded_text_agree_with_the_reference)
{
    ft_tokenizer *tokenizer = load(shapes[_i]);
    json_t *cases = json_load_file(GOLDEN "cases.json", 0, NULL), *item;
    ck_assert_ptr_nonnull(cases);
    const json_t *list = json_object_get(cases, shapes[_i]);
    size_t i;
    ck_assert_uint_gt(json_array_size(list), 30);
    json_array_foreach(list, i, item) check_case(tokenizer, item);
    json_decref(cases);
    ft_tokenizer_free(tokenizer);
}
END_TEST

static void check_stored(const ft_tokenizer *tokenizer, const json_t *list)
{
    const json_t *item;
    size_t i;
    ck_assert_uint_gt(json_array_size(list), 0);
    json_array_foreach(list, i, item)
    {
        ft_error error;
        ft_tokens ids = {0};
        const char *text = json_string_value(json_object_get(item, "text"));
        ck_assert_int_eq(ft_tokenizer_encode(tokenizer, text, strlen(text), &ids, &error), 0);
        compare(&ids, json_object_get(item, "ids"), text);
        ft_tokens_free(&ids);
    }
}

/* tests/golden/tokenizer_ids.json: the tokenizers of the bundled model and of the small golden one. */
START_TEST(bundled_tokenizers_give_the_stored_ids)
{
    static const char *const paths[] = {"tests/golden/llama-tiny/tokenizer.json",
                                        "examples/models/gloss-llama/tokenizer.json"};
    json_t *root = json_load_file("tests/golden/tokenizer_ids.json", 0, NULL);
    ck_assert_ptr_nonnull(root);
    const json_t *stored = json_array_get(json_object_get(root, "tokenizers"), (size_t)_i);
    ft_tokenizer *tokenizer = NULL;
    ft_error error = {""};
    ck_assert_msg(strstr(paths[_i], json_string_value(json_object_get(stored, "model"))) != NULL,
                  "another order");
    int failed = ft_tokenizer_load(paths[_i], &tokenizer, &error);
    ck_assert_msg(!failed, "%s", error.text);
    check_stored(tokenizer, json_object_get(stored, "texts"));
    check_stored(tokenizer, json_object_get(stored, "markers"));
    ft_tokenizer_free(tokenizer);
    json_decref(root);
}
END_TEST

START_TEST(every_text_decodes_to_itself)
{
    ft_tokenizer *tokenizer = load("split");
    ft_error error;
    char text[64], *decoded = NULL;
    uint64_t state = 12345;
    for (int round = 0; round < 500; round++) {
        size_t n = 0;
        while (n < 50) { /* one, two and three byte characters */
            state = state * 6364136223846793005u + 1442695040888963407u;
            unsigned kind = (unsigned)(state >> 33) % 3, low = (unsigned)(state >> 40) & 63;
            if (kind == 0) text[n++] = (char)(low + 33);
            if (kind == 1) n += (size_t)sprintf(text + n, "%c%c", 0xC3, (int)(0x80 | low));
            if (kind == 2) n += (size_t)sprintf(text + n, "%c%c%c", 0xE4, 0xB8, (int)(0x80 | low));
        }
        ft_tokens ids = {0};
        size_t bytes = 0;
        ck_assert_int_eq(ft_tokenizer_encode(tokenizer, text, n, &ids, &error), 0);
        ck_assert_int_eq(ft_tokenizer_decode(tokenizer, ids.id, ids.count, 0, &decoded, &bytes, &error), 0);
        ck_assert_uint_eq(bytes, n);
        ck_assert_mem_eq(decoded, text, n);
        free(decoded);
        ft_tokens_free(&ids);
    }
    ft_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(a_long_word_takes_no_quadratic_time)
{
    ft_tokenizer *tokenizer = load("digits");
    enum { BYTES = 1 << 20 };
    char *word = malloc(BYTES);
    ft_error error;
    ft_tokens ids = {0};
    for (int i = 0; i < BYTES; i++)
        word[i] = "an"[i & 1];
    ck_assert_int_eq(ft_tokenizer_encode(tokenizer, word, BYTES, &ids, &error), 0);
    ck_assert_uint_gt(ids.count, 0);
    free(word);
    ft_tokens_free(&ids);
    ft_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(invalid_utf8_is_an_error_that_says_where)
{
    static const struct {
        const char *text;
        size_t bytes, at;
    } bad[] = {{"ab\xff", 3, 3},          {"\xc0\xaf", 2, 1},         {"a\xe4\xb8", 3, 2},
               {"\xed\xa0\x80", 3, 1},    {"\xf4\x90\x80\x80", 4, 1}, {"x\x80", 2, 2},
               {"\xf0\x80\x80\x80", 4, 1}};
    ft_tokenizer *tokenizer = load("digits");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ft_error error;
        ft_tokens ids = {0};
        char where[32];
        ck_assert_int_eq(ft_tokenizer_encode(tokenizer, bad[i].text, bad[i].bytes, &ids, &error), -1);
        snprintf(where, sizeof where, "not UTF-8 at byte %zu ", bad[i].at);
        ck_assert_msg(strncmp(error.text, where, strlen(where)) == 0, "%s", error.text);
        ft_tokens_free(&ids);
    }
    ft_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(added_tokens_are_found_by_name)
{
    ft_tokenizer *tokenizer = load("split");
    ck_assert_int_eq(ft_tokenizer_added_id(tokenizer, "</s>"), 1);
    ck_assert_int_eq(ft_tokenizer_added_id(tokenizer, "the"), FT_NO_TOKEN);
    ck_assert_int_eq(ft_tokenizer_n_ids(tokenizer), 423);
    ft_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(an_unknown_id_is_an_error)
{
    ft_tokenizer *tokenizer = load("split");
    ft_error error;
    char *text = NULL;
    size_t bytes = 0;
    int32_t ids[] = {5, 423};
    ck_assert_int_eq(ft_tokenizer_decode(tokenizer, ids, 2, 0, &text, &bytes, &error), -1);
    ck_assert_str_eq(error.text, "no token has the id 423");
    ck_assert_ptr_null(text);
    ft_tokenizer_free(tokenizer);
}
END_TEST

/* A tokenizer.json that is well formed but for one part. */
#define FILE_WITH(pre, model, rest) "{\"pre_tokenizer\":" pre ",\"model\":" model rest "}"
#define BYTES_PRE                   "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define SMALL_MODEL                 "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static const struct {
    const char *json, *says;
} refused[] = {
    {"", "end of file"},
    {"{", "expected"},
    {"[]", "it is not a JSON object"},
    {"{\"a\":1,\"a\":2}", "duplicate object key"},
    {"{}", "it has no 'model'"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"normalizer\":{\"type\":\"NFC\"}"),
     "normalizer 'NFC' is not supported"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"decoder\":{\"type\":\"WordPiece\"}"), "decoder 'WordPiece'"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"truncation\":{\"max_length\":5}"), "uses 'truncation'"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"padding\":{\"length\":5}"), "uses 'padding'"},
    {FILE_WITH(BYTES_PRE, "{\"type\":\"Unigram\",\"vocab\":[]}", ""),
     "model type 'Unigram' is not supported"},
    {FILE_WITH(BYTES_PRE, "{\"type\":\"BPE\",\"dropout\":0.1}", ""), "uses 'dropout'"},
    {FILE_WITH(BYTES_PRE, "{\"type\":\"BPE\",\"unk_token\":\"?\"}", ""), "uses 'unk_token'"},
    {FILE_WITH(BYTES_PRE, "{\"type\":\"BPE\",\"byte_fallback\":true}", ""), "uses 'byte_fallback'"},
    {FILE_WITH(BYTES_PRE, "{\"type\":\"BPE\"}", ""), "lacks 'vocab' or 'merges'"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":-1},\"merges\":[]}", ""), "token 'a' has no usable id"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":1e3},\"merges\":[]}", ""), "token 'a' has no usable id"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{},\"merges\":[]}", ""), "the vocabulary is empty"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}", ""),
     "the id 0 is given to two tokens"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}", ""), "merge 'a c' needs a token"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}", ""), "merge 0 is not a pair"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}", ""), "merge 0 is not a pair"},
    {FILE_WITH(BYTES_PRE, "{\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"a a\"]}", ""), "listed twice"},
    {FILE_WITH("null", SMALL_MODEL, ""), "exactly the last step must be ByteLevel"},
    {FILE_WITH("{\"type\":\"Whitespace\"}", SMALL_MODEL, ""), "exactly the last step must be ByteLevel"},
    {FILE_WITH("{\"type\":\"Sequence\",\"pretokenizers\":[]}", SMALL_MODEL, ""), "has no steps"},
    {FILE_WITH("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\"}," BYTES_PRE "]}",
               SMALL_MODEL, ""),
     "pre-tokenizer 'Metaspace' is not supported"},
    {FILE_WITH("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\" "
               "\"}}," BYTES_PRE "]}",
               SMALL_MODEL, ""),
     "only a pattern of kind Regex"},
    {FILE_WITH("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
               "\"behavior\":\"Removed\"}," BYTES_PRE "]}",
               SMALL_MODEL, ""),
     "behavior 'Removed' is not supported"},
    {FILE_WITH("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(\"},"
               "\"behavior\":\"Isolated\"}," BYTES_PRE "]}",
               SMALL_MODEL, ""),
     "pattern 'a(', at character 3"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"added_tokens\":[{\"id\":3,\"content\":\"<m>\",\"lstrip\":true}]"),
     "<m> uses 'lstrip'"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"added_tokens\":[{\"content\":\"<m>\"}]"),
     "added token 0 has no usable id"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL, ",\"post_processor\":{\"type\":\"RobertaProcessing\"}"),
     "post-processor 'RobertaProcessing' is not supported"},
    {FILE_WITH(BYTES_PRE, SMALL_MODEL,
               ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
               "\"q\"}}]}"),
     "token 'q' has no ids"},
};

static int load_text(const char *text, ft_tokenizer **tokenizer, ft_error *error)
{
    char path[] = "/tmp/lorank-tokenizer-XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    int failed = ft_tokenizer_load(path, tokenizer, error);
    unlink(path);
    return failed;
}

START_TEST(what_would_change_ids_is_refused_by_name)
{
    ft_error error = {""};
    ft_tokenizer *tokenizer = NULL;
    ck_assert_int_eq(load_text(refused[_i].json, &tokenizer, &error), -1);
    ck_assert_ptr_null(tokenizer);
    ck_assert_msg(strstr(error.text, refused[_i].says) != NULL, "'%s' lacks '%s'", error.text,
                  refused[_i].says);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    ft_error error;
    ft_tokenizer *tokenizer = NULL;
    ck_assert_int_eq(ft_tokenizer_load("/nonexistent/tokenizer.json", &tokenizer, &error), -1);
    ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/tokenizer.json"));
}
END_TEST

START_TEST(a_byte_without_token_is_an_error)
{
    ft_error error = {""};
    ft_tokenizer *tokenizer = NULL;
    ft_tokens ids = {0};
    ck_assert_msg(load_text(FILE_WITH(BYTES_PRE, SMALL_MODEL, ""), &tokenizer, &error) == 0, "%s",
                  error.text);
    ck_assert_int_eq(ft_tokenizer_encode(tokenizer, "abb", 3, &ids, &error), 0);
    ck_assert_uint_eq(ids.count, 2);
    ck_assert_int_eq(ids.id[0], 2);
    ck_assert_int_eq(ft_tokenizer_encode(tokenizer, "abc", 3, &ids, &error), -1);
    ck_assert_str_eq(error.text, "the vocabulary has no token for the byte 0x63");
    ft_tokens_free(&ids);
    ft_tokenizer_free(tokenizer);
}
END_TEST

Suite *tokenizer_suite(void);

Suite *tokenizer_suite(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tests = tcase_create("tokenizer");
    tcase_add_loop_test(tests, ids_and_decoded_text_agree_with_the_reference, 0, N_SHAPES);
    tcase_add_loop_test(tests, bundled_tokenizers_give_the_stored_ids, 0, 2);
    tcase_add_test(tests, every_text_decodes_to_itself);
    tcase_add_test(tests, a_long_word_takes_no_quadratic_time);
    tcase_add_test(tests, invalid_utf8_is_an_error_that_says_where);
    tcase_add_test(tests, added_tokens_are_found_by_name);
    tcase_add_test(tests, an_unknown_id_is_an_error);
    tcase_add_loop_test(tests, what_would_change_ids_is_refused_by_name, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tests, a_missing_file_is_named);
    tcase_add_test(tests, a_byte_without_token_is_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}
