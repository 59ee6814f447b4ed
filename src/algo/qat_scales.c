/* algo/qat_scales.c — a model that is quantized already is trained on: its scales are where the fake-quantizers start. */
#include <string.h>

#include "base/mem.h"
#include "graph/graph.h"
#include "algo/linear_quantizer.h"
#include "ops/raise.h"
#include "quant/fake_quantizer.h"
#include "requant/qat.h"

enum { CODES = 256, ABOVE_MIDDLE = CODES / 2 - 1 };

/* The n scales of q as those of f, whose codes may begin elsewhere (s8 beside u8); false: they mean something else. */
static bool fits(const rq_qparams *q, const rq_fake_quantizer *f, int n)
{
    int32_t lo, hi;
    const rq_qtype t = rq_fake_quantizer_type(f);
    rq_qparams_limits(q, &lo, &hi);
    return hi - lo == CODES - 1 && t.hi - t.lo >= CODES - 2 && !q->block && (q->n == 1 || q->n == n);
}

/* Does its zero stay in the middle of its codes, whatever it is given? */
static bool is_centred(const rq_fake_quantizer *f)
{
    return f->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE && rq_qscheme_is_symmetric(f->cfg.observer.scheme);
}

static rq_status take(rq_fake_quantizer *f, const rq_qparams *q, bool *taken, rq_err *err)
{
    const int n = rq_fake_quantizer_channels(f) > 0 ? rq_fake_quantizer_channels(f) : (int)q->n;
    *taken = false;
    if (!fits(q, f, n))
        return RQ_OK;
    int32_t lo, hi;
    rq_qparams_limits(q, &lo, &hi);
    const rq_qtype t = rq_fake_quantizer_type(f);
    const int32_t shift = t.lo >= 0 ? -lo : lo < 0 ? 0 : -128, middle = (t.lo + t.hi + 1) / 2;
    float *x = rq_mem_alloc(2 * (size_t)n, sizeof *x);
    if (!x)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the scales of the model");
    for (int c = 0; c < n; c++) {
        const int32_t zero = q->zero_point[q->n == 1 ? 0 : c];
        x[c] = q->scale[q->n == 1 ? 0 : c];
        x[n + c] = (float)(zero + shift);
        if (is_centred(f) && zero + shift != middle) /* the scale that reaches as far from there */
            x[c] *= (float)(hi - zero > zero - lo ? hi - zero : zero - lo) / (float)ABOVE_MIDDLE;
    }
    rq_err why;
    *taken =
        rq_fake_quantizer_set_qparams(f, x, x + n, n, &why) == RQ_OK; /* what it cannot take stays as it was observed */
    rq_mem_free(x);
    if (*taken && f->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE)
        return rq_fake_quantizer_enable_param_learning(f, err);
    if (*taken) {
        rq_fake_quantizer_enable_observer(f, false);
        rq_fake_quantizer_enable_fake_quant(f, true);
    }
    return RQ_OK;
}

static const rq_qparams *params_of(const rq_graph *g, const char *value)
{
    const rq_id at = rq_graph_find(g, value);
    return at >= 0 ? rq_graph_qparams(g, at) : NULL;
}

static rq_status take_all(rq_linear_quantizer *q, const rq_graph *annotated, int *n_taken, rq_err *err)
{
    rq_fake_quantizer *const *fakes;
    const int n = rq_linear_quantizer_fakes(q, &fakes, NULL);
    const rq_graph *g = rq_linear_quantizer_model(q);
    bool *done = rq_mem_zalloc((size_t)n + 1, sizeof *done);
    rq_status st = done ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory for the scales of the model");
    for (int i = 0; i < g->n_nodes && !st; i++) {
        const rq_node *node = &g->nodes[i];
        if (!node->op || strcmp(node->op, "FakeQuantize") != 0)
            continue;
        const int64_t slot = rq_attr_int(node, RQ_WORD_slot, -1);
        const rq_qparams *p = params_of(annotated, g->values[node->in[0]].name);
        p = p ? p
              : params_of(annotated,
                          g->values[node->out[0]].name); /* it has taken over the name of what it quantizes */
        if (slot < 0 || slot >= n || done[slot] || !p)
            continue;
        st = take(fakes[slot], p, &done[slot], err);
        *n_taken += done[slot];
        if (done[slot])
            rq_lq_hold(q, (int)slot);
    }
    rq_mem_free(done);
    return st;
}

rq_status rq_qat_take_scales(rq_linear_quantizer *q, const rq_graph *quantized, int *n_taken, rq_err *err)
{
    rq_graph *work = NULL;
    *n_taken = 0;
    if (!rq_linear_quantizer_model(q))
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared");
    if (rq_graph_copy(&work, quantized))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the scales of the model");
    rq_status st = rq_raise_annotate(work, NULL, err);
    if (!st)
        st = take_all(q, work, n_taken, err);
    rq_graph_destroy(work);
    return st;
}
