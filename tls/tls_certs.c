#include "tls/tls_certs.h"

#include "tls/tls_context.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct writing {
    struct json_writer *w;
    int64_t now_s;
};

static void put_text(struct json_writer *w, struct str key, struct str value)
{
    json_key(w, key);
    json_put_str(w, value);
}

static void put_time(struct json_writer *w, struct str key, int64_t s)
{
    char text[64];
    struct tm tm;
    time_t t = s;
    if (!gmtime_r(&t, &tm))
        tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    put_text(w, key, str_n(text, len));
}

static struct str san_key(enum san_type type)
{
    switch (type) {
    case SAN_DNS:
        return STR("dns");
    case SAN_URI:
        return STR("uri");
    case SAN_IP:
        return STR("ip_address");
    case SAN_EMAIL:
        break; /* Envoy shows mail addresses as DNS names */
    }
    return STR("dns");
}

static void put_cert(const struct writing *to, const struct cert_info *c)
{
    char days[24];
    struct json_writer *w = to->w;
    json_open(w, '{');
    put_text(w, STR("path"), c->path);
    put_text(w, STR("serial_number"), c->serial);
    json_key(w, STR("subject_alt_names"));
    json_open(w, '[');
    for (size_t i = 0; i < c->num_sans; i++) {
        json_open(w, '{');
        put_text(w, san_key(c->sans[i].type), c->sans[i].text);
        json_close(w, '}');
    }
    json_close(w, ']');
    int len = snprintf(days, sizeof(days), "%" PRIu64, cert_info_days(c, to->now_s));
    put_text(w, STR("days_until_expiration"), str_n(days, (size_t)len));
    put_time(w, STR("valid_from"), c->not_before);
    put_time(w, STR("expiration_time"), c->not_after);
    json_close(w, '}');
}

static void put_context(void *arg, const struct tls_context *c)
{
    const struct writing *to = arg;
    json_open(to->w, '{');
    json_key(to->w, STR("ca_cert"));
    json_open(to->w, '[');
    for (size_t i = 0; c->trust && i < c->trust->num_certs; i++)
        put_cert(to, &c->trust->certs[i]);
    json_close(to->w, ']');
    json_key(to->w, STR("cert_chain"));
    json_open(to->w, '[');
    for (size_t i = 0; i < c->num_certs; i++)
        put_cert(to, &c->certs[i]->chain[0]);
    json_close(to->w, ']');
    json_close(to->w, '}');
}

void tls_certs_write(struct json_writer *w, int64_t now_s)
{
    struct writing to = {.w = w, .now_s = now_s};
    json_open(w, '{');
    json_key(w, STR("certificates"));
    json_open(w, '[');
    tls_context_foreach(put_context, &to);
    json_close(w, ']');
    json_close(w, '}');
}
