/* tests/formats/test_coreml.c — Core ML packages made by coremltools: every one is read, written back as the same bytes, and, when
 * something was changed, as the same program; operations, constants and codes are those that coremltools itself lists
 * (tests/golden/coreml). Weight files and messages are compared with bytes worked out apart from this code. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zip.h>

#include "formats/coreml.h"
#include "interop/image.h"
#include "tensor/convert.h"
#include "requant/dataset.h"

#define GOLDEN "tests/golden/coreml/"
#define OUT RQ_TEST_TMP "/out.mlpackage"

static const char *const folders[] = { GOLDEN "weights", GOLDEN "w8a8" };

/* ---- every case ---- */

typedef void (*case_fn)(const char *folder, const json_t *c, rq_coreml *m);

static int each_case(case_fn fn)
{
    int n = 0;
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/cases.json", folders[i]);
        json_t *cases = json_load_file(path, 0, NULL), *c;
        size_t k;
        assert_non_null(cases);
        json_array_foreach(cases, k, c)
        {
            const char *package = json_string_value(json_object_get(c, "package"));
            rq_coreml *m = NULL;
            rq_err err = { 0 };
            if (!package)
                continue;
            snprintf(path, sizeof path, "%s/%s", folders[i], package);
            if (rq_coreml_open(&m, path, &err))
                fail_msg("%s", err.text);
            fn(folders[i], c, m);
            rq_coreml_close(m);
            n++;
        }
        json_decref(cases);
    }
    return n;
}

/* Same files, same bytes. */
static void same_package(const char *a, const char *b)
{
    rq_mlpackage *x = NULL, *y = NULL;
    rq_err err = { 0 };
    if (rq_mlpackage_open(&x, a, &err) || rq_mlpackage_open(&y, b, &err))
        fail_msg("%s", err.text);
    assert_int_equal(x->n_entries, y->n_entries);
    for (int i = 0; i < x->n_entries; i++) {
        rq_map p = { 0 }, q = { 0 };
        const rq_mlpackage_entry *e = rq_mlpackage_entry_at(y, x->entries[i].path);
        assert_non_null(e);
        assert_int_equal(e->kind, x->entries[i].kind);
        if (e->kind != RQ_MLPACKAGE_FILE)
            continue;
        if (rq_mlpackage_map(x, &p, e->path, &err) || rq_mlpackage_map(y, &q, e->path, &err))
            fail_msg("%s", err.text);
        if (p.size != q.size || memcmp(p.data, q.data, p.size) != 0)
            fail_msg("%s: %s has other bytes", a, e->path);
        rq_file_unmap(&p);
        rq_file_unmap(&q);
    }
    rq_mlpackage_close(x);
    rq_mlpackage_close(y);
}

static void write_unchanged(const char *folder, const json_t *c, rq_coreml *m)
{
    rq_err err = { 0 };
    (void)folder;
    (void)c;
    if (rq_coreml_save(m, OUT, &err))
        fail_msg("%s", err.text);
    same_package(m->package->path, OUT);
}

static void an_unchanged_package_keeps_its_bytes(void **state)
{
    (void)state;
    assert_int_equal(each_case(write_unchanged), 148);
}

/* ---- a program as text, numbers included, whatever the order of bytes in the files ---- */

typedef struct printer {
    const rq_coreml *m;
    char *text;
    size_t size;
    FILE *f;
} printer;

static void print_value(const printer *p, const rq_mil_value *v)
{
    char type[200];
    rq_tensor t;
    rq_err err = { 0 };
    fprintf(p->f, "%s=", rq_mil_type_text(v->type, type, sizeof type));
    if (v->kind == RQ_MIL_VALUES || v->kind == RQ_MIL_PAIRS) {
        for (uint64_t i = 0; i < v->n * (v->kind == RQ_MIL_PAIRS ? 2 : 1); i++)
            print_value(p, v->value[i]);
    } else if (v->type->dtype->store == RQ_MIL_STORE_STRINGS) {
        for (uint64_t i = 0; i < v->n; i++)
            fprintf(p->f, "'%s'", ((const char *const *)v->data)[i]);
    } else {
        if (rq_coreml_tensor(p->m, &t, v, &err))
            fail_msg("%s", err.text);
        for (size_t i = 0; i < t.bytes; i++)
            fprintf(p->f, "%02x", t.u8[i]);
        rq_tensor_release(&t);
    }
}

