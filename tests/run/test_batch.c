/* tests/run/test_batch.c — a batch in parts: the same bits as in one piece, over the models of the golden sets and over one operator at a time; what mixes samples
 * is not cut, by reason; blocks are those of a part; times, types and sizes are those of the whole; nothing is allocated or packed in the first run that
 * was planned ahead. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "run/batch_cases.h"
#include "run/session_priv.h"

enum { MOST = 9, MOST_ENDS = 8 };

#define MODEL "tests/golden/onnx/static_quant/depthwise_qdq_u8s8.onnx" /* x f32[n,1,8,8] -> y f32[n,10] */

/* ---- a model, a batch, parts ---- */

typedef struct feeds {
    rq_feed in[MOST_ENDS];
    rq_tensor own[MOST_ENDS];
    int n;
} feeds;

/* Numbers for each input of s; false: sizes other than that of the batch are open. */
static bool make_feeds(feeds *f, const rq_session *s, int64_t batch)
{
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    f->n = 0;
    for (int i = 0; i < rq_session_n_inputs(s) && i < MOST_ENDS; i++) {
        rq_value_info v = rq_graph_input(rq_session_graph(s), i);
        if (v.shape.rank < 1 || v.shape.dim[0] >= 0 || v.dtype == RQ_DTYPE_NONE)
            return false;
        v.shape.dim[0] = batch;
        if (!rq_shape_is_known(&v.shape) || rq_tensor_create(&f->own[i], v.dtype, &v.shape, true))
            return false;
        f->n++;
        for (int64_t k = 0; k < rq_tensor_count(&f->own[i]); k++)
            rq_tensor_set(&f->own[i], k, v.dtype == RQ_DTYPE_F32 ? rq_rng_f32(&rng) * 4 - 2 : (double)(k % 3));
        f->in[i] = (rq_feed) { v.name, f->own[i] };
    }
    return f->n > 0;
}

static void drop_feeds(feeds *f)
{
    for (int i = 0; i < f->n; i++)
        rq_tensor_release(&f->own[i]);
}

static void drop(rq_tensor *out, int n)
{
    for (int i = 0; i < n; i++)
        rq_tensor_release(&out[i]);
}

/* Runs `cut`, a session of the same model as `whole`, and expects its bits; were they computed in parts? */
static bool same(rq_session *whole, rq_session *cut, const char *what, int64_t batch)
{
    rq_tensor want[MOST_ENDS], got[MOST_ENDS];
    const int n = rq_session_n_outputs(whole);
    rq_err err = { 0 };
    feeds f;
    bool in_parts = false;
    assert_true(n <= MOST_ENDS);
    if (make_feeds(&f, whole, batch)) {
        const rq_status st = rq_session_run(whole, f.in, f.n, want, &err);
        if (rq_session_run(cut, f.in, f.n, got, &err) != st)
            fail_msg("%s, batch %d: %s", what, (int)batch, err.text);
        for (int i = 0; i < n && !st; i++)
            if (want[i].dtype != got[i].dtype || !rq_shape_equal(&want[i].shape, &got[i].shape) ||
                memcmp(want[i].data, got[i].data, want[i].bytes) != 0)
                fail_msg("%s, batch %d, %d at once: output %d has other bits", what, (int)batch, (int)cut->batch.part,
                         i);
        assert_int_equal(whole->batch.n, 0);
        in_parts = !st && cut->batch.n;
        if (!st)
            drop(want, n), drop(got, n);
    }
    drop_feeds(&f);
    return in_parts;
}

/* ---- the golden models ---- */

