#include "tls/tls_secret.h"

#include "api-protos/message.h"
#include "api-protos/wire.h"
#include "base/map.h"
#include "tls/data_source.h"
#include "tls/secret_files.h"
#include <openssl/mem.h>

enum { FIELD_NAME = 1 };

static struct tls_secret *secret_new(enum tls_secret_kind kind)
{
    struct tls_secret *s = NEW(struct tls_secret);
    refcount_init(&s->refs);
    s->kind = kind;
    arena_init(&s->arena, 256);
    return s;
}

struct tls_secret *tls_secret_of_cert(struct tls_cert *cert)
{
    struct tls_secret *s = secret_new(TLS_SECRET_CERT);
    s->cert = cert;
    return s;
}

struct tls_secret *tls_secret_of_validation(struct tls_validation_part *part)
{
    struct tls_secret *s = secret_new(TLS_SECRET_VALIDATION);
    s->validation = part;
    return s;
}

struct tls_secret *tls_secret_of_tickets(struct tls_tickets *tickets)
{
    struct tls_secret *s = secret_new(TLS_SECRET_TICKETS);
    s->tickets = tickets;
    return s;
}

struct tls_secret *tls_secret_ref(struct tls_secret *s)
{
    if (s)
        refcount_inc(&s->refs);
    return s;
}

void tls_secret_unref(struct tls_secret *s)
{
    if (!s || !refcount_dec(&s->refs))
        return;
    tls_cert_unref(s->cert);
    tls_validation_part_unref(s->validation);
    tls_tickets_unref(s->tickets);
    if (s->bytes.len)
        OPENSSL_cleanse((void *)s->bytes.p, s->bytes.len);
    arena_cleanup(&s->arena);
    mem_free(s);
}

bool tls_secret_same(const struct tls_secret *a, const struct tls_secret *b)
{
    switch (a->kind) {
    case TLS_SECRET_CERT:
        return a->cert == b->cert; /* equal ones are one object */
    case TLS_SECRET_VALIDATION:
        return memcmp(&a->validation->key, &b->validation->key, sizeof(a->validation->key)) == 0;
    case TLS_SECRET_TICKETS:
        return memcmp(&a->tickets->key, &b->tickets->key, sizeof(a->tickets->key)) == 0;
    }
    return false;
}

const char *tls_secret_kind_name(enum tls_secret_kind kind)
{
    switch (kind) {
    case TLS_SECRET_CERT:
        return "tls_certificate";
    case TLS_SECRET_VALIDATION:
        return "validation_context";
    case TLS_SECRET_TICKETS:
        return "session_ticket_keys";
    }
    return "";
}

/* --- compiling ------------------------------------------------------------------------------- */

struct tls_cert *tls_cert_compile(const TLS_V3(TlsCertificate) * from, struct errors *e)
{
    struct arena a;
    struct data_source chain, key, password = {.bytes = STR_NULL};
    struct tls_cert *cert = NULL;
    arena_init(&a, 4096);
    bool ok = data_source_read(from->certificate_chain, &a, e, "certificate_chain", &chain);
    ok &= data_source_read(from->private_key, &a, e, "private_key", &key);
    if (from->password)
        ok &= data_source_read(from->password, &a, e, "password", &password);
    if (ok) {
        struct tls_cert_source src = {.chain = chain.bytes,
                                      .key = key.bytes,
                                      .password = password.bytes,
                                      .chain_path = chain.path};
        cert = tls_cert_new(&src, e);
    }
    OPENSSL_cleanse((void *)key.bytes.p, key.bytes.len);
    OPENSSL_cleanse((void *)password.bytes.p, password.bytes.len);
    arena_cleanup(&a);
    return cert;
}

static struct tls_secret *compile_type(const TLS_V3(Secret) * msg, struct errors *e)
{
    struct tls_secret *s = NULL;
    size_t mark;
    switch (msg->type_case) {
    case TLS_V3_ENUM(SECRET__TYPE_TLS_CERTIFICATE): {
        mark = errors_push(e, "tls_certificate");
        struct tls_cert *cert = tls_cert_compile(msg->tls_certificate, e);
        errors_pop(e, mark);
        return cert ? tls_secret_of_cert(cert) : NULL;
    }
    case TLS_V3_ENUM(SECRET__TYPE_VALIDATION_CONTEXT): {
        mark = errors_push(e, "validation_context");
        struct tls_validation_part *part = tls_validation_part_new(msg->validation_context, e);
        errors_pop(e, mark);
        return part ? tls_secret_of_validation(part) : NULL;
    }
    case TLS_V3_ENUM(SECRET__TYPE_SESSION_TICKET_KEYS): {
        mark = errors_push(e, "session_ticket_keys");
        struct tls_tickets *tickets = tls_tickets_new(msg->session_ticket_keys, e);
        errors_pop(e, mark);
        return tickets ? tls_secret_of_tickets(tickets) : NULL;
    }
    case TLS_V3_ENUM(SECRET__TYPE__NOT_SET):
    default:
        errors_add(e, "type", "is not set, or of a kind that is not supported");
        return s;
    }
}

