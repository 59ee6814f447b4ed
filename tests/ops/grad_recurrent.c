/* tests/ops/grad_recurrent.c — gradients of RNN, GRU and LSTM: directions, lengths, states, peepholes, layouts, activations. */
#include <string.h>

#include "ops/grad_check.h"

enum { STEPS = 4, BATCH = 3, INPUT = 2, HIDDEN = 3 };

typedef struct options {
    const char *label;
    const char *direction;
    bool bias, lengths, states, peepholes, batch_first, linear_before_reset, input_forget;
    float clip;
    const char *activations[6];
    bool no_y;
} options;

static void run(const char *op, int gates, const options *o)
{
    const int dirs = o->direction && o->direction[0] == 'b' ? 2 : 1, lstm = gates == 4;
    const float most = !o->activations[0]         ? 1
                       : strstr(o->label, "Relu") ? 0.1f
                                                  : 0.5f; /* those without bounds grow fast */
    grad g;
    grad_start(&g, op, "", 14, o->label);
    grad_set_int(&g, "hidden_size", HIDDEN);
    if (o->direction)
        grad_set_string(&g, "direction", o->direction);
    if (o->batch_first)
        grad_set_int(&g, "layout", 1);
    if (o->linear_before_reset && gates == 3)
        grad_set_int(&g, "linear_before_reset", 1);
    if (o->input_forget && lstm)
        grad_set_int(&g, "input_forget", 1);
    if (o->clip > 0)
        grad_set_float(&g, "clip", o->clip);
    if (o->activations[0]) {
        const int each = lstm ? 3 : gates == 3 ? 2 : 1;
        grad_set_strings(&g, "activations", each * dirs, o->activations);
    }
    if (o->batch_first)
        grad_random(&g, -most, most, 3, BATCH, STEPS, INPUT);
    else
        grad_random(&g, -most, most, 3, STEPS, BATCH, INPUT);
    grad_random(&g, -most, most, 3, dirs, gates * HIDDEN, INPUT);
    grad_random(&g, -most, most, 3, dirs, gates * HIDDEN, HIDDEN);
    if (o->bias) {
        rq_tensor *b = grad_random(&g, -most, most, 2, dirs, 2 * gates * HIDDEN);
        for (int i = 0; strstr(o->label, "Relu") && i < gates * HIDDEN; i++) /* far from the kink, on both sides */
            b->f32[i] += i % 2 ? 1.5f : -1.5f;
    } else
        grad_omit(&g);
    if (o->lengths)
        grad_ints(&g, RQ_DTYPE_S32, (const int64_t[]) { 4, 0, 2 }, 1, BATCH);
    else
        grad_omit(&g);
    for (int i = 0; i < 1 + lstm; i++)
        if (!o->states)
            grad_omit(&g);
        else if (o->batch_first)
            grad_random(&g, -most, most, 3, BATCH, dirs, HIDDEN);
        else
            grad_random(&g, -most, most, 3, dirs, BATCH, HIDDEN);
    if (lstm && o->peepholes)
        grad_random(&g, -most, most, 2, dirs, 3 * HIDDEN);
    if (o->clip > 0 || o->activations[0]) {
        g.h = 1.0 / 256;
        g.tol = 3e-3;
    }
    if (o->no_y)
        g.absent[0] = true;
    grad_finish(&g, 2 + lstm);
}

void grad_recurrent(void)
{
    static const struct cell {
        const char *op;
        int gates;
    } cells[] = { { "RNN", 1 }, { "GRU", 3 }, { "LSTM", 4 } };
    static const options cases[] = {
        { .label = "plain" },
        { .label = "bias", .bias = true },
        { .label = "reverse", .direction = "reverse", .bias = true, .states = true },
        { .label = "bidirectional", .direction = "bidirectional", .bias = true, .states = true },
        { .label = "lengths", .direction = "bidirectional", .lengths = true, .states = true },
        { .label = "lengths, backwards", .direction = "reverse", .lengths = true, .bias = true },
        { .label = "batch first", .direction = "bidirectional", .batch_first = true, .bias = true, .states = true },
        { .label = "final state alone", .bias = true, .no_y = true, .lengths = true },
        { .label = "linear before reset", .bias = true, .linear_before_reset = true, .states = true },
        { .label = "linear before reset, no bias", .direction = "bidirectional", .linear_before_reset = true },
        { .label = "peepholes", .direction = "bidirectional", .bias = true, .peepholes = true, .states = true },
        { .label = "peepholes, no states", .peepholes = true, .lengths = true },
        { .label = "input and forget coupled", .input_forget = true, .peepholes = true, .states = true },
        { .label = "clip", .clip = 0.31f, .bias = true },
    };
    static const char *const names[] = { "Relu",       "Tanh",        "Sigmoid",
                                         "Affine",     "LeakyRelu",   "ThresholdedRelu",
                                         "ScaledTanh", "HardSigmoid", "Elu",
                                         "Softsign",   "Softplus" };
    for (int c = 0; c < 3; c++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if ((!cases[i].linear_before_reset || c == 1) &&
                ((!cases[i].peepholes && !cases[i].input_forget) || c == 2))
                run(cells[c].op, cells[c].gates, &cases[i]);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            options o = { .label = names[i], .bias = true, .activations = { names[i], names[i], names[i] } };
            run(cells[c].op, cells[c].gates, &o);
        }
    }
}
