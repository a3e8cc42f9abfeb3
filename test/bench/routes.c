/* What a look-up in a route table costs, with few and with many virtual hosts or routes. The ratio
 * is that of the same traffic, to ten entries, in a table that has no others and in one that has
 * many. Beside it stands what a look-up costs when all of the many are asked for in turn, so that
 * every one finds the caches cold. Linked with the proxy as it is released. */
#include "api-protos/mapping.h"
#include "base/yaml.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/router/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LOOKUPS = 400000, REPEATS = 7 };

struct bench {
    const char *title;
    const char *format; /* of one entry; twice its number */
    bool routes;        /* entries are routes of one virtual host, not virtual hosts */
    const char *host, *path;
    int few, many;
};

static struct route_table *compile(const char *text, struct arena *a)
{
    const ProtobufCMessageDescriptor *d =
        &envoy__config__route__v3__route_configuration__descriptor;
    struct json_error why;
    struct errors e;
    struct str bytes;
    errors_init(&e);
    const struct json *tree = yaml_parse(str_of(text), a, &why);
    const void *m = tree && pb_json_to_wire(d, tree, a, &e, NULL, &bytes)
                        ? pb_unpack(d, bytes, a, &e, NULL)
                        : NULL;
    struct route_table *t = m ? route_table_compile(m, NULL, &e) : NULL;
    if (!t) {
        struct str errors = errors_text(&e, a);
        fprintf(stderr, "%.*s%s\n", STR_ARG(errors), tree ? "" : why.text);
        exit(1);
    }
    errors_cleanup(&e);
    return t;
}

static struct route_table *table_of(const struct bench *b, int n, struct arena *a)
{
    size_t cap = (size_t)n * 160 + 200, len = 0;
    char *text = arena_bytes(a, cap);
    len += (size_t)snprintf(text, cap, "%s",
                            b->routes ? "{virtual_hosts: [{name: v, domains: ['*'], routes: ["
                                      : "{virtual_hosts: [");
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, cap - len, b->format, i, i);
    (void)snprintf(text + len, cap - len, "%s", b->routes ? "]}]}" : "]}");
    return compile(text, a);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The heads of requests for `asked` entries of a table of n. */
static struct headers *heads_of(const struct bench *b, int n, int asked, struct arena *a)
{
    struct headers *h = arena_zalloc(a, (size_t)asked * sizeof(*h));
    for (int i = 0; i < asked; i++) {
        int at = (int)((long long)i * 7919 % n); /* a prime: all of them, far from each other */
        headers_init(&h[i], a);
        h[i].method = STR("GET");
        h[i].scheme = STR("http");
        h[i].authority = arena_printf(a, b->host, at);
        h[i].path = arena_printf(a, b->path, at);
    }
    return h;
}

/* Nanoseconds of CPU a look-up, the best of some repeats. */
static double measure(const struct bench *b, int n, int asked)
{
    struct arena a, scratch;
    double best = 0;
    arena_init(&a, 1 << 20);
    arena_init(&scratch, 0);
    struct route_table *t = table_of(b, n, &a);
    const struct headers *h = heads_of(b, n, asked, &a);
    for (int r = 0; r < REPEATS; r++) {
        double start = now_ns();
        for (int i = 0; i < LOOKUPS; i++) {
            struct route_match_input in = {.headers = &h[i % asked]};
            CHECK(route_match(t, &in, &scratch));
            arena_reset(&scratch);
        }
        double each = (now_ns() - start) / LOOKUPS;
        best = r == 0 || each < best ? each : best;
    }
    route_table_unref(t);
    arena_cleanup(&scratch);
    arena_cleanup(&a);
    return best;
}

#define VHOST(domain)                                                                              \
    "{name: v%d, domains: ['" domain "'], routes: [{match: {prefix: /}, route: {cluster: c}}]},"
#define ROUTE(match) "{name: r%d, match: {" match "}, route: {cluster: c}},"

static const struct bench benches[] = {
    {"virtual hosts, exact", VHOST("service-%d.example.com"), false, "service-%d.example.com", "/",
     10, 10000},
    {"virtual hosts, suffix", VHOST("*.service-%d.example.com"), false, "x.service-%d.example.com",
     "/", 10, 10000},
    {"virtual hosts, prefix", VHOST("service-%d.*"), false, "service-%d.org", "/", 10, 10000},
    {"routes, prefix", ROUTE("prefix: '/service-%d/'"), true, "h", "/service-%d/x", 10, 1000},
    {"routes, separated prefix", ROUTE("path_separated_prefix: '/service-%d/v1'"), true, "h",
     "/service-%d/v1/x", 10, 1000},
    {"routes, path", ROUTE("path: '/service-%d'"), true, "h", "/service-%d", 10, 1000},
};

int main(void)
{
    printf("%-26s %8s %9s %9s %6s %9s\n", "ns a look-up", "entries", "alone", "of many", "ratio",
           "cold");
    for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++) {
        const struct bench *b = &benches[i];
        double few = measure(b, b->few, b->few), many = measure(b, b->many, b->few);
        printf("%-26s %8d %9.1f %9.1f %6.2f %9.1f\n", b->title, b->many, few, many, many / few,
               measure(b, b->many, b->many));
    }
    return 0;
}
