/* SPDX-License-Identifier: MIT */
/* Adapters of other programs (peft_files.h). */
#include "peft_files.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "half.h"
#include "sets.h"

double peft_value(int64_t i)
{
    return (double)(i * 5 % 13 - 6) / 4;
}

static void put_value(gguf_bytes *data, const char *dtype, double value)
{
    float single = (float)value;
    if (strcmp(dtype, "F64") == 0) {
        gguf_put(data, &value, sizeof value);
    } else if (strcmp(dtype, "F32") == 0) {
        gguf_put(data, &single, sizeof single);
    } else {
        uint16_t half = half_encode(strcmp(dtype, "F16") == 0 ? LRK_DTYPE_F16 : LRK_DTYPE_BF16, value);
        gguf_put(data, &half, sizeof half);
    }
}

static void put_words(gguf_bytes *bytes, const char *text)
{
    gguf_put(bytes, text, strlen(text));
}

static void put_tensor(gguf_bytes *header, gguf_bytes *data, const peft_tensor *tensor)
{
    char text[512], extents[96] = "";
    const char *dtype = tensor->dtype == NULL ? "F32" : tensor->dtype;
    int64_t count = 1;
    size_t begin = data->n;
    for (int i = 0; i < 4 && tensor->shape[i] >= 0; i++) {
        snprintf(extents + strlen(extents), sizeof extents - strlen(extents), "%s%lld", i == 0 ? "" : ",",
                 (long long)tensor->shape[i]);
        count *= tensor->shape[i];
    }
    for (int64_t i = 0; i < count; i++)
        put_value(data, dtype, peft_value(i) + tensor->plus);
    snprintf(text, sizeof text,
             "%s\"base_model.model.%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             header->n == 1 ? "" : ",", tensor->name, dtype, extents, begin, data->n);
    put_words(header, text);
}

gguf_bytes peft_model(const peft_tensor *tensors, int n)
{
    gguf_bytes header = gguf_bytes_new(), data = gguf_bytes_new(), file = gguf_bytes_new();
    put_words(&header, "{");
    for (int i = 0; i < n; i++)
        put_tensor(&header, &data, &tensors[i]);
    put_words(&header, "}");
    gguf_put_u64(&file, header.n);
    gguf_put(&file, header.data, header.n);
    gguf_put(&file, data.data, data.n);
    gguf_bytes_free(&header);
    gguf_bytes_free(&data);
    return file;
}

gguf_bytes peft_text(const char *config)
{
    gguf_bytes bytes = gguf_bytes_new();
    put_words(&bytes, config);
    return bytes;
}

lrk_status peft_try(gguf_bytes *config, gguf_bytes *model, const lrk_module_spec *modules, int64_t n,
                    lrk_adapters **adapters)
{
    lrk_reader of_config = gguf_bytes_reader(config), of_model = gguf_bytes_reader(model);
    of_config.name = "test config";
    return lrk_peft_load_readers(peft_context, &of_config, &of_model, modules, n, NULL, adapters);
}

void peft_expect(const lrk_adapters *adapters, int32_t module, const char *name, int64_t rank, double scale,
                 double plus_a, double plus_b)
{
    lrk_module_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(lrk_adapters_module(adapters, module, &info), LRK_OK);
    ck_assert_str_eq(info.name, name);
    ck_assert_int_eq(info.rank, rank);
    ck_assert_msg(info.scale == scale, "%s: scale %.17g, not %.17g", name, info.scale, scale);
    lrk_tensor a = sets_tensor(adapters, module, LRK_TENSOR_A),
               b = sets_tensor(adapters, module, LRK_TENSOR_B);
    for (int64_t i = 0; i < rank * info.n_in; i++)
        ck_assert(a.data[i] == (float)(peft_value(i) + plus_a));
    for (int64_t j = 0; j < rank; j++)
        for (int64_t o = 0; o < info.n_out; o++)
            ck_assert(b.data[j * info.n_out + o] == (float)(peft_value(o * rank + j) + plus_b));
}
