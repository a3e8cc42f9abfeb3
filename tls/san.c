#include "tls/san.h"

#include <arpa/inet.h>
#include <openssl/nid.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static bool printable(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c > 0x7e)
            return false;
    }
    return s.len > 0;
}

static struct str ip_text(const ASN1_OCTET_STRING *ip, struct arena *a)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(ip);
    int family = len == 4 ? AF_INET : AF_INET6;
    if (len != 4 && len != 16)
        return STR_NULL;
    if (!inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof(text)))
        return STR_NULL;
    return arena_str(a, str_of(text));
}

static bool san_of(const GENERAL_NAME *name, struct arena *a, struct san *out)
{
    const ASN1_STRING *text;
    switch (name->type) {
    case GEN_DNS:
        out->type = SAN_DNS;
        text = name->d.dNSName;
        break;
    case GEN_URI:
        out->type = SAN_URI;
        text = name->d.uniformResourceIdentifier;
        break;
    case GEN_EMAIL:
        out->type = SAN_EMAIL;
        text = name->d.rfc822Name;
        break;
    case GEN_IPADD:
        out->type = SAN_IP;
        out->text = ip_text(name->d.iPAddress, a);
        return out->text.len != 0;
    default:
        return false;
    }
    struct str s = str_n((const char *)ASN1_STRING_get0_data(text),
                         (size_t)ASN1_STRING_length(text));
    if (!printable(s))
        return false;
    out->text = arena_str(a, s);
    return true;
}

size_t san_list(const X509 *cert, struct arena *a, struct san **out)
{
    *out = NULL;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (!names)
        return 0;
    size_t num = sk_GENERAL_NAME_num(names), kept = 0;
    struct san *list = arena_alloc(a, num * sizeof(*list));
    for (size_t i = 0; i < num; i++)
        kept += san_of(sk_GENERAL_NAME_value(names, i), a, &list[kept]);
    GENERAL_NAMES_free(names);
    *out = list;
    return kept;
}

bool san_dns_match(struct str pattern, struct str host)
{
    if (pattern.len == 0 || host.len == 0)
        return false;
    if (str_ieq(pattern, host))
        return true;
    if (!str_starts(pattern, STR("*.")))
        return false;
    struct str rest = str_n(pattern.p + 1, pattern.len - 1); /* ".example.com" */
    ptrdiff_t dot = str_chr(host, '.');
    if (dot <= 0)
        return false;
    struct str host_rest = str_n(host.p + dot, host.len - (size_t)dot);
    if (str_chr(str_n(rest.p + 1, rest.len - 1), '.') < 0)
        return false;
    return str_ieq(rest, host_rest);
}
