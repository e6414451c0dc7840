/* SPDX-License-Identifier: MIT */
/*
 * Rank lists, internal: what reading (rank_list_read.c) leaves for looking up (rank_list.c).
 */
#ifndef LRKI_RANK_LIST_H
#define LRKI_RANK_LIST_H

#include "json.h"
#include "lorank/rank_list.h"

#define LRKI_RANK_KEEP (-1)

typedef struct lrki_rank_rule {
    char *name; /* of a module, or a key of PEFT */
    int64_t rank;
} lrki_rank_rule;

struct lrk_rank_list {
    lrk_context *context; /* counted */
    char *source;         /* for details                                       */
    bool keys;            /* names are keys of PEFT, else whole names          */
    bool complete;        /* a module that no rule names is an error           */
    int64_t rest;         /* of modules that no rule decides, or LRKI_RANK_KEEP */
    int64_t n_rules;
    lrki_rank_rule *rules;
    int64_t n_targets; /* 0: every module */
    char **targets;
};

/* Fills a zeroed list whose context and source are set; it is destroyed by the caller even after a failure. */
lrk_status lrki_rank_list_read(lrk_rank_list *list, const char *text, size_t n);

#endif
