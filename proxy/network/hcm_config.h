/* HttpConnectionManager compiled. Main thread. */
#pragma once

#include "proxy/network/hcm.h"

/* hcm_config_compile and hcm_config_free, hcm_config_ready: see struct network_filter_ops. */
void *hcm_config_compile(const struct compile_env *env, const void *msg, struct errors *e);
void hcm_config_free(void *config);
bool hcm_config_ready(void *config);

/* hcm_upgrades_compile compiles upgrade_configs of the HttpConnectionManager message. Main.
 * (proxy/network/hcm_upgrades.c) */
void hcm_upgrades_compile(struct hcm_config *c, const struct http_filter_env *env, const void *msg,
                          struct errors *e);
