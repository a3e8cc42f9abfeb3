#include "proxy/observe/format_ops.h"

#include "base/hash.h"
#include "base/random.h"
#include "proxy/observe/format.h"
#include "proxy/observe/format_grpc.h"
#include "proxy/observe/format_http.h"
#include "proxy/observe/format_metadata.h"
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef const struct format_op *op_ref;
typedef const struct stream_info *info_ref;

static const struct conn_info no_conn;
static const struct tls_peer no_peer;

static const struct conn_info *conn_of(info_ref si)
{
    return si->conn ? si->conn : &no_conn;
}

static const struct tls_peer *downstream_tls(info_ref si)
{
    return si->conn && si->conn->tls ? si->conn->tls : &no_peer;
}

static const struct tls_peer *upstream_tls(info_ref si)
{
    return si->upstream_tls ? si->upstream_tls : &no_peer;
}

static bool put_text(struct format_out *o, struct str s)
{
    if (!s.len)
        return false;
    format_out_put(o, s);
    return true;
}

/* --- plain fields ------------------------------------------------------------------------------
 */

static struct str str_at(const void *base, size_t offset)
{
    struct str s;
    memcpy(&s, (const char *)base + offset, sizeof(s));
    return s;
}

static bool put_info(op_ref op, info_ref si, struct format_out *o)
{
    return put_text(o, str_at(si, op->def->offset));
}

/* There is always one: outside of a local reply it is empty. */
static bool put_local_reply_body(op_ref op, info_ref si, struct format_out *o)
{
    format_out_put(o, si->local_reply_body.p ? si->local_reply_body : STR(""));
    return true;
}

static bool put_conn(op_ref op, info_ref si, struct format_out *o)
{
    return put_text(o, str_at(conn_of(si), op->def->offset));
}

static bool put_down_tls(op_ref op, info_ref si, struct format_out *o)
{
    return put_text(o, str_at(downstream_tls(si), op->def->offset));
}

static bool put_up_tls(op_ref op, info_ref si, struct format_out *o)
{
    return put_text(o, str_at(upstream_tls(si), op->def->offset));
}

static bool get_u64(op_ref op, info_ref si, int64_t *out)
{
    uint64_t n;
    memcpy(&n, (const char *)si + op->def->offset, sizeof(n));
    *out = (int64_t)n;
    return true;
}

static bool get_response_code(op_ref op, info_ref si, int64_t *out)
{
    *out = si->response_code;
    return true;
}

static bool get_attempts(op_ref op, info_ref si, int64_t *out)
{
    *out = si->attempts;
    return true;
}

static bool get_connection_id(op_ref op, info_ref si, int64_t *out)
{
    *out = (int64_t)conn_of(si)->id;
    return true;
}

/* QUIC alone reports these, to Envoy too. */
static bool get_zero(op_ref op, info_ref si, int64_t *out)
{
    *out = 0;
    return true;
}

static bool put_nothing(op_ref op, info_ref si, struct format_out *o)
{
    return false;
}

static bool put_empty(op_ref op, info_ref si, struct format_out *o)
{
    format_out_put(o, STR(""));
    return true;
}

static bool put_constant(op_ref op, info_ref si, struct format_out *o)
{
    if (!op->name.p)
        return false;
    format_out_put(o, op->name);
    return true;
}

static bool put_joined(const struct str *list, size_t n, struct format_out *o)
{
    for (size_t i = 0; i < n; i++) {
        if (i)
            format_out_put(o, STR(","));
        format_out_put(o, list[i]);
    }
    return n > 0;
}

static bool put_peer_uri_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = downstream_tls(si);
    return put_joined(p->uri_sans, p->num_uri_sans, o);
}

static bool put_peer_dns_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = downstream_tls(si);
    return put_joined(p->dns_sans, p->num_dns_sans, o);
}

static bool put_local_uri_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = downstream_tls(si);
    return put_joined(p->local_uri_sans, p->num_local_uri_sans, o);
}

static bool put_up_peer_uri_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = upstream_tls(si);
    if (!p->num_uri_sans)
        return put_text(o, si->upstream_uri_san);
    return put_joined(p->uri_sans, p->num_uri_sans, o);
}

