/* cli/convert_input.c — see cli_convert.h.
 *
 *   --shape NAME:1x3x224x224            sizes
 *   --shape NAME:1..16x3x224x224        an axis from 1 to 16
 *   --shape NAME:1x3x224x224,1x3x96x96  one of these, the first by default
 *   --image NAME[:SCALE[:BIAS[,BIAS,BIAS]]][:rgb|bgr|gray]
 *
 * Names may hold colons: the text behind the last one is the shape; of an image, what can be a number or a color, unless the
 * model has an input of the longer name. */
#include "cli_convert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_inputs_release(cli_inputs *in)
{
    for (int i = 0; i < in->n; i++) {
        free((char *)in->at[i].name);
        free((rq_coreml_axis *)in->at[i].axis);
        free((int64_t *)in->at[i].listed);
        free((float *)in->at[i].bias);
    }
    free(in->at);
    free(in->labels);
    free(in->label);
    *in = (cli_inputs) { 0 };
}

/* The entry of that input, new if there is none; NULL: memory is out. */
static rq_coreml_input *entry_of(cli_inputs *in, const char *name, size_t n)
{
    for (int i = 0; i < in->n; i++)
        if (strlen(in->at[i].name) == n && !memcmp(in->at[i].name, name, n))
            return &in->at[i];
    rq_coreml_input *more = realloc(in->at, sizeof *more * ((size_t)in->n + 1));
    char *own = strndup(name, n);
    if (more)
        in->at = more;
    if (!more || !own) {
        free(own);
        return NULL;
    }
    more[in->n] = (rq_coreml_input) { .name = own };
    return &more[in->n++];
}

/* ---- shapes ---- */

static bool parse_size(const char **text, int64_t *out)
{
    char *end;
    errno = 0;
    const long long v = strtoll(*text, &end, 10);
    if (end == *text || errno || v < 1 || v > INT32_MAX || **text < '0' || **text > '9')
        return false;
    *text = end;
    *out = v;
    return true;
}

/* "1..16x3x224x224" up to a comma or the end: how many axes, 0 when it is none. */
static int parse_axes(const char **text, rq_coreml_axis axis[RQ_MAX_RANK])
{
    for (int n = 0; n < RQ_MAX_RANK;) {
        if (!parse_size(text, &axis[n].lo))
            return 0;
        axis[n].hi = axis[n].lo;
        if (!strncmp(*text, "..", 2)) {
            *text += 2;
            if (!parse_size(text, &axis[n].hi) || axis[n].hi < axis[n].lo)
                return 0;
        }
        n++;
        if (**text != 'x')
            return **text == ',' || !**text ? n : 0;
        (*text)++;
    }
    return 0;
}

static int bad_shape(const cli_command *c, const char *text)
{
    return cli_usage(
        c, "--shape wants NAME:1x3x224x224, with axes like 1..16, or several shapes after commas, not '%s'", text);
}

static int no_memory(const cli_command *c)
{
    return cli_fail(c->name, &(rq_err) { .code = RQ_NO_MEMORY });
}

static int parse_shape(cli_inputs *in, const cli_command *c, const char *text)
{
    const char *at = strrchr(text, ':');
    rq_coreml_axis axis[RQ_MAX_RANK];
    if (!at || at == text)
        return bad_shape(c, text);
    rq_coreml_input *to = entry_of(in, text, (size_t)(at - text));
    if (!to)
        return no_memory(c);
    if (to->axis || to->listed)
        return cli_usage(c, "--shape names '%s' twice; several shapes of one input stand behind one colon, with commas",
                         to->name);
    int64_t *listed = NULL;
    int n_listed = 0, rank = 0;
    for (at++;; at++) {
        const int n = parse_axes(&at, axis);
        if (!n || (rank && n != rank)) {
            free(listed);
            return bad_shape(c, text);
        }
        rank = n;
        if (!*at && !n_listed)
            break; /* one shape */
        int64_t *more = realloc(listed, sizeof *more * (size_t)rank * ((size_t)n_listed + 1));
        if (!more) {
            free(listed);
            return no_memory(c);
        }
        listed = more;
        for (int k = 0; k < rank; k++) {
            if (axis[k].lo != axis[k].hi) {
                free(listed);
                return cli_usage(c, "--shape: '%s' has both a list and a range; Core ML takes one of them", text);
            }
            listed[n_listed * rank + k] = axis[k].lo;
        }
        n_listed++;
        if (!*at)
            break;
    }
    to->rank = rank;
    to->listed = listed;
    to->n_listed = n_listed;
    if (listed)
        return CLI_OK;
    rq_coreml_axis *own = malloc(sizeof axis);
    if (!own)
        return no_memory(c);
    memcpy(own, axis, sizeof axis);
    to->axis = own;
    return CLI_OK;
}

/* ---- images ---- */

static const struct {
    const char *word;
    int color;
} colors[] = { { "rgb", RQ_COREML_RGB }, { "bgr", RQ_COREML_BGR }, { "gray", RQ_COREML_GRAYSCALE } };

