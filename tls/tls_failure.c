#include "tls/tls_failure.h"

#include "base/alloc.h"
#include "base/arena.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

enum { TEXT_MAX = 2048 };

struct text {
    char p[TEXT_MAX];
    size_t len;
};

static void PRINTF_LIKE(2, 3) append(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->len, sizeof(t->p) - t->len, fmt, ap);
    va_end(ap);
    if (n > 0)
        t->len += (size_t)n;
    if (t->len >= sizeof(t->p))
        t->len = sizeof(t->p) - 1;
}

static void append_error(struct text *t, uint32_t err, struct str detail, struct tls_failure *out)
{
    const char *lib = ERR_lib_error_string(err);
    const char *reason = ERR_reason_error_string(err);
    append(t, "%s|%u:%s:OPENSSL_internal:%s", t->len ? "" : "TLS_error:", err,
           lib ? lib : "unknown library", reason ? reason : "unknown reason");
    if (ERR_GET_LIB(err) != ERR_LIB_SSL)
        return;
    if (ERR_GET_REASON(err) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        out->verify = true;
        if (detail.len)
            append(t, ":%.*s", STR_ARG(detail));
        return;
    }
    if (ERR_GET_REASON(err) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        out->no_cert = true;
    else
        out->protocol = true;
}

char *tls_failure_text(int sys_err, struct str detail, struct tls_failure *out)
{
    struct text t = {.len = 0};
    *out = (struct tls_failure){0};
    uint32_t err;
    while ((err = ERR_get_error()) != 0)
        append_error(&t, err, detail, out);
    if (sys_err)
        append(&t, "%s|%u:system library:OPENSSL_internal:%s",
               t.len ? "" : "TLS_error:", (unsigned)ERR_PACK(ERR_LIB_SYS, sys_err),
               strerrordesc_np(sys_err));
    if (t.len == 0)
        return NULL;
    append(&t, ":TLS_error_end");
    for (size_t i = 0; i < t.len; i++) {
        if (t.p[i] == ' ')
            t.p[i] = '_';
    }
    return mem_strndup(t.p, t.len);
}
