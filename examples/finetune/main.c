/* SPDX-License-Identifier: MIT */
/*
 * finetune: fine-tunes a Llama-architecture model on JSON lines with lorank (--help). Compiled without
 * -DLORANK it still evaluates and generates. The only place that turns errors into lines and exit statuses.
 */
#include <stdio.h>

#include "args.h"
#include "commands.h"
#include "interrupt.h"
#include "ops.h"
#include "restart.h"
#ifdef LORANK
#include "workers.h"
#endif

static int run(const ft_args *args, ft_error *error)
{
    switch (args->mode) {
    case FT_MODE_HELP:
        fputs(ft_usage, stdout);
        return FT_EXIT_OK;
    case FT_MODE_EVALUATE:
        return ft_command_evaluate(args, error);
    case FT_MODE_GENERATE:
        return ft_command_generate(args, error);
#ifdef LORANK
    case FT_MODE_TRAIN:
        if (!ft_workers_many()) ft_catch_interrupt(); /* workers would stop at different steps */
        return ft_command_train(args, error);
    case FT_MODE_DEMO:
        ft_catch_interrupt();
        return ft_command_demo(args, error);
    case FT_MODE_LIST:
        return ft_command_list();
    case FT_MODE_DRY_RUN:
        return ft_command_dry_run(args, error);
#endif
    default:
        ft_fail(error, "this program was built without lorank: it evaluates and generates");
        return FT_EXIT_WRONG;
    }
}

int main(int argc, char **argv)
{
    ft_restart_tuned(argv);
    ft_args args;
    ft_error error = {""};
    int status = FT_EXIT_WRONG;
    if (ft_args_parse(argc, argv, &args, &error) == 0) {
        ops_set_threads((int)args.threads);
#ifdef LORANK
        if (ft_workers_begin(&args, &error) == 0)
#endif
            status = run(&args, &error);
    }
    if (error.text[0] && status != FT_EXIT_OK) fprintf(stderr, "finetune: %s\n", error.text);
    if (fflush(stdout)) {
        perror("finetune: standard output");
        status = FT_EXIT_FAILED;
    }
#ifdef LORANK
    ft_workers_end(status);
#endif
    return status;
}
