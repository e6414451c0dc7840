/* SPDX-License-Identifier: MIT */
/*
 * Introduces: ALoRA itself. Two layers, y = W1 tanh(W0 x), with three ranks each. The data differ from the model by a
 * change of rank 5 in W1, so ranks should move there from W0.
 *
 * lorank asks for losses, and for their derivatives, on rows kept for validation (screened scoring). The schedule is bound
 * to estimator, allocator and optimizer, and carries the rounds out as the loop steps it.
 */
#include <lorank/lorank.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, WIDTH = 8, ROWS = 64, VALIDATION = 32, STEPS = 600, ROUNDS = 4 };

typedef float rows[ROWS * WIDTH];

static lrk_context *context;
static float w[LAYERS][WIDTH][WIDTH], changed[WIDTH][WIDTH]; /* frozen; what W1 should be */
static rows train_x, train_y, validation_x, validation_y;
static rows input[LAYERS], y, dy, dx; /* of the model's last run */
static rows kept[2];                  /* input of layer 1 under each baseline */

static void must(lrk_status status)
{
    char words[512];
    if (status == LRK_OK) return;
    lrk_context_error(context, words, sizeof words);
    printf("failed: %s: %s\n", lrk_status_text(status), words);
    exit(1);
}

static void multiply(rows x, float m[WIDTH][WIDTH], int n, rows out)
{
    for (int t = 0; t < n; t++)
        for (int i = 0; i < WIDTH; i++) {
            out[t * WIDTH + i] = 0;
            for (int j = 0; j < WIDTH; j++)
                out[t * WIDTH + i] += x[t * WIDTH + j] * m[i][j];
        }
}

static void activate(rows from, int n, rows to)
{
    for (int i = 0; i < n * WIDTH; i++)
        to[i] = tanhf(from[i]);
}

/* The model from layer `first` on, whose input is in place. */
static lrk_status forward(lrk_pass *pass, int first, int n)
{
    lrk_status s = LRK_OK;
    for (int32_t l = first; l < LAYERS && s == LRK_OK; l++) {
        const lrk_matrix mx = {sizeof mx, LRK_DTYPE_F32, input[l], n, WIDTH, WIDTH};
        const lrk_matrix_mut my = {sizeof my, LRK_DTYPE_F32, y, n, WIDTH, WIDTH};
        multiply(input[l], w[l], n, y);
        s = lrk_forward(pass, &l, 1, &mx, &my, NULL, 0);
        if (l + 1 < LAYERS) activate(y, n, input[l + 1]);
    }
    return s;
}

/* Sum of the rows' squared errors, halved; dy becomes its derivative times `factor`. */
static double loss_of(rows wanted, int n, double factor)
{
    double sum = 0;
    for (int i = 0; i < n * WIDTH; i++) {
        double e = (double)y[i] - (double)wanted[i];
        dy[i] = (float)(e * factor);
        sum += e * e / 2;
    }
    return sum;
}

static lrk_status backward(lrk_pass *pass, int n)
{
    lrk_status s = LRK_OK;
    for (int32_t l = LAYERS - 1; l >= 0 && s == LRK_OK; l--) {
        const lrk_matrix mx = {sizeof mx, LRK_DTYPE_F32, input[l], n, WIDTH, WIDTH};
        const lrk_matrix mdy = {sizeof mdy, LRK_DTYPE_F32, dy, n, WIDTH, WIDTH};
        const lrk_matrix_mut mdx = {sizeof mdx, LRK_DTYPE_F32, dx, n, WIDTH, WIDTH};
        for (int i = 0; i < n * WIDTH; i++) {
            dx[i] = 0;
            for (int o = 0; o < WIDTH; o++)
                dx[i] += dy[i / WIDTH * WIDTH + o] * w[l][o][i % WIDTH];
        }
        s = lrk_backward(pass, &l, 1, &mx, NULL, 0, &mdy, &mdx);
        for (int i = 0; i < n * WIDTH; i++) /* through tanh */
            dy[i] = dx[i] * (1 - input[l][i] * input[l][i]);
    }
    return s;
}

/* A mask that differs from its baseline in layer 1 only finds the baseline's input of it kept. */
static int32_t evaluate(void *user, const lrk_evaluation *evaluations, int32_t n)
{
    (void)user;
    for (int32_t i = 0; i < n; i++) {
        const lrk_evaluation *e = &evaluations[i];
        int first = e->first_stage == 1;
        memcpy(input[first], first ? kept[e->baseline] : validation_x, sizeof(rows));
        if (forward(e->pass, first, VALIDATION) != LRK_OK) return 1;
        if (e->first_stage == LRK_NO_STAGE) memcpy(kept[e->baseline], input[1], sizeof(rows));
        e->parts[0] = (lrk_loss_part){loss_of(validation_y, VALIDATION, 0), VALIDATION};
    }
    return 0;
}

static int32_t differentiate(void *user, const lrk_evaluation *e)
{
    (void)user;
    memcpy(input[0], validation_x, sizeof(rows));
    if (forward(e->pass, 0, VALIDATION) != LRK_OK) return 1;
    e->parts[0] = (lrk_loss_part){loss_of(validation_y, VALIDATION, 1.0 / VALIDATION), VALIDATION};
    return backward(e->pass, VALIDATION) != LRK_OK;
}

