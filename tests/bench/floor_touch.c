/* SPDX-License-Identifier: MIT */
/*
 * Touching operands (floor.h). Values do not matter: lines are read into integer accumulators, and what is written is
 * what was read (xor with a zero that the compiler cannot see), so that y and dx stay as they are.
 * Ways: matrix after matrix or row after row of all of them; with or without software prefetch; on one thread or all.
 */
#include <stdlib.h>
#include <string.h>

#include "floor.h"
#include "machine.h"

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num()  0
#define omp_get_num_threads() 1
#endif

#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
#define STREAMS 8   /* accumulators */
#define AHEAD   768 /* bytes of prefetch: measured, 512 to 1024 are alike and more is slower */

typedef uint32_t vector __attribute__((vector_size(VECTOR), aligned(4), may_alias));

static volatile uint32_t zero, sink;

/* One matrix of a call: whether it is written, and how many bytes a row has. */
typedef struct touched {
    char *data;
    size_t row_bytes;
    bool written;
} touched;

static inline void prefetch_run(const char *p, size_t ahead)
{
    for (size_t line = 0; ahead > 0 && line < STREAMS * VECTOR; line += 64)
        __builtin_prefetch(p + ahead + line);
}

static inline __attribute__((always_inline)) uint32_t read_run(const char *p, size_t bytes, size_t ahead)
{
    vector sum[STREAMS] = {{0}};
    size_t done = 0;
    for (; done + sizeof sum <= bytes; done += sizeof sum) {
        prefetch_run(p + done, ahead);
#pragma GCC unroll 8
        for (int i = 0; i < STREAMS; i++)
            sum[i] ^= ((const vector *)(p + done))[i];
    }
    for (; done + VECTOR <= bytes; done += VECTOR)
        sum[0] ^= *(const vector *)(p + done);
    for (int i = 1; i < STREAMS; i++)
        sum[0] ^= sum[i];
    return sum[0][0];
}

static inline __attribute__((always_inline)) void write_run(char *p, size_t bytes, size_t ahead)
{
    const vector none = zero - (vector){0};
    size_t done = 0;
    for (; done + STREAMS * VECTOR <= bytes; done += STREAMS * VECTOR) {
        prefetch_run(p + done, ahead);
#pragma GCC unroll 8
        for (int i = 0; i < STREAMS; i++)
            ((vector *)(p + done))[i] ^= none;
    }
    for (; done + VECTOR <= bytes; done += VECTOR)
        *(vector *)(p + done) ^= none;
}

static uint32_t touch_run(const touched *m, size_t first, size_t bytes, bool prefetch)
{
    char *p = m->data + first;
    if (!m->written) return prefetch ? read_run(p, bytes, AHEAD) : read_run(p, bytes, 0);
    if (prefetch)
        write_run(p, bytes, AHEAD);
    else
        write_run(p, bytes, 0);
    return 0;
}

/* Rows [row, end) of n matrices, `step` rows of each at a time. */
static void touch_rows(const touched *m, int n, int64_t row, int64_t end, int64_t step, bool prefetch)
{
    uint32_t sum = 0;
    for (; row < end; row += step) {
        int64_t rows = step < end - row ? step : end - row;
        for (int i = 0; i < n; i++)
            sum ^= touch_run(&m[i], (size_t)row * m[i].row_bytes, (size_t)rows * m[i].row_bytes, prefetch);
    }
    sink = sum;
}

/* A share of all of a weight or gradient, in whole vectors. */
static void touch_share(touched m, int64_t thread, int64_t threads, bool prefetch)
{
    size_t n = m.row_bytes / VECTOR, first = n * (size_t)thread / (size_t)threads,
           end = n * (size_t)(thread + 1) / (size_t)threads;
    sink = touch_run(&m, first * VECTOR, (end - first) * VECTOR, prefetch);
}

/* One thread's part: the small operands first, as a kernel would load them. `small` have one row each. */
typedef struct touches {
    touched small[4];
    int n_small;
    touched m[3];
    int n;
    int64_t rows;
} touches;

static void touch_part(const touches *t, int way, int64_t thread, int64_t threads)
{
    const bool prefetch = way & FLOOR_PREFETCH, by_row = way & FLOOR_BY_ROW;
    for (int i = 0; i < t->n_small; i++)
        touch_share(t->small[i], thread, threads, prefetch);
    touch_rows(t->m, t->n, t->rows * thread / threads, t->rows * (thread + 1) / threads, by_row ? 1 : t->rows,
               prefetch);
}

static void touch(const touches *t, int way)
{
    if (machine_threads() == 1 || way & FLOOR_ALONE) {
        touch_part(t, way, 0, 1);
        return;
    }
#pragma omp parallel
    touch_part(t, way, omp_get_thread_num(), omp_get_num_threads());
}

static void forward(void *self, int64_t set)
{
    const floor_rival *f = self;
    const operand_set *o = &f->o->sets[set];
    const size_t rows = (size_t)f->o->shape.tokens;
    const touches t = {.small = {{f->a, f->a_bytes, false}, {f->b, f->b_bytes, false}},
                       .n_small = 2,
                       .m = {{o->x, f->o->x_bytes / rows, false}, {o->y, f->o->y_bytes / rows, true}},
                       .n = 2,
                       .rows = (int64_t)rows};
    touch(&t, f->way);
}

static void backward(void *self, int64_t set)
{
    const floor_rival *f = self;
    const operand_set *o = &f->o->sets[set];
    const size_t rows = (size_t)f->o->shape.tokens;
    const touches t = {.small = {{f->a, f->a_bytes, false},
                                 {f->b, f->b_bytes, false},
                                 {f->grad_a, f->a_bytes, true},
                                 {f->grad_b, f->b_bytes, true}},
                       .n_small = 4,
                       .m = {{o->x, f->o->x_bytes / rows, false},
                             {o->dy, f->o->y_bytes / rows, false},
                             {o->dx, f->o->x_bytes / rows, true}},
                       .n = 3,
                       .rows = (int64_t)rows};
    touch(&t, f->way);
}

rival floor_rival_of(floor_rival *f)
{
    return (rival){.self = f, .forward = forward, .backward = backward};
}

static char *zeros(size_t bytes)
{
    return memset(bench_memory(bytes), 0, bytes);
}

void floor_open(floor_rival *f, const operands *o, int64_t rank)
{
    *f = (floor_rival){.o = o};
    f->a_bytes = (size_t)(rank * o->shape.n_in) * sizeof(float);
    f->b_bytes = (size_t)(rank * o->shape.n_out) * sizeof(float);
    f->a = zeros(f->a_bytes);
    f->b = zeros(f->b_bytes);
    f->grad_a = zeros(f->a_bytes);
    f->grad_b = zeros(f->b_bytes);
}

void floor_close(floor_rival *f)
{
    free(f->a);
    free(f->b);
    free(f->grad_a);
    free(f->grad_b);
    *f = (floor_rival){0};
}
