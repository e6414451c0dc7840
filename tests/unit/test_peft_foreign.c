/* SPDX-License-Identifier: MIT */
/*
 * Adapters that other programs wrote: LoRA and AdaLoRA by their formulas, patterns by Python's rules, names matched to a
 * host's modules; all that is refused, by name.
 */
#include <check.h>
#include <math.h>
#include <string.h>

#include "formats/peft_parts.h"
#include "peft_files.h"
#include "sets.h"

#define LORA(module, r, n_in, n_out, type, plus_a, plus_b)                                                   \
    {module ".lora_A.weight", {r, n_in, -1, -1}, type, plus_a},                                              \
    {                                                                                                        \
        module ".lora_B.weight", {n_out, r, -1, -1}, type, plus_b                                            \
    }
#define N(array) ((int)(sizeof(array) / sizeof(array)[0]))

static lrk_adapters *loads(const char *config, const peft_tensor *tensors, int n,
                           const lrk_module_spec *modules, int64_t n_modules)
{
    char text[256];
    lrk_adapters *adapters;
    gguf_bytes of_config = peft_text(config), model = peft_model(tensors, n);
    lrk_status status = peft_try(&of_config, &model, modules, n_modules, &adapters);
    lrk_context_error(peft_context, text, sizeof text);
    ck_assert_msg(status == LRK_OK, "%s: %s", lrk_status_name(status), text);
    gguf_bytes_free(&of_config);
    gguf_bytes_free(&model);
    return adapters;
}

static void refused(const char *config, const peft_tensor *tensors, int n, const lrk_module_spec *modules,
                    int64_t n_modules, lrk_status want, const char *words)
{
    lrk_adapters *adapters = (lrk_adapters *)&peft_host;
    gguf_bytes of_config = peft_text(config), model = peft_model(tensors, n);
    sets_expect(peft_context, peft_try(&of_config, &model, modules, n_modules, &adapters), want, words);
    ck_assert_ptr_null(adapters);
    gguf_bytes_free(&of_config);
    gguf_bytes_free(&model);
}

/* ---- LoRA ---- */

START_TEST(lora_of_every_dtype_loads)
{
    static const char *const dtypes[] = {"F32", "F16", "BF16", "F64"};
    const peft_tensor tensors[] = {LORA("m.q", 2, 3, 4, dtypes[_i], 1, 2),
                                   LORA("m.k", 1, 5, 20, dtypes[_i], 3, 4)};
    lrk_adapters *adapters =
        loads("{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6.5,\"rank_pattern\":{\"k\":1}}", tensors,
              N(tensors), NULL, 0);
    ck_assert_int_eq(sets_info(adapters).modules, 2);
    ck_assert_uint_eq(sets_info(adapters).next_identity, 4);
    peft_expect(adapters, 0, "m.k", 1, 6.5, 3, 4);
    peft_expect(adapters, 1, "m.q", 2, 6.5 / 2, 1, 2);
    ck_assert(sets_tensor(adapters, 1, LRK_TENSOR_GATES).data[1] == 1);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(scales_are_alpha_over_the_rank_or_its_root)
{
    const struct {
        const char *config;
        double q, k;
    } rows[] = {
        {"{\"peft_type\":\"LORA\"}", 8 / 8.0, 8 / 8.0},
        {"{\"peft_type\":\"LORA\",\"use_rslora\":true,\"lora_alpha\":3}", 3 / sqrt(8), 3 / sqrt(8)},
        {"{\"peft_type\":\"LORA\",\"use_rslora\":null,\"lora_alpha\":-3,\"alpha_pattern\":null}", -3 / 8.0,
         -3 / 8.0},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"q\":2,\"m.q\":3}}", 2 / 8.0, 1},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"m.q\":3,\"q\":2}}", 3 / 8.0, 1},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"^m\\\\.q\":3,\"m.k$\":2.5}}", 3 / 8.0, 2.5 / 8},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"^q\":3,\"m.\":2,\"m\":4}}", 1, 1},
        {"{\"peft_type\":\"LORA\",\"use_rslora\":true,\"alpha_pattern\":{\".\":0}}", 0, 0},
    };
    const peft_tensor tensors[] = {LORA("m.k", 8, 2, 2, NULL, 0, 0), LORA("m.q", 8, 2, 2, NULL, 0, 0)};
    for (int i = 0; i < N(rows); i++) {
        lrk_adapters *adapters = loads(rows[i].config, tensors, N(tensors), NULL, 0);
        peft_expect(adapters, 0, "m.k", 8, rows[i].k, 0, 0);
        peft_expect(adapters, 1, "m.q", 8, rows[i].q, 0, 0);
        lrk_adapters_destroy(adapters);
    }
}
END_TEST