static double train_step(lrk_adapters *set, lrk_optimizer *optimizer)
{
    lrk_pass *pass;
    lrk_pass_options options;
    must(lrk_pass_options_init(&options, sizeof options));
    options.mode = LRK_PASS_TRAIN, options.max_rows = ROWS;
    must(lrk_pass_begin(set, &options, &pass));
    memcpy(input[0], train_x, sizeof(rows));
    must(forward(pass, 0, ROWS));
    double loss = loss_of(train_y, ROWS, 1.0 / ROWS) / ROWS;
    must(backward(pass, ROWS));
    lrk_pass_end(pass);
    must(lrk_optimizer_step(optimizer, 0.01));
    return loss;
}

static void make_rows(int seed, rows x, rows wanted)
{
    rows h;
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = sinf((float)((i + seed) * (i % 97 + 3)));
    multiply(x, w[0], ROWS, h);
    activate(h, ROWS, h);
    multiply(h, changed, ROWS, wanted);
}

static void make_data(void)
{
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < WIDTH; j++) {
            w[0][i][j] = 0.5f * sinf((float)(5 * i + 11 * i * j + j));
            w[1][i][j] = 0.5f * cosf((float)(7 * i + 3 * i * j + 2 * j));
            changed[i][j] = w[1][i][j];
            for (int r = 0; r < 5; r++)
                changed[i][j] += 0.5f * sinf((float)((r + 2) * (i + 1) * (i + 3))) *
                                 cosf((float)((r + 1) * (j + 2) * (j + 1)));
        }
    make_rows(1, train_x, train_y);
    make_rows(1000, validation_x, validation_y);
}

static void create(lrk_adapters **set, lrk_optimizer **optimizer)
{
    static const char *const names[LAYERS] = {"lower", "upper"};
    lrk_module_spec spec[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        must(lrk_module_spec_init(&spec[l], sizeof spec[l]));
        spec[l].name = names[l], spec[l].stage = l, spec[l].n_in = spec[l].n_out = WIDTH, spec[l].rank = 3;
    }
    must(lrk_adapters_create(context, spec, LAYERS, NULL, set));
    must(lrk_optimizer_create_adamw(*set, NULL, optimizer));
}

/* The schedule keeps estimator and allocator alive; the optimizer, a participant, must outlive it. */
static lrk_schedule *bind_schedule(lrk_adapters *set, lrk_optimizer *optimizer)
{
    lrk_evaluator evaluator;
    lrk_alora_options alora;
    lrk_ablation_options ablation;
    lrk_schedule_options when;
    lrk_round_binding binding;
    lrk_participant moments = {.struct_size = sizeof moments};
    lrk_schedule *schedule;
    must(lrk_alora_options_init(&alora, sizeof alora));
    alora.n_move = 1;
    must(lrk_round_binding_init(&binding, sizeof binding));
    must(lrk_allocator_create_alora(set, &alora, &binding.allocator));
    must(lrk_evaluator_init(&evaluator, sizeof evaluator));
    evaluator.evaluate = evaluate, evaluator.differentiate = differentiate, evaluator.max_rows = VALIDATION;
    must(lrk_ablation_options_init(&ablation, sizeof ablation));
    ablation.mode = LRK_ABLATION_SCREENED, ablation.n_cut = 1, ablation.pool = 2;
    must(lrk_estimator_create_ablation(set, &evaluator, &ablation, &binding.estimator));
    must(lrk_optimizer_participant(optimizer, &moments));
    binding.participants = &moments, binding.n_participants = 1;
    must(lrk_schedule_options_init(&when, sizeof when));
    when.rounds = ROUNDS, when.warmup = 100, when.recovery = 100, when.total_steps = STEPS;
    must(lrk_schedule_create(context, &when, &schedule));
    must(lrk_schedule_bind(schedule, &binding));
    lrk_estimator_destroy(binding.estimator), lrk_allocator_destroy(binding.allocator);
    return schedule;
}

int main(void)
{
    lrk_adapters *set;
    lrk_optimizer *optimizer;
    double first = 0, loss = 0;
    must(lrk_context_create(NULL, &context, NULL, 0));
    make_data();
    create(&set, &optimizer);
    lrk_schedule *schedule = bind_schedule(set, optimizer);
    for (int step = 0; step < STEPS; step++) {
        lrk_schedule_event event = {.struct_size = sizeof event};
        loss = train_step(set, optimizer);
        if (step == 0) first = loss;
        must(lrk_schedule_step(schedule, &event));
        if (event.kind == LRK_EVENT_ROUND_DONE)
            printf("step %d, round %d: %d pruned, %d added\n", (int)event.step, (int)event.round,
                   (int)event.n_dropped, (int)event.n_added);
    }
    for (int32_t l = 0; l < LAYERS; l++) {
        lrk_module_info info = {.struct_size = sizeof info};
        must(lrk_adapters_module(set, l, &info));
        printf("%s: %d ranks, was %d\n", info.name, (int)info.rank, (int)info.initial_rank);
    }
    printf("loss fell below a thousandth of the first: %s\n", loss < 1e-3 * first ? "yes" : "no");
    lrk_schedule_destroy(schedule), lrk_optimizer_destroy(optimizer);
    lrk_adapters_destroy(set), lrk_context_destroy(context);
    return 0;
}
