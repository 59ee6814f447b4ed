/* onnx_case.c — one case: load its model, and for each data set run it and compare every output, its type and shape too. Or the same by
 * way of a Core ML package: write the model as one in memory, read that back, and run what comes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "formats/onnx.h"
#include "graph/graph.h"
#include "onnx_tests.h"

/* The tensor in a .pb file; false (and the case has failed) when it is none. */
static bool read_tensor(golden_case *c, rq_tensor *out, const char *path)
{
    rq_err err = { 0 };
    rq_map map;
    rq_protobuf_mem mem = { 0 };
    rq_onnx_source src = { .mem = &mem };
    ProtobufCMessage *m;
    *out = (rq_tensor) { 0 };
    if (rq_file_map(&map, path, &err)) {
        golden_fail(c, "%s", err.text);
        return false;
    }
    bool ok = !rq_protobuf_parse(&m, &mem, &onnx__tensor_proto__descriptor, map.data, map.size, &err) &&
              !rq_onnx_tensor_read(out, (Onnx__TensorProto *)m, &src, &err);
    if (!ok)
        golden_fail(c, "%s: %s", path, err.text);
    rq_protobuf_mem_release(&mem);
    rq_file_unmap(&map);
    return ok;
}

static const char *text_at(const rq_tensor *t, int64_t i, size_t *n)
{
    const int64_t count = rq_tensor_count(t);
    *n = (size_t)(t->u64[i + 1] - t->u64[i]);
    return (const char *)(t->u64 + count + 1) + t->u64[i];
}

static void compare_strings(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want)
{
    for (int64_t i = 0, n = rq_tensor_count(want); i < n; i++) {
        size_t a, b;
        const char *g = text_at(got, i, &a), *w = text_at(want, i, &b);
        if (a != b || memcmp(g, w, a)) {
            golden_fail(c, "%s differs=1 allowed=0 at [%lld]: got '%.*s', want '%.*s'", name, (long long)i, (int)a, g,
                        (int)b, w);
            return;
        }
    }
}

/* Complex numbers are compared as twice as many reals. */
static rq_tensor reals(const rq_tensor *t)
{
    rq_shape s = t->shape;
    if (s.rank == RQ_MAX_RANK)
        abort();
    s.dim[s.rank++] = 2;
    return rq_tensor_view(t->dtype == RQ_DTYPE_C64 ? RQ_DTYPE_F32 : RQ_DTYPE_F64, &s, t->data);
}

/* Is what the model computes drawn by chance? Then the standard fixes types and shapes only. A Dropout that trains with
 * a ratio of 0 drops nothing. */
static bool is_random(const rq_graph *g, const rq_feed *feed, int n_feed)
{
    rq_op_count *ops;
    int n;
    bool random = false, zero = false, trains = false;
    for (int i = 0; i < n_feed; i++) {
        const bool one = rq_tensor_count(&feed[i].tensor) == 1;
        zero |= one && rq_dtype_is_float(feed[i].tensor.dtype) && rq_tensor_get(&feed[i].tensor, 0) == 0;
        trains |= one && feed[i].tensor.dtype == RQ_DTYPE_BOOL && rq_tensor_get(&feed[i].tensor, 0) != 0;
    }
    if (rq_graph_count_ops(g, &ops, &n))
        abort();
    for (int i = 0; i < n; i++)
        random |= !strncmp(ops[i].op, "Random", 6) || !strcmp(ops[i].op, "Bernoulli") ||
                  !strcmp(ops[i].op, "Multinomial") || (!strcmp(ops[i].op, "Dropout") && trains && !zero);
    rq_free(ops);
    return random;
}

/* 16-bit floats may be off by two units in the last place: the peer's own numbers are made by code that rounds inside an
 * operator, too, and bfloat16 has fewer digits than rtol asks for. */
static json_t *tolerance_of(const json_t *tol, rq_dtype d, double abs)
{
    const double least = d == RQ_DTYPE_F16 ? 0x1p-9 : d == RQ_DTYPE_BF16 ? 0x1p-6 : 0;
    const double rel = json_number_value(json_object_get(tol, "rel"));
    return json_pack("{s:f,s:f}", "rel", rel > least ? rel : least, "max_abs", abs);
}

