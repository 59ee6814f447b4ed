/* cli/ranges.c — how ranges of activations are chosen, from the options that quantize and calibrate share. */
#include "cli.h"

void cli_ranges_defaults(cli_ranges *r)
{
    r->settings = rq_settings_defaults();
    r->method = (int)r->settings.method;
    r->symmetric_ranges = RQ_AUTO;
}

static const rq_dtype types[] = { RQ_DTYPE_U8, RQ_DTYPE_S8, RQ_DTYPE_U16, RQ_DTYPE_S16 };

void cli_ranges_activations(cli_ranges *r, rq_dtype d)
{
    for (int i = 0; i < (int)(sizeof types / sizeof types[0]); i++)
        if (types[i] == d)
            r->activations = i;
}

rq_settings cli_ranges_settle(const cli_ranges *r, const cli_common *common)
{
    rq_settings s = r->settings;
    s.method = (rq_method)r->method;
    s.activations = types[r->activations];
    s.compat = (rq_compat)r->compat;
    s.symmetric_ranges = (rq_auto)r->symmetric_ranges;
    s.bins = (int)r->bins;
    s.groups = (int)r->groups;
    rq_settings wanted = s;
    if (common->recipe)
        rq_recipe_apply_global(common->recipe, &wanted, common->given);
    if (wanted.compat != RQ_COMPAT_NONE) { /* its defaults, where nobody says otherwise */
        s.method = cli_given(common, "method") ? s.method : RQ_METHOD_MINMAX;
        s.percentile = cli_given(common, "percentile") ? s.percentile : 99.999;
    }
    const bool implied = cli_given(common, "percentile") && !cli_given(common, "method");
    if (common->recipe)
        rq_recipe_apply_global(common->recipe, &s, common->given);
    if (implied)
        s.method = RQ_METHOD_PERCENTILE;
    return s;
}
