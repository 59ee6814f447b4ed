/* cli/ends.c — what --inputs, --outputs, --mean and --std say together. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* "0.485,0.456,0.406": how many numbers, or -1. */
static int read_list(const char *text, float *v)
{
    int n = 0;
    for (char *end; n < RQ_ENDS_CHANNELS; text = end + 1) {
        v[n++] = strtof(text, &end);
        if (end == text || !isfinite(v[n - 1]))
            return -1;
        if (!*end)
            return n;
        if (*end != ',')
            return -1;
    }
    return -1;
}

int cli_ends_settle(rq_ends *e, const cli_command *c, const cli_ends *a, int mode, const rq_settings *s,
                    const rq_recipe *recipe)
{
    static const char *const words[] = { "f32", "u8", "s8" };
    const int asked[] = { a->inputs, a->outputs };
    *e = (rq_ends) { .inputs = a->inputs != 0, .outputs = a->outputs != 0, .step = a->pixel };
    for (int i = 0; i < 2; i++)
        if (asked[i] && strcmp(words[asked[i]], rq_dtype_name(s->activations)) != 0)
            return cli_usage(c, "--%s %s does not go with %s activations", i ? "outputs" : "inputs", words[asked[i]],
                             rq_dtype_name(s->activations));
    if ((e->inputs || e->outputs) && mode != RQ_MODE_STATIC)
        return cli_usage(c, "--%s is for --mode static", e->inputs ? "inputs" : "outputs");
    if ((a->mean || a->std || a->pixel) && !e->inputs)
        return cli_usage(c, "--mean, --std and --pixel-scale go with --inputs u8 or s8");
    if (!e->inputs)
        return CLI_OK;
    const rq_preprocess *p = rq_recipe_preprocess(recipe);
    if (!a->mean && !a->std && !a->pixel && p) {
        e->n_channels = p->channels == RQ_IMAGE_GRAY ? 1 : 3;
        e->step = p->scale;
        for (int i = 0; i < e->n_channels; i++) {
            e->mean[i] = p->mean[i];
            e->std[i] = p->std[i] == 0 ? 1 : p->std[i];
        }
        return CLI_OK;
    }
    if (!a->mean && !a->std && !a->pixel)
        return CLI_OK;
    const int means = a->mean ? read_list(a->mean, e->mean) : 0, stds = a->std ? read_list(a->std, e->std) : 0;
    if (means < 0 || stds < 0)
        return cli_usage(c, "--%s wants numbers with commas between, not '%s'", means < 0 ? "mean" : "std",
                         means < 0 ? a->mean : a->std);
    e->n_channels = means > stds ? means : stds;
    e->n_channels = e->n_channels ? e->n_channels : 1;
    if ((means > 1 && stds > 1 && means != stds))
        return cli_usage(c, "--mean has %d numbers, --std %d", means, stds);
    for (int i = means ? means : 0; i < e->n_channels; i++)
        e->mean[i] = means ? e->mean[0] : 0;
    for (int i = stds ? stds : 0; i < e->n_channels; i++)
        e->std[i] = stds ? e->std[0] : 1;
    return CLI_OK;
}
