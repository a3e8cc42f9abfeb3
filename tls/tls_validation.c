#include "tls/tls_validation.h"

#include "api-protos/wkt.h"
#include "base/regex.h"
#include "tls/data_source.h"
#include <openssl/base64.h>
#include <openssl/mem.h>
#include <unistd.h>

enum { DEPTH_MAX = 100 };

/* Where distributions keep the CA bundle, as Envoy looks for it. */
static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

struct compile {
    struct tls_validation_part *p;
    struct errors *e;
    struct dedup_hash hash;
};

static void note_file(struct tls_validation_part *p, const struct data_source *ds)
{
    if (!ds->is_file)
        return;
    if (!p->files)
        p->files = arena_alloc(&p->arena, 2 * sizeof(*p->files));
    p->files[p->num_files++] = ds->path;
}

static void compile_system_roots(struct compile *c)
{
    Envoy__Config__Core__V3__DataSource ds = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__INIT;
    struct data_source got;
    ds.specifier_case = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME;
    for (size_t i = 0; i < ARRAY_LEN(system_bundles); i++) {
        if (access(system_bundles[i], R_OK) != 0)
            continue;
        ds.filename = (char *)system_bundles[i];
        if (!data_source_read(&ds, &c->p->arena, c->e, "system_root_certs", &got))
            return;
        c->p->ca = got.bytes;
        c->p->ca_path = got.path;
        return;
    }
    errors_add(c->e, "system_root_certs", "this system has no CA bundle");
}

static void compile_trust(struct compile *c, const TLS_V3(CertificateValidationContext) * from)
{
    struct tls_validation_part *p = c->p;
    struct data_source got;
    if (from->trusted_ca && from->system_root_certs)
        errors_add(c->e, "system_root_certs", "cannot be used together with trusted_ca");
    if (from->trusted_ca) {
        if (data_source_read(from->trusted_ca, &p->arena, c->e, "trusted_ca", &got)) {
            p->ca = got.bytes;
            p->ca_path = got.path;
            note_file(p, &got);
        }
    } else if (from->system_root_certs) {
        compile_system_roots(c);
    }
    if (from->crl && data_source_read(from->crl, &p->arena, c->e, "crl", &got)) {
        p->crl = got.bytes;
        note_file(p, &got);
    }
    if (!p->ca.len)
        return;
    struct tls_trust_source src = {.ca = p->ca, .ca_path = p->ca_path, .crl = p->crl};
    p->trust = tls_trust_new(&src, c->e);
}