static double largest(const rq_tensor *t)
{
    double most = 0;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        most = fabs(rq_tensor_get(t, i)) > most ? fabs(rq_tensor_get(t, i)) : most;
    return most;
}

/* Every number of a Fourier transform is a sum of all, and where that is nearly 0 the expected one is the rounding of the
 * others: it is compared within two units of the largest. */
static bool is_transform(const rq_graph *g)
{
    rq_op_count *ops;
    int n;
    bool found = false;
    if (rq_graph_count_ops(g, &ops, &n))
        abort();
    for (int i = 0; i < n; i++)
        found |= !strcmp(ops[i].op, "DFT") || !strcmp(ops[i].op, "STFT");
    rq_free(ops);
    return found;
}

static void compare(golden_case *c, const char *name, const rq_tensor *got, rq_tensor *want, bool random, bool sums,
                    const json_t *tol)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    if (got->dtype != want->dtype) {
        golden_fail(c, "%s type=%s allowed=%s", name, rq_dtype_name(got->dtype), rq_dtype_name(want->dtype));
    } else if (!rq_shape_equal(&got->shape, &want->shape)) {
        golden_fail(c, "%s shape=%s allowed=%s", name, rq_shape_text(&got->shape, a, sizeof a),
                    rq_shape_text(&want->shape, b, sizeof b));
    } else if (random) {
        return;
    } else if (want->dtype == RQ_DTYPE_STRING) {
        compare_strings(c, name, got, want);
    } else if (want->dtype == RQ_DTYPE_C64 || want->dtype == RQ_DTYPE_C128) {
        rq_tensor g = reals(got), w = reals(want);
        golden_compare(c, name, &g, &w, tol);
    } else {
        double abs = json_number_value(json_object_get(tol, "max_abs"));
        if (sums && want->dtype == RQ_DTYPE_F32 && abs < 0x1p-22 * largest(want))
            abs = 0x1p-22 * largest(want);
        json_t *own = tolerance_of(tol, want->dtype, abs);
        golden_compare(c, name, got, want, own);
        json_decref(own);
    }
}

static bool exists(char *path, size_t n, const golden_case *c, int set, const char *kind, int i)
{
    snprintf(path, n, "%s/test_data_set_%d/%s_%d.pb", c->dir, set, kind, i);
    return !access(path, R_OK);
}

/* t as another type and shape of as many elements: a package has int32 for int64, [1] for [], and no empty inputs. */
static void cast(golden_case *c, const char *name, rq_tensor *t, rq_dtype d, const rq_shape *shape)
{
    rq_tensor own;
    const rq_shape s = shape->rank >= 0 && rq_shape_is_known(shape) &&
                               (rq_shape_count(shape) == rq_tensor_count(t) || !rq_tensor_count(t))
                           ? *shape
                           : t->shape;
    if (t->dtype == RQ_DTYPE_STRING || d == RQ_DTYPE_STRING || d == RQ_DTYPE_NONE ||
        rq_tensor_create(&own, d, &s, true)) {
        golden_fail(c, "%s: %s cannot become %s", name, rq_dtype_name(t->dtype), rq_dtype_name(d));
        return;
    }
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        rq_tensor_set(&own, i, rq_tensor_get(t, i));
    rq_tensor_release(t);
    *t = own;
}

