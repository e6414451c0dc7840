/* SPDX-License-Identifier: MIT */
/*
 * What the fused kernels fetch ahead: every block of activations but a call's first has been announced, whole, by the
 * products of the block before it. A stand-in for the kernels looks at their arguments.
 */
#include <check.h>
#include <stdlib.h>

#include "kernels/lora_pack.h"
#include "kernels/lora_parts.h"
#include "kernels/skinny.h"
#include "material.h"

Suite *fetching_suite(void);

#define N_IN  2048
#define RANK  4 /* so few that no block is cut again for rank rows */
#define PARTS 2

static const int64_t n_out[PARTS] = {1072, 768};

static const lrki_skinny *real;
static const char *begin, *end; /* all activations */
static uintptr_t present;       /* block that is read */
static uintptr_t announced;     /* block that is fetched meanwhile; 0: none */
static int64_t not_fetched;     /* rows of it */
static int64_t blocks;

/* A product that reads a block at p. */
static void look(const void *p, const lrki_fetch *fetch)
{
    if ((const char *)p < begin || (const char *)p >= end) return;
    if ((uintptr_t)p != present) {
        if (present != 0 && announced != (uintptr_t)p)
            ck_abort_msg("%s: block %d was not announced", real->name, (int)blocks);
        ck_assert_int_eq(not_fetched, 0);
        present = (uintptr_t)p;
        announced = fetch != NULL ? fetch->next : 0;
        blocks++;
    }
}

static void look_after(const lrki_fetch *fetch)
{
    if (fetch != NULL) not_fetched = fetch->rows;
}

static void dot(const lrki_dot_args *args)
{
    look(args->rows[0], args->fetch);
    real->dot(args);
    look_after(args->fetch);
}

static void update(const lrki_update_args *args)
{
    look(args->dest[0], args->fetch);
    look(args->src[0], args->fetch);
    real->update(args);
    look_after(args->fetch);
}

typedef struct layout {
    float *memory; /* activations, then everything else */
    lrki_lora_part parts[PARTS];
    const float *lists[PARTS][2][RANK];
    float *gradients[PARTS][2][RANK];
    double sums[PARTS][2][4 * RANK];
    float factors[RANK];
} layout;

static float *take(float **free, int64_t n)
{
    float *taken = *free;
    *free += n;
    return taken;
}

static lrki_activations matrix_of(float **free, int64_t rows, int64_t cols)
{
    return (lrki_activations){take(free, rows * cols), cols, LRK_DTYPE_F32};
}

/* A call of `rows` rows in chunks, all of it in one lane. */
static lrki_lora_call call_of(layout *l, const lrki_skinny *kernels, int64_t rows, int64_t n_parts)
{
    const int64_t floats = rows * (2 * N_IN + 4 * 2048) + PARTS * RANK * (6 * (N_IN + 2048) + 5 * rows);
    l->memory = calloc((size_t)floats, sizeof(float));
    ck_assert_ptr_nonnull(l->memory);
    float *free = l->memory;
    lrki_lora_call call = {.rows = rows,
                           .n_in = N_IN,
                           .x = matrix_of(&free, rows, N_IN),
                           .dx = matrix_of(&free, rows, N_IN),
                           .parts = l->parts,
                           .n_parts = n_parts,
                           .kernels = kernels,
                           .is_small = true,
                           .chunk_rows = kernels->blocks.few_rows};
    for (int64_t p = 0; p < n_parts; p++)
        l->parts[p] = (lrki_lora_part){.rank = RANK,
                                       .n_out = n_out[p],
                                       .a = l->lists[p][0],
                                       .b = l->lists[p][1],
                                       .factor = l->factors,
                                       .y = matrix_of(&free, rows, n_out[p]),
                                       .dy = matrix_of(&free, rows, n_out[p]),
                                       .grad_a = l->gradients[p][0],
                                       .grad_b = l->gradients[p][1],
                                       .products = l->sums[p][0],
                                       .partial = l->sums[p][1]};
    begin = (const char *)l->memory;
    end = (const char *)free;
    for (int64_t p = 0; p < n_parts; p++) {
        lrki_lora_part *part = &l->parts[p];
        for (int j = 0; j < RANK; j++) {
            l->factors[j] = 1.0f;
            l->lists[p][0][j] = take(&free, N_IN);
            l->lists[p][1][j] = take(&free, n_out[p]);
            l->gradients[p][0][j] = take(&free, N_IN);
            l->gradients[p][1][j] = take(&free, n_out[p]);
        }
        part->h = take(&free, rows * RANK);
        part->scaled_h = take(&free, rows * RANK);
        part->d = take(&free, rows * RANK);
        part->packed = take(&free, RANK * (lrki_packed_floats(N_IN) + lrki_packed_floats(n_out[p])));
    }
    call.coef = take(&free, rows * RANK * n_parts);
    ck_assert(free <= l->memory + floats);
    present = announced = 0;
    not_fetched = blocks = 0;
    return call;
}

