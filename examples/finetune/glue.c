/* SPDX-License-Identifier: MIT */
/*
 * lorank takes memory, products and threads from its defaults here: OpenBLAS and the OpenMP pool that the
 * model uses too. Only its log is the trainer's.
 */
#ifdef LORANK
#include "glue.h"

#include <stdio.h>

#include "workers.h"

int ft_fail_lorank(ft_error *error, const lrk_context *context, const char *where)
{
    char text[sizeof error->text];
    lrk_context_error(context, text, sizeof text);
    return ft_fail(error, "%s%s%s", where ? where : "", where ? ": " : "", text);
}

static void print_log(void *user, int32_t level, const char *text)
{
    (void)user;
    if (level <= LRK_LOG_WARNING) fprintf(stderr, "lorank: %s\n", text);
}

int ft_context_create(int64_t threads, lrk_context **context, ft_error *error)
{
    lrk_host host;
    lrk_host_init(&host, sizeof host);
    host.log = print_log;
    host.threads = (int32_t)threads;
    host.workers = ft_workers();
    return lrk_context_create(&host, context, error->text, sizeof error->text) ? -1 : 0;
}
#endif
