/* SPDX-License-Identifier: MIT */
/*
 * Files against dd: files FOLDER [GIB [ROUNDS]]. Writes and reads an adapter set of about that size as safetensors, PEFT
 * directory and checkpoint, and as many bytes by dd, in turn. All writes are synced; reads follow the write, from the
 * system's cache. PEFT directories are written with an lora_alpha that leaves B as it is, and with one that does not. dd reads
 * through a buffer of 1 MiB, as reading a tensor at a time does, and whole into memory of its own, as loading a set does.
 * Prints the least, the median and the most seconds of each, the shares of dd's speed in both, and the least processor
 * seconds outside of the kernel: what a file costs beyond moving its bytes, which in a virtual machine varies with where
 * its memory comes from. What was written is removed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lorank/lorank.h"

#define WIDTH      4096
#define RANK       64
#define MODULES    4096
#define PER_MODULE (2.0 * WIDTH * RANK * sizeof(float))
#define ALPHA      16
#define ODD_FACTOR                                                                                           \
    3 /* scale * rank / alpha of PEFT's usual alpha: B changes, and its metadata says how it comes back */
#define TENSOR_ROWS ((int64_t)RANK * WIDTH)

typedef struct bench {
    char folder[512], path[640], command[2048];
    int64_t n_modules;
    lrk_context *context;
    lrk_adapters *adapters;
    lrk_tensor *tensors; /* [2 * n_modules] */
    lrk_module_spec *specs;
    char (*names)[64];
    float *values; /* of one tensor */
} bench;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(const bench *b, lrk_status status, const char *what)
{
    char text[512];
    if (status == LRK_OK) return;
    lrk_context_error(b->context, text, sizeof text);
    fprintf(stderr, "%s: %s: %s\n", what, lrk_status_name(status), text);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *path_of(bench *b, const char *name)
{
    snprintf(b->path, sizeof b->path, "%s/%s", b->folder, name);
    return b->path;
}

/* ---- the set ---- */

static lrk_adapters *make_set(bench *b)
{
    lrk_adapters_options options;
    lrk_adapters *adapters;
    check(b, lrk_adapters_options_init(&options, sizeof options), "options");
    options.flags = LRK_ADAPTERS_INFERENCE;
    check(b, lrk_adapters_create(b->context, b->specs, b->n_modules, &options, &adapters), "adapters");
    return adapters;
}

static void fill_tensor(bench *b, int64_t i)
{
    static uint32_t state = 1;
    lrk_tensor *t = &b->tensors[i];
    t->struct_size = sizeof *t;
    check(b, lrk_adapters_tensor(b->adapters, (int32_t)(i / 2), i % 2 == 0 ? LRK_TENSOR_A : LRK_TENSOR_B, t),
          "tensor");
    for (int64_t k = 0; k < t->rows * t->cols; k++) {
        state = state * 1664525u + 1013904223u;
        t->data[k] = (float)(int32_t)state * 0x1p-34f;
    }
}

static void make_adapters(bench *b)
{
    b->specs = calloc((size_t)b->n_modules, sizeof *b->specs);
    b->names = calloc((size_t)(2 * b->n_modules), sizeof *b->names);
    b->tensors = calloc((size_t)(2 * b->n_modules), sizeof *b->tensors);
    b->values = malloc((size_t)TENSOR_ROWS * sizeof *b->values);
    if (b->specs == NULL || b->names == NULL || b->tensors == NULL || b->values == NULL) fail("no memory");
    for (int64_t i = 0; i < b->n_modules; i++) {
        lrk_module_spec *spec = &b->specs[i];
        check(b, lrk_module_spec_init(spec, sizeof *spec), "spec");
        snprintf(b->names[2 * i], sizeof *b->names, "layers.%04d.linear", (int)i);
        spec->name = b->names[2 * i];
        spec->n_in = spec->n_out = WIDTH;
        spec->rank = RANK;
        spec->scale = (double)ODD_FACTOR * ALPHA / RANK;
    }
    b->adapters = make_set(b);
    for (int64_t i = 0; i < 2 * b->n_modules; i++)
        fill_tensor(b, i);
}

/* ---- what is timed ---- */

static void run(bench *b, const char *from, const char *to, int64_t mib, const char *conversion)
{
    double all = (double)b->n_modules * PER_MODULE / 1048576;
    snprintf(b->command, sizeof b->command, "dd if='%s' of='%s' bs=%lldM count=%.0f %s 2>/dev/null", from, to,
             (long long)(mib > 0 ? mib : (int64_t)all), mib > 0 ? all / (double)mib : 1, conversion);
    if (system(b->command) != 0) fail("dd failed");
}

static void write_dd(bench *b)
{
    char to[640];
    strcpy(to, path_of(b, "dd"));
    run(b, "/dev/zero", to, 1, "conv=fsync");
}

static void read_dd(bench *b)
{
    char from[640];
    strcpy(from, path_of(b, "dd"));
    run(b, from, "/dev/null", 1, "");
}

static void read_dd_whole(bench *b)
{
    char from[640];
    strcpy(from, path_of(b, "dd"));
    run(b, from, "/dev/null", 0, "");
}

static int32_t fill(void *user, int64_t tensor, uint64_t offset, void *data, size_t n)
{
    const bench *b = user;
    memcpy(data, (const char *)b->tensors[tensor].data + offset, n);
    return 0;
}

static void write_safetensors(bench *b)
{
    int64_t n = 2 * b->n_modules;
    lrk_safetensors_item *items = calloc((size_t)n, sizeof *items);
    char(*names)[80] = calloc((size_t)n, sizeof *names);
    lrk_safetensors_content content;
    if (items == NULL || names == NULL) fail("no memory");
    for (int64_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof *names, "%s.%s", b->names[i / 2 * 2], i % 2 == 0 ? "A" : "B");
        items[i] = (lrk_safetensors_item){.struct_size = sizeof *items, .n_dims = 2, .name = names[i]};
        items[i].dtype = "F32";
        items[i].shape[0] = b->tensors[i].rows;
        items[i].shape[1] = b->tensors[i].cols;
    }
    check(b, lrk_safetensors_content_init(&content, sizeof content), "content");
    content.tensors = items;
    content.n_tensors = n;
    content.user = b;
    content.fill = fill;
    check(b, lrk_safetensors_save(b->context, path_of(b, "set.safetensors"), &content), "safetensors");
    free(items);
    free(names);
}

