/* tests/formats/test_coreml_bad.c — packages made to hurt: each is refused with one sentence that names the place. They are made
 * from a good package by changing one thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zip.h>

#include "formats/coreml.h"

#define GOOD "tests/golden/coreml/w8a8/conv_ptq_int8_pc.mlpackage"
#define BAD RQ_TEST_TMP "/bad.mlpackage"
#define MODEL BAD "/Data/com.apple.CoreML/model.mlmodel"
#define WEIGHTS BAD "/Data/com.apple.CoreML/weights/weight.bin"

static rq_coreml *good(void)
{
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    if (rq_coreml_open(&m, GOOD, &err))
        fail_msg("%s", err.text);
    return m;
}

/* A good package at BAD, to be spoilt. */
static void fresh(void)
{
    rq_coreml *m = good();
    rq_err err = { 0 };
    if (access(BAD, F_OK) == 0) /* what stands there is a package, however spoilt */
        assert_int_equal(rq_file_write_all(BAD "/Manifest.json", "x", 1, &err), RQ_OK);
    if (rq_coreml_save(m, BAD, &err))
        fail_msg("%s", err.text);
    rq_coreml_close(m);
}

static void refused(const char *path, const char *text)
{
    rq_coreml *m = NULL;
    rq_err err = { 0 };
    const size_t live = rq_mem_live();
    const rq_status st = rq_coreml_open(&m, path, &err);
    if (!st)
        fail_msg("it was opened, expected: %s", text);
    assert_null(m);
    assert_int_equal(rq_mem_live(), live);
    if (!strstr(err.text, text) || strncmp(err.text, path, strlen(path)) != 0 || strchr(err.text, '\n'))
        fail_msg("said: %s\nexpected: %s", err.text, text);
    assert_true(st == RQ_BAD_FILE || st == RQ_UNSUPPORTED);
}

/* ---- the manifest ---- */

#define ITEM(id, author, name, path)                                                                                   \
    "\"" id "\": {" author "\"description\": \"\", \"name\": \"" name "\", \"path\": \"" path "\"}"
#define AUTHOR "\"author\": \"com.apple.CoreML\", "
#define MODEL_ITEM ITEM("a", AUTHOR, "model.mlmodel", "com.apple.CoreML/model.mlmodel")
#define WEIGHTS_ITEM ITEM("b", AUTHOR, "weights", "com.apple.CoreML/weights")
#define MANIFEST(version, items, root)                                                                                 \
    "{\"fileFormatVersion\": \"" version "\", \"itemInfoEntries\": {" items "}, \"rootModelIdentifier\": \"" root "\"" \
    "}"
#define BOTH MODEL_ITEM ", " WEIGHTS_ITEM