static rq_status print_op(void *arg, const rq_mil_function *fn, const rq_mil_op *op, rq_err *err)
{
    const printer *p = arg;
    char type[200];
    (void)err;
    fprintf(p->f, "\n%s %s", fn->name, op->type);
    for (int i = 0; i < op->n_outputs; i++)
        fprintf(p->f, " %s:%s", op->outputs[i].name, rq_mil_type_text(op->outputs[i].type, type, sizeof type));
    for (int i = 0; i < op->n_args; i++) {
        fprintf(p->f, " %s(", op->args[i].param);
        for (int k = 0; k < op->args[i].n; k++)
            if (op->args[i].binding[k].name)
                fprintf(p->f, "%s,", op->args[i].binding[k].name);
            else
                print_value(p, op->args[i].binding[k].value);
        fputc(')', p->f);
    }
    for (int i = 0; i < op->n_attrs; i++) {
        fprintf(p->f, " .%s:", op->attrs[i].name);
        print_value(p, op->attrs[i].value);
    }
    for (int i = 0; i < op->n_blocks; i++)
        fprintf(p->f, " block %d of %d", op->blocks[i]->n_inputs, op->blocks[i]->n_ops);
    return RQ_OK;
}

static char *text_of(const rq_coreml *m)
{
    printer p = { .m = m };
    p.f = open_memstream(&p.text, &p.size);
    assert_non_null(p.f);
    assert_int_equal(rq_mil_each_op(&m->program, print_op, &p, NULL), RQ_OK);
    fclose(p.f);
    return p.text;
}

/* A blob that is made new, so that the whole weight file is written again. */
static void write_changed(const char *folder, const json_t *c, rq_coreml *m)
{
    rq_err err = { 0 };
    rq_coreml *back = NULL;
    (void)folder;
    (void)c;
    char *before = text_of(m);
    assert_true(rq_coreml_set_metadata(m, "test", "changed"));
    if (rq_coreml_save(m, OUT, &err) || rq_coreml_open(&back, OUT, &err))
        fail_msg("%s", err.text);
    char *after = text_of(back);
    assert_string_equal(before, after);
    assert_string_equal(rq_coreml_metadata(back, "test"), "changed");
    assert_int_equal(back->n_metadata, m->n_metadata);
    rq_coreml_close(back);
    free(before);
    free(after);
}

static void a_changed_package_keeps_its_program(void **state)
{
    (void)state;
    assert_int_equal(each_case(write_changed), 148);
}

/* A blob taken out of the file and made new stands in another place of a file written anew. */
static void blobs_move_together(void **state)
{
    (void)state;
    rq_coreml *m = NULL, *back = NULL;
    rq_err err = { 0 };
    if (rq_coreml_open(&m, GOLDEN "weights/conv_iOS18_fp32_sym_int4_b8.mlpackage", &err))
        fail_msg("%s", err.text);
    char *before = text_of(m);
    rq_mil_block *b = m->program.functions[0]->block;
    bool done = false;
    for (int i = 0; i < b->n_ops && !done; i++)
        for (int k = 0; k < b->ops[i]->n_args && !done; k++) {
            rq_mil_binding *at = &b->ops[i]->args[k].binding[0];
            rq_milblob blob;
            if (!at->value || at->value->kind != RQ_MIL_BLOB)
                continue;
            assert_int_equal(rq_coreml_blob(m, &blob, at->value, &err), RQ_OK);
            at->value = rq_mil_blob(&m->program, at->value->type, blob.data);
            done = true;
        }
    assert_true(done);
    if (rq_coreml_save(m, OUT, &err) || rq_coreml_open(&back, OUT, &err))
        fail_msg("%s", err.text);
    char *after = text_of(back);
    assert_string_equal(before, after);
    uint32_t n;
    assert_int_equal(back->n_weights, 1);
    assert_int_equal(rq_milblob_count(&n, back->weights[0].map.data, back->weights[0].map.size, &err), RQ_OK);
    uint64_t at = 64, seen = 0; /* records one after another to the end */
    for (rq_milblob blob; at < back->weights[0].map.size; at = blob.next, seen++)
        assert_int_equal(rq_milblob_read(&blob, back->weights[0].map.data, back->weights[0].map.size, at, &err), RQ_OK);
    assert_int_equal(seen, n);
    rq_coreml_close(back);
    rq_coreml_close(m);
    free(before);
    free(after);
}

