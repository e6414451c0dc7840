/* SPDX-License-Identifier: MIT */
/*
 * Evaluation and generation: what the trainer does with and without lorank.
 */
#include "commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"
#ifdef LORANK
#include "adapt.h"
#include "glue.h"
#endif

typedef struct session {
    ft_task task;
    ft_settings settings;
    ft_trainer trainer;
#ifdef LORANK
    lrk_context *context;
#endif
} session;

static void close_session(session *s)
{
    ft_trainer_free(&s->trainer);
#ifdef LORANK
    lrk_context_destroy(s->context);
#endif
    ft_task_free(&s->task);
}

static int load_adapter(session *s, const ft_args *args, ft_error *error)
{
    if (!args->adapter) return 0;
#ifdef LORANK
    if (ft_context_create(args->threads, &s->context, error)) return -1;
    return ft_adapt_load(&s->trainer, s->context, args->adapter, error);
#else
    (void)s;
    return ft_fail(error, "--adapter: this program was built without lorank");
#endif
}

static int open_session(session *s, const ft_args *args, ft_error *error)
{
    memset(s, 0, sizeof *s);
    ft_settings_defaults(args, &s->settings);
    if (ft_task_load(args, s->settings.seq_len, &s->task, error)) return -1;
    if (ft_trainer_create(&s->task, &s->settings, args, 0, &s->trainer, error) ||
        load_adapter(s, args, error)) {
        close_session(s);
        return -1;
    }
    return 0;
}

static int evaluate_file(session *s, const char *name, const ft_data *data, ft_error *error)
{
    ft_loss loss;
    if (data->n_rows == 0) return 0;
    if (ft_trainer_evaluate(&s->trainer, data, &loss, error)) return -1;
    printf("%-5s loss %.6f", name, loss.loss);
    if (!isnan(loss.accuracy)) printf("  exact match %.4f", loss.accuracy);
    printf("  (%lld rows, %lld targets)\n", (long long)data->n_rows, (long long)data->n_targets);
    return 0;
}

int ft_command_evaluate(const ft_args *args, ft_error *error)
{
    session s;
    if (open_session(&s, args, error)) return FT_EXIT_WRONG;
    int failed =
        evaluate_file(&s, "dev", &s.task.dev, error) || evaluate_file(&s, "test", &s.task.test, error);
    close_session(&s);
    return failed ? FT_EXIT_FAILED : FT_EXIT_OK;
}

/* ---- generation ---- */

static int print_tokens(const session *s, const int32_t *ids, int64_t n, ft_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    if (ft_tokenizer_decode(s->task.tokenizer, ids, (size_t)n, 1, &text, &bytes, error)) return -1;
    fwrite(text, 1, bytes, stdout);
    putchar('\n');
    free(text);
    return 0;
}

/* The run's pass for the whole generation; without adapters it is plain. */
static int generate(session *s, const ft_args *args, const ft_tokens *prompt, int32_t *out, int64_t *n_out,
                    ft_error *error)
{
#ifdef LORANK
    lrk_pass *pass = NULL;
    if (ft_trainer_begin_evaluation(&s->trainer, (int64_t)prompt->count, &pass, error)) return -1;
#endif
    int failed = llama_generate(s->trainer.run, prompt->id, (int64_t)prompt->count, args->max_tokens,
                                s->task.config.eos_token, out, n_out);
#ifdef LORANK
    ft_trainer_end_pass(&s->trainer, pass);
#endif
    return failed ? ft_fail(error, "%s", llama_run_error(s->trainer.run)) : 0;
}

static int continue_prompt(session *s, const ft_args *args, ft_error *error)
{
    ft_tokens prompt = {0};
    int64_t n_out = 0;
    int32_t *out = calloc((size_t)args->max_tokens, sizeof *out);
    int failed = !out ? ft_fail_memory(error, "the continuation") : 0;
    if (!failed)
        failed = ft_tokenizer_push_before(s->task.tokenizer, &prompt, error) ||
                 ft_tokenizer_encode(s->task.tokenizer, args->prompt, strlen(args->prompt), &prompt, error);
    if (!failed && prompt.count == 0) failed = ft_fail(error, "--generate: the prompt is empty");
    if (!failed)
        failed = generate(s, args, &prompt, out, &n_out, error) || print_tokens(s, out, n_out, error);
    ft_tokens_free(&prompt);
    free(out);
    return failed ? -1 : 0;
}

int ft_command_generate(const ft_args *args, ft_error *error)
{
    session s;
    if (open_session(&s, args, error)) return FT_EXIT_WRONG;
    int failed = continue_prompt(&s, args, error);
    close_session(&s);
    return failed ? FT_EXIT_WRONG : FT_EXIT_OK;
}