static int compare_model(const char *path)
{
    int cut = 0;
    rq_session *whole, *part;
    const rq_session_cfg all = { .threads = 2, .samples_at_once = RQ_ALL_SAMPLES };
    if (rq_session_load(&whole, path, &all, NULL))
        return 0;
    for (int at_once = 0; at_once <= 3; at_once++) {
        const rq_session_cfg some = { .threads = 1 + at_once % 2, .samples_at_once = at_once };
        assert_int_equal(rq_session_share(&part, whole, &some, NULL), RQ_OK);
        for (int64_t batch = MOST; batch >= 1; batch--)
            cut += same(whole, part, path, batch);
        rq_session_destroy(part);
    }
    rq_session_destroy(whole);
    return cut;
}

static void models_in_parts_have_the_same_bits(void **state)
{
    (void)state;
    static const char *const folders[] = { "models", "tests/golden/onnx/qdq", "tests/golden/onnx/static_quant" };
    const size_t before = rq_mem_live();
    int models = 0, cut = 0;
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++) {
        DIR *d = opendir(folders[k]);
        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d));) {
            char path[512];
            const size_t len = strlen(e->d_name);
            if (len < 5 || strcmp(e->d_name + len - 5, ".onnx") != 0)
                continue;
            snprintf(path, sizeof path, "%s/%s", folders[k], e->d_name);
            const int runs = compare_model(path);
            models += runs > 0;
            cut += runs;
        }
        closedir(d);
    }
    print_message("%d models were run in parts, %d times\n", models, cut);
    assert_true(models >= 100);
    assert_int_equal(rq_mem_live(), before);
}

/* ---- one operator ---- */

static rq_graph *graph_of(case_fn *make)
{
    rq_graph *g = build_graph(18);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, C, S, S });
    build_output(g, make(g, x));
    return g;
}

static bool is_cut(const char *what, rq_graph *g)
{
    rq_session *whole = NULL, *part;
    rq_err err = { 0 };
    bool cut = false;
    const rq_session_cfg all = { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES };
    if (rq_session_create(&whole, g, &all, &err))
        fail_msg("%s: %s", what, err.text);
    for (int at_once = 1; at_once <= 4; at_once++) {
        const rq_session_cfg some = { .threads = 1, .samples_at_once = at_once };
        assert_int_equal(rq_session_share(&part, whole, &some, NULL), RQ_OK);
        for (int64_t batch = C; batch <= S + 1; batch++)
            cut |= same(whole, part, what, batch);
        rq_session_destroy(part);
    }
    rq_session_destroy(whole);
    rq_graph_destroy(g);
    return cut;
}

#define ROW_OF(id)                                                                                                     \
    {                                                                                                                  \
#id, id                                                                                                        \
    }
typedef struct row {
    const char *name;
    case_fn *make;
} row;

static void what_is_done_one_by_one_is_cut(void **state)
{
    (void)state;
    static const row rows[] = {
        ROW_OF(conv),       ROW_OF(pool),          ROW_OF(pool_alone),   ROW_OF(global_pool),
        ROW_OF(relu),       ROW_OF(add_channels),  ROW_OF(add_one_row),  ROW_OF(add_itself),
        ROW_OF(softmax),    ROW_OF(reshape),       ROW_OF(reshape_rest), ROW_OF(reshape_count),
        ROW_OF(flatten),    ROW_OF(squeeze_named), ROW_OF(transpose),    ROW_OF(concat),
        ROW_OF(slice),      ROW_OF(slice_all),     ROW_OF(pad),          ROW_OF(reduce),
        ROW_OF(matmul),     ROW_OF(matmul_both),   ROW_OF(matmul_left),  ROW_OF(gemm),
        ROW_OF(gather),     ROW_OF(table),         ROW_OF(expand),       ROW_OF(layer_norm),
        ROW_OF(batch_norm), ROW_OF(where),         ROW_OF(quantize),     ROW_OF(quantize_channels),
        ROW_OF(resize),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!is_cut(rows[i].name, graph_of(rows[i].make)))
            fail_msg("%s was not cut", rows[i].name);
}

