/* own_op.c — a network built by hand with an operator of one's own in the middle, run by the library.
 *
 *   cc own_op.c $(pkg-config --cflags --libs requant) -o own_op && ./own_op
 * prints the reals and what the same network gives in integers. */
#include <requant/requant.h>
#include <stdio.h>

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != RQ_OK) {                                                                                         \
            fprintf(stderr, "own_op: %s\n", err.text);                                                                 \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* y = x * min(max(x + shift, 0), 6) / 6, one element at a time */
static rq_status hard_gate_infer(void *user, const rq_own_call *c, rq_dtype *dtype, rq_shape *shape)
{
    if (c->in[0]->dtype != RQ_DTYPE_F32)
        return rq_own_fail(c, RQ_BAD_DTYPE, "input is %s, expected f32", rq_dtype_name(c->in[0]->dtype));
    dtype[0] = c->in[0]->dtype;
    shape[0] = c->in[0]->shape;
    return RQ_OK;
}

static rq_status hard_gate(void *user, const rq_own_call *c, rq_tensor *const *out)
{
    const float shift = rq_own_attr_float(c, "shift", 3);
    for (int64_t i = 0; i < rq_tensor_count(out[0]); i++) {
        float x = c->in[0]->f32[i], gate = x + shift;
        out[0]->f32[i] = x * (gate < 0 ? 0 : gate > 6 ? 6 : gate) / 6;
    }
    return RQ_OK;
}

static rq_err err;

static int run(const rq_graph *g, const char *what)
{
    float x[5] = { -4, -1, 0, 1, 4 };
    const rq_feed in = { "x", rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 1, { 5 } }, x) };
    rq_session *s;
    rq_tensor y;
    const rq_layer_info *layers;
    OK(rq_session_create(&s, g, NULL, &err));
    OK(rq_session_run(s, &in, 1, &y, &err));
    int n_layers = rq_session_layers(s, &layers), n_integer = 0;
    for (int i = 0; i < n_layers; i++)
        n_integer += layers[i].integer;
    printf("%s, %s:", what, n_integer ? "in integers" : "in float");
    for (int i = 0; i < 5; i++)
        printf(" %.3f", y.f32[i]);
    printf("\n");
    rq_tensor_release(&y);
    rq_session_destroy(s);
    return 0;
}

int main(void)
{
    const rq_own_op op = { .domain = "com.example",
                           .name = "HardGate",
                           .min_in = 1,
                           .max_in = 1,
                           .n_out = 1,
                           .infer = hard_gate_infer,
                           .forward = hard_gate,
                           .elementwise = true };
    rq_own *own;
    rq_graph *g;
    rq_qparams q;
    if (rq_own_create(&own) || rq_graph_create(&g) || rq_qparams_init_one(&q, RQ_DTYPE_S8, 4 / 127.f, 0))
        return 1;
    OK(rq_own_add_op(own, &op, &err));
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_set_opset(g, "com.example", 1, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &(rq_shape) { 1, { 5 } }, &err));
    const rq_edit_node node = { .op = "HardGate",
                                .domain = "com.example",
                                .name = "gate",
                                .n_in = 1,
                                .n_out = 1,
                                .in = (const char *[]) { "x" },
                                .out = (const char *[]) { "y" } };
    OK(rq_edit_add_node(g, &node, NULL, &err));
    OK(rq_edit_add_output(g, "y", &err));
    OK(rq_own_attach(g, own, &err)); /* checks the graph too */
    rq_own_unref(&own);              /* the graph holds it */
    if (run(g, "as built"))
        return 1;
    OK(rq_edit_set_quant(g, "x", &q, &err));
    OK(rq_edit_set_quant(g, "y", &q, &err));
    int failed = run(g, "annotated");
    rq_qparams_release(&q);
    rq_graph_destroy(g);
    return failed;
}