static bool put_up_peer_dns_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = upstream_tls(si);
    return put_joined(p->dns_sans, p->num_dns_sans, o);
}

static bool put_up_local_uri_sans(op_ref op, info_ref si, struct format_out *o)
{
    const struct tls_peer *p = upstream_tls(si);
    return put_joined(p->local_uri_sans, p->num_local_uri_sans, o);
}

/* --- protocols, flags, details --------------------------------------------------------------- */

static bool put_protocol_name(enum http_protocol p, struct format_out *o)
{
    switch (p) {
    case PROTOCOL_NONE:
        return false;
    case PROTOCOL_HTTP10:
        format_out_put(o, STR("HTTP/1.0"));
        return true;
    case PROTOCOL_HTTP11:
        format_out_put(o, STR("HTTP/1.1"));
        return true;
    case PROTOCOL_HTTP2:
        format_out_put(o, STR("HTTP/2"));
        return true;
    }
    return false;
}

static bool put_protocol(op_ref op, info_ref si, struct format_out *o)
{
    return put_protocol_name(si->protocol, o);
}

static bool put_upstream_protocol(op_ref op, info_ref si, struct format_out *o)
{
    return put_protocol_name(si->upstream_protocol, o);
}

static bool put_flags(op_ref op, info_ref si, struct format_out *o)
{
    static const struct str names[][2] = {
#define X(id, short_name, long_name) {STR(short_name), STR(long_name)},
        RESPONSE_FLAGS(X)
#undef X
    };
    bool any = false;
    /* A connection of tcp_proxy fails first, and its attempts are counted then. */
    uint64_t late = si->protocol == PROTOCOL_NONE ? FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED) : 0;
    const uint64_t sets[] = {si->flags & ~late, si->flags & late};
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        for (uint64_t left = sets[i]; left; left &= left - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(left);
            if (bit >= NUM_RESPONSE_FLAGS)
                break;
            if (any)
                format_out_put(o, STR(","));
            format_out_put(o, names[bit][op->def->offset]);
            any = true;
        }
    }
    if (!any)
        format_out_put(o, STR("-"));
    return true;
}

static bool put_log_type(op_ref op, info_ref si, struct format_out *o)
{
    static const struct str names[] = {
#define X(id, name) STR(name),
        LOG_TYPES(X)
#undef X
    };
    format_out_put(o, names[si->log_type]);
    return true;
}

/* RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES) keeps blanks; else each becomes '_', so that a line can
 * be cut into fields at its blanks. */
static bool prepare_details(struct format_op *op, struct arena *a, struct str param,
                            struct errors *e)
{
    op->option = str_eq(param, STR("ALLOW_WHITESPACES"));
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool put_no_blanks(struct str s, struct format_out *o)
{
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_blank(s.p[i]))
            continue;
        if (i > from)
            format_out_put(o, str_n(s.p + from, i - from));
        format_out_put(o, STR("_"));
        from = i + 1;
    }
    if (from < s.len)
        format_out_put(o, str_n(s.p + from, s.len - from));
    return s.len > 0;
}

static bool put_details(op_ref op, info_ref si, struct format_out *o)
{
    return op->option ? put_text(o, si->code_details) : put_no_blanks(si->code_details, o);
}

static bool put_upstream_failure(op_ref op, info_ref si, struct format_out *o)
{
    return put_no_blanks(si->upstream_failure, o);
}

static bool put_downstream_failure(op_ref op, info_ref si, struct format_out *o)
{
    return put_no_blanks(conn_of(si)->transport_failure, o);
}

/* --- addresses ---------------------------------------------------------------------------------
 */

enum { OF_INFO, OF_CONN }; /* what the offset of an address is in */

static const struct addr *addr_of(op_ref op, info_ref si)
{
    const void *base = op->option == OF_CONN ? (const void *)conn_of(si) : si;
    return (const struct addr *)(const void *)((const char *)base + op->def->offset);
}

static bool prepare_conn_addr(struct format_op *op, struct arena *a, struct str param,
                              struct errors *e)
{
    op->option = OF_CONN;
    return true;
}

