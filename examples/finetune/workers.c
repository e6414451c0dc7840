/* SPDX-License-Identifier: MIT */
/*
 * Over MPI, with gathers and broadcasts alone: what is summed is summed here, worker after worker. An error in MPI ends
 * all workers, as is MPI's default.
 */
#ifdef LORANK
#include "workers.h"

#include "lorank/lorank.h"

#ifndef FT_MPI

int ft_workers_begin(ft_args *args, ft_error *error)
{
    (void)args;
    (void)error;
    return 0;
}

void ft_workers_end(int status)
{
    (void)status;
}

int ft_workers_many(void)
{
    return 0;
}

int32_t ft_workers_number(void)
{
    return 1;
}

int ft_workers_first(void)
{
    return 1;
}

const char *ft_workers_home(const ft_args *args)
{
    return args->out;
}

void ft_workers_after_first(void)
{
}

int ft_workers_owns(int64_t batch)
{
    (void)batch;
    return 1;
}

const lrk_workers *ft_workers(void)
{
    return NULL;
}

int ft_workers_share(int64_t batch, int64_t *first, int64_t *n, ft_error *error)
{
    (void)error;
    *first = 0;
    *n = batch;
    return 0;
}

void ft_workers_sum(double *values, int n)
{
    (void)values;
    (void)n;
}

int ft_workers_sum_floats(float *values, int64_t n, ft_error *error)
{
    (void)values;
    (void)n;
    (void)error;
    return 0;
}

int ft_workers_sum_gradients(lrk_adapters *adapters, ft_error *error)
{
    (void)adapters;
    (void)error;
    return 0;
}

int ft_workers_check(const lrk_adapters *adapters, const char *what, int64_t at, const char *work,
                     int64_t amount, ft_error *error)
{
    (void)adapters;
    (void)what;
    (void)at;
    (void)work;
    (void)amount;
    (void)error;
    return 0;
}

#else
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUMS_MOST    4
#define WORKERS_MOST 256

static char out_path[4096];
static const char *home;

static int32_t gather(void *user, const double *own, int64_t n, double *all)
{
    (void)user;
    if (n > INT_MAX) return 1;
    return MPI_Allgather(own, (int)n, MPI_DOUBLE, all, (int)n, MPI_DOUBLE, MPI_COMM_WORLD) != MPI_SUCCESS;
}

static lrk_workers self = {.struct_size = sizeof self, .gather = gather, .n_workers = 1};

static int speak_apart(ft_args *args, ft_error *error)
{
    char log[sizeof out_path + 8];
    snprintf(out_path, sizeof out_path, "%s.worker%d", args->out, (int)self.worker);
    snprintf(log, sizeof log, "%s.log", out_path);
    args->out = out_path;
    if (!freopen(log, "w", stdout) || !freopen(log, "a", stderr))
        return ft_fail(error, "cannot write %s", log);
    return 0;
}

int ft_workers_begin(ft_args *args, ft_error *error)
{
    int worker = 0, n = 1;
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &worker);
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    self.worker = worker;
    self.n_workers = n;
    home = args->out;
    if (n == 1) return 0;
    if (n > WORKERS_MOST) return ft_fail(error, "more than %d workers", WORKERS_MOST);
    if (args->mode != FT_MODE_TRAIN) return ft_fail(error, "several workers only train");
    return worker == 0 ? 0 : speak_apart(args, error);
}

void ft_workers_end(int status)
{
    int joined = 0;
    MPI_Initialized(&joined);
    if (!joined) return;
    fflush(stdout);
    if (status != 0 && self.n_workers > 1) MPI_Abort(MPI_COMM_WORLD, status);
    MPI_Finalize();
}

int ft_workers_many(void)
{
    return self.n_workers > 1;
}

int32_t ft_workers_number(void)
{
    return self.n_workers;
}

int ft_workers_first(void)
{
    return self.worker == 0;
}

const char *ft_workers_home(const ft_args *args)
{
    (void)args;
    return home;
}