static void manifests(void **state)
{
    (void)state;
    static const struct {
        const char *manifest, *text;
    } cases[] = {
        { "", "Manifest.json" },
        { "{\"fileFormatVersion\": \"1.0.0\", \"itemInfoEn", "Manifest.json: byte" },
        { "[1, 2]", "Manifest.json: byte" },
        { "{\"itemInfoEntries\": {" BOTH "}, \"rootModelIdentifier\": \"a\"}", "lacks 'fileFormatVersion'" },
        { "{\"fileFormatVersion\": \"1.0.0\", \"itemInfoEntries\": {" BOTH "}}", "lacks 'rootModelIdentifier'" },
        { "{\"fileFormatVersion\": \"1.0.0\", \"rootModelIdentifier\": \"a\"}",
          "the root model 'a' is none of its 0 items" },
        { MANIFEST("1.0", BOTH, "a"), "'1.0' is no format version" },
        { MANIFEST("1.0.-1", BOTH, "a"), "'1.0.-1' is no format version" },
        { MANIFEST("1.0.0.0", BOTH, "a"), "'1.0.0.0' is no format version" },
        { MANIFEST("x", BOTH, "a"), "'x' is no format version" },
        { MANIFEST("1.0.1", BOTH, "a"), "format version 1.0.1 is newer than 1.0.0" },
        { MANIFEST("0.0.5", BOTH, "a"), "format version 0.0.5 is newer than 1.0.0" },
        { MANIFEST("1.1.0", BOTH, "a"), "format version 1.1.0 is newer than 1.0.0" },
        { MANIFEST("2.0.0", BOTH, "a"), "format version 2.0.0 is newer than 1.0.0" },
        { MANIFEST("1.0.0", BOTH, "c"), "the root model 'c' is none of its 2 items" },
        { MANIFEST("1.0.0", BOTH, "b"), "the root model at 'Data/com.apple.CoreML/weights' is no file" },
        { MANIFEST("1.0.0", ITEM("a", AUTHOR, "m", "../../../etc/passwd"), "a"),
          "'../../../etc/passwd', which leaves" },
        { MANIFEST("1.0.0", ITEM("a", AUTHOR, "m", "com.apple.CoreML/../../Manifest.json"), "a"),
          "which leaves the package" },
        { MANIFEST("1.0.0", ITEM("a", AUTHOR, "m", "/etc/passwd"), "a"), "'/etc/passwd', which leaves the package" },
        { MANIFEST("1.0.0", ITEM("a", AUTHOR, "m", "a\\\\b"), "a"), "which leaves the package" },
        { MANIFEST("1.0.0", ITEM("a", AUTHOR, "m", ""), "a"), "is no file" },
        { MANIFEST("1.0.0", MODEL_ITEM ", " ITEM("c", AUTHOR, "x", "x/y"), "a"),
          "'Data/x/y', where there is no file or folder" },
        { MANIFEST("1.0.0", ITEM("a", "", "m", "com.apple.CoreML/model.mlmodel"), "a"), "item 'a' lacks 'author'" },
        { MANIFEST("1.0.0", BOTH ", " ITEM("c", AUTHOR, "weights", "com.apple.CoreML"), "a"), "two items 'weights'" },
        { MANIFEST("1.0.0", BOTH ", " MODEL_ITEM, "a"), "there are two items 'a'" },
        { MANIFEST("1.0.0", MODEL_ITEM, "a"), "the package no item 'weights'" },
        { MANIFEST("1.0.0", MODEL_ITEM ", " ITEM("b", "\"author\": \"me\", ", "weights", "com.apple.CoreML/weights"),
                   "a"),
          "the package no item 'weights'" },
    };
    static const char *const accepted[] = { "1.0.0", "0.5.9", "0.9.0" };
    rq_err err = { 0 };
    fresh();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(rq_file_write_all(BAD "/Manifest.json", cases[i].manifest, strlen(cases[i].manifest), &err),
                         RQ_OK);
        refused(BAD, cases[i].text);
    }
    for (size_t i = 0; i < 3; i++) {
        char text[1000];
        rq_coreml *m;
        snprintf(text, sizeof text,
                 "{\"fileFormatVersion\": \"%s\", \"itemInfoEntries\": {" BOTH "}, \"rootModelIdentifier\": \"a\"}",
                 accepted[i]);
        assert_int_equal(rq_file_write_all(BAD "/Manifest.json", text, strlen(text), &err), RQ_OK);
        if (rq_coreml_open(&m, BAD, &err))
            fail_msg("%s", err.text);
        rq_coreml_close(m);
    }
    /* cut short at every byte */
    const char *whole = MANIFEST("1.0.0", BOTH, "a");
    for (size_t n = 0; n < strlen(whole); n++) {
        assert_int_equal(rq_file_write_all(BAD "/Manifest.json", whole, n, &err), RQ_OK);
        refused(BAD, "Manifest.json");
    }
    unlink(BAD "/Manifest.json");
    refused(BAD, "holds no file 'Manifest.json'");
}

static void links_are_not_followed(void **state)
{
    (void)state;
    fresh();
    rq_err err = { 0 };
    unlink(MODEL);
    assert_int_equal(symlink("/etc/passwd", MODEL), 0);
    refused(BAD, "where there is no file or folder");
    unlink(MODEL);
    fresh();
    unlink(WEIGHTS);
    assert_int_equal(symlink("/etc/passwd", WEIGHTS), 0);
    refused(BAD, "is a folder or a link, expected a file");
    unlink(WEIGHTS);
    assert_int_equal(mkfifo(WEIGHTS, 0600), 0);
    refused(BAD, "is a folder or a link, expected a file");
    unlink(WEIGHTS);
    refused(BAD, "holds no file 'Data/com.apple.CoreML/weights/weight.bin'");
    assert_int_equal(rq_file_write_all(WEIGHTS, "", 0, &err), RQ_OK);
    refused(BAD, "the weight file has 0 bytes");
}

