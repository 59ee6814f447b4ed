/* cli/opts.c — options from their table: parsing, the recipe's stand-ins, and the help. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

int cli_usage(const cli_command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "requant %s: ", c->name);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: requant %s %s\n`requant %s --help` says more\n", c->name, c->synopsis, c->name);
    return CLI_USAGE;
}

/* Edits (insert, delete, replace) that make b of a, for words of up to 63 letters. */
static int distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    int row[MAX];
    int n = (int)strlen(b);
    if (n >= MAX || strlen(a) >= MAX)
        return MAX;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]), insert = row[j] + 1, remove = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = replace < insert ? replace : insert;
            if (remove < row[j])
                row[j] = remove;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *list, int n)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2; /* further away is no misspelling */
    for (int i = 0; i < n; i++) {
        int d = distance(word, list[i]);
        if (d < least) {
            least = d;
            best = list[i];
        }
    }
    return best;
}

bool cli_given(const cli_common *a, const char *name)
{
    for (int i = 0; i < a->n_given; i++)
        if (strcmp(a->given[i], name) == 0)
            return true;
    return false;
}

/* Remember that an option was given; grows the lists that repeated options need. */
static void note_given(cli_common *a, const char *name)
{
    const char **more = realloc(a->given, sizeof *more * ((size_t)a->n_given + 2));
    if (!more)
        abort();
    a->given = more;
    more[a->n_given++] = name;
    more[a->n_given] = NULL;
}

/* "h=32,w=320": one size or several. */
static bool parse_dims(cli_dims *dims, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, ",");
        const char *eq = memchr(text, '=', n);
        char *end;
        errno = 0;
        long long size = eq ? strtoll(eq + 1, &end, 10) : 0;
        if (!eq || eq == text || end != text + n || errno || size < 1)
            return false;
        rq_dim_value *more = realloc(dims->items, sizeof *more * ((size_t)dims->n + 1));
        char *name = strndup(text, (size_t)(eq - text));
        if (!more || !name)
            abort();
        dims->items = more;
        more[dims->n++] = (rq_dim_value) { name, size };
        text += n + (text[n] == ',');
    }
    return dims->n > 0;
}

/* Position of `text` in words ("a|b|c"), or -1. */
static int find_word(const char *words, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0;; i++) {
        size_t len = strcspn(words, "|");
        if (len == n && memcmp(words, text, n) == 0)
            return i;
        if (!words[len])
            return -1;
        words += len + 1;
    }
}

/* Store one value. On a bad one, *why is what would be right. */
static bool store(const cli_opt *o, void *args, const char *text, char *why, size_t room)
{
    void *to = (char *)args + o->to;
    char *end;
    errno = 0;
    switch (o->kind) {
    case CLI_FLAG: /* "true" and "false" come from recipes */
        if (text && strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return snprintf(why, room, "true or false"), false;
        *(bool *)to = !text || text[0] == 't';
        return true;
    case CLI_STR:
    case CLI_IN:
        *(const char **)to = text;
        return true;
    case CLI_OUT:
        *(const char **)to = strcmp(text, "-") == 0 ? "/dev/stdout" : text;
        return true;
    case CLI_INT: {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno || (double)v < o->lo || (double)v > o->hi)
            return snprintf(why, room, "a whole number from %.0f to %.0f", o->lo, o->hi), false;
        *(int64_t *)to = v;
        return true;
    }
    case CLI_NUM: {
        double v = strtod(text, &end);
        if (end == text || *end || !(v >= o->lo && v <= o->hi))
            return snprintf(why, room, "a number from %g to %g", o->lo, o->hi), false;
        *(double *)to = v;
        return true;
    }
    case CLI_ENUM: {
        int i = find_word(o->words, text);
        if (i < 0)
            return snprintf(why, room, "one of %s", o->words), false;
        *(int *)to = i;
        return true;
    }
    case CLI_DIM:
        return parse_dims(to, text) || (snprintf(why, room, "NAME=N with N at least 1"), false);
    case CLI_LIST: {
        cli_list *list = to;
        const char **more = realloc(list->items, sizeof *more * ((size_t)list->n + 2));
        if (!more)
            abort();
        list->items = more;
        more[list->n++] = text;
        more[list->n] = NULL;
        return true;
    }
    case CLI_END:
    case CLI_HEADING:
        break;
    }
    return false;
}