static const struct addr *downstream_remote(info_ref si)
{
    bool own = addr_family(&si->downstream_remote) != ADDR_NONE;
    return own ? &si->downstream_remote : &conn_of(si)->remote;
}

static bool put_addr(const struct addr *a, struct format_out *o)
{
    char buf[ADDR_TEXT_MAX];
    return addr_family(a) != ADDR_NONE && put_text(o, addr_format(a, buf));
}

/* Without the port; a path stays whole. max >= 0: the network of so many bits, "10.1.0.0/16". */
static bool put_ip(const struct addr *a, int bits, struct format_out *o)
{
    char buf[ADDR_TEXT_MAX], digits[FORMAT_U64_MAX];
    if (!addr_is_ip(a))
        return put_addr(a, o);
    struct addr network = *a;
    bool v4 = addr_family(a) == ADDR_IPV4;
    if (bits < 0)
        return put_text(o, addr_format_ip(a, buf));
    unsigned char *p = v4 ? (void *)&network.in.sin_addr : (void *)&network.in6.sin6_addr;
    int len = v4 ? 4 : 16;
    if (bits > len * 8)
        return false;
    for (int i = 0; i < len; i++) {
        int keep = bits - i * 8;
        p[i] = (unsigned char)(keep >= 8 ? p[i] : keep <= 0 ? 0 : p[i] & (0xff << (8 - keep)));
    }
    format_out_put(o, addr_format_ip(&network, buf));
    format_out_put(o, STR("/"));
    format_out_put(o, format_u64((uint64_t)bits, digits));
    return true;
}

/* A parameter that is no number is ignored, as in Envoy. */
static bool prepare_mask(struct format_op *op, struct arena *a, struct str param, struct errors *e)
{
    uint64_t n;
    op->from = str_to_u64(param, &n) && n <= 128 ? (int)n : -1;
    return true;
}

static bool prepare_conn_mask(struct format_op *op, struct arena *a, struct str param,
                              struct errors *e)
{
    op->option = OF_CONN;
    return prepare_mask(op, a, param, e);
}

static bool put_address(op_ref op, info_ref si, struct format_out *o)
{
    return put_addr(addr_of(op, si), o);
}

static bool put_address_ip(op_ref op, info_ref si, struct format_out *o)
{
    return put_ip(addr_of(op, si), op->from, o);
}

static bool get_port(const struct addr *a, int64_t *out)
{
    *out = addr_port(a);
    return addr_is_ip(a);
}

static bool get_address_port(op_ref op, info_ref si, int64_t *out)
{
    return get_port(addr_of(op, si), out);
}

static bool put_down_remote(op_ref op, info_ref si, struct format_out *o)
{
    return put_addr(downstream_remote(si), o);
}

static bool put_down_remote_ip(op_ref op, info_ref si, struct format_out *o)
{
    return put_ip(downstream_remote(si), op->from, o);
}

static bool get_down_remote_port(op_ref op, info_ref si, int64_t *out)
{
    return get_port(downstream_remote(si), out);
}

static struct str host_name(info_ref si)
{
    return si->upstream_hostname.len ? si->upstream_hostname : si->upstream_host;
}

static bool put_host_name(op_ref op, info_ref si, struct format_out *o)
{
    return put_text(o, host_name(si));
}

static bool put_host_name_only(op_ref op, info_ref si, struct format_out *o)
{
    struct str s = host_name(si);
    size_t n = s.len;
    while (n > 0 && s.p[n - 1] >= '0' && s.p[n - 1] <= '9')
        n--;
    bool port = n > 1 && n < s.len && s.p[n - 1] == ':';
    return put_text(o, port ? str_n(s.p, n - 1) : s);
}

/* --- times ------------------------------------------------------------------------------------ */

static bool prepare_time(struct format_op *op, struct arena *a, struct str param, struct errors *e)
{
    if (param.len && (str_chr(param, '\n') >= 0 || str_find(param, STR("%n")) >= 0)) {
        errors_add(e, NULL, "%s: the time format has a line break", op->def->name);
        return false;
    }
    format_time_compile(&op->time, a, param, op->def->offset != 0);
    return true;
}