static void read_safetensors(bench *b)
{
    lrk_safetensors *file;
    check(b, lrk_safetensors_open(b->context, path_of(b, "set.safetensors"), &file), "safetensors");
    for (int64_t i = 0; i < lrk_safetensors_count(file); i++)
        check(b, lrk_safetensors_read_f32(file, i, b->values, TENSOR_ROWS), "safetensors");
    lrk_safetensors_close(file);
}

static void save_peft(bench *b, double alpha)
{
    lrk_peft_options options;
    check(b, lrk_peft_options_init(&options, sizeof options), "options");
    options.alpha = alpha;
    check(b, lrk_peft_save(b->adapters, path_of(b, "peft"), &options), "PEFT");
}

static void write_peft(bench *b)
{
    save_peft(b, ODD_FACTOR * ALPHA);
}

static void write_folded(bench *b)
{
    save_peft(b, ALPHA);
}

static void read_peft(bench *b)
{
    lrk_adapters_options options;
    lrk_adapters *loaded;
    check(b, lrk_adapters_options_init(&options, sizeof options), "options");
    options.flags = LRK_ADAPTERS_INFERENCE;
    check(b, lrk_peft_load(b->context, path_of(b, "peft"), NULL, 0, &options, &loaded), "PEFT");
    lrk_adapters_destroy(loaded);
}

static lrk_checkpoint *list(bench *b, lrk_adapters *adapters)
{
    lrk_checkpoint *checkpoint;
    check(b, lrk_checkpoint_create(b->context, &checkpoint), "checkpoint");
    check(b, lrk_checkpoint_add_adapters(checkpoint, "set", adapters), "checkpoint");
    return checkpoint;
}

static void write_checkpoint(bench *b)
{
    lrk_checkpoint *checkpoint = list(b, b->adapters);
    check(b, lrk_checkpoint_save(checkpoint, path_of(b, "checkpoint"), NULL), "checkpoint");
    lrk_checkpoint_destroy(checkpoint);
}

/* Into a set that is not the one saved, as when a run goes on: of values that are there already more is read and less is written. */
static void read_checkpoint(bench *b)
{
    lrk_checkpoint *checkpoint = list(b, b->adapters);
    b->tensors[0].data[0] += 1;
    lrk_checkpoint_file *file;
    check(b, lrk_checkpoint_open(b->context, path_of(b, "checkpoint"), NULL, &file), "checkpoint");
    check(b, lrk_checkpoint_restore(file, checkpoint, NULL), "checkpoint");
    lrk_checkpoint_close(file);
    lrk_checkpoint_destroy(checkpoint);
}

