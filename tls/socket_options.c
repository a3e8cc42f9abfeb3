#include "tls/socket_options.h"

#include "envoy/config/core/v3/socket_option.pb-c.h"
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

typedef Envoy__Config__Core__V3__SocketOption Option;
#define STATE(x) ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__SOCKET_STATE__STATE_##x
#define VALUE(x) ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__VALUE_##x

static enum socket_state state_of(const Option *m, struct errors *e)
{
    if (m->state == STATE(PREBIND))
        return SOCKET_PREBIND;
    if (m->state == STATE(BOUND))
        return SOCKET_BOUND;
    if (m->state != STATE(LISTENING))
        errors_add(e, "state", "is not one of the states");
    return SOCKET_LISTENING;
}

static int number(int64_t n, const char *field, struct errors *e)
{
    if (n < INT_MIN || n > INT_MAX)
        errors_add(e, field, "does not fit an int");
    return (int)n;
}

static void compile_one(struct arena *a, const Option *m, struct socket_option *o, struct errors *e)
{
    o->level = number(m->level, "level", e);
    o->name = number(m->name, "name", e);
    o->state = state_of(m, e);
    if (m->value_case == VALUE(INT_VALUE)) {
        o->number = number(m->int_value, "int_value", e);
        return;
    }
    if (m->value_case != VALUE(BUF_VALUE)) {
        errors_add(e, NULL, "int_value or buf_value is required");
        return;
    }
    o->bytes = arena_str(a, str_n((const char *)m->buf_value.data, m->buf_value.len));
}

struct socket_options socket_options_compile(struct arena *a, Option *const *msgs, size_t n,
                                             const char *field, struct errors *e)
{
    struct socket_options out = {.v = arena_zalloc(a, (n + 1) * sizeof(*out.v))};
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        struct socket_option *o = &out.v[out.num];
        compile_one(a, msgs[i], o, e);
        errors_pop(e, mark);
        if (!msgs[i]->type || msgs[i]->type->stream || !msgs[i]->type->datagram)
            out.num++;
        else
            *o = (struct socket_option){0};
    }
    return out;
}

int socket_options_apply(const struct socket_options *o, int fd, enum socket_state state)
{
    for (size_t i = 0; i < o->num; i++) {
        const struct socket_option *s = &o->v[i];
        const void *value = s->bytes.p ? (const void *)s->bytes.p : &s->number;
        size_t len = s->bytes.p ? s->bytes.len : sizeof(s->number);
        if (s->state == state && setsockopt(fd, s->level, s->name, value, (socklen_t)len) != 0)
            return errno;
    }
    return 0;
}

bool socket_options_eq(const struct socket_options *a, const struct socket_options *b)
{
    if (a->num != b->num)
        return false;
    for (size_t i = 0; i < a->num; i++) {
        const struct socket_option *x = &a->v[i], *y = &b->v[i];
        if (x->level != y->level || x->name != y->name || x->state != y->state ||
            x->number != y->number || !x->bytes.p != !y->bytes.p || !str_eq(x->bytes, y->bytes))
            return false;
    }
    return true;
}
