/* A program that writes 0,5 for a half: what the library reads and writes stays with points. Where no such locale is
 * installed, localedef makes one; without it too there is nothing to test. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "algo/settings.h"
#include "base/file.h"
#include "base/number.h"
#include "requant/requant.h"

#define MADE RQ_TEST_TMP "/locales"

static rq_err err;

/* Ours has a comma from here on, for every thread. */
static bool take_comma(void)
{
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8",  "de_DE",
                                         "fr_FR.UTF-8", "pt_BR.UTF-8", "ru_RU.UTF-8" };
    for (int made = 0; made < 2; made++) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (setlocale(LC_ALL, names[i]) && !strcmp(localeconv()->decimal_point, ","))
                return true;
        if (made || system("mkdir -p " MADE " && localedef -f UTF-8 -i de_DE " MADE "/de_DE.UTF-8 >/dev/null 2>&1"))
            break;
        setenv("LOCPATH", MADE, 1);
    }
    setlocale(LC_ALL, "C");
    return false;
}

static int comma(void **state)
{
    (void)state;
    if (!take_comma())
        print_message("no locale with a comma is installed, and localedef makes none: skipped\n");
    return 0;
}

static void need_comma(void)
{
    char half[8];
    if (strcmp(localeconv()->decimal_point, ",") != 0)
        skip();
    snprintf(half, sizeof half, "%.1f", 0.5);
    assert_string_equal(half, "0,5");
}

static void numbers_have_points(void **state)
{
    char text[64], *end;
    (void)state;
    need_comma();
    assert_true(rq_number_parse("-99.5e1x", &end) == -995 && *end == 'x');
    assert_true(rq_number_parse("1,5", &end) == 1 && *end == ',');
    assert_int_equal(rq_number_print(text, sizeof text, "%g of %s", 0.25, "x"), 9);
    assert_string_equal(text, "0.25 of x");
    assert_int_equal(rq_fail(&err, RQ_BAD_ARG, "std %g", 1.5), RQ_BAD_ARG);
    assert_string_equal(err.text, "std 1.5");
    need_comma(); /* and the program's locale is as it was */
}

static void ranges_there_and_back(void **state)
{
    static const char *const path = RQ_TEST_TMP "/comma.json";
    rq_ranges *r, *back = NULL;
    void *text;
    size_t n;
    (void)state;
    need_comma();
    assert_int_equal(rq_ranges_create(&r), RQ_OK);
    assert_int_equal(rq_ranges_add(r, &(rq_range_info) { .tensor = "x", .lo = -0.5, .hi = 1.0 / 3 }, &err), RQ_OK);
    if (rq_ranges_save(r, path, &err) || rq_ranges_load(&back, path, &err))
        fail_msg("%s", err.text);
    assert_true(rq_ranges_find(back, "x")->lo == -0.5 && rq_ranges_find(back, "x")->hi == 1.0 / 3);
    rq_ranges_destroy(back);
    rq_ranges_destroy(r);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text = calloc(1, 4096);
    n = fread(text, 1, 4095, f);
    fclose(f);
    assert_true(n > 0);
    assert_non_null(strstr(text, "\"lo\": -0.5,"));
    free(text);
}

static void a_recipe_is_read(void **state)
{
    static const char *const path = RQ_TEST_TMP "/comma.yaml",
                             text[] = "percentile: 99.5\n"
                                      "preprocess: {resize: 256, mean: [0.5, 0.25, 0.125], std: [0.5, 0.5, 0.5]}\n";
    rq_recipe *r;
    (void)state;
    need_comma();
    assert_int_equal(rq_file_write_all(path, text, strlen(text), &err), RQ_OK);
    if (rq_recipe_load(&r, path, &err))
        fail_msg("%s", err.text);
    rq_settings s = rq_settings_defaults();
    rq_recipe_apply_global(r, &s, NULL);
    assert_true(s.percentile == 99.5);
    assert_true(rq_recipe_preprocess(r)->mean[1] == 0.25f);
    rq_recipe_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_points),
        cmocka_unit_test(ranges_there_and_back),
        cmocka_unit_test(a_recipe_is_read),
    };
    return cmocka_run_group_tests(tests, comma, NULL);
}
