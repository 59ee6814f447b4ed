/* algo/recipe_preprocess.h — the part of a recipe that says how pictures become numbers. */
#ifndef RQ_ALGO_RECIPE_PREPROCESS_H
#define RQ_ALGO_RECIPE_PREPROCESS_H

#include <yaml.h>

#include "requant/image.h"

/* Read the value of `preprocess:`; an empty one is all defaults. RQ_BAD_RECIPE: the sentence has file, line and key. */
rq_status rq_recipe_read_preprocess(rq_preprocess *out, yaml_document_t *doc, const yaml_node_t *map, const char *path,
                                    rq_err *err);

#endif