START_TEST(keys_match_as_in_python)
{
    static const struct {
        const char *key, *name;
        bool matches;
    } rows[] = {{"q", "q", true},
                {"q", "a.q", true},
                {"q", "aq", false},
                {"a.q", "a.q", true},
                {"a.q", "a_q", true},
                {"a\\.q", "a_q", false},
                {"a\\.q", "x.a.q", true},
                {"^a.q", "a.q", true},
                {"^a.q", "x.a.q", false},
                {"^q", "a.q", false},
                {"q$", "a.q", true},
                {"^q$", "q", true},
                {"q\\$", "q$", true},
                {"q\\$", "q", false},
                {".", "\xc3\xa9", true},
                {"..", "\xc3\xa9", false},
                {"\\\xc3\xa9", "\xc3\xa9", true},
                {"", "a.", true},
                {"", "a", false},
                {"q", "q\n", true},
                {".", "\n", false},
                {"q", "a\n.q", false},
                {"a", "a.", false},
                {"]}", "]}", true},
                {".q", "a.q", false},
                {".q", "a..q", true},
                {"\\\\", "\\", true}};
    for (int i = 0; i < N(rows); i++) {
        ck_assert_msg(lrki_peft_pattern_known(rows[i].key), "%s", rows[i].key);
        ck_assert_msg(lrki_peft_pattern_matches(rows[i].key, rows[i].name) == rows[i].matches, "%s on %s",
                      rows[i].key, rows[i].name);
    }
    static const char *const unknown[] = {"a*",  "a+",  "a?",  "(a)", "a|b", "[a]", "a{2}", "a^b",
                                          "a$b", "\\d", "\\1", "a\\", "\\_", "q$$", "^^a",  ".*q"};
    for (int i = 0; i < N(unknown); i++)
        ck_assert_msg(!lrki_peft_pattern_known(unknown[i]), "%s", unknown[i]);
}
END_TEST