static void what_mixes_samples_is_not_cut(void **state)
{
    (void)state;
    static const row rows[] = {
        ROW_OF(softmax_over),      ROW_OF(concat_over),    ROW_OF(slice_over),       ROW_OF(slice_first),
        ROW_OF(slice_back),        ROW_OF(transpose_over), ROW_OF(transpose_back),   ROW_OF(reshape_over),
        ROW_OF(reshape_round),     ROW_OF(flatten_all),    ROW_OF(squeeze_any),      ROW_OF(pad_shifts),
        ROW_OF(pad_shifts_named),  ROW_OF(reduce_over),    ROW_OF(reduce_all),       ROW_OF(broadcast_rows),
        ROW_OF(broadcast_images),  ROW_OF(matmul_right),   ROW_OF(gather_over),      ROW_OF(gather_within),
        ROW_OF(arg_max_over),      ROW_OF(cumulate),       ROW_OF(norm_over),        ROW_OF(norm_batch),
        ROW_OF(batch_norm_trains), ROW_OF(how_many),       ROW_OF(numbered),         ROW_OF(fixed_output),
        ROW_OF(count_output),      ROW_OF(non_zero),       ROW_OF(resize_crops),     ROW_OF(norm_by_rows),
        ROW_OF(pool_places),       ROW_OF(captured),       ROW_OF(scaled_by_sample), ROW_OF(square),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (is_cut(rows[i].name, graph_of(rows[i].make)))
            fail_msg("%s was cut", rows[i].name);
}

/* ---- what else stands in the way ---- */

static rq_status look(void *arg, const char *value, const rq_tensor *t, rq_err *err)
{
    (void)value, (void)err;
    *(int64_t *)arg = t->shape.dim[0];
    return RQ_OK;
}

/* A batch of g, of `names` inputs in all, by a session like cfg: how many samples at once; 0: all. */
static int64_t at_once(const rq_graph *g, const rq_session_cfg *cfg, const int64_t *batch, const char *tap)
{
    rq_session *s;
    rq_err err = { 0 };
    rq_feed in[2];
    rq_tensor out;
    int64_t seen = -1;
    if (rq_session_create(&s, g, cfg, &err) || (tap && rq_session_tap(s, tap, look, &seen, &err)))
        fail_msg("%s", err.text);
    for (int i = 0; i < g->n_inputs; i++) {
        const rq_shape shape = rq_shape_of(4, (int64_t[]) { batch[i], C, S, S });
        in[i].name = g->values[g->inputs[i]].name;
        assert_int_equal(rq_tensor_create(&in[i].tensor, RQ_DTYPE_F32, &shape, true), RQ_OK);
    }
    if (rq_session_run(s, in, g->n_inputs, &out, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < g->n_inputs; i++)
        rq_tensor_release(&in[i].tensor);
    const int64_t part = s->batch.n ? s->batch.part : 0;
    assert_true(!tap || seen == batch[0]);
    rq_tensor_release(&out);
    rq_session_destroy(s);
    return part;
}

static void sessions_say_when_a_batch_is_not_cut(void **state)
{
    (void)state;
    const rq_session_cfg two = { .threads = 1, .samples_at_once = 2 },
                         all = { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES },
                         library = { .threads = 1, .samples_at_once = 2, .onednn = true };
    rq_graph *g = graph_of(conv);
    assert_int_equal(at_once(g, &two, (int64_t[]) { 6 }, NULL), 2);
    assert_int_equal(at_once(g, &two, (int64_t[]) { 5 }, NULL), 2);
    assert_int_equal(at_once(g, &two, (int64_t[]) { 2 }, NULL), 0); /* it fits */
    assert_int_equal(at_once(g, &two, (int64_t[]) { 1 }, NULL), 0);
    assert_int_equal(at_once(g, &all, (int64_t[]) { 6 }, NULL), 0);
    assert_int_equal(at_once(g, &two, (int64_t[]) { 6 }, "x"), 0); /* taps see whole tensors */
    assert_int_equal(at_once(g, &library, (int64_t[]) { 6 }, NULL), 0);
    rq_graph_destroy(g);
    g = graph_of(relu); /* no product */
    assert_int_equal(at_once(g, &library, (int64_t[]) { 6 }, NULL), 2);
    g->values[g->inputs[0]].shape.dim[0] = 6; /* the model says how many there are */
    assert_int_equal(at_once(g, &two, (int64_t[]) { 6 }, NULL), 0);
    rq_graph_destroy(g);
    for (int none = 0; none < 2; none++) { /* drawn once per run */
        g = graph_of(none ? random_of_nothing : random_numbers);
        assert_int_equal(at_once(g, &two, (int64_t[]) { 6 }, NULL), 0);
        rq_graph_destroy(g);
    }
    for (int one = 0; one < 2; one++) { /* two inputs, as many samples in both, or one beside six */
        g = graph_of(relu);
        const rq_id y = build_input(g, "y", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, C, S, S });
        g->outputs[0] = build_node(g, "Add", "sum", RQ_DTYPE_F32, BUILD_IN(g->outputs[0], y));
        assert_int_equal(at_once(g, &two, (int64_t[]) { 6, one ? 1 : 6 }, NULL), one ? 0 : 2);
        rq_graph_destroy(g);
    }
}

/* ---- what is seen from outside ---- */

static rq_session *load(int threads, int samples_at_once, bool profile)
{
    rq_session *s;
    rq_err err = { 0 };
    const rq_session_cfg cfg = { .threads = threads, .samples_at_once = samples_at_once, .profile = profile };
    if (rq_session_load(&s, MODEL, &cfg, &err))
        fail_msg("%s", err.text);
    return s;
}

static void a_block_is_that_of_a_part(void **state)
{
    (void)state;
    size_t bytes[3];
    for (int i = 0; i < 3; i++) {
        rq_session *s = load(1, i == 2 ? RQ_ALL_SAMPLES : 2, false);
        feeds f;
        assert_true(make_feeds(&f, s, i ? 8 : 2));
        assert_int_equal(rq_session_prepare(s, f.in, f.n, NULL), RQ_OK);
        bytes[i] = rq_session_arena_bytes(s);
        assert_int_equal(rq_session_input(s, 0).shape.dim[0], i ? 8 : 2);
        assert_int_equal(rq_session_output(s, 0).shape.dim[0], i ? 8 : 2);
        drop_feeds(&f);
        rq_session_destroy(s);
    }
    assert_true(bytes[0] == bytes[1]);
    assert_true(bytes[2] > 3 * bytes[1]);
}

/* Layers are those of the whole: work adds up over the parts, the last, shorter one among them. */
static void layers_add_up(void **state)
{
    (void)state;
    rq_session *part = load(1, 3, true), *whole = load(1, RQ_ALL_SAMPLES, true);
    for (int64_t batch = 7; batch <= 9; batch++) {
        const rq_layer_info *a, *b;
        assert_true(same(whole, part, MODEL, batch));
        const int n = rq_session_layers(part, &a);
        assert_int_equal(rq_session_layers(whole, &b), n);
        double ms = 0;
        for (int i = 0; i < n; i++) {
            assert_string_equal(a[i].output, b[i].output);
            assert_true(a[i].macs == b[i].macs);
            ms += a[i].ms;
        }
        assert_true(ms > 0);
    }
    rq_session_destroy(part);
    rq_session_destroy(whole);
}

/* A run of a batch that was planned ahead asks for no memory, and so packs nothing; into buffers of the caller's, which fit as a whole or are refused. */
static void bound_buffers_take_parts(void **state)
{
    (void)state;
    enum { IN = 64, OUT = 10 };
    static float in[MOST * IN], want[MOST * OUT], out[MOST * OUT + 1];
    rq_session *whole = load(1, RQ_ALL_SAMPLES, false), *part = load(2, 4, false);
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int i = 0; i < MOST * IN; i++)
        in[i] = rq_rng_f32(&rng);
    for (int batch = MOST; batch >= 1; batch--) {
        const rq_shape xs = rq_shape_of(4, (int64_t[]) { batch, 1, 8, 8 }),
                       ys = rq_shape_of(2, (int64_t[]) { batch, OUT });
        const rq_tensor x = rq_tensor_view(RQ_DTYPE_F32, &xs, in), y = rq_tensor_view(RQ_DTYPE_F32, &ys, out),
                        z = rq_tensor_view(RQ_DTYPE_F32, &ys, want);
        assert_int_equal(rq_session_bind_input(whole, "x", &x, NULL), RQ_OK);
        assert_int_equal(rq_session_bind_output(whole, "y", &z, NULL), RQ_OK);
        assert_int_equal(rq_session_run_bound(whole, NULL), RQ_OK);
        assert_int_equal(rq_session_bind_input(part, "x", &x, NULL), RQ_OK);
        assert_int_equal(rq_session_bind_output(part, "y", &y, NULL), RQ_OK);
        assert_int_equal(rq_session_prepare(part, NULL, 0, NULL), RQ_OK);
        memset(out, 0xee, sizeof out);
        rq_mem_fail_after(1, true);
        const rq_status st = rq_session_run_bound(part, NULL);
        assert_int_equal(rq_mem_fail_after(0, false), 0);
        assert_int_equal(st, RQ_OK);
        assert_int_equal(part->batch.n, batch > 4 ? batch : 0);
        assert_memory_equal(out, want, y.bytes);
        assert_memory_equal(out + batch * OUT, &(uint32_t) { 0xeeeeeeee }, sizeof *out);
    }
    const rq_shape xs = rq_shape_of(4, (int64_t[]) { MOST, 1, 8, 8 });
    const rq_tensor x = rq_tensor_view(RQ_DTYPE_F32, &xs, in);
    rq_err err = { 0 };
    assert_int_equal(rq_session_bind_input(part, "x", &x, NULL), RQ_OK);
    memset(out, 0xee, sizeof out);
    assert_int_equal(rq_session_run_bound(part, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "output 'y' is f32 [9,10], but what is bound to it is f32 [1,10]");
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(((uint8_t *)out)[i], 0xee);
    rq_session_destroy(whole);
    rq_session_destroy(part);
}

static rq_status everything(rq_err *err)
{
    rq_session *s = NULL;
    rq_tensor out = { 0 };
    feeds f = { 0 };
    const rq_session_cfg cfg = { .threads = 1, .samples_at_once = 2 };
    rq_status st = rq_session_load(&s, MODEL, &cfg, err);
    if (!st && !make_feeds(&f, s, 5))
        st = RQ_NO_MEMORY;
    for (int i = 0; i < 2 && !st; i++) {
        st = i ? rq_session_run(s, f.in, f.n, &out, err) : rq_session_prepare(s, f.in, f.n, err);
        if (!st)
            rq_tensor_release(&out);
    }
    drop_feeds(&f);
    rq_session_destroy(s);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    rq_err err = { 0 };
    const size_t before = rq_mem_live();
    rq_mem_fail_after(0, false);
    assert_int_equal(everything(&err), RQ_OK);
    const size_t all = rq_mem_fail_after(0, false);
    for (size_t n = 1; n <= all; n += all / 500 + 1) {
        rq_mem_fail_after(n, n % 2);
        const rq_status st = everything(&err);
        rq_mem_fail_after(0, false);
        assert_true(st == RQ_OK || st == RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_in_parts_have_the_same_bits), cmocka_unit_test(what_is_done_one_by_one_is_cut),
        cmocka_unit_test(what_mixes_samples_is_not_cut),      cmocka_unit_test(sessions_say_when_a_batch_is_not_cut),
        cmocka_unit_test(a_block_is_that_of_a_part),          cmocka_unit_test(layers_add_up),
        cmocka_unit_test(bound_buffers_take_parts),           cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
