/* The application log: one level per component, one write(2) a line, to stderr or a file. Levels
 * are set before threads start and later by the admin port; a disabled line costs one relaxed load.
 * Any thread, and safe across fork. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"
#include <stdatomic.h>

enum log_level {
    LOG_LEVEL_TRACE,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARN,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_CRITICAL,
    LOG_LEVEL_OFF,
};

/* Envoy's logger names, so that --component-log-level lists written for it are accepted. Those that
 * nothing here logs to simply stay quiet. */
/* clang-format off */
#define LOG_COMPONENTS(X)                                                                          \
    X(a2a) X(admin) X(ai_protocol_manager) X(alternate_protocols_cache) X(aws) X(assert)           \
    X(backtrace) X(basic_auth) X(cache_filter) X(client) X(config) X(connection) X(conn_handler)   \
    X(compression) X(credential_injector) X(decompression) X(dns) X(dubbo) X(envoy_bug)            \
    X(ext_authz) X(ext_proc) X(rocketmq) X(file) X(filter) X(forward_proxy) X(geolocation) X(grpc) \
    X(happy_eyeballs) X(hc) X(health_checker) X(http) X(http2) X(hystrix) X(init) X(io) X(jwt)     \
    X(json_rpc) X(kafka) X(key_value_store) X(lua) X(local_rate_limit) X(main) X(matcher) X(mcp)   \
    X(misc) X(mongo) X(multi_connection) X(notification) X(oauth2) X(quic) X(quic_stream) X(pool)  \
    X(rate_limit_quota) X(rbac) X(rds) X(redis) X(router) X(runtime) X(stats) X(secret) X(sse)     \
    X(tap) X(testing) X(thrift) X(tracing) X(upstream) X(udp) X(wasm) X(websocket) X(golang)       \
    X(stats_sinks) X(dynamic_modules) X(ip_tagging)
/* clang-format on */

#define LOG_ENUM(name) LOG_COMP_##name,
enum log_component { LOG_COMPONENTS(LOG_ENUM) LOG_NUM_COMPONENTS };

extern _Atomic(uint8_t) log_levels[LOG_NUM_COMPONENTS];

/* log_enabled says whether a line of this level would be written. */
static inline bool log_enabled(enum log_component comp, enum log_level level)
{
    return level >= atomic_load_explicit(&log_levels[comp], memory_order_relaxed);
}

/* log_write formats and writes one line. Callers use the macros below. */
void log_write(enum log_component comp, enum log_level level, const char *file, int line,
               const char *func, const char *fmt, ...) PRINTF_LIKE(6, 7);

/* LOG_DEBUG(config, "loaded %zu", n): the component is a bare name of LOG_COMPONENTS. The arguments
 * are evaluated only when the line is written. */
#define LOG_AT(comp, level, ...)                                                                   \
    do {                                                                                           \
        if (UNLIKELY(log_enabled(LOG_COMP_##comp, (level))))                                       \
            log_write(LOG_COMP_##comp, (level), __FILE__, __LINE__, __func__, __VA_ARGS__);        \
    } while (0)
#define LOG_TRACE(comp, ...) LOG_AT(comp, LOG_LEVEL_TRACE, __VA_ARGS__)
#define LOG_DEBUG(comp, ...) LOG_AT(comp, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_INFO(comp, ...) LOG_AT(comp, LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_WARN(comp, ...) LOG_AT(comp, LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_ERROR(comp, ...) LOG_AT(comp, LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_CRITICAL(comp, ...) LOG_AT(comp, LOG_LEVEL_CRITICAL, __VA_ARGS__)

/* LOG_EVERY(5000, config, LOG_LEVEL_WARN, "...") writes at most one line in that many milliseconds
 * from this place, over all threads; what was left out is said in the next line. */
struct log_limit {
    _Atomic(uint64_t) next_ms;
    _Atomic(uint64_t) dropped;
};
#define LOG_EVERY(ms, comp, level, fmt, ...)                                                       \
    do {                                                                                           \
        static struct log_limit log_limit_;                                                        \
        uint64_t log_dropped_;                                                                     \
        if (UNLIKELY(log_enabled(LOG_COMP_##comp, (level))) &&                                     \
            log_limit_pass(&log_limit_, (ms), &log_dropped_))                                      \
            log_write(LOG_COMP_##comp, (level), __FILE__, __LINE__, __func__,                      \
                      fmt " (%llu more like it left out)" __VA_OPT__(, ) __VA_ARGS__,              \
                      (unsigned long long)log_dropped_);                                           \
    } while (0)

/* log_limit_pass says whether a line may pass now and how many did not since the last one. */
bool log_limit_pass(struct log_limit *l, uint64_t ms, uint64_t *dropped);

/* log_init sets all components to `level`, the format (NULL: Envoy's default,
 * "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v") and the file (NULL: stderr; opened for appending). On
 * failure nothing changes, false, and *err is a static text. Main thread, at start. */
bool log_init(enum log_level level, const char *format, const char *path,
              const char **err) WARN_UNUSED;

/* log_set_format checks and sets another format while running: spdlog's patterns
 * (base/log_format.h), and Envoy's %j (message JSON escaped) and %_ (its newlines escaped). False
 * for an unknown one, and *err is a static text. Main thread. */
bool log_set_format(const char *format, const char **err) WARN_UNUSED;

/* log_set_escaped: every line is escaped as a C string is (--log-format-escaped), so that a message
 * cannot look like several. Main thread, at start. */
void log_set_escaped(bool escaped);

/* log_reopen opens the file again by its path (rotation); the old one stays when that fails. Main
 * thread; others may be writing. */
bool log_reopen(void);

/* log_close goes back to stderr and frees what log_init made. No other thread may be logging. */
void log_close(void);

/* log_set_level and log_set_all change levels at once, any thread. log_get_level reads one. */
void log_set_level(enum log_component comp, enum log_level level);
void log_set_all(enum log_level level);
enum log_level log_get_level(enum log_component comp);

/* log_parse_level reads "trace".."critical", "off" and "warn" for "warning". log_level_name is
 * "trace", "debug", "info", "warning", "error", "critical", "off". */
bool log_parse_level(struct str name, enum log_level *out) WARN_UNUSED;
const char *log_level_name(enum log_level level);

/* log_component_name and log_find_component translate names. */
const char *log_component_name(enum log_component comp);
bool log_find_component(struct str name, enum log_component *out) WARN_UNUSED;

/* log_set_components sets levels from "upstream:debug,connection:trace". All or nothing: on an
 * error nothing is set and *bad views the item at fault. */
bool log_set_components(struct str list, struct str *bad) WARN_UNUSED;