START_TEST(an_unknown_number_is_logged_and_passed_over)
{
    const peft_tensor tensors[] = {LORA("q", 8, 2, 2, NULL, 0, 0)};
    lrk_adapters *adapters = loads("{\"peft_type\":\"LORA\",\"new_size\":3,\"new_mode\":null,\"new_list\":[],"
                                   "\"new_flag\":false,\"use_dora\":0,\"peft_version\":\"9\"}",
                                   tensors, 2, NULL, 0);
    ck_assert_ptr_nonnull(strstr(peft_host.log, "new_size"));
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- AdaLoRA ---- */

#define ADALORA(module, k, n_in, n_out, plus)                                                                \
    {module ".lora_A", {k, n_in, -1, -1}, NULL, plus},                                                       \
        {module ".lora_B", {n_out, k, -1, -1}, NULL, plus + 1},                                              \
    {                                                                                                        \
        module ".lora_E", {k, 1, -1, -1}, NULL, plus + 2                                                     \
    }

START_TEST(adalora_goes_into_the_gates)
{
    const peft_tensor tensors[] = {ADALORA("h.0.q", 2, 3, 4, 0), ADALORA("h.0.k", 0, 3, 4, 0),
                                   ADALORA("h.0.v", 3, 3, 4, 1)};
    static const char config[] =
        "{\"peft_type\":\"ADALORA\",\"init_r\":3,\"r\":8,\"lora_alpha\":24,\"use_rslora\":false,\"total_"
        "step\":9,"
        "\"rank_pattern\":{\"h.0.q.lora_E\":[true,false,true],\"h.0.k.lora_E\":[false,false,false]}}";
    lrk_adapters *adapters = loads(config, tensors, N(tensors), NULL, 0);
    peft_expect(adapters, 0, "h.0.k", 0, 24 / (3 + 1e-5), 0, 0);
    peft_expect(adapters, 1, "h.0.q", 2, 24 / (3 + 1e-5), 0, 1);
    peft_expect(adapters, 2, "h.0.v", 3, 24 / (3 + 1e-5), 1, 2);
    for (int64_t j = 0; j < 3; j++)
        ck_assert(sets_tensor(adapters, 2, LRK_TENSOR_GATES).data[j] == (float)(peft_value(j) + 3));
    lrk_adapters_destroy(adapters);
    const peft_tensor plain[] = {ADALORA("q", 12, 2, 2, 0)};
    adapters = loads("{\"peft_type\":\"ADALORA\",\"lora_alpha\":0,\"rank_pattern\":null}", plain, 3, NULL, 0);
    peft_expect(adapters, 0, "q", 12, 12 / (12 + 1e-5), 0, 1);
    lrk_adapters_destroy(adapters);
}
END_TEST

/* ---- modules of the host ---- */

START_TEST(pairs_go_to_the_modules_of_the_host)
{
    const peft_tensor tensors[] = {LORA("model.layers.0.q", 2, 3, 4, NULL, 1, 2),
                                   LORA("k", 2, 3, 4, NULL, 3, 4), LORA("layers.0.o", 2, 3, 4, NULL, 5, 6)};
    lrk_module_spec specs[] = {sets_spec("vision.layers.0.o", 3, 4, 7), sets_spec("layers.0.k", 3, 4, 7),
                               sets_spec("layers.0.o", 3, 4, 7), sets_spec("layers.0.q", 3, 4, 7)};
    specs[0].scale_rule = LRK_SCALE_ALPHA;
    specs[0].scale = 21;
    specs[1].scale_rule = LRK_SCALE_ALPHA_SQRT;
    lrk_adapters *adapters =
        loads("{\"peft_type\":\"LORA\",\"r\":2,\"alpha_pattern\":{\"model.layers.0.q\":3}}", tensors,
              N(tensors), specs, 4);
    ck_assert_int_eq(sets_info(adapters).modules, 4);
    peft_expect(adapters, 0, "vision.layers.0.o", 0, 21 / 7.0, 0, 0);
    peft_expect(adapters, 1, "layers.0.k", 2, 4, 3, 4);
    peft_expect(adapters, 2, "layers.0.o", 2, 4, 5, 6);
    peft_expect(adapters, 3, "layers.0.q", 2, 1.5, 1, 2);
    lrk_adapters_destroy(adapters);
}
END_TEST

START_TEST(pairs_that_fit_no_module_or_several_are_named)
{
    static const struct {
        const char *names[2];
        int64_t n_in;
        lrk_status status;
        const char *words;
    } rows[] = {{{"layers.0.q", "z"}, 3, LRK_ERR_NOT_FOUND, "'h.q' is for none"},
                {{"h.qq", "xh.q"}, 3, LRK_ERR_NOT_FOUND, "'h.q' is for none"},
                {{"a.h.q", "b.h.q"}, 3, LRK_ERR_ARGUMENT, "'h.q' fits several"},
                {{"a.h.q", "q"}, 3, LRK_ERR_ARGUMENT, "'h.q' fits several"},
                {{"h.q", "z"}, 2, LRK_ERR_SHAPE, "'h.q' is 4 x 3, module 'h.q' is 4 x 2"},
                {{NULL, "z"}, 3, LRK_ERR_ARGUMENT, "module 0: name is NULL"},
                {{"h.q", "h.q"}, 3, LRK_ERR_ARGUMENT, "h.q"}};
    const peft_tensor tensors[] = {LORA("h.q", 8, 3, 4, NULL, 0, 0)};
    for (int i = 0; i < N(rows); i++) {
        lrk_module_spec specs[] = {sets_spec(rows[i].names[0], rows[i].n_in, 4, 0),
                                   sets_spec(rows[i].names[1], 3, 4, 0)};
        refused("{\"peft_type\":\"LORA\"}", tensors, 2, specs, 2, rows[i].status, rows[i].words);
    }
    const peft_tensor two[] = {LORA("a.q", 8, 3, 4, NULL, 0, 0), LORA("b.q", 8, 3, 4, NULL, 0, 0)};
    lrk_module_spec spec = sets_spec("q", 3, 4, 0);
    refused("{\"peft_type\":\"LORA\"}", two, 4, &spec, 1, LRK_ERR_ARGUMENT,
            "'a.q' and 'b.q' both fit module 'q'");
}
END_TEST

/* ---- refusals ---- */

START_TEST(what_is_not_computed_is_refused_by_its_field)
{
    static const struct {
        const char *config;
        lrk_status status;
        const char *words;
    } rows[] = {
        {"[]", LRK_ERR_FORMAT, "not an object"},
        {"{}", LRK_ERR_FORMAT, "peft_type"},
        {"{\"peft_type\":1}", LRK_ERR_FORMAT, "peft_type"},
        {"{\"peft_type\":\"LOHA\"}", LRK_ERR_UNSUPPORTED, "peft_type LOHA"},
        {"{\"peft_type\":\"LORA\",\"use_dora\":true}", LRK_ERR_UNSUPPORTED, "use_dora"},
        {"{\"peft_type\":\"LORA\",\"bias\":\"all\"}", LRK_ERR_UNSUPPORTED, "bias"},
        {"{\"peft_type\":\"LORA\",\"bias\":null}", LRK_ERR_UNSUPPORTED, "bias"},
        {"{\"peft_type\":\"LORA\",\"modules_to_save\":[\"head\"]}", LRK_ERR_UNSUPPORTED, "modules_to_save"},
        {"{\"peft_type\":\"LORA\",\"lora_bias\":true}", LRK_ERR_UNSUPPORTED, "lora_bias"},
        {"{\"peft_type\":\"LORA\",\"trainable_token_indices\":[0]}", LRK_ERR_UNSUPPORTED,
         "trainable_token_indices"},
        {"{\"peft_type\":\"LORA\",\"target_parameters\":[\"w\"]}", LRK_ERR_UNSUPPORTED, "target_parameters"},
        {"{\"peft_type\":\"LORA\",\"layer_replication\":[[0,1]]}", LRK_ERR_UNSUPPORTED, "layer_replication"},
        {"{\"peft_type\":\"LORA\",\"megatron_config\":{\"a\":1}}", LRK_ERR_UNSUPPORTED, "megatron_config"},
        {"{\"peft_type\":\"LORA\",\"alora_invocation_tokens\":[1]}", LRK_ERR_UNSUPPORTED,
         "alora_invocation_tokens"},
        {"{\"peft_type\":\"LORA\",\"use_qalora\":1}", LRK_ERR_UNSUPPORTED, "use_qalora"},
        {"{\"peft_type\":\"LORA\",\"init_lora_weights\":\"pissa_niter_4\"}", LRK_ERR_UNSUPPORTED,
         "init_lora_weights"},
        {"{\"peft_type\":\"LORA\",\"init_lora_weights\":\"olora\"}", LRK_ERR_UNSUPPORTED,
         "init_lora_weights"},
        {"{\"peft_type\":\"LORA\",\"init_lora_weights\":\"loftq\"}", LRK_ERR_UNSUPPORTED,
         "init_lora_weights"},
        {"{\"peft_type\":\"LORA\",\"init_lora_weights\":3}", LRK_ERR_UNSUPPORTED, "init_lora_weights"},
        {"{\"peft_type\":\"LORA\",\"new_thing\":true}", LRK_ERR_UNSUPPORTED, "new_thing"},
        {"{\"peft_type\":\"LORA\",\"new_thing\":\"x\"}", LRK_ERR_UNSUPPORTED, "new_thing"},
        {"{\"peft_type\":\"LORA\",\"new_thing\":{\"x\":0}}", LRK_ERR_UNSUPPORTED, "new_thing"},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"(q|k)\":1}}", LRK_ERR_UNSUPPORTED, "(q|k)"},
        {"{\"peft_type\":\"LORA\",\"rank_pattern\":{\".*q\":1}}", LRK_ERR_UNSUPPORTED, ".*q"},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":[]}", LRK_ERR_FORMAT, "alpha_pattern"},
        {"{\"peft_type\":\"LORA\",\"alpha_pattern\":{\"q\":\"1\"}}", LRK_ERR_FORMAT, "alpha_pattern"},
        {"{\"peft_type\":\"LORA\",\"rank_pattern\":{\"q\":1.5}}", LRK_ERR_FORMAT, "rank_pattern"},
        {"{\"peft_type\":\"LORA\",\"rank_pattern\":{\"q\":7}}", LRK_ERR_FORMAT, "rank_pattern contradicts"},
        {"{\"peft_type\":\"LORA\",\"r\":7}", LRK_ERR_FORMAT, "r contradicts"},
        {"{\"peft_type\":\"LORA\",\"rank_pattern\":{\"q\":9}}", LRK_ERR_FORMAT, "rank_pattern contradicts"},
        {"{\"peft_type\":\"LORA\",\"r\":9}", LRK_ERR_FORMAT, "r contradicts"},
        {"{\"peft_type\":\"LORA\",\"r\":0}", LRK_ERR_FORMAT, "r is not"},
        {"{\"peft_type\":\"LORA\",\"r\":8.0}", LRK_ERR_FORMAT, "r is not"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":\"8\"}", LRK_ERR_FORMAT, "lora_alpha"},
        {"{\"peft_type\":\"LORA\",\"use_rslora\":1}", LRK_ERR_FORMAT, "use_rslora"},
        {"{\"peft_type\":\"ADALORA\"}", LRK_ERR_UNSUPPORTED, "q.lora_A.weight"},
        {"{\"peft_type\":\"LORA\",\"r\":8", LRK_ERR_FORMAT, "test config: not valid JSON"},
    };
    const peft_tensor tensors[] = {LORA("q", 8, 2, 2, NULL, 0, 0)};
    for (int i = 0; i < N(rows); i++)
        refused(rows[i].config, tensors, 2, NULL, 0, rows[i].status, rows[i].words);
}
END_TEST

