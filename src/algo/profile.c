/* algo/profile.c — the runtimes a file can be made for, a row each (docs/onnx-facts.md 5.1 to 5.5): the settings that a
 * runtime wants, and what it cannot take. */
#include "requant/profile.h"

#include <string.h>

#include "algo/recipe.h"

enum { U8 = 1, S8 = 2, U16 = 4, S16 = 8, S4 = 16 }; /* sets of types */

static const struct profile {
    const char *name;
    /* what is chosen unless told otherwise */
    rq_dtype activations;
    bool symmetric, float_bias;
    double min_range;
    rq_places places;
    /* what it takes */
    unsigned takes_activations, takes_weights;
    bool takes_affine_weights, takes_qoperator;
    const char *why_activations, *why_weights, *why_affine, *why_qoperator;
} profiles[RQ_N_PROFILES] = {
    [RQ_PROFILE_ORT_CPU_X64] = {
        .name = "ort-cpu-x64", .activations = RQ_DTYPE_U8, .takes_activations = U8, .takes_weights = S8 | U8,
        .takes_affine_weights = true, .takes_qoperator = true,
        .why_activations = "s8 ones with several readers and 16-bit ones run in float (5.1 rules 3 and 10)",
        .why_weights = "other ones run in float (5.1 rule 3)",
    },
    [RQ_PROFILE_ORT_CPU_ARM64] = {
        .name = "ort-cpu-arm64", .activations = RQ_DTYPE_S8, .takes_activations = S8 | U8, .takes_weights = S8 | U8,
        .takes_affine_weights = true, .takes_qoperator = true,
        .why_activations = "16-bit ones run in float (5.1 rule 3)",
        .why_weights = "other ones run in float (5.1 rule 3)",
    },
    [RQ_PROFILE_TENSORRT] = {
        .name = "tensorrt", .activations = RQ_DTYPE_S8, .symmetric = true, .float_bias = true,
        .places = RQ_PLACES_INPUTS, .takes_activations = S8, .takes_weights = S8,
        .why_activations = "it refuses others (5.2 rule 1)", .why_weights = "it refuses others (5.2 rule 1)",
        .why_affine = "it refuses zero points (5.2 rule 1)", .why_qoperator = "it reads Q/DQ pairs only (5.2 rule 1)",
    },
    [RQ_PROFILE_OPENVINO] = {
        .name = "openvino", .activations = RQ_DTYPE_U8, .takes_activations = U8 | S8, .takes_weights = S8,
        .why_activations = "others run in float (5.4 rule 1)",
        .why_weights = "a Conv with others runs in float (5.4 rule 1)",
        .why_affine = "a Conv whose weights have a zero point runs in float (5.4 rule 1)",
        .why_qoperator = "it reads Q/DQ pairs, but few QLinear operators (5.4 rule 3)",
    },
    [RQ_PROFILE_QNN] = {
        .name = "qnn", .activations = RQ_DTYPE_U8, .min_range = 1e-4, .places = RQ_PLACES_EVERYTHING,
        .takes_activations = U8 | U16, .takes_weights = S8 | U8, .takes_affine_weights = true,
        .why_activations = "it takes unsigned ones (5.5 rule 2)", .why_weights = "it takes 8 bits (5.5 rule 2)",
        .why_qoperator = "it reads Q/DQ pairs only (5.5 rule 1)",
    },
};

const char *rq_profile_name(rq_profile p)
{
    return profiles[p].name;
}

bool rq_profile_find(const char *name, rq_profile *out)
{
    for (int i = 0; i < RQ_N_PROFILES; i++)
        if (!strcmp(name, profiles[i].name)) {
            *out = (rq_profile)i;
            return true;
        }
    return false;
}

rq_settings rq_profile_settings(rq_profile p)
{
    const struct profile *row = &profiles[p];
    rq_settings s = rq_settings_defaults();
    s.activations = row->activations;
    s.symmetric_activations = row->symmetric;
    s.float_bias = row->float_bias;
    s.min_range = row->min_range;
    s.places = row->places;
    return s;
}

static bool takes(unsigned set, rq_dtype d)
{
    const unsigned one = d == RQ_DTYPE_U8    ? U8
                         : d == RQ_DTYPE_S8  ? S8
                         : d == RQ_DTYPE_U16 ? U16
                         : d == RQ_DTYPE_S16 ? S16
                         : d == RQ_DTYPE_S4  ? S4
                                             : 0;
    return (set & one) != 0;
}

