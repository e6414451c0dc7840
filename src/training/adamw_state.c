/* SPDX-License-Identifier: MIT */
/*
 * AdamW's part of a checkpoint: its options, moments and the steps of every rank. Identities are the set's, which is in the
 * same checkpoint.
 */
#include <string.h>

#include "adamw.h"
#include "state.h"

static void same_options(const lrk_adamw_options *options, lrki_state *state)
{
    bool term = options->orthogonality > 0; /* beside the flags, so that files without it stay as they were */
    lrki_state_same_i64(state, "flags", (int64_t)options->flags | (int64_t)term << 32);
    lrki_state_same_f64(state, "beta1", options->beta1);
    lrki_state_same_f64(state, "beta2", options->beta2);
    lrki_state_same_f64(state, "epsilon", options->epsilon);
    lrki_state_same_f64(state, "weight_decay", options->weight_decay);
    lrki_state_same_f64(state, "b_ratio", options->b_ratio);
    lrki_state_same_f64(state, "max_norm", options->max_norm);
    lrki_state_same_i64(state, "steps", options->steps);
    if (term) lrki_state_same_f64(state, "orthogonality", options->orthogonality);
    if (!lrki_trains_gates(options)) return;
    lrki_state_same_i64(state, "gate_rule", options->gate_rule);
    lrki_state_same_f64(state, "gate_ratio", options->gate_ratio);
    lrki_state_same_f64(state, "gate_l1", options->gate_l1);
    lrki_state_same_f64(state, "gate_threshold", options->gate_threshold);
    lrki_state_same_i64(state, "gate_dense_steps", options->gate_dense_steps);
    lrki_state_same_i64(state, "gate_rise_steps", options->gate_rise_steps);
    lrki_state_same_i64(state, "gate_stairs", options->gate_stairs);
}

const lrk_adapters *lrki_optimizer_adapters(const lrk_optimizer *optimizer)
{
    return optimizer->adapters;
}

static void move_floats(lrki_state *state, float *values, int64_t n)
{
    lrki_state_bytes(state, values, (size_t)n * sizeof *values);
}

static void move_moments(lrki_state *state, const lrki_module *module, const lrki_moments *moments)
{
    int64_t in = moments->rank * module->n_in, out = moments->rank * module->n_out;
    lrki_state_bytes(state, moments->steps, (size_t)moments->rank * sizeof *moments->steps);
    move_floats(state, moments->first_a, in);
    move_floats(state, moments->first_b, out);
    move_floats(state, moments->second_a, in);
    move_floats(state, moments->second_b, out);
    if (moments->first_gates == NULL) return;
    move_floats(state, moments->first_gates, moments->rank);
    move_floats(state, moments->second_gates, moments->rank);
}

void lrki_optimizer_save(const lrk_optimizer *optimizer, lrki_state *state)
{
    const lrk_adapters *adapters = optimizer->adapters;
    int64_t steps = optimizer->steps;
    double norm = optimizer->gradient_norm;
    if (optimizer->generation != adapters->generation)
        (void)lrki_state_fail(state, LRK_ERR_STALE, "it missed a rank change: realign it");
    same_options(&optimizer->options, state);
    lrki_state_i64(state, &steps);
    lrki_state_f64(state, &norm);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++) {
        int64_t rank = optimizer->moments[i].rank;
        lrki_state_i64(state, &rank);
        move_moments(state, &adapters->modules[i], &optimizer->moments[i]);
    }
}

/* ---- loading --------------------------------------------------------------------------------------------------------- */

static void load_module(lrki_state *state, const lrki_adapters_load *set, int64_t index, bool gates,
                        lrki_moments *moments)
{
    const lrki_module *module = &set->adapters->modules[index];
    const uint64_t *identities;
    int64_t rank = lrki_adapters_load_rank(set, index, &identities), recorded = 0;
    lrki_state_within(state, "the rank of a module", &recorded, rank, rank);
    if (state->status != LRK_OK) return;
    state->status = lrki_moments_make(set->adapters, module, rank, gates, moments);
    if (state->status != LRK_OK || rank == 0) return;
    memcpy(moments->identities, identities, (size_t)rank * sizeof *identities);
    move_moments(state, module, moments);
    for (int64_t j = 0; j < rank; j++)
        if (moments->steps[j] < 0)
            (void)lrki_state_fail(state, LRK_ERR_FORMAT, "a rank of module '%s' took %lld steps",
                                  module->name, (long long)moments->steps[j]);
}

lrk_status lrki_optimizer_load_begin(lrk_optimizer *optimizer, lrki_state *state,
                                     const lrki_adapters_load *set, lrki_optimizer_load *load)
{
    const lrk_adapters *adapters = optimizer->adapters;
    *load = (lrki_optimizer_load){.optimizer = optimizer};
    same_options(&optimizer->options, state);
    lrki_state_within(state, "the number of steps", &load->steps, 0, INT64_MAX / 2);
    lrki_state_f64(state, &load->gradient_norm);
    load->moments = lrki_moments_new(optimizer->adapters);
    if (load->moments == NULL) return lrki_state_fail_nomem(state);
    for (int64_t i = 0; i < adapters->n_modules && state->status == LRK_OK; i++)
        load_module(state, set, i, lrki_trains_gates(&optimizer->options), &load->moments[i]);
    if (state->status != LRK_OK) lrki_optimizer_load_abandon(load);
    return state->status;
}

void lrki_optimizer_load_commit(lrki_optimizer_load *load)
{
    lrk_optimizer *optimizer = load->optimizer;
    lrki_moments *old = optimizer->moments;
    optimizer->moments = load->moments;
    optimizer->steps = load->steps;
    optimizer->gradient_norm = load->gradient_norm;
    optimizer->generation = optimizer->adapters->generation;
    load->moments = old;
    lrki_optimizer_load_abandon(load);
}

void lrki_optimizer_load_abandon(lrki_optimizer_load *load)
{
    if (load->optimizer != NULL) lrki_moments_free(load->optimizer, load->moments);
    *load = (lrki_optimizer_load){0};
}
