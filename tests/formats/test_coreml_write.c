/* tests/formats/test_coreml_write.c — packages made or changed here: weight files and messages are compared with bytes worked out apart
 * from this code; fields that our schema lacks, zips, what may be replaced, every allocation failing. */
#include "formats/coreml_help.h"

#include <unistd.h>
#include <zip.h>

#include "interop/image.h"
#include "requant/dataset.h"
#include "tensor/convert.h"

#define OUT RQ_TEST_TMP "/written.mlpackage"

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
