/* SPDX-License-Identifier: MIT */
/* The tensor types of ggml by their numbers in GGUF files (ggml/include/ggml.h); three of them convert to f32. */
#include "gguf_parts.h"

static const struct {
    int32_t number;
    int32_t file_type;
    const char *name;
} types[] = {
    {0, 0, "F32"},       {1, 1, "F16"},      {30, 32, "BF16"},    {2, -1, "Q4_0"},   {3, -1, "Q4_1"},
    {6, -1, "Q5_0"},     {7, -1, "Q5_1"},    {8, -1, "Q8_0"},     {9, -1, "Q8_1"},   {10, -1, "Q2_K"},
    {11, -1, "Q3_K"},    {12, -1, "Q4_K"},   {13, -1, "Q5_K"},    {14, -1, "Q6_K"},  {15, -1, "Q8_K"},
    {16, -1, "IQ2_XXS"}, {17, -1, "IQ2_XS"}, {18, -1, "IQ3_XXS"}, {19, -1, "IQ1_S"}, {20, -1, "IQ4_NL"},
    {21, -1, "IQ3_S"},   {22, -1, "IQ2_S"},  {23, -1, "IQ4_XS"},  {24, -1, "I8"},    {25, -1, "I16"},
    {26, -1, "I32"},     {27, -1, "I64"},    {28, -1, "F64"},     {29, -1, "IQ1_M"}, {34, -1, "TQ1_0"},
    {35, -1, "TQ2_0"},   {39, -1, "MXFP4"},  {40, -1, "NVFP4"},   {41, -1, "Q1_0"},  {42, -1, "Q2_0"},
};

bool lrki_gguf_type_find(int32_t number, lrki_gguf_type *type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].number == number) {
            *type = (lrki_gguf_type){number, types[i].file_type, types[i].name,
                                     types[i].file_type < 0 ? NULL : lrki_dtype_find(types[i].name)};
            return true;
        }
    return false;
}

bool lrki_gguf_type_of(int32_t dtype, lrki_gguf_type *type)
{
    switch (dtype) {
    case LRK_DTYPE_F32:
        return lrki_gguf_type_find(0, type);
    case LRK_DTYPE_F16:
        return lrki_gguf_type_find(1, type);
    case LRK_DTYPE_BF16:
        return lrki_gguf_type_find(30, type);
    default:
        return false;
    }
}
