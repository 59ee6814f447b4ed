/* tests/formats/test_onnx_recurrent.c — DynamicQuantizeGRU and DynamicQuantizeRNN in files: the function that spells one out is the operator when it is read
 * back, and what it says is what the operator computes, bit for bit, on operators of the standard (Scan and all). A function of that name that says something else
 * is what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/rng.h"
#include "formats/onnx.h"
#include "run/program.h"

#define FOLDER "tests/golden/recurrent/"
#define OUT RQ_TEST_TMP "/recurrent.onnx"
#define OUT2 RQ_TEST_TMP "/recurrent-twice.onnx"

enum { MAX_IO = 12 };

static const char *const models[] = { "gru",
                                      "gru_behind",
                                      "gru_both",
                                      "gru_both_lengths",
                                      "gru_clip",
                                      "gru_reverse_lengths",
                                      "gru_batch_first",
                                      "gru_reverse_no_bias",
                                      "gru_long",
                                      "gru_functions",
                                      "rnn",
                                      "rnn_both_lengths",
                                      "overloads",
                                      "rnn_batch_first" };

enum { N_MODELS = sizeof models / sizeof models[0] };

static rq_graph *load(const char *path)
{
    rq_graph *g;
    rq_err err = { 0 };
    if (rq_load(&g, path, &err))
        fail_msg("%s", err.text);
    return g;
}

static void path_of(char *path, size_t n, const char *model)
{
    snprintf(path, n, FOLDER "%s.onnx", model);
}

/* How many nodes are ours, and how many there are. */
static int count(const rq_graph *g, int *all)
{
    int ours = 0;
    *all = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        *all += n->op != NULL;
        ours += n->op && !strcmp(n->domain, "requant") && !strncmp(n->op, "DynamicQuantize", 15) && !n->overload[0];
    }
    return ours;
}

typedef void (*change_fn)(Onnx__ModelProto *m);

/* The model with a change, in OUT. */
static void rewrite(const char *path, change_fn change)
{
    rq_map file;
    rq_file f;
    assert_int_equal(rq_file_map(&file, path, NULL), RQ_OK);
    Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, file.size, file.data);
    assert_non_null(m);
    change(m);
    const size_t n = onnx__model_proto__get_packed_size(m);
    uint8_t *bytes = malloc(n);
    onnx__model_proto__pack(m, bytes);
    assert_int_equal(rq_file_create(&f, OUT, NULL), RQ_OK);
    assert_int_equal(rq_file_write(&f, bytes, n, NULL), RQ_OK);
    assert_int_equal(rq_file_commit(&f, NULL), RQ_OK);
    free(bytes);
    onnx__model_proto__free_unpacked(m, NULL);
    rq_file_unmap(&file);
}

static ProtobufCBinaryData copy(const char *text)
{
    return (ProtobufCBinaryData) { strlen(text), (uint8_t *)strdup(text) };
}

static void make_foreign(Onnx__ModelProto *m)
{
    for (size_t i = 0; i < m->n_functions; i++) {
        m->functions[i]->doc_string = copy("somebody else's");
        m->functions[i]->has_doc_string = true;
    }
}

static void change_meaning(Onnx__ModelProto *m)
{
    Onnx__FunctionProto *f = m->functions[0];
    for (size_t i = 0; i < f->n_node; i++)
        for (size_t k = 0; k < f->node[i]->n_attribute; k++) {
            Onnx__GraphProto *body = f->node[i]->attribute[k]->g;
            for (size_t j = 0; body && j < body->n_node; j++) {
                Onnx__NodeProto *n = body->node[j];
                if (n->output[0].len == 6 && !memcmp(n->output[0].data, "f_rest", 6)) {
                    free(n->op_type.data);
                    n->op_type = copy("Add"); /* 1 + z for 1 - z */
                }
            }
        }
}

