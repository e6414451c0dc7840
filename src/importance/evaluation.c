/* SPDX-License-Identifier: MIT */
/*
 * Asking this worker's host: opens a pass per question, calls back, ends the passes, and lets no loss through that is not finite.
 * What is asked, and when, is the estimator's business, by which worker that of shares.c. Invariant: every pass opened here is ended here.
 */
#include <math.h>

#include "importance.h"

/* Where a question is about, for errors: the rank, or nowhere for a baseline. */
static lrki_place place_of(const lrk_scores *set, const lrki_question *question)
{
    if (question->flat == LRKI_BASELINE_SELF) return (lrki_place){.module = LRKI_NO_MODULE};
    const lrk_score *rank = &set->scores[question->flat];
    return (lrki_place){.module = rank->module, .identity = rank->identity};
}

static lrk_status create_mask(lrk_adapters *adapters, lrki_place place, int32_t baseline, lrk_mask **mask)
{
    if (place.module == LRKI_NO_MODULE)
        return baseline == LRK_BASELINE_ALL ? lrk_mask_create_all(adapters, mask)
                                            : lrk_mask_create_none(adapters, mask);
    return baseline == LRK_BASELINE_ALL ? lrk_mask_create_without(adapters, place.identity, mask)
                                        : lrk_mask_create_only(adapters, place.identity, mask);
}

/* What a pass collects beside the losses; zeroed: nothing. */
typedef struct collected {
    lrk_sink *sink;
    lrk_rank_output *outputs;
} collected;

static lrk_status open_pass(lrk_estimator *estimator, const lrk_evaluator *host, lrki_place place,
                            const lrki_question *question, collected also, lrk_pass **pass)
{
    lrk_mask *mask = question->mask != NULL ? lrki_mask_ref(question->mask) : NULL;
    lrk_status status = LRK_OK;
    if (mask == NULL) status = create_mask(estimator->adapters, place, question->baseline, &mask);
    if (status != LRK_OK) return status;
    lrk_pass_options options;
    (void)lrk_pass_options_init(&options, sizeof options);
    options.mode = LRK_PASS_EVALUATE;
    options.gradients = also.sink != NULL ? LRK_GRAD_MASK : 0;
    options.max_rows = host->max_rows;
    options.mask = mask;
    options.sink = also.sink;
    options.outputs = also.outputs;
    options.n_outputs = also.outputs != NULL ? estimator->adapters->n_ranks : 0;
    status = lrk_pass_begin(estimator->adapters, &options, pass);
    lrk_mask_destroy(mask);
    return status;
}

/* Fills `evaluation` and opens its pass; parts start as NaN so that a part the host forgets is noticed. */
static lrk_status pose(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                       const lrki_question *question, collected also, lrk_evaluation *evaluation)
{
    lrki_place place = place_of(set, question);
    evaluation->struct_size = sizeof *evaluation;
    evaluation->baseline = question->baseline;
    evaluation->first_stage =
        place.module == LRKI_NO_MODULE ? LRK_NO_STAGE : estimator->adapters->modules[place.module].stage;
    if (question->mask != NULL) {
        evaluation->baseline = question->mask->baseline;
        evaluation->first_stage = question->mask->first_stage;
    }
    evaluation->n_parts = host->n_parts;
    evaluation->identity = place.identity;
    for (int32_t p = 0; p < host->n_parts; p++)
        evaluation->parts[p] = (lrk_loss_part){NAN, NAN};
    return open_pass(estimator, host, place, question, also, &evaluation->pass);
}

/* Names the question: "a loss is nan with all but rank 12 of module 'q'". */
static lrk_status fail_on(lrk_estimator *estimator, lrki_place place, int32_t baseline, lrk_status status,
                          uint64_t failures_before, const char *what, double value)
{
    lrk_context *context = estimator->adapters->context;
    bool all = baseline == LRK_BASELINE_ALL;
    if (place.module == LRKI_NO_MODULE)
        return lrki_fail_callback(context, status, place, failures_before, "%s %g with %s", what, value,
                                  all ? "all ranks" : "no rank");
    return lrki_fail_callback(context, status, place, failures_before,
                              "%s %g with %s rank %llu of module '%s'", what, value, all ? "all but" : "only",
                              (unsigned long long)place.identity,
                              estimator->adapters->modules[place.module].name);
}

static lrk_status check_parts(lrk_estimator *estimator, lrki_place place, const lrk_evaluation *evaluation)
{
    for (int32_t p = 0; p < evaluation->n_parts; p++) {
        const lrk_loss_part *part = &evaluation->parts[p];
        if (!isfinite(part->loss_sum))
            return fail_on(estimator, place, evaluation->baseline, LRK_ERR_NONFINITE, LRKI_NOT_CALLED,
                           "a loss is", part->loss_sum);
        if (!(part->weight > 0) || !isfinite(part->weight))
            return fail_on(estimator, place, evaluation->baseline, LRK_ERR_NONFINITE, LRKI_NOT_CALLED,
                           "a weight is", part->weight);
    }
    return LRK_OK;
}

