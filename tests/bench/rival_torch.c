/* SPDX-License-Identifier: MIT */
/*
 * PyTorch as a contender (rivals.h): torch_lora.py answers one line of JSON for each that it is asked, so that its
 * figures are taken right after the others' of the same shape.
 */
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "rivals.h"

struct torch_rival {
    child process;
    char version[64];
};

/* The next line of the process as JSON; NULL if there is none. */
static json_t *read_answer(torch_rival *r)
{
    char line[512];
    return fgets(line, sizeof line, r->process.from) != NULL ? json_loads(line, 0, NULL) : NULL;
}

torch_rival *torch_start(const char *python, const char *script, int threads)
{
    char number[16];
    snprintf(number, sizeof number, "%d", threads);
    char *argv[] = {(char *)python, (char *)script, number, NULL};
    torch_rival *r = bench_memory(sizeof *r);
    signal(SIGPIPE, SIG_IGN);
    bool started = child_start(&r->process, argv, threads);
    json_t *hello = started ? read_answer(r) : NULL;
    const char *version = json_string_value(json_object_get(hello, "torch"));
    if (version != NULL) snprintf(r->version, sizeof r->version, "%s", version);
    json_decref(hello);
    if (version != NULL) return r;
    if (started) child_wait(&r->process);
    free(r);
    fprintf(stderr, "bench-kernels: no PyTorch in '%s': torch_us is null\n", python);
    return NULL;
}

void torch_stop(torch_rival *r)
{
    if (r == NULL) return;
    child_wait(&r->process);
    free(r);
}

const char *torch_version(const torch_rival *r)
{
    return r != NULL ? r->version : NULL;
}

bool torch_measure(torch_rival *r, const operands *o, int64_t rank, int op, double budget_ms, double *minimum,
                   double *median)
{
    if (r == NULL || o->shape.dtype != GRID_F32) return false;
    json_t *question = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "op", grid_op_name(op), "tokens",
                                 (json_int_t)o->shape.tokens, "d_in", (json_int_t)o->shape.n_in, "d_out",
                                 (json_int_t)o->shape.n_out, "rank", (json_int_t)rank, "sets",
                                 (json_int_t)o->n_sets, "scale", RIVAL_SCALE, "budget_ms", budget_ms);
    json_dumpf(question, r->process.to, JSON_COMPACT);
    fputc('\n', r->process.to);
    fflush(r->process.to);
    json_decref(question);
    json_t *answer = read_answer(r);
    bool ok = answer != NULL && json_unpack(answer, "{s:F, s:F}", "us", minimum, "median_us", median) == 0;
    json_decref(answer);
    return ok;
}
