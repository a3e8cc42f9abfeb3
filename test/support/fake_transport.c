#include "test/support/fake_transport.h"

static enum io_status handshake(struct transport *t)
{
    struct fake_transport *f = (struct fake_transport *)t;
    enum io_status s = f->handshake[f->asked];
    if (f->asked + 1 < ARRAY_LEN(f->handshake))
        f->asked++;
    return s;
}

static enum io_status read_nothing(struct transport *t, struct buffer *in, size_t max)
{
    return IO_AGAIN;
}

static enum io_status write_away(struct transport *t, struct buffer *out)
{
    buffer_drain(out, out->len);
    return IO_OK;
}

static enum io_status shut(struct transport *t)
{
    return IO_OK;
}

static const struct tls_peer *peer(struct transport *t)
{
    return NULL;
}

static struct str failure(struct transport *t)
{
    return STR("TLS_error:|1|");
}

static void count_free(struct transport *t)
{
    ((struct fake_transport *)t)->freed++;
}

static const struct transport_ops ops = {"fake", handshake, read_nothing, write_away,
                                         shut,   peer,      failure,      count_free};

void fake_transport_init(struct fake_transport *f, const enum io_status *answers, size_t n)
{
    *f = (struct fake_transport){.t.ops = &ops};
    for (size_t i = 0; i < ARRAY_LEN(f->handshake); i++)
        f->handshake[i] = answers[i < n ? i : n - 1];
}