static bool put_start_time(op_ref op, info_ref si, struct format_out *o)
{
    format_time_put(&op->time, si->start_wall_us, o);
    return true;
}

static bool put_emit_time(op_ref op, info_ref si, struct format_out *o)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    format_time_put(&op->time, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, o);
    return true;
}

/* Milliseconds between two events; none if one did not happen. */
static bool between(uint64_t from_us, uint64_t to_us, int64_t *out)
{
    *out = (int64_t)((to_us - from_us) / 1000);
    return from_us && to_us >= from_us;
}

static bool get_duration(op_ref op, info_ref si, int64_t *out)
{
    return between(si->start_us, si->end_us, out);
}

static bool get_request_duration(op_ref op, info_ref si, int64_t *out)
{
    return between(si->start_us, si->downstream_last_rx_us, out);
}

static bool get_request_tx_duration(op_ref op, info_ref si, int64_t *out)
{
    return between(si->start_us, si->upstream_last_tx_us, out);
}

static bool get_response_duration(op_ref op, info_ref si, int64_t *out)
{
    return between(si->start_us, si->upstream_first_rx_us, out);
}

static bool get_response_tx_duration(op_ref op, info_ref si, int64_t *out)
{
    return between(si->upstream_first_rx_us, si->downstream_last_tx_us, out);
}

/* Time points of COMMON_DURATION(from:to:unit). */
static const struct time_point {
    const char *name;
    size_t offset;
} time_points[] = {
    {"DS_RX_BEG", offsetof(struct stream_info, start_us)},
    {"DS_RX_END", offsetof(struct stream_info, downstream_last_rx_us)},
    {"US_TX_BEG", offsetof(struct stream_info, upstream_first_tx_us)},
    {"US_TX_END", offsetof(struct stream_info, upstream_last_tx_us)},
    {"US_RX_BEG", offsetof(struct stream_info, upstream_first_rx_us)},
    {"US_RX_END", offsetof(struct stream_info, upstream_last_rx_us)},
    {"DS_TX_BEG", offsetof(struct stream_info, downstream_first_tx_us)},
    {"DS_TX_END", offsetof(struct stream_info, downstream_last_tx_us)},
};

static int time_point_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(time_points); i++) {
        if (str_eq(name, str_of(time_points[i].name)))
            return (int)i;
    }
    return -1;
}

enum { UNIT_MS, UNIT_US, UNIT_NS };

static bool prepare_common_duration(struct format_op *op, struct arena *a, struct str param,
                                    struct errors *e)
{
    struct str rest = param, parts[3] = {{0}}, more;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        (void)str_next(&rest, ':', &parts[i]);
    op->from = time_point_find(parts[0]);
    op->to = time_point_find(parts[1]);
    bool ms = str_eq(parts[2], STR("ms"));
    bool us = str_eq(parts[2], STR("us"));
    op->option = ms ? UNIT_MS : us ? UNIT_US : UNIT_NS;
    bool unit = ms || us || str_eq(parts[2], STR("ns"));
    if (op->from >= 0 && op->to >= 0 && unit && !str_next(&rest, ':', &more))
        return true;
    errors_add(e, NULL,
               "COMMON_DURATION(%.*s) is not supported: two of DS_RX_BEG, DS_RX_END, "
               "US_TX_BEG, US_TX_END, US_RX_BEG, US_RX_END, DS_TX_BEG, DS_TX_END, and ms, "
               "us or ns are",
               STR_ARG(param));
    return false;
}

static uint64_t time_at(info_ref si, int point)
{
    uint64_t us;
    memcpy(&us, (const char *)si + time_points[point].offset, sizeof(us));
    return us;
}

static bool get_common_duration(op_ref op, info_ref si, int64_t *out)
{
    uint64_t from = time_at(si, op->from), to = time_at(si, op->to);
    if (!from || !to || to < from)
        return false;
    uint64_t us = to - from;
    *out = (int64_t)(op->option == UNIT_MS ? us / 1000 : op->option == UNIT_US ? us : us * 1000);
    return true;
}

/* --- of the process ----------------------------------------------------------------------------
 */

