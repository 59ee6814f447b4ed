/* tests/run/plan_help.h — graphs run with a plan of our choice (rq_program.plain), what came out, and what the plan was like. */
#ifndef TEST_RUN_PLAN_HELP_H
#define TEST_RUN_PLAN_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "base/threads.h"
#include "ops/build.h"
#include "run/program.h"

static inline void annotate(rq_graph *g, rq_id v, rq_dtype d, float scale, int32_t zero)
{
    rq_qparams q;
    assert_int_equal(rq_qparams_init_one(&q, d, scale, zero), RQ_OK);
    assert_int_equal(rq_graph_add_quant(g, &g->values[v].quant, &q, "given"), RQ_OK);
}

/* ---- a product, as far as a plan can tell: 3 u + 1 of each code u, not element by element, with posts, channels-last ---- */

static inline bool product_accepts(const rq_op_args *a, const char **why)
{
    *why = "not codes";
    return a->in_q[0] && a->out_q[0] && rq_dtype_bits(a->in_q[0]->dtype) == 8 && rq_dtype_bits(a->out_q[0]->dtype) == 8;
}

static inline rq_last product_last(const rq_op_args *a)
{
    (void)a;
    return RQ_LAST_WANTS;
}

static inline rq_status product_run(const rq_op_args *a)
{
    const size_t n = (size_t)rq_tensor_count(a->in[0]);
    const uint8_t x = a->in_q[0]->dtype == RQ_DTYPE_S8 ? 0x80 : 0, y = a->out_q[0]->dtype == RQ_DTYPE_S8 ? 0x80 : 0;
    assert_int_equal(a->in[0]->dtype, a->in_q[0]->dtype);
    assert_int_equal(a->out[0]->dtype, a->out_q[0]->dtype);
    const size_t run = a->out_ld ? (size_t)a->out[0]->shape.dim[1] : n;
    for (size_t from = 0, to = 0; from < n; from += run, to += (size_t)a->out_ld) {
        for (size_t i = 0; i < run; i++)
            a->out[0]->u8[to + i] = (uint8_t)((a->in[0]->u8[from + i] ^ x) * 3 + 1) ^ y;
    }
    const int64_t c = a->last ? a->out[0]->shape.dim[1] : (int64_t)n, ld = a->out_ld ? a->out_ld : c;
    if (a->n_post && n)
        rq_post_rows(a->k, a->post, a->n_post, a->out[0]->u8, ld, 0, (int64_t)n / c, 0, c);
    return RQ_OK;
}

/* Softsign is such a product. */
static inline void bind_product(rq_graph *g, rq_op *row)
{
    rq_ops_bind(g);
    *row = *rq_op_find("", "Softsign");
    row->flags = RQ_OP_POSTS | RQ_OP_OUT_LD;
    row->accepts_int = product_accepts;
    row->last = product_last;
    row->prepare_int = NULL;
    row->forward_int = product_run;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].op, "Softsign"))
            g->nodes[i].row = row;
}

/* ---- running a graph with a plan of our choice ---- */

typedef struct ran {
    rq_tensor out[4];
    int n_out;
    int relayouts, quantizes, dequantizes, on_last, posts, reals, steps; /* of the plan; reals: looked up */
    int copies, taken,
        spread; /* Concat, Split, Slice and Transpose that run; outputs in the place of inputs; with room between pixels */
    int apart; /* inputs that are read with room between pixels, those of sums behind products, too */
    size_t bytes;
    uint64_t tapped; /* a hash of what taps saw */
    int taps;
} ran;