static const cli_opt *find_long(const cli_opt *opts, const char *name, size_t n)
{
    for (; opts->kind != CLI_END; opts++)
        if (opts->name && strlen(opts->name) == n && memcmp(opts->name, name, n) == 0)
            return opts;
    return NULL;
}

static const cli_opt *find_letter(const cli_opt *opts, char letter)
{
    for (; opts->kind != CLI_END; opts++)
        if (letter && opts->letter == letter)
            return opts;
    return NULL;
}

/* What other programs call an option that has another name here; or NULL. */
static const char *usual_name(const char *name)
{
    static const char *const pairs[][2] = {
        { "learning-rate", "lr" },
        { "batch-size", "batch" },
        { "num-epochs", "epochs" },
        { "wd", "weight-decay" },
        { "scheduler", "schedule" },
        { "lr-scheduler", "schedule" },
        { "criterion", "loss" },
        { "max-grad-norm", "clip-norm" },
        { "grad-clip", "clip-norm" },
        { "gradient-checkpointing", "checkpoint-activations" },
        { "num-threads", "threads" },
        { "workers", "threads" },
        { "val", "eval" },
        { "val-data", "eval" },
        { "dataset", "data" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strcmp(pairs[i][0], name))
            return pairs[i][1];
    return NULL;
}

static int unknown_option(const cli_command *c, const char *name)
{
    const char *names[64];
    int n = 0;
    for (const cli_opt *o = c->opts; o->kind != CLI_END && n < 64; o++)
        if (o->name)
            names[n++] = o->name;
    const char *near = usual_name(name);
    if (!near || !find_long(c->opts, near, strlen(near)))
        near = cli_nearest(name, names, n);
    if (near)
        return cli_usage(c, "unknown option '--%s'; did you mean '--%s'?", name, near);
    return cli_usage(c, "unknown option '--%s'", name);
}

static int bad_value(const cli_command *c, const cli_opt *o, const char *text, const char *why)
{
    return cli_usage(c, "--%s wants %s, not '%s'", o->name, why, text);
}

/* One word of argv that begins with '-'; *i moves past its value. */
static int parse_option(const cli_command *c, int argc, char **argv, int *i, void *args)
{
    char *word = argv[*i], why[160];
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        const cli_opt *o = find_long(c->opts, word + 2, n);
        char *value = word[2 + n] ? word + 2 + n + 1 : NULL;
        if (!o) {
            word[2 + n] = 0;
            return unknown_option(c, word + 2);
        }
        if (o->kind == CLI_FLAG && value)
            return cli_usage(c, "--%s takes no value", o->name);
        if (o->kind != CLI_FLAG && !value) {
            if (*i + 1 >= argc)
                return cli_usage(c, "--%s wants a value: %s", o->name, o->arg);
            value = argv[++*i];
        }
        note_given(args, o->name);
        return store(o, args, value, why, sizeof why) ? CLI_OK : bad_value(c, o, value, why);
    }
    for (char *p = word + 1; *p; p++) { /* -q, -qv, -dDATA, -d DATA */
        const cli_opt *o = find_letter(c->opts, *p);
        if (!o)
            return cli_usage(c, "unknown option '-%c'", *p);
        note_given(args, o->name);
        if (o->kind == CLI_FLAG) {
            store(o, args, NULL, why, sizeof why);
            continue;
        }
        char *value = p[1] ? p + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (!value)
            return cli_usage(c, "-%c wants a value: %s", *p, o->arg);
        return store(o, args, value, why, sizeof why) ? CLI_OK : bad_value(c, o, value, why);
    }
    return CLI_OK;
}

/* The recipe's global keys stand in for options that were not given. */
static int apply_recipe(const cli_command *c, cli_common *a)
{
    rq_err err = { 0 };
    if (rq_recipe_load(&a->recipe, a->recipe_path, &err))
        return cli_fail(c->name, &err);
    for (const cli_opt *o = c->opts; o->kind != CLI_END; o++) {
        const char *text = o->name && !cli_given(a, o->name) ? rq_recipe_option(a->recipe, o->name) : NULL;
        char why[160];
        if (!text)
            continue;
        note_given(a, o->name);
        if (!store(o, a, text, why, sizeof why)) {
            fprintf(stderr, "requant %s: %s: %s wants %s, not '%s'\n", c->name, a->recipe_path, o->name, why, text);
            return CLI_FAILED;
        }
    }
    /* the model here is not the one they name things of, so they are not checked either */
    if (rq_recipe_has_rules(a->recipe) && c != &cmd_quantize && c != &cmd_calibrate && !a->quiet)
        fprintf(stderr, "requant %s: %s: its rules are for quantize and calibrate and change nothing here\n", c->name,
                a->recipe_path);
    return CLI_OK;
}