/* `as` is what the session runs: g, or what came back from its package. */
static void run_set(golden_case *c, const rq_graph *g, const rq_graph *as, rq_session *s, int set, const json_t *tol)
{
    char path[4096];
    rq_err err = { 0 };
    const int n_in = rq_graph_n_inputs(g), n_out = rq_graph_n_outputs(g);
    rq_feed *feed = calloc((size_t)n_in + 1, sizeof *feed);
    rq_tensor *out = calloc((size_t)n_out + 1, sizeof *out);
    if (!feed || !out)
        abort();
    int fed = 0;
    for (; fed < n_in && !c->failed && exists(path, sizeof path, c, set, "input", fed); fed++) {
        const rq_value_info info = rq_graph_input(as, fed);
        feed[fed].name = info.name;
        read_tensor(c, &feed[fed].tensor, path);
        if (as != g && !c->failed)
            cast(c, info.name, &feed[fed].tensor, info.dtype, &info.shape);
    }
    if (!c->failed && rq_session_run(s, feed, fed, out, &err))
        golden_fail(c, "run: %s", err.text[0] ? err.text : rq_status_text(err.code));
    const bool random = !c->failed && is_random(g, feed, fed);
    int seen = 0;
    for (int i = 0; i < n_out && !c->failed; i++) {
        rq_tensor want;
        if (!exists(path, sizeof path, c, set, "output", i) || !read_tensor(c, &want, path))
            continue;
        if (as != g)
            cast(c, rq_graph_output(g, i).name, &out[i], want.dtype, &want.shape);
        if (!c->failed)
            compare(c, rq_graph_output(g, i).name, &out[i], &want, random, is_transform(g), tol);
        rq_tensor_release(&want);
        seen++;
    }
    if (!c->failed && !seen)
        golden_fail(c, "data set %d has no outputs to compare", set);
    for (int i = 0; i < fed; i++)
        rq_tensor_release(&feed[i].tensor);
    for (int i = 0; i < n_out; i++)
        rq_tensor_release(&out[i]);
    free(feed);
    free(out);
}

/* onnx 1.12 wrote bfloat16 as the upper halves of floats, cut off and called uint16; newer data has what Cast gives. */
static bool has_cut_bfloat16(golden_case *c, const rq_graph *g)
{
    bool cut = false;
    for (int i = 0; i < rq_graph_n_inputs(g) + rq_graph_n_outputs(g); i++) {
        const int n_in = rq_graph_n_inputs(g), k = i < n_in ? i : i - n_in;
        const rq_value_info v = i < n_in ? rq_graph_input(g, k) : rq_graph_output(g, k);
        char path[4096];
        rq_tensor t;
        if (v.dtype != RQ_DTYPE_BF16 || !exists(path, sizeof path, c, 0, i < n_in ? "input" : "output", k) ||
            !read_tensor(c, &t, path))
            continue;
        cut |= t.dtype == RQ_DTYPE_U16;
        rq_tensor_release(&t);
    }
    return cut;
}

/* rtol 1e-3, atol 1e-7 as ONNX's own runner has it, unless tolerance.txt says otherwise. */
static json_t *tolerance(const golden_case *c)
{
    double rel = 1e-3, abs = 1e-7;
    char path[4096];
    FILE *f = fopen(golden_path(path, sizeof path, c, "tolerance.txt"), "r");
    if (f) {
        if (fscanf(f, "%lf %lf", &rel, &abs) != 2)
            abort();
        fclose(f);
    }
    json_t *t = json_pack("{s:f,s:f}", "rel", rel, "max_abs", abs);
    if (!t)
        abort();
    return t;
}

golden_verdict onnx_case_run(golden_case *c)
{
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_session *s = NULL;
    json_t *tol = tolerance(c);
    if (rq_load(&g, golden_path(path, sizeof path, c, "model.onnx"), &err))
        golden_fail(c, "load: %s", err.text);
    else if (rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err))
        golden_fail(c, "session: %s", err.text);
    if (!c->failed && has_cut_bfloat16(c, g)) {
        rq_session_destroy(s);
        rq_graph_destroy(g);
        json_decref(tol);
        return GOLDEN_SKIP;
    }
    int sets = 0;
    for (; !c->failed && (exists(path, sizeof path, c, sets, "output", 0)); sets++)
        run_set(c, g, g, s, sets, tol);
    if (!c->failed && !sets)
        golden_fail(c, "there is no test_data_set_0/output_0.pb");
    rq_session_destroy(s);
    rq_graph_destroy(g);
    json_decref(tol);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}

/* ---- by way of a package ---- */

static const rq_coreml_cfg *package_cfg;
static const char *package_folder;

void onnx_case_packages(const rq_coreml_cfg *cfg, const char *folder)
{
    package_cfg = cfg;
    package_folder = folder;
}

/* Inputs that data set 0 gives become constants: 1: integers, bools and single numbers behind the first input, which is how networks have
 * settings; 2: all behind the first. Changes g; says whether anything did. */
