/* A fake-quantizer of a program: rounds to halves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/fake_quantizer_help.h"

typedef struct halves {
    int seen, backs;
    float scale, zero, dscale, dzero;
} halves;

static void *halves_create(void *user, const rq_fake_quantizer_cfg *cfg)
{
    (void)cfg;
    halves *h = user ? calloc(1, sizeof *h) : NULL;
    if (h)
        h->scale = 0.5f;
    return h;
}
static rq_status halves_observe(void *state, rq_exec *e, const rq_strided *x, rq_err *err)
{
    (void)e, (void)x, (void)err;
    ((halves *)state)->seen++;
    return RQ_OK;
}
static rq_status halves_forward(void *state, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err)
{
    (void)e;
    if (x->shape.rank != 1)
        return rq_fail(err, RQ_BAD_SHAPE, "only rows have halves");
    for (int64_t i = 0; i < x->shape.dim[0]; i++)
        ((float *)y->data)[i] =
            rintf(((const float *)x->data)[i] / ((halves *)state)->scale) * ((halves *)state)->scale;
    return RQ_OK;
}
static rq_status halves_backward(void *state, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                 const rq_strided *x, rq_err *err)
{
    (void)e, (void)x, (void)err;
    ((halves *)state)->backs++;
    ((halves *)state)->dscale += 1;
    memcpy(dx->data, dy->data, (size_t)dy->shape.dim[0] * sizeof(float));
    return RQ_OK;
}
static rq_status halves_qparams(void *state, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    (void)zero_point_f, (void)err;
    return rq_qparams_init_one(out, RQ_DTYPE_S8, ((halves *)state)->scale, 0);
}
static void halves_params(void *state, int *n, float **s, float **z, float **ds, float **dz)
{
    halves *h = state;
    *n = 1, *s = &h->scale, *z = &h->zero, *ds = &h->dscale, *dz = &h->dzero;
}
static void halves_reset(void *state)
{
    *(halves *)state = (halves) { .scale = 0.5f };
}
static rq_status halves_save(void *state, rq_state *s, const char *prefix)
{
    return rq_state_set_floats(s, prefix, "scale", &((halves *)state)->scale, 1);
}
static rq_status halves_load(void *state, const rq_state *s, const char *prefix, rq_err *err)
{
    const rq_tensor *t;
    RQ_TRY(rq_state_get(s, prefix, "scale", RQ_DTYPE_F32, 1, &t, err));
    ((halves *)state)->scale = t->f32[0];
    return RQ_OK;
}

static void one_of_the_program(void **state)
{
    (void)state;
    int user = 1;
    rq_own_fake_quantizer own = { .name = "halves",
                                  .create = halves_create,
                                  .destroy = free,
                                  .observe = halves_observe,
                                  .forward = halves_forward,
                                  .backward = halves_backward,
                                  .qparams = halves_qparams,
                                  .params = halves_params,
                                  .reset = halves_reset,
                                  .save = halves_save,
                                  .load = halves_load,
                                  .user = &user };
    rq_fake_quantizer_cfg c = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_OWN);
    rq_fake_quantizer *q = NULL;
    rq_err err = { 0 };
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_BAD_ARG);
    c.own = &own;
    q = make(&c);
    float x[] = { 0.7f, -1.1f }, y[2], s;
    int z;
    assert_int_equal(feed(q, x, y, 2), RQ_OK);
    assert_true(y[0] == 0.5f && y[1] == -1);
    exported(q, &s, &z);
    assert_true(s == 0.5f && rq_fake_quantizer_channels(q) == 1);
    const rq_strided vx = rq_strided_vector(x, 2), vy = rq_strided_vector(y, 2);
    ok(rq_fake_quantizer_backward(q, NULL, &vy, &vx, &vx, &err), &err);
    assert_true(y[0] == x[0] && rq_fake_quantizer_dscale(q)[0] == 1);
    rq_fake_quantizer_zero_grad(q);
    assert_true(rq_fake_quantizer_dscale(q)[0] == 0);
    rq_fake_quantizer_scale(q)[0] = 0.25f;
    rq_fake_quantizer_enable_observer(q, false);
    rq_state *st;
    assert_int_equal(rq_state_create(&st), RQ_OK);
    assert_int_equal(rq_fake_quantizer_save(q, st, "a."), RQ_OK);
    rq_fake_quantizer *p = make(&c);
    ok(rq_fake_quantizer_load(p, st, "a.", &err), &err);
    assert_true(scale_of(p) == 0.25f && !rq_fake_quantizer_observer_enabled(p));
    rq_fake_quantizer_enable_fake_quant(p, false);
    assert_int_equal(feed(p, x, y, 2), RQ_OK);
    assert_memory_equal(x, y, sizeof x);
    rq_fake_quantizer_reset(p);
    assert_true(scale_of(p) == 0.5f && rq_fake_quantizer_observer_enabled(p));
    rq_fake_quantizer_enable_fake_quant(p, false);
    rq_fake_quantizer_enable_observer(p, false);
    char text[RQ_FAKE_QUANTIZER_TEXT];
    assert_string_equal(rq_fake_quantizer_text(p, text, sizeof text),
                        "halves(fake_quant_enabled=0, observer_enabled=0)");
    rq_fake_quantizer_destroy(p);
    rq_fake_quantizer_destroy(q);
    rq_state_destroy(st);
    own.backward = NULL;
    q = make(&c);
    assert_int_equal(rq_fake_quantizer_backward(q, NULL, &vy, &vx, &vx, &err), RQ_UNSUPPORTED);
    rq_fake_quantizer_destroy(q);
    own.user = NULL;
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_NO_MEMORY);
    own.reset = NULL;
    assert_int_equal(rq_fake_quantizer_create(&q, &c, &err), RQ_BAD_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
