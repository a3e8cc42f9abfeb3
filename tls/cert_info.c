#include "tls/cert_info.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/x509.h>

enum { DAY_S = 86400 };

static struct str hex(const uint8_t *p, size_t len, struct arena *a)
{
    static const char digits[] = "0123456789abcdef";
    char *to = arena_bytes(a, 2 * len + 1);
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[p[i] >> 4];
        to[2 * i + 1] = digits[p[i] & 15];
    }
    return str_n(to, 2 * len);
}

struct str cert_serial(const X509 *cert, struct arena *a)
{
    const ASN1_INTEGER *n = X509_get0_serialNumber(cert);
    return hex(ASN1_STRING_get0_data(n), (size_t)ASN1_STRING_length(n), a);
}

struct str cert_name(const X509_NAME *name, struct arena *a)
{
    const uint8_t *p;
    size_t len;
    struct str s = STR_NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio);
    if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0 && BIO_mem_contents(bio, &p, &len))
        s = arena_str(a, str_n((const char *)p, len));
    BIO_free(bio);
    return s;
}

void cert_info_read(struct cert_info *out, const X509 *cert, struct str path, struct arena *a)
{
    *out = (struct cert_info){
        .path = arena_str(a, path),
        .serial = cert_serial(cert, a),
        .subject = cert_name(X509_get_subject_name(cert), a),
    };
    out->num_sans = san_list(cert, a, &out->sans);
    if (!ASN1_TIME_to_posix(X509_get0_notBefore(cert), &out->not_before))
        out->not_before = 0;
    if (!ASN1_TIME_to_posix(X509_get0_notAfter(cert), &out->not_after))
        out->not_after = 0;
}

uint64_t cert_info_days(const struct cert_info *c, int64_t now_s)
{
    return c->not_after > now_s ? (uint64_t)(c->not_after - now_s) / DAY_S : 0;
}