START_TEST(tensors_that_are_no_pair_are_named)
{
    static const struct {
        peft_tensor tensor;
        lrk_status status;
        const char *words;
    } rows[] = {
        {{"k.lora_magnitude_vector.weight", {2, -1, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "use_dora"},
        {{"e.lora_embedding_A", {2, 2, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "embedding"},
        {{"k.lora_B.bias", {2, -1, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "lora_bias"},
        {{"k.bias", {2, -1, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "a bias"},
        {{"e.base_layer.weight", {2, 2, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "save_embedding_layers"},
        {{"e.token_adapter.x", {2, 2, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "trainable_token_indices"},
        {{"lm_head.weight", {2, 2, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "modules_to_save"},
        {{"k.lora_E", {2, 1, -1, -1}, NULL, 0}, LRK_ERR_UNSUPPORTED, "another kind of LoRA"},
        {{"k.lora_A.weight", {8, 2, -1, -1}, NULL, 0}, LRK_ERR_FORMAT, "k.lora_B.weight': is missing"},
        {{"k.lora_B.weight", {2, 8, -1, -1}, NULL, 0}, LRK_ERR_FORMAT, "k.lora_A.weight': is missing"},
    };
    for (int i = 0; i < N(rows); i++) {
        const peft_tensor tensors[] = {LORA("q", 8, 2, 2, NULL, 0, 0), rows[i].tensor};
        refused("{\"peft_type\":\"LORA\"}", tensors, 3, NULL, 0, rows[i].status, rows[i].words);
    }
    static const struct {
        int64_t a[4], b[4];
        const char *dtype;
        lrk_status status;
        const char *words;
    } shapes[] = {
        {{8, 2, 1, 1}, {2, 8, 1, 1}, NULL, LRK_ERR_UNSUPPORTED, "convolution"},
        {{16, -1, -1, -1}, {2, 8, -1, -1}, NULL, LRK_ERR_FORMAT, "lora_A.weight': is not of 2"},
        {{8, 2, -1, -1}, {2, 7, -1, -1}, NULL, LRK_ERR_FORMAT, "lora_B.weight': its shape"},
        {{0, 2, -1, -1}, {2, 0, -1, -1}, NULL, LRK_ERR_FORMAT, "dimension is 0"},
        {{8, 0, -1, -1}, {2, 8, -1, -1}, NULL, LRK_ERR_FORMAT, "lora_A.weight': a dimension is 0"},
        {{8, 2, -1, -1}, {0, 8, -1, -1}, NULL, LRK_ERR_FORMAT, "lora_B.weight': a dimension is 0"},
        {{8, 2, -1, -1}, {2, 8, -1, -1}, "I16", LRK_ERR_UNSUPPORTED, "dtype"},
    };
    for (int i = 0; i < N(shapes); i++) {
        peft_tensor tensors[] = {LORA("q", 8, 2, 2, shapes[i].dtype, 0, 0)};
        memcpy(tensors[0].shape, shapes[i].a, sizeof shapes[i].a);
        memcpy(tensors[1].shape, shapes[i].b, sizeof shapes[i].b);
        refused("{\"peft_type\":\"LORA\"}", tensors, 2, NULL, 0, shapes[i].status, shapes[i].words);
    }
    refused("{\"peft_type\":\"LORA\"}", NULL, 0, NULL, 0, LRK_ERR_FORMAT, "no tensors");
    const peft_tensor infinite[] = {LORA("q", 8, 2, 2, NULL, INFINITY, 0)};
    refused("{\"peft_type\":\"LORA\"}", infinite, 2, NULL, 0, LRK_ERR_FORMAT,
            "lora_A.weight': a value is not finite");
}
END_TEST

START_TEST(adalora_that_contradicts_itself_is_refused)
{
    static const struct {
        const char *config, *words;
    } rows[] = {
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3}", "init_r contradicts the tensors of module 'q'"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":1}", "init_r contradicts the tensors of module 'q'"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":0}", "init_r is not"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3,\"rank_pattern\":[]}", "rank_pattern is not an object"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3,\"rank_pattern\":{\"q.lora_E\":2}}",
         "rank_pattern contradicts"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3,\"rank_pattern\":{\"q.lora_E\":[true,true]}}",
         "rank_pattern contradicts"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3,\"rank_pattern\":{\"q.lora_E\":[true,true,true]}}",
         "rank_pattern contradicts"},
        {"{\"peft_type\":\"ADALORA\",\"init_r\":3,\"rank_pattern\":{\"q.lora_E\":[true,true,0]}}",
         "rank_pattern contradicts"},
    };
    const peft_tensor tensors[] = {ADALORA("q", 2, 2, 2, 0)};
    for (int i = 0; i < N(rows); i++)
        refused(rows[i].config, tensors, 3, NULL, 0, LRK_ERR_FORMAT, rows[i].words);
    peft_tensor wrong[] = {ADALORA("q", 2, 2, 2, 0)};
    wrong[2].shape[0] = 3;
    refused("{\"peft_type\":\"ADALORA\",\"init_r\":2}", wrong, 3, NULL, 0, LRK_ERR_FORMAT,
            "lora_E': its shape");
    refused("{\"peft_type\":\"ADALORA\",\"init_r\":2}", wrong, 2, NULL, 0, LRK_ERR_FORMAT,
            "lora_E': is missing");
}
END_TEST

START_TEST(wrong_arguments_are_named)
{
    lrk_adapters *adapters;
    lrk_module_spec spec = sets_spec("q", 2, 2, 0);
    gguf_bytes config = peft_text("{}"), model = peft_model(NULL, 0);
    lrk_reader reader = gguf_bytes_reader(&config), other = gguf_bytes_reader(&model);
    sets_expect(peft_context, lrk_peft_load_readers(peft_context, NULL, &other, NULL, 0, NULL, &adapters),
                LRK_ERR_ARGUMENT, "config reader");
    sets_expect(peft_context, lrk_peft_load_readers(peft_context, &reader, NULL, NULL, 0, NULL, &adapters),
                LRK_ERR_ARGUMENT, "model reader");
    sets_expect(peft_context, peft_try(&config, &model, &spec, 0, &adapters), LRK_ERR_ARGUMENT, "n_modules");
    sets_expect(peft_context, peft_try(&config, &model, NULL, 1, &adapters), LRK_ERR_ARGUMENT, "n_modules");
    reader.flags = 1;
    sets_expect(peft_context, lrk_peft_load_readers(peft_context, &reader, &other, NULL, 0, NULL, &adapters),
                LRK_ERR_ARGUMENT, "lrk_reader");
    ck_assert_int_eq(lrk_peft_load_readers(peft_context, &reader, &other, NULL, 0, NULL, NULL),
                     LRK_ERR_ARGUMENT);
    ck_assert_int_eq(lrk_peft_load_readers(NULL, &reader, &other, NULL, 0, NULL, &adapters),
                     LRK_ERR_ARGUMENT);
    gguf_bytes_free(&config);
    gguf_bytes_free(&model);
}
END_TEST

Suite *peft_foreign_suite(void);

Suite *peft_foreign_suite(void)
{
    Suite *suite = suite_create("peft_foreign");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, peft_setup, peft_teardown);
    tcase_add_loop_test(cases, lora_of_every_dtype_loads, 0, 4);
    tcase_add_test(cases, scales_are_alpha_over_the_rank_or_its_root);
    tcase_add_test(cases, keys_match_as_in_python);
    tcase_add_test(cases, an_unknown_number_is_logged_and_passed_over);
    tcase_add_test(cases, adalora_goes_into_the_gates);
    tcase_add_test(cases, pairs_go_to_the_modules_of_the_host);
    tcase_add_test(cases, pairs_that_fit_no_module_or_several_are_named);
    tcase_add_test(cases, what_is_not_computed_is_refused_by_its_field);
    tcase_add_test(cases, tensors_that_are_no_pair_are_named);
    tcase_add_test(cases, adalora_that_contradicts_itself_is_refused);
    tcase_add_test(cases, wrong_arguments_are_named);
    suite_add_tcase(suite, cases);
    return suite;
}
