/* ops/recurrent_activations.c — the activations of recurrent cells: what a node says of them, and running one. */
#include <strings.h>

#include "ops/recurrent.h"

static const struct activation_row {
    rq_word name;
    rq_map_id id;
    bool has_alpha, has_beta, scaled;
    float alpha, beta;
} rows[] = {
    { RQ_WORD_Relu, RQ_MAP_RELU, false, false, false, 0, 0 },
    { RQ_WORD_Tanh, RQ_MAP_TANH, false, false, false, 0, 0 },
    { RQ_WORD_Sigmoid, RQ_MAP_SIGMOID, false, false, false, 0, 0 },
    { RQ_WORD_Affine, RQ_MAP_LINEAR, true, true, false, 1, 0 },
    { RQ_WORD_LeakyRelu, RQ_MAP_LEAKY_RELU, true, false, false, 0.01f, 0 },
    { RQ_WORD_ThresholdedRelu, RQ_MAP_THRESHOLDED_RELU, true, false, false, 1, 0 },
    { RQ_WORD_ScaledTanh, RQ_MAP_TANH, true, true, true, 1, 1 },
    { RQ_WORD_HardSigmoid, RQ_MAP_HARD_SIGMOID, true, true, false, 0.2f, 0.5f },
    { RQ_WORD_Elu, RQ_MAP_ELU, true, false, false, 1, 0 },
    { RQ_WORD_Softsign, RQ_MAP_SOFTSIGN, false, false, false, 0, 0 },
    { RQ_WORD_Softplus, RQ_MAP_SOFTPLUS, false, false, false, 0, 0 },
};

/* word is what text is, or none: it may be written in any case. */
static const struct activation_row *find(rq_word word, const char *text)
{
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
        if (word ? rows[k].name == word : !strcasecmp(rq_word_text(rows[k].name), text))
            return &rows[k];
    return NULL;
}

rq_status rq_recurrent_activations(rq_recurrent_cell cell, int dirs, const rq_recurrent_names *said,
                                   rq_recurrent_activation *out, const char **bad)
{
    static const rq_word defaults[][3] = { [RQ_RECURRENT_RNN] = { RQ_WORD_Tanh },
                                           [RQ_RECURRENT_GRU] = { RQ_WORD_Sigmoid, RQ_WORD_Tanh },
                                           [RQ_RECURRENT_LSTM] = { RQ_WORD_Sigmoid, RQ_WORD_Tanh, RQ_WORD_Tanh } };
    const int count = rq_recurrent_functions(cell), n_all = count * dirs;
    int alpha_at = 0, beta_at = 0;
    *bad = NULL;
    if (said->name && said->n != n_all)
        return RQ_BAD_GRAPH;
    for (int i = 0; i < n_all; i++) {
        const rq_word word = said->name ? said->name[i].word : defaults[cell][i % count];
        const char *text = said->name ? said->name[i].p : rq_word_text(word);
        const struct activation_row *row = find(word, text);
        *bad = text;
        if (!row)
            return RQ_BAD_GRAPH;
        out[i] = (rq_recurrent_activation) { row->name, row->id, row->alpha, row->beta, row->scaled };
        if (row->has_alpha && alpha_at < said->n_alpha)
            out[i].alpha = said->alpha[alpha_at++];
        if (row->has_beta && beta_at < said->n_beta)
            out[i].beta = said->beta[beta_at++];
    }
    return RQ_OK;
}

void rq_recurrent_apply(const rq_kernels *k, const rq_recurrent_activation *f, float *y, const float *x, int64_t n)
{
    if (!f->scaled) {
        k->map[f->id](y, x, (size_t)n, f->alpha, f->beta);
        return;
    }
    k->map[RQ_MAP_LINEAR](y, x, (size_t)n, f->beta, 0);
    k->map[f->id](y, y, (size_t)n, 0, 0);
    k->map[RQ_MAP_LINEAR](y, y, (size_t)n, f->alpha, 0);
}
