#include "base/log.h"
#include "proxy/admin/admin_handler.h"

static void usage(struct admin_response *rs, const char *what)
{
    admin_error(rs, 400,
                "error: %s\n\nusage: /logging?<name>=<level> (one logger)\nusage: "
                "/logging?paths=name1:level1,name2:level2,... (several)\nusage: "
                "/logging?level=<level> (all)\nlevels: trace debug info warning error critical off",
                what);
}

static bool set_all(struct str level, struct admin_response *rs)
{
    enum log_level l;
    if (!log_parse_level(level, &l)) {
        usage(rs, "unknown logger level");
        return false;
    }
    log_set_all(l);
    return true;
}

static bool set_paths(struct str list, struct admin_response *rs)
{
    struct str bad;
    if (log_set_components(list, &bad))
        return true;
    usage(rs, "unknown logger name or level");
    return false;
}

static bool set_one(struct str name, struct str level, struct admin_response *rs)
{
    enum log_component c;
    enum log_level l;
    if (!log_find_component(name, &c)) {
        usage(rs, "unknown logger name");
        return false;
    }
    if (!log_parse_level(level, &l)) {
        usage(rs, "unknown logger level");
        return false;
    }
    log_set_level(c, l);
    return true;
}

static bool change(const struct admin_query *q, struct admin_response *rs)
{
    if (q->num == 0 || (q->num == 1 && q->params[0].value.len == 0))
        return true; /* as Envoy: a name without a value only asks */
    if (q->num > 1) {
        usage(rs, "invalid number of parameters");
        return false;
    }
    const struct admin_param *p = &q->params[0];
    if (str_eq(p->name, STR("level")))
        return set_all(p->value, rs);
    if (str_eq(p->name, STR("paths")))
        return set_paths(p->value, rs);
    return set_one(p->name, p->value, rs);
}

void admin_logging(const struct admin_request *rq, struct admin_response *rs)
{
    (void)!change(&rq->query, rs); /* the levels are shown after an error too */
    buffer_add_str(&rs->body, STR("active loggers:\n"));
    for (unsigned c = 0; c < LOG_NUM_COMPONENTS; c++)
        buffer_printf(&rs->body, "  %s: %s\n", log_component_name(c),
                      log_level_name(log_get_level(c)));
}
