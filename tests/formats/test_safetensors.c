/* tests/formats/test_safetensors.c — what the safetensors package wrote is read, what is written has the package's form, and each kind of damage is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/safetensors.h"

#define FILE_OF_PACKAGE "tests/nn/torch_nn.safetensors"
#define CORPUS "tests/fuzz/corpus/safetensors/"

static void the_packages_file_is_read(void **state)
{
    (void)state;
    rq_state *s = NULL, *npz = NULL;
    rq_err err = { 0 };
    if (rq_state_load(&s, FILE_OF_PACKAGE, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_state_load(&npz, "tests/nn/torch_nn.npz", &err), RQ_OK);
    assert_int_equal(rq_state_count(s), 16); /* of an LSTM of two layers and directions */
    for (int i = 0; i < rq_state_count(s); i++) {
        char name[80];
        snprintf(name, sizeof name, "lstm/state/m.%s", rq_state_name(s, i));
        const rq_tensor *a = rq_state_tensor(s, i), *b = rq_state_find(npz, name);
        assert_non_null(b);
        assert_true(rq_shape_equal(&a->shape, &b->shape));
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    rq_state_destroy(s);
    rq_state_destroy(npz);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    rq_state *s = NULL, *back = NULL;
    rq_err err = { 0 };
    const float x[3] = { 1, 2, 3 };
    const int64_t k[2] = { -1, INT64_MAX };
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_state_set_text(s, NULL, "odd \"name\" \xc3\xa4", "abc"), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, "a.", "b", x, 3), RQ_OK);
    assert_int_equal(rq_state_set_ints(s, NULL, "k", k, 2), RQ_OK);
    assert_int_equal(rq_state_save(s, RQ_TEST_TMP "/s.safetensors", &err), RQ_OK);
    if (rq_state_load(&back, RQ_TEST_TMP "/s.safetensors", &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_state_count(back), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(rq_state_name(back, i), rq_state_name(s, i));
        assert_memory_equal(rq_state_tensor(back, i)->data, rq_state_tensor(s, i)->data, rq_state_tensor(s, i)->bytes);
    }
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { 2 });
    uint8_t packed = 0;
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S4, &shape, &packed);
    assert_int_equal(rq_state_set(s, NULL, "four", &t), RQ_OK);
    assert_int_equal(rq_state_save(s, RQ_TEST_TMP "/s.safetensors", &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "'four' is s4, which safetensors files have not");
    rq_state_destroy(s);
    rq_state_destroy(back);
}

static void damage_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text; /* what the sentence must have */
    } cases[] = {
        { "gap", "tensor 'a' begins at 4 of the data, expected 0" },
        { "overlap", "tensor 'b' begins at 4 of the data, expected 8" },
        { "too_short", "the tensors end at 16, the data at 8" },
        { "too_long", "the tensors end at 4, the data at 8" },
        { "wrong_size", "'a' has 0 to 8 as data_offsets, its type and shape take 12 bytes" },
        { "backwards", "'a' has 8 to 4 as data_offsets" },
        { "twice", "there are two tensors 'a'" },
        { "not_utf8", "is not UTF-8" },
        { "unknown_type", "'F33' is no type that is known" },
        { "unknown_key", "'a' has the unknown key 'x'" },
        { "no_shape", "'a' lacks dtype, shape or data_offsets" },
        { "huge_shape", "the shape has too many elements" },
        { "negative", "expected a whole number" },
        { "fraction", "expected a whole number" },
        { "list", "the header is no JSON object" },
        { "long_header", "a header of 4611686018427387904 bytes" },
        { "nine_axes", "more than 8 axes" },
        { "three_offsets", "data_offsets has more than 2 numbers" },
        { "short", "4 bytes, a safetensors file has at least 8" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[96];
        rq_state *s = NULL;
        rq_err err = { 0 };
        snprintf(path, sizeof path, CORPUS "%s", cases[i].file);
        assert_int_equal(rq_safetensors_load(&s, path, &err), RQ_BAD_FILE);
        assert_null(s);
        if (!strstr(err.text, cases[i].text) || strncmp(err.text, path, strlen(path)) != 0)
            fail_msg("%s: %s", cases[i].file, err.text);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 1;; i++) {
        rq_state *s = NULL;
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        rq_mem_fail_after(i, true);
        rq_status st = rq_safetensors_load(&s, FILE_OF_PACKAGE, &err);
        if (!st)
            st = rq_safetensors_save(s, RQ_TEST_TMP "/oom.safetensors", &err);
        rq_mem_fail_after(0, false);
        rq_state_destroy(s);
        assert_int_equal(rq_mem_live(), live);
        if (!st)
            break;
        assert_int_equal(st, RQ_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_packages_file_is_read),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