static bool prepare_hostname(struct format_op *op, struct arena *a, struct str param,
                             struct errors *e)
{
    char name[256] = "";
    if (gethostname(name, sizeof(name) - 1) == 0 && name[0])
        op->name = arena_str(a, str_of(name));
    return true;
}

static bool prepare_environment(struct format_op *op, struct arena *a, struct str param,
                                struct errors *e)
{
    const char *value = getenv(arena_str(a, param).p);
    if (value)
        op->name = arena_str(a, str_of(value));
    return true;
}

static bool put_unique_id(op_ref op, info_ref si, struct format_out *o)
{
    char id[UUID_LEN];
    random_uuid(id);
    format_out_put(o, str_n(id, sizeof(id)));
    return true;
}

/* What has no request id has a number of its own all the same: a UUID (RFC 9562, version 4) out of
 * what tells this stream from others, the same for every log it is in. */
static bool put_stream_id(op_ref op, info_ref si, struct format_out *o)
{
    static const char hex[] = "0123456789abcdef";
    char id[UUID_LEN];
    if (si->request_id.len)
        return put_text(o, si->request_id);
    uint64_t seed[] = {conn_of(si)->id, si->start_wall_us, si->start_us, (uintptr_t)si};
    uint64_t high = hash_bytes(seed, sizeof(seed)), low = hash_mix(high + 1);
    high = (high & ~0xf000ULL) | 0x4000;
    low = (low & ~(3ULL << 62)) | 1ULL << 63;
    for (size_t i = 0, digit = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        uint64_t word = digit < 16 ? high : low;
        id[i] = dash ? '-' : hex[word >> (60 - digit % 16 * 4) & 15];
        digit += !dash;
    }
    format_out_put(o, str_n(id, sizeof(id)));
    return true;
}

/* --- the table ---------------------------------------------------------------------------------
 */

#define NONE FORMAT_ARGS_NONE
#define INFO(field) offsetof(struct stream_info, field)
#define CONN(field) offsetof(struct conn_info, field)
#define PEER(field) offsetof(struct tls_peer, field)