static inline uint64_t hash(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static inline rq_status see_codes(void *arg, const char *value, const rq_tensor *t, const rq_qparams *q, rq_err *err)
{
    ran *r = arg;
    (void)value, (void)q, (void)err;
    r->tapped = hash(r->tapped, t->data, t->bytes);
    r->taps++;
    return RQ_OK;
}

static inline rq_status see_reals(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    return see_codes(arg, value, t, NULL, err);
}

static bool plan_spec;           /* rounding by the definition */
static rq_threads *plan_threads; /* NULL: the caller's alone */

/* tap: a value seen as codes and as reals, or RQ_NONE. Twice, so that the second run has the plan of the first; that one runs on zeros, so that what is
 * read before it is made is not what it will be. cpu: with its kernels. */
static inline void run_plan_on(unsigned cpu, rq_graph *g, unsigned plain, rq_id tap, const rq_tensor *x, ran *r)
{
    const rq_session_cfg cfg = { 0 };
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    rq_tap taps[2] = { { .value = tap, .fn_codes = see_codes, .arg = r }, { .value = tap, .fn = see_reals, .arg = r } };
    memset(r, 0, sizeof *r);
    rq_kernels_init(&k, cpu);
    k.spec = plan_spec;
    rq_op product;
    bind_product(g, &product);
    if (rq_program_create(&p, g, &cfg, &k, plan_threads, NULL, &err))
        fail_msg("%s", err.text);
    p->plain = plain;
    if (tap != RQ_NONE) {
        p->taps = taps;
        p->n_taps = 2;
    }
    rq_tensor zeros;
    assert_int_equal(rq_tensor_create(&zeros, x->dtype, &x->shape, true), RQ_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < r->n_out; i++)
            rq_tensor_release(&r->out[i]);
        r->n_out = g->n_outputs;
        if (rq_program_run(p, round ? x : &zeros, r->out, &err))
            fail_msg("%s", err.text);
    }
    rq_tensor_release(&zeros);
    for (int i = 0; i < p->n_segs; i++)
        for (int s = 0; s < p->segs[i]->n_run; s++) {
            const rq_step *step = &p->segs[i]->steps[p->segs[i]->run[s]];
            r->steps++;
            r->posts += step->args.n_post;
            r->relayouts += step->kind == RQ_STEP_RELAYOUT;
            r->quantizes += step->kind == RQ_STEP_QUANTIZE;
            r->dequantizes += step->kind == RQ_STEP_DEQUANTIZE;
            r->reals += step->mode == RQ_MODE_TABLE && step->args.out[0]->dtype == RQ_DTYPE_F32;
            r->on_last += step->kind == RQ_STEP_OP && step->args.last;
            r->spread += step->args.out_ld != 0;
            for (int in = 0; in < step->args.n_in && step->args.in_ld; in++)
                r->apart += step->args.in_ld[in] != 0;
            for (int post = 0; post < step->args.n_post; post++)
                r->apart += step->other_form[post] >= 0 && p->forms[step->other_form[post]].ld != 0;
            static const char *const moves[] = { "Concat", "Split", "Slice", "Transpose" };
            for (int m = 0; m < 4; m++)
                r->copies += step->kind == RQ_STEP_OP && !strcmp(step->row->name, moves[m]);
            for (int o = 0; o < step->args.n_out; o++)
                r->taken += step->out_form[o] >= 0 && p->forms[step->out_form[o]].takes >= 0;
        }
    for (int i = 0; i < p->n_segs; i++)
        r->bytes += p->segs[i]->block_bytes - p->segs[i]->scratch_bytes;
    p->taps = NULL;
    p->n_taps = 0;
    rq_program_destroy(p);
}

static inline void run_plan(rq_graph *g, unsigned plain, rq_id tap, const rq_tensor *x, ran *r)
{
    run_plan_on(rq_cpu_detect(), g, plain, tap, x, r);
}

static inline void release(ran *r)
{
    for (int i = 0; i < r->n_out; i++)
        rq_tensor_release(&r->out[i]);
}

static inline void assert_same(const ran *a, const ran *b)
{
    assert_int_equal(a->n_out, b->n_out);
    for (int i = 0; i < a->n_out; i++) {
        assert_true(rq_shape_equal(&a->out[i].shape, &b->out[i].shape));
        assert_memory_equal(a->out[i].data, b->out[i].data, a->out[i].bytes);
    }
    assert_true(a->tapped == b->tapped);
    assert_int_equal(a->taps, b->taps);
}

static inline rq_tensor random_reals(rq_rng *rng, const rq_shape *s)
{
    rq_tensor t;
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_F32, s, false), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++)
        t.f32[i] = (rq_rng_f32(rng) - 0.5f) * 10;
    return t;
}

#endif
