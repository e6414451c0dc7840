/* SPDX-License-Identifier: MIT */
/* Rows for people: one line each, and the figures of the header. */
#ifndef BENCH_ROWS_TABLE_H
#define BENCH_ROWS_TABLE_H

#include <jansson.h>

void table_header(const json_t *header);
void table_columns(void);
void table_row(const json_t *row);

#endif
