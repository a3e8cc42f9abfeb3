#include "tls/proxy_transport.h"

#include "base/list.h"
#include "tls/proxy_header_write.h"
#include <errno.h>
#include <sys/socket.h>

struct proxy_factory {
    struct transport_factory base;
    struct transport_factory *inner; /* referenced; NULL: raw_buffer */
    struct arena arena;
    struct proxy_transport_config config;
};

struct proxy_transport {
    struct transport base;
    struct transport *inner;
    struct buffer header; /* not yet sent */
    unsigned version;
    bool made;
};

static const struct transport_factory_ops factory_ops;

/* --- the header --- */

static bool is_added(const struct proxy_transport_config *c, uint8_t type)
{
    for (const struct proxy_tlv *t = c->added; t; t = t->next) {
        if (t->type == type)
            return true;
    }
    return false;
}

void proxy_transport_header(const struct proxy_transport_config *c,
                            const struct proxy_origin *origin, const struct addr *src,
                            const struct addr *dst, struct buffer *out)
{
    static const struct addr none;
    struct arena a;
    struct proxy_tlv *first = NULL, **at = &first;

    if (!origin) {
        (void)proxy_header_write(out, c->version, c->version == 1 ? src : &none, dst, NULL);
        return;
    }
    arena_init(&a, 0);
    for (const struct proxy_tlv *t = c->version == 1 ? NULL : origin->tlvs; t; t = t->next) {
        if ((!c->pass_all && !c->pass[t->type]) || is_added(c, t->type))
            continue;
        *at = ARENA_NEW(&a, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, t->type, t->value};
        at = &(*at)->next;
    }
    for (const struct proxy_tlv *t = c->added; t; t = t->next) {
        *at = ARENA_NEW(&a, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, t->type, t->value};
        at = &(*at)->next;
    }
    (void)proxy_header_write(out, c->version, origin->src, origin->dst, first);
    arena_cleanup(&a);
}

/* --- the transport --- */

static struct proxy_transport *of(struct transport *t)
{
    return CONTAINER_OF(t, struct proxy_transport, base);
}

/* What conn.c looks at. */
static enum io_status mirror(struct proxy_transport *p, enum io_status s)
{
    p->base.pending = p->inner->pending;
    p->base.bytes_in = p->inner->bytes_in;
    p->base.bytes_out = p->inner->bytes_out;
    return s;
}

/* Without an origin the header says who we are, which is known once the socket is connected. */
static void make_own(struct proxy_transport *p)
{
    struct addr src = {0}, dst = {0};
    struct proxy_transport_config plain = {.version = p->version};
    p->made = true;
    if (p->header.len || !addr_local(p->base.fd, &src) || !addr_peer(p->base.fd, &dst))
        return;
    proxy_transport_header(&plain, NULL, &src, &dst, &p->header);
}

static enum io_status handshake(struct transport *t)
{
    struct proxy_transport *p = of(t);
    if (!p->made)
        make_own(p);
    while (p->header.len) {
        struct str some = buffer_peek(&p->header);
        ssize_t n = send(t->fd, some.p, some.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_ERROR;
        buffer_drain(&p->header, (size_t)n);
    }
    return mirror(p, p->inner->ops->handshake(p->inner));
}

static enum io_status read_some(struct transport *t, struct buffer *in, size_t max)
{
    struct proxy_transport *p = of(t);
    return mirror(p, p->inner->ops->read(p->inner, in, max));
}

static enum io_status write_some(struct transport *t, struct buffer *out)
{
    struct proxy_transport *p = of(t);
    return mirror(p, p->inner->ops->write(p->inner, out));
}

static enum io_status shut(struct transport *t)
{
    struct proxy_transport *p = of(t);
    return mirror(p, p->inner->ops->shut(p->inner));
}

static const struct tls_peer *peer(struct transport *t)
{
    return of(t)->inner->ops->peer(of(t)->inner);
}

static struct str failure(struct transport *t)
{
    return of(t)->inner->ops->failure(of(t)->inner);
}

static void free_transport(struct transport *t)
{
    struct proxy_transport *p = of(t);
    p->inner->ops->free(p->inner);
    buffer_cleanup(&p->header);
    mem_free(p);
}

static const struct transport_ops proxy_ops = {
    .name = "proxy_protocol",
    .handshake = handshake,
    .read = read_some,
    .write = write_some,
    .shut = shut,
    .peer = peer,
    .failure = failure,
    .free = free_transport,
};

/* --- the factory --- */

static struct proxy_factory *factory_of(struct transport_factory *f)
{
    return CONTAINER_OF(f, struct proxy_factory, base);
}

static struct transport *factory_open(struct transport_factory *base, int fd,
                                      const struct transport_options *opts)
{
    struct proxy_factory *f = factory_of(base);
    struct transport *inner = f->inner ? f->inner->ops->open(f->inner, fd, opts)
                                       : transport_raw_open(fd);
    if (!inner)
        return NULL;
    struct proxy_transport *p = NEW(struct proxy_transport);
    p->base = (struct transport){.ops = &proxy_ops, .fd = fd};
    p->inner = inner;
    p->version = f->config.version; /* not the factory: connections end on workers */
    buffer_init(&p->header);
    if (opts && opts->origin)
        proxy_transport_header(&f->config, opts->origin, NULL, NULL, &p->header);
    return &p->base;
}

static bool factory_ready(struct transport_factory *base)
{
    struct proxy_factory *f = factory_of(base);
    return !f->inner || f->inner->ops->ready(f->inner);
}

static void factory_free(struct transport_factory *base)
{
    struct proxy_factory *f = factory_of(base);
    transport_factory_unref(f->inner);
    arena_cleanup(&f->arena);
    mem_free(f);
}

static const struct transport_factory_ops factory_ops = {factory_open, factory_ready, factory_free};

struct transport_factory *proxy_transport_factory(struct transport_factory *inner,
                                                  const struct proxy_transport_config *config)
{
    struct proxy_factory *f = NEW(struct proxy_factory);
    struct proxy_tlv *first = NULL, **at = &first;
    f->base.ops = &factory_ops;
    refcount_init(&f->base.refs);
    f->inner = inner;
    f->config = *config;
    arena_init(&f->arena, 0);
    for (const struct proxy_tlv *t = config->added; t; t = t->next) {
        *at = ARENA_NEW(&f->arena, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, t->type, arena_str(&f->arena, t->value)};
        at = &(*at)->next;
    }
    f->config.added = first;
    return &f->base;
}

struct transport_factory *proxy_transport_inner(struct transport_factory *f)
{
    return f && f->ops == &factory_ops ? factory_of(f)->inner : f;
}
