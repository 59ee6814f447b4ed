/* tests/tensor/test_state.c — states: order, replacement, errors, files that numpy reads back, and every allocation failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/state.h"

static const float xs[3] = { 1.5f, -0.0f, 3e-40f };
static const int64_t ints[2] = { INT64_MIN, 7 };

static rq_status fill(rq_state *s)
{
    const rq_shape scalar = { .rank = 0 };
    float one = 2.5f;
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &scalar, &one);
    RQ_TRY(rq_state_set_floats(s, "layer.", "max_val", xs, 3));
    RQ_TRY(rq_state_set_ints(s, "layer.", "zero_point", ints, 2));
    RQ_TRY(rq_state_set(s, NULL, "eps", &t));
    RQ_TRY(rq_state_set_text(s, "layer.", "qscheme", "per_tensor_affine"));
    return rq_state_set_floats(s, "", "empty", NULL, 0);
}

static void names_keep_their_order_and_are_replaced_in_place(void **state)
{
    (void)state;
    rq_state *s = NULL;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_state_count(s), 0);
    assert_int_equal(fill(s), RQ_OK);
    assert_int_equal(rq_state_set_floats(s, NULL, "layer.max_val", xs, 1), RQ_OK);
    assert_int_equal(rq_state_count(s), 5);
    assert_string_equal(rq_state_name(s, 0), "layer.max_val");
    assert_string_equal(rq_state_name(s, 4), "empty");
    assert_int_equal(rq_tensor_count(rq_state_tensor(s, 0)), 1);
    assert_ptr_equal(rq_state_find(s, "eps"), rq_state_tensor(s, 2));
    assert_null(rq_state_find(s, "layer."));
    rq_state_destroy(s);
}

static void what_is_not_there_or_of_another_kind_is_said(void **state)
{
    (void)state;
    rq_state *s = NULL;
    const rq_tensor *t = NULL;
    rq_err err;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(fill(s), RQ_OK);
    assert_int_equal(rq_state_get(s, "layer.", "max_val", RQ_DTYPE_F32, 1, &t, &err), RQ_OK);
    assert_memory_equal(t->f32, xs, sizeof xs);
    assert_int_equal(rq_state_get(s, "layer.", "max_vals", RQ_DTYPE_F32, -1, &t, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "the state holds no 'layer.max_vals'; the nearest is 'layer.max_val'");
    assert_int_equal(rq_state_get(s, "layer.", "zero_point", RQ_DTYPE_F32, -1, &t, &err), RQ_BAD_DTYPE);
    assert_string_equal(err.text, "'layer.zero_point' of the state is s64, expected f32");
    assert_int_equal(rq_state_get(s, NULL, "eps", RQ_DTYPE_F32, 1, &t, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "'eps' of the state has shape [], expected rank 1");
    rq_state_destroy(s);
}

static void a_file_gives_the_same_state(void **state)
{
    (void)state;
    const char *path = RQ_TEST_TMP "/state.npz";
    rq_state *s = NULL, *back = NULL;
    rq_err err;
    assert_int_equal(rq_state_create(&s), RQ_OK);
    assert_int_equal(rq_state_save(s, path, &err), RQ_BAD_ARG);
    assert_int_equal(fill(s), RQ_OK);
    assert_int_equal(rq_state_save(s, path, &err), RQ_OK);
    assert_int_equal(rq_state_load(&back, path, &err), RQ_OK);
    assert_int_equal(rq_state_count(back), rq_state_count(s));
    for (int i = 0; i < rq_state_count(s); i++) {
        const rq_tensor *a = rq_state_tensor(s, i), *b = rq_state_tensor(back, i);
        assert_string_equal(rq_state_name(s, i), rq_state_name(back, i));
        assert_int_equal(a->dtype, b->dtype);
        assert_true(rq_shape_equal(&a->shape, &b->shape));
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    rq_state_destroy(back);
    rq_state_destroy(s);
    unlink(path);
    assert_int_equal(rq_state_load(&back, path, &err), RQ_IO);
}

/* The file is opened once; for each of the 3000 it took 44 seconds. */
static void many_arrays_are_read_in_one_go(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    const char *path = RQ_TEST_TMP "/state-many.npz";
    rq_state *s = NULL, *back = NULL;
    rq_err err;
    char name[64];
    assert_int_equal(rq_state_create(&s), RQ_OK);
    for (int i = 0; i < MANY; i++) {
        const float x = (float)i;
        snprintf(name, sizeof name, "layer%d.scale", i);
        assert_int_equal(rq_state_set_floats(s, NULL, name, &x, 1), RQ_OK);
    }
    assert_int_equal(rq_state_save(s, path, &err), RQ_OK);
    const clock_t from = clock();
    assert_int_equal(rq_state_load(&back, path, &err), RQ_OK);
    assert_true(clock() - from < 20 * CLOCKS_PER_SEC);
    assert_int_equal(rq_state_count(back), MANY);
    assert_string_equal(rq_state_name(back, MANY - 1), name);
    assert_true(rq_state_tensor(back, MANY - 1)->f32[0] == MANY - 1);
    rq_state_destroy(back);
    rq_state_destroy(s);
    /* cut short it is refused, and nothing stays behind */
    const size_t live = rq_mem_live();
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 200, SEEK_SET), 0);
    for (int i = 0; i < 300; i++)
        fputc(0, f);
    fclose(f);
    back = NULL;
    assert_int_equal(rq_state_load(&back, path, &err), RQ_BAD_FILE);
    assert_non_null(strstr(err.text, "array 'layer"));
    assert_null(back);
    assert_int_equal(rq_mem_live(), live);
    unlink(path);
}

static rq_status round_trip(const char *path)
{
    rq_state *s = NULL, *back = NULL;
    RQ_TRY(rq_state_create(&s));
    rq_status st = fill(s);
    if (!st)
        st = rq_state_set_floats(s, "layer.", "max_val", xs, 2);
    if (!st)
        st = rq_state_save(s, path, NULL);
    if (!st)
        st = rq_state_load(&back, path, NULL);
    rq_state_destroy(back);
    rq_state_destroy(s);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *path = RQ_TEST_TMP "/state-oom.npz";
    const size_t live = rq_mem_live();
    size_t n = 1;
    rq_status st;
    do {
        rq_mem_fail_after(n, false);
        st = round_trip(path);
        rq_mem_fail_after(0, false);
        assert_true(st == RQ_OK || st == RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), live);
    } while (st != RQ_OK && ++n < 1000);
    assert_true(n > 20);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_keep_their_order_and_are_replaced_in_place),
        cmocka_unit_test(what_is_not_there_or_of_another_kind_is_said),
        cmocka_unit_test(a_file_gives_the_same_state),
        cmocka_unit_test(many_arrays_are_read_in_one_go),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