/* Blocks of a matrix of so many columns, of all chunks. */
static int64_t blocks_of(const lrki_lora_call *call, int64_t cols)
{
    int64_t width = lrki_block_cols(call->kernels, cols);
    return lrki_call_chunks(call) * ((cols + width - 1) / width);
}

static lrki_skinny stand_in(int32_t kernels)
{
    real = lrki_skinny_find(kernels);
    if (real == NULL) return (lrki_skinny){0};
    lrki_skinny looking = *real;
    looking.dot = dot;
    looking.update = update;
    return looking;
}

/* _i: kernels */
START_TEST(forward_announces_every_block)
{
    lrki_skinny looking = stand_in(_i);
    if (real == NULL) return;
    for (int64_t n_parts = 1; n_parts <= PARTS; n_parts++)
        for (int64_t rest = 0; rest <= 7; rest += 7) {
            layout l = {0};
            lrki_lora_call call = call_of(&l, &looking, 2 * looking.blocks.few_rows + rest, n_parts);
            int64_t all = blocks_of(&call, N_IN);
            ck_assert_int_eq(lrki_fused_forward(&call), LRK_OK);
            for (int64_t p = 0; p < n_parts; p++)
                all += blocks_of(&call, n_out[p]);
            ck_assert_int_eq(not_fetched, 0);
            ck_assert_int_eq(blocks, all);
            free(l.memory);
        }
}
END_TEST

/* _i: kernels, then whether dx is wanted, whether dA and dB are, and whether forward kept H */
START_TEST(backward_announces_every_block)
{
    lrki_skinny looking = stand_in(_i / 8);
    const bool wants_dx = _i & 1, wants_gradients = _i & 2, has_h = _i & 4;
    if (real == NULL) return;
    for (int64_t n_parts = 1; n_parts <= PARTS; n_parts++) {
        layout l = {0};
        lrki_lora_call call = call_of(&l, &looking, 2 * looking.blocks.few_rows + 7, n_parts);
        int64_t all = (!has_h + wants_dx + wants_gradients) * blocks_of(&call, N_IN);
        if (!wants_dx) call.dx.data = NULL;
        for (int64_t p = 0; p < n_parts; p++) {
            if (has_h) l.parts[p].kept_h = l.parts[p].h;
            if (!wants_gradients) l.parts[p].grad_a = l.parts[p].grad_b = NULL;
            all += blocks_of(&call, n_out[p]);
        }
        ck_assert_int_eq(lrki_fused_backward(&call), LRK_OK);
        ck_assert_int_eq(not_fetched, 0);
        ck_assert_int_eq(blocks, all);
        free(l.memory);
    }
}
END_TEST

Suite *fetching_suite(void)
{
    Suite *suite = suite_create("fetching");
    TCase *tc = tcase_create("fetching");
    tcase_add_loop_test(tc, forward_announces_every_block, 0, N_KERNELS);
    tcase_add_loop_test(tc, backward_announces_every_block, 0, 8 * N_KERNELS);
    suite_add_tcase(suite, tc);
    return suite;
}
