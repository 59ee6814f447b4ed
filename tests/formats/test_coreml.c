/* tests/formats/test_coreml.c — Core ML packages made by coremltools: every one is read, written back as the same bytes, and, when
 * something was changed, as the same program. (What is in them is compared by tests/golden/case_coreml.c.) */
#include "formats/coreml_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unchanged_package_keeps_its_bytes),
        cmocka_unit_test(a_changed_package_keeps_its_program),
        cmocka_unit_test(blobs_move_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