void ft_workers_after_first(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

int ft_workers_owns(int64_t batch)
{
    return batch % self.n_workers == self.worker;
}

const lrk_workers *ft_workers(void)
{
    return &self;
}

int ft_workers_share(int64_t batch, int64_t *first, int64_t *n, ft_error *error)
{
    if (batch < self.n_workers)
        return ft_fail(error, "a batch of %lld rows for %d workers", (long long)batch, (int)self.n_workers);
    *first = batch * self.worker / self.n_workers;
    *n = batch * (self.worker + 1) / self.n_workers - *first;
    return 0;
}

void ft_workers_sum(double *values, int n)
{
    double all[SUMS_MOST * WORKERS_MOST];
    (void)gather(NULL, values, n, all);
    for (int i = 0; i < n; i++) {
        values[i] = 0;
        for (int w = 0; w < self.n_workers; w++)
            values[i] += all[w * n + i];
    }
}

/* ---- gradients and parameters ---- */

static int64_t modules_of(const lrk_adapters *adapters)
{
    lrk_adapters_info info = {.struct_size = sizeof info};
    (void)lrk_adapters_info_get(adapters, &info);
    return info.modules;
}

/* A, B and gates of a module, or their gradients; empty where there is none. */
static lrk_tensor tensor_of(const lrk_adapters *adapters, int64_t module, int32_t which)
{
    lrk_tensor tensor = {.struct_size = sizeof tensor};
    if (lrk_adapters_tensor(adapters, (int32_t)module, which, &tensor)) tensor.rows = 0;
    return tensor;
}

static const int32_t gradients[] = {LRK_TENSOR_GRAD_A, LRK_TENSOR_GRAD_B, LRK_TENSOR_GRAD_GATES};

/* Between the set's gradients and one run of floats; returns how many there are. floats NULL: counts only. */
static int64_t move_gradients(const lrk_adapters *adapters, float *floats, int into_set)
{
    int64_t n = 0;
    for (int64_t m = 0; m < modules_of(adapters); m++)
        for (int i = 0; i < 3; i++) {
            lrk_tensor t = tensor_of(adapters, m, gradients[i]);
            size_t bytes = (size_t)(t.rows * t.cols) * sizeof *floats;
            if (floats && bytes)
                memcpy(into_set ? t.data : floats + n, into_set ? floats + n : t.data, bytes);
            n += t.rows * t.cols;
        }
    return n;
}

int ft_workers_sum_floats(float *values, int64_t n, ft_error *error)
{
    if (self.n_workers == 1) return 0;
    float *all = self.worker == 0 ? malloc((size_t)(n * self.n_workers) * sizeof *all) : NULL;
    if (n > INT_MAX || (self.worker == 0 && !all)) {
        free(all);
        return ft_fail_memory(error, "what all workers have");
    }
    MPI_Gather(values, (int)n, MPI_FLOAT, all, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    for (int64_t i = 0; all && i < n; i++) {
        double sum = 0;
        for (int w = 0; w < self.n_workers; w++)
            sum += (double)all[w * n + i];
        values[i] = (float)sum;
    }
    free(all);
    MPI_Bcast(values, (int)n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    return 0;
}

int ft_workers_sum_gradients(lrk_adapters *adapters, ft_error *error)
{
    if (self.n_workers == 1) return 0;
    int64_t n = move_gradients(adapters, NULL, 0);
    float *floats = malloc((size_t)n * sizeof *floats);
    if (!floats) return ft_fail_memory(error, "the workers' gradients");
    move_gradients(adapters, floats, 0);
    int failed = ft_workers_sum_floats(floats, n, error);
    if (!failed) move_gradients(adapters, floats, 1);
    free(floats);
    return failed;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t digest_of(const lrk_adapters *adapters)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int64_t m = 0; m < modules_of(adapters); m++) {
        const uint64_t *identities = NULL;
        int64_t rank = 0;
        (void)lrk_adapters_ranks(adapters, (int32_t)m, &identities, NULL, &rank);
        hash = hash_bytes(hash, identities, (size_t)rank * sizeof *identities);
        for (int32_t which = LRK_TENSOR_A; which <= LRK_TENSOR_GATES; which++) {
            lrk_tensor t = tensor_of(adapters, m, which);
            hash = hash_bytes(hash, t.data, (size_t)(t.rows * t.cols) * sizeof *t.data);
        }
    }
    return hash;
}

int ft_workers_check(const lrk_adapters *adapters, const char *what, int64_t at, const char *work,
                     int64_t amount, ft_error *error)
{
    enum { SAID = 3 };
    uint64_t own[SAID] = {digest_of(adapters), (uint64_t)at, (uint64_t)amount}, all[SAID * WORKERS_MOST];
    MPI_Allgather(own, SAID, MPI_UINT64_T, all, SAID, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int w = 1; w < self.n_workers; w++) {
        const uint64_t *theirs = all + SAID * w;
        if (theirs[1] != all[1])
            return ft_fail(error, "worker %d is at %s %lld, worker 0 at %lld", w, what, (long long)theirs[1],
                           (long long)all[1]);
        if (theirs[0] != all[0])
            return ft_fail(error, "after %s %lld worker %d has other ranks or parameters than worker 0", what,
                           (long long)at, w);
    }
    if (self.worker != 0) return 0;
    printf("workers %d  %s %lld  digest %016llx  %s", (int)self.n_workers, what, (long long)at,
           (unsigned long long)own[0], work);
    for (int w = 0; w < self.n_workers; w++)
        printf(" %lld", (long long)all[SAID * w + 2]);
    printf("\n");
    fflush(stdout);
    return 0;
}
#endif
#endif
