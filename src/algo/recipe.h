/* algo/recipe.h — the rules of a recipe one by one, for those who check them before there is a graph. */
#ifndef RQ_ALGO_RECIPE_H
#define RQ_ALGO_RECIPE_H

#include "requant/recipe.h"

int rq_recipe_n_rules(const rq_recipe *r); /* NULL: 0 */
/* What rule i (0 to n_rules - 1) makes of *s. Its line in the file. */
size_t rq_recipe_apply_rule(const rq_recipe *r, int i, rq_settings *s);
/* The file, as it was named to rq_recipe_load. */
const char *rq_recipe_path(const rq_recipe *r);

#endif