static const struct format_op_def defs[] = {
    {"REQ", FORMAT_ARGS_REQUIRED_LENGTH, format_header_prepare, format_req_put, NULL, 0},
    {"RESP", FORMAT_ARGS_REQUIRED_LENGTH, format_header_prepare, format_resp_put, NULL, 0},
    {"TRAILER", FORMAT_ARGS_REQUIRED_LENGTH, format_header_prepare, format_trailer_put, NULL, 0},
    {"REQ_WITHOUT_QUERY", FORMAT_ARGS_REQUIRED_LENGTH, format_header_prepare,
     format_req_without_query_put, NULL, 0},
    {"PATH", FORMAT_ARGS_OPTIONAL_LENGTH, format_path_prepare, format_path_put, NULL, 0},
    {"QUERY_PARAM", FORMAT_ARGS_REQUIRED_LENGTH, format_query_param_prepare, format_query_param_put,
     NULL, 0},
    {"QUERY_PARAMS", FORMAT_ARGS_OPTIONAL_LENGTH, format_query_params_prepare,
     format_query_params_put, NULL, 0},
    {"REQUEST_HEADERS_BYTES", NONE, NULL, NULL, format_request_bytes_get, 0},
    {"RESPONSE_HEADERS_BYTES", NONE, NULL, NULL, format_response_bytes_get, 0},
    {"RESPONSE_TRAILERS_BYTES", NONE, NULL, NULL, format_trailers_bytes_get, 0},
    {"REQUESTED_SERVER_NAME", FORMAT_ARGS_OPTIONAL, format_server_name_prepare,
     format_server_name_put, NULL, 0},
    {"GRPC_STATUS", FORMAT_ARGS_OPTIONAL, format_grpc_prepare, format_grpc_put, format_grpc_get, 0},
    {"GRPC_STATUS_NUMBER", NONE, NULL, NULL, format_grpc_get, 0},

    {"START_TIME", FORMAT_ARGS_OPTIONAL, prepare_time, put_start_time, NULL, 0},
    {"START_TIME_LOCAL", FORMAT_ARGS_OPTIONAL, prepare_time, put_start_time, NULL, 1},
    {"EMIT_TIME", FORMAT_ARGS_OPTIONAL, prepare_time, put_emit_time, NULL, 0},
    {"EMIT_TIME_LOCAL", FORMAT_ARGS_OPTIONAL, prepare_time, put_emit_time, NULL, 1},
    {"DURATION", NONE, NULL, NULL, get_duration, 0},
    {"REQUEST_DURATION", NONE, NULL, NULL, get_request_duration, 0},
    {"REQUEST_TX_DURATION", NONE, NULL, NULL, get_request_tx_duration, 0},
    {"RESPONSE_DURATION", NONE, NULL, NULL, get_response_duration, 0},
    {"RESPONSE_TX_DURATION", NONE, NULL, NULL, get_response_tx_duration, 0},
    {"COMMON_DURATION", FORMAT_ARGS_REQUIRED, prepare_common_duration, NULL, get_common_duration,
     0},

    {"ACCESS_LOG_TYPE", NONE, NULL, put_log_type, NULL, 0},
    {"PROTOCOL", NONE, NULL, put_protocol, NULL, 0},
    {"RESPONSE_CODE", NONE, NULL, NULL, get_response_code, 0},
    {"RESPONSE_CODE_DETAILS", FORMAT_ARGS_OPTIONAL, prepare_details, put_details, NULL, 0},
    {"CONNECTION_TERMINATION_DETAILS", NONE, NULL, put_info, NULL, INFO(termination_details)},
    {"RESPONSE_FLAGS", NONE, NULL, put_flags, NULL, 0},
    {"RESPONSE_FLAGS_LONG", NONE, NULL, put_flags, NULL, 1},
    {"CUSTOM_FLAGS", NONE, NULL, put_empty, NULL, 0},
    {"BYTES_RECEIVED", NONE, NULL, NULL, get_u64, INFO(bytes_received)},
    {"BYTES_SENT", NONE, NULL, NULL, get_u64, INFO(bytes_sent)},
    {"BYTES_RETRANSMITTED", NONE, NULL, NULL, get_zero, 0},
    {"PACKETS_RETRANSMITTED", NONE, NULL, NULL, get_zero, 0},
    {"ROUTE_NAME", NONE, NULL, put_info, NULL, INFO(route_name)},
    {"VIRTUAL_CLUSTER_NAME", NONE, NULL, put_nothing, NULL, 0},
    {"STREAM_ID", NONE, NULL, put_stream_id, NULL, 0},
    {"TRACE_ID", NONE, NULL, put_nothing, NULL, 0},
    {"SPAN_ID", NONE, NULL, put_nothing, NULL, 0},
    {"UNIQUE_ID", NONE, NULL, put_unique_id, NULL, 0},
    {"HOSTNAME", NONE, prepare_hostname, put_constant, NULL, 0},
    {"ENVIRONMENT", FORMAT_ARGS_REQUIRED_LENGTH, prepare_environment, put_constant, NULL, 0},

    {"UPSTREAM_HOST", NONE, NULL, put_info, NULL, INFO(upstream_host)},
    {"UPSTREAM_HOST_NAME", NONE, NULL, put_host_name, NULL, 0},
    {"UPSTREAM_HOST_NAME_WITHOUT_PORT", NONE, NULL, put_host_name_only, NULL, 0},
    {"UPSTREAM_CLUSTER", NONE, NULL, put_info, NULL, INFO(upstream_cluster)},
    {"UPSTREAM_CLUSTER_RAW", NONE, NULL, put_info, NULL, INFO(upstream_cluster)},
    {"UPSTREAM_LOCAL_ADDRESS", NONE, NULL, put_address, NULL, INFO(upstream_local)},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_mask, put_address_ip,
     NULL, INFO(upstream_local)},
    {"UPSTREAM_LOCAL_PORT", NONE, NULL, NULL, get_address_port, INFO(upstream_local)},
    {"UPSTREAM_REMOTE_ADDRESS", NONE, NULL, put_address, NULL, INFO(upstream_remote)},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_mask, put_address_ip,
     NULL, INFO(upstream_remote)},
    {"UPSTREAM_REMOTE_PORT", NONE, NULL, NULL, get_address_port, INFO(upstream_remote)},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", NONE, NULL, put_upstream_failure, NULL, 0},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", NONE, NULL, NULL, get_attempts, 0},
    {"UPSTREAM_PROTOCOL", NONE, NULL, put_upstream_protocol, NULL, 0},
    {"UPSTREAM_WIRE_BYTES_SENT", NONE, NULL, NULL, get_u64, INFO(upstream_wire_bytes_sent)},
    {"UPSTREAM_WIRE_BYTES_RECEIVED", NONE, NULL, NULL, get_u64, INFO(upstream_wire_bytes_received)},
    {"UPSTREAM_TLS_VERSION", NONE, NULL, put_up_tls, NULL, PEER(version)},
    {"UPSTREAM_TLS_CIPHER", NONE, NULL, put_up_tls, NULL, PEER(cipher)},
    {"UPSTREAM_SERVER_NAME", NONE, NULL, put_up_tls, NULL, PEER(sni)},
    {"UPSTREAM_PEER_SUBJECT", NONE, NULL, put_up_tls, NULL, PEER(subject)},
    {"UPSTREAM_PEER_ISSUER", NONE, NULL, put_up_tls, NULL, PEER(issuer)},
    {"UPSTREAM_PEER_URI_SAN", NONE, NULL, put_up_peer_uri_sans, NULL, 0},
    {"UPSTREAM_PEER_DNS_SAN", NONE, NULL, put_up_peer_dns_sans, NULL, 0},
    {"UPSTREAM_LOCAL_URI_SAN", NONE, NULL, put_up_local_uri_sans, NULL, 0},

    {"DOWNSTREAM_REMOTE_ADDRESS", NONE, NULL, put_down_remote, NULL, 0},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_mask,
     put_down_remote_ip, NULL, 0},
    {"DOWNSTREAM_REMOTE_PORT", NONE, NULL, NULL, get_down_remote_port, 0},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", NONE, prepare_conn_addr, put_address, NULL,
     CONN(direct_remote)},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_conn_mask,
     put_address_ip, NULL, CONN(direct_remote)},
    {"DOWNSTREAM_DIRECT_REMOTE_PORT", NONE, prepare_conn_addr, NULL, get_address_port,
     CONN(direct_remote)},
    {"DOWNSTREAM_LOCAL_ADDRESS", NONE, prepare_conn_addr, put_address, NULL, CONN(local)},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_conn_mask,
     put_address_ip, NULL, CONN(local)},
    {"DOWNSTREAM_LOCAL_PORT", NONE, prepare_conn_addr, NULL, get_address_port, CONN(local)},
    {"DOWNSTREAM_DIRECT_LOCAL_ADDRESS", NONE, prepare_conn_addr, put_address, NULL,
     CONN(direct_local)},
    {"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARGS_OPTIONAL, prepare_conn_mask,
     put_address_ip, NULL, CONN(direct_local)},
    {"DOWNSTREAM_DIRECT_LOCAL_PORT", NONE, prepare_conn_addr, NULL, get_address_port,
     CONN(direct_local)},
    {"DOWNSTREAM_PEER_URI_SAN", NONE, NULL, put_peer_uri_sans, NULL, 0},
    {"DOWNSTREAM_PEER_DNS_SAN", NONE, NULL, put_peer_dns_sans, NULL, 0},
    {"DOWNSTREAM_LOCAL_URI_SAN", NONE, NULL, put_local_uri_sans, NULL, 0},
    {"DOWNSTREAM_PEER_SUBJECT", NONE, NULL, put_down_tls, NULL, PEER(subject)},
    {"DOWNSTREAM_PEER_ISSUER", NONE, NULL, put_down_tls, NULL, PEER(issuer)},
    {"DOWNSTREAM_PEER_SERIAL", NONE, NULL, put_down_tls, NULL, PEER(serial)},
    {"DOWNSTREAM_PEER_FINGERPRINT_256", NONE, NULL, put_down_tls, NULL, PEER(fingerprint_sha256)},
    {"DOWNSTREAM_PEER_CERT", NONE, NULL, put_down_tls, NULL, PEER(cert_pem_urlencoded)},
    {"DOWNSTREAM_LOCAL_SUBJECT", NONE, NULL, put_down_tls, NULL, PEER(local_subject)},
    {"DOWNSTREAM_TLS_VERSION", NONE, NULL, put_down_tls, NULL, PEER(version)},
    {"DOWNSTREAM_TLS_CIPHER", NONE, NULL, put_down_tls, NULL, PEER(cipher)},
    {"DOWNSTREAM_TRANSPORT_FAILURE_REASON", NONE, NULL, put_downstream_failure, NULL, 0},
    {"CONNECTION_ID", NONE, NULL, NULL, get_connection_id, 0},
    {"FILTER_CHAIN_NAME", NONE, NULL, put_conn, NULL, CONN(chain_name)},
    {"DYNAMIC_METADATA", FORMAT_ARGS_REQUIRED_LENGTH, format_dynamic_metadata_prepare,
     format_metadata_put, NULL, 0, format_metadata_tree},
    {"METADATA", FORMAT_ARGS_REQUIRED_LENGTH, format_metadata_prepare, format_metadata_put, NULL, 0,
     format_metadata_tree},
    {"FILTER_STATE", FORMAT_ARGS_REQUIRED_LENGTH, format_filter_state_prepare,
     format_filter_state_put, NULL, 0, format_filter_state_tree},
    {"LOCAL_REPLY_BODY", NONE, NULL, put_local_reply_body, NULL, 0},
    {"LISTENER_NAME", NONE, NULL, put_conn, NULL, CONN(listener_name)},
};