enum { WRITE, READ, READ_WHOLE }; /* what dd did: indices of its acts */

static const struct {
    const char *name;
    void (*act)(bench *b);
    int against;
} acts[] = {{"dd, write", write_dd, WRITE},
            {"dd, read", read_dd, READ},
            {"dd, read whole", read_dd_whole, READ_WHOLE},
            {"safetensors, write", write_safetensors, WRITE},
            {"safetensors, read", read_safetensors, READ},
            {"PEFT, save", write_peft, WRITE},
            {"PEFT, load", read_peft, READ_WHOLE},
            {"PEFT folded, save", write_folded, WRITE},
            {"PEFT folded, load", read_peft, READ_WHOLE},
            {"checkpoint, save", write_checkpoint, WRITE},
            {"checkpoint, restore", read_checkpoint, READ_WHOLE}};
#define N_ACTS ((int)(sizeof acts / sizeof *acts))

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double own_seconds(void)
{
    struct rusage mine, of_dd;
    getrusage(RUSAGE_SELF, &mine);
    getrusage(RUSAGE_CHILDREN, &of_dd);
    return (double)(mine.ru_utime.tv_sec + of_dd.ru_utime.tv_sec) +
           1e-6 * (double)(mine.ru_utime.tv_usec + of_dd.ru_utime.tv_usec);
}

static void measure(bench *b, int rounds, double *took[N_ACTS], double *own[N_ACTS])
{
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < N_ACTS; i++) {
            double start = now(), start_own = own_seconds();
            acts[i].act(b);
            own[i][round] = own_seconds() - start_own;
            took[i][round] = now() - start;
        }
    for (int i = 0; i < N_ACTS; i++) {
        qsort(took[i], (size_t)rounds, sizeof(double), by_value);
        qsort(own[i], (size_t)rounds, sizeof(double), by_value);
    }
}

static void report(const bench *b, int rounds, double *took[N_ACTS], double *own[N_ACTS])
{
    printf("%.2f GB, %d rounds: seconds, shares of dd's speed in the least and the median, processor seconds "
           "of their own\n",
           (double)b->n_modules * PER_MODULE * 1e-9, rounds);
    printf("%-20s %6s %6s %6s  %6s %6s  %6s\n", "", "least", "median", "most", "least", "median", "own");
    for (int i = 0; i < N_ACTS; i++) {
        const double *t = took[i], *dd = took[acts[i].against];
        printf("%-20s %6.2f %6.2f %6.2f  %4.0f %% %4.0f %%  %6.2f  %s\n", acts[i].name, t[0], t[rounds / 2],
               t[rounds - 1], 100 * dd[0] / t[0], 100 * dd[rounds / 2] / t[rounds / 2], own[i][0],
               acts[acts[i].against].name);
    }
}

static void remove_all(bench *b)
{
    static const char *const files[] = {"dd", "set.safetensors", "peft/adapter_model.safetensors",
                                        "peft/adapter_config.json", "checkpoint"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(path_of(b, files[i]));
    rmdir(path_of(b, "peft"));
}

int main(int argc, char **argv)
{
    bench b = {0};
    double *took[N_ACTS], *own[N_ACTS];
    if (argc < 2) {
        fputs("usage: files FOLDER [GIB [ROUNDS]]\n", stderr);
        return 2;
    }
    snprintf(b.folder, sizeof b.folder, "%s", argv[1]);
    b.n_modules = (int64_t)((argc > 2 ? atof(argv[2]) : 1) * 0x1p30 / PER_MODULE + 0.5);
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    if (b.n_modules < 1 || b.n_modules > MODULES || rounds < 1) fail("GIB: 0.004 to 16; ROUNDS: 1 or more");
    for (int i = 0; i < N_ACTS; i++) {
        took[i] = calloc((size_t)rounds, sizeof(double));
        own[i] = calloc((size_t)rounds, sizeof(double));
        if (took[i] == NULL || own[i] == NULL) fail("no memory");
    }
    check(&b, lrk_context_create(NULL, &b.context, NULL, 0), "context");
    make_adapters(&b);
    measure(&b, rounds, took, own);
    report(&b, rounds, took, own);
    remove_all(&b);
    lrk_adapters_destroy(b.adapters);
    lrk_context_destroy(b.context);
    for (int i = 0; i < N_ACTS; i++) {
        free(took[i]);
        free(own[i]);
    }
    free(b.specs);
    free(b.names);
    free(b.tensors);
    free(b.values);
    return 0;
}
