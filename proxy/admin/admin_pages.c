#include "proxy/admin/admin_handler.h"

static const struct admin_param_help clusters_params[] = {
    {"filter", "only clusters whose name contains a match of this regular expression (RE2)"},
    {"format", "text or json"},
    {NULL, NULL}};
static const struct admin_param_help config_dump_params[] = {
    {"include_eds", "with the endpoints of every cluster"},
    {"mask", "only these fields: paths with dots, separated by commas"},
    {"name_regex", "only resources whose whole name matches this regular expression (RE2)"},
    {"resource", "only the elements of this list, dynamic_active_clusters for example"},
    {NULL, NULL}};
static const struct admin_param_help drain_params[] = {
    {"graceful", "go on accepting for the drain time while connections are asked to end"},
    {"inboundonly", "only listeners whose traffic_direction is INBOUND"},
    {"skip_exit", "go on accepting for ever; only connections are asked to end"},
    {NULL, NULL}};
static const struct admin_param_help listeners_params[] = {{"format", "text or json"},
                                                           {NULL, NULL}};
static const struct admin_param_help logging_params[] = {
    {"level", "the level of all: trace, debug, info, warning, error, critical, off"},
    {"paths", "levels of some: name1:level1,name2:level2"},
    {"<name>", "the level of one logger"},
    {NULL, NULL}};
static const struct admin_param_help stats_params[] = {
    {"filter", "only names that contain a match of this regular expression (RE2)"},
    {"format", "text, json, html or prometheus"},
    {"histogram_buckets", "summary, cumulative, disjoint or detailed"},
    {"invert_filter", "only names that do not match the filter"},
    {"type", "All, Counters, Gauges, Histograms or TextReadouts"},
    {"usedonly", "only what was written since the start"},
    {NULL, NULL}};
static const struct admin_param_help prometheus_params[] = {
    {"filter", "only names that contain a match of this regular expression (RE2)"},
    {"invert_filter", "only names that do not match the filter"},
    {"text_readouts", "texts too, as gauges of 0 with the text as a label"},
    {"usedonly", "only what was written since the start"},
    {NULL, NULL}};

const struct admin_page admin_pages[] = {
    {"/", false, admin_home, "this list as a page", NULL},
    {"/allocprofiler", true, admin_no_profiler, "not supported by this program", NULL},
    {"/certs", false, admin_certs, "the certificates in use", NULL},
    {"/clusters", false, admin_clusters, "clusters and the state of their hosts", clusters_params},
    {"/config_dump", false, admin_config_dump, "the configuration in force, secrets left out",
     config_dump_params},
    {"/contention", false, admin_contention, "mutex contention, which is not traced", NULL},
    {"/cpuprofiler", true, admin_no_profiler, "not supported by this program", NULL},
    {"/drain_listeners", true, admin_drain_listeners, "ask connections to end", drain_params},
    {"/healthcheck/fail", true, admin_healthcheck_fail, "make health checks of this process fail",
     NULL},
    {"/healthcheck/ok", true, admin_healthcheck_ok, "undo /healthcheck/fail", NULL},
    {"/heapprofiler", true, admin_no_profiler, "not supported by this program", NULL},
    {"/help", false, admin_help, "this list as text", NULL},
    {"/hot_restart_version", false, admin_hot_restart_version, "hot restart, which there is not",
     NULL},
    {"/init_dump", false, admin_init_dump, "what start-up is still waiting for", NULL},
    {"/listeners", false, admin_listeners, "listeners and the addresses they are bound to",
     listeners_params},
    {"/logging", true, admin_logging, "show and change log levels", logging_params},
    {"/memory", false, admin_memory, "memory of the heap", NULL},
    {"/quitquitquit", true, admin_quit, "end the process", NULL},
    {"/ready", false, admin_ready, "the server's state; 200 if LIVE, else 503", NULL},
    {"/reopen_logs", true, admin_reopen_logs, "open the log files again", NULL},
    {"/reset_counters", true, admin_reset_counters, "set all counters to zero", NULL},
    {"/runtime", false, admin_runtime, "runtime values", NULL},
    {"/runtime_modify", true, admin_runtime_modify, "change runtime values", NULL},
    {"/server_info", false, admin_server_info, "version, state and command line", NULL},
    {"/stats", false, admin_stats, "statistics", stats_params},
    {"/stats/prometheus", false, admin_stats_prometheus, "statistics for Prometheus",
     prometheus_params},
    {"/stats/recentlookups", false, admin_recent_lookups, "name look-ups, which are not tracked",
     NULL},
};
const size_t admin_num_pages = ARRAY_LEN(admin_pages);
