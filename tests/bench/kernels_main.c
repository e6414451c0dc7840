/* SPDX-License-Identifier: MIT */
/*
 * The benchmark of the LoRA kernels. For each number of threads a process of its own measures (worker.h), so that the
 * pools of OpenMP and OpenBLAS have that size from the start; this one collects their rows, prints them and writes the
 * file. Ends with 1 if an error exceeds its bound, 2 if something else fails.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../examples/finetune/restart.h"
#include "child.h"
#include "count.h"
#include "machine.h"
#include "means.h"
#include "rows.h"
#include "rows_table.h"
#include "targets.h"
#include "worker.h"

#define MOST_ARGUMENTS 64

typedef struct collection {
    json_t *processes; /* headers of the workers */
    json_t *rows;
} collection;

static void take_line(collection *c, const char *text)
{
    json_t *line = json_loads(text, 0, NULL), *header = json_object_get(line, "header");
    if (header != NULL) {
        json_array_append(c->processes, header);
    } else if (line != NULL) {
        table_row(line);
        rows_put(c->rows, json_incref(line));
    }
    json_decref(line);
}

static int run_worker(collection *c, int argc, char **argv, int threads)
{
    char number[16], line[4096], *arguments[MOST_ARGUMENTS + 3];
    child process;
    snprintf(number, sizeof number, "%d", threads);
    memcpy(arguments, argv, (size_t)argc * sizeof *argv);
    arguments[argc] = "--worker";
    arguments[argc + 1] = number;
    arguments[argc + 2] = NULL;
    if (!child_start(&process, arguments, threads)) return 2;
    while (fgets(line, sizeof line, process.from) != NULL)
        take_line(c, line);
    return child_wait(&process);
}

static int report(json_t *header, json_t *rows)
{
    printf("\n");
    table_header(header);
    printf("\n");
    means_report(rows);
    return targets_report(rows) ? 0 : 1;
}

static int summarise(const char *path)
{
    json_t *file = rows_load(path);
    size_t i;
    json_t *row;
    if (file == NULL) return 2;
    table_columns();
    json_array_foreach(json_object_get(file, "rows"), i, row) table_row(row);
    int status = report(json_object_get(file, "header"), json_object_get(file, "rows"));
    json_decref(file);
    return status;
}

/* Rows of the file to begin with. */
static json_t *begin_rows(const bench_options *options)
{
    json_t *file = options->merge && access(options->out, F_OK) == 0 ? rows_load(options->out) : NULL;
    json_t *rows = file != NULL ? json_incref(json_object_get(file, "rows")) : json_array();
    json_decref(file);
    return rows;
}

static int measure(const bench_options *options, int argc, char **argv)
{
    collection c = {json_array(), begin_rows(options)};
    json_t *header = json_pack("{s:o, s:O}", "machine", machine_describe(), "processes", c.processes);
    int status = 0;
    table_columns();
    for (int i = 0; i < options->threads.n && status == 0; i++) {
        status = run_worker(&c, argc, argv, (int)options->threads.value[i]);
        if (!rows_save(options->out, header, c.rows)) status = 2;
    }
    if (status == 0) status = report(header, c.rows);
    json_decref(header);
    json_decref(c.processes);
    json_decref(c.rows);
    return status;
}

int main(int argc, char **argv)
{
    bench_options options;
    ft_restart_tuned(argv);
    if (argc > MOST_ARGUMENTS || !grid_options_read(&options, argc, argv)) return 2;
    if (options.count != 0) return count_run(&options);
    if (options.worker > 0) return worker_run(&options);
    return options.summary != NULL ? summarise(options.summary) : measure(&options, argc, argv);
}