/* Would writing `out` destroy `other`? Pipes and devices are nobody's file. */
static bool overwrites(const char *out, const char *other)
{
    struct stat st;
    if (!out || !other || (stat(out, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return false;
    return strcmp(out, other) == 0 || rq_file_same(out, other);
}

/* Nothing we write may take the place of what we read, or of something else we write. */
static int check_outputs(const cli_command *c, const cli_common *a)
{
    for (const cli_opt *o = c->opts; o->kind != CLI_END; o++) {
        const char *out = o->kind == CLI_OUT ? *(const char *const *)((const char *)a + o->to) : NULL;
        for (int i = 0; i < a->n_operands; i++)
            if (overwrites(out, a->operand[i]))
                return cli_usage(c, "--%s is the model itself: %s would be overwritten; name another file", o->name,
                                 out);
        for (const cli_opt *p = c->opts; p->kind != CLI_END; p++)
            if ((p->kind == CLI_IN || (p->kind == CLI_OUT && p < o)) &&
                overwrites(out, *(const char *const *)((const char *)a + p->to)))
                return cli_usage(c, "--%s and --%s are one file: %s would be overwritten; name another", o->name,
                                 p->name, out);
    }
    return CLI_OK;
}

int cli_parse(const cli_command *c, int argc, char **argv, void *args)
{
    cli_common *a = args;
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (!only_operands && argv[i][0] == '-' && argv[i][1]) {
            int rc = parse_option(c, argc, argv, &i, args);
            if (rc)
                return rc;
        } else if (a->n_operands < c->max_operands) {
            a->operand[a->n_operands++] = argv[i];
        } else {
            return cli_usage(c, "one operand too many: '%s'", argv[i]);
        }
    }
    if (a->help)
        return CLI_OK;
    if (a->n_operands < c->min_operands)
        return cli_usage(c, "%s", c->min_operands == 1 ? "a model is missing" : "two models are wanted");
    int rc = a->recipe_path ? apply_recipe(c, a) : CLI_OK;
    return rc ? rc : check_outputs(c, a);
}

void cli_release(const cli_command *c, void *args)
{
    cli_common *a = args;
    for (const cli_opt *o = c->opts; o->kind != CLI_END; o++)
        if (o->kind == CLI_LIST)
            free(((cli_list *)(void *)((char *)args + o->to))->items);
    for (int i = 0; i < a->dims.n; i++)
        free((char *)a->dims.items[i].name);
    free(a->dims.items);
    free(a->given);
    rq_recipe_destroy(a->recipe);
}

/* Text wrapped before column 80, later lines indented. */
static void print_wrapped(const char *text, int column, int indent)
{
    bool space = false; /* owed before the next word */
    while (*text) {
        int n = (int)strcspn(text, " \n");
        if (space && column + 1 + n > 79) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (space) {
            putchar(' ');
            column++;
        }
        printf("%.*s", n, text);
        column += n;
        text += n;
        space = *text == ' ';
        if (*text == '\n') {
            printf("\n%*s", indent, "");
            column = indent;
        }
        text += *text != 0;
    }
    putchar('\n');
}

void cli_print_help(const cli_command *c)
{
    printf("requant %s: %s\n\nusage: requant %s %s\n\n", c->name, c->summary, c->name, c->synopsis);
    print_wrapped(c->about, 0, 0);
    printf("\noptions:\n");
    for (const cli_opt *o = c->opts; o->kind != CLI_END; o++) {
        char head[64];
        int n = o->letter ? snprintf(head, sizeof head, "  -%c, --%s", o->letter, o->name)
                          : snprintf(head, sizeof head, "      --%s", o->name);
        if (o->arg)
            n += snprintf(head + n, sizeof head - (size_t)n, " %s", o->arg);
        printf("%-28s", head);
        if (n > 26) {
            printf("\n%28s", "");
        }
        print_wrapped(o->help, 28, 28);
    }
}
