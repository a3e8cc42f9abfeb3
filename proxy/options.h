/* Command line: Envoy's flags with Envoy's meaning. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum run_mode { MODE_SERVE, MODE_VALIDATE, MODE_INIT_ONLY };

struct options {
    const char *config_path, *config_yaml;
    enum run_mode mode;
    unsigned concurrency; /* 0: one worker a core the process may use */
    uint64_t concurrency_arg;
    const char *log_level, *log_path, *log_format;
    const char *component_levels; /* "upstream:debug,config:trace" */
    const char *service_node, *service_cluster, *service_zone;
    uint64_t drain_time_s;           /* 600 */
    bool drain_immediate;            /* --drain-strategy immediate; gradual by default */
    uint64_t parent_shutdown_time_s; /* 900 */
    uint64_t restart_epoch, base_id;
    bool disable_hot_restart;
    bool local_v6; /* --local-address-ip-version v6 */
    bool allow_unknown_static, reject_unknown_dynamic, strict_fields;
    uint64_t file_flush_interval_ms; /* 10000 */
    uint64_t file_flush_min_kb;      /* 64 */
    const char *admin_address_path;
    bool log_format_escaped, enable_core_dump;
    int argc;
    char **argv;
};

enum options_result { OPTIONS_RUN, OPTIONS_EXIT_OK, OPTIONS_EXIT_ERROR };

/* options_parse fills *o from the command line; prints --help, --version or what is wrong. */
enum options_result options_parse(struct options *o, int argc, char **argv);