/* ---- the weight file ---- */

static void weight_files(void **state)
{
    (void)state;
    static const struct {
        uint64_t at; /* in the first record, that is at 64; with `header`, in the file */
        bool header;
        int n;
        uint8_t bytes[8];
        const char *text;
    } cases[] = {
        { 4, true, 4, { 1 }, "the weight file has version 1, expected 2" },
        { 0, false, 4, { 0xef, 0xbe, 0xad, 0xdf }, "found 0xDFADBEEF where a record has 0xDEADBEEF" },
        { 4, false, 4, { 99 }, "have type 99, which does not exist" },
        { 4, false, 4, { 2 }, "are fp32, the program says" },
        { 8, false, 8, { 0, 0, 0, 0, 0, 0, 0, 0x80 }, "the weight file has" },
        { 8, false, 8, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, "the weight file has" },
        { 8, false, 8, { 4 }, "are 4 bytes," },
        { 16, false, 8, { 0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, "the weight file has" },
        { 16, false, 8, { 0 }, "the weight file has" },
        { 16, false, 8, { 129 }, "the weight file has" },
    };
    rq_err err = { 0 };
    rq_map map;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh();
        assert_int_equal(rq_file_map(&map, WEIGHTS, &err), RQ_OK);
        uint8_t *copy = malloc(map.size);
        const size_t size = map.size;
        memcpy(copy, map.data, size);
        rq_file_unmap(&map);
        memcpy(copy + cases[i].at + (cases[i].header ? 0 : 64), cases[i].bytes, (size_t)cases[i].n);
        assert_int_equal(rq_file_write_all(WEIGHTS, copy, size, &err), RQ_OK);
        refused(BAD, cases[i].text);
        free(copy);
    }
    fresh();
    assert_int_equal(truncate(WEIGHTS, 10), 0);
    refused(BAD, "the weight file has 10 bytes, its header alone has 64");
    assert_int_equal(truncate(WEIGHTS, 64), 0);
    refused(BAD, "of the weight file, which has 64 bytes");
}

/* ---- the program ---- */

typedef void (*spoil)(rq_coreml *m, rq_mil_block *b);

static rq_mil_op *op_of(rq_mil_block *b, const char *type)
{
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->ops[i]->type, type))
            return b->ops[i];
    fail_msg("the good package has no '%s'", type);
    return NULL;
}

static rq_mil_attr *blob_of(rq_mil_block *b)
{
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_attrs; k++)
            if (b->ops[i]->attrs[k].value->kind == RQ_MIL_BLOB)
                return &b->ops[i]->attrs[k];
    fail_msg("the good package has no blob");
    return NULL;
}

static rq_mil_value *blob_at(rq_coreml *m, rq_mil_attr *a, const char *file, uint64_t offset)
{
    rq_mil_value *v = rq_mil_blob(&m->program, a->value->type, NULL);
    v->file = file;
    v->offset = offset;
    return v;
}

static void offset_past_the_end(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/weight.bin", (uint64_t)1 << 40);
}

static void offset_near_overflow(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/weight.bin", UINT64_MAX - 63);
}

static void offset_odd(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/weight.bin", 65);
}

static void offset_of_header(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/weight.bin", 0);
}

static void file_of_another_folder(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/../../../../../../etc/passwd", 64);
}

static void file_dots(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_attr *a = blob_of(b);
    a->value = blob_at(m, a, "@model_path/weights/..", 64);
}

static void shape_absurd(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_program *p = &m->program;
    b->ops[0]->outputs[0].type =
        rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp32"), 2, (int64_t[]) { (int64_t)1 << 40, (int64_t)1 << 40 });
}

static void size_absurd(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_program *p = &m->program;
    b->ops[0]->outputs[0].type = rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp32"), 1, (int64_t[]) { INT64_MAX });
}

static void rank_absurd(rq_coreml *m, rq_mil_block *b)
{
    int64_t dim[40];
    for (int i = 0; i < 40; i++)
        dim[i] = 1;
    b->ops[0]->outputs[0].type = rq_mil_tensor_type(&m->program, rq_mil_dtype_of_name("fp32"), 40, dim);
}

static void rank_wrong(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_type *t = rq_mil_tensor_type(&m->program, rq_mil_dtype_of_name("fp32"), 0, NULL);
    t->rank = -7;
    b->ops[0]->outputs[0].type = t;
}

