/* algo/linear_quantizer_config_write.c — LinearQuantizerConfig as JSON and as YAML: every field in its canonical spelling, nothing that follows from another,
 * so that what is written reads back as the same. */
#include "algo/linear_quantizer_config.h"
#include "base/buf.h"
#include "base/quote.h"

typedef struct writer {
    rq_buf b;
    bool yaml;
    int depth;
    bool first; /* nothing of the open map was written yet */
} writer;

static void put_key(writer *w, const char *key, bool quoted)
{
    if (w->yaml) {
        if (w->b.size)
            rq_buf_adds(&w->b, "\n");
    } else {
        rq_buf_adds(&w->b, w->first ? "\n" : ",\n");
    }
    for (int i = 0; i < w->depth; i++)
        rq_buf_adds(&w->b, "  ");
    w->first = false;
    if (w->yaml && !quoted)
        rq_buf_adds(&w->b, key);
    else
        rq_quote(&w->b, key);
    rq_buf_adds(&w->b, ":");
}

static void put_word(writer *w, const char *key, const char *word)
{
    put_key(w, key, false);
    rq_buf_addf(&w->b, w->yaml ? " %s" : " \"%s\"", word);
}

static void put_flag(writer *w, const char *key, bool on)
{
    put_key(w, key, false);
    rq_buf_adds(&w->b, on ? " true" : " false");
}

static void open_map(writer *w)
{
    if (!w->yaml)
        rq_buf_adds(&w->b, w->depth ? " {" : "{");
    w->depth++;
    w->first = true;
}

static void close_map(writer *w)
{
    w->depth--;
    w->first = false;
    if (w->yaml)
        return;
    rq_buf_adds(&w->b, "\n");
    for (int i = 0; i < w->depth; i++)
        rq_buf_adds(&w->b, "  ");
    rq_buf_adds(&w->b, "}");
}

static void put_dtype(writer *w, const char *key, rq_dtype dtype, int bits)
{
    put_key(w, key, false);
    if (dtype == RQ_DTYPE_F32)
        rq_buf_adds(&w->b, w->yaml ? " float32" : " \"float32\"");
    else
        rq_buf_addf(&w->b, w->yaml ? " %s%d" : " \"%s%d\"", dtype == RQ_DTYPE_U8 ? "quint" : "qint", bits);
}

static void put_module(writer *w, const rq_module_linear_quantizer_config *m)
{
    open_map(w);
    put_word(w, "algorithm", m->learnable ? "learnable" : "vanilla");
    put_dtype(w, "weight_dtype", m->weight_dtype, m->weight_n_bits);
    put_word(w, "weight_observer", rq_observer_kind_name(m->weight_observer));
    put_flag(w, "weight_per_channel", m->weight_per_channel);
    put_dtype(w, "activation_dtype", m->activation_dtype, 8);
    if (m->activation_dtype != RQ_DTYPE_F32 && m->activation_n_bits != 8) {
        put_key(w, "activation_n_bits", false);
        rq_buf_addf(&w->b, " %d", m->activation_n_bits);
    }
    put_word(w, "activation_observer", rq_observer_kind_name(m->activation_observer));
    put_word(w, "quantization_scheme", rq_qscheme_is_symmetric(m->quantization_scheme) ? "symmetric" : "affine");
    put_key(w, "milestones", false);
    if (m->has_milestones)
        rq_buf_addf(&w->b, " [%lld, %lld, %lld, %lld]", (long long)m->milestones[0], (long long)m->milestones[1],
                    (long long)m->milestones[2], (long long)m->milestones[3]);
    else
        rq_buf_adds(&w->b, " null");
    close_map(w);
}

static void put_rules(writer *w, const char *key, const rq_lq_rules *r)
{
    put_key(w, key, false);
    if (!r->n) {
        rq_buf_adds(&w->b, " {}");
        return;
    }
    open_map(w);
    for (int i = 0; i < r->n; i++) {
        put_key(w, r->at[i].key, true);
        if (r->at[i].skip)
            rq_buf_adds(&w->b, " null");
        else
            put_module(w, &r->at[i].m);
    }
    close_map(w);
}

static void put_strings(writer *w, const char *key, const rq_lq_strings *s)
{
    put_key(w, key, false);
    rq_buf_adds(&w->b, " [");
    for (int i = 0; i < s->n; i++) {
        rq_buf_adds(&w->b, i ? ", " : "");
        rq_quote(&w->b, s->at[i]);
    }
    rq_buf_adds(&w->b, "]");
}

static int64_t write(const rq_linear_quantizer_config *c, bool yaml, char *buf, size_t n)
{
    writer w = { .yaml = yaml };
    rq_module_linear_quantizer_config global;
    if (yaml)
        w.first = true;
    else
        open_map(&w);
    if (rq_linear_quantizer_config_global(c, &global)) {
        put_key(&w, "global_config", false);
        if (yaml)
            w.depth = 0;
        put_module(&w, &global);
    } else {
        put_key(&w, "global_config", false);
        rq_buf_adds(&w.b, " null");
    }
    put_rules(&w, "module_type_configs", &c->types);
    put_rules(&w, "module_name_configs", &c->names);
    put_strings(&w, "non_traceable_module_names", &c->non_traceable);
    put_strings(&w, "preserved_attributes", &c->preserved);
    if (c->skip_by_default)
        put_flag(&w, "skip_by_default", true);
    if (c->compat)
        put_flag(&w, "compat", true);
    if (yaml)
        rq_buf_adds(&w.b, "\n");
    else {
        close_map(&w);
        rq_buf_adds(&w.b, "\n");
    }
    return rq_buf_hand_over(&w.b, buf, n);
}

int64_t rq_linear_quantizer_config_as_dict(const rq_linear_quantizer_config *c, char *buf, size_t n)
{
    return write(c, false, buf, n);
}

int64_t rq_linear_quantizer_config_as_yaml(const rq_linear_quantizer_config *c, char *buf, size_t n)
{
    return write(c, true, buf, n);
}
