/* SPDX-License-Identifier: MIT */
/*
 * PEFT adapters of other programs, in memory: tensors whose values are dyadic, so that every dtype holds them exactly.
 * The model file is printed here, not by lorank. Everything ck_asserts on failure.
 */
#ifndef PEFT_FILES_H
#define PEFT_FILES_H

#include "gguf_bytes.h"
#include "peft_dir.h"

typedef struct peft_tensor {
    const char *name;  /* after "base_model.model." */
    int64_t shape[4];  /* ended by -1 before the fifth */
    const char *dtype; /* NULL: F32 */
    double plus;       /* added to all values */
} peft_tensor;

/* Element i of every tensor, without plus. */
double peft_value(int64_t i);
gguf_bytes peft_model(const peft_tensor *tensors, int n);
gguf_bytes peft_text(const char *config);

/* Loads from readers over both. */
lrk_status peft_try(gguf_bytes *config, gguf_bytes *model, const lrk_module_spec *modules, int64_t n,
                    lrk_adapters **adapters);
/* Module i has this name and rank, this scale, and A and B of the tensors with these plus. */
void peft_expect(const lrk_adapters *adapters, int32_t module, const char *name, int64_t rank, double scale,
                 double plus_a, double plus_b);

#endif