/* ---- what coremltools lists ---- */

static const rq_mil_op *find_const(const rq_mil_block *b, const char *name)
{
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_op *op = b->ops[i];
        if (!strcmp(op->type, "const") && !strcmp(op->outputs[0].name, name))
            return op;
    }
    return NULL;
}

static void same_shape(const json_t *want, const rq_mil_type *t)
{
    assert_int_equal(json_array_size(want), t->rank);
    for (int64_t i = 0; i < t->rank; i++)
        assert_int_equal(json_integer_value(json_array_get(want, (size_t)i)),
                         t->dim[i].known ? (int64_t)t->dim[i].size : -1);
}

static double number_at(const rq_tensor *t, uint64_t i)
{
    switch (t->dtype) {
    case RQ_DTYPE_F32:
        return (double)t->f32[i];
    case RQ_DTYPE_S32:
        return t->s32[i];
    case RQ_DTYPE_BOOL:
    case RQ_DTYPE_U8:
        return t->u8[i];
    case RQ_DTYPE_S8:
        return t->s8[i];
    case RQ_DTYPE_U16:
        return t->u16[i];
    case RQ_DTYPE_S16:
        return t->s16[i];
    case RQ_DTYPE_F16:
        return (double)rq_convert_f16_to_f32(t->u16[i]);
    case RQ_DTYPE_S4:
        return (int8_t)((uint8_t)(t->u8[i / 2] >> (i % 2 * 4) << 4)) / 16;
    case RQ_DTYPE_U4:
        return t->u8[i / 2] >> (i % 2 * 4) & 15;
    default:
        fail_msg("a type that the golden data have not");
        return 0;
    }
}

static double json_number(const json_t *j)
{
    return json_is_boolean(j) ? (double)json_is_true(j) : json_number_value(j);
}

static void same_const(const rq_coreml *m, const json_t *want, const rq_mil_value *v)
{
    const json_t *value = json_object_get(want, "const");
    assert_string_equal(json_string_value(json_object_get(want, "type")), v->type->dtype->name);
    if (!value) {
        same_shape(json_object_get(want, "shape"), v->type);
        return;
    }
    if (json_is_string(value)) {
        assert_string_equal(json_string_value(value), rq_mil_value_text(v));
        return;
    }
    rq_tensor t;
    rq_err err = { 0 };
    if (rq_coreml_tensor(m, &t, v, &err))
        fail_msg("%s", err.text);
    const json_t *flat[64] = { value };
    size_t n = 1;
    if (json_is_array(value))
        for (n = 0; n < json_array_size(value) && n < 64; n++)
            flat[n] = json_array_get(value, n);
    for (size_t i = 0; i < n && !json_is_array(flat[i]); i++)
        assert_true(number_at(&t, i) == json_number(flat[i]));
    rq_tensor_release(&t);
}

static const rq_mil_value *bound_value(const rq_mil_block *const *around, int depth, const rq_mil_op *op,
                                       const char *param, int k, const char **name)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    *name = NULL;
    if (!arg) /* of a constexpr_ operation before iOS 18 */
        return rq_mil_op_attr(op, param);
    assert_true(k < arg->n);
    if (!arg->binding[k].name)
        return arg->binding[k].value;
    *name = arg->binding[k].name;
    for (int i = depth; i >= 0; i--) {
        const rq_mil_op *c = find_const(around[i], *name);
        if (c)
            return rq_mil_op_attr(c, "val");
    }
    return NULL;
}