/* Operators of Envoy's whose value nothing here knows. An operator that always said "-" would be
 * taken for an answer. */
static const char *const unsupported[] = {
    "CEL",
    "CLUSTER_METADATA",
    "COALESCE",
    "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_METADATA",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_CERT_V_START",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID",
};

/* --- compiling -----------------------------------------------------------------------------------
 */

static const struct format_op_def *find(struct str name, struct errors *e)
{
    for (size_t i = 0; i < ARRAY_LEN(defs); i++) {
        if (str_eq(name, str_of(defs[i].name)))
            return &defs[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(unsupported); i++) {
        if (str_eq(name, str_of(unsupported[i]))) {
            errors_add(e, NULL, "the operator %s is not supported", unsupported[i]);
            return NULL;
        }
    }
    errors_add(e, NULL, "there is no operator %.*s", STR_ARG(name));
    return NULL;
}

static bool check_args(const struct format_op_def *d, struct str param, bool length,
                       struct errors *e)
{
    bool needs = d->args == FORMAT_ARGS_REQUIRED || d->args == FORMAT_ARGS_REQUIRED_LENGTH;
    bool may_cut = d->args == FORMAT_ARGS_OPTIONAL_LENGTH || d->args == FORMAT_ARGS_REQUIRED_LENGTH;
    if (d->args == FORMAT_ARGS_NONE && (param.len || length)) {
        errors_add(e, NULL, "%s does not take any parameters or length", d->name);
        return false;
    }
    if (needs && !param.len) {
        errors_add(e, NULL, "%s requires parameters", d->name);
        return false;
    }
    if (length && !may_cut) {
        errors_add(e, NULL, "%s does not allow length to be specified", d->name);
        return false;
    }
    return true;
}

bool format_op_compile(struct format_op *op, struct arena *a, struct str name, struct str param,
                       size_t length, struct errors *e)
{
    *op = (struct format_op){.def = find(name, e), .max = length, .from = -1};
    if (!op->def || !check_args(op->def, param, length != SIZE_MAX, e))
        return false;
    op->numeric = !op->def->text;
    return !op->def->prepare || op->def->prepare(op, a, param, e);
}

bool format_op_put(const struct format_op *op, const struct stream_info *si, struct format_out *o)
{
    char digits[FORMAT_I64_MAX];
    int64_t n;
    o->left = op->max;
    if (!op->numeric)
        return op->def->text(op, si, o);
    if (!op->def->number(op, si, &n))
        return false;
    format_out_put(o, format_i64(n, digits));
    return true;
}
