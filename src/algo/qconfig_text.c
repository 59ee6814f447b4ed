/* algo/qconfig_text.c — qconfig mappings as YAML (JSON is a part of it): reading. A level is a map or a list. Every error says line and path.
 * One qconfig: qconfig_part.c; writing: qconfig_write.c. */
#include "algo/qconfig_text.h"

#include "base/file.h"

/* ---- mappings ---- */

static rq_status set_entry(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                           rq_qconfig_level level, const char *key, const yaml_node_t *value)
{
    rq_qconfig q;
    const rq_qconfig *given;
    RQ_TRY(rq_qconfig_read(in, value, at, &q, &given));
    const rq_status s =
        level == RQ_QCONFIG_GLOBAL        ? rq_qconfig_mapping_set_global(in->m, given, in->err)
        : level == RQ_QCONFIG_OBJECT_TYPE ? rq_qconfig_mapping_set_object_type(in->m, key, given, in->err)
        : level == RQ_QCONFIG_NAME_REGEX  ? rq_qconfig_mapping_set_module_name_regex(in->m, key, given, in->err)
                                          : rq_qconfig_mapping_set_module_name(in->m, key, given, in->err);
    return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, n, at, s);
}

/* [name, type, index, qconfig], or a key and a qconfig. */
static rq_status read_item(rq_qconfig_reader *in, const yaml_node_t *list, const rq_qconfig_place *at,
                           rq_qconfig_level level)
{
    const int want = level == RQ_QCONFIG_NAME_TYPE_ORDER ? 4 : 2;
    const yaml_node_item_t *i = list->type == YAML_SEQUENCE_NODE ? list->data.sequence.items.start : NULL;
    if (!i || list->data.sequence.items.top - i != want)
        return rq_qconfig_fail(in, list, at,
                               want == 4 ? "expected [name, type, index, qconfig]" : "expected [key, qconfig]");
    const char *key, *type;
    RQ_TRY(rq_qconfig_read_text(in, node(in, i[0]), at, &key));
    const rq_qconfig_place here = { at, key };
    if (want == 2)
        return set_entry(in, list, &here, level, key, node(in, i[1]));
    double index;
    rq_qconfig q;
    const rq_qconfig *given;
    RQ_TRY(rq_qconfig_read_text(in, node(in, i[1]), &here, &type));
    RQ_TRY(rq_qconfig_read_number(in, node(in, i[2]), &here, 0, 1e6, true, &index));
    RQ_TRY(rq_qconfig_read(in, node(in, i[3]), &here, &q, &given));
    const rq_status s =
        rq_qconfig_mapping_set_module_name_object_type_order(in->m, key, type, (int)index, given, in->err);
    return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, list, &here, s);
}

static rq_status read_level(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                            rq_qconfig_level level)
{
    if (level == RQ_QCONFIG_GLOBAL)
        return set_entry(in, n, at, level, NULL, n);
    if (n->type == YAML_SEQUENCE_NODE) {
        if (n->data.sequence.items.top - n->data.sequence.items.start > RQ_QCONFIG_MOST_KEYS)
            return rq_qconfig_fail(in, n, at, "more than 10000 entries");
        for (const yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++)
            RQ_TRY(read_item(in, node(in, *i), at, level));
        return RQ_OK;
    }
    if (!is_map(n) || level == RQ_QCONFIG_NAME_TYPE_ORDER)
        return rq_qconfig_fail(in, n, at,
                               level == RQ_QCONFIG_NAME_TYPE_ORDER ? "expected a list of [name, type, index, qconfig]"
                                                                   : "expected keys and qconfigs");
    RQ_TRY(rq_qconfig_check_keys(in, n, at));
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        const char *key = text_of(node(in, p->key));
        RQ_TRY(set_entry(in, node(in, p->key), &(rq_qconfig_place) { at, key }, level, key, node(in, p->value)));
    }
    return RQ_OK;
}

/* `default: fbgemm`: what the mapping starts from. */
static rq_status read_default(rq_qconfig_reader *in, const yaml_node_t *map)
{
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const rq_qconfig_place at = { NULL, "default" };
        const char *name;
        if (strcmp(text_of(node(in, p->key)), "default") != 0)
            continue;
        RQ_TRY(rq_qconfig_read_text(in, node(in, p->value), &at, &name));
        const rq_status s = rq_qconfig_mapping_default_named(&in->m, name, in->err);
        return s == RQ_OK ? RQ_OK : rq_qconfig_fail_in(in, node(in, p->value), &at, s);
    }
    return rq_qconfig_mapping_create(&in->m, in->err);
}

static rq_status read_top(rq_qconfig_reader *in, const yaml_node_t *map)
{
    if (!is_map(map))
        return rq_qconfig_fail(in, map, NULL, "a qconfig mapping is keys and values");
    RQ_TRY(rq_qconfig_check_keys(in, map, NULL));
    RQ_TRY(read_default(in, map));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const char *key = text_of(node(in, p->key));
        const rq_qconfig_place at = { NULL, key };
        if (!strcmp(key, "default"))
            continue;
        if (!strcmp(key, "compat")) {
            bool compat;
            RQ_TRY(rq_qconfig_read_bool(in, node(in, p->value), &at, &compat));
            rq_qconfig_mapping_set_compat(in->m, compat);
            continue;
        }
        rq_nearest near = rq_nearest_to(key);
        int level = key[0] ? 0 : RQ_QCONFIG_GLOBAL;
        for (; key[0] && level < RQ_N_QCONFIG_LEVELS; level++) {
            if (!strcmp(key, rq_qconfig_level_name((rq_qconfig_level)level)))
                break;
            rq_nearest_try(&near, rq_qconfig_level_name((rq_qconfig_level)level));
        }
        rq_nearest_try(&near, "default");
        rq_nearest_try(&near, "compat");
        if (level == RQ_N_QCONFIG_LEVELS)
            return rq_qconfig_unknown(in, node(in, p->key), NULL, key, "unknown key", &near);
        RQ_TRY(read_level(in, node(in, p->value), &at, (rq_qconfig_level)level));
    }
    return RQ_OK;
}

static rq_status parse(rq_qconfig_mapping **out, const char *text, size_t n, const char *source, const rq_own *own,
                       rq_err *err)
{
    rq_qconfig_reader in = { .source = source, .own = own, .err = err };
    RQ_TRY(rq_qconfig_open(&in, text, n, "a qconfig mapping"));
    const yaml_node_t *root = yaml_document_get_root_node(&in.doc);
    const rq_status s = root ? read_top(&in, root) : rq_qconfig_mapping_create(&in.m, err);
    yaml_document_delete(&in.doc);
    if (s != RQ_OK) {
        rq_qconfig_mapping_destroy(in.m);
        return s;
    }
    *out = in.m;
    return RQ_OK;
}

rq_status rq_qconfig_mapping_parse(rq_qconfig_mapping **out, const char *text, const char *source, const rq_own *own,
                                   rq_err *err)
{
    return parse(out, text, strlen(text), source ? source : "qconfig", own, err);
}

rq_status rq_qconfig_mapping_load(rq_qconfig_mapping **out, const char *path, const rq_own *own, rq_err *err)
{
    rq_map file;
    RQ_TRY(rq_file_map(&file, path, err));
    const rq_status s = parse(out, (const char *)file.data, file.size, path, own, err);
    rq_file_unmap(&file);
    return s;
}