static void type_of_nothing(rq_coreml *m, rq_mil_block *b)
{
    static const rq_mil_dtype odd = { "odd", 77, 0, 8, RQ_MIL_STORE_BYTES, RQ_DTYPE_U8 };
    b->ops[0]->outputs[0].type = rq_mil_tensor_type(&m->program, &odd, 0, NULL);
}

static void cycle_of_one(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_op *conv = op_of(b, "conv");
    rq_mil_op_arg(conv, "x")->binding[0].name = conv->outputs[0].name;
    (void)m;
}

static void cycle_of_two(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_op *conv = op_of(b, "conv"), *last = b->ops[b->n_ops - 1];
    rq_mil_op_arg(conv, "x")->binding[0].name = last->outputs[0].name;
    (void)m;
}

static void defined_twice(rq_coreml *m, rq_mil_block *b)
{
    b->ops[1]->outputs[0].name = b->ops[0]->outputs[0].name;
    (void)m;
}

static void output_missing(rq_coreml *m, rq_mil_block *b)
{
    b->outputs[0] = "nowhere";
    (void)m;
}

static void value_too_long(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_value *v = rq_mil_ints(&m->program, (int32_t[]) { 1, 2, 3 }, 3);
    v->n = 2;
    rq_mil_op_set_attr(&m->program, b->ops[0], "more", v);
}

static void value_of_another_kind(rq_coreml *m, rq_mil_block *b)
{
    static const rq_mil_dtype odd = { "odd", 11, 0, 32, RQ_MIL_STORE_INTS, RQ_DTYPE_F32 };
    rq_mil_type *t = rq_mil_tensor_type(&m->program, &odd, 1, (int64_t[]) { 1 });
    rq_mil_op_set_attr(&m->program, b->ops[0], "more", rq_mil_immediate(&m->program, t, (int32_t[]) { 1 }));
}

static void opset_without_block(rq_coreml *m, rq_mil_block *b)
{
    m->program.functions[0]->opset = "CoreML99";
    (void)b;
}

static void program_of_another_version(rq_coreml *m, rq_mil_block *b)
{
    m->program.version = 2;
    (void)b;
}

static void no_functions(rq_coreml *m, rq_mil_block *b)
{
    m->program.n_functions = 0;
    (void)b;
}

static void old_specification(rq_coreml *m, rq_mil_block *b)
{
    m->spec = 4;
    (void)b;
}

static void negative_specification(rq_coreml *m, rq_mil_block *b)
{
    m->spec = -8;
    (void)b;
}

static void nested_too_deep(rq_coreml *m, rq_mil_block *b)
{
    rq_mil_program *p = &m->program;
    for (int i = 0; i < 200; i++) {
        rq_mil_block *inner = rq_arena_alloc(&p->arena, 1, sizeof *inner);
        rq_mil_op *op = rq_mil_op_make(p, "cond", "deep");
        op->blocks = rq_arena_alloc(&p->arena, 1, sizeof(rq_mil_block *));
        op->blocks[0] = inner;
        op->n_blocks = op->cap_blocks = 1;
        rq_mil_block_insert(p, b, b->n_ops, op);
        b = inner;
    }
}

