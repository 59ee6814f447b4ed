/* algo/qconfig_node.c — values of a qconfig file, each with the sentence for what is wrong with it. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "algo/qconfig_text.h"
#include "base/brackets.h"
#include "base/number.h"

enum { PATH = 200, MOST_BYTES = 1 << 20 };

rq_status rq_qconfig_open(rq_qconfig_reader *in, const char *text, size_t n, const char *what)
{
    if (n > MOST_BYTES)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s: %zu bytes are too many for %s", in->source, n, what);
    if (rq_brackets_too_deep(text, n))
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s: more than %d brackets within each other", in->source,
                       RQ_BRACKETS_MOST);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", in->source);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    rq_status s = RQ_OK;
    if (!yaml_parser_load(&parser, &in->doc))
        s = parser.error == YAML_MEMORY_ERROR
                ? rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", in->source)
                : rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: not YAML: %s", in->source, parser.problem_mark.line + 1,
                          parser.problem ? parser.problem : "unreadable");
    yaml_parser_delete(&parser);
    return s;
}

static const char *path_of(const rq_qconfig_place *at, char buf[PATH])
{
    const char *keys[16];
    int n = 0;
    size_t used = 0;
    for (; at && n < 16; at = at->above)
        keys[n++] = at->key;
    buf[0] = 0;
    while (n-- > 0 && used < PATH - 1)
        used += (size_t)snprintf(buf + used, PATH - used, "%s%.60s", used ? "." : "", keys[n]);
    return buf;
}

rq_status rq_qconfig_fail(const rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                          const char *sentence)
{
    char path[PATH];
    return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: %s%s%s", in->source, n->start_mark.line + 1, path_of(at, path),
                   at ? ": " : "", sentence);
}

/* Put line and path before the sentence that is there. */
rq_status rq_qconfig_fail_in(const rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, rq_status s)
{
    char path[PATH];
    return rq_fail_in(in->err, s == RQ_NO_MEMORY ? s : RQ_BAD_RECIPE, "%s:%zu: %s", in->source, n->start_mark.line + 1,
                      path_of(at, path));
}

bool rq_qconfig_is_null(const yaml_node_t *n)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL", "None", "none" };
    const char *text = text_of(n);
    for (size_t i = 0; text && i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(text, words[i]))
            return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return false;
}

rq_status rq_qconfig_read_text(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                               const char **out)
{
    *out = text_of(n);
    if (!*out)
        return rq_qconfig_fail(in, n, at, "expected a single value");
    if (strlen(*out) != n->data.scalar.length)
        return rq_qconfig_fail(in, n, at, "a NUL in a value");
    return RQ_OK;
}

rq_status rq_qconfig_read_bool(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, bool *out)
{
    const char *text;
    RQ_TRY(rq_qconfig_read_text(in, n, at, &text));
    *out = !strcmp(text, "true") || !strcmp(text, "True") || !strcmp(text, "yes") || !strcmp(text, "on");
    if (*out || !strcmp(text, "false") || !strcmp(text, "False") || !strcmp(text, "no") || !strcmp(text, "off"))
        return RQ_OK;
    return rq_qconfig_fail(in, n, at, "expected true or false");
}

rq_status rq_qconfig_read_number(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, double lo,
                                 double hi, bool whole, double *out)
{
    const char *text;
    char *end, sentence[120];
    RQ_TRY(rq_qconfig_read_text(in, n, at, &text));
    *out = rq_number_parse(text, &end);
    if (end != text && !*end && *out >= lo && *out <= hi && (!whole || *out == rint(*out)))
        return RQ_OK;
    rq_number_print(sentence, sizeof sentence, "'%.30s', expected %s from %.10g to %.10g", text,
                    whole ? "an integer" : "a number", lo, hi);
    return rq_qconfig_fail(in, n, at, sentence);
}

bool rq_qconfig_is_integer(const char *text, int64_t *out)
{
    char digits[24], *end;
    size_t n = 0;
    const char *p = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*p) || (*p == '0' && p[1]))
        return false;
    for (p = text; *p; p++) {
        if (p > text && *p != '_' && !isdigit((unsigned char)*p))
            return false;
        if (*p != '_' && n == sizeof digits - 1)
            return false;
        if (*p != '_')
            digits[n++] = *p;
    }
    digits[n] = 0;
    errno = 0;
    *out = strtoll(digits, &end, 10);
    return !*end && errno == 0;
}

rq_status rq_qconfig_check_keys(rq_qconfig_reader *in, const yaml_node_t *map, const rq_qconfig_place *at)
{
    const yaml_node_pair_t *first = map->data.mapping.pairs.start, *end = map->data.mapping.pairs.top;
    if (end - first > RQ_QCONFIG_MOST_KEYS)
        return rq_qconfig_fail(in, map, at, "more than 10000 keys");
    for (const yaml_node_pair_t *p = first; p < end; p++) {
        const char *key;
        RQ_TRY(rq_qconfig_read_text(in, node(in, p->key), at, &key));
        for (const yaml_node_pair_t *q = first; q < p; q++)
            if (!strcmp(text_of(node(in, q->key)), key))
                return rq_qconfig_fail(in, node(in, p->key), &(rq_qconfig_place) { at, key }, "stands twice");
    }
    return RQ_OK;
}

rq_status rq_qconfig_unknown(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, const char *word,
                             const char *what, const rq_nearest *near)
{
    char hint[RQ_NEAREST_HINT], sentence[120 + RQ_NEAREST_HINT];
    snprintf(sentence, sizeof sentence, "%s '%.80s'%s", what, word, rq_nearest_hint(near, hint));
    return rq_qconfig_fail(in, n, at, sentence);
}