static void run(const rq_graph *g, rq_tensor *out)
{
    const rq_session_cfg cfg = { 0 };
    rq_tensor in[MAX_IO];
    rq_kernels k;
    rq_threads *t = NULL;
    rq_program *p;
    rq_err err = { 0 };
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    rq_kernels_init(&k, rq_cpu_detect());
    assert_int_equal(rq_threads_create(&t, 1), RQ_OK);
    assert_true(g->n_inputs <= MAX_IO && g->n_outputs <= MAX_IO);
    if (rq_program_create(&p, g, &cfg, &k, t, NULL, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < g->n_inputs; i++) {
        const rq_value *v = &g->values[g->inputs[i]];
        assert_int_equal(rq_tensor_create(&in[i], v->dtype, &v->shape, true), RQ_OK);
        for (int64_t j = 0; j < rq_tensor_count(&in[i]); j++)
            rq_tensor_set(&in[i], j, v->dtype == RQ_DTYPE_F32 ? (double)rq_rng_f32(&rng) * 4 - 2 : (double)(1 + j % 4));
    }
    if (rq_program_run(p, in, out, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < g->n_inputs; i++)
        rq_tensor_release(&in[i]);
    rq_program_destroy(p);
    rq_threads_destroy(t);
}

/* Do the graphs compute the same bits? */
static bool is_same(const rq_graph *a, const rq_graph *b)
{
    rq_tensor x[MAX_IO], y[MAX_IO];
    bool same = a->n_outputs == b->n_outputs;
    run(a, x);
    run(b, y);
    for (int i = 0; same && i < a->n_outputs; i++)
        same = x[i].bytes == y[i].bytes && !memcmp(x[i].data, y[i].data, x[i].bytes);
    for (int i = 0; i < a->n_outputs; i++) {
        rq_tensor_release(&x[i]);
        rq_tensor_release(&y[i]);
    }
    return same;
}

static void the_function_is_the_operator(void **state)
{
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        char path[128];
        int all;
        rq_map a, b;
        path_of(path, sizeof path, models[i]);
        rq_graph *g = load(path), *again;
        if (count(g, &all) != all)
            fail_msg("%s: %d nodes, of which %d are ours", path, all, count(g, &all));
        assert_int_equal(rq_save(g, OUT, NULL), RQ_OK);
        again = load(OUT);
        assert_int_equal(count(again, &all), all);
        assert_true(is_same(g, again));
        assert_int_equal(rq_save(again, OUT2, NULL), RQ_OK);
        assert_int_equal(rq_file_map(&a, OUT, NULL), RQ_OK);
        assert_int_equal(rq_file_map(&b, OUT2, NULL), RQ_OK);
        assert_true(a.size == b.size && !memcmp(a.data, b.data, a.size));
        rq_file_unmap(&a);
        rq_file_unmap(&b);
        rq_graph_destroy(g);
        rq_graph_destroy(again);
    }
}

static void a_foreign_function_is_put_in_place(void **state)
{
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        char path[128];
        int all;
        path_of(path, sizeof path, models[i]);
        rewrite(path, make_foreign);
        rq_graph *ours = load(path), *theirs = load(OUT);
        assert_int_equal(count(theirs, &all), 0);
        assert_true(all > 20);
        if (!is_same(ours, theirs))
            fail_msg("%s: the function computes something else than the operator", path);
        rq_graph_destroy(ours);
        rq_graph_destroy(theirs);
    }
}

static void a_function_is_what_it_says(void **state)
{
    (void)state;
    rewrite(FOLDER "gru.onnx", change_meaning);
    int all;
    rq_graph *ours = load(FOLDER "gru.onnx"), *theirs = load(OUT);
    assert_int_equal(count(theirs, &all), 0);
    assert_false(is_same(ours, theirs));
    rq_graph_destroy(ours);
    rq_graph_destroy(theirs);
}

/* Inputs of a good node, of which one is another's. */
static void bad_nodes_are_refused(void **state)
{
    static const struct {
        int in, instead; /* -1: nothing */
        const char *says;
    } cases[] = {
        { 9, -1, "input 9, a scale or zero point, is missing" },
        { 6, 3, "input 6 has 54 entries, expected 1 or 27" },
        { 7, 6, "input 7 is f32, expected s8" },
        { 1, 3, "the weights are f32, expected u8 or s8" },
        { 2, 1, "R has shape [1,6,27], expected [1,9,27]" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err = { 0 };
        rq_graph *g = load(FOLDER "torch_gru.onnx");
        const rq_id other = cases[i].instead < 0 ? RQ_NONE : g->nodes[0].in[cases[i].instead];
        assert_int_equal(rq_graph_set_input(g, 0, cases[i].in, other), RQ_OK);
        assert_int_not_equal(rq_ops_infer(g, &err), RQ_OK);
        if (!strstr(err.text, cases[i].says))
            fail_msg("'%s', expected '%s'", err.text, cases[i].says);
        rq_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_function_is_the_operator),
                                        cmocka_unit_test(a_foreign_function_is_put_in_place),
                                        cmocka_unit_test(a_function_is_what_it_says),
                                        cmocka_unit_test(bad_nodes_are_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
