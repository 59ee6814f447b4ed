/* base/brackets.c — counted on libyaml's events, so that a bracket in quotes is none. Its scanner looks at most 1024 characters ahead: a text of
 * brackets alone is left after the 201st. */
#include "base/brackets.h"

#include <yaml.h>

bool rq_brackets_too_deep(const char *text, size_t n)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return false;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    int depth = 0;
    yaml_event_t event;
    for (bool more = true; more && depth <= RQ_BRACKETS_MOST && yaml_parser_parse(&parser, &event);) {
        if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT)
            depth++;
        else if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
            depth--;
        more = event.type != YAML_STREAM_END_EVENT && event.type != YAML_NO_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return depth > RQ_BRACKETS_MOST;
}
