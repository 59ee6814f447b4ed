/* coreml/compress.c — weights compressed by whatever the config is for. */
#include "coreml/config.h"

/* The algorithm of the first settings that are any. */
static const rq_coreml_op_config *first(const rq_coreml_config *c)
{
    const rq_coreml_rules *rules[] = { &c->types, &c->names };
    if (c->has_global)
        return &c->global;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < rules[k]->n; i++)
            if (!rules[k]->at[i].skip)
                return &rules[k]->at[i].op;
    return NULL;
}

rq_status rq_coreml_compress_weights(rq_coreml *m, const rq_coreml_config *c, bool joint, rq_coreml_report **report,
                                     rq_err *err)
{
    const rq_coreml_op_config *op = first(c);
    if (!op || op->algorithm == RQ_COREML_LINEAR_QUANTIZER)
        return rq_coreml_linear_quantize_weights(m, c, joint, report, err);
    return op->algorithm == RQ_COREML_PALETTIZER ? rq_coreml_palettize_weights(m, c, joint, report, err)
                                                 : rq_coreml_prune_weights(m, c, joint, report, err);
}
