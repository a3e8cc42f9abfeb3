#include "test/support/fake_xds.h"

#include "api-protos/mapping.h"
#include "api-protos/wire.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct xds_call {
    struct fake_xds *f;
    const struct xds_call_events *ev;
    void *arg;
    bool receiving;
    struct task sent;
};

static struct fake_xds *the_fake; /* for the transport, which is not told */

static void turn(struct fake_xds *f)
{
    for (int i = 0; i < 30; i++)
        loop_run_once(f->loop, false);
}

/* --- the transport ------------------------------------------------------------------------------
 */

static void *fake_start(struct loop *main, size_t max_message)
{
    return the_fake;
}

static void fake_stop(void *transport)
{
}

static void on_sent(void *arg)
{
    struct xds_call *c = arg;
    c->ev->on_sent(c->arg);
}

static struct xds_call *fake_open(void *transport, int fd, const struct xds_call_options *opts,
                                  const struct xds_call_events *ev, void *arg)
{
    struct fake_xds *f = transport;
    struct xds_call *c = NEW(struct xds_call);
    close(fd);
    c->f = f;
    c->ev = ev;
    c->arg = arg;
    task_init(&c->sent, on_sent, c);
    f->call = c;
    f->num_calls++;
    return c;
}

static struct str error_text(struct str status)
{
    struct wire_field fld;
    struct wire w;
    const char *why;
    struct str text = STR_NULL;
    wire_init(&w, status);
    while (wire_next(&w, &fld, &why) == WIRE_FIELD) {
        if (fld.number == 2)
            text = fld.bytes;
    }
    return text;
}

/* A DiscoveryRequest as a line. */
static char *line_of(struct fake_xds *f, struct str bytes)
{
    struct str version = STR_NULL, url = STR_NULL, nonce = STR_NULL, names = STR_NULL;
    struct str error = STR_NULL;
    struct wire_field fld;
    struct wire w;
    const char *why;
    size_t dot;

    wire_init(&w, bytes);
    while (wire_next(&w, &fld, &why) == WIRE_FIELD) {
        if (fld.number == 1)
            version = fld.bytes;
        else if (fld.number == 3)
            names = arena_printf(&f->arena, "%.*s%s%.*s", STR_ARG(names), names.len ? "," : "",
                                 STR_ARG(fld.bytes));
        else if (fld.number == 4)
            url = fld.bytes;
        else if (fld.number == 5)
            nonce = fld.bytes;
        else if (fld.number == 6)
            error = arena_printf(&f->arena, " err=%.*s", STR_ARG(error_text(fld.bytes)));
    }
    for (dot = url.len; dot && url.p[dot - 1] != '.';)
        dot--;
    return (char *)(uintptr_t)arena_printf(&f->arena, "%.*s v=%.*s n=%.*s names=%.*s%.*s",
                                           (int)(url.len - dot), url.p + dot, STR_ARG(version),
                                           STR_ARG(nonce), STR_ARG(names), STR_ARG(error))
        .p;
}

static void fake_send(struct xds_call *c, struct str bytes)
{
    ck_assert_uint_lt(c->f->num_lines, ARRAY_LEN(c->f->lines));
    c->f->lines[c->f->num_lines++] = line_of(c->f, bytes);
    loop_post(c->f->loop, &c->sent);
}

static void fake_receive(struct xds_call *c)
{
    c->receiving = true;
}

static void fake_close(struct xds_call *c)
{
    if (c->f->call == c)
        c->f->call = NULL;
    task_cancel(&c->sent);
    mem_free(c);
}

static const struct xds_transport_ops fake_transport = {
    .start = fake_start,
    .stop = fake_stop,
    .open = fake_open,
    .send = fake_send,
    .receive = fake_receive,
    .close = fake_close,
};

static int fake_dial(void *arg, struct str cluster, char *why, size_t why_len)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* --- what tests call
 * ------------------------------------------------------------------------------ */

void fake_xds_start(struct fake_xds *f, struct loop *loop)
{
    struct xds_options opts = {.transport = &fake_transport};
    struct xds_server ads = {.cluster = STR("xds"), .node_on_first_only = true};

    *f = (struct fake_xds){.loop = loop};
    arena_init(&f->arena, 0);
    the_fake = f;
    f->x = xds_new(loop, &opts);
    xds_set_dial(f->x, fake_dial, f);
    xds_set_ads(f->x, &ads);
}

void fake_xds_stop(struct fake_xds *f)
{
    xds_free(&f->x);
    arena_cleanup(&f->arena);
}

void fake_xds_expect(struct fake_xds *f, const char *line)
{
    turn(f);
    if (!line) {
        ck_assert_msg(f->next_line == f->num_lines, "not expected: %s", f->lines[f->next_line]);
        return;
    }
    ck_assert_msg(f->next_line < f->num_lines, "not sent: %s", line);
    ck_assert_str_eq(f->lines[f->next_line++], line);
}

struct str json_to_pb(const char *type, const char *json, struct arena *a)
{
    const ProtobufCMessageDescriptor *d = pb_find(str_of(type));
    struct json_error err = {0};
    struct str out = STR_NULL;
    const struct json *tree;
    struct errors e;

    ck_assert_msg(d != NULL, "%s", type);
    tree = json_parse(str_of(json), JSON_TRAILING_COMMAS, a, &err);
    ck_assert_msg(tree != NULL, "line %u: %s in %s", err.line, err.text, json);
    errors_init(&e);
    if (!pb_json_to_wire(d, tree, a, &e, &(struct pb_opts){.reject_unknown = true}, &out))
        ck_abort_msg("%.*s", STR_ARG(errors_text(&e, a)));
    errors_cleanup(&e);
    return out;
}

static void put(struct buffer *b, unsigned field, struct str s)
{
    unsigned char head[12];
    size_t n = 0, len = s.len;
    head[n++] = (unsigned char)(field << 3 | WIRE_LEN);
    for (; len >= 0x80; len >>= 7)
        head[n++] = (unsigned char)(len | 0x80);
    head[n++] = (unsigned char)len;
    buffer_add(b, head, n);
    buffer_add_str(b, s);
}

static struct str take(struct buffer *b, struct arena *a)
{
    struct str s = arena_str(a, buffer_pullup(b, b->len));
    buffer_cleanup(b);
    return s;
}

void fake_xds_say(struct fake_xds *f, const char *type, const char *version, ...)
{
    struct str url, name = arena_printf(&f->arena, "envoy.config.%s", type);
    struct buffer response, any;
    const char *json;
    va_list ap;

    url = arena_printf(&f->arena, "type.googleapis.com/%.*s", STR_ARG(name));
    turn(f);
    ck_assert_ptr_nonnull(f->call);
    ck_assert(f->call->receiving);
    buffer_init(&response);
    put(&response, 1, str_of(version));
    va_start(ap, version);
    while ((json = va_arg(ap, const char *))) {
        buffer_init(&any);
        put(&any, 1, url);
        put(&any, 2, json_to_pb(name.p, json, &f->arena));
        put(&response, 2, take(&any, &f->arena));
    }
    va_end(ap);
    put(&response, 4, url);
    put(&response, 5, arena_printf(&f->arena, "n%s", version));
    f->call->receiving = false;
    f->call->ev->on_message(f->call->arg, take(&response, &f->arena));
    turn(f);
}
