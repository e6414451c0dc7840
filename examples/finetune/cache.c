/* SPDX-License-Identifier: MIT */
/*
 * The stage cache: block inputs of one batch under the two baselines.
 *
 * An evaluation whose mask first differs at block s computes the baseline's
 * inputs of blocks up to s on its way, so the cache fills itself from the
 * evaluations it serves.  A free slot takes any input that passes by; with all
 * slots taken only the input of the first changed block is worth storing, and
 * it replaces the lowest one, which evaluations in ascending order will not
 * ask for again.
 */
#include <string.h>

#include "mem.h"
#include "model_internal.h"

typedef struct baseline_inputs {
    uint64_t state_version, batch_hash;
    int64_t n_used;
    int64_t *stages; /* [n_slots], block whose input the slot holds */
    float *values;   /* [n_slots x slot_floats]                     */
} baseline_inputs;

struct llama_cache {
    int64_t n_tokens, n_slots; /* slots of each baseline */
    int64_t slot_floats;
    baseline_inputs baselines[LLAMA_N_BASELINES];
};

static int64_t slots_within(const llama_config *config, int64_t n_tokens, size_t limit_bytes)
{
    size_t slot_bytes = (size_t)n_tokens * (size_t)config->hidden * sizeof(float);
    size_t fit = limit_bytes / slot_bytes / LLAMA_N_BASELINES;
    size_t useful = (size_t)config->n_layers - 1;
    return (int64_t)(fit < useful ? fit : useful);
}

size_t llama_cache_bytes(const llama_config *config, int64_t n_tokens, size_t limit_bytes)
{
    int64_t n_slots = slots_within(config, n_tokens, limit_bytes);
    return (size_t)(LLAMA_N_BASELINES * n_slots * n_tokens * config->hidden) * sizeof(float);
}

int llama_cache_create(const llama_config *config, int64_t n_tokens, size_t limit_bytes, llama_cache **out,
                       char *err, size_t err_bytes)
{
    *out = NULL;
    if (n_tokens < 1) return model_fail(err, err_bytes, "a stage cache for %lld tokens", (long long)n_tokens);
    llama_cache *cache = mem_alloc(sizeof *cache);
    if (cache == NULL) return model_fail(err, err_bytes, "out of memory");
    cache->n_tokens = n_tokens;
    cache->n_slots = slots_within(config, n_tokens, limit_bytes);
    cache->slot_floats = n_tokens * config->hidden;
    for (int i = 0; i < LLAMA_N_BASELINES && cache->n_slots > 0; i++) {
        baseline_inputs *b = &cache->baselines[i];
        b->stages = mem_alloc_array(cache->n_slots, sizeof *b->stages);
        b->values = mem_alloc_array(cache->n_slots * cache->slot_floats, sizeof *b->values);
        if (b->stages != NULL && b->values != NULL) continue;
        llama_cache_free(cache);
        return model_fail(err, err_bytes, "out of memory: the stage cache needs %zu bytes",
                          llama_cache_bytes(config, n_tokens, limit_bytes));
    }
    *out = cache;
    return 0;
}

void llama_cache_free(llama_cache *cache)
{
    if (cache == NULL) return;
    for (int i = 0; i < LLAMA_N_BASELINES; i++) {
        mem_free(cache->baselines[i].stages);
        mem_free(cache->baselines[i].values);
    }
    mem_free(cache);
}

/* FNV-1a over the shape and the tokens: targets do not reach the blocks. */
static uint64_t hash_batch(const llama_batch *batch)
{
    uint64_t hash = 14695981039346656037U ^ (uint64_t)batch->seq_len;
    for (int64_t i = 0; i < batch->n_seq * batch->seq_len; i++)
        hash = (hash ^ (uint32_t)batch->tokens[i]) * 1099511628211U;
    return hash;
}

/* Slot of the highest stage at or below `stage`, -1 if there is none. */
static int64_t nearest(const baseline_inputs *b, int64_t stage)
{
    int64_t best = -1;
    for (int64_t i = 0; i < b->n_used; i++)
        if (b->stages[i] <= stage && (best < 0 || b->stages[i] > b->stages[best])) best = i;
    return best;
}

static int64_t lowest(const baseline_inputs *b)
{
    int64_t slot = 0;
    for (int64_t i = 1; i < b->n_used; i++)
        if (b->stages[i] < b->stages[slot]) slot = i;
    return slot;
}

static void store(llama_cache *cache, baseline_inputs *b, int64_t stage, int64_t first_stage, const float *x)
{
    int64_t slot = nearest(b, stage);
    if (slot >= 0 && b->stages[slot] == stage) return;
    if (b->n_used < cache->n_slots)
        slot = b->n_used++;
    else if (stage == first_stage && cache->n_slots > 0)
        slot = lowest(b);
    else
        return;
    b->stages[slot] = stage;
    memcpy(b->values + slot * cache->slot_floats, x, (size_t)cache->slot_floats * sizeof *x);
}

/* Puts the latest known baseline input into run->x and returns its block. */
static int64_t restart(llama_run *run, const llama_cache *cache, const baseline_inputs *b,
                       int64_t first_stage, const int32_t *tokens)
{
    int64_t slot = nearest(b, first_stage);
    if (slot < 0) {
        run_embed(run, tokens);
        return 0;
    }
    memcpy(run->x, b->values + slot * cache->slot_floats, (size_t)cache->slot_floats * sizeof *run->x);
    return b->stages[slot];
}

int llama_evaluate_from(llama_run *run, llama_cache *cache, const llama_batch *batch,
                        const llama_start *start, llama_score *scores)
{
    int64_t n_layers = run->model->config.n_layers;
    int64_t first_stage = start->first_stage < 0 ? n_layers : start->first_stage;
    if (run_begin(run, batch, FOR_EVALUATION) != 0) return -1;
    if (run->rows != cache->n_tokens || start->baseline < 0 || start->baseline >= LLAMA_N_BASELINES)
        return model_fail(run->error, sizeof run->error,
                          "%lld tokens under baseline %d do not fit the stage cache", (long long)run->rows,
                          (int)start->baseline);
    baseline_inputs *b = &cache->baselines[start->baseline];
    uint64_t hash = hash_batch(batch);
    if (b->state_version != start->state_version || b->batch_hash != hash) b->n_used = 0;
    b->state_version = start->state_version;
    b->batch_hash = hash;
    for (int64_t block = restart(run, cache, b, first_stage, batch->tokens); block < n_layers; block++) {
        if (block > 0 && block <= first_stage) store(cache, b, block, first_stage, run->x);
        if (run_blocks(run, block, block + 1) != 0) return -1;
    }
    run_score(run, batch, scores);
    return 0;
}