static bool fix_inputs(golden_case *c, rq_graph *g, int level)
{
    char path[4096], name[300];
    rq_err err = { 0 };
    bool any = false;
    for (int i = 1; i < rq_graph_n_inputs(g) && !c->failed && exists(path, sizeof path, c, 0, "input", i); i++) {
        const rq_value_info info = rq_graph_input(g, i);
        rq_tensor t;
        if (!read_tensor(c, &t, path))
            break;
        if (level == 2 || rq_dtype_is_integer(t.dtype) || t.dtype == RQ_DTYPE_BOOL || rq_tensor_count(&t) == 1) {
            snprintf(name, sizeof name, "%.200s.fixed", info.name);
            any = true;
            if (rq_edit_add_constant(g, name, &t, &err) || rq_edit_replace(g, info.name, name, &err))
                golden_fail(c, "fix: %s", err.text);
        }
        rq_tensor_release(&t);
    }
    return any;
}

/* Core ML has no empty tensors (an input that is one can only be one that nothing reads) and no doubles. */
static bool cannot_be_fed(golden_case *c, const rq_graph *as)
{
    char path[4096];
    bool found = false;
    for (int i = 0; i < rq_graph_n_inputs(as) && !c->failed && exists(path, sizeof path, c, 0, "input", i); i++) {
        rq_tensor t;
        if (!read_tensor(c, &t, path))
            break;
        found |= !rq_tensor_count(&t) && rq_graph_uses(as, as->inputs[i], NULL, 0) > 0;
        for (int64_t k = 0, n = rq_dtype_is_float(t.dtype) ? rq_tensor_count(&t) : 0; k < n; k++)
            found |= isfinite(rq_tensor_get(&t, k)) && isinf((float)rq_tensor_get(&t, k));
        rq_tensor_release(&t);
    }
    return found;
}

/* As the file has it; where that is refused, with inputs made constants. */
static rq_status write_package(golden_case *c, rq_coreml **m, rq_graph **g, rq_err *err)
{
    char path[4096];
    rq_status st = rq_load(g, golden_path(path, sizeof path, c, "model.onnx"), err);
    if (st) {
        golden_fail(c, "load: %s", err->text);
        return st;
    }
    st = rq_coreml_from_graph(m, *g, package_cfg, NULL, err);
    for (int level = 1; st == RQ_UNSUPPORTED && level <= 2 && !c->failed; level++) {
        rq_graph *fixed = NULL;
        if (rq_graph_copy(&fixed, *g))
            abort();
        if (fix_inputs(c, fixed, level) && !c->failed)
            st = rq_coreml_from_graph(m, fixed, package_cfg, NULL, err);
        rq_graph_destroy(fixed);
    }
    if (st == RQ_UNSUPPORTED || (st && cannot_be_fed(c, *g)))
        golden_skip(c, "refused: %s", err->text);
    else if (st)
        golden_fail(c, "write: %s", err->text);
    return st;
}

golden_verdict onnx_case_run_package(golden_case *c)
{
    char path[4096];
    rq_err err = { 0 };
    rq_graph *g = NULL, *as = NULL;
    rq_coreml *m = NULL;
    rq_session *s = NULL;
    json_t *tol = tolerance(c);
    rq_status st = write_package(c, &m, &g, &err);
    if (!st && (st = rq_coreml_to_graph(&as, m, NULL, &err)))
        golden_fail(c, "read back: %s", err.text);
    else if (!st && cannot_be_fed(c, as))
        st = golden_skip(c, "refused: an input is empty, or too large for floats") ? RQ_UNSUPPORTED : RQ_OK;
    else if (!st && (st = rq_session_create(&s, as, &(rq_session_cfg) { .threads = 1 }, &err)))
        golden_fail(c, "session: %s", err.text);
    if (m && package_folder) {
        snprintf(path, sizeof path, "%s/%s.mlpackage", package_folder, c->id);
        if (rq_coreml_save(m, path, &err))
            golden_fail(c, "save: %s", err.text);
    }
    int sets = 0;
    for (; !st && !c->failed && exists(path, sizeof path, c, sets, "output", 0); sets++)
        run_set(c, g, as, s, sets, tol);
    rq_session_destroy(s);
    rq_coreml_close(m);
    rq_graph_destroy(as);
    rq_graph_destroy(g);
    json_decref(tol);
    return c->failed ? GOLDEN_FAIL : st ? GOLDEN_SKIP : GOLDEN_PASS;
}