static void lend(const lrk_evaluation *evaluations, int32_t n, bool lent)
{
    for (int32_t i = 0; i < n; i++)
        lrki_pass_lend(evaluations[i].pass, lent);
}

static lrk_status call_and_check(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                                 const lrki_question *questions, const lrk_evaluation *evaluations, int32_t n,
                                 bool differentiate)
{
    lend(evaluations, n, true);
    uint64_t failures = lrki_failures(estimator->adapters->context);
    bool before = lrki_host_call_begin(estimator);
    int32_t answer = differentiate ? host->differentiate(host->user, evaluations)
                                   : host->evaluate(host->user, evaluations, n);
    lrki_host_call_end(estimator, before);
    lend(evaluations, n, false);
    lrki_place first = place_of(set, &questions[0]);
    if (answer != 0)
        return fail_on(estimator, first, questions[0].baseline, LRK_ERR_HOST, failures,
                       differentiate ? "differentiate() returned" : "evaluate() returned", answer);
    lrk_status status = LRK_OK;
    for (int32_t i = 0; i < n && status == LRK_OK; i++)
        status = check_parts(estimator, place_of(set, &questions[i]), &evaluations[i]);
    return status;
}

lrk_status lrki_ask(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                    const lrki_question *questions, int32_t n, int64_t index, lrk_loss_part *parts)
{
    lrk_context *context = estimator->adapters->context;
    lrk_evaluation *evaluations = lrki_array(context, n, sizeof *evaluations);
    if (evaluations == NULL) return lrki_fail_nomem(context, "evaluations");
    lrk_status status = LRK_OK;
    for (int32_t i = 0; i < n && status == LRK_OK; i++) {
        evaluations[i].parts = parts + (int64_t)i * host->n_parts;
        evaluations[i].index = index + i;
        status = pose(estimator, host, set, &questions[i], (collected){0}, &evaluations[i]);
    }
    if (status == LRK_OK) status = call_and_check(estimator, host, set, questions, evaluations, n, false);
    for (int32_t i = n; i-- > 0;)
        lrk_pass_end(evaluations[i].pass);
    lrki_array_free(context, evaluations, n, sizeof *evaluations);
    return status;
}

/* Copies dL/dm out of the sink. */
static lrk_status take_gradient(lrk_estimator *estimator, const lrk_scores *set, const lrk_sink *sink,
                                double *gradient)
{
    const double *values;
    int64_t n;
    lrk_status status = lrk_sink_mask_gradients(sink, &values, &n);
    for (int64_t i = 0; i < n && status == LRK_OK; i++) {
        lrki_place place = place_of(set, &(lrki_question){.flat = i});
        gradient[i] = values[i];
        if (!isfinite(values[i]))
            status = lrki_fail_at(estimator->adapters->context, LRK_ERR_NONFINITE, place,
                                  "the mask derivative of rank %llu of module '%s' is %g",
                                  (unsigned long long)place.identity,
                                  estimator->adapters->modules[place.module].name, values[i]);
    }
    return status;
}

/* A module whose backward was not run would look worthless. */
static lrk_status check_reached(const lrk_estimator *estimator, const lrk_sink *sink)
{
    const lrk_adapters *adapters = estimator->adapters;
    for (int32_t m = 0; m < adapters->n_modules; m++) {
        const lrki_module *module = &adapters->modules[m];
        if (module->bank.rank == 0 || (module->flags & LRK_MODULE_MAY_LACK_GRADIENT) != 0) continue;
        if (!lrki_sink_reached(sink, m))
            return lrki_fail_at(adapters->context, LRK_ERR_NO_GRADIENT, (lrki_place){.module = m},
                                "differentiate() ran no backward of module '%s'", module->name);
    }
    return LRK_OK;
}

lrk_status lrki_ask_gradient(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                             const lrki_question *question, int64_t index, lrk_loss_part *parts,
                             double *gradient)
{
    lrk_sink *sink;
    lrk_status status = lrk_sink_create(estimator->adapters, LRK_GRAD_MASK, &sink);
    if (status != LRK_OK) return status;
    lrk_evaluation evaluation = {.parts = parts, .index = index};
    status = pose(estimator, host, set, question, (collected){.sink = sink}, &evaluation);
    if (status == LRK_OK) status = call_and_check(estimator, host, set, question, &evaluation, 1, true);
    lrk_pass_end(evaluation.pass);
    if (status == LRK_OK) status = check_reached(estimator, sink);
    if (status == LRK_OK) status = take_gradient(estimator, set, sink, gradient);
    lrk_sink_destroy(sink);
    return status;
}

lrk_status lrki_measure_outputs(lrk_estimator *estimator, const lrk_evaluator *host, const lrk_scores *set,
                                lrk_loss_part *parts, lrk_rank_output *outputs)
{
    lrki_question question = {LRK_BASELINE_ALL, LRKI_BASELINE_SELF, NULL};
    lrk_evaluation evaluation = {.parts = parts};
    lrk_status status = pose(estimator, host, set, &question, (collected){.outputs = outputs}, &evaluation);
    if (status == LRK_OK) status = call_and_check(estimator, host, set, &question, &evaluation, 1, false);
    lrk_pass_end(evaluation.pass);
    return status;
}