/* Up to three numbers with commas between them; 0: it is none. */
static int parse_numbers(const char *text, size_t n, float out[3])
{
    const char *end = text + n;
    int k = 0;
    while (text < end && k < 3) {
        char *stop;
        out[k++] = strtof(text, &stop);
        if (stop == text || stop > end || (stop < end && *stop != ','))
            return 0;
        text = stop + (stop < end);
    }
    return text == end && end[-1] != ',' ? k : 0;
}

static bool is_input(const rq_graph *g, const char *name, size_t n)
{
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const char *own = rq_graph_input(g, i).name;
        if (strlen(own) == n && !memcmp(own, name, n))
            return true;
    }
    return false;
}

static int parse_image(cli_inputs *in, const rq_graph *g, const cli_command *c, const char *text)
{
    size_t n = strlen(text);
    float numbers[2][3];
    int counts[2] = { 0 }, n_numbers = 0, color = 0;
    while (!is_input(g, text, n)) { /* a field more from the end */
        size_t colon = n;
        while (colon > 0 && text[colon - 1] != ':')
            colon--;
        if (colon < 2)
            break;
        const char *field = text + colon;
        const size_t length = n - colon;
        int word = 0;
        for (size_t k = 0; k < sizeof colors / sizeof colors[0]; k++)
            if (strlen(colors[k].word) == length && !memcmp(colors[k].word, field, length))
                word = colors[k].color;
        if (word && !color && !n_numbers) {
            color = word;
        } else if (n_numbers < 2 && (counts[n_numbers] = parse_numbers(field, length, numbers[n_numbers]))) {
            n_numbers++;
        } else {
            return cli_usage(c, "--image wants NAME[:SCALE[:BIAS[,BIAS,BIAS]]][:rgb|bgr|gray], not '%s'", text);
        }
        n = colon - 1;
    }
    rq_coreml_input *to = entry_of(in, text, n);
    if (!to)
        return no_memory(c);
    const int scale = n_numbers - 1; /* they were read from the end */
    if (n_numbers && counts[scale] != 1)
        return cli_usage(c, "--image: '%s' has %d scales, expected one", text, counts[scale]);
    const int64_t channels = color == RQ_COREML_GRAYSCALE ? 1 : 3;
    to->color = color ? color : RQ_COREML_RGB;
    to->scale = n_numbers ? numbers[scale][0] : 1;
    if (n_numbers < 2)
        return CLI_OK;
    if (counts[0] != 1 && counts[0] != channels)
        return cli_usage(c, "--image: '%s' has %d biases, expected 1 or %d", text, counts[0], (int)channels);
    float *bias = malloc(3 * sizeof *bias);
    if (!bias)
        return no_memory(c);
    for (int k = 0; k < 3; k++)
        bias[k] = numbers[0][counts[0] == 1 ? 0 : k];
    free((float *)to->bias);
    to->bias = bias;
    return CLI_OK;
}

int cli_inputs_parse(cli_inputs *in, const rq_graph *g, const cli_command *c, const cli_list *shapes,
                     const cli_list *images)
{
    int rc = CLI_OK;
    for (int i = 0; i < shapes->n && !rc; i++)
        rc = parse_shape(in, c, shapes->items[i]);
    for (int i = 0; i < images->n && !rc; i++)
        rc = parse_image(in, g, c, images->items[i]);
    return rc;
}

/* ---- labels ---- */

rq_status cli_inputs_labels(cli_inputs *in, const char *path, rq_err *err)
{
    FILE *f = fopen(path, "re");
    size_t n = 0, cap = 0;
    if (!f)
        return rq_fail(err, RQ_IO, "%s: cannot be read: %s", path, strerror(errno));
    for (;;) {
        if (n + 4096 > cap) {
            char *more = realloc(in->labels, cap = cap * 2 + 8192);
            if (!more) {
                fclose(f);
                return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory", path);
            }
            in->labels = more;
        }
        const size_t got = fread(in->labels + n, 1, 4095, f);
        n += got;
        if (!got)
            break;
    }
    in->labels[n] = 0;
    const bool bad = ferror(f) || memchr(in->labels, 0, n);
    fclose(f);
    if (bad)
        return rq_fail(err, RQ_IO, "%s: cannot be read, or is no text", path);
    for (char *line = in->labels; *line;) {
        const char **more = realloc(in->label, sizeof *more * ((size_t)in->n_labels + 1));
        if (!more)
            return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory", path);
        in->label = more;
        char *end = line + strcspn(line, "\n"), *next = end + (*end != 0);
        while (end > line && (end[-1] == '\r'))
            end--;
        *end = 0;
        more[in->n_labels++] = line;
        line = next;
    }
    return in->n_labels ? RQ_OK : rq_fail(err, RQ_BAD_DATA, "%s: holds no names, expected one a line", path);
}