static void same_block(const rq_coreml *m, const json_t *want, const rq_mil_block **around, int depth)
{
    const rq_mil_block *b = around[depth];
    const json_t *op_json, *input;
    const char *param;
    size_t at = 0;
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_op *op = b->ops[i];
        if (!strcmp(op->type, "const"))
            continue;
        op_json = json_array_get(want, at++);
        assert_non_null(op_json);
        assert_string_equal(json_string_value(json_object_get(op_json, "op")), op->type);
        assert_string_equal(json_string_value(json_object_get(op_json, "name")), rq_mil_op_name(op));
        const json_t *outputs = json_object_get(op_json, "outputs");
        assert_int_equal(json_array_size(outputs), op->n_outputs);
        for (int k = 0; k < op->n_outputs; k++) {
            const json_t *o = json_array_get(outputs, (size_t)k);
            assert_string_equal(json_string_value(json_array_get(o, 0)), op->outputs[k].name);
            assert_string_equal(json_string_value(json_array_get(o, 1)), op->outputs[k].type->dtype->name);
            same_shape(json_array_get(o, 2), op->outputs[k].type);
        }
        json_object_foreach((json_t *)json_object_get(op_json, "inputs"), param, input)
        {
            const size_t n = json_is_array(input) ? json_array_size(input) : 1;
            for (size_t k = 0; k < n; k++) {
                const json_t *one = json_is_array(input) ? json_array_get(input, k) : input;
                const char *name;
                const rq_mil_value *v = bound_value(around, depth, op, param, (int)k, &name);
                if (json_object_get(one, "value")) {
                    assert_string_equal(json_string_value(json_object_get(one, "value")), name);
                } else {
                    if (!v)
                        fail_msg("%s of '%s' is no constant", param, rq_mil_op_name(op));
                    same_const(m, one, v);
                }
            }
        }
        for (int k = 0; k < op->n_blocks; k++) {
            const json_t *inner = json_array_get(json_object_get(op_json, "blocks"), (size_t)k);
            around[depth + 1] = op->blocks[k];
            same_block(m, json_object_get(inner, "operations"), around, depth + 1);
        }
    }
    assert_int_equal(at, json_array_size(want));
}

static void compare_operations(const char *folder, const json_t *c, rq_coreml *m)
{
    const char *file = json_string_value(json_object_get(c, "operations"));
    if (!file)
        return;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *want = json_load_file(path, 0, NULL);
    assert_non_null(want);
    const rq_mil_block *around[16] = { m->program.functions[0]->block };
    if (json_object_get(want, "specification_version"))
        assert_int_equal(json_integer_value(json_object_get(want, "specification_version")), m->spec);
    same_block(m, json_object_get(want, "operations"), around, 0);
    json_decref(want);
}

static void operations_are_those_listed(void **state)
{
    (void)state;
    each_case(compare_operations);
}

/* ---- numbers ---- */

static void same_numbers(const char *folder, const rq_coreml *m, const char *key, const rq_mil_value *v)
{
    char path[512];
    rq_tensor want, got;
    rq_err err = { 0 };
    snprintf(path, sizeof path, "%s/data.npz", folder);
    assert_non_null(v);
    if (rq_npz_load(&want, path, key, &err) || rq_coreml_tensor(m, &got, v, &err))
        fail_msg("%s", err.text);
    const int64_t n = rq_shape_count(&want.shape);
    assert_int_equal(n, rq_shape_count(&got.shape));
    for (int64_t i = 0; i < n; i++)
        if (number_at(&want, (uint64_t)i) != number_at(&got, (uint64_t)i))
            fail_msg("%s: element %lld is %g, expected %g", key, (long long)i, number_at(&got, (uint64_t)i),
                     number_at(&want, (uint64_t)i));
    rq_tensor_release(&want);
    rq_tensor_release(&got);
}

typedef struct wanted {
    const char *name;
    const rq_mil_op *op;
} wanted;

static rq_status is_wanted(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    wanted *w = arg;
    (void)f;
    (void)err;
    if (!strcmp(rq_mil_op_name(op), w->name))
        w->op = op;
    return RQ_OK;
}

static int n_compared;

static void compare_numbers(const char *folder, const json_t *c, rq_coreml *m)
{
    const rq_mil_block *b = m->program.functions[0]->block;
    const char *name;
    const json_t *one;
    json_object_foreach((json_t *)json_object_get(c, "constants"), name, one)
    {
        const rq_mil_op *op = find_const(b, name);
        if (!op)
            continue; /* a constant that stands inside an operation; compared with the operations */
        same_numbers(folder, m, json_string_value(json_object_get(one, "array")), rq_mil_op_attr(op, "val"));
        n_compared++;
    }
    json_object_foreach((json_t *)json_object_get(c, "weights"), name, one)
    {
        static const char *const parts[][3] = { { "codes", "quantized_data", "data" },
                                                { "codes", "", "nonzero_data" },
                                                { "scale", "scale", "scale" },
                                                { "zero_point", "zero_point", "offset" } };
        wanted found = { .name = name };
        rq_mil_each_op(&m->program, is_wanted, &found, NULL);
        const rq_mil_op *op = found.op;
        if (!op)
            fail_msg("%s: there is no '%s'", m->package->path, name);
        int had = 0, want = 0;
        for (size_t k = 0; k < 4; k++) {
            const rq_mil_arg *arg = rq_mil_op_arg(op, parts[k][2]);
            const rq_mil_value *v = arg ? arg->binding[0].value : rq_mil_op_attr(op, parts[k][1]);
            const char *key = json_string_value(json_object_get(one, parts[k][0]));
            want += key && k != 1;
            if (!key || !v)
                continue;
            same_numbers(folder, m, key, v);
            had++;
        }
        if (had != want)
            fail_msg("%s: '%s' has %d parts, expected %d", m->package->path, name, had, want);
        n_compared += had;
    }
}