rq_status rq_profile_check(rq_profile p, const rq_settings *s, const rq_save_cfg *form, rq_err *err)
{
    const struct profile *row = &profiles[p];
    if (!takes(row->takes_activations, s->activations))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with %s activations: %s", row->name,
                       rq_dtype_name(s->activations), row->why_activations);
    if (!takes(row->takes_weights, s->weights))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with %s weights: %s", row->name,
                       rq_dtype_name(s->weights), row->why_weights);
    if (!row->takes_affine_weights && !s->symmetric_weights)
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with affine weights: %s", row->name, row->why_affine);
    if (!row->takes_qoperator && form->spelling == RQ_SPELLING_QOPERATOR)
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with QLinear operators: %s", row->name,
                       row->why_qoperator);
    if (row->symmetric && !s->symmetric_activations)
        return rq_fail(err, RQ_BAD_ARG, "profile %s needs symmetric activations: it refuses zero points (5.2 rule 1)",
                       row->name);
    if (row->symmetric && s->pinned && s->zero_point)
        return rq_fail(err, RQ_BAD_ARG,
                       "profile %s does not go with zero point %d: it refuses zero points (5.2 rule 1)", row->name,
                       (int)s->zero_point);
    if (row->float_bias && !s->float_bias)
        return rq_fail(err, RQ_BAD_ARG, "profile %s needs biases in float (5.2 rule 4)", row->name);
    if (row->places != RQ_PLACES_REACH && s->compat)
        return rq_fail(err, RQ_BAD_ARG, "profile %s places its own codes; compat: onnxruntime says where others go",
                       row->name);
    return RQ_OK;
}

/* ---- modes without calibration ---- */

static bool is_ort(rq_profile p)
{
    return p == RQ_PROFILE_ORT_CPU_X64 || p == RQ_PROFILE_ORT_CPU_ARM64;
}

static rq_status check_weights_only(rq_profile p, const rq_ptq_cfg *cfg, rq_err *err)
{
    const struct profile *row = &profiles[p];
    const rq_settings *s = &cfg->settings;
    const int bits = rq_dtype_bits(s->weights);
    if (cfg->weight_form == RQ_WEIGHT_FORM_MATMULNBITS && !is_ort(p))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with MatMulNBits, an operator of ONNX Runtime",
                       row->name);
    if (bits == 2 && !is_ort(p))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with weights of 2 bits: opset 25 has them first",
                       row->name);
    if (bits == 8 ? p == RQ_PROFILE_TENSORRT && !takes(row->takes_weights, s->weights)
                  : p == RQ_PROFILE_QNN || (p == RQ_PROFILE_TENSORRT && s->weights != RQ_DTYPE_S4))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with %s weights: %s", row->name,
                       rq_dtype_name(s->weights), row->why_weights);
    if (p == RQ_PROFILE_TENSORRT && (!s->symmetric_weights || s->weight_method == RQ_WEIGHTS_ORT))
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with zero points or negative scales", row->name);
    return RQ_OK;
}

static rq_status check_mode(rq_profile p, const rq_ptq_cfg *cfg, const rq_save_cfg *form, rq_err *err)
{
    const struct profile *row = &profiles[p];
    if (cfg->mode == RQ_MODE_STATIC)
        return rq_profile_check(p, &cfg->settings, form, err);
    if (!row->takes_qoperator && form->spelling == RQ_SPELLING_QOPERATOR)
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with QLinear operators: %s", row->name,
                       row->why_qoperator);
    if (cfg->mode == RQ_MODE_WEIGHT_ONLY)
        return check_weights_only(p, cfg, err);
    if (p == RQ_PROFILE_TENSORRT || p == RQ_PROFILE_QNN)
        return rq_fail(err, RQ_BAD_ARG, "profile %s does not go with the mode dynamic: it wants ranges in the file",
                       row->name);
    return RQ_OK;
}

rq_status rq_profile_check_cfg(rq_profile p, const rq_ptq_cfg *cfg, const rq_save_cfg *form, rq_err *err)
{
    RQ_TRY(check_mode(p, cfg, form, err));
    for (int i = 0; i < rq_recipe_n_rules(cfg->recipe);
         i++) { /* keys do not depend on each other here: each alone will do */
        rq_ptq_cfg one = *cfg;
        rq_err why = { 0 };
        const size_t line = rq_recipe_apply_rule(cfg->recipe, i, &one.settings);
        const rq_status s = one.settings.keep_float ? RQ_OK : check_mode(p, &one, form, &why);
        if (s)
            return rq_fail(err, s, "%s:%zu: %s", rq_recipe_path(cfg->recipe), line, why.text);
    }
    return RQ_OK;
}