/* The arena's memory is used again: no private key is left in it. */
static void wipe(const TLS_V3(Secret) * msg)
{
    if (msg->type_case != TLS_V3_ENUM(SECRET__TYPE_TLS_CERTIFICATE))
        return;
    const Envoy__Config__Core__V3__DataSource *key = msg->tls_certificate->private_key;
    if (!key)
        return;
    if (key->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES)
        OPENSSL_cleanse(key->inline_bytes.data, key->inline_bytes.len);
    if (key->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING)
        OPENSSL_cleanse(key->inline_string, strlen(key->inline_string));
}

static bool name_of(struct str bytes, struct str *out)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    enum wire_result r;
    *out = STR_NULL;
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD) {
        if (f.number == FIELD_NAME && f.type == WIRE_LEN)
            *out = f.bytes;
    }
    return r == WIRE_END && out->len;
}

/* --- files that a secret names -------------------------------------------------------------------
 */

static void note_directory(struct tls_secret *s, struct str dir)
{
    for (size_t i = 0; i < s->num_directories; i++) {
        if (str_eq(s->directories[i], dir))
            return;
    }
    s->directories[s->num_directories++] = arena_str(&s->arena, dir);
}

static void note_source(struct tls_secret *s, const Envoy__Config__Core__V3__DataSource *ds)
{
    if (!ds || ds->specifier_case != ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME)
        return;
    if (ds->watched_directory) {
        note_directory(s, str_of(ds->watched_directory->path));
        return;
    }
    struct str path = str_of(ds->filename);
    while (path.len && path.p[path.len - 1] != '/')
        path.len--;
    note_directory(s, path.len ? path : STR("."));
}

static void note_files(struct tls_secret *s, const TLS_V3(Secret) * msg, struct str bytes)
{
    const Envoy__Config__Core__V3__DataSource *sources[3] = {NULL};
    const Envoy__Config__Core__V3__WatchedDirectory *watched = NULL;
    if (s->kind == TLS_SECRET_CERT) {
        watched = msg->tls_certificate->watched_directory;
        sources[0] = msg->tls_certificate->certificate_chain;
        sources[1] = msg->tls_certificate->private_key;
        sources[2] = msg->tls_certificate->password;
    } else if (s->kind == TLS_SECRET_VALIDATION) {
        watched = msg->validation_context->watched_directory;
        sources[0] = msg->validation_context->trusted_ca;
        sources[1] = msg->validation_context->crl;
    }
    s->directories = arena_alloc(&s->arena, ARRAY_LEN(sources) * sizeof(*s->directories));
    if (watched)
        note_directory(s, str_of(watched->path));
    for (size_t i = 0; !watched && i < ARRAY_LEN(sources); i++)
        note_source(s, sources[i]);
    if (s->num_directories)
        s->bytes = arena_str(&s->arena, bytes);
}

struct tls_secret *tls_secret_compile(struct str bytes, const struct pb_opts *opts,
                                      struct errors *e)
{
    struct arena a;
    struct tls_secret *s = NULL;
    arena_init(&a, 4096);
    const TLS_V3(Secret) *msg = PB_UNPACK(
        TLS_V3(Secret), envoy__extensions__transport_sockets__tls__v3__secret, bytes, &a, e, NULL);
    if (msg) {
        s = compile_type(msg, e);
        if (s)
            note_files(s, msg, bytes);
        wipe(msg);
    }
    arena_cleanup(&a);
    return s;
}

static void *compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    (void)name;
    const struct tls_secrets *secrets = owner;
    return tls_secret_compile(bytes, secrets ? secrets->pb : NULL, e);
}

static void ref(void *compiled)
{
    tls_secret_ref(compiled);
}

static void unref(void *compiled)
{
    tls_secret_unref(compiled);
}

const struct resource_ops tls_secret_ops = {
    .type_url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    .label = "sds",
    .sensitive = true,
    .name_of = name_of,
    .compile = compile,
    .ref = ref,
    .unref = unref,
};

/* --- the place of secrets ------------------------------------------------------------------------
 */

struct tls_secrets *tls_secrets_new(struct loop *main, struct xds *x)
{
    struct tls_secrets *s = NEW(struct tls_secrets);
    s->loop = main;
    s->xds = x;
    map_init(&s->fixed, true);
    if (x)
        xds_register(x, &tls_secret_ops, s);
    return s;
}

void tls_secrets_free(struct tls_secrets **s)
{
    if (!*s)
        return;
    secret_files_free(&(*s)->files);
    map_cleanup(&(*s)->fixed, unref);
    mem_free(*s);
    *s = NULL;
}

bool tls_secrets_add_static(struct tls_secrets *s, struct str bytes, struct errors *e)
{
    struct str name;
    if (!name_of(bytes, &name)) {
        errors_add(e, "name", "is required");
        return false;
    }
    /* The client keeps it for config_dump and refuses a second one of the name. */
    if (s->xds && !xds_static(s->xds, &tls_secret_ops, bytes, e))
        return false;
    if (map_get(&s->fixed, name)) {
        errors_add(e, "name", "there is another secret of this name");
        return false;
    }
    struct tls_secret *secret = tls_secret_compile(bytes, NULL, e);
    if (!secret)
        return false;
    (void)!map_put(&s->fixed, name, secret);
    return true;
}

struct tls_secret *tls_secrets_find(const struct tls_secrets *s, struct str name)
{
    return map_get(&s->fixed, name);
}