static void constants_and_codes_are_those_stored(void **state)
{
    (void)state;
    each_case(compare_numbers);
    if (n_compared < 1000)
        fail_msg("only %d arrays were compared", n_compared);
}

/* ---- bytes worked out elsewhere ---- */

static const char small_model[] = "080812220a0f0a01781a0a2a080a02010410a08004520f0a01791a0a2a080a02010410a08004b21f8a01"
                                  "08011285010a046d61696e127d0a170a0178"
                                  "12120a10080b10021a040a0208011a040a0208041207436f72654d4c371a590a07436f72654d4c37124e"
                                  "1201791a490a0472656c75120a0a01781205"
                                  "0a030a01781a170a017912120a10080b10021a040a0208011a040a0208042a1c0a046e616d6512141204"
                                  "0a0208021a0c0a0a22080a0672656c755f30";

static bool make_small(rq_coreml *m)
{
    rq_mil_program *p = &m->program;
    rq_mil_type *t = rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp32"), 2, (int64_t[]) { 1, 4 });
    rq_mil_function *f = rq_mil_function_make(p, "main", "CoreML7");
    rq_mil_op *relu = rq_mil_op_make(p, "relu", "relu_0");
    rq_coreml_interface *i = rq_coreml_add_interface(m, "main");
    rq_coreml_feature *x = i ? rq_coreml_add_feature(m, &i->inputs, "x") : NULL;
    rq_coreml_feature *y = x ? rq_coreml_add_feature(m, &i->outputs, "y") : NULL;
    if (!t || !f || !relu || !y)
        return false;
    static int64_t shape[] = { 1, 4 };
    x->shape = y->shape = shape;
    x->rank = y->rank = 2;
    x->dtype = y->dtype = RQ_COREML_FLOAT32;
    return rq_mil_function_input(p, f, "x", t) && rq_mil_op_bind(p, relu, "x", "x") &&
           rq_mil_op_output(p, relu, "y", t) && rq_mil_block_insert(p, f->block, 0, relu) &&
           rq_mil_block_output(p, f->block, "y");
}