static void compile_sans(struct compile *c, const TLS_V3(CertificateValidationContext) * from)
{
    struct tls_validation_part *p = c->p;
    size_t num = from->n_match_typed_subject_alt_names + from->n_match_subject_alt_names;
    if (num)
        p->sans = arena_zalloc(&p->arena, num * sizeof(*p->sans));
    for (size_t i = 0; i < from->n_match_typed_subject_alt_names; i++) {
        size_t mark = errors_push_index(c->e, "match_typed_subject_alt_names", i);
        if (san_matcher_compile(&p->sans[p->num_sans], from->match_typed_subject_alt_names[i],
                                &p->arena, c->e))
            p->num_sans++;
        errors_pop(c->e, mark);
    }
    for (size_t i = 0; i < from->n_match_subject_alt_names; i++) {
        size_t mark = errors_push_index(c->e, "match_subject_alt_names", i);
        if (san_matcher_compile_any(&p->sans[p->num_sans], from->match_subject_alt_names[i],
                                    &p->arena, c->e))
            p->num_sans++;
        errors_pop(c->e, mark);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* 64 hex digits, or 32 pairs with colons between them (openssl's print). */
static bool parse_hash(struct str s, struct tls_digest *out)
{
    size_t step = s.len == 95 ? 3 : 2;
    if (s.len != 64 && s.len != 95)
        return false;
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        int hi = hex_value(s.p[i * step]), lo = hex_value(s.p[i * step + 1]);
        if (hi < 0 || lo < 0 ||
            (step == 3 && i + 1 < SHA256_DIGEST_LENGTH && s.p[i * 3 + 2] != ':'))
            return false;
        out->bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static bool parse_spki(struct str s, struct tls_digest *out)
{
    uint8_t raw[48];
    size_t len;
    return s.len == 44 && EVP_DecodeBase64(raw, &len, sizeof(raw), (const uint8_t *)s.p, s.len) &&
           len == sizeof(out->bytes) && memcpy(out->bytes, raw, len);
}

static void compile_digests(struct compile *c, const TLS_V3(CertificateValidationContext) * from)
{
    struct tls_validation_part *p = c->p;
    if (from->n_verify_certificate_hash)
        p->hashes = arena_alloc(&p->arena, from->n_verify_certificate_hash * sizeof(*p->hashes));
    for (size_t i = 0; i < from->n_verify_certificate_hash; i++) {
        size_t mark = errors_push_index(c->e, "verify_certificate_hash", i);
        if (parse_hash(str_of(from->verify_certificate_hash[i]), &p->hashes[p->num_hashes]))
            p->num_hashes++;
        else
            errors_add(c->e, NULL, "is not a SHA-256 in hex");
        errors_pop(c->e, mark);
    }
    if (from->n_verify_certificate_spki)
        p->spkis = arena_alloc(&p->arena, from->n_verify_certificate_spki * sizeof(*p->spkis));
    for (size_t i = 0; i < from->n_verify_certificate_spki; i++) {
        size_t mark = errors_push_index(c->e, "verify_certificate_spki", i);
        if (parse_spki(str_of(from->verify_certificate_spki[i]), &p->spkis[p->num_spkis]))
            p->num_spkis++;
        else
            errors_add(c->e, NULL, "is not a SHA-256 in base64");
        errors_pop(c->e, mark);
    }
}

static void compile_key(struct tls_validation_part *p)
{
    struct dedup_hash h;
    dedup_hash_init(&h);
    dedup_hash_str(&h, p->ca);
    dedup_hash_str(&h, p->crl);
    for (size_t i = 0; i < p->num_sans; i++) {
        const struct san_matcher *m = &p->sans[i];
        dedup_hash_u64(&h, m->types | (uint64_t)m->kind << 8 | (uint64_t)m->ignore_case << 16);
        dedup_hash_str(&h, m->regex ? regex_pattern(m->regex) : m->text);
    }
    dedup_hash_u64(&h, p->num_sans);
    for (size_t i = 0; i < p->num_hashes; i++)
        dedup_hash_str(&h, str_n((const char *)p->hashes[i].bytes, sizeof(p->hashes[i].bytes)));
    dedup_hash_u64(&h, p->num_hashes);
    for (size_t i = 0; i < p->num_spkis; i++)
        dedup_hash_str(&h, str_n((const char *)p->spkis[i].bytes, sizeof(p->spkis[i].bytes)));
    dedup_hash_u64(&h, p->allow_expired | p->accept_untrusted << 1 | p->leaf_crl_only << 2);
    dedup_hash_u64(&h, p->max_depth);
    dedup_hash_final(&h, &p->key);
}

static void compile_flags(struct compile *c, const TLS_V3(CertificateValidationContext) * from)
{
    struct tls_validation_part *p = c->p;
    p->allow_expired = from->allow_expired_certificate;
    p->leaf_crl_only = from->only_verify_leaf_cert_crl;
    p->accept_untrusted =
        from->trust_chain_verification ==
        TLS_V3_ENUM(CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED);
    p->has_depth = from->max_verify_depth != NULL;
    p->max_depth = wkt_u32(from->max_verify_depth, 0);
    if (p->max_depth > DEPTH_MAX)
        errors_add(c->e, "max_verify_depth", "must be at most %d", DEPTH_MAX);
}

struct tls_validation_part *
tls_validation_part_new(const TLS_V3(CertificateValidationContext) * from, struct errors *e)
{
    struct compile c = {.p = NEW(struct tls_validation_part), .e = e};
    size_t errors_before = e->num_errors;
    refcount_init(&c.p->refs);
    arena_init(&c.p->arena, 192);
    compile_trust(&c, from);
    compile_sans(&c, from);
    compile_digests(&c, from);
    compile_flags(&c, from);
    if (e->num_errors != errors_before) {
        tls_validation_part_unref(c.p);
        return NULL;
    }
    compile_key(c.p);
    return c.p;
}

struct tls_validation_part *tls_validation_part_ref(struct tls_validation_part *p)
{
    if (p)
        refcount_inc(&p->refs);
    return p;
}

void tls_validation_part_unref(struct tls_validation_part *p)
{
    if (!p || !refcount_dec(&p->refs))
        return;
    for (size_t i = 0; i < p->num_sans; i++)
        san_matcher_cleanup(&p->sans[i]);
    tls_trust_unref(p->trust);
    arena_cleanup(&p->arena);
    mem_free(p);
}

/* --- joining ------------------------------------------------------------------------------- */

static size_t count_sans(const struct tls_validation *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->num_parts; i++)
        n += v->parts[i]->num_sans;
    return n;
}

static bool join_trust(struct tls_validation *v, struct errors *e)
{
    const struct tls_validation_part *ca = NULL, *crl = NULL;
    for (size_t i = 0; i < v->num_parts; i++) {
        if (v->parts[i]->ca.len)
            ca = v->parts[i];
        if (v->parts[i]->crl.len)
            crl = v->parts[i];
    }
    if (!ca) {
        if (count_sans(v) && !v->accept_untrusted)
            errors_add(e, NULL,
                       "matching names of a peer's certificate without a trusted_ca proves "
                       "nothing and is not allowed");
        if (crl)
            errors_add(e, "crl", "needs a trusted_ca");
        return errors_ok(e);
    }
    struct tls_trust_source src = {
        .ca = ca->ca, .ca_path = ca->ca_path, .crl = crl ? crl->crl : STR_NULL};
    v->trust = tls_trust_new(&src, e);
    return v->trust != NULL;
}

struct tls_validation *tls_validation_new(struct tls_validation_part *base,
                                          struct tls_validation_part *over, struct errors *e)
{
    struct tls_validation *v = NEW(struct tls_validation);
    struct dedup_hash h;
    refcount_init(&v->refs);
    dedup_hash_init(&h);
    struct tls_validation_part *const from[] = {base, over};
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        struct tls_validation_part *p = from[i];
        if (!p)
            continue;
        v->parts[v->num_parts++] = tls_validation_part_ref(p);
        v->allow_expired |= p->allow_expired;
        v->accept_untrusted |= p->accept_untrusted;
        v->leaf_crl_only |= p->leaf_crl_only;
        if (p->has_depth)
            v->max_depth = p->max_depth;
        dedup_hash_key(&h, &p->key);
    }
    dedup_hash_final(&h, &v->key);
    if (join_trust(v, e))
        return v;
    tls_validation_unref(v);
    return NULL;
}

struct tls_validation *tls_validation_ref(struct tls_validation *v)
{
    if (v)
        refcount_inc(&v->refs);
    return v;
}

void tls_validation_unref(struct tls_validation *v)
{
    if (!v || !refcount_dec(&v->refs))
        return;
    tls_trust_unref(v->trust);
    for (size_t i = 0; i < v->num_parts; i++)
        tls_validation_part_unref(v->parts[i]);
    mem_free(v);
}