static void programs(void **state)
{
    (void)state;
    static const struct {
        spoil fn;
        const char *text;
    } cases[] = {
        { offset_past_the_end, "weights at 1099511627776 of the weight file, which has" },
        { offset_near_overflow, "weights at 18446744073709551552 of the weight file, which has" },
        { offset_odd, "weights at 65 of the weight file: expected a multiple of 64" },
        { offset_of_header, "weights at 0 of the weight file: expected a multiple of 64" },
        { file_of_another_folder, "holds no file 'Data/com.apple.CoreML/weights/passwd'" },
        { file_dots, "holds no file" },
        { shape_absurd, "more elements than any memory holds" },
        { size_absurd, "more elements than any memory holds" },
        { rank_absurd, "a tensor has 40 axes, at most 16" },
        { rank_wrong, "a tensor has rank -7" },
        { type_of_nothing, "element type 77 does not exist" },
        { cycle_of_one, "which is not defined before it" },
        { cycle_of_two, "which is not defined before it" },
        { defined_twice, "is defined twice" },
        { output_missing, "output 'nowhere' of a block is not defined" },
        { value_too_long, "a value has 2 elements, its type 3" },
        { value_of_another_kind, "a value of fp32 holds ints, expected floats" },
        { opset_without_block, "there is no block for its opset 'CoreML99'" },
        { program_of_another_version, "the program has version 2, expected 1" },
        { no_functions, "the program has no functions" },
        { old_specification, "specification version 4, expected at least 6" },
        { negative_specification, "specification version -8; this is not a Core ML model" },
        { nested_too_deep, "messages are nested more than 100 deep" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err = { 0 };
        uint8_t *bytes;
        size_t size;
        fresh();
        rq_coreml *m = good();
        cases[i].fn(m, m->program.functions[0]->block);
        if (rq_coreml_encode(m, &bytes, &size, &err))
            fail_msg("%s", err.text);
        assert_int_equal(rq_file_write_all(MODEL, bytes, size, &err), RQ_OK);
        refused(BAD, cases[i].text);
        rq_mem_free(bytes);
        rq_coreml_close(m);
    }
}

static void other_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {
        { "", 0, "specification version 0; this is not a Core ML model" },
        { "hello", 5, "a group, which Core ML does not use" },
        { "\0\0\0\0", 4, "field number 0 does not exist; this is not a Core ML model" },
        { "\010\010", 2, "the model is nothing, expected an ML program" },
        { "\010\004\242\037\0", 5, "the model is a neural network, expected an ML program" },
        { "\010\004\322\014\0", 5, "the model is a pipeline, expected an ML program" },
        { "\010\010\262\037\377\377\377\017", 8, "the file is cut short or damaged" },
        { "\010\010\262\037\002\010\001", 7, "the program has no functions" },
    };
    rq_err err = { 0 };
    fresh();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(rq_file_write_all(MODEL, cases[i].bytes, cases[i].n, &err), RQ_OK);
        refused(BAD, cases[i].text);
    }
    rq_coreml *m = good(); /* cut short at every byte, and every byte turned */
    rq_coreml *back;
    uint8_t *copy = malloc(m->file.size);
    for (size_t n = 0; n < m->file.size; n++) {
        uint8_t *cut = malloc(n + 1); /* the end is guarded */
        memcpy(cut, m->file.data, n);
        const rq_status st = rq_coreml_parse(&back, cut, n, &err);
        if (!st)
            rq_coreml_close(back);
        free(cut);
    }
    memcpy(copy, m->file.data, m->file.size);
    for (size_t n = 0; n < m->file.size; n++) {
        copy[n] = (uint8_t)~copy[n];
        const rq_status st = rq_coreml_parse(&back, copy, m->file.size, &err);
        if (!st)
            rq_coreml_close(back);
        copy[n] = (uint8_t)~copy[n];
    }
    free(copy);
    rq_coreml_close(m);
}

static void archives(void **state)
{
    (void)state;
    const char *path = RQ_TEST_TMP "/bad.zip";
    static const struct {
        const char *name, *text;
    } cases[] = {
        { "x.txt", "the archive holds no Manifest.json" },
        { "a/b/Manifest.json", "the archive holds no Manifest.json" },
        { "../Manifest.json", "which leaves the package" },
        { "Manifest.json", "Manifest.json: byte" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unlink(path);
        zip_t *z = zip_open(path, ZIP_CREATE | ZIP_EXCL, NULL);
        assert_non_null(z);
        assert_true(zip_file_add(z, cases[i].name, zip_source_buffer(z, "{]", 2, 0), 0) >= 0);
        if (!strcmp(cases[i].name, "../Manifest.json"))
            assert_true(zip_file_add(z, "../../x", zip_source_buffer(z, "{]", 2, 0), 0) >= 0 &&
                        zip_file_add(z, "Manifest.json", zip_source_buffer(z, "{]", 2, 0), 0) >= 0);
        assert_int_equal(zip_close(z), 0);
        refused(path, cases[i].text);
    }
    assert_int_equal(truncate(path, 40), 0);
    refused(path, "cannot be opened as a zip archive");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests),    cmocka_unit_test(links_are_not_followed),
        cmocka_unit_test(weight_files), cmocka_unit_test(programs),
        cmocka_unit_test(other_bytes),  cmocka_unit_test(archives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