static void a_model_made_here_has_the_known_bytes(void **state)
{
    (void)state;
    rq_coreml *m = NULL, *back = NULL;
    rq_err err = { 0 };
    uint8_t *bytes;
    size_t size;
    char hex[1024] = "";
    assert_int_equal(rq_coreml_create(&m, 8, &err), RQ_OK);
    assert_true(make_small(m));
    if (rq_coreml_encode(m, &bytes, &size, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < size && i < 500; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(hex, small_model);
    if (rq_coreml_parse(&back, bytes, size, &err))
        fail_msg("%s", err.text);
    rq_coreml_close(back);
    rq_mem_free(bytes);
    rq_coreml_close(m);
}

static void weight_files_have_the_known_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        int n, n_bytes, padding;
        uint8_t elements[9], packed[4];
    } cases[] = {
        { "int4", 5, 3, 4, { 0xf8, 7, 0, 0xff, 3 }, { 0x78, 0xf0, 0x03 } },
        { "uint3", 9, 4, 5, { 1, 2, 3, 4, 5, 6, 7, 0, 1 }, { 0xd1, 0x58, 0x1f, 0x01 } },
        { "uint6", 5, 4, 2, { 1, 63, 2, 32, 5 }, { 0xc1, 0x2f, 0x80, 0x05 } },
        { "uint2", 5, 2, 6, { 1, 2, 3, 0, 3 }, { 0x39, 0x03 } },
        { "uint1", 9, 2, 7, { 1, 0, 1, 1, 0, 0, 0, 0, 1 }, { 0x0d, 0x01 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const rq_mil_dtype *t = rq_mil_dtype_of_name(cases[i].type);
        uint8_t packed[4] = { 0 }, back[9] = { 0 };
        uint64_t bad;
        assert_true(rq_mil_dtype_pack(t, packed, cases[i].elements, (uint64_t)cases[i].n, &bad));
        assert_memory_equal(packed, cases[i].packed, (size_t)cases[i].n_bytes);
        uint8_t *exact = malloc((size_t)cases[i].n_bytes); /* the end is guarded */
        memcpy(exact, packed, (size_t)cases[i].n_bytes);
        rq_mil_dtype_unpack(t, back, exact, (uint64_t)cases[i].n);
        assert_memory_equal(back, cases[i].elements, (size_t)cases[i].n);
        free(exact);
    }
    uint64_t bad = 9;
    assert_false(
        rq_mil_dtype_pack(rq_mil_dtype_of_name("uint3"), (uint8_t[4]) { 0 }, (uint8_t[3]) { 7, 8, 1 }, 3, &bad));
    assert_int_equal(bad, 1);

    rq_file f;
    rq_milblob_writer w;
    rq_err err = { 0 };
    uint64_t at[3];
    const float x[20] = { 1, 2, 3 };
    const char *path = RQ_TEST_TMP "/weight.bin";
    assert_int_equal(rq_file_create(&f, path, &err), RQ_OK);
    assert_int_equal(rq_milblob_open(&w, &f, &err), RQ_OK);
    assert_int_equal(rq_milblob_begin(&w, rq_mil_dtype_of_name("int4"), 5, &at[0], &err), RQ_OK);
    assert_int_equal(rq_milblob_write(&w, cases[0].packed, 3, &err), RQ_OK);
    assert_int_equal(rq_milblob_end(&w, &err), RQ_OK);
    assert_int_equal(rq_milblob_begin(&w, rq_mil_dtype_of_name("uint3"), 9, &at[1], &err), RQ_OK);
    assert_int_equal(rq_milblob_write(&w, cases[1].packed, 1, &err), RQ_OK);
    assert_int_equal(rq_milblob_end(&w, &err), RQ_INTERNAL); /* three bytes are missing */
    assert_int_equal(rq_milblob_write(&w, cases[1].packed + 1, 3, &err), RQ_OK);
    assert_int_equal(rq_milblob_end(&w, &err), RQ_OK);
    assert_int_equal(rq_milblob_begin(&w, rq_mil_dtype_of_name("fp32"), 20, &at[2], &err), RQ_OK);
    assert_int_equal(rq_milblob_write(&w, x, sizeof x, &err), RQ_OK);
    assert_int_equal(rq_milblob_write(&w, x, 1, &err), RQ_INTERNAL); /* one too many */
    assert_int_equal(rq_milblob_end(&w, &err), RQ_OK);
    assert_int_equal(rq_milblob_begin(&w, rq_mil_dtype_of_name("bool"), 1, &at[2], &err), RQ_UNSUPPORTED);
    assert_int_equal(rq_milblob_close(&w, &err), RQ_OK);
    assert_int_equal(rq_file_commit(&f, &err), RQ_OK);
    assert_true(at[0] == 64 && at[1] == 192 && at[2] == 320);
    rq_map map;
    rq_milblob blob;
    uint32_t n;
    assert_int_equal(rq_file_map(&map, path, &err), RQ_OK);
    assert_int_equal(map.size, 464);
    assert_int_equal(rq_milblob_count(&n, map.data, map.size, &err), RQ_OK);
    assert_int_equal(n, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_milblob_read(&blob, map.data, map.size, at[i], &err), RQ_OK);
        assert_int_equal(blob.n, cases[i].n);
        assert_int_equal(map.data[at[i] + 24], cases[i].padding);
        assert_ptr_equal(blob.data, map.data + at[i] + 64);
    }
    rq_file_unmap(&map);
}

/* ---- unknown fields, zips, memory ---- */

static void unknown_fields_are_kept(void **state)
{
    (void)state;
    uint8_t bytes[600];
    size_t n = 0;
    for (const char *p = small_model; *p; p += 2, n++) {
        unsigned v;
        assert_int_equal(sscanf(p, "%2x", &v), 1);
        bytes[n] = (uint8_t)v;
    }
    static const uint8_t more[] = { 0xfa, 0x3e, 3, 'a', 'b', 'c' }; /* field 1007 of the model */
    memcpy(bytes + n, more, sizeof more);
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    uint8_t *out;
    size_t size;
    if (rq_coreml_parse(&m, bytes, n + sizeof more, &err))
        fail_msg("%s", err.text);
    m->program.functions[0]->block->ops[0]->type = "tanh"; /* changed */
    if (rq_coreml_encode(m, &out, &size, &err))
        fail_msg("%s", err.text);
    assert_int_equal(size, n + sizeof more);
    assert_memory_equal(out + n, more, sizeof more);
    rq_mem_free(out);
    rq_coreml_close(m);
}

/* Fields in an order that packing would not give. */
static void another_writers_bytes_are_kept(void **state)
{
    (void)state;
    static const uint8_t first[] = { 0xfa, 0x3e, 3, 'a', 'b', 'c' };
    const char *odd = RQ_TEST_TMP "/odd.mlpackage",
               *file = RQ_TEST_TMP "/odd.mlpackage/Data/com.apple.CoreML/model.mlmodel";
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    if (rq_coreml_open(&m, GOLDEN "w8a8/conv_ptq_int4_b4.mlpackage", &err) || rq_coreml_save(m, odd, &err))
        fail_msg("%s", err.text);
    uint8_t *bytes = malloc(m->file.size + sizeof first);
    memcpy(bytes, first, sizeof first);
    memcpy(bytes + sizeof first, m->file.data, m->file.size);
    assert_int_equal(rq_file_write_all(file, bytes, m->file.size + sizeof first, &err), RQ_OK);
    free(bytes);
    rq_coreml_close(m);
    if (rq_coreml_open(&m, odd, &err) || rq_coreml_save(m, OUT, &err))
        fail_msg("%s", err.text);
    rq_coreml_close(m);
    same_package(odd, OUT);
}

static void zip_folder(const char *zip, const char *package, const char *prefix, bool deflate)
{
    rq_mlpackage *p = NULL;
    rq_err err = { 0 };
    unlink(zip);
    zip_t *z = zip_open(zip, ZIP_CREATE | ZIP_EXCL, NULL);
    assert_non_null(z);
    if (rq_mlpackage_open(&p, package, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < p->n_entries; i++) {
        char name[512], path[512];
        snprintf(name, sizeof name, "%s%s", prefix, p->entries[i].path);
        snprintf(path, sizeof path, "%s/%s", package, p->entries[i].path);
        if (p->entries[i].kind == RQ_MLPACKAGE_FOLDER) {
            zip_dir_add(z, name, 0);
            continue;
        }
        const zip_int64_t at = zip_file_add(z, name, zip_source_file(z, path, 0, -1), 0);
        assert_true(at >= 0);
        zip_set_file_compression(z, (zip_uint64_t)at, deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    }
    assert_int_equal(zip_close(z), 0);
    rq_mlpackage_close(p);
}

static void a_zipped_package_is_read(void **state)
{
    (void)state;
    const char *package = GOLDEN "w8a8/conv_ptq_int4_b4.mlpackage", *zip = RQ_TEST_TMP "/package.zip";
    for (int i = 0; i < 4; i++) {
        rq_coreml *m = NULL;
        rq_err err = { 0 };
        zip_folder(zip, package, i & 1 ? "Some name.mlpackage/" : "", i & 2);
        assert_true(rq_mlpackage_is(zip));
        if (rq_coreml_open(&m, zip, &err) || rq_coreml_save(m, OUT, &err))
            fail_msg("%s", err.text);
        rq_coreml_close(m);
        same_package(package, OUT);
    }
    unlink(zip);
}

static void only_packages_are_replaced(void **state)
{
    (void)state;
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    const char *package = GOLDEN "w8a8/conv_ptq_int4_b4.mlpackage", *file = RQ_TEST_TMP "/a-file.mlpackage";
    if (rq_coreml_open(&m, package, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_file_write_all(file, "x", 1, &err), RQ_OK);
    assert_int_equal(rq_coreml_save(m, file, &err), RQ_IO);
    assert_non_null(strstr(err.text, "is a file, which a package does not replace"));
    assert_int_equal(rq_coreml_save(m, "tests", &err), RQ_IO);
    assert_non_null(strstr(err.text, "is a folder that is no package"));
    assert_int_equal(rq_coreml_save(m, RQ_TEST_TMP "/no/such/folder.mlpackage", &err), RQ_IO);
    assert_int_equal(rq_coreml_save(m, OUT, &err), RQ_OK); /* over what stands there */
    rq_coreml_close(m);
    if (rq_coreml_open(&m, OUT, &err) || rq_coreml_save(m, OUT "/", &err)) /* over itself */
        fail_msg("%s", err.text);
    rq_coreml_close(m);
    same_package(package, OUT);
    unlink(file);
}

static rq_status open_change_save(rq_err *err)
{
    rq_coreml *m;
    RQ_TRY(rq_coreml_open(&m, GOLDEN "w8a8/conv_ptq_int4_b4.mlpackage", err));
    rq_status st = RQ_OK;
    rq_mil_program *p = &m->program;
    rq_mil_op *op = rq_mil_op_make(p, "const", "new");
    rq_mil_type *t = rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp32"), 1, (int64_t[]) { 12 });
    static const float x[12];
    if (!op || !t || !rq_mil_op_set_attr(p, op, "val", rq_mil_blob(p, t, x)) || !rq_mil_op_output(p, op, "new", t) ||
        !rq_mil_block_insert(p, p->functions[0]->block, 0, op) || !rq_coreml_set_metadata(m, "a", "b"))
        st = RQ_NO_MEMORY;
    if (!st)
        st = rq_coreml_save(m, OUT, err);
    rq_coreml_close(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++)
        for (size_t i = 1;; i++) {
            rq_err err = { 0 };
            const size_t live = rq_mem_live();
            rq_mem_fail_after(i, all);
            const rq_status st = open_change_save(&err);
            rq_mem_fail_after(0, false);
            assert_int_equal(rq_mem_live(), live);
            if (!st)
                break;
            assert_int_equal(st, RQ_NO_MEMORY);
        }
}

static void what_is_in_a_model_is_told(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "package     Core ML program, specification 8 (iOS 17)\nfunction    main, CoreML7\n",
        "input       image image RGB [8,8], scale 0.0078125, bias [-0.5,-0.25,0.125]\n",
        "output      classLabel string\noutput      classLabel_probs dictionary of strings\n",
        "labels      3: \"cat\" \"dog\" \"a \\\"bird\\\"\"\n",
        "operators   6: mul add conv reduce_mean softmax classify\n",
        "weights     fp32 x1 (324 bytes), 324 bytes in all\n  weight fp32[3,3,3,3], 324 bytes\n",
        "description made by a test\nauthor      requant\n",
    };
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    char text[4096];
    assert_int_equal(image_model(&m, &err), RQ_OK);
    const int64_t n = rq_coreml_text(m, true, text, sizeof text);
    assert_int_equal(n, strlen(text));
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(text, lines[i]))
            fail_msg("%s\nis not in\n%s", lines[i], text);
    const int64_t n_json = rq_coreml_json(m, text, sizeof text);
    assert_int_equal(n_json, strlen(text));
    json_t *all = json_loads(text, 0, NULL);
    assert_non_null(all);
    const json_t *f = json_array_get(json_object_get(all, "functions"), 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(f, "labels"), 2)), "a \"bird\"");
    const json_t *in = json_array_get(json_object_get(f, "inputs"), 0);
    assert_true(json_number_value(json_object_get(in, "scale")) == 0.0078125);
    assert_true(json_number_value(json_array_get(json_object_get(in, "bias"), 1)) == -0.25);
    assert_int_equal(json_array_size(json_object_get(f, "weights")), 1);
    json_decref(all);
    rq_coreml_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unchanged_package_keeps_its_bytes),
        cmocka_unit_test(a_changed_package_keeps_its_program),
        cmocka_unit_test(blobs_move_together),
        cmocka_unit_test(operations_are_those_listed),
        cmocka_unit_test(constants_and_codes_are_those_stored),
        cmocka_unit_test(a_model_made_here_has_the_known_bytes),
        cmocka_unit_test(weight_files_have_the_known_bytes),
        cmocka_unit_test(unknown_fields_are_kept),
        cmocka_unit_test(another_writers_bytes_are_kept),
        cmocka_unit_test(a_zipped_package_is_read),
        cmocka_unit_test(only_packages_are_replaced),
        cmocka_unit_test(what_is_in_a_model_is_told),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
