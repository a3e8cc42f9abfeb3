// covers: cluster/resolver.c
/* Answers of a DNS server that may be anything. The first three bytes say how to ask and how much
 * of the answer is put right (id, question), so that the rest is looked at; what follows is the
 * answer, the same for every question. Whatever comes: one answer to who asked, and no harm. */
#include "base/stats.h"
#include "cluster/resolver.h"
#include "test/support/fake_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RIGHT_ID = 1, RIGHT_QUESTION = 2, NO_ERROR = 4, HONEST_FIRST = 8 };

struct input {
    struct fake_dns dns;
    const uint8_t *data;
    size_t len;
    unsigned right, asked;
};

static size_t lie(void *arg, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    struct input *in = arg;
    if ((in->right & HONEST_FIRST) && in->asked++ == 0)
        return fake_dns_answer(&in->dns, q, len, out, cap);
    memcpy(out, in->data, in->len);
    if ((in->right & RIGHT_QUESTION) && in->len > len)
        memcpy(out + 12, q + 12, len - 12);
    if ((in->right & RIGHT_ID) && in->len >= 2)
        memcpy(out, q, 2);
    if ((in->right & NO_ERROR) && in->len >= 12) {
        out[2] = 0x81;
        out[3] = 0x80;
        out[4] = 0;
        out[5] = 1;
    }
    return in->len;
}

static void on_answer(void *arg, const struct dns_answer *a)
{
    unsigned *answers = arg;
    CHECK(a->status == DNS_OK ? a->num_addrs > 0 : a->status == DNS_FAILED || a->num_addrs == 0);
    CHECK(a->num_addrs <= RESOLVER_ADDRS_MAX);
    for (uint32_t i = 0; i < a->num_addrs; i++)
        CHECK(addr_is_ip(&a->addrs[i]) && addr_port(&a->addrs[i]) == 0);
    ++*answers;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct fake_dns_name zone[] = {{"a.test", "10.0.0.1 fd00::1", 60}};
    struct input in = {.data = data + 3, .len = len - 3};
    struct resolver_query q = {.on_answer = on_answer};
    struct resolver_options o = {.no_search = true, .tries = 1, .timeout_ms = 15};
    struct resolver *r;
    unsigned answers = 0;

    if (len < 3 || len > 4096)
        return 0;
    stats_init(1);
    struct loop *loop = loop_new(false);
    fake_dns_start(&in.dns, loop);
    in.dns.zone = zone;
    in.dns.num_zone = 1;
    in.dns.lie = lie;
    in.dns.lie_arg = &in;
    in.right = data[2];
    o.servers = data[0] & 128 ? STR("nowhere") : str_of(in.dns.server);
    o.filter_unroutable = data[0] & 1;
    o.udp_max_queries = data[0] & 2 ? 1 : 0;
    o.edns_size = data[0] & 4 ? 1232 : 0;
    o.rotate = data[0] & 8;
    o.reinit_on_timeout = data[0] & 16;
    o.servers_as_fallback = (data[0] & 96) == 96;
    r = resolver_new(loop);
    q.arg = &answers;
    for (unsigned i = 1; i <= 3; i++) {
        struct str name = i == 3 && (data[1] & 8) ? STR("..") : STR("a.test");
        resolver_ask(r, &o, name, (enum dns_family)(data[1] % 5), data[1] & 16 ? 1000 : 0,
                     data[1] & 32, &q);
        fake_dns_wait(&in.dns, &answers, i);
    }
    resolver_ask(r, &o, STR("b.test"), DNS_ALL, 0, false, &q);
    if (data[1] & 64)
        resolver_cancel(&q);
    resolver_free(&r);
    resolver_cancel(&q);
    fake_dns_stop(&in.dns);
    loop_free(&loop);
    stats_cleanup();
    return 0;
}
